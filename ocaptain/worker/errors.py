"""The errors of a worker's commands, which the captain receives."""

from __future__ import annotations

from typing import Sequence


class WorkspaceError(Exception):
    """A command failed; ``code`` tells the captain what to do (``need_full`` …)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnfitWorkspace(Exception):
    """The workspace cannot be offered; ``paths`` names the files to remove."""

    def __init__(self, reason: str, paths: Sequence[str]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.paths = list(paths)


class StartRefused(Exception):
    """An attempt must not be started on any ship; the message says what to change in the repository."""
