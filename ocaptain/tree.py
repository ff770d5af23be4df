"""A file to be written to a ship, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TreeFile:
    """A file of the tree.

    Attributes:
        path: relative to the directory of the tree.
        data: content of the file.
        mode: permissions.
        state: ``present``; ``merged``: a JSON object that is merged into the existing one; ``absent``.
    """

    path: str
    data: bytes = b""
    mode: int = 0o644
    state: str = "present"
