"""Injected faults and latency, for tests; a seed makes them reproducible.

What happens to a call is decided by :meth:`Faults.match_rule`, which touches nothing but its own
counters; :class:`FaultGate` carries it out around the application. Every injected fault is recorded.

A rule of kind ``wedge`` is for good: the sprite of the call that it hits is wedged, as sprites of the live
service have been. Its status stays ``running``; the lists, its own GET and its DELETE answer; every other
call to it hangs, and its open sockets fall silent, until the plan is replaced or the sprite is destroyed.
What runs inside it runs on.

Calls are named ``METHOD /path`` below ``/v1`` (``POST /v1/sprites``, ``WS /v1/sprites/x/exec``)
and matched by shell patterns. Drydock's own calls (``/drydock/…``) are never touched, nor are calls
that there is no endpoint for.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field

from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.spoiling import ConnectionCut, CuttingSender, HalfBodySender, LosingSender

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_INJECTED = 1000
#: In the scope of a call that is served: the path pattern of its route.
ENDPOINT_KEY = "ocaptain.endpoint"
#: Codes of the live service where it has one of its own.
ERROR_CODES = {429: "sprite_creation_rate_limited", 500: "internal_error", 503: "unavailable"}
FaultKind = Literal["status", "hang", "hold", "truncate", "garbage", "cut", "lose", "wedge"]
#: The live service was seen to lose standard output beyond about 512 KiB, in mid-stream.
KEPT_BYTES = 512 * 1024
LOST_BYTES = 64 * 1024
SPRITE_PATH = "/v1/sprites/{name}"
DISCONNECTS = frozenset({"http.disconnect", "websocket.disconnect"})
EXEC_ENDPOINTS = frozenset({f"{SPRITE_PATH}/exec", f"{SPRITE_PATH}/exec/{{id}}"})


class FaultRule(BaseModel):
    """A failure to inject.

    Attributes:
        call: pattern of the calls that it applies to (``* /v1/sprites/*/fs/write``).
        kind: ``status``: refuse with ``status``; ``hang``: never answer; ``hold``: answer when the
            plan is replaced; ``truncate``: send half of the reply's body; ``garbage``: reply with
            something that is not JSON; ``cut``: break the connection in the middle of the reply;
            ``lose``: leave holes in a command's output; ``wedge``: see above.
        after: number of matching calls that pass first.
        times: how many calls are affected; None = all.
        rate: share of the remaining calls that are affected, chosen with the seed.
        done: carry out the call before its answer is replaced (kinds ``status`` and ``hang``).
        status: HTTP status (kind ``status``).
        retry_after: seconds in the header of that name (kind ``status``).
        messages: number of messages that pass before a socket is cut.
        kept, lost: after each ``kept`` bytes of a stream the next ``lost`` bytes are missing (kind ``lose``).
        stream: the stream of a command that loses them (kind ``lose``).
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
    kept: Annotated[int, Field(ge=1)] = KEPT_BYTES
    lost: Annotated[int, Field(ge=1)] = LOST_BYTES
    stream: Literal["stdout", "stderr", "both"] = "stdout"


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
        self._wedged: dict[str, asyncio.Event] = {}
        self.replace_plan(plan or FaultPlan())

    def replace_plan(self, plan: FaultPlan) -> None:
        """Replace the plan; calls that the old plan holds continue, and no sprite is wedged any more."""
        self.plan = plan
        for name in list(self._wedged):
            self.free(name)
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

    def wedge(self, name: str) -> asyncio.Event:
        """Wedge a sprite; return what is set when it is free again."""
        return self._wedged.setdefault(name, asyncio.Event())

    def free(self, name: str) -> None:
        """End a sprite's wedge, if it has one."""
        if freed := self._wedged.pop(name, None):
            freed.set()

    def is_wedged(self, name: str) -> bool:
        """Whether a sprite is wedged now."""
        return name in self._wedged

    async def wait_until_free(self, name: str) -> None:
        """Wait until a sprite is not wedged."""
        while freed := self._wedged.get(name):
            await freed.wait()

    def describe(self) -> dict[str, object]:
        """Return plan, counts, wedged sprites and log, as ``GET /drydock/faults`` shows them."""
        return {
            "plan": self.plan.model_dump(),
            "met": self._met,
            "hit": self._hit,
            "wedged": sorted(self._wedged),
            "injected": list(self.injected),
        }


class FaultGate:
    """ASGI middleware that injects the faults.

    Args:
        app: the application.
        faults: what is injected.
        keep_awake: keeps a sprite running inside the block; raises ApiError or DrydockError if it cannot.
    """

    def __init__(
        self, app: ASGIApp, faults: Faults, keep_awake: Callable[[str], AbstractAsyncContextManager[None]]
    ) -> None:
        self._app = app
        self._faults = faults
        self._keep_awake = keep_awake
        self._keeping: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on; delay or spoil it if the plan says so."""
        endpoint = scope.get(ENDPOINT_KEY, "")
        if not endpoint.startswith("/v1"):
            await self._app(scope, receive, send)
            return
        if late := self._faults.draw_delay():
            await asyncio.sleep(late)
        method = "WS" if scope["type"] == "websocket" else scope["method"]
        rule = self._faults.match_rule(f"{method} {scope['path']}")
        name = str(scope["path"]).split("/")[3] if endpoint.startswith(SPRITE_PATH) else None
        if rule and rule.kind == "wedge" and name:
            self._begin_wedge(name)
        if name is None or endpoint == SPRITE_PATH:
            await self._inject(rule, scope, receive, send)
            if name and method == "DELETE":  # the next sprite of that name is another one
                self._faults.free(name)
        elif self._faults.is_wedged(name):
            await _wait_for_disconnect(receive)
        else:
            await self._inject(rule, scope, *self._held_while_wedged(name, receive, send))

    def _begin_wedge(self, name: str) -> None:
        """Wedge a sprite, and keep it running until it is free."""
        if self._faults.is_wedged(name):
            return
        freed = self._faults.wedge(name)

        async def keep() -> None:
            with contextlib.suppress(ApiError, DrydockError):  # it does not exist, or does not start
                async with self._keep_awake(name):
                    await freed.wait()

        self._keeping.add(task := asyncio.create_task(keep(), name=f"wedge {name}"))
        task.add_done_callback(self._keeping.discard)

    def _held_while_wedged(self, name: str, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Return ``receive`` and ``send`` that wait while the sprite is wedged; a disconnect is told at once."""

        async def held_receive() -> Message:
            message = await receive()
            if message["type"] not in DISCONNECTS:
                await self._faults.wait_until_free(name)
            return message

        async def held_send(message: Message) -> None:
            await self._faults.wait_until_free(name)
            await send(message)

        return held_receive, held_send

    async def _inject(self, rule: FaultRule | None, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, spoilt as the rule says."""
        if rule is None or rule.kind in {"hold", "wedge"}:
            if rule and rule.kind == "hold":
                await self._faults.changed.wait()
            await self._app(scope, receive, send)
        elif rule.kind in {"hang", "status"}:
            if rule.done and scope["type"] == "http":
                await self._app(scope, receive, _discard_message)
            if rule.kind == "hang":
                await _wait_for_disconnect(receive)
            else:
                await _send_refusal(rule, send, socket=scope["type"] == "websocket")
        elif rule.kind == "lose":
            await self._app(scope, receive, _losing_sender(rule, scope, send))
        else:
            await self._spoil_reply(rule, scope, receive, send)

    async def _spoil_reply(self, rule: FaultRule, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and break the answer; a socket can only be cut."""
        if rule.kind == "cut" or scope["type"] == "websocket":
            cutting = CuttingSender(send, rule.messages)
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
            await self._app(scope, receive, HalfBodySender(send))
        else:
            await self._app(scope, receive, _discard_message)
            await _send_reply(send, 200, b"<html>Bad luck</html>")


def _losing_sender(rule: FaultRule, scope: Scope, send: Send) -> Send:
    """Return a ``send`` that loses output of a command; any other call is as it was."""
    if scope[ENDPOINT_KEY] not in EXEC_ENDPOINTS:
        return send
    query = parse_qs(scope.get("query_string", b"").decode("ascii", "replace"))
    is_terminal = scope["type"] == "websocket" and query.get("tty", [""])[-1].lower() in {"true", "1"}
    return LosingSender(send, rule.kept, rule.lost, stream=rule.stream, tty=is_terminal)


async def _discard_message(message: Message) -> None:
    del message


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] not in DISCONNECTS:
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
