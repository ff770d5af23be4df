"""Mirrors: what ships write, live and read-only on the captain's machine, by Mutagen 0.18 where it is installed.

::

    captain/mirrors.py ──ships that are at work──> spec.wanted ──> mutagen.py ──runs──> mutagen's command line
                                                                                           │ its daemon
    Transport.command <── switch.py <──unix socket── thin.py (as ``ssh`` and ``scp``) <────┘

``spec`` is pure. Nothing here opens a ledger or knows what a voyage is; ``docs/adr/0032-mirrors.md`` has the reasons.
"""
