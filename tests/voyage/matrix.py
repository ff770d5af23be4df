"""The kill matrix: what dies, in which phase of a voyage, and what must hold afterwards.

A :class:`Cell` is a voyage of its own and one death. A :class:`Cruise` is one voyage that meets a
death in every phase of its sailing, one after the other; a :class:`Sinking` one whose sink meets several.

Moments that last only milliseconds are held open: those of git by a ``git`` in front of the real
one that waits at a chosen command, those of the API by drydock's own faults.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import httpx

from ocaptain import process
from tests.helpers import Sailor, children, run_task, wait_for, write_plan

PHASES = ("provision", "bootstrap", "claim", "work", "offer", "landing: before", "landing: after", "verify", "sink")
SAILING = PHASES[2:8]


def is_api(victim: str) -> bool:
    """Whether it is the provider's answers."""
    return victim.startswith("API")


#: Victims that one voyage can meet while it is made.
MAKING = {
    "git": ("provision",),
    "ansible": ("provision", "bootstrap"),
    "command": ("provision", "bootstrap"),
    "exec sessions": ("bootstrap",),
    **dict.fromkeys(("API 429", "API 500", "API hangs", "API truncates"), ("provision", "bootstrap")),
}
#: Which victims are there in which phase.
VICTIMS = {
    "agent": ("work", "sink"),
    "supervisor": ("work", "sink"),
    "worker": (*SAILING, "sink"),
    "captain": SAILING,
    "exec sessions": ("bootstrap", *SAILING, "sink"),
    "git": ("provision", "claim", "offer", "landing: before", "landing: after", "sink"),
    "ansible": PHASES,
    "command": PHASES,
    "ship": PHASES,
    "channel 60 s": (*SAILING, "sink"),
    "captain stopped 120 s": SAILING,
    "disk full": PHASES,
    "API 429": PHASES,
    "API 500": PHASES,
    "API hangs": PHASES,
    "API truncates": PHASES,
}
#: They mostly wait. Of the first each phase takes minutes, so it is two voyages' work.
LONG = ("captain stopped 120 s", "channel 60 s", "API hangs")


def cruises() -> list[tuple[tuple[str, str], ...]]:
    """Return what single voyages can meet, one after the other.

    The command is resumed if it died, and a fleet that loses ships is a larger one. What ends a
    voyage's making can be met there, too.
    """
    found = []
    for victim, phases in VICTIMS.items():
        meets = [(victim, phase) for phase in (*MAKING.get(victim, ()), *SAILING) if phase in phases]
        if victim == LONG[0]:
            found += [tuple(meets[:3]), tuple(meets[3:])]
        elif victim == "worker":
            meets[2:2] = [("agent", "work"), ("supervisor", "work")]
        if victim not in {LONG[0], "agent", "supervisor"}:
            found.append(tuple(meets))
    return found


