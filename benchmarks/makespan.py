"""What a fleet takes for a plan, beside what the simulation says, and from a landing to the next agent.

    python benchmarks/makespan.py [--graphs 12] [--tasks 40] [--ships 10] [--seed 1] [--chain 40]
                                  [--only long|short|chain] [--max-load 3]

Prints JSON. Everything is sailed on one drydock, one voyage after another:

* ``long`` and ``short``: ``--graphs`` random graphs each, of tasks that sleep 2 to 12 s, or 0.2 to 2 s. The
  makespan is counted from the landing of a first task that all others wait for, so that the fleet is there, to the
  last landing; ``ratio`` is that over the simulated one. ``overhead`` is what an attempt took beyond its sleep,
  on average, and ``predicted`` the simulation with it over the makespan. No graph begins while others have the
  machine (a load above ``--max-load``).
* ``chain``: tasks that wait for one another: from each landing to the moment when the next agent says what time
  it is; beside the bare chain, in turn on a sprite of its own: ``git bundle create``, upload, then ``bundle verify``,
  ``read-tree -u`` and ``tmux new-window`` of something that says what time it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from fleets import Fleet, Voyage, fleet

from ocaptain.plan.simulate import Job, simulate
from ocaptain.sprites import SpritesClient

GATE = "gate"
MAX_BEFORE = 3
ROUNDS = 20


def graph(seed: int, count: int, shortest: float, longest: float) -> list[Job]:
    """Return a random plan."""
    drawn = random.Random(seed)  # noqa: S311
    jobs: list[Job] = []
    for number in range(count):
        before = [job.task for job in jobs[-12:]]
        waits = drawn.sample(before, min(len(before), drawn.choice((0, 1, 1, 2, MAX_BEFORE)))) if before else []
        jobs.append(Job(f"{number:02}", round(drawn.uniform(shortest, longest), 2), frozenset(waits)))
    return jobs


def plan_of(jobs: list[Job]) -> dict[str, dict[str, Any]]:
    """Return the tasks of a plan that plays a graph once its gate has landed."""
    tasks = {GATE: {"metadata": {"run": "sleep 3", "estimate": {"seconds": 1}}}}
    for job in jobs:
        about = {"run": f"sleep {job.seconds}", "estimate": {"seconds": job.seconds}}
        tasks[job.task] = {"metadata": about, "blockedBy": sorted(job.waits) or [GATE]}
    return tasks


def until_quiet(max_load: float) -> float:
    """Wait until others leave the machine to us; return the load."""
    while (load := os.getloadavg()[0]) > max_load:
        time.sleep(5)
    return load


def sail_graph(sea: Fleet, jobs: list[Job], asked: argparse.Namespace) -> dict[str, Any]:
    """Sail a graph; return how long it took."""
    load = until_quiet(asked.max_load)
    voyage = sea.sail(plan_of(jobs), asked.ships)
    try:
        voyage.until_landed(len(jobs) + 1)
        attempts = voyage.attempts()
    finally:
        voyage.sink()
    begin = next(one.ended or 0.0 for one in attempts if one.task == GATE)
    rest = [one for one in attempts if one.task != GATE]
    took = max(one.ended or 0.0 for one in rest) - begin
    seconds = {job.task: job.seconds for job in jobs}
    overhead = statistics.mean((one.ended or 0.0) - one.started - seconds[one.task] for one in rest)
    ideal = simulate(jobs, asked.ships).makespan
    return {
        "seconds": round(took, 2),
        "simulated": round(ideal, 2),
        "ratio": round(took / ideal, 3),
        "overhead": round(overhead, 3),
        "predicted": round(simulate(jobs, asked.ships, overhead=overhead).makespan / took, 3),
        "load_before": round(load, 2),
    }


def graphs(sea: Fleet, asked: argparse.Namespace, shortest: float, longest: float) -> dict[str, Any]:
    """Sail random graphs."""
    rows = []
    for number in range(asked.graphs):
        jobs = graph(asked.seed + number, asked.tasks, shortest, longest)
        rows.append(sail_graph(sea, jobs, asked))
    ratios, predicted = [row["ratio"] for row in rows], [row["predicted"] for row in rows]
    return {
        "rows": rows,
        "ratio_mean": round(statistics.mean(ratios), 3),
        "ratio_worst": max(ratios),
        "predicted_worst": max(predicted, key=lambda one: abs(one - 1)),
    }


def waits_of_chain(voyage: Voyage, length: int) -> list[float]:
    """Return the seconds from each landing to the next agent's first word."""
    ended = {one.task: one.ended or 0.0 for one in voyage.attempts()}
    found = []
    for number in range(2, length + 1):
        shown = ["git", "-C", str(voyage.directory / "repo.git"), "show", f"{voyage.name}:t{number}"]
        said = float(subprocess.run(shown, capture_output=True, text=True, check=True).stdout)
        found.append(said - ended[str(number - 1)])
    return found


