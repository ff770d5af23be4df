"""What agents reported by OTLP, as ocaptain shows and exports it, beside what the scripted API billed."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.claude.api import Api
    from tests.helpers import Sailor

KINDS = ("input", "output", "cacheCreation", "cacheRead")  # in the order of ``Billed.tokens``


def assert_reported(harbour: Sailor, api: Api, voyage: str, tasks: Iterable[str], secrets: Iterable[str]) -> None:
    """Assert that each task's tokens in the export, and their sum in ``status``, are those that were billed.

    Args:
        harbour: where the voyage sailed.
        api: what it was billed by.
        voyage: its id.
        tasks: names in the script; each is in the subject of its task.
        secrets: texts that must not be in the export.
    """
    exported = harbour.run("telemetry", "export", voyage)
    assert exported.code == 0, exported.err
    lines = [json.loads(line) for line in exported.out.splitlines()]
    assert {key for line in lines for key in line} == {"resourceMetrics", "resourceLogs", "resourceSpans"}
    assert [word for word in secrets if word in exported.out] == []
    listed = {task["id"]: task for task in harbour.json("tasks", voyage, "--json")["tasks"]}
    found: dict[str, Counter[str]] = {}
    for whose, kind, tokens in token_points(lines):
        assert whose["ocaptain.voyage"] == voyage
        task = listed[whose["ocaptain.task"]]
        attempt = int(whose["ocaptain.attempt"])
        assert 1 <= attempt <= task["attempt"]
        assert attempt < task["attempt"] or whose["ocaptain.ship"] == task["owner"]
        found.setdefault(task["subject"], Counter())[kind] += tokens
    billed = {name: Counter[str]() for name in tasks}
    for name, counts in billed.items():
        for one in api.billed(name):
            counts.update(dict(zip(KINDS, one.tokens, strict=True)))
    by_name = {next(name for name in billed if name in subject): counts for subject, counts in found.items()}
    assert {name: +counts for name, counts in by_name.items()} == {name: +counts for name, counts in billed.items()}
    total = sum(billed.values(), Counter[str]())
    read = total["input"] + total["cacheCreation"] + total["cacheRead"]
    said = harbour.json("status", voyage, "--json")["telemetry"]
    assert said["tokens"] == {"in": read, "out": total["output"], "cached": total["cacheRead"]}
    assert said["lost"] == {}
    assert said["tools"]["Bash"]["calls"] >= 1
    assert f"{read:,} tokens in, {total['output']:,} out" in " ".join(harbour.run("status", voyage).out.split())
    spans = [group for line in lines for group in line.get("resourceSpans", [])]
    (own,) = (group for group in spans if attributes(group["resource"])["service.name"] == "ocaptain")
    names = Counter(one["name"] for one in own["scopeSpans"][0]["spans"])
    assert (names["voyage"], names["verify"]) == (1, 1)
    assert names["agent"] >= len(listed)


def attributes(thing: Any) -> dict[str, Any]:
    """Return the attributes of anything, as they are written."""
    return {one["key"]: next(iter(one["value"].values()), None) for one in thing["attributes"]}


def token_points(lines: list[dict[str, Any]]) -> Iterable[tuple[dict[str, Any], str, int]]:
    """Yield whose each count of tokens is, of which kind, and how many."""
    for line in lines:
        for group in line.get("resourceMetrics", []):
            metrics = [metric for scope in group["scopeMetrics"] for metric in scope["metrics"]]
            for metric in metrics:
                if metric["name"] == "claude_code.token.usage":
                    for point in metric["sum"]["dataPoints"]:
                        tokens = point["asDouble"] if "asDouble" in point else point["asInt"]
                        yield attributes(group["resource"]), attributes(point)["type"], int(tokens)
