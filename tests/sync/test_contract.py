"""What we rely on of Mutagen: by default of the program that behaves like it, with the marker `mutagen` of a real one.

Each test has a daemon of its own, a switch, and a ship that is a folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from ocaptain.process import live_pid
from ocaptain.sync.agent import agent_path, find_bundle, read_agent
from ocaptain.sync.mutagen import Mutagen, MutagenError, clear, require_binary
from ocaptain.sync.place import make_place
from ocaptain.sync.spec import Line, create_argv, health
from ocaptain.sync.switch import Switch
from tests.sync import fake_mutagen
from tests.sync.machine import Machine

PATIENCE = 60
HOST = "voyage-1-ship-0"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.mutagen)])
def program(request, tmp_path):
    """The folder that has the program."""
    if request.param == "fake":
        return fake_mutagen.install(tmp_path / "bin").parent
    found = shutil.which("mutagen")
    if found is None:
        pytest.skip("no mutagen is on PATH")
    return Path(found).parent


@pytest.fixture
def fake(tmp_path):
    return fake_mutagen.install(tmp_path / "bin").parent


@pytest.fixture
def short():
    with tempfile.TemporaryDirectory(prefix="oc", dir="/tmp") as path:
        yield Path(path)


class Voyage:
    """A voyage's folder with one ship, and what mirrors it."""

    def __init__(self, mutagen, switch, ship, directory):
        self.mutagen, self.switch, self.ship, self.directory = mutagen, switch, ship, directory
        self.home = ship.home
        self.source = ship.home / "voyage"
        self.target = directory / "ships/ship-0"
        self.line = Line(
            "voyage-1", "ship-0", HOST, "sprite-a", 1, "voyage", str(self.target), ("node_modules/", "*.pyc")
        )

    def write(self, path, text="x", mode=0o644):
        place = self.source / path
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch = place.with_name(f".{place.name}.new")
        scratch.write_text(text)
        scratch.chmod(mode)
        scratch.rename(place)

    async def session(self):
        (one,) = await self.mutagen.sessions()
        return one

    async def flush(self):
        await self.mutagen.act("flush", (await self.session()).id)

    def files(self):
        return {str(one.relative_to(self.target)) for one in self.target.rglob("*") if not one.is_dir()}


@contextlib.asynccontextmanager
async def voyage(program, directory):
    ship = Machine(directory / "home")
    (ship.home / "voyage/workspace").mkdir(parents=True)
    binary = await require_binary(str(program))
    place = make_place(directory)
    switch = Switch(place.switch)
    switch.open()
    switch.admit(HOST, ship)
    mutagen = Mutagen(binary, place, "voyage-1")
    try:
        await mutagen.start()
        yield Voyage(mutagen, switch, ship, directory)
    finally:
        await mutagen.stop()
        await switch.close()
        await asyncio.to_thread(clear, directory)


def go(work):
    async def limited():
        async with asyncio.timeout(PATIENCE):
            await work

    asyncio.run(limited())


async def until(true, what="it"):
    for _ in range(PATIENCE * 20):
        found = true()
        if found := await found if asyncio.iscoroutine(found) else found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not come true")


def test_a_mirror_from_nothing(program, short):
    async def work():
        async with voyage(program, short) as one:
            one.write("workspace/a.py", "print()")
            one.write("workspace/run", "#!/bin/sh", 0o755)
            one.write("logs/1.log", "began")
            await one.mutagen.create(one.line)
            await one.flush()
            assert one.files() == {"workspace/a.py", "workspace/run", "logs/1.log"}
            modes = {path: (one.target / path).stat().st_mode & 0o777 for path in ("workspace/a.py", "workspace/run")}
            assert modes == {"workspace/a.py": 0o444, "workspace/run": 0o555}
            assert (one.target / "workspace").stat().st_mode & 0o777 == 0o755
            agent = one.home / agent_path(one.mutagen.binary.version)
            assert agent.stat().st_mode & 0o777 == 0o700, "it installed its agent by the switch"
            found = await one.session()
            assert (found.ship, found.origin, found.generation) == ("ship-0", "sprite-a", 1)
            assert (found.files, found.problems, found.paused, found.connected) == (3, 0, False, True)
            assert found.cycles >= 1
            assert (await until(lambda: _watching(one))).state == "watching"

    go(work())


