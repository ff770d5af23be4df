"""What replies mean: bodies to models, streams of events to their outcome."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ocaptain.sprites.errors import (
    BadReply,
    SpritesError,
)
from ocaptain.sprites.redact import said, traced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")


def parser_of(adapter: TypeAdapter[_Result]) -> Callable[[httpx.Response], _Result]:
    """Return what makes a value of a type of a reply; it raises BadReply."""

    def parse(response: httpx.Response) -> _Result:
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            raise _bad(response, error.errors()[0]["msg"]) from error

    return parse


def parser(model: type[_Model]) -> Callable[[httpx.Response], _Model]:
    """Return what makes a model of a reply; it raises BadReply."""

    def parse(response: httpx.Response) -> _Model:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise _bad(response, error.errors()[0]["msg"]) from error

    return parse


def as_nothing(response: httpx.Response) -> None:
    """Take any success for one: nothing of the reply is needed."""
    del response


def as_object(response: httpx.Response) -> dict[str, object]:
    """Return a reply's JSON object. Raises BadReply."""
    try:
        found = response.json()
    except (ValueError, RecursionError) as error:
        raise _bad(response, "it is not JSON") from error
    if not isinstance(found, dict):
        raise _bad(response, "it is no JSON object")
    return found


@dataclass(frozen=True)
class Events:
    """The objects of an NDJSON reply.

    Attributes:
        lines: in their order.
        traced: how the service names the request, to stand behind an error's text.
    """

    lines: Sequence[dict[str, object]]
    traced: str = ""


def as_events(response: httpx.Response) -> Events:
    """Return the objects of an NDJSON reply; an empty one is a reply, one of noise alone is not."""
    found = []
    for line in (lines := response.text.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    if lines and not found:
        raise _bad(response, "it is not NDJSON")
    return Events(found, traced(response.headers))


def check_finished(what: str, events: Events) -> None:
    """Raise what the last line of a stream says: the status was sent before the work was done."""
    last = events.lines[-1] if events.lines else {}
    if last.get("type") == "error":
        raise SpritesError(f"{what}: {said(last.get('error') or last.get('data') or last)}{events.traced}")
    if last.get("type") != "complete":
        raise BadReply(f"{what}: the reply ended before the work did{events.traced}")


def _bad(response: httpx.Response, why: str) -> BadReply:
    what = f"{response.request.method} {response.request.url.path}"
    return BadReply(f"{what}: the reply cannot be understood: {said(why)}{traced(response.headers)}")
