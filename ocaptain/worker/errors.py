"""What a worker's command can fail with, as the captain is told."""

from __future__ import annotations

from typing import Sequence


class WorkspaceError(Exception):
    """Something about the trees; ``code`` tells the captain what to do (``need_full`` …)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnfitWorkspace(Exception):
    """The tree cannot be offered; ``paths`` names what has to go."""

    def __init__(self, reason: str, paths: Sequence[str]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.paths = list(paths)


class StartRefused(Exception):
    """An attempt is not started, and no ship like this one would start it; says what to change in the repository."""