async def _watching(one):
    found = health(await one.session(), 0.0)
    return found if found.state == "watching" else None


def test_with_the_agent_there_nothing_is_sent(program, short):
    async def work():
        async with voyage(program, short) as one:
            bundle = find_bundle(one.mutagen.binary.path)
            agent = one.home / agent_path(one.mutagen.binary.version)
            for folder in (agent.parent.parent.parent, agent.parent.parent, agent.parent):
                folder.mkdir(mode=0o700)
            agent.write_bytes(read_agent(bundle, os.uname().machine))
            agent.chmod(0o700)
            await one.mutagen.create(one.line)
            assert {argv[0] for argv in one.ship.ran} == {agent_path(one.mutagen.binary.version)}

    go(work())


def test_what_changes_there_changes_here_and_not_the_other_way(program, short):
    async def work():
        async with voyage(program, short) as one:
            one.write("workspace/a", "1")
            one.write("workspace/b", "1")
            await one.mutagen.create(one.line)
            await one.flush()
            one.write("workspace/a", "2")
            (one.source / "workspace/b").unlink()
            await one.flush()
            assert one.files() == {"workspace/a"}
            assert (one.target / "workspace/a").read_text() == "2"
            (one.target / "workspace/mine").write_text("a user's own")
            await until(lambda: not (one.target / "workspace/mine").exists())
            assert not (one.source / "workspace/mine").exists()

    go(work())


def test_what_does_not_travel_and_what_is_said_of_it(program, short):
    async def work():
        async with voyage(program, short) as one:
            for path in (
                *("workspace/.git/hooks/post-checkout", "workspace/deep/.git/config", "workspace/node_modules/m/x.js"),
                *("workspace/a.pyc", "workspace/kept", "workspace/new\nline\x1b[2J"),
            ):
                one.write(path)
            (one.source / "workspace/link").symlink_to("kept")
            (one.source / "workspace/out").symlink_to("/etc/passwd")
            (one.source / "workspace/up\x1b[2J").symlink_to("../../../x")
            os.mkfifo(one.source / "workspace/fifo")
            await one.mutagen.create(one.line)
            await one.flush()
            assert one.files() == {"workspace/kept", "workspace/link", "workspace/new\nline\x1b[2J"}
            found = await one.session()
            assert found.problems == 2
            assert found.first_problem.isprintable()
            assert health(found, 0.0).state == "catching_up"

    go(work())


def test_paused_it_has_no_connection_and_a_list_dials_nobody(program, short):
    async def work():
        async with voyage(program, short) as one:
            one.write("workspace/a")
            await one.mutagen.create(one.line)
            await one.flush()
            await one.mutagen.act("pause", (await one.session()).id)
            await until(lambda: not one.switch.connections(HOST))
            ran = len(one.ship.ran)
            found = await one.session()
            assert (found.paused, found.connected) == (True, False)
            assert health(found, 1.0).state == "paused"
            one.write("workspace/b")
            assert len(one.ship.ran) == ran
            await one.mutagen.act("resume", found.id)
            await until(lambda: "workspace/b" in one.files())

    go(work())


def test_cut_off_it_says_so_and_reaches_nobody_until_it_may(program, short):
    async def work():
        async with voyage(program, short) as one:
            one.write("workspace/a")
            await one.mutagen.create(one.line)
            await one.flush()
            ran = len(one.ship.ran)
            await one.switch.cut(HOST)
            found = await until(lambda: _not_connected(one))
            assert health(found, 1.0).state == "catching_up"
            with pytest.raises(MutagenError):
                await one.mutagen.act("flush", found.id)
            with pytest.raises(MutagenError):
                await one.mutagen.create(one.line)
            assert len(one.ship.ran) == ran
            one.switch.admit(HOST, one.ship)
            one.write("workspace/b")
            await one.mutagen.act("resume", found.id)
            await until(lambda: "workspace/b" in one.files())

    go(work())


