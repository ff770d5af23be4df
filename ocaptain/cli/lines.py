"""Lines that come one by one, for as long as a voyage sails: their times, colours, and whether anybody reads them."""

from __future__ import annotations

import functools
import os
import re
import select
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import COLOR_SYSTEMS
from rich.style import Style

from ocaptain.cli.streams import ReaderGone
from ocaptain.durations import parse_seconds
from ocaptain.errors import UsageError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from ocaptain.cli.render import Screen

_STDOUT = 1
_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?", re.ASCII)
_DURATION = re.compile(r"(?:([0-9]{1,5})d)?((?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))*)", re.ASCII)


def parse_since(text: str, now: float) -> float:
    """Return the time that ``--since`` names, in seconds since 1970.

    Args:
        text: how long ago (``10m``, ``2h``), when it last was that time of day (``14:05``), or a date with or without
            a time (``2026-11-29T14:00``); without a time zone, this machine's.
        now: in seconds since 1970.

    Raises:
        UsageError: it is none of these, or it is still to come.
    """
    if text and (found := _DURATION.fullmatch(text)):
        return now - float(found[1] or 0) * 86400 - (parse_seconds(found[2]) if found[2] else 0.0)
    try:
        if found := _TIME_OF_DAY.fullmatch(text):
            today = datetime.fromtimestamp(now).astimezone()
            at = _local_time(today, *(int(part or 0) for part in found.groups()), days=0)
            return at if at <= now else _local_time(today, *(int(part or 0) for part in found.groups()), days=1)
        at = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        shown = f"'{clean_line(text, 60)}'"
        raise UsageError(f"--since {shown} is no time; give 10m, 2h, 3d, 14:05 or 2026-11-29T14:00") from None
    if at > now:
        raise UsageError(f"--since {clean_line(text, 60)!r} is still to come; give a time that has passed")
    return at


def _local_time(today: datetime, hour: int, minute: int, second: int, *, days: int) -> float:
    """Return a time of day so many days ago, on this machine's clock, also across its changes in spring and autumn."""
    return time.mktime((today.year, today.month, today.day - days, hour, minute, second, 0, 0, -1))


@functools.lru_cache(4096)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def format_utc(at: float, *, digits: int = 0) -> str:
    """Format a time for programs, by RFC 3339 and of UTC: ``2026-11-29T14:02:11Z``."""
    second = int(at // 1)
    fraction = f"{min(at - second, 0.999999):.{digits + 3}f}"[1 : 2 + digits] if digits else ""
    return f"{_format_second(second)}{fraction}Z"


class Painter:
    """Colours text for a terminal; leaves it as it is for everything else, and where no colour is wanted."""

    def __init__(self, console: Screen) -> None:
        name = None if console.is_piped or console.no_color else console.color_system
        self._system = COLOR_SYSTEMS[name] if name else None
        self.paint = functools.lru_cache(1024)(self._paint)

    def _paint(self, text: str, style: str) -> str:
        return Style.parse(style).render(text, color_system=self._system) if self._system and style else text


def write_line(line: str) -> None:
    """Write a line on standard output, and have it read at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def wait_for_news(seconds: float) -> None:
    """Wait until it is time to look again.

    Raises:
        ReaderGone: nobody reads standard output any more, so nothing has to be waited for.
    """
    poller = select.poll()
    poller.register(_STDOUT, 0)
    found = poller.poll(seconds * 1000)
    if any(events & (select.POLLHUP | select.POLLERR) for _, events in found):
        raise ReaderGone
    if found:  # macOS cannot poll devices, and says so at once
        try:
            os.fstat(_STDOUT)
        except OSError:  # it is closed
            raise ReaderGone from None
        time.sleep(seconds)
