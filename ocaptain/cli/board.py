"""The voyage on one screen: pure functions of a snapshot, what was read beside it, the time and the size.

Snapshot, Extras, now, width, height ──> lines of Text, each at most ``width`` cells
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.board_ships import ship_lines
from ocaptain.cli.facts import count_groups, counted, hour_nano, pause_word
from ocaptain.cli.reason import brief_reason
from ocaptain.cli.style import (
    BAD,
    BUSY,
    GOOD,
    HEAD,
    QUIET,
    cells,
    fit,
    format_clock,
    format_money,
    format_seconds,
    format_time,
    symbol,
)
from ocaptain.query import ENDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocaptain.query.snapshot import LandedLine, Phase, Snapshot
    from ocaptain.query.watch import Diffstat

#: Between two facts of a line.
GAP = "  "
_MAX_BAR = 60
_MIN_BAR = 8
_MAX_FAILURES = 3
#: With fewer lines there are no phases, with not more no foot: the ships matter more.
_MIN_HEIGHT = 4
#: With less room than the first for a reason, what to type is left out; with more than the second a subject is shown.
_MIN_REASON, _WIDE_REASON = 20, 100
_MIN_SUBJECT = 10
_MIN_NAME = 12
_MAX_ID = 16
#: States in which the captain works on, whoever watches.
_SAILING = frozenset({"running", "verifying"})


@dataclass(frozen=True)
class Money:
    """What a voyage costs.

    Attributes:
        nano: agents and machines so far, in nano-dollars.
        hour: what an hour at the present pace costs, in nano-dollars.
        is_more: whether more was used, whose price is not known.
    """

    nano: int = 0
    hour: int = 0
    is_more: bool = False


@dataclass(frozen=True)
class Extras:
    """What a screen shows beside the snapshot.

    Attributes:
        actions: what each ship does now, by ship.
        machine: cost of a number of seconds of one machine awake, in nano-dollars.
        named: the voyage's id or a prefix, with a space, as commands about its tasks need it; "" if they do not.
    """

    actions: Mapping[str, str] = field(default_factory=dict)
    machine: Callable[[float], int] = lambda _: 0
    named: str = ""


def board(
    seen: Snapshot, extras: Extras, now: float, width: int, height: int, *, foot: Text | None = None
) -> list[Text]:
    """Return the whole screen: head, phases, progress, failures, ships, foot.

    Args:
        seen: the voyage.
        extras: what is shown beside it.
        now: in seconds since 1970.
        width: of the screen, in cells.
        height: lines that it may have at most; what matters least is left out.
        foot: instead of :func:`foot_line`.
    """
    lines = [head_line(seen, now, width), progress_line(seen, money_of(seen, extras.machine), now, width)]
    if height >= _MIN_HEIGHT:
        lines.insert(1, phases_line(seen, now, width))
    last = [foot_line(seen, width) if foot is None else clip(foot, width)] if height > _MIN_HEIGHT else []
    room = max(0, height - len(lines) - len(last))
    failures = failure_lines(seen, width, min(_MAX_FAILURES, max(1, room // 3)), extras.named) if room else []
    ships = ship_lines(seen, extras.actions, now, width, room - len(failures))
    return [*lines, *failures, *ships, *last][: max(0, height)]


def money_of(seen: Snapshot, machine: Callable[[float], int]) -> Money:
    """Return what a voyage costs.

    Args:
        seen: the voyage.
        machine: cost of a number of seconds of one machine awake, in nano-dollars.
    """
    spent = seen.about.spent
    total = spent.cost_nano + machine(seen.about.awake_seconds)
    return Money(total, hour_nano(seen, machine(3600)), spent.unknown > 0)


def spread(left: Text, right: Text, width: int) -> Text:
    """Return a line with a part on its left and one on its right; a right one without room is left out."""
    room = width - cells(left.plain) - cells(right.plain)
    return clip(Text.assemble(left, " " * room, right), width) if right and room >= len(GAP) else clip(left, width)


def clip(line: Text, width: int) -> Text:
    """Return a line of at most ``width`` cells."""
    if cells(line.plain) > width:
        line = line.copy()
        line.truncate(max(0, width), overflow="ellipsis" if width > 0 else "crop")
    return line


def head_line(seen: Snapshot, now: float, width: int) -> Text:
    """Return what sails where, for how long: ``fifty · voyage-4f59… · drydock · 5 ships    verify.sh ○  4:12``."""
    about = seen.about
    crew = sum(ship.is_crew for ship in seen.ships)
    clock = Text(format_clock(seen.elapsed(now)))
    verdict = Text.assemble("verify.sh ", symbol(next(one.state for one in seen.phases if one.name == "verify")))
    state = _state_text(seen)
    facts = [about.voyage, fit(about.provider, 20), counted(crew, "ship")]
    rights = [join([*state, verdict, clock]), join([*state, clock]), clock]
    for right, count in ((rights[0], 3), (rights[0], 2), (rights[1], 2), (rights[1], 1), (rights[2], 1)):
        rest = "".join(f" · {one}" for one in facts[:count])
        room = width - len(rest) - cells(right.plain) - len(GAP)
        if room >= min(len(about.name), _MIN_NAME):
            return spread(Text.assemble((fit(about.name, room), HEAD), (rest, QUIET)), right, width)
    return spread(Text(fit(about.voyage, width), style=HEAD), clock, width)


def _state_text(seen: Snapshot) -> list[Text]:
    """Return the state of a voyage where it is not the usual one."""
    about = seen.about
    if about.state == "running" and about.paused_reason:
        return [Text(f"{pause_word(about.paused_reason)} ({fit(about.paused_reason, 12)})", style=BUSY)]
    if about.state in _SAILING:
        return []
    reason = f" ({about.paused_reason})" if about.state == "paused" and about.paused_reason else ""
    words = fit(f"{about.state}{reason}", 24)
    return [Text.assemble(symbol(about.state), f" {words}")]


def join(parts: Sequence[Text], gap: str = GAP) -> Text:
    """Return parts in a row."""
    return Text(gap).join(parts)


def phases_line(seen: Snapshot, now: float, width: int) -> Text:
    """Return the phases: ``✓ plan 50 tasks  ✓ repo todo@3f2a1c  ✓ ships 5/5 (9 s)  ● work 3:20  ○ verify``."""
    variants = (
        [phase_text(one, now) for one in seen.phases],
        [phase_text(one, now, brief=one.name == "plan") for one in seen.phases],
        [phase_text(one, now, brief=one.name in {"plan", "repo"}) for one in seen.phases],
        [phase_text(one, now, brief=one.state not in {"now", "failed"}) for one in seen.phases],
        [phase_text(one, now) for one in seen.phases if one.state in {"now", "failed"}],
    )
    lines = [join(variant) for variant in variants if variant]
    return clip(next((line for line in lines if cells(line.plain) <= width), lines[-1]), width)


def phase_text(phase: Phase, now: float, *, brief: bool = False) -> Text:
    """Return a phase: ``✓ ships 5/5 (9 s)``; ``brief``: ``✓ ships``."""
    line = Text.assemble(symbol(phase.state), f" {phase.name}")
    if brief:
        return line
    if phase.text:
        line.append(f" {fit(phase.text, 24)}")
    seconds = phase.seconds(now)
    if seconds is None:
        return line
    if phase.state == "now":
        line.append(f" {format_clock(seconds)}")
    elif phase.ended is not None:
        line.append(f" ({format_seconds(seconds)})", style=QUIET)
    return line


def progress_line(seen: Snapshot, money: Money, now: float, width: int) -> Text:
    """Return the bar with what is done, at work, failed, tried again, the time left and the cost."""
    counts, kinds = seen.about.tasks, count_groups(seen)
    done, total = counts["completed"], counts["total"]
    facts = [Text(f"{done}/{total}", style=HEAD)]
    for sign, number, colour in (
        ("●", kinds["working"], BUSY),
        ("✗", counts["failed"], BAD),
        ("↻", kinds["retrying"], BUSY),
    ):
        if number:
            facts.append(Text(f"{sign} {number}", style=colour))
    left = seen.forecast.left_at(now) if seen.about.state == "running" else None
    later = [Text(f"left ~{format_clock(left)}")] if left else []
    price = format_money(money.nano, unknown=money.is_more)
    costs = [Text(price), Text.assemble(price, (f" ({format_money(money.hour)}/h)", QUIET))]
    is_over = seen.ended is not None
    for row in (
        [*facts, *later, costs[bool(money.hour) and not is_over]],
        [*facts, *later, costs[0]],
        [*facts, *later],
    ):
        words = join(row)
        room = width - cells(words.plain) - len(GAP)
        if room >= _MIN_BAR:
            return Text.assemble(
                bar(done, counts["failed"], total, min(room, _MAX_BAR, max(20, width // 3))), GAP, words
            )
    return clip(join([*facts, *later]), width)


def bar(done: int, failed: int, total: int, width: int) -> Text:
    """Return a bar of ``width`` cells: done, failed, the rest; full only if nothing is left.

    A part of a cell shows as half of one, and what failed as one cell at least.
    """
    total = max(1, total)
    bad = min(width, max(1, round(width * failed / total))) if failed else 0
    halves = min(2 * (width - bad), round(2 * width * done / total))
    if done + failed < total:
        halves = min(halves, max(0, 2 * (width - bad) - 1))
    whole, half = divmod(halves, 2)
    rest = width - whole - half - bad
    return Text.assemble(("━" * whole + "╸" * half, GOOD), ("━" * bad, BAD), ("─" * rest, QUIET))


def failure_lines(seen: Snapshot, width: int, limit: int, named: str = "") -> list[Text]:
    """Return the tasks that failed for good and why, at most ``limit`` lines: of more, the rest is a count."""
    failed = seen.failed
    if not failed or limit < 1:
        return []
    shown = failed if len(failed) <= limit else failed[: limit - 1]
    held = Counter(one.held_by for one in seen.tasks if one.held_by)
    lines = []
    for one in shown:
        name = fit(one.id, _MAX_ID)
        left = Text.assemble(("✗", BAD), f" #{name} ")
        hint = Text(f"→ ocaptain why {named}{name}", style=QUIET)
        if held[one.id]:
            left.append(f"(holds {held[one.id]}) ", style=QUIET)
        room = width - cells(left.plain) - cells(hint.plain) - len(GAP)
        if room < _MIN_REASON:
            room, hint = width - cells(left.plain), Text()
        reason = fit(brief_reason(one.reason or "no reason is known"), room)
        if room > _WIDE_REASON:
            left.append(f"{fit(one.subject, 40)}  ")
            reason = fit(reason, width - cells(left.plain) - cells(hint.plain) - len(GAP))
        left.append(reason)
        lines.append(spread(left, hint, width))
    if len(shown) < len(failed):
        rest = [fit(one.id, _MAX_ID) for one in failed[len(shown) :]]
        words = f"✗ {len(rest)} {'more ' if shown else ''}failed for good: "
        lines.append(Text(fit(words + ", ".join(rest[:20]), width), style=BAD))
    return lines


def landed_line(one: LandedLine, diff: Diffstat | None, now: float, width: int) -> Text:
    """Return a landing: ``14:02:11 ✓ #41 landed 4f73232 ship-3 1:02 +120 -8  Add OAuth2 login``."""
    at = format_time(one.at, now=now)
    line = Text.assemble((at, QUIET), " ", ("✓", GOOD), f" #{fit(one.task, _MAX_ID)} landed {fit(one.commit[:7], 7)}")
    line.append(f" {fit(one.ship or '', _MAX_ID)} {format_clock(one.seconds)}", style=QUIET)
    if diff:
        line.append_text(Text.assemble(" ", (f"+{diff.added}", GOOD), f" -{diff.removed}"))
    room = width - cells(line.plain) - len(GAP)
    if room >= _MIN_SUBJECT:
        line.append(GAP + fit(one.subject, room))
    return clip(line, width)


def foot_line(seen: Snapshot, width: int) -> Text:
    """Return what Ctrl-C does, and what to type for more."""
    if seen.about.state in _SAILING:
        words = ["Ctrl-C stops watching, the voyage sails on", "ocaptain watch", "ocaptain sink"]
    elif seen.about.state in ENDED:
        words = [f"Ctrl-C stops this; its result: ocaptain status {seen.about.voyage}"]
    else:
        words = [f"Ctrl-C stops this; go on with: ocaptain sail --resume {seen.about.voyage}"]
    while len(words) > 1 and len(" · ".join(words)) > width:
        words.pop()
    line = " · ".join(words)
    if len(line) > width and seen.about.state in _SAILING:
        line = "Ctrl-C: the voyage sails on"
    return Text(fit(line, width), style=QUIET)
