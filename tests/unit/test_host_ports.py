"""Which ports of this machine `sail` opens to a voyage's ships on drydock, and when it says that none are closed."""

from __future__ import annotations

import asyncio

import pytest

from ocaptain.drydock import server
from ocaptain.provider import Endpoint
from ocaptain.sprites import NotFound, SpritesClient
from ocaptain.sprites.models import Sprite
from ocaptain.voyage import check, doctor
from ocaptain.voyage.host_ports import describe_host_ports, find_host_ports, loopback_port, service_urls
from ocaptain.voyage.sprites import make_present

LINE = "drydock's ships share this machine's network and reach every service on it (--network host)"


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://127.0.0.1:8080", 8080),
        ("http://localhost:8080/v1/", 8080),
        ("http://LOCALHOST", 80),
        ("https://127.0.0.1/x.git", 443),
        ("git://localhost/x.git", 9418),
        ("http://user:word@127.0.0.1:81/", 81),
        ("ssh://git@localhost/x.git", None),  # the user's own sshd
        ("git@localhost:x.git", None),
        ("/srv/x.git", None),
        ("file:///srv/x.git", None),
        ("", None),
        ("http://127.0.0.1.evil.example:8080", None),
        ("http://api.example:8080", None),
        ("http://10.0.0.1:8080", None),
        ("http://127.0.0.1:99999", None),
        ("http://[::1", None),
    ],
)
def test_the_port_of_a_service_of_this_machine(url, port):
    assert loopback_port(url) == port


def test_only_what_the_voyage_uses_is_opened(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:4000")
    repo, login = "http://localhost:3000/x.git", "http://127.0.0.1:4000"
    urls = service_urls(["claude", "command", "of-another-version"], repo, login)
    assert find_host_ports(urls) == {4000: "ANTHROPIC_BASE_URL", 3000: "the repository"}
    assert find_host_ports(service_urls(["command"], "https://forge.example/x.git", "")) == {}
    assert describe_host_ports({4000: "ANTHROPIC_BASE_URL"}) == [
        "port 4000 of this machine is open to the ships of this voyage, until they are gone (ANTHROPIC_BASE_URL)"
    ]


@pytest.mark.parametrize(
    ("provider", "check_only", "opened"), [("drydock", False, "ab"), ("drydock", True, ""), ("sprites", False, "")]
)
def test_ports_are_opened_to_ships_on_drydock_alone(monkeypatch, provider, check_only, opened):
    """To those that were there before as well; a drydock of an earlier version, without the call, is no fault."""
    asked = {}

    async def listed(*_):
        return (Sprite(name="a", labels=()),)

    async def create(_, name, **__):
        return Sprite(name=name, labels=()), True

    async def set_host_ports(_, name, ports):
        asked[name] = ports
        if name == "a":
            raise NotFound("PUT /drydock/sprites/a/ports: 404", status=404)

    monkeypatch.setattr(SpritesClient, "list", listed)
    monkeypatch.setattr(SpritesClient, "create", create)
    monkeypatch.setattr(SpritesClient, "set_host_ports", set_host_ports)
    reached = Endpoint(provider, "http://127.0.0.1:1", "t")
    made = asyncio.run(make_present(reached, ["a", "b"], [], host_ports=[4000], check=check_only))
    assert asked == {name: [4000] for name in opened}
    assert (made.changed, made.failed) == (["b"], {})


def test_a_shared_network_is_said_in_one_line(monkeypatch, tmp_path):
    """Also where no drydock runs: what left sprites is started again as it was."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    place = server.drydock_directory()
    (place / "sprites/x").mkdir(parents=True)
    assert LINE not in check._drydock_warnings()
    server.write_options(place, server.Options(network="host"))
    assert LINE in check._drydock_warnings()
    found = [one for one in doctor._check_drydock() if one.name == "network"]
    assert [(one.status, one.detail) for one in found] == [("warning", LINE)]
    server.write_options(place, server.Options())
    assert LINE not in check._drydock_warnings()
    assert [one for one in doctor._check_drydock() if one.name == "network"] == []
