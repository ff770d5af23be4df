"""A file that is laid down on a ship, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TreeFile:
    """A file of the tree.

    Attributes:
        state: ``present``; ``merged``: a JSON object, put into the one that is there; ``absent``.
    """

    path: str
    data: bytes = b""
    mode: int = 0o644
    state: str = "present"
