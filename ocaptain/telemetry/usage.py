"""What agents used, from the messages that they sent: a pure function of a cleaned message.

message ──> Used: tokens of each kind, calls of each tool

- Tokens: sums named ``…token.usage``, whose points have a ``type`` (Claude Code) or ``gen_ai.token.type``
  (OpenTelemetry's conventions for generative AI, there a histogram). A cumulative sum is what was used since its start:
  :class:`Series` makes what is new of it.
- Tools: log records named ``tool_result`` (``event.name``), with ``tool_name`` and ``success``.

Only metrics count tokens: an agent that reports them in its logs and spans as well would be counted twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ocaptain.telemetry.decode import data_points

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CUMULATIVE = 2  # AggregationTemporality of opentelemetry.proto.metrics.v1
_TOKENS = "token.usage"
_KIND_KEYS = frozenset({"type", "gen_ai.token.type"})
_READ = frozenset({"input", "cacheRead", "cacheCreation"})
_WRITTEN, _CACHED = "output", "cacheRead"
_TOOL_EVENT = "tool_result"
_TOOL_KEYS = frozenset({"tool_name", "success", "event.name"})
#: Of one point: what is more is no count.
MAX_TOKENS = 10**12
MAX_TOOL_NAME = 100
_MAX_INTEGER = 2**63  # of SQLite


@dataclass(frozen=True)
class Series:
    """A cumulative sum at one moment.

    Attributes:
        key: what tells it from others: a digest of its name, its resource and its attributes.
        start: when it began, in nanoseconds since 1970.
        value: of it.
        kind: of its tokens.
    """

    key: bytes
    start: int
    value: float
    kind: str


@dataclass
class Used:
    """What was used.

    Attributes:
        tokens: by kind: ``input``, ``output``, ``cacheRead``, ``cacheCreation``.
        calls: of each tool.
        failed: those of them that failed.
        series: cumulative sums; they are not in ``tokens`` yet.
    """

    tokens: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    series: list[Series] = field(default_factory=list)


def sums(tokens: Mapping[str, int]) -> tuple[int, int, int]:
    """Return tokens of all kinds as what was read (cached or not), written, and of the former came from the cache."""
    read = sum(tokens.get(kind, 0) for kind in _READ)
    return read, tokens.get(_WRITTEN, 0), tokens.get(_CACHED, 0)


def count_used(message: Any, signal: str) -> Used:
    """Return what a message says was used.

    Args:
        message: cleaned.
        signal: ``metrics``, ``logs`` or ``traces``.
    """
    used = Used()
    if signal == "metrics":
        for resource in message.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name.endswith(_TOKENS):
                        _count_tokens(metric, resource.resource, used)
    elif signal == "logs":
        for resource in message.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    _count_tool(record, used)
    return used


def _count_tokens(metric: Any, resource: Any, used: Used) -> None:
    data = metric.WhichOneof("data")
    if data not in {"sum", "histogram"}:
        return
    cumulative = getattr(metric, data).aggregation_temporality == _CUMULATIVE
    for point in data_points(metric):
        kind = _kind_of(point.attributes)
        value = point.sum if data == "histogram" else point.as_double or point.as_int
        if not 0 <= value <= MAX_TOKENS:
            continue  # infinite, not a number, or no count of tokens
        if cumulative:
            sender = resource.SerializeToString(deterministic=True)
            parts = (metric.name.encode(), sender, *sorted(_pairs(point.attributes)))
            key = sha256(b"\0".join(parts)).digest()
            used.series.append(Series(key, point.start_time_unix_nano % _MAX_INTEGER, value, kind))
        else:
            used.tokens[kind] += int(value)


def _kind_of(attributes: Any) -> str:
    for one in attributes:  # no generator: there are many points
        if one.key in _KIND_KEYS:
            return str(one.value.string_value)
    return ""


def _pairs(attributes: Any) -> Iterator[bytes]:
    for one in attributes:
        yield one.SerializeToString(deterministic=True)


def _count_tool(record: Any, used: Used) -> None:
    found = {one.key: one.value for one in record.attributes if one.key in _TOOL_KEYS}
    name = record.event_name or (found["event.name"].string_value if "event.name" in found else "")
    if name.rpartition(".")[2] != _TOOL_EVENT or "tool_name" not in found:
        return
    tool = found["tool_name"].string_value[:MAX_TOOL_NAME] or "?"
    used.calls[tool] += 1
    success = found.get("success")
    if success is not None and (success.string_value or str(success.bool_value).lower()) == "false":
        used.failed[tool] += 1


def new_of(series: Series, before: tuple[int, float] | None) -> int:
    """Return what is new of a cumulative sum.

    Args:
        series: as it is now.
        before: its start and value when it was seen last, None if it was not.
    """
    if before is None or before[0] != series.start:
        return int(series.value)  # it began anew
    return max(0, int(series.value) - int(before[1]))  # a smaller one is late
