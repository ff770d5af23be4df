"""Notices about a landing for the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.agents.repository import MAX_FILE_BYTES, settings_files

if TYPE_CHECKING:
    from ocaptain.git import BareRepository


def list_changed_settings(git: BareRepository, old: str, new: str) -> list[str]:
    """Return a line for each file of a landing that changes agents' settings; the next agents find it.

    Args:
        git: the voyage's repository.
        old: the tree that it lands on.
        new: the tree that lands.
    """
    changed = git.added_or_changed(old, new)
    return [
        one.description
        for one in settings_files(sorted(changed), lambda path: git.content(changed[path], MAX_FILE_BYTES))
    ]
