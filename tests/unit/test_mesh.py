"""The captain's side of a mesh: which one, the API's client, and what is taken away."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from ocaptain.config import load_settings
from ocaptain.drydock import server
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.mesh import (
    MeshError,
    MeshRecords,
    Refused,
    Tailnet,
    TailscaleClient,
    choose_mesh,
    mint_key,
    record_joined,
    remove_devices,
)
from ocaptain.mesh.api import Device, key_request, retry_wait
from ocaptain.mesh.life import devices_of
from ocaptain.mesh.record import MeshRecord
from ocaptain.voyage.launch import BuildResult, launch
from ocaptain.voyage.roles import ship_roles
from ocaptain.voyage.sink import has_mesh, leave_mesh
from tests.helpers import make_directory
from tests.mesh.api import KEY, SECRET, TailscaleApi

VOYAGE = "voyage-00000000000a"
OTHER = "voyage-00000000000b"


@pytest.fixture
def api():
    return TailscaleApi()


@pytest.fixture
def tailnet(api, monkeypatch):
    """A tailnet whose client talks to ``api`` without a network, and waits for nothing."""

    async def no_wait(seconds):
        await asyncio.sleep(0)

    def client(self):
        return TailscaleClient("http://127.0.0.1:1", self.secret, transport=httpx.ASGITransport(api.app), sleep=no_wait)

    monkeypatch.setattr(Tailnet, "client", client)
    return Tailnet("http://127.0.0.1:1", SecretStr(SECRET), "id", "-", "tag:ship", "")


@pytest.fixture
def voyage(tmp_path):
    made = tmp_path / VOYAGE
    made.mkdir()
    return made


def ask(tailnet, work):
    """Run a coroutine over a client."""

    async def whole():
        async with tailnet.client() as client:
            return await work(client)

    return asyncio.run(whole())


# -- which mesh -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "configured", "secret", "named", "chosen"),
    [
        ("drydock", None, None, None, "none"),
        ("drydock", None, SECRET, None, "none"),
        ("sprites", None, None, None, "none"),
        ("sprites", None, SECRET, None, "tailscale"),
        ("sprites", "none", SECRET, None, "none"),
        ("sprites", "none", SECRET, "auto", "tailscale"),
        ("sprites", None, SECRET, "none", "none"),
        ("drydock", "tailscale", SECRET, None, "tailscale"),
        ("drydock", None, SECRET, "tailscale", "tailscale"),
        ("sprites", None, None, "tailscale", UsageError),
        ("sprites", "tailscale", None, None, UsageError),
        ("sprites", None, SECRET, "headscale", UsageError),
    ],
)
def test_which_mesh(monkeypatch, provider, configured, secret, named, chosen):
    for name, value in (("OCAPTAIN_MESH", configured), ("OCAPTAIN_TAILSCALE_OAUTH_SECRET", secret)):
        if value:
            monkeypatch.setenv(name, value)
    settings = load_settings()
    if isinstance(chosen, str):
        assert choose_mesh(settings, provider, named) == chosen
    else:
        with pytest.raises(chosen, match=r"OCAPTAIN_TAILSCALE_OAUTH_SECRET is not set|choose one of"):
            choose_mesh(settings, provider, named)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OCAPTAIN_TAILSCALE_API_URL", "http://api.example.com"),
        ("OCAPTAIN_TAILSCALE_API_URL", "https://a@b"),
        ("OCAPTAIN_TAILSCALE_TAG", "boats"),
        ("OCAPTAIN_TAILSCALE_TAILNET", "../x"),
        ("OCAPTAIN_TAILSCALE_LOGIN_SERVER", "https://x/{{ lookup('pipe', 'id') }}"),
        ("OCAPTAIN_TAILSCALE_OAUTH_SECRET", "tskey with blanks"),
        ("OCAPTAIN_MESH", "wireguard"),
        ("OCAPTAIN_MUTAGEN", "two-way"),
    ],
)
def test_wrong_settings_are_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name) as refused:
        load_settings()
    assert value not in str(refused.value)


def test_the_roles_of_a_mesh():
    tasks = [("command", None), ("claude", "ship-1")]
    assert ship_roles(tasks, "ship-0", "tailscale") == ["tailscale", "tmux-agent"]
    assert ship_roles(tasks, "ship-1", "tailscale") == ["tailscale", "claude", "tmux-agent"]
    assert ship_roles(tasks, "ship-0", "none") == ["tmux-agent"]
    # Where the final verify runs is no agent, no credential, and nobody to talk to.
    assert ship_roles([("claude", None)], "ship-verify", "tailscale") == ["tmux-agent"]


# -- the client -------------------------------------------------------------------------------------


def test_a_key_is_short_lived_and_for_one_machine():
    made = key_request("voyage_" + 60 * "x", ["tag:ship"])
    create = {"reusable": False, "ephemeral": True, "preauthorized": True, "tags": ["tag:ship"]}
    assert made["capabilities"] == {"devices": {"create": create}}
    assert made["expirySeconds"] == 600
    assert re.fullmatch("[A-Za-z0-9 -]{50}", made["description"])


def test_keys_and_devices(api, tailnet):
    api.devices = [{"nodeId": "n1", "id": "17", "hostname": "h", "tags": ["tag:ship"], "isEphemeral": True, "new": 1}]

    async def work(client):
        made = await client.mint(VOYAGE, ["tag:ship"])
        listed = await client.keys()
        described = await client.key(made.id)
        gone = [await client.delete_key(made.id), await client.delete_key(made.id), await client.key(made.id)]
        devices = await client.devices()
        return (
            made,
            listed,
            described,
            gone,
            devices,
            await client.delete_device("n1"),
            await client.delete_device("n1"),
        )

    made, listed, described, gone, devices, first, second = ask(tailnet, work)
    assert made.key.get_secret_value() == KEY.format(made.id)
    assert ([key.id for key in listed], described.description) == ([made.id], VOYAGE)
    assert gone == [True, False, None]
    assert [(one.node_id, one.tags) for one in devices] == [("n1", ("tag:ship",))]
    assert (first, second) == (True, False)
    assert api.count("POST /api/v2/oauth/token") == 1


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        ("POST /api/v2/oauth", 401, "secret is wrong or was revoked.*OCAPTAIN_TAILSCALE_OAUTH_SECRET"),
        ("POST /api/v2/oauth", 403, "needs auth_keys and devices:core"),
        ("POST /api/v2/tailnet/-/keys", 403, "needs auth_keys and devices:core"),
        ("POST /api/v2/tailnet/-/keys", 400, "tagOwners"),
        ("POST /api/v2/tailnet/-/keys", 404, "OCAPTAIN_TAILSCALE_TAILNET"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_not_tried_again(api, tailnet, call, status, said):
    api.fail(call, status, message=f"no: {SECRET}")
    with pytest.raises(Refused, match=rf"no: ….*HTTP {status}.*{said}") as refused:
        ask(tailnet, lambda client: client.mint(VOYAGE, ["tag:ship"]))
    assert (api.count(call), api.minted) == (1, [])
    assert refused.value.exit_code == (2 if status != 404 else 1)


def test_a_wrong_secret(api, tailnet, monkeypatch):
    monkeypatch.setattr("tests.mesh.api.SECRET", "another")
    with pytest.raises(Refused, match="secret is wrong") as refused:
        ask(tailnet, lambda client: client.devices())
    assert SECRET not in str(refused.value)


def test_what_may_be_tried_again_is(api, tailnet):
    api.fail("POST /api/v2/oauth", 503, times=2)
    api.fail("GET /api/v2/tailnet/-/devices", 500, times=3)
    assert ask(tailnet, lambda client: client.devices()) == []
    assert (api.count("POST /api/v2/oauth"), api.count("GET /api/v2/tailnet/-/devices")) == (3, 4)
    api.fail("DELETE", 502, times=9)
    with pytest.raises(MeshError, match="HTTP 502"):
        ask(tailnet, lambda client: client.delete_device("n1"))
    assert api.count("DELETE") == 4


def test_a_mint_is_tried_again_only_if_nothing_was_made(api, tailnet):
    api.fail("POST /api/v2/tailnet", 429, times=2, **{"retry-after": "3"})
    ask(tailnet, lambda client: client.mint(VOYAGE, ["tag:ship"]))
    assert (api.count("POST /api/v2/tailnet"), len(api.minted)) == (3, 1)
    api.fail("POST /api/v2/tailnet", 500)
    with pytest.raises(Refused, match="HTTP 500"):
        ask(tailnet, lambda client: client.mint(VOYAGE, ["tag:ship"]))
    assert api.count("POST /api/v2/tailnet") == 4
    far = Refused("x", status=429, retry_after=3600.0)
    assert retry_wait(far, 1, idempotent=True) is None
    assert 3 <= retry_wait(Refused("x", status=429, retry_after=3.0), 1, idempotent=False) <= 3.5
    assert retry_wait(MeshError("cut", sent=True), 1, idempotent=False) is None
    assert retry_wait(MeshError("refused"), 1, idempotent=False) > 0


def test_an_access_token_that_is_revoked_is_had_anew(api, tailnet):
    async def work(client):
        await client.devices()
        api.revoke_tokens()
        return await asyncio.gather(*(client.devices() for _ in range(5)))

    assert ask(tailnet, work) == [[]] * 5
    assert api.count("POST /api/v2/oauth/token") == 2


@pytest.mark.parametrize(
    "body", ["no JSON", '{"key": "tskey-auth-secret"}', '{"id": "", "key": "tskey-auth-secret"}', "[]"]
)
def test_an_answer_that_makes_no_sense_is_said_without_what_is_in_it(api, tailnet, body):
    api.fail("POST /api/v2/tailnet", 200, message=body)
    with pytest.raises(MeshError, match="not what it should be") as wrong:
        ask(tailnet, lambda client: client.mint(VOYAGE, ["tag:ship"]))
    assert wrong.value.sent
    assert "tskey" not in f"{wrong.value}{wrong.value.__cause__}{wrong.value.__context__!r}"


def test_nobody_answers():
    async def ask_nobody():
        tailnet = Tailnet("http://127.0.0.1:9", SecretStr(SECRET), "id", "-", "tag:ship", "")
        async with tailnet.client() as client:
            client._sleep = lambda _: asyncio.sleep(0)
            await client.devices()

    with pytest.raises(MeshError, match=r"http://127.0.0.1:9.*cannot be reached") as failed:
        asyncio.run(ask_nobody())
    assert SECRET not in str(failed.value)


# -- what is noted, and taken away ----------------------------------------------------------------------


def device(node, hostname, *, tags=("tag:ship",), ephemeral=True, name=""):
    return Device(node_id=node, hostname=hostname, name=name, tags=tags, is_ephemeral=ephemeral)


SHIPS = [
    MeshRecord("ship-1", f"{VOYAGE}-ship-1", nodes=("n1", "laptop", "theirs")),
    MeshRecord("ship-12", f"{VOYAGE}-ship-12", nodes=("renamed",)),
]


@pytest.mark.parametrize(
    ("found", "ship"),
    [
        (device("n1", f"{VOYAGE}-ship-1"), "ship-1"),
        (device("n9", f"{VOYAGE}-ship-1-2"), "ship-1"),
        (device("n9", "localhost", name=f"{VOYAGE}-ship-1-3.tail1.ts.net"), "ship-1"),
        (device("n9", f"{VOYAGE}-ship-12"), "ship-12"),
        (device("renamed", "whatever"), "ship-12"),
        (device("n9", f"{VOYAGE}-ship-2"), None),
        (device("n9", f"{VOYAGE}-ship-1-db"), None),
        (device("n9", f"x-{VOYAGE}-ship-1"), None),
        (device("n1", f"{VOYAGE}-ship-1", tags=("tag:server",)), None),
        (device("n1", f"{VOYAGE}-ship-1", ephemeral=False), None),
        # What a ship says of itself takes nobody else's machine.
        (device("laptop", "laptop", tags=(), ephemeral=False), None),
        (device("theirs", f"{OTHER}-ship-0"), None),
        (device("", f"{VOYAGE}-ship-1"), None),
    ],
    ids=lambda case: f"{case.node_id}-{case.hostname}" if isinstance(case, Device) else "",
)
def test_which_devices_are_a_voyages(found, ship):
    owners = [left for left, devices in devices_of([found], SHIPS, "tag:ship").items() if devices]
    assert owners == ([ship] if ship else [])


def run_mint(tailnet, voyage, ship="ship-1"):
    return asyncio.run(mint_key(tailnet, voyage, ship, f"{VOYAGE}-{ship}"))


def test_a_ships_life_on_the_tailnet(api, tailnet, voyage):
    made = run_mint(tailnet, voyage)
    assert api.minted[0]["description"] == VOYAGE
    assert MeshRecords(voyage).all() == [MeshRecord("ship-1", f"{VOYAGE}-ship-1", keys=(made.id,))]
    asyncio.run(record_joined(tailnet, voyage, "ship-1", f"{VOYAGE}-ship-1", key=made.id, node="n1"))
    assert (api.keys, MeshRecords(voyage).all()) == ({}, [MeshRecord("ship-1", f"{VOYAGE}-ship-1", nodes=("n1",))])
    api.devices = [{"nodeId": "n1", "hostname": "renamed", "tags": ["tag:ship"], "isEphemeral": True}]
    assert asyncio.run(remove_devices(tailnet, voyage, keep={f"{VOYAGE}-ship-1"})) == []
    assert len(api.tailnet()) == 1
    assert asyncio.run(remove_devices(tailnet, voyage)) == []
    assert (api.tailnet(), MeshRecords(voyage).all()) == ([], [])
    before = len(api.calls)
    assert asyncio.run(remove_devices(tailnet, voyage)) == []
    assert len(api.calls) == before


def test_what_cannot_be_taken_away_is_named_and_tried_again(api, tailnet, voyage):
    keys = [run_mint(tailnet, voyage, ship) for ship in ("ship-1", "ship-2")]
    api.devices = [{"nodeId": "n2", "hostname": f"{VOYAGE}-ship-2", "tags": ["tag:ship"], "isEphemeral": True}]
    api.fail("DELETE /api/v2/device/n2", 501, message="cannot delete devices outside of your tailnet")
    left = asyncio.run(remove_devices(tailnet, voyage))
    assert len(left) == 1
    assert re.match(r"ship-2: device n2: .*outside of your tailnet \(HTTP 501\)", left[0])
    assert (api.keys, [one.ship for one in MeshRecords(voyage).all()]) == ({}, ["ship-2"])
    assert {key.id for key in keys} == {
        call.rpartition("/")[2] for call in api.calls if call.startswith("DELETE /api/v2/tailnet")
    }
    assert asyncio.run(remove_devices(tailnet, voyage)) == []
    assert (api.tailnet(), MeshRecords(voyage).all()) == ([], [])


@pytest.mark.parametrize("shows_descriptions", [True, False])
def test_a_key_whose_answer_was_lost_is_found_by_its_description(api, tailnet, voyage, shows_descriptions):
    """The mint is noted before it is asked for; a captain that dies in between leaves the note."""
    foreign = ask(tailnet, lambda client: client.mint(OTHER, ["tag:ship"]))
    lost = ask(tailnet, lambda client: client.mint(VOYAGE, ["tag:ship"]))
    api.shows_descriptions = shows_descriptions
    api.fail("POST /api/v2/tailnet", 502)
    with pytest.raises(MeshError):
        run_mint(tailnet, voyage)
    assert MeshRecords(voyage).all()[0].unsure
    assert asyncio.run(remove_devices(tailnet, voyage)) == []
    assert (list(api.keys), MeshRecords(voyage).all()) == ([foreign.id], [])
    assert lost.id not in api.keys


def test_a_refused_mint_leaves_nothing_to_look_for(api, tailnet, voyage):
    api.fail("POST /api/v2/tailnet", 403)
    with pytest.raises(Refused):
        run_mint(tailnet, voyage)
    assert MeshRecords(voyage).all() == [MeshRecord("ship-1", f"{VOYAGE}-ship-1")]
    assert asyncio.run(remove_devices(tailnet, voyage)) == []


def test_no_secret_is_shown_or_kept(api, tailnet, voyage):
    made = run_mint(tailnet, voyage)
    shown = repr([tailnet, made, made.model_dump()]) + str(load_settings())
    kept = "".join(path.read_text() for path in Path(voyage).rglob("*") if path.is_file())
    assert json.loads(kept)["keys"] == [made.id]
    for secret in (SECRET, made.key.get_secret_value()):
        assert secret not in shown + kept


def test_a_voyage_that_never_sailed_leaves_the_tailnet_at_once(api, tailnet, tmp_path, monkeypatch):
    """Its ships are destroyed, so it is over: there will be no sink that takes its devices away."""
    monkeypatch.setenv("OCAPTAIN_TAILSCALE_OAUTH_SECRET", SECRET)
    directory = make_directory(tmp_path, VOYAGE, "drydock", [("ship-1", f"{VOYAGE}-ship-1")])
    made = run_mint(tailnet, directory.path)
    api.devices = [
        {"nodeId": "n1", "hostname": f"{VOYAGE}-ship-1", "tags": ["tag:ship"], "isEphemeral": True},
    ]
    api.fail("DELETE /api/v2/device/n1", 501)
    built = BuildResult(failed={f"{VOYAGE}-ship-1": "no python"})
    with pytest.raises(OcaptainError, match="no ship could be built") as failed:
        launch(directory, built, load_settings())
    assert any("device n1" in line for line in failed.value.details), failed.value.details
    assert (directory.voyage().state, api.keys) == ("sunk", {})
    assert made.id
    assert leave_mesh(directory, load_settings(), []) == []
    assert (api.tailnet(), has_mesh(directory)) == ([], False)
    server.stop()  # it was asked whether the ship is there