#: What one sink can meet: what ends it, one after the other; on each ship another death, and then
#: git's on the bundles that came; and each kind of answer.
SINKS = (
    ("command", "ansible"),
    ("agent", "supervisor", "worker", "exec sessions", "ship", "git"),
    ("API 429", "API 500", "API truncates"),
)
FAULTS = {
    "API 429": {"kind": "status", "status": 429, "retry_after": 0.5},
    "API 500": {"kind": "status", "status": 500},
    "API hangs": {"kind": "hang"},
    "API truncates": {"kind": "truncate"},
}
HOLDS = {
    "provision": {"call": "POST /v1/sprites", "kind": "hold", "after": 1},
    "bootstrap": {"call": "WS /v1/sprites/*/exec", "kind": "hold", "after": 1},
    "sink": {"call": "GET /v1/sprites/*/fs/read", "kind": "hold"},
}
#: More than what travels inside of a message.
MUCH = "head -c 100000 /dev/urandom > much"
#: The first git command of each moment (see ocaptain/captain/ship/ and landing/).
GIT = r"""#!/bin/sh
# Waits once at the command that is named in CTL/point, before or after it was carried out.
ctl=CTL
real=REAL
point=$(cat "$ctl/point" 2>/dev/null)
found=
words=" $* "
case $point in
  provision) case $words in *" clone --quiet --bare "*|*" init --quiet --bare "*) found=1 ;; esac ;;
  claim) case $words in *" pack-objects "*) found=1 ;; esac ;;
  sink) case $words in *" bundle create "*|*" fsck "*) found=1 ;; esac ;;
  offer) case $words in *" index-pack "*) found=1 ;; esac ;;
  "landing: "*)
    case $words in
      *" update-ref refs/heads/"*)
        rest=${words#*" update-ref "}
        set -f; set -- $rest "$@"; set +f
        [ "${#3}" = 40 ] && found=1
        words=1 ;;
    esac ;;
esac
wait_for_it() {
  echo $$ > "$ctl/at.tmp" && mv "$ctl/at.tmp" "$ctl/at"
  while [ ! -e "$ctl/go $point" ]; do sleep 0.05; done
}
if [ "$words" = 1 ]; then
  while [ "$1" != -c ]; do shift; done
fi
if [ -n "$found" ] && mkdir "$ctl/met $point" 2>/dev/null; then
  if [ "$point" = "landing: after" ]; then
    "$real" "$@"
    code=$?
    wait_for_it
    exit $code
  fi
  wait_for_it
fi
exec "$real" "$@"
"""
WAIT = 480
SUNK = 1 / 3  # share of the cells whose fleet is sunk at the end; the others must leave nothing unknown


