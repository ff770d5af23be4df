"""Facts of an agent's stream, in a form that all agents share, and the verdict on an attempt.

Data from a ship may be hostile: :class:`Facts` accepts only the right types and sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ocaptain.protocol.usage import MAX_COUNT

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Nano = Annotated[int, Field(ge=0, le=2**50)]
Name = Annotated[str, StringConstraints(max_length=100)]
Session = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Kind = Literal["done", "failed", "hopeless", "busy", "denied"]


class _Fact(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class ModelUsage(_Fact):
    """Tokens of one model: input, output, read from the cache, written to it for 5 minutes and for an hour."""

    model: Name
    long: bool
    tokens: Annotated[list[Count], Field(min_length=5, max_length=5)]


class ModelBill(_Fact):
    """Tokens and cost of one model, as the agent itself counts them."""

    model: Name
    tokens: Annotated[list[Count], Field(min_length=5, max_length=5)]
    cost: Nano


class PendingRetry(_Fact):
    """A request that was being retried when the stream ended."""

    status: Annotated[int, Field(ge=0, le=999)] | None = None
    error: Name | None = None
    delay_ms: Annotated[int, Field(ge=0, le=2**40)] = 0


class Result(_Fact):
    """The last message of the stream: its result."""

    subtype: Name
    is_error: bool
    status: Annotated[int, Field(ge=0, le=999)] | None = None
    error: Name | None = None
    stop: Name | None = None
    terminal: Name | None = None
    turns: Count = 0
    text: Annotated[str, StringConstraints(max_length=8000)] = ""
    total_cost: Nano | None = None


class Facts(_Fact):
    """The facts of a stream; money in nano-dollars.

    Attributes:
        billed: usage up to the last result, as the agent counts it.
        usage: usage of the messages after the last result.
        partial: whether the stream told why each message stopped.
        last_stop: why the last message of the conversation stopped.
        retry: a request that was being retried when the stream ended.
        hook: the repository's hook that refused to let the agent end, and how often.
        waits: what an agent with a screen of its own waits for a person for, None if it does not.
        person, keys: whether a person typed a prompt there; whether one pressed a key shortly before its end.
        left: whether it was ended at its prompt, as only keys can.
    """

    session: Session | None = None
    resumed: Session | None = None
    model: Name | None = None
    auth: Name | None = None
    usage: Annotated[list[ModelUsage], Field(max_length=64)] = []
    messages: Count = 0
    partial: bool = False
    last_stop: Name | None = None
    retries: Count = 0
    retry: PendingRetry | None = None
    billed: Annotated[list[ModelBill], Field(max_length=64)] = []
    result: Result | None = None
    hook: Annotated[str, StringConstraints(max_length=400)] | None = None
    waits: Name | None = None
    person: bool | None = None
    keys: bool | None = None
    left: bool | None = None


def parse_facts(data: Any) -> Facts | None:
    """Parse the facts that a ship sent, None if they are invalid."""
    try:
        return Facts.model_validate(data)
    except ValidationError:
        return None


@dataclass(frozen=True)
class AttemptVerdict:
    """The verdict on an attempt.

    Attributes:
        kind: ``done`` (its work is offered); ``failed`` (counted, tried again); ``hopeless`` (its task
            fails permanently); ``busy`` (waits, not counted); ``denied`` (no ship can work).
        reason: for people, and for the next attempt.
        wait: seconds that the service asks to wait (``busy``).
        fresh: whether the next attempt must not resume this session.
        summary: its last words, or why no change was needed (``done``).
    """

    kind: Kind
    reason: str = ""
    wait: float = 0.0
    fresh: bool = False
    summary: str = ""


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended: the input of its agent's verdict.

    Attributes:
        code: exit code.
        reason: how it ended: ``exit``, ``timeout``, ``stall``, ``died``, ``stopped``, ``error``,
            ``refused``.
        facts: facts of its stream, None if there are no valid ones.
        empty: whether it changed nothing.
        checked: whether the task has a check of its own, which decides.
        tail: end of its log.
    """

    code: int
    reason: str
    facts: Facts | None
    empty: bool
    checked: bool
    tail: str = ""
