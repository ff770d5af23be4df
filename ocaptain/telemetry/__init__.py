"""Telemetry of agents at the captain.

::

    batch.py    one OTLP call of an agent, and where it goes
"""
