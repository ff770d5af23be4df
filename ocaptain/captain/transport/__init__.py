"""How a ship is reached: ``base`` is the interface, ``sprite`` and ``ssh`` implement it."""

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
