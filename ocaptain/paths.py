"""Paths as people type them."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(path: Path | str) -> Path:
    """Return a path with ``~`` and ``~user`` expanded; that of a user who does not exist stays as it is.

    ``Path.expanduser`` raises RuntimeError there, which would end a command with an internal error.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - see above
