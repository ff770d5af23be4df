"""The switch, with thin clients as Mutagen runs them and commands of this machine instead of a ship's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import ocaptain.sync.thin
from ocaptain.sync.calls import Command, Upload, read_call
from ocaptain.sync.switch import Switch
from tests.sync.machine import Machine

OPTIONS = ["-oConnectTimeout=5", "-oServerAliveInterval=10", "-oServerAliveCountMax=1"]
AGENT = ".mutagen/agents/0.18.1/mutagen-agent"
UUID = "8a0c4a0e-0000-4000-8000-0123456789ab"
HOST = "voyage-1-ship-0"
PATIENCE = 60


@pytest.mark.parametrize(
    ("tool", "argv", "call"),
    [
        (
            "ssh",
            [*OPTIONS, HOST, f"{AGENT} synchronizer --log-level=info"],
            (AGENT, "synchronizer", "--log-level=info"),
        ),
        ("ssh", [*OPTIONS, HOST, AGENT, "synchronizer"], (AGENT, "synchronizer")),
        ("ssh", [*OPTIONS, HOST, "uname -s -m"], ("uname", "-s", "-m")),
        ("ssh", [*OPTIONS, HOST, f"./.mutagen-agent{UUID} install"], (f"./.mutagen-agent{UUID}", "install")),
    ],
)
def test_the_calls_of_mutagen(tool, argv, call):
    assert read_call(tool, argv) == Command(HOST, call)


def test_its_upload():
    argv = ["-C", *OPTIONS, "mutagen-agent.123", f"{HOST}:.mutagen-agent{UUID}"]
    assert read_call("scp", argv) == Upload(HOST, "mutagen-agent.123", f".mutagen-agent{UUID}")


@pytest.mark.parametrize(
    ("tool", "argv"),
    [
        ("ssh", []),
        ("ssh", [HOST]),
        ("ssh", [HOST, ""]),
        ("ssh", [HOST, "id"]),
        ("ssh", [HOST, "uname -s -m; id"]),
        ("ssh", [HOST, "uname -s -m\nid"]),
        ("ssh", [HOST, f"{AGENT} synchronizer --log-level=$(id)"]),
        ("ssh", [HOST, ".mutagen/agents/0.18.1/../../../x/mutagen-agent synchronizer"]),
        ("ssh", [HOST, ".mutagen/agents/0.19.0/mutagen-agent synchronizer"]),
        ("ssh", [HOST, f"{AGENT} forwarder"]),
        ("ssh", [HOST, "./.mutagen-agent../x install"]),
        ("ssh", ["-oProxyCommand=sh -c id", HOST, "uname -s -m"]),
        ("ssh", ["-R8080:localhost:80", HOST, "uname -s -m"]),
        ("ssh", ["-oA=b", "-t", "uname -s -m"]),
        ("scp", [f"{HOST}:.mutagen-agent{UUID}", "here"]),
        ("scp", ["a", f"{HOST}:.bashrc"]),
        ("scp", ["a", "b", f"{HOST}:.mutagen-agent{UUID}"]),
        ("sftp", [HOST, "uname -s -m"]),
    ],
)
def test_nothing_else_is_carried_out(tool, argv):
    assert read_call(tool, argv) is None


def install(home: Path, script: str) -> None:
    """Put an agent in place that is a shell script."""
    path = home / AGENT
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)


@contextlib.asynccontextmanager
async def switched(tmp_path, script="cat"):
    home = tmp_path / "home"
    home.mkdir()
    install(home, script)
    switch, machine = Switch(tmp_path / "switch.sock"), Machine(home)
    switch.open()
    switch.admit(HOST, machine)
    try:
        yield switch, machine
    finally:
        await switch.close()


async def client(tmp_path, *argv, tool="ssh", **more):
    pipe = asyncio.subprocess.PIPE
    options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "cwd": tmp_path, **more}
    thin = [sys.executable, "-I", "-S", ocaptain.sync.thin.__file__, tmp_path / "switch.sock", tool]
    return await asyncio.create_subprocess_exec(*thin, *argv, **options)


async def end(one):
    """Wait for the end of a client; return its exit code."""
    await one.communicate()
    return one.returncode


SYNCHRONIZER = (*OPTIONS, HOST, f"{AGENT} synchronizer --log-level=info")


def go(work):
    async def limited():
        async with asyncio.timeout(PATIENCE):
            await work

    asyncio.run(limited())


def test_streams_and_exit_code_are_the_commands(tmp_path):
    async def work():
        async with switched(tmp_path, 'cat; echo "$@" >&2; exit 42'):
            one = await client(tmp_path, *SYNCHRONIZER)
            assert await one.communicate(b"\0\xff data") == (b"\0\xff data", b"synchronizer --log-level=info\n")
            assert one.returncode == 42

    go(work())


@pytest.mark.parametrize(("mode", "code"), [(None, 127), (0o600, 126)])
def test_an_agent_that_is_not_there_is_told_by_the_exit_code(tmp_path, mode, code):
    async def work():
        async with switched(tmp_path) as (_, machine):
            agent = machine.home / AGENT
            agent.chmod(mode) if mode else agent.unlink()
            one = await client(tmp_path, *SYNCHRONIZER)
            _, complaint = await one.communicate()
            assert (one.returncode, complaint.startswith(b"sh: ")) == (code, True), complaint

    go(work())


def test_much_goes_both_ways_at_once(tmp_path):
    data = os.urandom(1024 * 1024) * 20

    async def work():
        async with switched(tmp_path):
            one = await client(tmp_path, *SYNCHRONIZER)
            out, _ = await one.communicate(data)
            assert out == data
            assert one.returncode == 0

    go(work())


def test_descriptors_that_cannot_be_waited_for_do(tmp_path):
    async def work():
        async with switched(tmp_path, "cat; echo done"):
            (tmp_path / "in").write_bytes(b"x" * 200_000)
            with (tmp_path / "in").open("rb") as given, (tmp_path / "out").open("wb") as taken:
                one = await client(tmp_path, *SYNCHRONIZER, stdin=given, stdout=taken)
                assert await end(one) == 0
            assert (tmp_path / "out").read_bytes() == b"x" * 200_000 + b"done\n"
            one = await client(tmp_path, *SYNCHRONIZER, stdin=asyncio.subprocess.DEVNULL)
            assert await one.communicate() == (b"done\n", b"")

    go(work())


def test_an_agent_is_put_in_place_as_mutagen_does_it(tmp_path):
    async def work():
        async with switched(tmp_path) as (_, machine):
            (tmp_path / "mutagen-agent.7").write_text('#!/bin/sh\necho "$0 $@"\n')
            place = f".mutagen-agent{UUID}"
            one = await client(tmp_path, "-C", *OPTIONS, "mutagen-agent.7", f"{HOST}:{place}", tool="scp")
            assert await end(one) == 0
            assert (machine.home / place).stat().st_mode & 0o777 == 0o700
            one = await client(tmp_path, *OPTIONS, HOST, f"./{place} install")
            assert (await one.communicate())[0] == f"./{place} install\n".encode()
            (tmp_path / "link").symlink_to("mutagen-agent.7")
            one = await client(tmp_path, "link", f"{HOST}:{place}", tool="scp")
            assert (await one.communicate())[1].startswith(b"ocaptain: ")
            assert one.returncode == 255

    go(work())


def test_who_is_not_at_work_is_refused_before_anything_is_sent(tmp_path):
    async def work():
        async with switched(tmp_path) as (switch, machine):
            await switch.cut(HOST)
            for argv in (SYNCHRONIZER, [*OPTIONS, "another", "uname -s -m"], [*OPTIONS, HOST, "id"]):
                one = await client(tmp_path, *argv)
                assert await end(one) == 255
            switch.admit(HOST, machine)
            one = await client(tmp_path, *OPTIONS, HOST, "id")
            assert await end(one) == 255
            assert machine.ran == []

    go(work())


async def until(true):
    while not true():
        await asyncio.sleep(0.02)


def test_a_ship_that_is_let_go_has_no_connection_left(tmp_path):
    async def work():
        async with switched(tmp_path) as (switch, machine):
            one = await client(tmp_path, *SYNCHRONIZER)
            one.stdin.write(b"a")
            assert await one.stdout.read(1) == b"a"
            assert switch.connections(HOST) == 1
            await switch.cut(HOST)
            assert machine.programs[0].closed
            assert await end(one) == 255

    go(work())


def test_the_clients_death_ends_the_command(tmp_path):
    async def work():
        async with switched(tmp_path) as (switch, machine):
            one = await client(tmp_path, *SYNCHRONIZER)
            one.stdin.write(b"a")
            await one.stdout.read(1)
            one.send_signal(signal.SIGKILL)
            await until(lambda: machine.programs[0].closed and not switch.connections(HOST))
            assert await end(one) == -signal.SIGKILL

    go(work())


def test_the_commands_death_is_its_exit_code(tmp_path):
    async def work():
        async with switched(tmp_path, "kill -9 $$"):
            one = await client(tmp_path, *SYNCHRONIZER)
            assert (await one.communicate(), one.returncode) == ((b"", b""), -9 & 0xFF)

    go(work())


def test_a_way_that_breaks_is_said_as_ssh_does(tmp_path):
    async def work():
        async with switched(tmp_path) as (_, machine):
            machine.broken = RuntimeError("the ship\x1b[2J cannot be reached")
            one = await client(tmp_path, *SYNCHRONIZER)
            _, complaint = await one.communicate()
            assert (one.returncode, complaint) == (255, b"ocaptain: the ship\\x1b[2J cannot be reached\n")

    go(work())


def test_an_answer_that_is_there_before_the_client_looks_is_taken(tmp_path, monkeypatch):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "switch.sock"))
    listening.listen()
    send = socket.send_fds

    def send_and_be_late(client, data, fds):
        sent = send(client, data, fds)
        served, _ = listening.accept()
        given = socket.recv_fds(served, 65536, 3)[1]
        served.send(b"\x07")
        served.close()
        for fd in given:
            os.close(fd)
        return sent

    monkeypatch.setattr(socket, "send_fds", send_and_be_late)
    assert ocaptain.sync.thin.main(str(tmp_path / "switch.sock"), "ssh", HOST, "uname -s -m") == 7
    listening.close()


@pytest.mark.parametrize(
    "said", [b"", b"{}\n", b"[" * 60_000 + b"\n", b'{"tool": 1, "argv": 2, "cwd": 3}\n', b"x" * 70_000, b"\xff\n"]
)
def test_who_speaks_otherwise_is_hung_up_on_and_others_are_served(tmp_path, said):
    async def work():
        async with switched(tmp_path, "cat"):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(str(tmp_path / "switch.sock"))
                await asyncio.to_thread(stranger.sendall, said)
                stranger.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.to_thread(stranger.recv, 1) in {b"", b"\xff"}
            one = await client(tmp_path, *SYNCHRONIZER)
            assert await one.communicate(b"a") == (b"a", b"")

    go(work())


def test_a_call_without_descriptors_is_refused(tmp_path):
    async def work():
        async with switched(tmp_path) as (_, machine):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(str(tmp_path / "switch.sock"))
                call = {"tool": "ssh", "argv": SYNCHRONIZER, "cwd": "/"}
                stranger.sendall(json.dumps(call).encode() + b"\n")
                assert await asyncio.to_thread(stranger.recv, 1) == b"\xff"
            assert machine.ran == []

    go(work())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a client as somebody else")
def test_another_user_is_refused(tmp_path):
    async def work():
        async with switched(tmp_path) as (_, machine):
            for path in (tmp_path, *tmp_path.parents):
                path.chmod(path.stat().st_mode | 0o001)
            (tmp_path / "switch.sock").chmod(0o666)
            call = json.dumps({"tool": "ssh", "argv": SYNCHRONIZER, "cwd": "/"})
            script = (
                "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\ns = socket.socket(socket.AF_UNIX)\n"
                "s.connect(sys.argv[1])\nprint('connected', flush=True)\n"
                "try:\n    socket.send_fds(s, [sys.argv[2].encode() + b'\\n'], [0, 1, 2])\nexcept OSError: pass\n"
                "try:\n    print(s.recv(1))\nexcept OSError: print(b'')"
            )
            argv = [sys.executable, "-c", script, tmp_path / "switch.sock", call]
            pipe = subprocess.PIPE
            one = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe, stderr=pipe)
            assert await one.communicate() == (b"connected\nb''\n", b"")
            assert machine.ran == []

    go(work())
