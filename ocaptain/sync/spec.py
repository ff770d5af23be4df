"""Mirrors as data: the calls of Mutagen's command line, which sessions there should be, and how a mirror is.

::

    ships at work ──Line each──┐
    `sync list` ──Session each─┴─> wanted ──> Create | Resume | Reset | Terminate | MoveAway ──> argv
    `sync list` ──read_sessions──> Session ──health──> Health

Source of the calls and of the JSON: Mutagen 0.18.1 as it was observed, see ``docs/adr/0032-mirrors.md``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ocaptain.sync.live import FRESH_SECONDS, Health
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ocaptain.sync.live import State

VERSION = re.compile(r"0\.18\.[0-9]+")
SHIPS = "ships"  #: below the voyage's directory: the mirrors
#: On the ship, below the home: a folder that has ``workspace``, ``logs`` and ``artifacts``, and so is never empty.
SOURCE = "voyage"
MAX_TOTAL_BYTES = 2 * 1024**3  # of a ship's files; more is not mirrored
MAX_ENTRIES = 200_000
MAX_FILE = "100MB"
MAX_TEXT = 300  # characters of a problem
JSON_TEMPLATE = "{{json .}}"
_LABEL = "ocaptain"


@dataclass(frozen=True)
class Line:
    """A mirror that there should be.

    Attributes:
        voyage: its id.
        ship: its id.
        host: the name that Mutagen calls the ship by, which the switch knows.
        origin: the provider's id of the sprite; another sprite of the same name has another one.
        generation: counts the sprites that a ship has been, from 1.
        source: folder of the ship.
        target: folder of this machine, absolute; its parents must exist.
        ignores: patterns of Mutagen for what is left out, beside folders of version control.
    """

    voyage: str
    ship: str
    host: str
    origin: str
    generation: int
    source: str
    target: str
    ignores: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the session: letters, digits and ``-``. Mutagen does not keep names unique."""
        return f"{self.voyage}-{self.ship}-g{self.generation}"


@dataclass(frozen=True)
class Session:
    """A session of Mutagen, as ``sync list`` has it. Every field may be missing in the JSON.

    Attributes:
        id: Mutagen's own.
        ship, origin, generation: its labels; "" and 0 if it has none.
        status: such as ``watching``.
        paused: whether it is paused.
        connected: whether both ends are connected.
        cycles: successful ones since it began or was resumed.
        files, bytes: at the ship.
        problems: how many conflicts and problems there are, including those that the JSON leaves out.
        first_problem: the first of them, or the last error, on one line of harmless text; "" if there is none.
    """

    id: str
    ship: str = ""
    origin: str = ""
    generation: int = 0
    status: str = ""
    paused: bool = False
    connected: bool = False
    cycles: int = 0
    files: int = 0
    bytes: int = 0
    problems: int = 0
    first_problem: str = ""

    @property
    def is_halted(self) -> bool:
        """Whether Mutagen stopped it, and goes on only when it is told to."""
        return self.status.startswith("halted")


# -- the calls -------------------------------------------------------------------------------


def list_argv(voyage: str) -> list[str]:
    """Return the call that lists the sessions of a voyage; only whole JSON: templates of fields fail on paused ones."""
    return ["sync", "list", "--label-selector", f"{_LABEL}.voyage={voyage}", "--template", JSON_TEMPLATE]


def create_argv(line: Line) -> list[str]:
    """Return the call that makes a session: one way, read-only at this end, nothing of a repository's own folder."""
    labels = {
        "voyage": line.voyage,
        "ship": line.ship,
        "kind": SOURCE,
        "sprite": line.origin,
        "generation": str(line.generation),
    }
    argv = ["sync", "create", "--no-global-configuration", "--name", line.name]
    for name, value in labels.items():
        argv += ["--label", f"{_LABEL}.{name}={value}"]
    argv += ["--mode", "one-way-replica", "--ignore-vcs"]
    for pattern in line.ignores:
        argv += ["-i", pattern]
    argv += ["--symlink-mode", "portable", "--probe-mode", "assume", "--watch-polling-interval", "1"]
    argv += ["--default-file-mode-beta", "0444", "--default-directory-mode-beta", "0755"]
    argv += ["--max-entry-count", str(MAX_ENTRIES), "--max-staging-file-size", MAX_FILE]
    return [*argv, f"{line.host}:{line.source}", line.target]


def session_argv(verb: Literal["flush", "pause", "resume", "reset", "terminate"], session: str) -> list[str]:
    """Return a call for one session, by its identifier, since names are not unique."""
    return ["sync", verb, session]


def is_label(value: str) -> bool:
    """Whether Mutagen takes a text as the value of a label."""
    return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", value) is not None


def read_version(output: str) -> str | None:
    """Return the version that ``mutagen version`` says if it is one that was tried, None if it is another."""
    found = output.strip()
    return found if VERSION.fullmatch(found) else None


# -- what it says ----------------------------------------------------------------------------


def read_sessions(output: bytes) -> list[Session]:
    """Return the sessions of ``sync list``.

    Raises:
        ValueError: it is not a list in JSON.
    """
    try:
        found = json.loads(output or b"[]")
    except RecursionError:
        found = None
    if not isinstance(found, list):
        raise ValueError("it is no list in JSON")  # noqa: TRY004 - what it is not is no type of ours
    return [_read_session(one) for one in found if isinstance(one, dict) and isinstance(one.get("identifier"), str)]


