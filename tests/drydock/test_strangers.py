"""Whoever reaches drydock's port without its token, or by a foreign name: refused, and nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import uvicorn

from ocaptain.drydock import connections
from ocaptain.drydock.api import bodies
from ocaptain.drydock.api.bodies import FILE, JSON, Bodies, body_limit
from ocaptain.drydock.connections import BoundedProtocol, mark_accepted
from ocaptain.drydock.errors import ApiError
from tests.helpers import wait_for

CALLS = 1750
SEED = int(os.environ.get("OCAPTAIN_SEED", "17"))
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "OPTIONS", "BREW")
PATHS = (
    "/",
    "/v1/sprites",
    "/v1/sprites/one",
    "/v1/sprites/one/exec?cmd=touch&cmd=/home/sprite/was-here",
    "/v1/sprites/one/fs/write?path=/home/sprite/was-here",
    "/v1/sprites/one/fs/read?path=/etc/passwd",
    "/v1/sprites/one/services/was-here",
    "/v1/sprites/one/checkpoint",
    "/v1/sprites/one/restart",
    "/v1/sprites/one/policy/network",
    "/v1/sprites/two/tasks",
    "/v1/sprites/one/../one/exec",
    "/drydock/metrics",
    "/drydock/faults",
    "/drydock/clock",
    "/drydock/shutdown",
    "/drydock/sprites/x/ports",
)
BODIES = (b"", b'{"name": "was-here"}', b'{"advance": 100}', b'{"rules": [{"kind": "hang"}]}', b"[" * 5000)
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


def stranger_call(rng, port, token, *, by_foreign_names=0.3):
    """One call that is none of ours, as bytes: without the token, with a wrong one, by a foreign name, or half."""
    method, path, body = rng.choice(METHODS), rng.choice(PATHS), rng.choice(BODIES)
    wrong = ["", f"Authorization: Bearer {token[:-1]}", f"Authorization: Basic {token}", f"X-Token: {token}"]
    wrong += [f"Authorization: Bearer {token}\r\nAuthorization: Bearer x", "Authorization: Bearer \xfc"]
    hosts = [f"127.0.0.1:{port}", "localhost", f"[::1]:{port}"]
    foreign = ["evil.example", f"127.0.0.1.evil.example:{port}", "127.0.0.1@evil.example", "", "localhost:1:2x"]
    if rng.random() < by_foreign_names:
        credential, host = f"Authorization: Bearer {token}", rng.choice(foreign)
    else:
        credential, host = rng.choice(wrong), rng.choice(hosts)
    if rng.random() < 0.2:
        path += f"{'&' if '?' in path else '?'}token={token}"
    upgrade = UPGRADE if rng.random() < 0.25 else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{credential}{chr(13) + chr(10) if credential else ''}{upgrade}"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
    kind = rng.random()
    if kind < 0.15:
        return whole[: rng.randrange(len(whole))]
    if kind < 0.2:
        return f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode("latin-1")
    if kind < 0.25:
        return f"{head}Content-Length: 99999999999\r\n\r\n".encode("latin-1") + b"x" * 100_000
    if kind < 0.3:
        return rng.randbytes(rng.randrange(1, 2000))
    return whole


def fire(port, data, *, patience=5.0):
    """Send bytes and that there are no more; return what is answered until the other end closes."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as raw, contextlib.suppress(OSError):
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        while piece := raw.recv(65536):
            said += piece
    return said


def traces(dock):
    """Everything that a call could change."""
    metrics = dock.rest.get("/drydock/metrics").json()
    folder = dock.folder("one")
    files = {str(path): path.lstat().st_mtime_ns for path in sorted((folder / "home").rglob("*"))}
    return {
        "calls": metrics["calls"],
        "bytes": metrics["bytes"],
        "states": metrics["states"],
        "awake": metrics["awake_seconds"],
        "faults": dock.rest.get("/drydock/faults").json(),
        "record": (folder / "sprite.json").read_bytes(),
        "files": files,
        "log": (dock.sailor.home / "state/ocaptain/drydock/drydock.log").read_bytes(),
    }


@pytest.mark.root
def test_calls_of_strangers_leave_no_trace(own):
    dock = own("--idle", "0.5", "--cold", "0", "--latency", "0")
    dock.make("one").run("true")
    dock.rest.put("/drydock/faults", json={"rules": [{"call": "* /v1/sprites/two*", "kind": "status", "status": 418}]})
    dock.until("one", "warm")
    port = httpx.URL(dock.record["url"]).port
    before = traces(dock)
    rng = random.Random(SEED)
    shots = [stranger_call(rng, port, dock.token) for _ in range(CALLS)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda data: fire(port, data), shots))
    said = {int(answer.split()[1]) for answer in answers if answer}
    assert said <= {400, 401, 421}, said
    assert {401, 421} <= said
    assert dock.token.encode() not in b"".join(answers)
    # Calls of our own that there is no endpoint for: answered, not counted, and they wake nobody.
    for method, path in (("GET", "/v1/sprites/one/nothing"), ("PATCH", "/v1/sprites/one/exec"), ("GET", "/v1/x")):
        assert dock.rest.request(method, path).status_code in {404, 405}
    assert dock.rest.get("/v1/sprites/nobody").status_code == 404
    assert traces(dock) == before
    fds = Path(f"/proc/{dock.record['pid']}/fd")
    wait_for(lambda: len(list(fds.iterdir())) < 100)


