"""How everything looks: symbols, colours, times, money, and text that fits. Pure functions, for every screen."""

from __future__ import annotations

import math
import re
import time
import unicodedata

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from ocaptain.protocol.usage import format_dollars
from ocaptain.text import clean_line, escape_control

#: Colour by meaning. Red is for failures alone.
GOOD, BAD, BUSY, QUIET, HEAD = "green", "red", "yellow", "dim", "bold"
_BY_SYMBOL = {"✓": GOOD, "✗": BAD, "●": BUSY, "↻": BUSY, "○": QUIET}
#: Symbol of each state of a voyage, phase, task and ship.
STATE_SYMBOLS = {
    **dict.fromkeys(("complete", "completed", "done", "landed"), "✓"),
    **dict.fromkeys(("failed", "lost", "unreadable"), "✗"),
    **dict.fromkeys(("running", "verifying", "working", "in_progress", "now", "preparing", "sinking"), "●"),
    **dict.fromkeys(("provisioning", "bootstrapping", "draining"), "●"),
    "retrying": "↻",
    **dict.fromkeys(("pending", "next", "paused", "sunk", "gone", "idle", "asleep", "held"), "○"),
}
#: What changes the width of its neighbours, or has none: joiners, fillers, soft hyphens, variants, skin tones, tags.
#: One terminal takes them for nothing, the next for two cells.
_ZERO_WIDTH = re.compile(
    "[\u00ad\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2060-\u2064\u302e\u302f\u3164\ufe00-\ufe0f\uffa0"
    "\U0001f3fb-\U0001f3ff\U000e0000-\U000e01ef]"
)
#: Colours of ships, in turn: each differs from the next, none is that of a failure.
SHIP_COLOURS = ("cyan", "magenta", "green", "blue", "yellow", "bright_cyan", "bright_magenta", "bright_green")
_NUMBER_AT_END = re.compile("([0-9]{1,9})$")


def symbol(state: str) -> Text:
    """Return the symbol of a state in its colour."""
    sign = STATE_SYMBOLS.get(state, "○")
    return Text(sign, style=_BY_SYMBOL[sign])


def sign_colour(sign: str) -> str:
    """Return the colour of a symbol, "" for one without."""
    return _BY_SYMBOL.get(sign, "")


def ship_colour(ship: str | None) -> str:
    """Return the colour of a ship: always the same one, by its number; one without a number is bold."""
    found = _NUMBER_AT_END.search(ship or "")
    return SHIP_COLOURS[int(found[1]) % len(SHIP_COLOURS)] if found else HEAD


def with_symbol(state: str) -> Text:
    """Return a state with its symbol, in its colour: ``● running``."""
    sign = symbol(state)
    return Text(f"{sign.plain} {clean_line(state)}", style=sign.style)


def format_clock(seconds: float | None) -> str:
    """Format a time that passes: ``0:04``, ``12:31``, ``1:02:03``; "" for None, and for ever."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def format_seconds(seconds: float) -> str:
    """Format how long something took, for the middle of a sentence: ``9 s``, ``4 min``, ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{minutes} min" if not hours else f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_time(at: float, *, now: float | None = None) -> str:
    """Format a time of day, on this machine's clock: ``14:02:11``, with the date if it is not that of ``now``."""
    try:
        local = time.localtime(at)
    except (OverflowError, ValueError, OSError):  # no clock shows this
        return "?"
    is_today = now is None or local[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", local)


def format_money(nano: int, *, unknown: bool = False) -> str:
    """Format nano-dollars: ``$1.84``, with a plus if more was used whose price is not known."""
    return f"{format_dollars(nano)}{'+' if unknown else ''}"


def cells(line: str) -> int:
    """Return the cells that a line takes where it takes most: many terminals join no characters of Hindi or Tamil."""
    if line.isascii():
        return len(line)
    apart = sum(cell_len(one) or unicodedata.category(one) == "Mc" for one in line)
    return max(apart, cell_len(line))


def fit(text: str, width: int) -> str:
    """Return text of others as one clean line of at most ``width`` cells; what is cut ends with ``…``."""
    return cut(clean_line(_ZERO_WIDTH.sub("", text)), width)


def cut(line: str, width: int) -> str:
    """Return a clean line with at most ``width`` cells, its spaces as they are; what is cut ends with ``…``."""
    if cells(line) <= width:
        return line
    size = width - 1
    while cells(shorter := set_cell_size(line, max(0, size)).rstrip()) >= width > 0:
        size -= 1
    return shorter + "…" if width > 0 else ""


def clean_columns(line: str, most: int) -> str:
    """Return a line of others' output with its columns kept: tabs become spaces, and at most ``most`` characters."""
    clean = _ZERO_WIDTH.sub("", escape_control(line.rstrip("\r\n")).replace("\n", " ")).expandtabs(8).rstrip()
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def pad(text: str, width: int) -> str:
    """Return :func:`fit` text, filled up with spaces to exactly ``width`` cells."""
    line = fit(text, width)
    return line + " " * (width - cells(line))


_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
#: What ends a field or a line for some reader, what a terminal acts upon, and what is no character.
_ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\\\\\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def wrap(text: str, width: int, *, most: int = 0) -> list[str]:
    """Return text of others as clean lines of at most ``width`` cells, broken between words where that can be.

    Args:
        text: whatever it is.
        width: at least 2 cells, so that a wide character has room.
        most: how many lines; what is cut ends with ``…``. 0 = all.
    """
    lines: list[str] = []
    line = ""
    for word in clean_line(_ZERO_WIDTH.sub("", text)).split(" "):
        if line and cells(line) + 1 + cells(word) <= width:
            line += f" {word}"
            continue
        lines += [line] if line else []
        *full, line = chop_cells(word, max(2, width)) or [""]
        lines += full
    lines.append(line)
    if most and len(lines) > most:
        lines = [*lines[: most - 1], fit(" ".join(lines[most - 1 :]), width)]
    return lines


def tsv_line(*fields: object) -> str:
    r"""Return a record for a pipe: fields between tabs.

    In them backslashes, tabs, line ends and what a terminal could act upon are escaped as in a string of Python:
    ``\\``, ``\t``, ``\n``, ``\x1b``, ``\u202e``. None is an empty field.
    """
    return "\t".join("" if one is None else _ESCAPED.sub(_escape, str(one)) for one in fields)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _ESCAPES.get(found[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
