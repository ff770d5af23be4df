"""What replies mean: bodies to models, streams of events to their outcome."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ocaptain.sprites.errors import (
    BadReply,
    SpritesError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
    except ValueError as error:
        raise _bad(response, "it is not JSON") from error
    if not isinstance(found, dict):
        raise _bad(response, "it is no JSON object")
    return found


def as_events(response: httpx.Response) -> list[dict[str, object]]:
    """Return the objects of an NDJSON reply; an empty one is a reply, one of noise alone is not."""
    found = []
    for line in (lines := response.text.splitlines()):
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                found.append(event)
    if lines and not found:
        raise _bad(response, "it is not NDJSON")
    return found


def check_finished(what: str, events: Sequence[Mapping[str, object]]) -> None:
    """Raise what the last line of a stream says: the status was sent before the work was done."""
    last = events[-1] if events else {}
    if last.get("type") == "error":
        raise SpritesError(f"{what}: {last.get('error') or last.get('data') or last}")
    if last.get("type") != "complete":
        raise BadReply(f"{what}: the reply ended before the work did")


def _bad(response: httpx.Response, why: str) -> BadReply:
    what = f"{response.request.method} {response.request.url.path}"
    return BadReply(f"{what}: the reply cannot be understood: {why}")
