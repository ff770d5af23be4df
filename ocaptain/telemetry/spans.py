"""The voyage's own spans: a pure function of what its ledger says, as one trace.

::

    voyage ─┬─ provision, bootstrap        of each ship: until its sprite is there, until it is built
            ├─ attempt ─┬─ claim           until the agent runs
            │           ├─ agent           as long as the ship measured
            │           ├─ check           of the task, as long as the ship measured
            │           └─ landing         with the wait for those before it
            └─ verify                      the final one

The ids follow from the voyage's id and from what a span is of, so that whoever makes a span again makes the same one:
an export beside a captain that forwards, or the captain after the one that was killed. A span is made when it is over.
Texts of agents, tasks and reasons are none of it. Times are the captain's, in seconds since 1970; where a ship's clock
measured, its seconds are cut to what the captain saw.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_ENDED = frozenset({"complete", "failed", "sunk"})
_NANO = 10**9
_LANDED = "landed"
#: States of an attempt that is over without a fault of its own.
_FINE = frozenset({_LANDED, "waited", "late", "sunk"})


@dataclass(frozen=True)
class Span:
    """A part of a voyage.

    Attributes:
        name: of the list above.
        began, ended: in seconds since 1970.
        span_id: 8 bytes.
        parent: the id of the span that it is part of, b"" for the voyage.
        ok: whether it did what it was for.
        attributes: ``ocaptain.ship``, ``ocaptain.task``, …
    """

    name: str
    began: float
    ended: float
    span_id: bytes
    parent: bytes = b""
    ok: bool = True
    attributes: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Course:
    """What the ledger says of a voyage.

    Attributes:
        voyage: its id.
        state: it is in.
        created: when it was made, in seconds since 1970.
        events: rows ``n``, ``at``, ``kind``, ``ship``, ``task``, ``text``, oldest first.
        attempts: rows ``token``, ``task``, ``number``, ``ship``, ``state``, ``started``, ``ended``, ``seconds``,
            ``evidence`` (JSON).
    """

    voyage: str
    state: str
    created: float
    events: Sequence[Mapping[str, Any]]
    attempts: Sequence[Mapping[str, Any]]


def trace_id(voyage: str) -> bytes:
    """Return the id of a voyage's trace: 16 bytes."""
    return sha256(f"ocaptain\0{voyage}".encode()).digest()[:16]


def span_id(voyage: str, *what: object) -> bytes:
    """Return the id of a span: 8 bytes."""
    return sha256("\0".join(map(str, ("ocaptain", voyage, *what))).encode()).digest()[:8]


def voyage_spans(course: Course) -> list[Span]:
    """Return the spans of a voyage that are over, in no order."""
    root = span_id(course.voyage, "voyage")
    found = [*_ship_spans(course, root), *_verify_spans(course, root)]
    for attempt in course.attempts:
        if attempt["ended"] is not None:
            found += _attempt_spans(course, attempt, root)
    if course.state in _ENDED:
        last = max((one["at"] for one in course.events if _state_of(one) in _ENDED), default=course.created)
        ended = max([last, *(one.ended for one in found)])
        began = min([course.created, *(one.began for one in found)])
        named = {"ocaptain.state": course.state}
        found.append(Span("voyage", began, ended, root, ok=course.state != "failed", attributes=named))
    return found


def _state_of(event: Mapping[str, Any]) -> str | None:
    """Return the state that a voyage came into by an event, None if it is another kind of event."""
    return str(event["text"]).partition(":")[0] if event["kind"] == "voyage" else None


def _ship_spans(course: Course, root: bytes) -> Iterator[Span]:
    """Yield when each ship was made and built: again for each time that it was made again."""
    made: dict[str, float] = {}  # since when it is being made
    built: dict[str, float] = {}  # since when it is being built
    for event in course.events:
        ship, at = event["ship"], event["at"]
        if not ship:
            continue
        if event["kind"] == "replace" and event["text"] == "it is made again":
            made[ship] = at
            built.pop(ship, None)
        if event["kind"] != "ship":
            continue
        state = str(event["text"]).partition(":")[0]
        if ship in built:
            began, ok = built.pop(ship), state not in {"failed", "lost", "gone"}
            yield _span(course, root, "bootstrap", began, at, key=(ship, event["n"]), ok=ok, ship=ship)
        elif made.get(ship, course.created) >= 0:
            if state in {"bootstrapping", "failed", "gone"}:
                began = made.get(ship, course.created)
                key = (ship, event["n"])
                yield _span(course, root, "provision", began, at, key=key, ok=state == "bootstrapping", ship=ship)
                built |= {ship: at} if state == "bootstrapping" else {}
            made[ship] = -1.0  # it is there: what comes next is no making


