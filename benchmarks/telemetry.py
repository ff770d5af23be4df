"""What it costs to store telemetry, beside the least that anybody could do with the same bytes.

    python benchmarks/telemetry.py [--points 50000] [--rounds 5]

Prints JSON. The least is to decode the bytes and to walk once over all attributes. Storing is all that the sink's
thread does with a call: decode, mask every text, add whose it is, count, compress, and write it to the disk. Rounds are
interleaved, and the ratio is the median of each round's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from ocaptain.telemetry import intake
from ocaptain.telemetry.batch import Batch
from ocaptain.telemetry.clean import Labels
from ocaptain.telemetry.mask import Mask
from ocaptain.telemetry.store import Store
from tests.otlp import SESSION, metrics

SECRETS = ("canary-of-a-token-0123456789", "another-canary-0123456789")
POINTS_OF_A_CALL = 2_000
MODELS = ("claude-sonnet-4-5", "claude-haiku-4-5")


def calls(points: int) -> list[bytes]:
    """Return calls as Claude Code makes them: eight attributes a point, one of them its own."""
    made = []
    for begin in range(0, points, POINTS_OF_A_CALL):
        numbers = range(begin, min(points, begin + POINTS_OF_A_CALL))
        found = [
            (
                {
                    **SESSION,
                    "model": MODELS[number % 2],
                    "type": ("input", "output", "cacheRead", "cacheCreation")[number % 4],
                    "query_source": "main",
                    "request_id": f"req_{number:024d}",
                },
                float(number % 1000),
            )
            for number in numbers
        ]
        made.append(metrics(found, start=begin + 1).SerializeToString())
    return made


def bare(bodies: list[bytes]) -> int:
    """Decode, and walk over all attributes once; return how many there are."""
    count = 0
    for body in bodies:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for one in resource.resource.attributes:
                count += bool(one.key and one.value.string_value)
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.sum.data_points:
                        for one in point.attributes:
                            count += bool(one.key and one.value.string_value)
    return count


def stored(bodies: list[bytes], path: Path) -> int:
    """Store calls as the sink does; return the tokens that were counted."""
    labels = Labels("voyage-0123456789ab", "ship-0", "17", 2)
    mask = Mask(SECRETS)
    with Store(path) as store:
        for body in bodies:
            batch = Batch("ship-0", 7, "metrics", "application/x-protobuf", body, time.time())
            if not store.has(intake.digest(batch)):
                intake.add(store, batch, labels, intake.clean_batch(batch, labels, mask))
        return sum(store.tokens())


def measure(points: int, rounds: int) -> dict[str, object]:
    """Return what both took, by processor time and by the clock."""
    bodies = calls(points)
    times: dict[str, list[float]] = {"bare": [], "stored": [], "bare_cpu": [], "stored_cpu": []}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            for name, run in (("bare", bare), ("stored", partial(stored, path=Path(scratch, f"{number}.db")))):
                wall, cpu = time.perf_counter(), time.process_time()
                run(bodies)
                times[name].append(time.perf_counter() - wall)
                times[f"{name}_cpu"].append(time.process_time() - cpu)
    pairs = zip(times["stored"], times["bare"], strict=True)
    cpu_pairs = zip(times["stored_cpu"], times["bare_cpu"], strict=True)
    return {
        "points": points,
        "bytes": sum(map(len, bodies)),
        "rounds": rounds,
        **{f"{name}_seconds": round(statistics.median(found), 3) for name, found in times.items()},
        "ratio": round(statistics.median(one / other for one, other in pairs), 2),
        "cpu_ratio": round(statistics.median(one / other for one, other in cpu_pairs), 2),
        "limit": 6,
        "load": [round(one, 2) for one in os.getloadavg()],
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--points", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(json.dumps(measure(given.points, given.rounds), indent=2))  # noqa: T201


if __name__ == "__main__":
    main()
