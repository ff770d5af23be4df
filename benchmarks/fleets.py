"""Sailing whole voyages on a drydock of one's own, for measuring: what the machine did meanwhile, by part."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OCAPTAIN = Path(sys.executable).parent / "ocaptain"
TICKS = os.sysconf("SC_CLK_TCK")
SECONDS = 3600.0


@dataclass(frozen=True)
class Work:
    """Processor seconds, by part.

    Attributes:
        captain: with its git.
        drydock: the server, without its ships.
        machine: everything, whoever did it.
        at: when, seconds.
    """

    captain: float
    drydock: float
    machine: float
    at: float

    def since(self, before: Work) -> Work:
        """Return what was done since then."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(before), strict=True)
        return Work(*(new - old for new, old in pairs))


@dataclass(frozen=True)
class Row:
    """An attempt, as the ledger has it: when it was claimed, and when it was over."""

    task: str
    ship: str
    started: float
    ended: float | None
    state: str


def used(pid: int) -> float:
    """Return the processor seconds of a process and of the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def machine() -> float:
    """Return the processor seconds of everybody."""
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + soft) / TICKS


class Fleet:
    """A home with a drydock of its own; made by :func:`fleet`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPRITE", "OCAPTAIN_"))}
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
        self.environment = {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": cache}
        self.record = self.ocaptain("drydock", "start", "--idle", "0")

    def ocaptain(self, *arguments: str, ok: Sequence[int] = (0,)) -> dict[str, Any]:
        """Run the command line; return what it printed.

        Raises:
            RuntimeError: its exit code is not one of ``ok``.
        """
        argv = [OCAPTAIN, *arguments]
        done = subprocess.run(
            argv, env=self.environment, cwd=self.home, check=False, capture_output=True, text=True, timeout=SECONDS
        )
        if done.returncode not in ok:
            raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-3000:]}")
        return dict(json.loads(done.stdout)) if done.stdout.startswith("{") else {}

    def sail(self, tasks: Mapping[str, Mapping[str, Any]], ships: int) -> Voyage:
        """Sail a plan; return when its captain runs."""
        plan = self.home / "plan"
        shutil.rmtree(plan, ignore_errors=True)
        (plan / "tasks").mkdir(parents=True)
        (plan / "spec.md").write_text("# Measured\n")
        (plan / "verify.sh").write_text("true\n")
        (plan / "voyage.json").write_text("{}")
        for name, task in tasks.items():
            whole = {"id": name, "subject": f"Task {name}", "description": "", **task}
            (plan / "tasks" / f"{name}.json").write_text(json.dumps(whole))
        made = self.ocaptain("sail", str(plan), "-n", str(ships), "--provider", "drydock", "--new", "--json")
        return Voyage(self, made["voyage"], Path(made["directory"]))


class Voyage:
    """A voyage that sails."""

    def __init__(self, fleet: Fleet, name: str, directory: Path) -> None:
        self.fleet = fleet
        self.name = name
        self.directory = directory
        self.captain = int((directory / "captain.pid").read_text().split()[0])
        self._db = sqlite3.connect(f"file:{directory / 'ledger.db'}?mode=ro", uri=True, timeout=30)

    def work(self) -> Work:
        """Return what was done until now."""
        return Work(used(self.captain), used(int(self.fleet.record["pid"])), machine(), time.time())

    def peak_mebibytes(self) -> float:
        """Return the most memory that the captain had."""
        status = Path(f"/proc/{self.captain}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def landed(self) -> int:
        """Return how many tasks have landed."""
        return int(self._db.execute("SELECT count(*) FROM tasks WHERE status = 'completed'").fetchone()[0])

    def state(self) -> str:
        """Return how the voyage stands."""
        return str(self._db.execute("SELECT state FROM voyage").fetchone()[0])

    def attempts(self) -> list[Row]:
        """Return every attempt."""
        rows = self._db.execute("SELECT task, ship, started, ended, state FROM attempts ORDER BY token")
        return [Row(*row) for row in rows]

    def until_landed(self, count: int) -> Work:
        """Wait until so many tasks have landed; return what was done by then."""
        while self.landed() < count:
            if self.state() in {"failed", "paused"}:
                raise RuntimeError(f"{self.name} is {self.state()} after {self.landed()} landings")
            time.sleep(0.05)
        return self.work()

    def sink(self) -> None:
        """Give everything back."""
        self._db.close()
        self.fleet.ocaptain("sink", self.name, "--force", "--abandon", "--json")


@contextlib.contextmanager
def fleet() -> Iterator[Fleet]:
    """Yield a home with a drydock; both go afterwards."""
    with tempfile.TemporaryDirectory(prefix="ocaptain-bench-") as made:
        found = Fleet(Path(made))
        try:
            yield found
        finally:
            with contextlib.suppress(RuntimeError):
                found.ocaptain("drydock", "stop", "--force")  # also with the ships of a voyage that failed