def _read_session(found: Mapping[str, Any]) -> Session:
    labels = _mapping(found.get("labels"))
    ends = [_mapping(found.get(end)) for end in ("alpha", "beta")]
    told = _problems(found, ends)
    error = found.get("lastError")
    if isinstance(error, str) and error:
        told = [*told, error]
    generation = str(labels.get(f"{_LABEL}.generation", ""))
    return Session(
        id=found["identifier"],
        ship=str(labels.get(f"{_LABEL}.ship", "")),
        origin=str(labels.get(f"{_LABEL}.sprite", "")),
        generation=int(generation) if re.fullmatch(r"[0-9]{1,9}", generation) else 0,
        status=str(found.get("status") or ""),
        paused=found.get("paused") is True,
        connected=all(end.get("connected") is True for end in ends),
        cycles=_number(found.get("successfulCycles")),
        files=_number(ends[0].get("files")),
        bytes=_number(ends[0].get("totalFileSize")),
        problems=len(told) + _left_out(found, ends),
        first_problem=clean_text(told[0]) if told else "",
    )


def _problems(found: Mapping[str, Any], ends: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each conflict and problem in words; the JSON has at most ten of each kind."""
    told = [f"conflict at {one.get('root') or 'the top'}" for one in _items(found.get("conflicts"))]
    for end, where in zip(ends, ("the ship", "this machine"), strict=True):
        told += [
            f"{where}: {one.get('path') or 'the top'}: {one.get('error') or 'it is not said why'}"
            for kind in ("scanProblems", "transitionProblems")
            for one in _items(end.get(kind))
        ]
    return told


def _left_out(found: Mapping[str, Any], ends: Sequence[Mapping[str, Any]]) -> int:
    counts = [found.get("excludedConflicts")]
    for end in ends:
        counts += [end.get("excludedScanProblems"), end.get("excludedTransitionProblems")]
    return sum(_number(one) for one in counts)


def _items(found: object) -> list[Mapping[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _number(found: object) -> int:
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def clean_text(text: str) -> str:
    """Return a text of a ship's as one harmless line: names with newlines and terminal escapes do arrive."""
    return clean_line(text)[:MAX_TEXT]


def health(session: Session | None, cycle_age: float | None) -> Health:
    """Return how a mirror is.

    Args:
        session: that it has, None if it has none.
        cycle_age: seconds since its count of cycles was seen to grow; None if it was not yet.

    ``watching`` of Mutagen's does not mean that anything is here: it stays so with conflicts, with a folder that
    cannot be made, and for a while after the connection is dead. So each of those is looked at.
    """
    if session is None:
        return Health()
    state: State = "catching_up"
    if session.paused:
        state = "paused"
    elif session.is_halted:
        state = "halted"
    elif cycle_age is None or cycle_age > FRESH_SECONDS or not session.connected:
        state = "stale" if cycle_age is not None and cycle_age > FRESH_SECONDS else "catching_up"
    elif session.status == "watching" and not session.problems:
        state = "watching"
    return Health(
        by="mutagen",
        state=state,
        behind_seconds=None if session.paused or cycle_age is None else round(cycle_age, 1),
        files=session.files,
        bytes=session.bytes,
        problems=session.problems,
        first_problem=session.first_problem,
    )


# -- what there should be ----------------------------------------------------------------------


@dataclass(frozen=True)
class Create:
    """Make a session for a mirror."""

    line: Line


@dataclass(frozen=True)
class Act:
    """Have something done to a session, by its identifier."""

    verb: Literal["pause", "resume", "reset", "terminate"]
    session: str
    ship: str = ""


@dataclass(frozen=True)
class MoveAway:
    """Keep what a lost sprite's folder has under a name of its own, before anything else is written there."""

    ship: str


Step: TypeAlias = Create | Act | MoveAway


def wanted(
    lines: Iterable[Line],
    resting: frozenset[str],
    sessions: Sequence[Session],
    kept: Mapping[str, str],
    *,
    resumed: frozenset[str] = frozenset(),
) -> list[Step]:
    """Return what to do so that each ship at work has exactly one session, and no other one may dial.

    Args:
        lines: of ships at work now, with the sprite that each of them is.
        resting: ships that are not at work but may be again: theirs is paused, so that it wakes nobody.
        sessions: of this voyage, as Mutagen lists them.
        kept: by ship: the origin of what its folder has.
        resumed: identifiers of sessions that were halted and have been resumed already; they are reset. One way,
            what is at the ship counts, so that is safe.

    A ship that is neither at work nor resting is lost: its session ends, and its folder moves away. So does the folder
    of a sprite that another one of the same name follows: resumed, its session would take an empty new workspace for
    deleted files. What ends comes first, so that nobody writes into a folder that moves.
    """
    alive = {line.ship: line for line in lines}
    ends: list[Step] = []
    rest: list[Step] = []
    having: set[str] = set()
    for one in sessions:
        line = alive.get(one.ship)
        origin = line.origin if line else kept.get(one.ship, "")
        belongs = one.origin == origin and (line is not None or one.ship in resting)
        if not belongs or one.ship in having:
            ends.append(Act("terminate", one.id, one.ship))
            continue
        having.add(one.ship)
        if line is None:
            rest += [] if one.paused else [Act("pause", one.id, one.ship)]
        elif one.paused:
            rest.append(Act("resume", one.id, one.ship))
        elif one.is_halted:
            rest.append(Act("reset" if one.id in resumed else "resume", one.id, one.ship))
    for ship, origin in kept.items():
        now = alive[ship].origin if ship in alive else origin if ship in resting else None
        if now != origin:
            ends.append(MoveAway(ship))
    made: list[Step] = [Create(line) for ship, line in alive.items() if ship not in having]
    return [*ends, *rest, *made]
