"""What hostile ships cost the others: packs that no git writes, and words that no worker says.

    python benchmarks/hostile.py [--tasks 60] [--seconds 40] [--only packs|scripts]

Prints JSON. The captain runs in a process of its own over ships in the same process (``tests/impostors.py``), so that
all of what they send goes through its channels and its quarantine. One ship is honest and has ``--tasks`` short
tasks, one after the other; it is measured alone, beside as many other honest ships (``crowd``), then beside each kind
of hostile ships:

* ``longest_wait``: seconds from an offer of the honest ship to its next command: what it was kept waiting;
* ``loop``: the longest that one callback kept the event loop's thread, in seconds of its processor time;
* ``captain`` and ``git``: the peak of their memory, in MiB; ``git`` is the largest of its children at one time;
* ``landed``: tasks of the honest ship; ``taken``: landings of the others, which must be none;
* ``left``: files in the repository beside those of landings (packs, loose objects and refs that ``git fsck`` and a
  list of its refs explain), which must be none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from callbacks import LongestCallback

from ocaptain.captain.life import Captain
from ocaptain.git import Git
from tests.hostile import PACKS
from tests.impostors import SCRIPTS, Impostor, honest_work, hostile_ships
from tests.voyage.local import command, landed, make_voyage

KINDS: dict[str, dict[str, Any]] = {
    "alone": {},
    "crowd": dict.fromkeys(PACKS),
    "packs": PACKS,
    "scripts": SCRIPTS,
    "all": {**PACKS, **SCRIPTS},
}


HOSTILE = ("packs", "scripts", "all")


class Children:
    """The most memory that this process's children had at one time, in MiB."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, sum(map(_memory, _children())) / 1024)

    def end(self) -> None:
        """Watch no more."""
        self._over.set()
        self._thread.join()


def _children() -> list[str]:
    found: list[str] = []
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            found += (task / "children").read_text().split()
    return found


def _memory(process: str) -> int:
    """Return the resident memory of a process that is not ours to share, in KiB; 0 before it runs git."""
    with contextlib.suppress(OSError, IndexError):
        if Path(f"/proc/{process}/comm").read_text().strip() != "git":
            return 0
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
    return 0


async def sail(directory: Path, ships: list[Impostor], tasks: int, seconds: float) -> None:
    """Run a captain until the honest ship has landed its tasks, or for so long."""
    with command(directory) as ledger:
        captain = Captain(directory, ledger, lambda row: ships[int(row.id.removeprefix("ship-"))])
        running = asyncio.create_task(captain.run())
        until = time.monotonic() + seconds
        while not running.done() and time.monotonic() < until:
            await asyncio.sleep(0.2)
            held = sum(one["status"] == "completed" for one in ledger.rows("tasks", "position"))
            if held >= tasks and all(ship.opened for ship in ships):
                break
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def one(kind: str, tasks: int, seconds: float) -> dict[str, Any]:
    """Measure one kind, in this process."""
    loop, children = LongestCallback(), Children()
    with tempfile.TemporaryDirectory() as root:
        names = list(KINDS[kind])
        work = [{"run": "true", "pin": "ship-0"}] * tasks
        # Each hostile ship has two tasks: it is taken out of service after its second fault.
        work += [{"run": "true", "pin": f"ship-{number}"} for number in range(1, len(names) + 1) for _ in (1, 2)]
        directory = make_voyage(Path(root), work, len(names) + 1)
        sound = {name: Impostor(directory, honest_work) for name in names}
        hostile = hostile_ships(directory, names) if kind in HOSTILE else sound
        honest = Impostor(directory, honest_work)
        began = time.monotonic()
        asyncio.run(sail(directory, [honest, *(hostile[name] for name in names)], tasks, seconds))
        took = time.monotonic() - began
        children.end()
        while any((directory / "repo.git/incoming").glob("*")) and time.monotonic() < began + took + 60:
            time.sleep(0.1)  # what was looked at when the captain was stopped
        git = Git(directory / "repo.git")
        done = {int(task) for task in landed(directory)}
        waits = sorted(honest.waits)
        return {
            "ships": len(names) + 1,
            "seconds": round(took, 1),
            "landed": len(done & set(range(1, tasks + 1))),
            "taken": sorted(done - set(range(1, tasks + 1))),
            "longest_wait": round(waits[-1], 3) if waits else None,
            "median_wait": round(waits[len(waits) // 2], 3) if waits else None,
            "loop": round(loop.seconds, 3),
            "loop_what": loop.what,
            "captain": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "git": round(children.peak),
            "left": leftovers(git),
        }


def leftovers(git: Git) -> list[str]:
    """Return what is in a repository that no landing and no offer that was taken brought."""
    found = [str(path) for path in (git.directory / "incoming").glob("*")]
    found += [str(path) for path in (git.directory / "objects").rglob("tmp_*")]
    known = set(git.text("rev-list", "--objects", "--no-object-names", "--all").split())
    listed = git.text("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)").splitlines()
    # Commits that candidates were made of are not reachable, as ever; whatever else is not came from a ship.
    return [*found, *(line for line in listed if line.split()[0] not in known and not line.endswith("commit"))]


def main() -> None:
    """Measure each kind in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        print(json.dumps(one(asked.only, asked.tasks, asked.seconds)))  # noqa: T201
        return
    found: dict[str, Any] = {}
    for kind in [asked.only] if asked.only else KINDS:
        given = ["--only", kind, "--tasks", str(asked.tasks), "--seconds", str(asked.seconds)]
        done = subprocess.run([sys.executable, __file__, "--here", *given], capture_output=True, text=True, check=False)
        found[kind] = json.loads(done.stdout) if not done.returncode else done.stderr[-2000:]
    print(json.dumps({**found, "load": os.getloadavg(), "processors": os.cpu_count()}, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