def chain(sea: Fleet, length: int) -> list[float]:
    """Sail a chain on two ships."""
    tasks = {
        str(number): {
            "metadata": {"run": f"date +%s.%N > t{number}"},
            "blockedBy": [str(number - 1)] if number > 1 else [],
        }
        for number in range(1, length + 1)
    }
    voyage = sea.sail(tasks, 2)
    try:
        voyage.until_landed(length)
        return waits_of_chain(voyage, length)
    finally:
        voyage.sink()


SET_UP = """
git init -q /home/sprite/bare && cd /home/sprite/bare && git config user.email x@x && git config user.name x
for n in 1 2; do echo $n > f; git add -A; git commit -qm $n; git tag c$n; done
tmux -L bare new-session -d -s bare
"""
STEP = (
    "cd /home/sprite/bare && git bundle verify -q /home/sprite/bundle && git read-tree --reset -u c{n} &&"
    ' tmux -L bare new-window -d "date +%s.%N > /home/sprite/said"'
)


def bundle(source: Path, number: int) -> tuple[float, bytes]:
    """Commit something, then bundle it; return when that began, and the bundle."""
    git = ["git", "-C", str(source), "-c", "user.email=x@x", "-c", "user.name=x"]
    (source / "f").write_text(str(number))
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    began = time.time()
    subprocess.run([*git, "bundle", "create", "-q", str(source / "../bundle"), "HEAD"], check=True)
    return began, (source / "../bundle").read_bytes()


async def bare_chain(url: str, token: str, source: Path) -> list[float]:
    """Do by hand what a dependent's start needs at least; return the seconds of each round."""
    name, took = "bare-chain", []
    async with SpritesClient(url, token) as client:
        await client.create(name)
        assert (await client.run(name, ["sh", "-c", SET_UP], seconds=60)).code == 0
        for number in range(ROUNDS):
            began, data = bundle(source, number)
            await client.write_file(name, "/home/sprite/bundle", data)
            done = await client.run(name, ["sh", "-c", STEP.format(n=number % 2 + 1)], seconds=60)
            assert done.code == 0, done
            said = b""
            while not said.endswith(b"\n") or float(said) < began:
                said = (await client.run(name, ["cat", "/home/sprite/said"], seconds=60)).stdout
            took.append(float(said) - began)
        await client.destroy(name)
    return took


def bare(sea: Fleet) -> list[float]:
    """Go the bare chain some rounds."""
    with tempfile.TemporaryDirectory() as made:
        source = Path(made, "source")
        source.mkdir()
        token = Path(sea.record["token_file"]).read_text()
        return asyncio.run(bare_chain(sea.record["url"], token, source))


def spread(values: list[float]) -> dict[str, float]:
    """Return median and 95th percentile, in milliseconds."""
    ordered = sorted(values)
    return {
        "median_ms": round(statistics.median(ordered) * 1000, 1),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1000, 1),
    }


def chains(sea: Fleet, asked: argparse.Namespace) -> dict[str, Any]:
    """Compare our chain with the bare one."""
    load = until_quiet(asked.max_load)
    before = bare(sea)
    ours = chain(sea, asked.chain)
    mine, least = spread(ours), spread([*before, *bare(sea)])
    ratio = {
        "median": round(mine["median_ms"] / least["median_ms"], 2),
        "p95": round(mine["p95_ms"] / least["p95_ms"], 2),
    }
    return {"ours": mine, "bare": least, "ratio": ratio, "load_before": round(load, 2)}


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--graphs", type=int, default=12)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--ships", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chain", type=int, default=40)
    parser.add_argument("--max-load", type=float, default=3.0)
    parser.add_argument("--only", choices=("long", "short", "chain"), action="append")
    asked = parser.parse_args()
    only = asked.only or ["long", "short", "chain"]
    found: dict[str, Any] = {"processors": os.cpu_count()}
    with fleet() as sea:
        if "chain" in only:
            found["chain"] = chains(sea, asked)
        if "short" in only:
            found["short"] = graphs(sea, asked, 0.2, 2.0)
        if "long" in only:
            found["long"] = graphs(sea, asked, 2.0, 12.0)
    print(json.dumps(found, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
