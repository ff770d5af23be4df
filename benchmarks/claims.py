"""Claims under contention and kill -9, and how fast they are beside bare SQLite commits.

    python benchmarks/claims.py [--tasks 20000] [--processes 20] [--threads 5] [--kills 30] [--seed 1]

Prints JSON. Every claimer is a thread of a process of its own making, with a ledger of its own,
through the captain's code (``Ledger.claim``). Processes are killed at random moments and others
take their place; what a killed one held is given back as a captain would, and claimed again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ocaptain.ledger import Ledger, NewVoyage

ROUNDS = 5
SLICE = 1.0
LAND_EVERY = 10


def make(path: Path, tasks: int) -> int:
    """Make a ledger of ``tasks`` free tasks; return the epoch that may write."""
    rows = [
        {
            "id": str(number),
            "position": number,
            "subject": f"Task {number}",
            "raw": json.dumps({"id": str(number), "subject": f"Task {number}"}),
            "agent": "command",
            "pin": None,
            "priority": 1,
            "status": "pending",
        }
        for number in range(tasks)
    ]
    texts = dict.fromkeys(("id", "name", "digest", "repo", "root", "spec"), "x")
    nothing = dict.fromkeys(("agent_cmd", "setup", "prompt"))
    edges = {row["id"]: frozenset[str]() for row in rows}
    new = NewVoyage(
        **texts,
        **nothing,
        provider="drydock",
        verify_script=b"",
        verify_timeout=1.0,
        tasks=rows,
        edges=edges,
        ships=[],
    )
    Ledger.create(path, new)
    with Ledger(path) as ledger:
        return ledger.take_command()


def claimer(path: Path, epoch: int, ship: str, log: Path) -> None:
    """Claim until nothing is left; note each claim as soon as it is had."""
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with Ledger(path, epoch=epoch) as ledger:
        while claim := ledger.claim(ship):
            os.write(fd, f"{claim.token} {claim.task}\n".encode())
            if claim.token % LAND_EVERY == 0:
                ledger.begin_landing(claim.token, "refs/heads/x", "0" * 40, "1" * 40, {})
                ledger.finish_landing(claim.token)


def run_process(path: Path, epoch: int, name: str, threads: int, logs: Path) -> None:
    """Be one process of claimers."""
    work = [
        threading.Thread(target=claimer, args=(path, epoch, f"{name}-{number}", logs / f"{name}-{number}"))
        for number in range(threads)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()


def storm(root: Path, tasks: int, processes: int, threads: int, kills: int, seed: int) -> dict[str, object]:
    """Let all claimers loose, kill some, and count."""
    draw = random.Random(seed)  # noqa: S311 - repeatable
    path, logs = root / "ledger.db", root / "logs"
    logs.mkdir()
    epoch = make(path, tasks)
    names = iter(f"c{number}" for number in range(10**6))
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start() -> None:
        name = next(names)
        argv = [sys.executable, __file__, "--be", str(path), str(epoch), name, str(threads), str(logs)]
        running[name] = subprocess.Popen(argv)

    began = time.monotonic()
    for _ in range(processes):
        start()
    killed = given_back = 0
    with Ledger(path, epoch=epoch) as captain:
        while any(process.poll() is None for process in running.values()) or captain.has_claimable_task(["x"]):
            time.sleep(draw.uniform(0.02, 0.3))
            alive = [name for name, process in running.items() if process.poll() is None]
            if killed < kills and alive:
                name = draw.choice(alive)
                running[name].send_signal(signal.SIGKILL)
                running[name].wait()
                killed += 1
                given_back += bury(captain, name, threads, logs)
                start()
            elif not alive and captain.has_claimable_task(["x"]):
                start()
        seconds = time.monotonic() - began
        return count(captain, logs, tasks) | {
            "claimers": processes * threads,
            "killed": killed,
            "given_back": given_back,
            "seconds": round(seconds, 2),
        }


def bury(captain: Ledger, name: str, threads: int, logs: Path) -> int:
    """Give back what a killed process had claimed and told nobody; return how much."""
    found = 0
    for number in range(threads):
        ship = f"{name}-{number}"
        with contextlib.suppress(OSError):
            told = {int(line.split()[0]) for line in (logs / ship).read_text().splitlines()}
            for row in captain.rows("attempts", "token"):
                if row["ship"] == ship and row["token"] not in told and row["state"] == "claimed":
                    found += captain.return_task(row["token"], "lost", "killed")
    return found


def count(captain: Ledger, logs: Path, tasks: int) -> dict[str, object]:
    """Count what must be zero."""
    attempts = captain.rows("attempts", "rowid")
    tokens = [row["token"] for row in attempts]
    held: dict[str, int] = {}
    for row in attempts:
        if row["state"] != "lost":
            held[row["task"]] = held.get(row["task"], 0) + 1
    told = [line.split() for log in logs.iterdir() for line in log.read_text().splitlines()]
    wrong = [(token, task) for token, task in told if captain.attempt_row(int(token))["task"] != task]  # type: ignore[index]
    return {
        "tasks": tasks,
        "doubles": sum(1 for number in held.values() if number > 1) + len(told) - len({task for _, task in told}),
        "lost": tasks - len(held),
        "wrong": len(wrong),
        "tokens_unique": len(set(tokens)) == len(tokens),
        "tokens_growing": tokens == sorted(tokens),
    }


def speeds(root: Path) -> dict[str, float]:
    """Claims a second of one captain beside bare commits a second, in turns; medians."""
    bare = sqlite3.connect(root / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x INTEGER)")
    path = root / "speed.db"
    epoch = make(path, 100_000)

    def commit() -> None:
        bare.execute("BEGIN IMMEDIATE")
        bare.execute("INSERT INTO t (x) VALUES (1)")
        bare.execute("COMMIT")

    with Ledger(path, epoch=epoch) as ledger:
        rates: dict[str, list[float]] = {"bare": [], "claims": []}
        for _ in range(ROUNDS):
            for name, work in (("bare", commit), ("claims", lambda: ledger.claim("ship-0"))):
                until, done = time.monotonic() + SLICE, 0
                while time.monotonic() < until:
                    work()
                    done += 1
                rates[name].append(done / SLICE)
    bare.close()
    claims, commits = statistics.median(rates["claims"]), statistics.median(rates["bare"])
    return {"claims_per_s": claims, "bare_commits_per_s": commits, "ratio": round(claims / commits, 3)}


def main() -> None:
    """Run and print."""
    if sys.argv[1:2] == ["--be"]:
        path, epoch, name, threads, logs = sys.argv[2:]
        run_process(Path(path), int(epoch), name, int(threads), Path(logs))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for option, default in (("tasks", 20_000), ("processes", 20), ("threads", 5), ("kills", 30), ("seed", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    given = parser.parse_args()
    # Not in /tmp, which may be memory: a commit that costs nothing is no measure.
    with tempfile.TemporaryDirectory(dir=Path.home()) as directory:
        root = Path(directory)
        found = {**speeds(root), **storm(root, **vars(given))}
    print(json.dumps(found, indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
