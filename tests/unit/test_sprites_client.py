"""The Sprites client's REST part against scripted answers: retries, dialects, pages, deadlines."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ocaptain.sprites import (
    ApiError,
    AuthenticationError,
    Conflict,
    ConnectionFailed,
    NotFound,
    RateLimited,
    SpritesClient,
    SpritesError,
)
from ocaptain.sprites.errors import api_error
from ocaptain.sprites.retry import ATTEMPTS, retry_wait

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
    service = Service(*[answer(status, {}), answer(404, {})] * ATTEMPTS)
    with pytest.raises(ApiError, match=str(status)):
        service.call(lambda client: client.create("x"))
    assert [request.method for request in service.requests] == ["POST", "GET"] * ATTEMPTS


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
    assert len(service.requests) == ATTEMPTS


def test_what_was_never_sent_is_always_retried():
    service = Service(httpx.ConnectError("refused"), answer(201))
    service.call(lambda client: client.create("x"))
    assert len(service.requests) == 2


def test_a_create_whose_answer_was_lost_is_looked_up():
    service = Service(httpx.ReadError("cut"), answer())
    assert service.call(lambda client: client.create("x"))[1]
    assert [request.method for request in service.requests] == ["POST", "GET"]
    service = Service(*[httpx.ReadError("cut"), answer(404, {})] * ATTEMPTS)
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
    with pytest.raises(SpritesError, match="cannot be understood"):
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
