"""The ways to a ship: ``base`` is the contract, ``sprite`` and ``ssh`` keep it."""

from ocaptain.captain.transport.base import (
    WORKER,
    Completed,
    CutShort,
    FileFault,
    RemoteCommand,
    ShipGone,
    Stream,
    Transport,
    TransportError,
    run,
)

__all__ = [
    "WORKER",
    "Completed",
    "CutShort",
    "FileFault",
    "RemoteCommand",
    "ShipGone",
    "Stream",
    "Transport",
    "TransportError",
    "run",
]
