"""The status of a voyage as people read it: pure functions of a snapshot, what is beside it, and the time.

Snapshot, Beside, now, width, height ──> lines of Text: about the whole, what needs a person, ships, what it costs
                               └───────> records for a pipe: a key and its values
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from ocaptain.cli.board import phases_line
from ocaptain.cli.facts import (
    ENDS_BY_ITSELF,
    count_groups,
    gate_text,
    hour_nano,
    no_captain_text,
    pause_word,
    verify_text,
)
from ocaptain.cli.reason import brief_reason
from ocaptain.cli.reported import loss_text, reported_text
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
    symbol,
    with_symbol,
)
from ocaptain.cli.tables import GAP, UNBOUNDED, as_text, lay_out, pack, paragraph
from ocaptain.cli.task_table import detail_of, format_tries, group_of
from ocaptain.names import FAILED_NOTE
from ocaptain.query.mirrors import WATCHING_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.query.snapshot import ShipLine, Snapshot, TaskLine
    from ocaptain.telemetry.store import Reported

MAX_BAR, MIN_BAR = 40, 8
#: Of each kind, so many tasks are shown; of the others the number.
MAX_TASKS = 4
#: Texts of others have so many lines.
MAX_LINES = 3
#: So many ships are shown in any case.
MIN_SHIPS = 4
#: So many ships of which there is nothing to say have a line each.
MAX_QUIET = 3
_MAX_NAME = 24
#: In fewer cells, a reason is not cut for what to type.
_WIDE = 120
_NARROW = 60
_SIGNS = dict.fromkeys(("notice", "gate", "captain"), "! ")
_ACTIVE = frozenset({"preparing", "running", "verifying"})
#: States in which a captain is needed.
_SAILING = frozenset({"running", "verifying"})


@dataclass(frozen=True)
class Beside:
    """What is known beside a snapshot.

    Attributes:
        has_captain: whether a captain runs on this machine.
        directory: of the voyage.
        home: the user's, which a screen shows as ``~``; "" if it is not known.
        named: the voyage's id or a prefix, with a space, as commands about its tasks need it; "" if they do not.
        machine_nano: what its machines cost so far, in nano-dollars.
        hour_nano: what one of them costs in an hour awake.
        reported: what its agents reported by OTLP, None if nothing.
    """

    has_captain: bool
    directory: str
    home: str = ""
    named: str = ""
    machine_nano: int = 0
    hour_nano: int = 0
    reported: Reported | None = None

    @property
    def shown_directory(self) -> str:
        """The directory as a screen shows it."""
        inside = self.directory.removeprefix(f"{self.home}/") if self.home else self.directory
        return self.directory if inside == self.directory else f"~/{inside}"


# -- facts -------------------------------------------------------------------------------------------


def cost_text(seen: Snapshot, beside: Beside) -> str:
    """Return what the voyage cost so far and costs now, "" if nothing is known."""
    spent = seen.about.spent
    parts = []
    if spent.attempts:
        mark = f" ({'/'.join(spent.marks)})" if spent.marks else ""
        tokens = f"{spent.tokens_in:,} tokens in, {spent.tokens_out:,} out"
        parts.append(f"agents {format_money(spent.cost_nano, unknown=spent.unknown > 0)}{mark}, {tokens}")
    if beside.machine_nano:
        parts.append(f"machines {format_money(beside.machine_nano)}")
    hour = hour_nano(seen, beside.hour_nano) if seen.about.state in _ACTIVE else 0
    if hour:
        parts.append(f"now {format_money(hour)} an hour")
    return " · ".join(parts)


def pause_text(seen: Snapshot) -> str:
    """Return what a pause means that is not the voyage's state, "" for none."""
    reason = seen.about.paused_reason
    if not reason or seen.about.state == "paused":
        return ""
    if reason in ENDS_BY_ITSELF:
        return f"{pause_word(reason)}: {reason}; it goes on by itself"
    return f"{pause_word(reason)} ({reason}): what is under way is finished first"