async def _not_connected(one):
    found = await one.session()
    return None if found.connected else found


@pytest.mark.parametrize("how", ["emptied", "deletion"])
def test_what_halts_goes_on_after_a_reset(program, short, how):
    async def work():
        async with voyage(program, short) as one:
            for n in range(3):
                one.write(f"workspace/{n}")
            await one.mutagen.create(one.line)
            await one.flush()
            aside = one.source.rename(one.home / "aside")
            if how == "emptied":
                one.source.mkdir()
            found = await until(lambda: _halted(one))
            assert found.status == f"halted-on-root-{how}"
            assert len(one.files()) == 3, "nothing is deleted here"
            assert health(found, 1.0).state == "halted"
            shutil.rmtree(one.source, ignore_errors=True)
            aside.rename(one.source)
            one.write("workspace/3")
            await one.mutagen.act("reset", found.id)
            await until(lambda: len(one.files()) == 4)

    go(work())


async def _halted(one):
    found = await one.session()
    return found if found.is_halted else None


def test_names_are_not_unique_and_identifiers_are(program, short):
    async def work():
        async with voyage(program, short) as one:
            await one.mutagen.create(one.line)
            await one.mutagen.create(one.line)
            first, second = await one.mutagen.sessions()
            await one.mutagen.act("terminate", first.id)
            assert [found.id for found in await one.mutagen.sessions()] == [second.id]

    go(work())


def test_a_daemon_that_a_captain_left_is_ended_and_its_sessions_go_on(program, short):
    async def work():
        async with voyage(program, short) as one:
            one.write("workspace/a")
            await one.mutagen.create(one.line)
            await one.flush()
            paused = await one.session()
            await one.mutagen.act("pause", paused.id)
            first = live_pid(one.mutagen.place.pid_file)
            later = Mutagen(one.mutagen.binary, one.mutagen.place, "voyage-1")
            await later.start()
            try:
                await until(lambda: not one.mutagen.is_running)
                assert live_pid(one.mutagen.place.pid_file) != first
                (found,) = await later.sessions()
                assert (found.id, found.paused) == (paused.id, True)
                os.kill(live_pid(one.mutagen.place.pid_file), signal.SIGKILL)
                await until(lambda: not later.is_running)
                await later.start()
                assert [found.id for found in await later.sessions()] == [paused.id]
            finally:
                await later.stop()

    go(work())


def test_a_dead_daemon_takes_its_connections_with_it(program, short):
    async def work():
        async with voyage(program, short) as one:
            await one.mutagen.create(one.line)
            await until(lambda: one.switch.connections(HOST))
            os.kill(live_pid(one.mutagen.place.pid_file), signal.SIGKILL)
            await until(lambda: not one.switch.connections(HOST))

    go(work())


def test_a_missing_parent_is_no_error_and_yet_not_watching(program, short):
    async def work():
        async with voyage(program, short) as one:
            one.write("workspace/a")
            await one.mutagen._run(create_argv(one.line), 30)
            await one.flush()
            found = await one.session()
            assert not one.target.exists()
            assert "parent" in found.first_problem
            assert health(found, 0.0).state == "catching_up"

    go(work())


# -- traps that a real one does not have at will -----------------------------------------------


@pytest.mark.parametrize("version", ["0.17.6", "0.19.0", "", "1\x1b[2J"])
def test_another_version_is_not_used(fake, version):
    fake_mutagen.set_traps(fake, version=version)
    with pytest.raises(MutagenError, match="mutagen is of version") as caught:
        asyncio.run(require_binary(str(fake)))
    assert caught.value.message.isprintable()


def test_none_is_said(tmp_path):
    with pytest.raises(MutagenError, match="mutagen is not installed"):
        asyncio.run(require_binary(str(tmp_path)))