class Cell:
    """A victim, a phase and a seed; :meth:`run` raises AssertionError if something was lost."""

    def __init__(self, victim: str, phase: str, seed: int, root: Path) -> None:
        self.victim, self.phase = victim, phase
        self.draw = random.Random(f"{seed}:{victim}:{phase}")
        self.sailor = Sailor(root)
        self.root = root
        self.ctl = root / "ctl"
        # Answers fail for one ship as for two; a sink needs one at work and one that landed.
        self.ships_wanted = "1" if is_api(victim) and phase != "sink" else "2"
        self.disk: Path | None = None
        self.process: subprocess.Popen | None = None
        self.seen: list[str] = []  # its voyages, in the order in which they came
        self.tasks = 4
        self.landed_first = ["2", "3"]  # before a sink begins, while task 1 is at work
        self.was = ""

    # -- the stage ---------------------------------------------------------------------------

    def set(self) -> None:
        (self.root / "bin").mkdir(parents=True)
        self.ctl.mkdir()
        shim = self.root / "bin/git"
        shim.write_text(GIT.replace("CTL", str(self.ctl)).replace("REAL", str(shutil.which("git"))))
        shim.chmod(0o755)
        self.sailor.env |= {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "OCAPTAIN_API_TIMEOUT": "60"}
        if is_api(self.victim):
            self.sailor.env["OCAPTAIN_API_TIMEOUT"] = "3"
        if self.victim == "disk full":
            self.disk = self.root / "voyages"
            self.disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "matrix", self.disk], check=True)
        if self.phase in {"provision", "bootstrap"}:  # else `sail` starts it, as it does for users
            self.sailor.json("drydock", "start")

    def go(self) -> None:
        """Let git go on, wherever it is held."""
        for phase in PHASES:
            (self.ctl / f"go {phase}").touch()

    def go_on(self) -> None:
        """Let git go on where it is held now."""
        self.go()

    def clear(self) -> None:
        self.go()
        with contextlib.suppress(Exception):
            self.sailor.faults()
        if self.process:
            if self.process.poll() is None:
                self.process.kill()
            self.process.communicate()
        if not self.was:  # it failed: whatever is left must not go on
            with contextlib.suppress(Exception):
                self.sailor.scuttle()
        self.sailor.stop_drydock()
        # Its own disk is mounted below its home as well.
        wait_for(lambda: not [line for line in self.sailor.leftovers() if not line.startswith("matrix ")])
        if self.disk:
            subprocess.run(["umount", self.disk], check=True)
        wait_for(lambda: self.sailor.leftovers() == [])

    @property
    def voyage(self) -> str | None:
        """The voyage that counts: where the first one could not be built, the one that came after it."""
        self.seen += sorted(path.name for path in self.sailor.voyages.glob("voyage-*") if path.name not in self.seen)
        return self.seen[-1] if self.seen else None

    def row(self, question: str):
        if not self.voyage:
            return None
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(self.sailor.voyage(self.voyage) / "ledger.db", timeout=5)) as db,
        ):
            found = db.execute(question).fetchone()
            return found[0] if found else None
        return None

    def plan(self) -> Path:
        long = 300 if self.phase == "sink" else 1.2
        tasks = [
            run_task(
                f"echo started; sleep {long}; echo 1 > f1"
                if long != 300
                else f"echo wip > wip; {MUCH}; echo started; sleep {long}"
            ),
            run_task("echo 2 > f2", verify="test -f f2"),
            run_task("echo started; sleep 0.4; echo 3 > f3", "2"),
            run_task("echo 4 > f4", "1", "3", verify="test -f f1 -a -f f3"),
        ]
        verify = "sleep 1.5; for n in 1 2 3 4; do test $(cat f$n) = $n; done"
        return write_plan(self.root / "plan", tasks, verify=verify)

    def says_started(self, task: str = "1") -> bool:
        logs = self.sailor.voyage(self.voyage).glob(f"logs/*/{task}.*.log")
        return any("started" in path.read_text() for path in logs)

    def sail_to_sink(self) -> None:
        """Sail until two tasks have landed and the others are at work."""
        self.sailor.json("sail", self.plan(), "-n", self.ships_wanted, "--json")
        wait_for(lambda: self.row("SELECT count(*) FROM tasks WHERE status = 'completed'") == 2, WAIT)
        wait_for(lambda: all(self.says_started(task) for task in self.at_work()), WAIT)

    def at_work(self) -> list[str]:
        """Return the tasks that a sink interrupts."""
        return ["1"]

    def loses_a_ship(self) -> bool:
        return self.victim == "ship"

    # -- the moment ----------------------------------------------------------------------------

    def reach(self) -> None:
        """Bring the voyage to the phase, and hold it there."""
        if self.phase == "sink":
            self.sail_to_sink()
        hold = HOLDS.get(self.phase)
        if self.victim == "git" or hold is None:
            if self.phase not in {"work", "verify"}:
                (self.ctl / "point").write_text(self.phase)
        elif hold and not is_api(self.victim):
            self.sailor.faults(hold)
        if self.phase == "sink":
            self.process = self.sailor.popen("sink", self.voyage, "--force")
        else:
            self.process = self.sailor.popen("sail", self.plan(), "-n", self.ships_wanted, "--wait", "--json")
        if (self.ctl / "point").exists():
            wait_for(lambda: (self.ctl / "at").exists(), WAIT)
        elif self.phase == "work":
            wait_for(lambda: self.row("SELECT 1 FROM attempts WHERE task = '1' AND base IS NOT NULL"), WAIT)
            time.sleep(self.draw.uniform(0.3, 1.0))
        elif self.phase == "verify":
            wait_for(lambda: self.row("SELECT 1 FROM voyage WHERE state = 'verifying'"), WAIT)
            time.sleep(self.draw.uniform(0.1, 1.0))
        elif not is_api(self.victim):
            wait_for(self.sailor.injected, WAIT)

    def release(self) -> None:
        self.go()
        if not is_api(self.victim):
            self.end_faults()

    def end_faults(self) -> None:
        """Have the API behave again; a drydock whose fleet was sunk meanwhile ends by itself, at any moment."""
        with contextlib.suppress(httpx.TransportError, OSError):
            if self.sailor.drydock():
                self.sailor.faults()

    # -- what dies --------------------------------------------------------------------------------

    def ships(self) -> list[str]:
        return [one["name"] for one in self.sailor.api("GET", "/v1/sprites").json()["sprites"]]

    def struck(self) -> list[str]:
        """Return the ships on which the victim dies."""
        if self.victim == "ship":
            busy = self.row("SELECT ship FROM tasks WHERE status = 'in_progress' ORDER BY id")
            return [ship for ship in self.ships() if busy is None or ship.endswith(busy)][:1]
        return self.ships()

    def inside(self, line: str) -> None:
        for ship in self.struck():
            self.sailor.inside(ship, line)

    def end_sessions(self) -> None:
        for ship in self.struck():
            for one in self.sailor.api("GET", f"/v1/sprites/{ship}/exec").json()["sessions"]:
                self.sailor.api("POST", f"/v1/sprites/{ship}/exec/{one['id']}/kill?signal=KILL&timeout=0s")

    def children(self) -> list[int]:
        """Return the processes that the command has started."""
        return children(self.process.pid)

    def captain(self) -> int | None:
        return process.captain_pid(self.sailor.voyage(self.voyage))

    def strike(self) -> None:
        match self.victim:
            case "agent":
                self.inside("pkill -KILL -f '[e]cho started'")
            case "supervisor":
                found = r"""sed 's/.*"pid": *\([0-9]*\).*/\1/' ~/.ocaptain/attempts/*/supervisor.json"""
                self.inside(f"kill -KILL $({found})")
            case "worker":
                self.inside("pkill -KILL -f '[w]orker.pyz serve'")
            case "captain":
                os.kill(self.captain(), signal.SIGKILL)
            case "exec sessions":
                self.end_sessions()
            case "git":
                os.kill(int((self.ctl / "at").read_text()), signal.SIGKILL)
            case "ansible":
                for pid in self.children():
                    os.kill(pid, signal.SIGKILL)
            case "command":
                self.process.kill()
            case "ship":
                for ship in self.struck():
                    self.sailor.api("DELETE", f"/v1/sprites/{ship}")
            case "channel 60 s":
                self.sailor.faults({"call": "* /v1/sprites/*/*", "status": 503})
                self.end_sessions_by_fault()
                time.sleep(60)
                self.end_faults()
            case "captain stopped 120 s":
                pid = self.captain()
                os.kill(pid, signal.SIGSTOP)
                self.go_on()
                time.sleep(120)
                os.kill(pid, signal.SIGCONT)
            case "disk full":
                self.fill()
            case _:
                self.sailor.faults(*self.answers(self.victim))

    def answers(self, victim: str) -> list[dict]:
        """Return the faults that make each kind of call fail twice."""
        calls = ("* /v1/sprites", "* /v1/sprites/*/exec", "* /v1/sprites/*/services/*")
        calls = (*calls, "* /v1/sprites/*/fs/*", "* /v1/sprites/*")
        return [{"call": call, "times": 2, **FAULTS[victim]} for call in calls]

    def end_sessions_by_fault(self) -> None:
        """Every open channel ends; none can be opened while the fault lasts."""
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = status.read_bytes().replace(b"\0", b" ")
                if b"worker.pyz channel" in line and self.owns(int(status.parent.name)):
                    os.kill(int(status.parent.name), signal.SIGKILL)

    def owns(self, pid: int) -> bool:
        """Whether a process is in one of this cell's sandboxes: their mounts name its home."""
        return str(self.root) in Path(f"/proc/{pid}/mountinfo").read_text()

    def fill(self) -> None:
        full = self.disk / "full"
        with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        self.go_on()
        self.sailor.faults()
        time.sleep(5)
        full.unlink()

    # -- what must hold -----------------------------------------------------------------------------

    def run(self) -> str:
        """Play the cell; return ``finished`` or how often it had to be resumed."""
        self.set()
        try:
            if is_api(self.victim) and self.phase in HOLDS:
                if self.phase == "sink":
                    self.reach_and_strike_early()
                else:
                    self.strike()
                    self.reach()
            else:
                self.reach()
                self.strike()
            self.release()
            self.was = self.sunk() if self.phase == "sink" else self.landed()
        finally:
            self.clear()
        return self.was

    def reach_and_strike_early(self) -> None:
        """The API's faults begin with the sink itself."""
        self.sail_to_sink()
        self.strike()
        self.process = self.sailor.popen("sink", self.voyage, "--force")

    def ended(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=WAIT)
        assert "Traceback" not in err, err
        assert "internal error" not in err, err
        return self.process.returncode, err

    def landed(self, tries: int = 0) -> str:
        code, err = self.ended()
        most = tries + 3
        while self.row("SELECT state FROM voyage") != "complete":
            tries += 1
            assert tries <= most, f"not complete after {tries - 1} times --resume: {err}"
            done = self.sailor.run("sail", *self.again(), "--wait", "--json", seconds=WAIT)
            assert "internal error" not in done.err, done.err
            err = done.err
        voyage = self.voyage
        assert sorted(self.sailor.landed(voyage), key=int) == [str(n) for n in range(1, self.tasks + 1)], err
        self.sound(voyage)
        with contextlib.closing(sqlite3.connect(self.sailor.voyage(voyage) / "ledger.db")) as db:
            ours = {sprite for (sprite,) in db.execute("SELECT sprite FROM ships")}
        self.sailor.faults()  # what is left of them is not for our own look
        assert set(self.ships()) <= ours
        if self.draw.random() < SUNK:
            sunk = self.sailor.run("sink", "--all", "--force", "--json", seconds=WAIT)
            left = [one["left"] for one in sunk.json["voyages"]]
            assert (sunk.code, left) == (0, [[]] * len(left)), sunk.err
            assert self.sailor.sprites() == 0
        else:
            self.end_captains()
        # A command that was killed in the end needed nobody to go on: its voyage did.
        assert tries or code in {0, 3} or self.victim in {"ansible", "command"}, err
        return f"resumed {tries}x" if tries else "finished"

    def again(self) -> list[str | Path]:
        """Return what a user would type next: a voyage of which nothing could be built is over."""
        known = self.voyage and self.row("SELECT state FROM voyage") not in {None, "sunk"}
        return ["--resume", self.voyage] if known else [self.root / "plan", "-n", self.ships_wanted]

    def end_captains(self) -> None:
        for path in self.sailor.voyages.glob("voyage-*/captain.pid"):
            if pid := process.captain_pid(path.parent):
                with contextlib.suppress(ProcessLookupError):  # it had just come to its own end
                    os.kill(pid, signal.SIGTERM)

    def sunk(self) -> str:
        code, err = self.ended()
        tries = 0
        while self.row("SELECT state FROM voyage") != "sunk":
            tries += 1
            assert tries <= 3, f"not sunk after {tries - 1} more times: {err}"
            err = self.sailor.run("sink", self.voyage, "--force", seconds=WAIT).err
        assert not self.sailor.names()
        self.sound(self.voyage)
        assert sorted(self.sailor.landed(self.voyage)) == self.landed_first
        git = self.sailor.git
        kept = git(self.voyage, "for-each-ref", "--format=%(refname)", "refs/ocaptain").split()
        found = [ref for ref in kept if "wip" in git(self.voyage, "ls-tree", "--name-only", ref).split()]
        # Work in progress is lost only with its ship.
        assert len(found) >= len(self.at_work()) - self.loses_a_ship(), kept
        return "finished" if tries == 0 and code == 0 else f"again {tries}x"

    def sound(self, voyage: str) -> None:
        """No object is broken, no offered commit is lost."""
        git = self.sailor.git
        assert git(voyage, "fsck", "--no-progress", "--no-dangling") == ""
        refs = git(voyage, "for-each-ref", "--format=%(refname)").split()
        with contextlib.closing(sqlite3.connect(self.sailor.voyage(voyage) / "ledger.db")) as db:
            offers = db.execute("SELECT token, task, number, work FROM attempts WHERE work IS NOT NULL").fetchall()
            landed = db.execute("SELECT commit_id FROM tasks WHERE commit_id IS NOT NULL").fetchall()
        for token, task, number, work in offers:
            names = (f"refs/ocaptain/tasks/{task}/{number}/work", f"refs/ocaptain/stale/{token}")
            held = {git(voyage, "rev-parse", ref) for ref in refs if ref in names}
            assert work in held, (task, number, work)
        branch = git(voyage, "rev-list", voyage).split()
        assert all(commit in branch for (commit,) in landed)


