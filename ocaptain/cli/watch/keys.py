"""The keys: what each does, and the line that shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.style import HEAD, QUIET
from ocaptain.cli.watch.rows import CRITICAL

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
        keys: as Textual names them, between commas.
        shown: as it is shown.
        action: name of the action.
        label: a word for the line of keys.
        about: what it does, for the help.
        rank: where there is no room for all, those with high ranks are left out.
    """

    keys: str
    shown: str
    action: str
    label: str
    about: str
    rank: int


KEYS = (
    Key("enter", "⏎", "attach", "attach", "look at the chosen ship's agent (ocaptain shell); Ctrl-b d comes back", 2),
    Key("l", "l", "log", "log", "the whole log of the chosen ship's task, or of the chosen task", 2),
    Key("d", "d", "diff", "diff", "what the chosen ship's agent has changed so far (ocaptain diff)", 7),
    Key("w", "w", "why", "why", "why the chosen task is where it is (ocaptain why)", 2),
    Key("r", "r", "retry", "retry", "try the chosen failed task again, else all failed ones; asks first", 1),
    Key("A", "A", "approve", "approve", "let ships have the chosen task, which waits for approval; asks first", 1),
    Key("p", "p", "pause", "pause", "pause the voyage, or resume it; asks first", 3),
    Key("s", "s", "sink", "sink", "end the voyage and destroy its ships (ocaptain sink); asks first", 7),
    Key("c,$", "c", "cost", "cost", "what the voyage costs so far", 4),
    Key("a", "a", "all", "all", "show each landed task, or a count for each wave", 5),
    Key("slash", "/", "find", "find", "find a task by its id or subject; again: the next one", 6),
    Key("tab", "tab", "focus_next", "pane", "the next part of the screen: ships, tasks, log", 8),
    Key("question_mark", "?", "help", "help", "this help", 0),
    Key("q", "q", "leave", "leave", "stop watching; the voyage sails on (also Ctrl-C)", 0),
)

SYMBOLS = (
    ("✓", "landed, or in order"),
    ("✗", "failed for good, or lost"),
    ("●", "at work"),
    ("↻", "tried again: which try it is, or was, and how many there are"),
    ("○", "to come, idle or paused"),
    (CRITICAL, "of the chain of tasks that decides when the voyage ends"),
)


def key_line(shown: Collection[str], labels: dict[str, str], width: int) -> Text:
    """Return the line of keys: those that do something now, and for which there is room.

    Args:
        shown: the actions that can be done now.
        labels: other words for some actions.
        width: in cells.
    """
    left = [key for key in KEYS if key.action in shown]
    while True:
        line = Text("  ").join(
            Text.assemble((key.shown, HEAD), " ", (labels.get(key.action, key.label), QUIET)) for key in left
        )
        if line.cell_len <= width or not left:
            return line
        left.remove(max(left, key=lambda key: key.rank))


def help_lines() -> list[Text]:
    """Return the text of the help."""
    lines = [Text("Keys", style=HEAD)]
    lines += [
        Text.assemble("  ", (f"{key.keys.split(',')[0] if key.shown == '⏎' else key.shown:<6}", HEAD), key.about)
        for key in KEYS
    ]
    lines += [
        Text.assemble("  ", (f"{keys:<6}", HEAD), about)
        for keys, about in (
            ("↑ ↓", "choose a ship or task, scroll the log (also j, k, PgUp, PgDn, Home, End)"),
            ("Esc", "close what is open over the screen"),
        )
    ]
    lines += [Text(), Text("Symbols", style=HEAD)]
    lines += [Text(f"  {sign:<6}{about}") for sign, about in SYMBOLS]
    lines += [
        Text(),
        Text("The log that is shown below is the chosen ship's. Tasks: failed ones first, then those at work, then"),
        Text("wave by wave what is to come: a wave waits for the ones before it."),
    ]
    return lines
