"""The Sprites client's REST part against scripted answers: retries, dialects, pages, deadlines."""

from __future__ import annotations

import asyncio
import json
import time
import traceback

import httpx
import pytest

from ocaptain.errors import UsageError
from ocaptain.sprites import (
    ApiError,
    AuthenticationError,
    BadReply,
    Conflict,
    ConnectionFailed,
    NotFound,
    RateLimited,
    SpritesClient,
    SpritesError,
)
from ocaptain.sprites.errors import api_error
from ocaptain.sprites.redact import redact
from ocaptain.sprites.retry import MAX_ATTEMPTS, retry_wait
from ocaptain.sprites.sockets import Frame, parse_frame

SPRITE = {"name": "x", "id": "sprite-1", "status": "cold", "labels": ["a"], "org_slug": "o", "more": {"un": "known"}}


class Service:
    """Answers from a list; an exception in it is raised in place of an answer."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    async def __call__(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds):
        self.waits.append(seconds)

    def call(self, work):
        async def run():
            transport = httpx.MockTransport(self)
            async with SpritesClient("http://x", "tok/en", transport=transport, sleep=self.sleep) as client:
                return await work(client)

        return asyncio.run(run())


def answer(status=200, json=None, **more):
    return httpx.Response(status, json=json if json is not None else SPRITE, **more)


def test_the_token_goes_into_the_header_alone():
    service = Service(answer())
    service.call(lambda client: client.get("x y/z"))
    assert service.requests[0].headers["authorization"] == "Bearer tok/en"
    assert "tok" not in str(service.requests[0].url)
    assert service.requests[0].url.raw_path == b"/v1/sprites/x%20y%2Fz"


def test_too_many_requests_waits_as_long_as_it_is_told():
    limited = answer(429, {"error": "sprite_creation_rate_limited", "message": "slow", "retry_after_seconds": 7})
    service = Service(limited, answer(201))
    assert service.call(lambda client: client.create("x"))[1]
    assert 7 <= service.waits[0] < 8


def test_retry_after_is_read_from_the_header_as_well():
    service = Service(answer(429, {"error": "x", "message": "y"}, headers={"Retry-After": "3"}), answer())
    service.call(lambda client: client.get("x"))
    assert 3 <= service.waits[0] < 4


def test_more_than_the_account_allows_is_not_waited_for():
    service = Service(answer(429, {"error": "concurrent_sprite_limit_exceeded", "message": "3 of 3"}))
    with pytest.raises(RateLimited, match="3 of 3"):
        service.call(lambda client: client.create("x"))
    assert service.waits == []


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_passing_fault_is_retried_where_it_is_safe(status):
    service = Service(answer(status, {}), answer())
    service.call(lambda client: client.get("x"))
    assert len(service.requests) == 2
    # A create is not simply sent again: whether it was made is looked up first.
    service = Service(answer(status, {}), answer())
    assert service.call(lambda client: client.create("x"))[1]
    assert [request.method for request in service.requests] == ["POST", "GET"]
    service = Service(*[answer(status, {}), answer(404, {})] * MAX_ATTEMPTS)
    with pytest.raises(ApiError, match=str(status)):
        service.call(lambda client: client.create("x"))
    assert [request.method for request in service.requests] == ["POST", "GET"] * MAX_ATTEMPTS


def test_a_create_that_did_not_work_is_made_after_a_look():
    service = Service(answer(500, {}), answer(404, {}), answer(201))
    assert service.call(lambda client: client.create("x"))[1]
    assert [request.method for request in service.requests] == ["POST", "GET", "POST"]
    # It had worked after all, and the look came too early: it is ours all the same.
    service = Service(answer(500, {}), answer(404, {}), answer(409, {"message": "taken"}), answer())
    assert service.call(lambda client: client.create("x"))[1]


def test_a_name_that_is_taken_and_not_there_yet_is_waited_for():
    service = Service(
        httpx.ReadError("cut"), answer(404, {}), answer(409, {"message": "taken"}), answer(404, {}), answer()
    )
    assert service.call(lambda client: client.create("x"))[1]
    assert [request.method for request in service.requests] == ["POST", "GET", "POST", "GET", "POST"]


@pytest.mark.parametrize("garbage", [b"", b'{"name": "x', b"<html>"])
def test_an_answer_that_was_cut_short_is_asked_for_again(garbage):
    service = Service(httpx.Response(200, content=garbage), answer())
    assert service.call(lambda client: client.get("x")).name == "x"
    service = Service(httpx.Response(201, content=garbage), answer())
    assert service.call(lambda client: client.create("x"))[1]


def test_it_gives_up_in_the_end():
    service = Service(answer(503, {}))
    with pytest.raises(ApiError, match="503"):
        service.call(lambda client: client.get("x"))
    assert len(service.requests) == MAX_ATTEMPTS


def test_what_was_never_sent_is_always_retried():
    service = Service(httpx.ConnectError("refused"), answer(201))
    service.call(lambda client: client.create("x"))
    assert len(service.requests) == 2


def test_a_create_whose_answer_was_lost_is_looked_up():
    service = Service(httpx.ReadError("cut"), answer())
    assert service.call(lambda client: client.create("x"))[1]
    assert [request.method for request in service.requests] == ["POST", "GET"]
    service = Service(*[httpx.ReadError("cut"), answer(404, {})] * MAX_ATTEMPTS)
    with pytest.raises(ConnectionFailed):
        service.call(lambda client: client.create("x"))


@pytest.mark.parametrize("refusal", [(409, "taken"), (400, "name already exists")])
def test_a_name_that_is_taken_is_found_not_made(refusal):
    status, text = refusal
    service = Service(answer(status, {"error": "e", "message": text}), answer())
    sprite, made = service.call(lambda client: client.create("x"))
    assert (sprite.name, made) == ("x", False)


def test_destroying_what_is_not_there_is_no_error():
    assert Service(answer(404, {})).call(lambda client: client.destroy("x")) is False
    assert Service(httpx.Response(204)).call(lambda client: client.destroy("x")) is True


def test_all_pages_are_read():
    page = {"sprites": [SPRITE], "has_more": True, "next_continuation_token": "t"}
    service = Service(answer(json=page), answer(json={"sprites": [SPRITE], "has_more": False}))
    assert len(service.call(lambda client: client.list("p"))) == 2
    assert service.requests[1].url.params["continuation_token"] == "t"
    assert service.requests[0].url.params["prefix"] == "p"


def test_a_list_without_end_ends():
    service = Service(answer(json={"sprites": [SPRITE], "has_more": True, "next_continuation_token": None}))
    assert len(service.call(lambda client: client.list())) == 1
    service = Service(answer(json={"sprites": [SPRITE], "has_more": True, "next_continuation_token": "same"}))
    assert len(service.call(lambda client: client.list())) == 2


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"name": 3}', b"<html>"])
def test_garbage_is_a_clear_error(body):
    with pytest.raises(SpritesError, match="is invalid"):
        Service(httpx.Response(200, content=body)).call(lambda client: client.get("x"))


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "text"),
    [
        (401, b'{"error": "unauthorized", "message": "no"}', AuthenticationError, "unauthorized", "no"),
        (404, b'{"error": "not_found", "message": "gone"}', NotFound, "not_found", "gone"),
        (404, b'{"error": "no such file", "code": "ENOENT", "path": "/x"}', NotFound, "ENOENT", "no such file"),
        (403, b'{"error": "denied", "code": "EACCES", "path": "/x"}', ApiError, "EACCES", "denied"),
        (409, b"service web already has HTTP port 80", Conflict, "", "already has"),
        (500, b"\xff\xfe", ApiError, "", "500"),
        (500, b"[1]", ApiError, "", "[1]"),
        (400, b'{"error": "bad", "message": null}', ApiError, "bad", "bad"),
        (401, b'{"error": "unauthorized"}', AuthenticationError, "unauthorized", "unauthorized"),
        (400, b'{"error": "e", "message": "region xyz does not exist"}', ApiError, "e", "region"),
        (400, b'{"errors": ["name must be lowercase", "too long"]}', ApiError, "", "name must be lowercase, too long"),
        (400, b'{"errors": ["name has already been taken"]}', Conflict, "", "taken"),
        (422, b'{"errors": {"name": ["has already been taken"]}}', Conflict, "", "name: has already been taken"),
        (404, b'{"errors": {"detail": "Not Found"}}', NotFound, "", "Not Found"),
        (400, b'{"errors": [{"field": "x", "message": "is bad"}, null, 7]}', ApiError, "", "is bad, 7"),
        (400, b'{"error": {"code": 3, "message": "inner"}}', ApiError, "", "inner"),
        (400, b'{"errors": []}', ApiError, "", "no reason given"),
        (400, b'{"errors": ' + b"[" * 300 + b"]" * 300 + b"}", ApiError, "", "no reason given"),
        (400, b"[" * 100_000, ApiError, "", "[[["),
        (500, b"\x1b[2J" + b"x" * 100_000, ApiError, "", "\\x1b[2Jxxx"),
    ],
)
def test_every_dialect_of_refusals_is_read(status, body, kind, code, text):
    error = api_error("GET /x", status, {}, body)
    assert type(error) is kind
    assert (error.status, error.code) == (status, code)
    assert text in error.message


def test_a_wait_that_makes_no_sense_is_not_made():
    assert retry_wait(api_error("x", 429, {"retry-after": "soon"}, b"{}"), 1, idempotent=False) is not None
    assert retry_wait(api_error("x", 429, {"retry-after": "86400"}, b"{}"), 1, idempotent=False) is None
    assert retry_wait(api_error("x", 501, {}, b"{}"), 1, idempotent=True) is None
    assert retry_wait(api_error("x", 401, {}, b"{}"), 1, idempotent=True) is None


def test_a_file_is_not_read_beyond_its_limit():
    service = Service(httpx.Response(200, content=b"x" * 100))
    assert service.call(lambda client: client.read_file("x", "/f", limit=100)) == b"x" * 100
    with pytest.raises(SpritesError, match="longer than 99"):
        service.call(lambda client: client.read_file("x", "/f", limit=99))


def test_a_file_that_is_not_read_in_time_is_no_lost_connection():
    for error, message in [
        (TimeoutError(), r"fs/read: the file was not read in 600 s$"),
        (httpx.ReadTimeout(""), r"fs/read: the file was not read: http://x did not answer in time$"),
    ]:
        with pytest.raises(ConnectionFailed, match=message):
            Service(error).call(lambda client: client.read_file("x", "/f", limit=9))


def test_silence_is_borne_three_times_and_not_five():
    """A wedged sprite answers never: each further try would only cost as long again."""
    service = Service(*[httpx.ReadTimeout("")] * 9)
    with pytest.raises(ConnectionFailed) as caught:
        service.call(lambda client: client.get("x"))
    assert caught.value.silent
    assert len(service.requests) == 3


def test_a_file_is_sent_in_pieces_with_its_length():
    service = Service(httpx.Response(200))
    service.call(lambda client: client.write_file("x", "/f", b"x" * 600_000))
    (request,) = service.requests
    assert (request.headers["content-length"], len(request.content)) == ("600000", 600_000)
    assert "transfer-encoding" not in request.headers


SECRET = "canary/4f59-token"
PLACES = [
    f"Bearer {SECRET}",
    f"https://user:{SECRET}@proxy.example:8080/x isn't a valid proxy",
    f"cannot open wss://x.example/exec?cmd=curl&token={SECRET}#frag",
    "Authorization: Bearer opaque-4711-word",
    "{'authorization': 'Bearer opaque-4711-word'}",
    "http://name:pass/4711@proxy.example isn't a valid proxy",
    "socks5h://opaque-4711@proxy",
    "api_key=opaque-4711",
    "FlyV1 fm2_opaque4711==",
    "found spr_opaque4711 in it",
    "canary%2F4f59-token",
]


@pytest.mark.parametrize("text", PLACES)
def test_no_error_shows_a_credential(text):
    refused = api_error("GET /x", 400, {}, text.encode())
    listed = api_error("GET /x", 400, {}, json.dumps({"errors": [text], "message": None}).encode())
    SpritesClient("http://x", SECRET)
    shown = [refused.message, listed.message, SpritesError(text).message, redact(text)]
    for error in (httpx.ConnectError(text), httpx.ReadError(text), httpx.ProxyError(text)):
        with pytest.raises(ConnectionFailed) as raised:
            Service(error).call(lambda client: client.get("x"))
        assert raised.value.__cause__ is None
        shown.append("".join(traceback.format_exception(raised.value)))
    for one in shown:
        assert "…" in one
        assert not [word for word in ("canary/4", "canary%2F4", "4711") if word in one], one


@pytest.mark.parametrize(
    "text",
    [
        "missing or wrong bearer token",
        "cannot reach https://api.sprites.dev: [Errno -2] Name or service not known",
        "GET /v1/sprites/x/fs/read: /home/sprite/a is longer than 5 bytes",
        "basic authentication is required",
        "git@github.com:o/r is no user of ours",
    ],
)
def test_ordinary_words_are_left_alone(text):
    assert redact(text) == text


def test_a_proxy_that_cannot_be_used_is_said_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"nonsense://me:{SECRET}@proxy.example")
    with pytest.raises(UsageError, match="HTTPS_PROXY") as raised:
        SpritesClient("https://x.example", "tok/en")
    assert "canary" not in "".join(traceback.format_exception(raised.value))


class Bytes(httpx.AsyncByteStream):
    """A body in pieces; breaks after them, or goes on for ever."""

    def __init__(self, *pieces, endless=False):
        self.pieces = pieces
        self.endless = endless

    async def __aiter__(self):
        for piece in self.pieces:
            yield piece
        while self.endless:
            yield self.pieces[-1]
        raise httpx.ReadError("cut")


NAMED = {"Fly-Request-Id": "01JX4F59-lhr", "Content-Type": "application/x-ndjson"}


@pytest.mark.parametrize(
    ("reply", "call"),
    [
        (lambda: httpx.Response(502, headers=NAMED), lambda client: client.get("x")),
        (lambda: httpx.Response(200, headers=NAMED, content=b"<"), lambda client: client.get("x")),
        (lambda: httpx.Response(200, headers=NAMED, stream=Bytes(b"{")), lambda client: client.get("x")),
        (
            lambda: httpx.Response(200, headers=NAMED, content=b'{"type":"error","error":"no"}'),
            lambda c: c.create_checkpoint("x"),
        ),
        (lambda: httpx.Response(200, headers=NAMED, content=b""), lambda client: client.create_checkpoint("x")),
        (
            lambda: httpx.Response(200, headers=NAMED, content=b'{"type":"error","data":"no"}'),
            lambda client: client.put_service("x", "s", "true", [], cwd="/"),
        ),
        (lambda: httpx.Response(500, headers=NAMED), lambda client: client.read_file("x", "/f", limit=9)),
        (lambda: httpx.Response(200, headers=NAMED, stream=Bytes(b"x")), lambda c: c.read_file("x", "/f", limit=9)),
        (lambda: httpx.Response(200, headers=NAMED, stream=Bytes(b"x")), lambda c: anext(c.watch("x"), None)),
    ],
)
def test_every_error_names_the_request(reply, call):
    async def answered(_):
        return reply()

    service = Service(httpx.Response(500))

    async def run():
        async with SpritesClient(
            "http://x", "t", transport=httpx.MockTransport(answered), sleep=service.sleep
        ) as client:
            await call(client)

    with pytest.raises(SpritesError, match=r"Fly-Request-Id 01JX4F59-lhr\)$"):
        asyncio.run(run())


def test_a_request_id_that_is_none_is_not_shown():
    for given in ("", "two words", "x" * 200, "\x1b[2J", "ü"):
        assert "Request" not in api_error("x", 500, {"fly-request-id": given}, b"").message


def test_a_reply_without_end_is_given_up():
    endless = lambda status: httpx.Response(status, headers=NAMED, stream=Bytes(b"x" * 100_000, endless=True))  # noqa: E731
    with pytest.raises(BadReply, match="longer than 16777216 bytes"):
        Service(endless(200)).call(lambda client: client.create_checkpoint("x"))
    with pytest.raises(ApiError) as raised:
        Service(endless(501)).call(lambda client: client.get("x"))
    assert len(raised.value.message) < 1000


def test_pages_without_end_are_given_up():
    async def answered(request):
        return answer(
            json={"sprites": [], "has_more": True, "next_continuation_token": f"{id(request)}{time.monotonic_ns()}"}
        )

    async def run():
        async with SpritesClient("http://x", "t", transport=httpx.MockTransport(answered)) as client:
            await client.list()

    with pytest.raises(BadReply, match="more than 1000 pages"):
        asyncio.run(run())


def test_sizes_that_are_none_are_none():
    entries = [{"name": "a", "size": "many"}, {"name": "b", "size": 7}, {"name": "c"}, "d"]
    assert Service(answer(json={"entries": entries})).call(lambda client: client.list_files("x", "/")) == {
        "a": 0,
        "b": 7,
        "c": 0,
    }


async def scripted(reply, asked):
    """A server that answers every connection with the same bytes, and notes what it was asked."""

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_nobody_is_sent_elsewhere(status):
    async def run():
        here, there = [], []
        other, away = await scripted(b"HTTP/1.1 500 No\r\n\r\n", there)
        where = f"http://127.0.0.1:{away}/v1?token={SECRET}"
        moved = f"HTTP/1.1 {status} Moved\r\nLocation: {where}\r\nFly-Request-Id: 01JX\r\nContent-Length: 0\r\n\r\n"
        server, port = await scripted(moved.encode(), here)
        async with other, server, SpritesClient(f"http://127.0.0.1:{port}", SECRET) as client:
            for call in (client.get("x"), client.exec("x", ["true"]), client.proxy("x", 80)):
                with pytest.raises(ApiError, match="Fly-Request-Id 01JX") as raised:
                    await call
                assert raised.value.status == status
                assert SECRET not in str(raised.value)
        assert (len(here), there) == (3, [])

    asyncio.run(run())


@pytest.mark.parametrize(
    "piece",
    ["://a:", "a", "bearer ", "token=", "authorization: ", "http://", "https://x?", "-_", "api_key", "bearer \t"],
)
def test_no_text_takes_long_to_be_made_fit_to_show(piece):
    before = time.thread_time()
    assert len(redact(piece * 100_000)) < 10_000
    assert time.thread_time() - before < 0.5


def test_of_a_web_page_only_its_title_is_shown():
    page = b"<!DOCTYPE html><html><head><title>503 Service &amp; more</title></head><body><h1>Sorry</h1></body></html>"
    assert api_error("GET /x", 503, {}, page).message == "GET /x: 503 Service & more (HTTP 503)"
    untitled = api_error("GET /x", 502, {}, b"<html><body>nginx</body></html>")
    assert untitled.message == "GET /x: a web page instead of an answer of the API (HTTP 502)"


def test_a_socks_proxy_is_refused_in_words_of_ours(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(UsageError, match="it is a SOCKS proxy; name an HTTP proxy") as raised:
        SpritesClient("https://x.example", "tok/en")
    assert "socksio" not in str(raised.value)


@pytest.mark.parametrize(
    ("message", "tty", "frame"),
    [
        (b"\x01out", False, Frame(1, b"out")),
        (b"\x02err", False, Frame(2, b"err")),
        (b"\x01", False, Frame(1, b"")),
        (b"\x03\x07", False, Frame(code=7, is_last=True)),
        (b"\x03", False, Frame(code=0, is_last=True)),
        (b"\x00in", False, Frame()),
        (b"\x09x", False, Frame()),
        (b"", False, Frame()),
        (b"\x03\x07", True, Frame(1, b"\x03\x07")),
        ('{"type": "exit", "exit_code": 7}', False, Frame(code=7)),
        ('{"type": "exit", "exit_code": 7}', True, Frame(code=7, is_last=True)),
        ('{"type": "exit", "exit_code": "7"}', True, Frame()),
        ('{"type": "session_info", "session_id": 12}', False, Frame(session="12")),
        ('{"type": "debug", "msg": "keepalive"}', False, Frame()),
        ("[1]", False, Frame()),
        ("no JSON", True, Frame()),
        ("[" * 100_000, False, Frame()),
    ],
)
def test_frames_of_a_command(message, tty, frame):
    assert parse_frame(message, tty=tty) == frame
