"""Injected faults and latency, for tests; a seed makes them reproducible.

What happens to a call is decided by :meth:`Faults.match_rule`, which touches nothing but its own
counters; :class:`FaultGate` carries it out around the application. Every injected fault is recorded.

Calls are named ``METHOD /path`` below ``/v1`` (``POST /v1/sprites``, ``WS /v1/sprites/x/exec``)
and matched by shell patterns. Drydock's own calls (``/drydock/…``) are never touched, nor are calls
that there is no endpoint for.
"""

from __future__ import annotations

import asyncio
import fnmatch
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_INJECTED = 1000
#: In the scope of a call that is served: the path pattern of its route.
ENDPOINT_KEY = "ocaptain.endpoint"
#: Codes of the live service where it has one of its own.
ERROR_CODES = {429: "sprite_creation_rate_limited", 500: "internal_error", 503: "unavailable"}
FaultKind = Literal["status", "hang", "hold", "truncate", "garbage", "cut"]


class FaultRule(BaseModel):
    """A failure to inject.

    Attributes:
        call: pattern of the calls that it applies to (``* /v1/sprites/*/fs/write``).
        kind: ``status``: refuse with ``status``; ``hang``: never answer; ``hold``: answer when the
            plan is replaced; ``truncate``: send half of the reply's body; ``garbage``: reply with
            something that is not JSON; ``cut``: break the connection in the middle of the reply.
        after: number of matching calls that pass first.
        times: how many calls are affected; None = all.
        rate: share of the remaining calls that are affected, chosen with the seed.
        done: carry out the call before its answer is replaced (kinds ``status`` and ``hang``).
        status: HTTP status (kind ``status``).
        retry_after: seconds in the header of that name (kind ``status``).
        messages: number of messages that pass before a socket is cut.
    """

    model_config = ConfigDict(extra="forbid")

    call: str = "*"
    kind: FaultKind = "status"
    after: Annotated[int, Field(ge=0)] = 0
    times: Annotated[int, Field(ge=1)] | None = None
    rate: Annotated[float, Field(ge=0, le=1)] = 1.0
    done: bool = False
    status: Annotated[int, Field(ge=400, le=599)] = 500
    retry_after: Annotated[float, Field(ge=0)] | None = None
    messages: Annotated[int, Field(ge=0)] = 1


class FaultPlan(BaseModel):
    """The faults to inject; body of ``PUT /drydock/faults``.

    Attributes:
        latency: seconds added to each call.
        jitter: largest random difference from ``latency``, in seconds.
        seed: of all random choices here.
        rules: the first rule that matches a call is used.
    """

    model_config = ConfigDict(extra="forbid")

    latency: Annotated[float, Field(ge=0, le=3600)] = 0.0
    jitter: Annotated[float, Field(ge=0, le=3600)] = 0.0
    seed: int = 0
    rules: list[FaultRule] = []


class Faults:
    """The active plan, how often each rule matched, and the injected faults."""

    def __init__(self, plan: FaultPlan | None = None) -> None:
        self.changed = asyncio.Event()
        self.replace_plan(plan or FaultPlan())

    def replace_plan(self, plan: FaultPlan) -> None:
        """Replace the plan; calls that the old plan holds continue."""
        self.plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - reproducible on purpose
        self._met = [0] * len(plan.rules)
        self._hit = [0] * len(plan.rules)
        self.injected: deque[dict[str, object]] = deque(maxlen=MAX_INJECTED)
        self.changed.set()
        self.changed = asyncio.Event()

    def draw_delay(self) -> float:
        """Return the seconds to delay the next call."""
        jitter = self.plan.jitter
        return max(0.0, self.plan.latency + (self._random.uniform(-jitter, jitter) if jitter else 0.0))

    def match_rule(self, call: str) -> FaultRule | None:
        """Return the rule to apply to ``call``, None for no fault; count the call."""
        for number, rule in enumerate(self.plan.rules):
            if not fnmatch.fnmatchcase(call, rule.call):
                continue
            self._met[number] += 1
            if self._met[number] <= rule.after or (rule.times is not None and self._hit[number] >= rule.times):
                continue
            if rule.rate < 1 and self._random.random() >= rule.rate:
                continue
            self._hit[number] += 1
            self.injected.append({"at": time.time(), "call": call, "rule": number, "kind": rule.kind})
            return rule
        return None

    def describe(self) -> dict[str, object]:
        """Return plan, counts and log, as ``GET /drydock/faults`` shows them."""
        return {
            "plan": self.plan.model_dump(),
            "met": self._met,
            "hit": self._hit,
            "injected": list(self.injected),
        }


