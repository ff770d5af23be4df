"""Decide what agents see of the plan: the list of the voyage's tasks, and what of it a ship does not have yet.

::

    ledger ──task_files──> a task's file ──list_entry──> its entry ──changed_entries, split_list──> messages
           (captain.views)                                                    (captain.ship.task_list sends them)

An entry has the fields of Claude Code's task files (``id subject description activeForm status blocks blockedBy
owner metadata``; a field that it does not know it drops, a status that it does not know hides the task). Nothing of
the list is read back: the ledger alone says how a task stands.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from ocaptain.protocol.envelope import TaskList

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Entry = dict[str, Any]
TaskListChoice = Literal["auto", "on", "off"]
#: Characters of a text in the list. A ship gets its own task's text in the prompt, whole.
MAX_TEXT = 2000
MAX_VALUE = 500  # characters of a value of metadata, as JSON
MAX_METADATA = 20_000  # characters of a task's metadata, names too: an entry fits in a line, whatever a plan says
#: Characters of the entries in a message; a line may have 16 times as many.
MAX_MESSAGE = 256 * 1024
_STATUSES = frozenset({"pending", "in_progress", "completed"})


def is_list_kept(choice: str, *, has_list: bool, is_watched: bool) -> bool:
    """Return whether an agent gets the plan as its own task list.

    Args:
        choice: the user's: ``auto``, ``on`` or ``off``.
        has_list: whether this agent has a task list of its own at all.
        is_watched: whether a person can see the agent's own screen. ``auto`` keeps the list only there: a model
            that nobody watches learns nothing from it that its prompt does not say (docs/adr/0026-task-list.md).
    """
    return has_list and (choice == "on" or (choice == "auto" and is_watched))


def list_entry(task: Mapping[str, Any]) -> Entry:
    """Return a task's entry.

    Args:
        task: content of its ``tasks/N.json``, as ``ocaptain.ledger.task_files`` returns it.
    """
    status = str(task.get("status"))
    known = status in _STATUSES
    subject = str(task.get("subject") or "")
    entry: Entry = {
        "id": str(task["id"]),
        "subject": _cut(subject if known else f"{subject} ({status})"),
        "description": _cut(str(task.get("description") or "")),
        "status": status if known else "pending",
        "blocks": [str(one) for one in task.get("blocks") or ()],
        "blockedBy": [str(one) for one in task.get("blockedBy") or ()],
        "metadata": _short_metadata(task.get("metadata")),
    }
    active = str(task.get("activeForm") or "")
    if owner := task.get("owner"):
        entry["owner"] = str(owner)
        if status == "in_progress":  # an agent's screen may show another ship's task as what is being done
            active = f"{owner}: {active or subject}"
    if active:
        entry["activeForm"] = _cut(active)
    return entry


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _short_metadata(metadata: Any) -> Entry:
    """Return what of a plan's metadata is short, the first of it; never the key by which a task is hidden."""
    short: Entry = {}
    size = 0
    for key, value in (metadata if isinstance(metadata, dict) else {}).items():
        length = len(json.dumps(value, ensure_ascii=False))
        if key == "_internal" or length > MAX_VALUE or size + len(key) + length > MAX_METADATA:
            continue
        short[key] = value
        size += len(key) + length
    return short


def changed_entries(sent: Mapping[str, Entry], now: Mapping[str, Entry]) -> list[Entry] | None:
    """Return the entries that a ship does not have; None if its list has some that it should not have.

    Args:
        sent: the entries that were sent, by id.
        now: the entries of the whole list.
    """
    if sent.keys() - now.keys():
        return None
    return [entry for task, entry in now.items() if sent.get(task) != entry]


def split_list(entries: Iterable[Entry], *, whole: bool) -> list[TaskList]:
    """Return the messages that carry entries; none if there are no entries and the list is not a whole one.

    Args:
        entries: to send.
        whole: whether they are the whole list, so that the ship drops what it had.
    """
    groups: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        length = len(json.dumps(entry, ensure_ascii=True))
        if groups[-1] and size + length > MAX_MESSAGE:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += length
    if not whole and not groups[0]:
        return []
    last = len(groups) - 1
    return [
        TaskList(tuple(group), whole=whole and not number, more=number < last) for number, group in enumerate(groups)
    ]
