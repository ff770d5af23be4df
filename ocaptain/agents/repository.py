"""Find the files of a repository that contain agent settings, also of agents that this version does not run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING

from ocaptain.agents import ADAPTERS
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Settings of agents without an adapter here, and of many programs; a pattern matches in any folder.
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
MAX_FILE_BYTES = 256 * 1024
MAX_TOTAL_BYTES = 8 * 1024 * 1024
MAX_LISTED_FILES = 50


@dataclass(frozen=True)
class SettingsFile:
    """A file of a repository with agent settings.

    Attributes:
        path: path in the repository.
        sets: names of its settings, for people.
        note: how it is treated.
    """

    path: str
    sets: str
    note: str

    @property
    def description(self) -> str:
        """The file and its settings, on one line."""
        return f"`{self.path}` {self.sets}"


def settings_files(paths: Iterable[str], read: Callable[[str], bytes | None]) -> list[SettingsFile]:
    """Return the files with agent settings among the files of a repository, at most :data:`MAX_LISTED_FILES`.

    Args:
        paths: paths of the files.
        read: returns the content of a file, None if it is larger than :data:`MAX_FILE_BYTES` bytes.
    """
    found: list[SettingsFile] = []
    left = MAX_TOTAL_BYTES
    for path in paths:
        if adapter := next((one for one in ADAPTERS.values() if one.is_settings_file(path)), None):
            data = read(path) if left > 0 else None
            left -= len(data or b"")
            names = (
                ["something unknown: it is too large to be read"]
                if data is None
                else adapter.names_of_settings(path, data)
            )
            what, note = f"sets {clean_line(', '.join(names), 300)}" if names else "", adapter.settings_note
        else:
            foreign = next((what for pattern, what in _FOREIGN.items() if pattern.match(path.lower())), None)
            what, note = f"is {foreign}" if foreign else "", "no agent of this version is told to read it"
        if what:
            found.append(SettingsFile(clean_line(path, 200), what, note))
        if len(found) >= MAX_LISTED_FILES:
            break
    return found
