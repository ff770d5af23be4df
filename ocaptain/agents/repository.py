"""Which files of a repository are settings of an agent, whether or not this version runs that agent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
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
_FOREIGN = {re.compile(f"(?:.*/)?(?:{translate(pattern)})"): what for pattern, what in FOREIGN.items()}
MAX_READ = 256 * 1024
MAX_READ_ALL = 8 * 1024 * 1024
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


def settings_files(paths: Iterable[str], read: Callable[[str], bytes | None]) -> list[SettingsFile]:
    """Return the settings among the files of a repository, at most :data:`MAX_NAMED`.

    Args:
        paths: of the files.
        read: returns a file's content, None if that is more than :data:`MAX_READ` bytes.
    """
    found: list[SettingsFile] = []
    left = MAX_READ_ALL
    for path in paths:
        if adapter := next((one for one in ADAPTERS.values() if one.is_settings(path)), None):
            data = read(path) if left > 0 else None
            left -= len(data or b"")
            names = ["what was not looked at: it is too large"] if data is None else adapter.settings_in(path, data)
            what, note = f"sets {clean_line(', '.join(names), 300)}" if names else "", adapter.settings_note
        else:
            foreign = next((what for pattern, what in _FOREIGN.items() if pattern.match(path.lower())), None)
            what, note = f"is {foreign}" if foreign else "", "no agent of this version is told to read it"
        if what:
            found.append(SettingsFile(clean_line(path, 200), what, note))
        if len(found) >= MAX_NAMED:
            break
    return found