class Cruise(Cell):
    """A voyage that meets each of ``meets`` (a victim and a phase) while it sails, in turn."""

    def __init__(self, meets: tuple[tuple[str, str], ...], seed: int, root: Path) -> None:
        victim, phase = meets[0]
        super().__init__(victim, phase, seed, root)
        self.meets = meets
        self.ships_wanted = "2"
        self.tasks = 16  # each phase needs a task or two that is not done yet
        if victim == "ship":
            self.ships_wanted, self.tasks = str(len(meets) + 1), 40
        self.met: list[tuple[str, str]] = []
        self.resumed = 0

    def plan(self) -> Path:
        tasks = [
            run_task(f"sleep 1; echo {n} > f{n}", **({"verify": f"test -f f{n}"} if n % 2 else {}))
            for n in range(1, self.tasks + 1)
        ]
        verify = f"sleep 1.5; for n in $(seq {self.tasks}); do test $(cat f$n) = $n; done"
        return write_plan(self.root / "plan", tasks, verify=verify)

    def begin(self) -> None:
        """Sail; the first phase is held from the start."""
        first = self.phase
        if first in HOLDS and is_api(self.victim):
            self.strike()
        elif first in HOLDS and self.victim != "git":
            self.sailor.faults(HOLDS[first])
        else:
            self.hold(first)
        self.process = self.sailor.popen("sail", self.plan(), "-n", self.ships_wanted, "--wait", "--json")

    def hold(self, phase: str) -> None:
        (self.ctl / "at").unlink(missing_ok=True)
        (self.ctl / "point.new").write_text(phase)
        (self.ctl / "point.new").replace(self.ctl / "point")

    def until(self, check) -> None:
        """Wait for ``check``; a command that gave up meanwhile is resumed, as a user would."""

        def look():
            if self.process.poll() is not None and self.row("SELECT state FROM voyage") != "complete":
                _, err = self.ended()
                self.resumed += 1
                assert self.resumed <= len(self.meets), err
                self.process = self.sailor.popen("sail", *self.again(), "--wait", "--json")
            return check()

        wait_for(look, WAIT)

    def meet(self, victim: str, phase: str) -> None:
        """Bring the voyage to ``phase`` and let ``victim`` die there."""
        self.victim, self.phase = victim, phase
        if phase in HOLDS and victim != "git":
            self.meet_while_made(phase)
        else:
            self.meet_while_it_sails(phase)
        self.met.append((victim, phase))

    def meet_while_it_sails(self, phase: str) -> None:
        if self.victim in {"ansible", "command"}:
            self.until(self.children)  # of one that is resumed
        self.hold(phase)
        if phase == "work":
            newest = self.row("SELECT max(token) FROM attempts") or 0
            begun = f"SELECT 1 FROM attempts WHERE token > {newest} AND state = 'claimed' AND base IS NOT NULL"
            self.until(lambda: self.row(begun))
            time.sleep(self.draw.uniform(0.1, 0.6))
        elif phase == "verify":
            self.until(lambda: self.row("SELECT 1 FROM voyage WHERE state = 'verifying'"))
            time.sleep(self.draw.uniform(0.1, 1.0))
        else:
            self.until(lambda: (self.ctl / "at").exists())
        if self.victim == "captain":
            self.until(self.captain)  # the waiting `sail` starts one that died
        self.strike()
        self.go_on()

    def meet_while_made(self, phase: str) -> None:
        if is_api(self.victim):
            if phase == "provision":
                self.until(self.sailor.injected)
            else:
                self.until(lambda: self.sailor.sprites() == int(self.ships_wanted))  # a call that no fault meets
                self.strike()
            return
        if self.met:  # what was struck has ended the command
            self.process.wait(WAIT)
            self.sailor.faults(HOLDS[phase])
        self.until(self.sailor.injected)
        self.strike()
        self.sailor.faults()

    def go_on(self) -> None:
        (self.ctl / f"go {self.phase}").touch()

    def run(self) -> str:
        """Play all phases; return how it ended, which is the outcome of each of them."""
        self.set()
        try:
            self.begin()
            for victim, phase in self.meets:
                self.meet(victim, phase)
            self.release()
            self.was = self.landed(self.resumed)
        finally:
            self.clear()
        return self.was


