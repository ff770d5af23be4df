"""Where each part of the screen is, by the size of the terminal. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MIN_WIDTH, MIN_HEIGHT = 40, 12
#: From this width on, ships and tasks are beside each other.
BESIDE_WIDTH = 72
_MIN_LOG = 4
_MIN_LIST = 3


@dataclass(frozen=True)
class Size:
    """Cells and lines of each part; 0 = not shown.

    Attributes:
        is_beside: whether ships and tasks are beside each other, else the ships are above the tasks.
        ships, tasks: width and height.
        log: height.
    """

    is_beside: bool
    ships: tuple[int, int]
    tasks: tuple[int, int]
    log: int


def is_too_small(width: int, height: int) -> bool:
    """Whether a terminal has no room for the screen."""
    return width < MIN_WIDTH or height < MIN_HEIGHT


def share_room(width: int, height: int, ships: int, tasks: int, *, has_log: bool = True) -> Size:
    """Share the room among ships, tasks and log.

    Args:
        width: of the terminal.
        height: what head, notices and keys leave of it.
        ships: how many lines that list has.
        tasks: likewise.
        has_log: whether there is a log to show.
    """
    log_least = _MIN_LOG if has_log else height
    if width >= BESIDE_WIDTH:
        upper = max(_MIN_LIST, min(max(ships, tasks) + 1, height * 3 // 5))
        upper = upper if height - upper >= log_least else height
        left = width * 9 // 20
        return Size(is_beside=True, ships=(left, upper), tasks=(width - left, upper), log=height - upper)
    log = height * 3 // 10
    log = log if log >= log_least else 0
    upper = max(min(ships + 1, (height - log) * 2 // 5), min(_MIN_LIST, height // 2))
    return Size(is_beside=False, ships=(width, upper), tasks=(width, max(1, height - log - upper)), log=log)
