"""Parse replies: bodies to models, streams of events to their outcome."""

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
from ocaptain.sprites.redact import redact_line, request_id_suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")


def type_parser(adapter: TypeAdapter[_Result]) -> Callable[[httpx.Response], _Result]:
    """Return a function that parses a reply as the adapter's type; it raises BadReply."""

    def parse(response: httpx.Response) -> _Result:
        try:
            return adapter.validate_json(response.content)
        except ValidationError as error:
            raise _bad_reply(response, error.errors()[0]["msg"]) from error

    return parse


def model_parser(model: type[_Model]) -> Callable[[httpx.Response], _Model]:
    """Return a function that parses a reply as a model; it raises BadReply."""

    def parse(response: httpx.Response) -> _Model:
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise _bad_reply(response, error.errors()[0]["msg"]) from error

    return parse


def ignore_reply(response: httpx.Response) -> None:
    """Ignore the content of a successful reply."""
    del response


def parse_object(response: httpx.Response) -> dict[str, object]:
    """Return a reply's JSON object. Raises BadReply."""
    try:
        found = response.json()
    except (ValueError, RecursionError) as error:
        raise _bad_reply(response, "it is not JSON") from error
    if not isinstance(found, dict):
        raise _bad_reply(response, "it is not a JSON object")
    return found


@dataclass(frozen=True)
class Events:
    """The objects of an NDJSON reply.

    Attributes:
        lines: the objects, in order.
        request_id_suffix: the request id in brackets, to append to an error's text.
    """

    lines: Sequence[dict[str, object]]
    request_id_suffix: str = ""


def parse_events(response: httpx.Response) -> Events:
    """Return the objects of an NDJSON reply; an empty reply is valid, one without any object is not."""
    found = []
    for line in (lines := response.text.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    if lines and not found:
        raise _bad_reply(response, "it is not NDJSON")
    return Events(found, request_id_suffix(response.headers))


def require_complete(what: str, events: Events) -> None:
    """Raise an error unless the last event is ``complete``: HTTP status 200 was sent before the work ended."""
    last = events.lines[-1] if events.lines else {}
    if last.get("type") == "error":
        raise SpritesError(
            f"{what}: {redact_line(last.get('error') or last.get('data') or last)}{events.request_id_suffix}"
        )
    if last.get("type") != "complete":
        raise BadReply(f"{what}: the reply ended before the operation was complete{events.request_id_suffix}")


def _bad_reply(response: httpx.Response, why: str) -> BadReply:
    what = f"{response.request.method} {response.request.url.path}"
    return BadReply(f"{what}: the reply is invalid: {redact_line(why)}{request_id_suffix(response.headers)}")
