"""What a look at the files of a running attempt costs, beside a bare ``git status``.

    python benchmarks/live.py [--files 10000] [--rounds 5]

Prints JSON. In each round, one after the other on the same files: ``status``, a bare ``git status`` of the agent's
own repository with its untracked cache; ``nothing_new``, a look where nothing has changed; ``one_changed``, a look
after one file was changed, with ``bytes`` of its bundle. Medians in seconds; ``ratio`` is that of ``nothing_new`` to
``status``, ``load`` the machine's while it ran.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocaptain.protocol.limits import Limits
from ocaptain.worker.live import LiveView
from ocaptain.worker.places import Places
from ocaptain.worker.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDERS = 200


def git(places: Places, *arguments: str) -> str:
    """Run git in the worker's own git directory; return its output."""
    who = {f"GIT_{one}_{what}": "bench@example" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    there = {**os.environ, **who, "GIT_DIR": str(places.git), "GIT_WORK_TREE": str(places.workspace)}
    argv = ["git", *arguments]
    done = subprocess.run(argv, cwd=places.workspace, env=there, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def make(home: Path, files: int) -> tuple[Places, str]:
    """Make a ship with a workspace of so many files; return its places and the commit."""
    places = Places(home)
    places.make()
    work = Workspace(places, "ship-0")
    work.initialize()
    for number in range(files):
        folder = places.workspace / f"d{number % FOLDERS}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_text(f"{number}\n")
    git(places, "add", "--all")
    base = git(places, "commit-tree", git(places, "write-tree"), "-m", "files")
    work.reset(base, "voyage")
    own = ["git", "-C", str(places.workspace)]
    subprocess.run([*own, "config", "core.untrackedCache", "true"], check=True)
    return places, base


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long something took, and what it returned."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def measure(places: Places, base: str, rounds: int) -> dict[str, Any]:
    """Return the medians of some rounds."""
    view, limits = LiveView(places, "ship-0", 1, base), Limits()
    status = ["git", "-C", str(places.workspace), "status", "--porcelain"]
    took: dict[str, list[float]] = {"status": [], "nothing_new": [], "one_changed": []}
    sizes, have = [], ""
    for _ in range(3):  # the caches of both
        subprocess.run(status, check=True, capture_output=True)
        view.look(0, have, limits)
    for number in range(1, rounds + 1):
        took["status"].append(timed(lambda: subprocess.run(status, check=True, capture_output=True))[0])
        seconds, seen = timed(lambda number=number, have=have: view.look(2 * number, have, limits))
        assert seen.snapshot is None
        took["nothing_new"].append(seconds)
        (places.workspace / "d0/f0").write_text(f"round {number}\n")
        seconds, seen = timed(lambda number=number, have=have: view.look(2 * number + 1, have, limits))
        took["one_changed"].append(seconds)
        sizes.append(sum(part.size for part in seen.snapshot.bundle.parts))
        have = seen.snapshot.commit
        view.look(0, have, limits)
        subprocess.run(status, check=True, capture_output=True)
    medians = {name: round(statistics.median(found), 4) for name, found in took.items()}
    ratio = round(medians["nothing_new"] / medians["status"], 2)
    return {**medians, "ratio": ratio, "bytes": max(sizes)}


def main() -> None:
    """Measure, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        places, base = make(Path(home), options.files)
        found = measure(places, base, options.rounds)
    told = {"files": options.files, **found, "load": round(os.getloadavg()[0], 1)}
    sys.stdout.write(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