def notices(seen: Snapshot, beside: Beside) -> list[tuple[str, str]]:
    """Return what else a person is to know, as pairs of a key and a sentence."""
    about = seen.about
    found = [("pause", pause_text(seen))]
    found.append(("gate", gate_text(about)))
    found += [("notice", f"task {one['task']} landed settings: {one['text']}") for one in about.notices]
    found.append(("note", about.note or ""))
    if lost := loss_text(beside.reported):
        found.append(("telemetry", f"not all that agents reported is there: {lost}"))
    if not beside.has_captain and about.state in {"running", "verifying"}:
        found.append(("captain", no_captain_text(about.voyage)))
    return [(key, text) for key, text in found if text]


def files_text(ship: ShipLine, now: float) -> str:
    """Return what is wrong with how the files of a ship's attempt are followed, "" for nothing.

    Args:
        ship: the ship.
        now: in seconds since 1970.
    """
    if ship.live_problem:
        return f"its files are not all followed: {ship.live_problem}"
    if ship.live_at is not None and now - ship.live_at > WATCHING_SECONDS:
        return f"its files were seen last {format_seconds(now - ship.live_at)} ago"
    return ""


def ship_text(ship: ShipLine, task: TaskLine | None, now: float) -> str:
    """Return what there is to say of a ship: the subject of its task, or why it is as it is.

    Args:
        ship: the ship.
        task: that it works on, None if none.
        now: in seconds since 1970.
    """
    text = "; ".join(filter(None, (task.subject if task else "", ship.reason)))
    if ship.role == "verify":
        text = f"for the final verify{f'; {text}' if text else ''}"
    if ship.replaced_by:
        text = f"{ship.replaced_by} sails in its place{f'; {text}' if text else ''}"
    return "; ".join(filter(None, (text, files_text(ship, now))))


# -- the screen --------------------------------------------------------------------------------------


def status_lines(
    seen: Snapshot, beside: Beside, now: float, width: int, height: int, *, show_all: bool = False
) -> list[Text]:
    """Return the status for a terminal.

    Args:
        seen: the voyage.
        beside: what is known beside it.
        now: in seconds since 1970.
        width: of the terminal, in cells.
        height: of the terminal: ships that do not fit are counted, but for a few.
        show_all: whether every task that needs a person, every ship and every word is shown.
    """
    head = head_lines(seen, now, width, has_captain=beside.has_captain)
    head += [phases_line(seen, now, width), *progress_lines(seen, width)]
    trouble = task_lines(seen, beside, width, 0 if show_all else MAX_TASKS)
    most = 0 if show_all else MAX_LINES
    told = [
        line
        for key, text in notices(seen, beside)
        if not (key == "note" and text.startswith(FAILED_NOTE))  # these tasks were just shown
        for line in paragraph(Text(_SIGNS.get(key, "○ "), style=BUSY), text, width, most=most)
    ]
    foot = foot_lines(seen, beside, width)
    room = height - 3 - sum(map(len, (head, trouble, told, foot)))  # what to type next, and the prompt
    ships = ship_lines(seen, now, width, 0 if show_all else max(MIN_SHIPS, room))
    return [*head, *trouble, *ships, *told, *foot]


def head_lines(seen: Snapshot, now: float, width: int, *, has_captain: bool = True) -> list[Text]:
    """Return who sails, its state, for how long: ``voyage-4f59…  ● running 4:12, left ~1:05  fifty on drydock``."""
    about = seen.about
    is_alone = not has_captain and about.state in _SAILING
    left = seen.forecast.left_at(now) if about.state in _ACTIVE and not is_alone else None
    alone = "" if not is_alone else ", but no captain" if width >= _NARROW else ", no captain"
    clock = f"{alone} {format_clock(seen.elapsed(now))}{f', left ~{format_clock(left)}' if left else ''}"
    faster = seen.speed_up if about.state == "complete" else None
    speed = f" ({faster:.1f}x one ship)" if faster and faster >= 1.05 else ""
    line = Text.assemble((about.voyage, HEAD), "  ", with_symbol(about.state), clock, speed, "  ")
    where = f" on {fit(about.provider, _MAX_NAME)}"
    room = width - cells(line.plain) - len(where)
    if room >= MIN_BAR:
        return [Text.assemble(line, fit(about.name, room), where)]
    line.rstrip()
    return [line, Text(f"  {fit(about.name, width - GAP - len(where))}{where}")]


