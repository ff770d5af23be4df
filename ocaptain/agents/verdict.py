"""What a Claude Code run was worth: from how it ended, what its stream told, and what it changed.

The CLI says ``success`` of much that is none, and exit 0 of a stream that was cut. So a run counts
as done only if everything agrees: the exit code, ``is_error``, and that the last message came to its own end.

What a ship tells is hostile: :class:`Facts` takes only what is of its shape and size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ocaptain.protocol.usage import MAX_COUNT
from ocaptain.text import clean, clean_line

Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Nano = Annotated[int, Field(ge=0, le=2**50)]
Name = Annotated[str, StringConstraints(max_length=100)]
Session = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]

#: How a message ends that is all there.
WHOLE = ("end_turn", "stop_sequence")
BUSY = (429, 502, 503, 504, 529)
DENIED = (401, 403)
NO_CHANGE = re.compile(r"^[\s*_`>#-]*NO CHANGE NEEDED[*_`]*\s*[:\-–—]\s*[*_`]*\s*(\S.*)$", re.MULTILINE)  # noqa: RUF001
_BILLING = re.compile(r"credit balance|billing|payment", re.IGNORECASE)
_LOGIN = re.compile(r"not logged in|please run /login", re.IGNORECASE)
MAX_TEXT = 2000
MAX_ERROR = 200
MAX_SUMMARY = 1500
Kind = Literal["done", "failed", "hopeless", "busy", "denied"]


class _Told(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Used(_Told):
    """Tokens of one model: input, output, read from the cache, written to it for 5 minutes and for an hour."""

    model: Name
    long: bool
    tokens: Annotated[list[Count], Field(min_length=5, max_length=5)]


class Billed(_Told):
    """What the CLI counted of one model."""

    model: Name
    tokens: Annotated[list[Count], Field(min_length=5, max_length=5)]
    cost: Nano


class Retry(_Told):
    """A request that was being tried again, and nothing came after."""

    status: Annotated[int, Field(ge=0, le=999)] | None = None
    error: Name | None = None
    delay_ms: Annotated[int, Field(ge=0, le=2**40)] = 0


class Result(_Told):
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


class Facts(_Told):
    """What a stream told; money in nano-dollars.

    Attributes:
        billed: up to the last result, as the CLI counts; ``usage``: of the messages after it.
        partial: whether it told why each message stopped.
        last_stop: why the last message of the conversation did.
        retry: a request that was being tried again when nothing more came.
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


def parse_facts(data: Any) -> Facts | None:
    """Return what a ship tells of a stream, None if it is nothing of the kind."""
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
        said: its last words, or why nothing was to be changed (``done``).
    """

    kind: Kind
    reason: str = ""
    wait: float = 0.0
    fresh: bool = False
    said: str = ""


def judge(*, code: int, reason: str, facts: Facts | None, empty: bool, checked: bool, said: str = "") -> Ending:
    """Return what an attempt that ended by itself, or was ended, is.

    Args:
        code: exit code.
        reason: how it ended: ``exit``, ``timeout``, ``stall``, ``died``, ``stopped``, ``error``.
        facts: of its stream, None if there are none that can be understood.
        empty: whether it changed nothing.
        checked: whether the task has a check that decides.
        said: the log's end.
    """
    result = facts.result if facts else None
    if facts is None or result is None:
        return _unfinished(code, reason, facts, said)
    text = clean(result.text).strip()[-MAX_TEXT:]
    told = f":\n{text}" if text else ""
    if result.stop == "refusal" or facts.last_stop == "refusal":
        return Ending("failed", f"the model refused to go on{told}", fresh=True)
    if result.subtype == "error_max_turns":
        return Ending("failed", f"it reached its limit of {result.turns} turns (metadata.max_turns, --max-turns){told}")
    if result.is_error or result.subtype != "success":
        return _api_error(result.status, result.error, facts, text or clean(result.subtype))
    if reason != "exit" or code != 0:
        return _ended(code, reason, told)
    cut = result.stop not in WHOLE or result.terminal not in {None, "completed"}
    if cut or (facts.partial and facts.last_stop not in WHOLE):
        return Ending("failed", f"its last message was cut, though it ended as a success{told}")
    if empty and not checked:
        found = NO_CHANGE.search(clean(result.text))
        if not found:
            return Ending("failed", f"it ended without a change and without the line `NO CHANGE NEEDED: why`{told}")
        return Ending("done", said=clean_line(found[0].strip(), 500))
    return Ending("done", said=text[:MAX_SUMMARY])


def _unfinished(code: int, reason: str, facts: Facts | None, said: str) -> Ending:
    """A stream without a last word: killed, hung, or never begun."""
    tail = clean(said[-MAX_TEXT:]).strip()
    told = f"; it said last:\n{tail}" if tail else ""
    if facts and facts.retry and facts.retry.status != 500:
        return _api_error(facts.retry.status, facts.retry.error, facts, f"it was ended while it tried again{told}")
    if reason == "exit" and code == 0:
        return Ending("failed", f"its stream ended without a result{told}")
    return _ended(code, reason, told)


def _ended(code: int, reason: str, told: str) -> Ending:
    why = {
        "timeout": "the agent took longer than its time limit",
        "stall": "the agent was silent for too long and was ended",
        "died": "the agent's supervisor was killed",
        "stopped": "the agent was stopped",
    }.get(reason, f"the agent ended with exit code {code}")
    return Ending("failed", f"{why}{told}")


def _api_error(status: int | None, error: str | None, facts: Facts, text: str) -> Ending:
    result, delay = facts.result, facts.retry.delay_ms / 1000 if facts.retry else 0.0
    # Without a status: it could not be reached. That is so only of a request; what else ends so is the CLI's own.
    away = status is None and (facts.retry is not None or (result is not None and result.terminal == "api_error"))
    named = f"the API answered {status}" if status else "the API did not answer" if away else "it ended with an error"
    what = f"{named}{f' ({clean_line(error, 60)})' if error else ''}: {text}"
    if status in DENIED or (status in {400, 402} and _BILLING.search(text)):
        return Ending("denied", what)
    if status is None and result is not None and _LOGIN.search(text[:MAX_ERROR]):
        return Ending("denied", what)
    if status in BUSY or away:
        return Ending("busy", what, wait=delay)
    if status is not None and 400 <= status < 500 and status not in {408, 409}:
        return Ending("hopeless", what)
    return Ending("failed", what)