class Sinking(Cell):
    """A fleet whose sink meets the deaths of ``victims``, which is a row of :data:`SINKS`."""

    def __init__(self, victims: tuple[str, ...], seed: int, root: Path) -> None:
        super().__init__(victims[0], "sink", seed, root)
        self.victims = victims
        self.on_ships = "ship" in victims
        if self.on_ships:
            self.ships_wanted = str(len(victims) - 1)
            self.landed_first = ["1", "2"]
        else:
            self.ships_wanted = "2"

    def at_work(self) -> list[str]:
        return [str(number) for number in range(3, 2 + len(self.victims))] if self.on_ships else ["1"]

    def plan(self) -> Path:
        if not self.on_ships:
            return super().plan()
        long = [run_task(f"echo wip > wip; {MUCH}; echo started; sleep 300") for _ in self.at_work()]
        tasks = [run_task("echo 1 > f1"), run_task("echo 2 > f2", "1"), *long]
        return write_plan(self.root / "plan", tasks)

    def loses_a_ship(self) -> bool:
        return self.on_ships

    def struck(self) -> list[str]:
        """Each ship meets another death."""
        return [self.fleet[self.victims.index(self.victim)]] if self.on_ships else super().struck()

    def run(self) -> str:
        """Play it; return how it ended, which is the outcome for each of the victims."""
        self.set()
        try:
            self.sail_to_sink()
            self.fleet = self.ships()
            if is_api(self.victim):
                self.sailor.faults(*[fault for victim in self.victims for fault in self.answers(victim)])
                self.process = self.sailor.popen("sink", self.voyage, "--force")
            elif self.on_ships:
                (self.ctl / "point").write_text(self.phase)
                self.hold_sink(self.sailor.injected, HOLDS["sink"])
                for victim in self.victims:
                    self.victim = victim
                    if victim == "git":
                        self.sailor.faults()
                        wait_for((self.ctl / "at").exists, WAIT)
                    self.strike()
            else:
                for victim in self.victims:
                    self.victim = victim
                    self.hold_sink(self.sailor.injected, HOLDS["sink"])
                    self.strike()
                    self.sailor.faults()
                    if victim != self.victims[-1]:
                        self.ended()
            self.release()
            self.was = self.sunk()
        finally:
            self.clear()
        return self.was

    def hold_sink(self, held, *faults: dict) -> None:
        """Sink until ``held``; a sink that found the one before still there is called again."""
        self.sailor.faults(*faults)
        self.process = self.sailor.popen("sink", self.voyage, "--force")

        def look():
            if self.process.poll() is not None and self.row("SELECT state FROM voyage") != "sunk":
                self.process.communicate()
                self.process = self.sailor.popen("sink", self.voyage, "--force")
            return held()

        wait_for(look, WAIT)