def progress_lines(seen: Snapshot, width: int) -> list[Text]:
    """Return how many tasks there are of each kind, behind a bar where there is room for one."""
    counts = count_groups(seen)
    total = len(seen.tasks)
    parts = [Text(f"{counts['landed']}/{total} landed")]
    for name in ("working", "retrying", "failed", "waiting"):
        if counts[name]:
            word = Text(f" {counts[name]} {name}", style=BAD if name == "failed" else "")
            parts.append(Text.assemble(symbol(name), word))
    lines = pack(parts, width)
    room = min(MAX_BAR, width - cells(lines[0].plain) - GAP)
    if len(lines) > 1 or room < MIN_BAR:
        return lines
    done = room * counts["landed"] // max(1, total)
    return [Text.assemble(("━" * done, GOOD), ("─" * (room - done), QUIET), " " * GAP, *lines)]


def task_lines(seen: Snapshot, beside: Beside, width: int, most: int = MAX_TASKS) -> list[Text]:
    """Return the tasks that failed, are tried again, or wait for approval, with what to type.

    Args:
        seen: the voyage.
        beside: what is known beside it.
        width: of the terminal, in cells.
        most: how many of each kind; 0 = all.
    """
    held = [seen.task[one] for one in seen.about.held_tasks if one in seen.task]
    rows: list[list[str | Text]] = []
    more: list[str] = []
    kinds = (("failed", "why", seen.failed), ("retrying", "why", seen.retrying), ("held", "approve", held))
    for kind, verb, tasks in kinds:
        shown = tasks[:most] if most and len(tasks) > most + 1 else tasks
        style = BAD if kind == "failed" else ""
        for one in shown:
            hint = Text(f"→ ocaptain {verb} {beside.named}{one.id}", style=QUIET)
            reason = as_text(brief_reason(detail_of(one)), style)
            rows.append([Text.assemble(symbol(kind), f" {one.id}"), one.subject, reason, hint])
        if len(tasks) > len(shown):
            more.append(f"and {len(tasks) - len(shown)} more {kind}")
    if not rows:
        return []
    lines = lay_out(rows, UNBOUNDED if width < _WIDE else width, flexible=[1, 2])
    if any(cells(line.plain) > width for line in lines):  # what to type is the least, and is said in the end
        lines = lay_out([row[:3] for row in rows], width, flexible=[1, 2])
    if more:
        lines.append(Text(f"  {', '.join(more)}: ocaptain tasks {seen.about.voyage}", style=QUIET))
    return lines


def ship_lines(seen: Snapshot, now: float, width: int, room: int) -> list[Text]:
    """Return the ships: those that are lost, then those at work, longest first, if not all have room.

    Args:
        seen: the voyage.
        now: in seconds since 1970.
        width: of the terminal, in cells.
        room: how many lines; 0 = as many as there are ships. Many of which there is nothing to say are counted.
    """
    by_need = sorted(seen.ships, key=lambda ship: _need(ship, now))
    told = [ship for ship in by_need if ship.task or ship_text(ship, None, now)]
    shown = by_need if not room or len(by_need) - len(told) <= MAX_QUIET else told
    if room and len(shown) + (len(shown) < len(by_need)) > room:
        shown = shown[: room - 1]
    names = {ship.id for ship in shown}
    rest = [ship for ship in seen.ships if ship.id not in names]
    ships = [ship for ship in seen.ships if ship.id in names]
    lines = lay_out([_ship_row(ship, seen, now) for ship in ships], width, flexible=[4]) if ships else []
    if rest:
        lines.append(_rest_line(rest, seen.about.voyage, are_all=not ships))
    return lines


def _need(ship: ShipLine, now: float) -> tuple[bool, bool, float]:
    is_lost = ship.state in {"lost", "failed"} and not ship.replaced_by
    return (not is_lost, ship.task is None, -(now - (ship.began or now)))


