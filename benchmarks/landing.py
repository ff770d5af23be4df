"""Landings a minute: a merge queue whose checks run side by side, beside one check at a time.

    python benchmarks/landing.py [--ships 8] [--tasks 24] [--seconds 5] [--alone 4] [--seed 1]

Prints JSON. All three voyages run on one drydock, one after another:

* ``alone``: one ship, so that there is one check at a time;
* ``together``: ``--ships`` ships, every check passes;
* ``failing``: the same with a tenth of the tasks (drawn by ``--seed``) whose first attempt fails its check.

The landings a minute are counted from the first claim to the last landing. ``wrong`` names what landed
without having passed its check, which must be nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
from typing import Any

from fleets import Fleet, Voyage, fleet

SHARE = 0.1


def task(name: str, seconds: float, *, fails: bool) -> dict[str, Any]:
    """Return a task whose check takes so long; ``fails``: that of its first attempt does not pass."""
    bad = f'test "$OCAPTAIN_ATTEMPT" != 1 || echo bad > f{name}' if fails else "true"
    return {"metadata": {"run": f"echo good > f{name}; {bad}", "verify": f"sleep {seconds}; grep -qx good f{name}"}}


def rate(voyage: Voyage, tasks: int) -> dict[str, Any]:
    """Wait for the end; return the landings a minute, and what landed wrongly."""
    try:
        voyage.until_landed(tasks)
        attempts = voyage.attempts()
        ended = [one.ended for one in attempts if one.state == "landed" and one.ended]
        took = max(ended) - min(one.started for one in attempts)
        repository = voyage.directory / "repo.git"
        listed = ["git", "-C", str(repository), "log", "--format=%H %(trailers:key=Task,valueonly)", voyage.name]
        history = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
        landed = [line.split() for line in history.splitlines() if len(line.split()) == 2]
        bad = []
        for commit, name in landed:
            shown = ["git", "-C", str(repository), "show", f"{commit}:f{name}"]
            content = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
            bad += [name] if content != "good\n" else []
        return {
            "landings": len(landed),
            "attempts": len(attempts),
            "seconds": round(took, 1),
            "landings_a_minute": round(60 * tasks / took, 1),
            "wrong": bad,
        }
    finally:
        voyage.sink()


def measure(sea: Fleet, asked: argparse.Namespace) -> dict[str, Any]:
    """Sail the three voyages."""
    names = [str(number) for number in range(1, asked.tasks + 1)]
    failing = set(random.Random(asked.seed).sample(names, max(1, round(SHARE * len(names)))))  # noqa: S311
    alone = {name: task(name, asked.seconds, fails=False) for name in names[: asked.alone]}
    good = {name: task(name, asked.seconds, fails=False) for name in names}
    some = {name: task(name, asked.seconds, fails=name in failing) for name in names}
    found = {
        "alone": rate(sea.sail(alone, 1), asked.alone),
        "together": rate(sea.sail(good, asked.ships), asked.tasks),
        "failing": rate(sea.sail(some, asked.ships), asked.tasks),
    }
    base = found["alone"]["landings_a_minute"]
    ratios = {name: round(found[name]["landings_a_minute"] / base, 2) for name in ("together", "failing")}
    return {**found, "times_alone": ratios, "load": os.getloadavg(), "processors": os.cpu_count()}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ships", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--alone", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with fleet() as sea:
        print(json.dumps(measure(sea, asked), indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