@pytest.mark.root
def test_strangers_do_not_keep_it_up(own):
    dock = own("--idle-exit", "1.5")
    port = httpx.URL(dock.record["url"]).port
    over = threading.Event()

    def knock():
        rng = random.Random(SEED)
        while not over.is_set():
            with contextlib.suppress(OSError):
                fire(port, stranger_call(rng, port, dock.token, by_foreign_names=0), patience=1)

    knocking = threading.Thread(target=knock)
    knocking.start()
    try:
        wait_for(lambda: not Path(f"/proc/{dock.record['pid']}").exists())
    finally:
        over.set()
        knocking.join()


@contextlib.contextmanager
def serving(app):
    """An application behind our protocol, in a thread; yields its port."""
    config = uvicorn.Config(app, http=BoundedProtocol, lifespan="off", log_config=None, timeout_keep_alive=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


async def service(scope, receive, send):
    """Accepts what carries a token; reads the body of a PUT."""
    if any(name == b"authorization" for name, _ in scope["headers"]):
        mark_accepted(scope)
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    status = 200
    if scope["method"] == "PUT":
        try:
            while (await receive()).get("more_body"):
                pass
        except ApiError as error:
            status = error.status
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def is_closed(raw, data, pause=0.02, count=500):
    """Whether the other end closes while we send ``data`` piece by piece; what it says first is passed over."""
    raw.settimeout(pause)
    for number in range(count):
        try:
            raw.sendall(data[number % len(data)])
        except OSError:
            return True
        try:
            if raw.recv(65536) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def answered(raw):
    """Whether an answer comes."""
    said = b""
    while not said.endswith(b"ok") and (piece := raw.recv(4096)):
        said += piece
    return said.startswith(b"HTTP/1.1 200")


HEAD = [bytes([one]) for one in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100]
OURS = b"GET %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\n\r\n"


@pytest.fixture
def hurried(monkeypatch):
    """Deadlines of a second: what is to be in time must be so on a busy machine."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 1.0)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 1.0)
    monkeypatch.setattr(BoundedProtocol, "max_unaccepted", 10)
    monkeypatch.setattr(bodies, "JSON", bodies.BodyLimit(1000, seconds=1.0))


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("pieces", [HEAD, [b""], [b"\r\n"]], ids=["bytes", "nothing", "lines"])
@pytest.mark.parametrize("known", [False, True], ids=["stranger", "known"])
def test_a_head_that_does_not_end_is_dropped(pieces, known):
    with serving(service) as port, socket.create_connection(("127.0.0.1", port)) as raw:
        if known:
            raw.sendall(OURS % b"/")
            assert answered(raw)
        assert is_closed(raw, pieces)


@pytest.mark.usefixtures("hurried")
def test_a_call_that_is_ours_may_take_its_time():
    with serving(service) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        for path in (b"/slow", b"/", b"/slow"):
            raw.sendall(OURS % path)
            assert answered(raw)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("head", [b"Content-Length: 99999999", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_body_that_does_not_end_is_dropped(head, method):
    piece = b"x" * 10 if b"Length" in head else b"a\r\n0123456789\r\n"
    with serving(Bodies(service)) as port, socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(method + b" /v1 HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        assert is_closed(raw, [piece])


@pytest.mark.usefixtures("hurried")
def test_what_is_wrong_with_a_body_is_said():
    with serving(Bodies(service)) as port:
        url = f"http://127.0.0.1:{port}/v1/sprites"
        assert httpx.put(url, content=b"x" * 1000).status_code == 200
        assert httpx.put(url, content=b"x" * 1001).status_code == 413
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(b"PUT /v1 HTTP/1.1\r\nHost: x\r\nAuthorization: x\r\nContent-Length: 10\r\n\r\nabc")
            said = raw.recv(4096)
            assert said.startswith(b"HTTP/1.1 408")
            assert b"connection: close" in said


@pytest.mark.usefixtures("hurried")
def test_many_strangers_keep_nobody_out(monkeypatch):
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60)
    with serving(service) as port, contextlib.ExitStack() as stack:

        def opened():
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))

        ours = opened()
        ours.sendall(OURS % b"/")
        assert answered(ours)
        strangers = [opened() for _ in range(50)]
        for one in strangers[:40]:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
        for one in (ours, opened()):
            one.sendall(OURS % b"/slow")
            assert answered(one)


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("PUT", "/v1/sprites/x/fs/write", FILE),
        ("POST", "/v1/sprites/x/exec", None),
        ("POST", "/v1/sprites/x/exec/7/kill", JSON),
        ("GET", "/v1/sprites/x/exec", JSON),
        ("POST", "/v1/sprites", JSON),
        ("PUT", "/drydock/faults", JSON),
    ],
)
def test_how_long_a_body_may_be(method, path, limit):
    assert body_limit(method, path) == limit


def test_a_file_may_take_as_long_as_it_is():
    assert FILE.seconds_for(0) == JSON.seconds_for(10**6) == 30
    assert FILE.seconds_for(32 * 1024 * 1024) > 600
