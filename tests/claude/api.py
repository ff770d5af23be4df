"""A scripted Anthropic API on loopback: plays each task's conversation, and keeps the bill.

Which task a request belongs to is told by the task's subject in the first line of its first prompt; where the
conversation stands, by its messages, so that a request that is sent again gets the same answer.
A script is data: for each task a list of *plays*, one a prompt (the first one, and each one after
a kill, a conflict or a failed check); a play is a list of turns; a turn is what the model says
and which tools it uses, or what goes wrong instead.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Dollars a million tokens: (input, output, write to the cache for 5 minutes, read from it), as the
#: CLI's own list has them.
PRICES = {
    "claude-opus-5-5": (4.0, 20.0, 5.0, 0.2),
    "claude-sonnet-5-5": (2.0, 10.0, 2.5, 0.1),
    "claude-opus-4-5": (5.0, 25.0, 6.25, 0.5),
    "claude-sonnet-4-5": (3.0, 15.0, 3.75, 0.3),
    "claude-haiku-4-5": (1.0, 5.0, 1.25, 0.1),
}
GATE_SECONDS = 600.0
HANG_SECONDS = 600.0
CUT_SECONDS = 0.3
PIECE = 8 * 1024
#: What the client says itself, beside the result of ToolSearch.
LOADED = "Tool loaded."


@dataclass(frozen=True)
class Say:
    """Text of the model."""

    text: str


@dataclass(frozen=True)
class Use:
    """A tool that the model uses."""

    tool: str
    input: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What goes wrong in place of a turn, for its first ``times`` requests.

    Attributes:
        status: of the answer; 0 = the stream is cut in the middle of a text.
        hang: say nothing more after the stream's beginning.
    """

    status: int = 0
    times: int = 1
    headers: tuple[tuple[str, str], ...] = ()
    hang: bool = False


@dataclass(frozen=True)
class Turn:
    """One message of the model, the faults that come before it, and what it costs in tokens.

    Attributes:
        gate: the answer waits until this says yes.
    """

    blocks: tuple[Say | Use, ...]
    faults: tuple[Fault, ...] = ()
    input: int = 1000
    output: int = 100
    written: int = 0
    cached: int = 0
    gate: Callable[[], bool] | None = field(default=None, repr=False)


Play = tuple[Turn, ...]


@dataclass(frozen=True)
class Billed:
    """One message that was answered in full or in part."""

    task: str
    session: str
    model: str
    tokens: tuple[int, int, int, int]

    @property
    def dollars(self) -> float:
        prices = next(prices for name, prices in PRICES.items() if self.model.startswith(name))
        return sum(count * price for count, price in zip(self.tokens, prices, strict=True)) / 1e6


