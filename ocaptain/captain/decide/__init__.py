"""Decisions of the captain: frozen data in, data out. No clock, no I/O, no ledger."""