def test_no_secret_reaches_it(fake, short, monkeypatch):
    monkeypatch.setenv("SPRITES_TOKEN", "secret")

    async def work():
        async with voyage(fake, short) as one:
            await one.mutagen.create(one.line)

    go(work())
    known = {"HOME", "LC_ALL", "LC_CTYPE", "PATH", "PWD", "SHLVL", "TMPDIR", "_"}
    for line in (fake / "calls.log").read_text().splitlines():
        left = {name for name in json.loads(line)["env"] if not name.startswith("MUTAGEN_")}
        assert left <= known


@pytest.mark.parametrize("verb", ["flush", "list"])
def test_a_call_that_hangs_is_killed(fake, short, verb, monkeypatch):
    monkeypatch.setattr("ocaptain.sync.mutagen.CALL_SECONDS", 1.0)

    async def work():
        async with voyage(fake, short) as one:
            await one.mutagen.create(one.line)
            found = await one.session()
            fake_mutagen.set_traps(fake, hang=[verb])
            with pytest.raises(MutagenError, match=rf"mutagen sync {verb} did not end in 1 s and was killed"):
                await (one.mutagen.sessions() if verb == "list" else one.mutagen.act(verb, found.id, 1.0))
            fake_mutagen.set_traps(fake)
            assert (await one.session()).id == found.id

    go(work())


def test_a_flush_that_lies_makes_nothing_true(fake, short):
    async def work():
        async with voyage(fake, short) as one:
            await one.mutagen.create(one.line)
            await one.flush()
            before = (await until(lambda: _watching_session(one))).cycles
            fake_mutagen.set_traps(fake, flush_lies=True)
            await one.flush()
            after = await one.session()
            assert after.cycles == before, "what counts is the number of cycles"
            assert health(after, 11.0).state == "stale"

    go(work())


async def _watching_session(one):
    found = await one.session()
    return found if found.status == "watching" else None


def test_conflicts_and_missing_fields_are_not_watching(fake, short):
    async def work():
        async with voyage(fake, short) as one:
            await one.mutagen.create(one.line)
            await until(lambda: _watching_session(one))
            fake_mutagen.set_traps(fake, conflicts=26)
            found = await one.session()
            assert (found.status, found.problems) == ("watching", 26)
            assert health(found, 0.0).state == "catching_up"
            for missing in ("alpha", "beta", "status", "successfulCycles", "labels", "paused"):
                fake_mutagen.set_traps(fake, missing=[missing])
                state = health(await one.session(), 0.0).state
                assert (missing, state == "watching") == (missing, missing in {"successfulCycles", "labels", "paused"})

    go(work())


def test_a_daemon_that_dies_at_once_is_said(fake, short):
    fake_mutagen.set_traps(fake, dead=True)

    async def work():
        binary = await require_binary(str(fake))
        mutagen = Mutagen(binary, make_place(short), "voyage-1")
        with pytest.raises(MutagenError, match="Mutagen's daemon did not start: Error: unable to start daemon"):
            await mutagen.start()
        assert not mutagen.is_running

    go(work())


def test_a_long_directory_is_not_used(fake, short, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    directory = short / ("x" * 100)
    directory.mkdir()

    async def work():
        async with voyage(fake, directory) as one:
            await one.mutagen.create(one.line)
            await until(lambda: _watching_session(one))

    go(work())
    assert list(short.iterdir()) == [directory], "and nothing is left of it"


def test_fields_in_a_template_fail_on_a_paused_session(fake, short):
    async def work():
        async with voyage(fake, short) as one:
            await one.mutagen.create(one.line)
            await one.mutagen.act("pause", (await one.session()).id)
            with pytest.raises(MutagenError, match="nil pointer"):
                await one.mutagen._run(["sync", "list", "--template", "{{.LastError}}"], 10)
            await one.session()

    go(work())


def test_nothing_is_left_of_a_voyages_mutagen(fake, short):
    async def work():
        async with voyage(fake, short) as one:
            await one.mutagen.create(one.line)
            pid = live_pid(one.mutagen.place.pid_file)
            await asyncio.to_thread(clear, short)
            assert not one.mutagen.place.path.exists()
            begun = time.monotonic()
            while Path(f"/proc/{pid}").exists() and one.mutagen.is_running:
                assert time.monotonic() - begun < PATIENCE
                await asyncio.sleep(0.05)

    go(work())
