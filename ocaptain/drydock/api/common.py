"""Helpers of all endpoints: bodies, numbers, durations, JSON lines, error replies."""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

from ocaptain.drydock.errors import NO_ROOM_ERRNOS, ApiError, DrydockError, FsError, InvalidRequest, refusal_of_failure
from ocaptain.durations import parse_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic_core import ErrorDetails
    from starlette.datastructures import QueryParams
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

_Model = TypeVar("_Model", bound=BaseModel)
NOT_FOUND = 404
VERSION = "v0.0.1-rc46"
log = logging.getLogger("drydock")
PLAIN_TEXT_AREAS = frozenset({"services", "checkpoint", "checkpoints", "policy"})


def parse_duration(text: str) -> float:
    """Return the seconds of a Go-style duration (``1m30s``) or of a plain number.

    Raises:
        ApiError: 400: it is no duration.
    """
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ApiError(400, "invalid_duration", str(error)) from error


async def send_refusal(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Send a reply to a request, or to a WebSocket handshake instead of its upgrade."""
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


def error_reply(error: ApiError, path: str = "") -> Response:
    """Return the error reply in the format of the endpoint at ``path``.

    It is ``{"error": code, "message": text}``, except for the fs API (errno name) and for
    services, checkpoints and policies (plain text).
    """
    area = path.split("/")[4:5]
    if area == ["fs"] and not isinstance(error, FsError):
        code = "ENOENT" if error.status == NOT_FOUND else "EINVAL"
        return JSONResponse({"error": error.message, "code": code, "path": ""}, error.status)
    if area and area[0] in PLAIN_TEXT_AREAS:
        return PlainTextResponse(error.message, error.status)
    return JSONResponse(error.body(), error.status)


async def read_body(request: Request, model: type[_Model]) -> _Model:
    """Return the body of a request as ``model``.

    Raises:
        InvalidRequest: it does not match the model.
    """
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        raise InvalidRequest([_describe_invalid(one) for one in error.errors(include_url=False)]) from error


def _describe_invalid(found: ErrorDetails) -> str:
    return f"{'.'.join(str(part) for part in found['loc']) or 'body'}: {found['msg']}"


async def read_json(request: Request) -> dict[str, object]:
    """Return the JSON object that is a request's body, {} if it has none.

    Raises:
        ApiError: 400: it is not JSON.
    """
    try:
        found = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_request", "the request body is not JSON") from error
    return found if isinstance(found, dict) else {}


def parse_integer(text: str | None, default: int) -> int:
    """Return the number in a query parameter, ``default`` if it is missing.

    Raises:
        ApiError: 400: it is no number.
    """
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ApiError(400, "invalid_request", f"not a number: {text!r}")
    return int(text)


def is_flag_set(params: QueryParams, name: str, default: str = "false") -> bool:
    """Return whether a flag of the query is set (``true`` or ``1``)."""
    return params.get(name, default).lower() in {"true", "1"}


def ndjson_reply(events: AsyncIterator[dict[str, object]]) -> Response:
    """Return a reply that streams events as JSON lines."""

    async def lines() -> AsyncIterator[bytes]:
        async for event in events:
            yield json.dumps(event).encode() + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def handle_error(request: Request, error: Exception) -> Response:
    """Return the error reply for an exception of a handler."""
    match error:
        case ApiError():
            refusal = error
        case RecursionError():
            refusal = ApiError(400, "invalid_request", "the path or tree is too deep")
        case ClientDisconnect():
            refusal = ApiError(400, "invalid_request", "the client left")
        case DrydockError():
            refusal = refusal_of_failure(error.message)
        case OSError(errno=number) if number in NO_ROOM_ERRNOS:
            refusal = refusal_of_failure(str(error))
        case _:
            log.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
            refusal = ApiError(500, "internal_error", f"{type(error).__name__}: {error}")
    return error_reply(refusal, request.url.path)