def _verify_spans(course: Course, root: bytes) -> Iterator[Span]:
    began: float | None = None
    for event in course.events:
        if _state_of(event) == "verifying":
            began = event["at"]
        elif event["kind"] == "verify" and began is not None:
            ok = str(event["text"]).startswith("passed")
            yield _span(course, root, "verify", began, event["at"], key=(event["n"],), ok=ok, ship=event["ship"])
            began = None


def _attempt_spans(course: Course, row: Mapping[str, Any], root: bytes) -> Iterator[Span]:
    evidence = json.loads(row["evidence"] or "{}")
    agent, check = evidence.get("agent") or {}, evidence.get("check") or {}
    started, ended = row["started"], max(row["started"], row["ended"])
    whose = {"ship": row["ship"], "task": row["task"], "attempt": row["number"]}
    landed = row["state"] == _LANDED
    key = (row["token"],)

    def within(at: float) -> float:
        return float(min(max(at, started), ended))

    def part(name: str, began: float, until: float, *, ok: bool, parent: bytes, **more: Any) -> Span:
        return _span(course, parent, name, within(began), within(until), key=key, ok=ok, **whose, **more)

    whole = part("attempt", started, ended, ok=row["state"] in _FINE, parent=root, state=row["state"])
    yield whole
    seconds = agent.get("seconds", row["seconds"])
    if seconds is None:  # its agent's end was not seen
        return
    agent_ended = within(agent.get("at", started + seconds))
    agent_began = within(agent_ended - seconds)
    code = agent.get("exit_code")
    yield part("claim", started, agent_began, ok=True, parent=whole.span_id)
    yield part("agent", agent_began, agent_ended, ok=code == 0, parent=whole.span_id, exit_code=code)
    checked = agent_ended
    if check.get("seconds") is not None:
        checked = within(agent_ended + check["seconds"])
        ok, code = bool(check.get("ok")), check.get("exit_code")
        yield part("check", agent_ended, checked, ok=ok, parent=whole.span_id, exit_code=code, runs=check.get("runs"))
    if landed:
        yield part("landing", checked, ended, ok=True, parent=whole.span_id)


def _span(
    course: Course,
    parent: bytes,
    name: str,
    began: float,
    ended: float,
    *,
    key: tuple[Any, ...],
    ok: bool,
    **named: Any,
) -> Span:
    attributes = {f"ocaptain.{one}": value for one, value in named.items() if value is not None}
    return Span(name, began, max(began, ended), span_id(course.voyage, name, *key), parent, ok, attributes)


def spans_message(voyage: str, spans: Sequence[Span]) -> Any:
    """Return spans as an ``ExportTraceServiceRequest``, oldest first."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # noqa: PLC0415 - see the package
        ExportTraceServiceRequest,
    )

    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    _add(group.resource.attributes, {"service.name": "ocaptain", "ocaptain.voyage": voyage})
    scope = group.scope_spans.add()
    scope.scope.name = "ocaptain"
    trace = trace_id(voyage)
    for one in sorted(spans, key=lambda span: (span.began, -span.ended, span.span_id)):
        span = scope.spans.add(trace_id=trace, span_id=one.span_id, parent_span_id=one.parent, name=one.name, kind=1)
        span.start_time_unix_nano, span.end_time_unix_nano = int(one.began * _NANO), int(one.ended * _NANO)
        span.status.code = 1 if one.ok else 2  # STATUS_CODE_OK, STATUS_CODE_ERROR
        _add(span.attributes, one.attributes)
    return message


def _add(attributes: Any, found: Mapping[str, str | int | float | bool]) -> None:
    for key, value in found.items():
        kind = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}[type(value)]
        setattr(attributes.add(key=key).value, kind, value)
