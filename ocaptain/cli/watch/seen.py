"""What the screen knows of the voyage: read in a thread, since files and git may block."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from rich.cells import chop_cells
from rich.text import Text

from ocaptain.cli.facts import no_captain_text
from ocaptain.cli.next_step import Standing, after_voyage, fold_steps, standing_of
from ocaptain.cli.reported import reported_text
from ocaptain.cli.style import BAD, BUSY, QUIET, fit, with_symbol
from ocaptain.cli.watch.logs import LogTail
from ocaptain.errors import OcaptainError
from ocaptain.process import is_captain_running
from ocaptain.query import ENDED
from ocaptain.query.watch import Watcher
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.query import Snapshot
    from ocaptain.telemetry.store import Reported

#: Of a log that is longer, the pane has the last bytes.
PANE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Seen:
    """What was read last.

    Attributes:
        snapshot: of the voyage; None if it could never be read.
        fault: why it cannot be read now, None if it can.
        has_captain: whether a captain is in command.
        actions: what each ship does, by ship.
        log: the log that the new lines are of, below the voyage's directory; None for none.
        lines: of that log, new since the last reading.
        is_new_log: whether the log is another one than at the last reading.
        reported: what agents reported by OTLP, None if nothing.
    """

    snapshot: Snapshot | None = None
    fault: str | None = None
    has_captain: bool = True
    actions: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    lines: tuple[str, ...] = ()
    is_new_log: bool = False
    reported: Reported | None = None


class Reader:
    """Reads a voyage again and again. Not for several threads at once.

    Args:
        directory: the voyage's.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._watcher = Watcher(directory)
        self._last = Seen()
        self._tail: LogTail | None = None

    def read(self, ship: str | None) -> Seen:
        """Return what is to be shown now; what cannot be read is as it was, with the reason.

        Args:
            ship: whose log is read, None for none.
        """
        snapshot, fault = self._last.snapshot, None
        try:
            snapshot = self._watcher.snapshot()
        except (OcaptainError, OSError, sqlite3.Error) as error:
            fault = str(error)
        except (KeyError, TypeError, ValueError) as error:  # rows that no ledger of ours has
            fault = f"{self.directory / 'ledger.db'} is damaged ({type(error).__name__}); restore it from a copy"
        path = find_log(snapshot, ship) if snapshot else None
        is_new = path is not None and (self._tail is None or self._tail.path != self.directory / path)
        if path is not None and is_new:
            self._tail = LogTail(self.directory / path, PANE_BYTES)
        self._last = Seen(
            snapshot,
            fault,
            is_captain_running(self.directory),
            self._watcher.actions(),
            self._tail.path if self._tail else None,
            tuple(self._tail.read()) if self._tail else (),
            is_new,
            self._watcher.reported(),
        )
        return self._last


def find_log(snapshot: Snapshot, ship: str | None) -> PurePath | None:
    """Return the log of what a ship works on, else of what it did last, below the voyage's directory."""
    for one in snapshot.ships:
        if one.id == ship and one.log is not None:
            return one.log
    done = [task for task in snapshot.tasks if task.ship == ship and task.attempt and task.began is not None]
    last = max(done, key=lambda task: task.began or 0.0, default=None)
    return PurePath("logs", last.ship or "", f"{last.id}.{last.attempt}.log") if last else None


def standing(seen: Snapshot, *, has_captain: bool) -> Standing:
    """Return what the next step of a voyage depends on."""
    return standing_of(seen.about, tuple(one.id for one in seen.failed), has_captain=has_captain)


def notice_lines(seen: Seen, said: Text | None, width: int) -> list[Text]:
    """Return the lines above the keys: what is wrong, how the voyage ended, what to type, what a key did.

    Args:
        seen: what was read.
        said: the answer to a key, None if there is none to show.
        width: in cells.
    """
    lines: list[Text] = []
    if seen.fault:
        lines += [Text(line, style=BAD) for line in _fold(clean_line(f"✗ {seen.fault}"), width, 4)]
    if said is not None:
        lines += [Text(line, style=said.style) for line in _fold(said.plain, width, 3)]
    if snapshot := seen.snapshot:
        about = snapshot.about
        at = standing(snapshot, has_captain=seen.has_captain)
        if about.state in {*ENDED, "sinking"} or about.state == "paused":
            note = next((text for text in (about.proves, about.note) if text), "")
            head = with_symbol(about.state)
            first, *more = _fold(clean_line(note), width, 2, less=head.cell_len + 2) if note else [""]
            lines += [head.append(f"  {first}" if first else ""), *map(Text, more)]
            lines += [Text(fit_indented(one, width)) for one in fold_steps(after_voyage(at), width)]
        elif about.state in {"running", "verifying"} and not seen.has_captain:
            lines.append(Text(fit(no_captain_text(about.voyage), width), style=BUSY))
        elif about.held_tasks:
            names = ", ".join(about.held_tasks)
            lines.append(Text(fit(f"waits for approval (A): task {names}", width), style=BUSY))
    words = ["q leaves; the voyage sails on", reported_text(seen.reported)]
    return lines or [Text(fit(" · ".join(filter(None, words)), width), style=QUIET)]


def fit_indented(line: str, width: int) -> str:
    """Return a line cut to a width, with the spaces at its beginning."""
    indent = len(line) - len(line.lstrip())
    return " " * indent + fit(line, width - indent)


def _fold(line: str, width: int, most: int, less: int = 0) -> list[str]:
    """Return a line in at most ``most`` pieces, the first shorter by ``less`` cells; what is cut ends with ``…``."""
    first = chop_cells(line, max(2, width - less))[0]
    rest = chop_cells(line[len(first) :], max(2, width)) or [""]
    pieces = [first, *rest]
    if len(pieces) > most:
        pieces = [*pieces[: most - 1], fit("".join(pieces[most - 1 :]), width)]
    return [piece for piece in pieces if piece]


def farewell(seen: Seen, voyage: str) -> str:
    """Return the line that is printed when the user leaves."""
    if seen.snapshot is None:
        return f"{voyage} cannot be read: {seen.fault or 'not yet'}"
    at = standing(seen.snapshot, has_captain=seen.has_captain)
    if at.state in {"running", "verifying"}:
        how = "sails on" if seen.has_captain else "has no captain"
    else:
        how = f"is {at.state}"
    return f"{voyage} {how}; {after_voyage(at)}"
