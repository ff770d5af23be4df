"""What is said about a provider that refuses, does not answer, or has no room."""

from __future__ import annotations

import json

import pytest

from ocaptain.ansible.access import find_endpoint
from ocaptain.config import load_settings
from ocaptain.errors import UsageError
from ocaptain.provider import Endpoint, choose_provider, endpoint, explaining_errors, provider_remedy, sprites_token
from ocaptain.sources import find_origin
from ocaptain.sprites import BadReply, ConnectionFailed
from ocaptain.sprites.errors import SPRITE_LIMIT_CODE, api_error

SPRITES = Endpoint("sprites", "https://x.example", "t", token_origin="SPRITES_TOKEN in /w/.env")
LIMIT = b'{"error": "%s", "message": "3 of 3"}' % SPRITE_LIMIT_CODE.encode()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (api_error("x", 401, {}, b""), "the token of SPRITES_TOKEN in /w/.env was refused"),
        (api_error("x", 402, {}, b""), "add credit to the account"),
        (api_error("x", 404, {}, b""), "check that SPRITES_API_URL (https://x.example)"),
        (api_error("x", 429, {}, LIMIT), "sink a voyage"),
        (api_error("x", 429, {}, b""), "the service is busy or at fault"),
        (api_error("x", 503, {}, b""), "the service is busy or at fault"),
        (ConnectionFailed("cannot reach it"), "check the network"),
        (ConnectionFailed("no answer", sent=True), "the service is busy or at fault"),
        (BadReply("not JSON"), "check that SPRITES_API_URL"),
    ],
)
def test_each_error_of_the_service_has_its_own_remedy(error, remedy):
    assert provider_remedy(error, SPRITES).startswith(remedy)
    with pytest.raises(type(error)) as raised, explaining_errors(SPRITES), explaining_errors(SPRITES):
        raise error
    assert str(raised.value).count(remedy) == 1
    assert raised.value.remedy.startswith(remedy)


def test_drydock_has_no_token_to_check():
    assert (
        provider_remedy(api_error("x", 401, {}, b""), Endpoint("drydock", "u", "t")) == "see `ocaptain drydock status`"
    )


def test_it_is_known_where_a_token_comes_from(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("SPRITES_TOKEN", "SPRITE_TOKEN", "OCAPTAIN_DOTENV_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".env").write_text("SPRITE_TOKEN=file\n")
    assert endpoint("sprites", load_settings()).token_origin == f"SPRITE_TOKEN in {tmp_path / '.env'}"
    monkeypatch.setenv("SPRITES_TOKEN", "environment")
    assert endpoint("sprites", load_settings()).token_origin == "SPRITES_TOKEN in the environment"
    assert find_origin(("NOT_SET_AT_ALL",)) == "NOT_SET_AT_ALL"


def test_an_option_of_ansible_is_enough_for_a_token(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("SPRITES_TOKEN", "SPRITE_TOKEN", "OCAPTAIN_DOTENV_DIR", "OCAPTAIN_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SPRITES_API_URL", "http://127.0.0.1:9")
    name, found = find_endpoint("sprites", None, "vaulted")
    assert (name, found.url, found.token, found.token_origin) == (
        "sprites",
        "http://127.0.0.1:9",
        "vaulted",
        "api_token",
    )


def test_which_provider_is_meant(monkeypatch):
    assert choose_provider(load_settings())[0] == "drydock"
    monkeypatch.setenv("OCAPTAIN_SPRITES_ORG", "o")
    assert choose_provider(load_settings())[0] == "sprites"
    assert choose_provider(load_settings(), "drydock") == ("drydock", "named")
    monkeypatch.setenv("OCAPTAIN_PROVIDER", "drydock")
    assert choose_provider(load_settings())[0] == "drydock"
    with pytest.raises(UsageError, match="unknown provider"):
        choose_provider(load_settings(), "cloud")


def test_the_token_may_come_from_the_sprite_cli(tmp_path):
    file = tmp_path / "sprites.json"
    org = {"name": "o", "api_token": "stored"}
    file.write_text(json.dumps({"current_selection": {"url": "u", "org": "o"}, "urls": {"u": {"orgs": {"o": org}}}}))
    assert sprites_token(load_settings(), file) == "stored"
    for content in ("", "{", "[]", '{"current_selection": 3}'):
        file.write_text(content)
        with pytest.raises(UsageError, match="no Sprites token"):
            sprites_token(load_settings(), file)
