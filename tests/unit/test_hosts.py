"""Hosts as ships without a host: an ssh that runs here what it is given, and leaves a process behind (ProxyJump)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from ocaptain.captain.transport import Completed, TransportError, run
from ocaptain.captain.transport.ssh import SshTransport
from ocaptain.captain.transport.target import SshTarget
from ocaptain.config import load_settings
from ocaptain.errors import UsageError
from ocaptain.options import SailOptions
from ocaptain.voyage.prepare import prepare
from ocaptain.voyage.request import Request
from ocaptain.voyage.sink import finish_sink
from tests.helpers import PATIENCE, make_directory, run_task, write_plan

VOYAGE = "voyage-00000000000c"
SSH = """#!/bin/sh
sleep 600 < /dev/null > /dev/null &
echo $! >> {pids}
while [ "$1" != -- ]; do shift; done
shift 2
exec sh -c "$*"
"""


@pytest.fixture
def way(tmp_path):
    """Return the way to a host that is a directory of this machine."""
    home, program, pids = tmp_path / "host", tmp_path / "ssh-to-here", tmp_path / "pids"
    home.mkdir()
    pids.touch()
    program.write_text(SSH.format(pids=pids))
    program.chmod(0o755)
    yield SshTarget(host="alpha", executable=str(program), home=str(home))
    for pid in pids.read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def test_what_an_ssh_leaves_behind_is_not_waited_for(way, tmp_path):
    async def work():
        ship = SshTransport(way, "alpha", tmp_path / "ssh")
        async with asyncio.timeout(PATIENCE):
            done = await run(ship, ["sh", "-c", "echo out; echo complaint >&2; exit 3"], PATIENCE)
            assert done == Completed(3, b"out\n", b"complaint\n")
            command = await ship.command(["cat"])
            await command.send(b"input")
            await command.send_eof()
            assert [piece async for piece in command] == [(1, b"input")]
            assert command.exit_code == 0
            await command.close()
            await ship.put("a", b"data")
            assert await ship.get("a", 9) == b"data"
            with pytest.raises(TransportError, match="took longer than"):
                await run(ship, ["sleep", "600"], 0.5)
            stream = await ship.open()
            with pytest.raises(TransportError, match=r"channel ended \(exit 2\).*worker.pyz"):
                async for _ in stream:
                    pass
            await stream.close()
            await (await ship.open()).close()

    asyncio.run(work())
    left = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert left
    assert all(Path(f"/proc/{pid}").exists() for pid in left), "nothing was left behind, so nothing was tried"


def test_a_host_that_is_free_but_was_not_cleared_is_left_and_named(way, tmp_path):
    directory = make_directory(tmp_path, VOYAGE, "hosts", [("ship-0", "alpha")], {"ship-0": way.model_dump_json()})
    kept = {"alpha": "Remove the rest: Permission denied"}
    assert finish_sink(directory, load_settings(), kept) == kept
    assert directory.voyage().state != "sunk"
    assert finish_sink(directory, load_settings(), kept, abandon=True) == {}
    assert directory.voyage().state == "sunk"


HERE = SshTarget(host="h")


@pytest.mark.parametrize(
    ("targets", "more", "message"),
    [
        ([HERE, HERE], {}, "a and b are one host"),
        (
            [SshTarget(host="h", user="deck"), SshTarget(host="h", user="deck", port=22, home="/b")],
            {},
            r"deck on h, port 22",
        ),
        ([HERE, SshTarget(host="h", port=2022)], {"mesh": "tailscale"}, "leave --mesh out"),
        ([HERE, SshTarget(host="h", user="deck")], {"replace": True}, "cannot be replaced"),
    ],
)
def test_hosts_that_cannot_sail_together(tmp_path, targets, more, message):
    plan = write_plan(tmp_path / "plan", [run_task("true")])
    asked = Request(plan=plan, hosts=tuple(zip("ab", targets, strict=True)), options=SailOptions(**more))
    with pytest.raises(UsageError, match=message):
        prepare(asked, load_settings(), check=True)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="hosts are reached by ssh")
def test_a_mesh_that_is_configured_is_not_for_hosts_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_MESH", "tailscale")
    plan = write_plan(tmp_path / "plan", [run_task("true")])
    prepared = prepare(Request(plan=plan, hosts=(("a", HERE),)), load_settings(), check=True)
    assert any("OCAPTAIN_MESH=tailscale is not for hosts" in note for note in prepared.notes), prepared.notes