class ProviderDies(Cell):
    """The provider is killed in a phase; then the voyage is resumed, or sunk."""

    def __init__(self, phase: str, then: str, seed: int, root: Path) -> None:
        super().__init__("provider dies", phase, seed, root)
        self.then = then
        self.draw = random.Random(f"{seed}:provider:{phase}:{then}")

    def plan(self) -> Path:
        if self.phase == "sink":
            return super().plan()
        tasks = [
            run_task("echo wip > wip; echo started; sleep 3; echo 1 > f1; rm wip"),
            run_task("echo 2 > f2", verify="test -f f2"),
            run_task("echo 3 > f3", "2"),
            run_task("echo 4 > f4", "1", "3", verify="test -f f1 -a -f f3"),
        ]
        return write_plan(
            self.root / "plan", tasks, verify="sleep 1.5; for n in 1 2 3 4; do test $(cat f$n) = $n; done"
        )

    def reach(self) -> None:
        super().reach()
        if self.phase == "work":  # there is something to save, however slow the machine is
            wait_for(self.says_started, WAIT)

    def strike(self) -> None:
        pid = self.sailor.drydock().pid
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: (found := self.sailor.drydock()) is None or found.pid != pid)  # a captain starts it again

    def run(self) -> str:
        self.set()
        try:
            self.reach()
            self.strike()
            self.go()
            if self.then == "sink":
                self.was = self.interrupt_and_sink()
            elif self.phase == "sink":
                self.process.communicate(timeout=WAIT)
                self.was = self.taken_up()
            else:
                self.was = self.landed()
        finally:
            self.clear()
        return self.was

    def interrupt_and_sink(self) -> str:
        """Interrupt the command, as a user would, and sink: what was at work is saved, what landed stays."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=WAIT)
        had_work = self.phase == "work"
        err = ""
        for tries in range(4):
            if self.row("SELECT state FROM voyage") == "sunk" and tries:
                break
            err = self.sailor.run("sink", self.voyage, "--force", seconds=WAIT).err
        assert self.row("SELECT state FROM voyage") == "sunk", err
        assert self.nothing_left(), err
        self.sound(self.voyage)
        done = self.row("SELECT group_concat(id) FROM tasks WHERE status = 'completed'")
        assert sorted(self.sailor.landed(self.voyage)) == sorted((done or "").split(",") if done else [])
        if had_work or self.phase == "sink":
            git = self.sailor.git
            kept = git(self.voyage, "for-each-ref", "--format=%(refname)", "refs/ocaptain").split()
            names = {name for ref in kept for name in git(self.voyage, "ls-tree", "--name-only", ref).split()}
            assert names & {"wip", "f1"}, (kept, err)
        return "finished" if tries == 1 else f"again {tries - 1}x"

    def taken_up(self) -> str:
        """Resume a voyage whose sink met the death, unless that came to its end; the long task is at work again."""
        if self.row("SELECT state FROM voyage") != "sunk":
            done = self.sailor.run("sail", "--resume", self.voyage, "--json", seconds=WAIT)
            assert done.code in {0, 3}, done.err
            wait_for(lambda: self.row("SELECT 1 FROM tasks WHERE id = '1' AND status = 'in_progress'"), WAIT)
        assert sorted(self.sailor.landed(self.voyage)) == self.landed_first
        self.sound(self.voyage)
        self.process = self.sailor.popen("sink", self.voyage, "--force")
        return self.sunk()

    def nothing_left(self) -> bool:
        """Whether no sprite exists, on no disk."""
        if (found := self.sailor.names()) is not None:
            return found == []
        place = self.root / "state/ocaptain/drydock/sprites"
        return not place.is_dir() or not any(place.iterdir())