def _ship_row(ship: ShipLine, seen: Snapshot, now: float) -> list[str | Text]:
    task = seen.task.get(ship.task or "")
    if task is None:
        text = as_text(ship_text(ship, None, now), BAD if ship.state in {"lost", "failed"} else "")
        return [ship.id, with_symbol(ship.state), "", "", text]
    sign = symbol("retrying" if task.is_retrying else "working")
    clock = format_clock(None if ship.began is None else now - ship.began)
    return [ship.id, Text.assemble(sign, f" {fit(task.id, 64)}"), format_tries(task), clock, ship_text(ship, task, now)]


def _rest_line(rest: Sequence[ShipLine], voyage: str, *, are_all: bool) -> Text:
    states = Counter("working" if ship.task else ship.state for ship in rest)
    line = Text(f"{len(rest)} {'ship' if len(rest) == 1 else 'ships'}: " if are_all else f"and {len(rest)} more: ")
    if are_all and len(states) == 1:
        line.append(f"{len(rest)} {next(iter(states))}")
        states.clear()
    for at, (state, count) in enumerate(states.most_common()):
        sign = symbol(state)
        line.append_text(Text.assemble("  " if at else "", sign, f" {count} {state}"))
    line.append(f"  (ocaptain status {voyage} --all)", style=QUIET)
    return line


def foot_lines(seen: Snapshot, beside: Beside, width: int) -> list[Text]:
    """Return what was proved, what it costs, and where the work is."""
    about = seen.about
    lines = []
    if verify := verify_text(about):
        is_proved = bool(about.verify and about.verify["ok"])
        lines += paragraph(Text.assemble(symbol("complete" if is_proved else "failed"), " "), verify, width)
    if cost := cost_text(seen, beside):
        lines += paragraph(Text("cost    ", style=QUIET), cost, width)
    if reported := reported_text(beside.reported):
        lines += paragraph(Text("report  ", style=QUIET), reported, width)
    shown = fit(beside.shown_directory, UNBOUNDED)
    if any(ship.is_mirrored for ship in seen.ships):
        lines += paragraph(Text("mirrors ", style=QUIET), f"{shown}/ships/<ship>, read-only", width)
    branch = Text.assemble(("branch  ", QUIET), about.voyage)
    where = f"{shown}/workspace"
    if cells(branch.plain) + len(" in ") + cells(where) <= width:
        return [*lines, Text.assemble(branch, " in ", where)]
    return [*lines, branch, Text(f"  in {where}")]


# -- records -----------------------------------------------------------------------------------------


def status_records(seen: Snapshot, beside: Beside, now: float) -> list[tuple[str, ...]]:
    """Return the status for a pipe: a key and its values.

    The keys ``task`` and ``ship`` have six values, and come once for each task that failed, is tried again or waits for
    approval, and for each ship; all others have one, and those without a value are left out.
    """
    about, counts = seen.about, count_groups(seen)
    left = seen.forecast.left_at(now) if about.state in _ACTIVE else None
    facts = [
        ("voyage", about.voyage),
        ("state", about.state),
        ("plan", about.name),
        ("provider", about.provider),
        ("elapsed", format_clock(seen.elapsed(now))),
        ("left", format_clock(left)),
        ("tasks", str(len(seen.tasks))),
        *((name, str(count)) for name, count in counts.items()),
        ("verify", verify_text(about)),
        ("cost", cost_text(seen, beside)),
        ("report", reported_text(beside.reported)),
        *notices(seen, beside),
        ("branch", about.voyage),
        ("directory", beside.directory),
    ]
    held = [seen.task[one] for one in about.held_tasks if one in seen.task]
    tasks = [
        ("task", one.id, group_of(one), one.ship or "", format_tries(one), one.subject, detail_of(one))
        for one in (*seen.failed, *seen.retrying, *held)
    ]
    ships = []
    for ship in seen.ships:
        task = seen.task.get(ship.task or "")
        clock = format_clock(None if task is None or ship.began is None else now - ship.began)
        tries = format_tries(task) if task else ""
        ships.append(("ship", ship.id, ship.state, ship.task or "", tries, clock, ship_text(ship, task, now)))
    return [*((key, value) for key, value in facts if value), *tasks, *ships]
