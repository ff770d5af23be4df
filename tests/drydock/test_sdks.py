"""The official SDKs, unmodified, as foreign clients.

The Go SDK is not to be had from the Go module proxy (it answers 403 for every version), so it is
tried by hand only: docs/drydock.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sprites as sdk
from sprites.session import kill_session

from tests.drydock.test_life import Dock
from tests.helpers import wait_for

pytestmark = pytest.mark.root
#: Packages by name and version, with the SHA-512 that the registry's own tool computes of what it got.
PACKAGES = {
    "@fly/sprites@0.1.0": "08jnuPEFmImqy3/iwL+jQJ6IwrHuZlmR3w9dRSSUiZ3N4uMSqWMi5FLyL1UKiL/vtcAb9Cayj8gHsEtckDDfkQ==",
    "undici@6.29.0": "R+RODBqp6i2pPflGdq+xIOUkl+RNfGgHwoinecKu/JCuf2uO06cOKoDbI2P7Dn6KcswdKwrczbU6IYJ6K8X+wg==",
}
TRIAL = Path(__file__).parent / "sdks/trial.mjs"


@pytest.fixture(scope="module")
def dock(tmp_path_factory):
    made = Dock(tmp_path_factory.mktemp("sdks"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def name(dock):
    made = f"py-{uuid.uuid4().hex[:8]}"
    dock.sdk.create_sprite(made, labels=["a"])
    return made


@pytest.fixture
def sprite(dock, name):
    return dock.sdk.sprite(name)


# -- js ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A folder with the js SDK in it."""
    if shutil.which("npm") is None:
        assert not os.environ.get("CI"), "CI must have npm"
        pytest.skip("npm is not there")
    folder = tmp_path_factory.mktemp("node")
    environment = {**os.environ, "npm_config_cache": str(folder / "cache"), "npm_config_update_notifier": "false"}

    def npm(*words):
        done = subprocess.run(
            ["npm", *words], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    packed = json.loads(npm("pack", "--json", *PACKAGES))
    assert {one["id"]: one["integrity"].removeprefix("sha512-") for one in packed} == PACKAGES
    options = ("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--offline")
    npm("install", *options, *(f"./{one['filename']}" for one in packed))
    shutil.copy(TRIAL, folder)
    return folder


def test_the_js_sdk(dock, node):
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["node", "trial.mjs", dock.record["url"], dock.token],
        cwd=node,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    bad = [f"{one['step']}: {one['why']}" for one in steps if not one["ok"]]
    assert not bad, "\n\n".join(bad)
    assert len(steps) == TRIAL.read_text().count("\nawait step("), done.stderr
    assert done.returncode == 0, done.stderr


# -- python -----------------------------------------------------------------------------------------


def test_paging_over_120(dock):
    prefix = f"many-{uuid.uuid4().hex[:6]}"
    names = [f"{prefix}-{number:03}" for number in range(120)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(dock.sdk.create_sprite, names))
        assert sorted(one.name for one in dock.sdk.list_all_sprites(prefix)) == names
        first = dock.sdk.list_sprites(sdk.ListOptions(prefix=prefix, max_results=100))
        assert (len(first.sprites), first.has_more) == (50, True)
        list(pool.map(dock.sdk.delete_sprite, names))
    assert dock.sdk.list_all_sprites(prefix) == []


def test_streams_codes_and_five_mebibytes(sprite):
    done = sprite.run("sh", "-c", "echo out; echo err >&2; exit 7", capture_output=True)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)
    assert sprite.run("sh", "-c", "kill -TERM $$").returncode == 143
    done = sprite.run("sh", "-c", "head -c 5242880 /dev/urandom | tee /tmp/big", capture_output=True)
    there = sprite.run("sha256sum", "/tmp/big", capture_output=True).stdout.split()[0].decode()
    assert hashlib.sha256(done.stdout).hexdigest() == there


