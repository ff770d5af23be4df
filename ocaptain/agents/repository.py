"""Which files of a repository are settings of an agent, whether or not this version runs that agent."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from ocaptain.agents import ADAPTERS
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Of agents that have no adapter here, and of what many programs read; a pattern holds in any folder.
FOREIGN = {
    ".env": "environment of whoever loads it",
    ".gemini/*": "settings of Gemini CLI",
    ".codex/*": "settings of Codex",
    "opencode.json": "settings of OpenCode",
    "opencode.jsonc": "settings of OpenCode",
    ".opencode/*": "settings of OpenCode",
    ".cursor/mcp.json": "settings of Cursor",
}
MAX_READ = 256 * 1024
MAX_NAMED = 50


@dataclass(frozen=True)
class SettingsFile:
    """A file of a repository that sets something of an agent.

    Attributes:
        path: in the repository.
        sets: the names of what it sets, for people.
        note: what becomes of it.
    """

    path: str
    sets: str
    note: str

    @property
    def told(self) -> str:
        """The file and what it sets, on one line."""
        return f"`{self.path}` {self.sets}"


def settings_files(paths: Iterable[str], read: Callable[[str], bytes]) -> list[SettingsFile]:
    """Return the settings among the files of a repository, at most :data:`MAX_NAMED`.

    Args:
        paths: of the files.
        read: returns a file's first :data:`MAX_READ` bytes.
    """
    found: list[SettingsFile] = []
    for path in paths:
        if len(found) >= MAX_NAMED:
            break
        if one := _settings_file(path, read):
            found.append(one)
    return found


def _settings_file(path: str, read: Callable[[str], bytes]) -> SettingsFile | None:
    shown = clean_line(path, 200)
    for adapter in ADAPTERS.values():
        if adapter.is_settings(path):
            names = adapter.settings_in(path, read(path))
            return (
                SettingsFile(shown, f"sets {clean_line(', '.join(names), 300)}", adapter.settings_note)
                if names
                else None
            )
    for pattern, what in FOREIGN.items():
        if fnmatchcase(path.lower(), pattern) or fnmatchcase(path.lower(), f"*/{pattern}"):
            return SettingsFile(shown, f"is {what}", "no agent of this version is told to read it")
    return None
