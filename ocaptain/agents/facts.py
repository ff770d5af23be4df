"""What an agent's stream said, in the shape that all agents share, and what an attempt was worth.

What a ship says is hostile: :class:`Facts` takes only what is of its shape and size.
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


class Used(_Fact):
    """Tokens of one model: input, output, read from the cache, written to it for 5 minutes and for an hour."""

    model: Name
    long: bool
    tokens: Annotated[list[Count], Field(min_length=5, max_length=5)]


class Billed(_Fact):
    """What the agent itself counted of one model."""

    model: Name
    tokens: Annotated[list[Count], Field(min_length=5, max_length=5)]
    cost: Nano


class Retry(_Fact):
    """A request that was being tried again, and nothing came after."""

    status: Annotated[int, Field(ge=0, le=999)] | None = None
    error: Name | None = None
    delay_ms: Annotated[int, Field(ge=0, le=2**40)] = 0


class Result(_Fact):
    """The stream's last word."""

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
    """What a stream said; money in nano-dollars.

    Attributes:
        billed: up to the last result, as the agent counts; ``usage``: of the messages after it.
        partial: whether it said why each message stopped.
        last_stop: why the last message of the conversation did.
        retry: a request that was being tried again when nothing more came.
        hook: of the repository, that refused to let it end, and how often.
    """

    session: Session | None = None
    resumed: Session | None = None
    model: Name | None = None
    auth: Name | None = None
    usage: Annotated[list[Used], Field(max_length=64)] = []
    messages: Count = 0
    partial: bool = False
    last_stop: Name | None = None
    retries: Count = 0
    retry: Retry | None = None
    billed: Annotated[list[Billed], Field(max_length=64)] = []
    result: Result | None = None
    hook: Annotated[str, StringConstraints(max_length=400)] | None = None


def parse_facts(data: Any) -> Facts | None:
    """Return what a ship says of a stream, None if it is nothing of the kind."""
    try:
        return Facts.model_validate(data)
    except ValidationError:
        return None


@dataclass(frozen=True)
class Ending:
    """What becomes of an attempt.

    Attributes:
        kind: ``done`` (its work is offered); ``failed`` (counted, tried again); ``hopeless`` (its task
            fails for good); ``busy`` (waits, not counted); ``denied`` (no ship can work).
        reason: for people, and for the next attempt.
        wait: seconds that the service asked for (``busy``).
        fresh: whether the next attempt does without this session.
        summary: its last words, or why nothing was to be changed (``done``).
    """

    kind: Kind
    reason: str = ""
    wait: float = 0.0
    fresh: bool = False
    summary: str = ""


@dataclass(frozen=True)
class Ended:
    """How an attempt ended, for its agent's verdict.

    Attributes:
        code: exit code.
        reason: how it ended: ``exit``, ``timeout``, ``stall``, ``died``, ``stopped``, ``error``,
            ``refused``.
        facts: of its stream, None if there are none that can be understood.
        empty: whether it changed nothing.
        checked: whether the task has a check that decides.
        tail: the log's end.
    """

    code: int
    reason: str
    facts: Facts | None
    empty: bool
    checked: bool
    tail: str = ""