def test_two_hundred_fast_commands(sprite):
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda number: sprite.run("echo", str(number), capture_output=True).stdout, range(200)))
    assert said == [b"%d\n" % number for number in range(200)]


def test_files(sprite):
    data = os.urandom(12 * 1024 * 1024)
    root = sprite.filesystem("/home/sprite")
    (root / "deep/er").mkdir(parents=True)
    place = root / "deep/er/blob"
    place.write_bytes(data)
    assert hashlib.sha256(place.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert place.stat().size == len(data)
    assert [one.name for one in (root / "deep/er").iterdir()] == ["blob"]
    moved = place.rename(root / "deep/moved")
    assert not place.exists()
    moved.chmod(0o600)
    with pytest.raises(sdk.FileNotFoundError_):
        (root / "nowhere").read_bytes()
    (root / "deep").rmtree()
    assert not (root / "deep/moved").exists()


def test_a_terminal_attach_and_kill(dock, name, sprite):
    with dock.socket(f"/v1/sprites/{name}/exec?tty=true&rows=33&cols=101&cmd=sh&path=sh") as socket:
        session = json.loads(socket.recv())["session_id"]
        socket.send(b"stty size; echo mark$((1+1))\n")
        seen = b""
        while b"mark2" not in seen:
            seen += socket.recv()
        assert b"33 101" in seen
        socket.send(json.dumps({"type": "resize", "rows": 20, "cols": 90}))
        socket.send(b"stty size; echo mark$((2+1))\n")
        while b"mark3" not in seen:
            seen += socket.recv()
        assert b"20 90" in seen
        assert [one.id for one in sprite.list_sessions()] == [session]
        socket.send(b"sleep 300\n")  # the SDK ends its empty input, which a shell would take for its end
    attached = sprite.attach_session(session)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(attached.run)
        time.sleep(0.5)
        kill_session(sprite, session, signal="SIGKILL", timeout=5)
        following.exception(timeout=240)
    wait_for(lambda: sprite.list_sessions() == [])


def test_services(sprite):
    events = list(sprite.create_service("s", "sh", ["-c", "echo said; sleep 100"], duration=0.5, env={"A": "b"}))
    assert events[0].type == "started"
    (listed,) = sprite.list_services()
    assert (listed.name, listed.state.status) == ("s", "running")
    list(sprite.stop_service("s"))
    assert sprite.get_service("s").state.status == "stopped"
    list(sprite.start_service("s", duration=0.2))
    sprite.signal_service("s", "TERM")
    wait_for(lambda: sprite.get_service("s").state.restart_count)
    sprite.delete_service("s")
    assert sprite.list_services() == []


def test_checkpoint_restore_and_policy(sprite):
    place = sprite.filesystem("/home/sprite") / "state"
    place.write_text("before")
    told = list(sprite.create_checkpoint("mine"))
    assert told[-1].type == "complete"
    checkpoint = sprite.list_checkpoints()[0]
    assert (checkpoint.comment, sprite.get_checkpoint(checkpoint.id).id) == ("mine", checkpoint.id)
    place.write_text("after")
    assert list(sprite.restore_checkpoint(checkpoint.id))[-1].type == "complete"
    assert place.read_text() == "before"
    sprite.update_network_policy(sdk.NetworkPolicy(rules=[sdk.PolicyRule(domain="*.example.com", action="allow")]))
    assert [rule.domain for rule in sprite.get_network_policy().rules] == ["*.example.com"]
    sprite.upgrade()


def test_errors_before_the_upgrade(dock, name):
    with pytest.raises(sdk.SpriteError, match=r"404|not found"):
        dock.sdk.sprite("nobody-here").run("true")
    with sdk.SpritesClient("wrong", base_url=dock.record["url"]) as stranger:
        with pytest.raises(sdk.SpriteError):
            stranger.sprite(name).run("true")
        with pytest.raises(sdk.AuthenticationError):
            stranger.list_sprites()
