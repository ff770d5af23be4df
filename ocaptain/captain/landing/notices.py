"""What is to be told of a landing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.agents.repository import MAX_READ, settings_files

if TYPE_CHECKING:
    from ocaptain.git import Store


def settings_landed(git: Store, old: str, new: str) -> list[str]:
    """Return a line for each file by which a landing sets something of an agent: the next ones find it there.

    Args:
        git: the voyage's repository.
        old: the tree that it lands on.
        new: the tree that lands.
    """
    changed = git.added_or_changed(old, new)
    return [one.told for one in settings_files(sorted(changed), lambda path: git.content(changed[path], MAX_READ))]