class ConnectionCut(Exception):
    """Raised to end a connection in the middle of a reply: the server then closes it."""


class FaultGate:
    """ASGI middleware that injects the faults."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on; delay or spoil it if the plan says so."""
        if not scope.get(ENDPOINT_KEY, "").startswith("/v1"):
            await self._app(scope, receive, send)
            return
        if late := self._faults.draw_delay():
            await asyncio.sleep(late)
        method = "WS" if scope["type"] == "websocket" else scope["method"]
        rule = self._faults.match_rule(f"{method} {scope['path']}")
        if rule is None or rule.kind == "hold":
            if rule:
                await self._faults.changed.wait()
            await self._app(scope, receive, send)
        elif rule.kind in {"hang", "status"}:
            if rule.done and scope["type"] == "http":
                await self._app(scope, receive, _discard_message)
            if rule.kind == "hang":
                await _wait_for_disconnect(receive)
            else:
                await _send_refusal(rule, send, socket=scope["type"] == "websocket")
        else:
            await self._spoil_reply(rule, scope, receive, send)

    async def _spoil_reply(self, rule: FaultRule, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and break the answer; a socket can only be cut."""
        if rule.kind == "cut" or scope["type"] == "websocket":
            cutting = _CuttingSender(send, rule.messages)
            answering = asyncio.ensure_future(self._app(scope, receive, cutting))
            cut = asyncio.ensure_future(cutting.cut.wait())
            await asyncio.wait([answering, cut], return_when=asyncio.FIRST_COMPLETED)
            cut.cancel()
            if not cutting.cut.is_set():
                await answering
                return
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            raise ConnectionCut  # from here: what the application raises, it may also catch
        if rule.kind == "truncate":
            await self._app(scope, receive, _HalfBodySender(send))
        else:
            await self._app(scope, receive, _discard_message)
            await _send_reply(send, 200, b"<html>Bad luck</html>")


async def _discard_message(message: Message) -> None:
    del message


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] not in {"http.disconnect", "websocket.disconnect"}:
        pass


async def _send_reply(
    send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), *, prefix: str = "http"
) -> None:
    base = (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())
    await send({"type": f"{prefix}.response.start", "status": status, "headers": [*base, *headers]})
    await send({"type": f"{prefix}.response.body", "body": body})


async def _send_refusal(rule: FaultRule, send: Send, *, socket: bool) -> None:
    wait = "" if rule.retry_after is None else f', "retry_after_seconds": {rule.retry_after:g}'
    code = ERROR_CODES.get(rule.status, "injected")
    body = f'{{"error": "{code}", "message": "refused by the fault plan of drydock"{wait}}}'.encode()
    headers = () if rule.retry_after is None else ((b"retry-after", f"{rule.retry_after:g}".encode()),)
    await _send_reply(send, rule.status, body, headers, prefix="websocket.http" if socket else "http")


class _HalfBodySender:
    """Sends the first half of a reply's body as if it were complete."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        half = bytes(self._body[: len(self._body) // 2])
        headers = [(name, value) for name, value in self._start.get("headers", []) if name != b"content-length"]
        length = (b"content-length", str(len(half)).encode())
        status = self._start["status"]
        await self._send({**self._start, "headers": headers if status == 204 else [*headers, length]})
        await self._send({"type": "http.response.body", "body": half})


class _CuttingSender:
    """Lets some messages through, then breaks the connection."""

    def __init__(self, send: Send, messages: int) -> None:
        self._send = send
        self._left = messages
        self.cut = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            # A length that is never reached: the client sees that something is missing.
            headers = [pair for pair in message.get("headers", []) if pair[0] != b"content-length"]
            await self._send({**message, "headers": [*headers, (b"content-length", b"1000000")]})
            return
        if message["type"] in {"websocket.accept", "websocket.http.response.start"}:
            await self._send(message)
            return
        if self._left <= 0:
            self.cut.set()
            raise ConnectionCut
        self._left -= 1
        if message["type"] == "http.response.body":
            await self._send({**message, "body": message.get("body", b"")[:1000], "more_body": True})
        else:
            await self._send(message)