@dataclass
class Seen:
    """A request: where from, and what it held."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    answered: str = ""


@dataclass
class Api:
    """The server. ``script`` may be replaced while it runs.

    Attributes:
        script: plays by a task's subject.
        keys: what a request must be signed with; anything else is 401. Empty = anything.
        bill: what was answered, in order.
        seen: every request.
        strange: requests that no script has an answer for.
    """

    script: dict[str, tuple[Play, ...]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    bill: list[Billed] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[tuple[str, int, int, int], int] = defaultdict(int)
        self._runs: dict[str, list[tuple[str, int]]] = defaultdict(list)
        api = self

        class Handler(_Handler):
            owner = api

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # a client may go at any time
                    api.strange.append(traceback.format_exc())

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.ended = threading.Event()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def billed(self, task: str) -> list[Billed]:
        """Return what a task was billed, all of its attempts together."""
        with self._lock:
            return [one for one in self.bill if one.task == task]

    def dollars(self, task: str) -> float:
        """Return the sum of it."""
        return sum(one.dollars for one in self.billed(task))

    def prompts(self, task: str) -> list[tuple[str, int]]:
        """Return the (session, number of the prompt in it) of each prompt that a task was given."""
        with self._lock:
            return list(self._runs[task])

    # -- decisions ----------------------------------------------------------------------------

    def answer(self, body: dict[str, Any]) -> tuple[str, Turn | Fault, str] | None:
        """Return task, what is played and the session; None if no script has an answer."""
        spoken = prompts(body)
        if not spoken:
            return None
        # Its first line names the task; further down others are named as well.
        first = spoken[0].lstrip().partition("\n")[0]
        task = max((name for name in self.script if name in first), key=len, default=None)
        if task is None:
            return None
        session = session_of(body)
        with self._lock:
            runs = self._runs[task]
            if (session, len(spoken)) not in runs:
                runs.append((session, len(spoken)))
            number = min(runs.index((session, len(spoken))), len(self.script[task]) - 1)
            play = self.script[task][number]
            at = min(said_since_prompt(body), len(play) - 1)
            for index, fault in enumerate(play[at].faults):
                key = (task, number, at, index)
                if self._faults[key] < fault.times:
                    self._faults[key] += 1
                    return task, fault, session
            return task, play[at], session

    def count(self, task: str, session: str, model: str, turn: Turn) -> None:
        tokens = (turn.input, turn.output, turn.written, turn.cached)
        with self._lock:
            self.bill.append(Billed(task, session, model, tokens))


def session_of(body: dict[str, Any]) -> str:
    """Return the session that the client names in its metadata."""
    raw = str((body.get("metadata") or {}).get("user_id") or "")
    try:
        return str(json.loads(raw)["session_id"])
    except (ValueError, KeyError, TypeError):
        return raw.rpartition("session_")[2]


def _texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    found = [block["text"] for block in blocks if block["type"] == "text"]
    return [text for text in found if not text.lstrip().startswith("<system-reminder>") and text != LOADED]


def prompts(body: dict[str, Any]) -> list[str]:
    """Return what the user said, without the client's own reminders and tools' results."""
    return [
        "\n".join(texts) for message in body["messages"] if message["role"] == "user" and (texts := _texts(message))
    ]


def said_since_prompt(body: dict[str, Any]) -> int:
    """Return how many messages of the model came after the last prompt."""
    count = 0
    for message in body["messages"]:
        if message["role"] == "assistant":
            count += 1
        elif message["role"] == "user" and _texts(message):
            count = 0
    return count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Api

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the library
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._plain(200, {})

    def do_GET(self) -> None:
        self.owner.seen.append(Seen(self.path, dict(self.headers), {}))
        self._plain(404, error("not_found_error", "not here"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        seen = Seen(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.owner.seen.append(seen)
        where = self.path.partition("?")[0]
        if where == "/v1/messages/count_tokens":
            self._plain(200, {"input_tokens": 1000})
        elif where != "/v1/messages":
            self.owner.strange.append(self.path)
            self._plain(404, error("not_found_error", "not here"))
        elif self.owner.keys and not self.owner.keys & {
            seen.headers.get("x-api-key", ""),
            seen.headers.get("authorization", "").removeprefix("Bearer "),
        }:
            seen.answered = "401"
            self._plain(401, error("authentication_error", "invalid x-api-key"))
        else:
            self._message(seen)

    def _message(self, seen: Seen) -> None:
        found = self.owner.answer(seen.body)
        if found is None:
            self.owner.strange.append(json.dumps(seen.body["messages"])[:2000])
            self._plain(400, error("invalid_request_error", "no script has an answer to this"))
            return
        task, played, session = found
        model = str(seen.body["model"])
        seen.answered = f"{task}: {played}"[:200]
        if isinstance(played, Turn):
            self._wait(played.gate)
            self.owner.count(task, session, model, played)
            self._stream(seen, model, played)
        elif played.status:
            kinds = {401: "authentication_error", 400: "invalid_request_error", 429: "rate_limit_error"}
            kind = "overloaded_error" if played.status == 529 else kinds.get(played.status, "api_error")
            self._plain(played.status, error(kind, f"scripted {played.status}"), dict(played.headers))
        else:
            # What was streamed is billed, whether or not its end arrives.
            broken = Turn((Say("This text is cut in its very middle, "),), input=50, output=7)
            self.owner.count(task, session, model, broken)
            self._broken(model, broken, hang=played.hang)

    def _wait(self, gate: Callable[[], bool] | None) -> None:
        until = time.monotonic() + GATE_SECONDS
        while gate and not gate() and time.monotonic() < until and not self.owner.ended.is_set():
            time.sleep(0.05)

    # -- the wire -------------------------------------------------------------------------------

    def _plain(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "content-type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _begin(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def _event(self, kind: str, **more: Any) -> None:
        data = f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _stream(self, seen: Seen, model: str, turn: Turn) -> None:
        content, stop = blocks(turn), "tool_use" if any(isinstance(one, Use) for one in turn.blocks) else "end_turn"
        if not seen.body.get("stream"):
            self._plain(200, message(model, turn, content=content, stop_reason=stop))
            return
        self._begin()
        self._event("message_start", message=message(model, turn, output=1))
        for index, block in enumerate(content):
            if block["type"] == "text":
                start, deltas = {"type": "text", "text": ""}, _pieces("text_delta", "text", block["text"])
            else:
                start = {**block, "input": {}}
                deltas = _pieces("input_json_delta", "partial_json", json.dumps(block["input"]))
            self._event("content_block_start", index=index, content_block=start)
            for delta in deltas:
                self._event("content_block_delta", index=index, delta=delta)
            self._event("content_block_stop", index=index)
        self._event(
            "message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": turn.output}
        )
        self._event("message_stop")
        self.wfile.write(b"0\r\n\r\n")

    def _broken(self, model: str, turn: Turn, *, hang: bool) -> None:
        self.close_connection = True
        self._begin()
        self._event("message_start", message=message(model, turn, output=turn.output))
        self._event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": turn.blocks[0].text})
        self.wfile.flush()
        # A cut that follows at once would be a connection that never was.
        self.owner.ended.wait(HANG_SECONDS if hang else CUT_SECONDS)


_numbers = iter(range(1, 10**9))


def blocks(turn: Turn) -> list[dict[str, Any]]:
    """Return a turn's content as the API writes it."""
    return [
        {"type": "text", "text": one.text}
        if isinstance(one, Say)
        else {
            "type": "tool_use",
            "id": f"toolu_{next(_numbers):08d}{time.time_ns()}",
            "name": one.tool,
            "input": one.input,
        }
        for one in turn.blocks
    ]


def message(model: str, turn: Turn, *, output: int | None = None, **more: Any) -> dict[str, Any]:
    """Return a message as the API writes it."""
    return {
        "id": f"msg_{next(_numbers):08d}{time.time_ns()}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": turn.input,
            "output_tokens": turn.output if output is None else output,
            "cache_creation_input_tokens": turn.written,
            "cache_creation": {"ephemeral_5m_input_tokens": turn.written, "ephemeral_1h_input_tokens": 0},
            "cache_read_input_tokens": turn.cached,
        },
        **more,
    }


def error(kind: str, text: str) -> dict[str, Any]:
    """Return an error as the API writes it."""
    return {"type": "error", "error": {"type": kind, "message": text}}


def _pieces(kind: str, name: str, text: str) -> list[dict[str, str]]:
    return [{"type": kind, name: text[start : start + PIECE]} for start in range(0, max(1, len(text)), PIECE)]
