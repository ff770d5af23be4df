"""The captain's mirrors, with a ledger, git, the program that behaves like Mutagen, and ships that are folders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from ocaptain.captain.mirrors import Mirrors
from ocaptain.captain.ship.hooks import Hooks
from ocaptain.errors import OcaptainError
from ocaptain.git import BareRepository
from ocaptain.process import live_pid
from ocaptain.sync.live import Live
from ocaptain.sync.mutagen import Mutagen, MutagenError
from tests.sync import fake_mutagen
from tests.sync.machine import Machine
from tests.voyage.local import VOYAGE, command, make_voyage

PATIENCE = 60


@pytest.fixture
def root():
    with tempfile.TemporaryDirectory(prefix="oc", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def fake(root):
    return fake_mutagen.install(root / "bin").parent


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("ocaptain.captain.mirrors.LOOK_SECONDS", 0.3)
    monkeypatch.setattr("ocaptain.captain.mirrors.RETRY_SECONDS", 0.3)
    monkeypatch.setattr("ocaptain.captain.mirror_state.FLUSH_AFTER", 0.5)


class Fleet:
    """A voyage's ships: which sprite each is, and what its captain's mirrors are told."""

    def __init__(self, root, ships=1):
        self.root = root
        self.directory = make_voyage(root, [{"run": "true"}], ships)
        self.sprites = {}
        self.names = [f"ship-{n}" for n in range(ships)]
        for name in self.names:
            self.make(name)
        self.mirrors = None

    def make(self, ship):
        """Make a sprite with a young workspace, in the place of the one before."""
        number = self.sprites[ship].number + 1 if ship in self.sprites else 1
        made = Machine(self.root / f"{ship}-{number}")
        made.number = number
        (made.home / "voyage/workspace").mkdir(parents=True)
        (made.home / "voyage/logs").mkdir()
        self.sprites[ship] = made
        self.write(ship, "young")

    def write(self, ship, name, text="x"):
        (self.sprites[ship].home / "voyage/workspace" / name).write_text(text)

    async def identify(self, sprite):
        ship = sprite.removeprefix(f"{VOYAGE}-")
        if self.sprites[ship] is None:
            raise OcaptainError("the provider does not answer")
        return f"sprite-{ship}-{self.sprites[ship].number}"

    @contextlib.asynccontextmanager
    async def captain(self, fake, **more):
        with command(self.directory) as ledger:
            git = BareRepository(self.directory / "repo.git")
            async with Mirrors(self.directory, ledger, git, self.identify, str(fake), **more) as mirrors:
                self.mirrors, self.ledger, self.hooks = mirrors, ledger, Hooks([mirrors])
                yield self

    def begin(self, ship):
        self.hooks.channel_opened(ship, self.sprites[ship])
        self.hooks.attempt_begins(ship, None)

    async def let_go(self, ship):
        await self.hooks.lets_go(ship)
        self.hooks.channel_closed(ship)

    def live(self):
        return Live.decode((self.directory / "mirrors.json").read_bytes())

    def state(self, ship):
        with contextlib.suppress(OSError):
            return self.live().health(ship, self.live().at).state
        return None

    def files(self, ship):
        folder = self.directory / "ships" / ship / "workspace"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    async def sessions(self):
        return await self.mirrors._mutagen.sessions()


def go(work):
    async def limited():
        async with asyncio.timeout(PATIENCE):
            await work

    asyncio.run(limited())


async def until(true):
    while not (found := await found if asyncio.iscoroutine(found := true()) else found):
        await asyncio.sleep(0.05)
    return found


def test_a_ship_at_work_is_mirrored_and_one_that_rests_is_not_dialled(root, fake):
    async def work():
        async with Fleet(root, 2).captain(fake) as fleet:
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            assert fleet.files("ship-0") == ["young"]
            assert fleet.state("ship-1") == "off"
            fleet.write("ship-0", "new")
            await until(lambda: fleet.files("ship-0") == ["new", "young"])
            await until(lambda: fleet.live().ships["ship-0"].files == 2)
            fleet.write("ship-0", "last")
            await fleet.let_go("ship-0")
            assert "last" in fleet.files("ship-0"), "what came last is fetched before it is let go"
            ran = len(fleet.sprites["ship-0"].ran)
            assert all(one.closed for one in fleet.sprites["ship-0"].programs)
            await until(lambda: fleet.state("ship-0") == "paused")
            fleet.write("ship-0", "asleep")
            fleet.begin("ship-0")
            await until(lambda: "asleep" in fleet.files("ship-0"))
            fleet.begin("ship-1")
            await until(lambda: fleet.state("ship-1") == "watching")
            assert len(await fleet.sessions()) == 2
            assert len(fleet.sprites["ship-0"].ran) > ran
            agent = [argv for argv in fleet.sprites["ship-0"].ran if "synchronizer" not in argv]
            assert len([argv for argv in agent if argv[0] == "chmod"]) == 1, "its program was brought once"
            assert "scp" not in (fake / "dials.log").read_text()
        assert fleet.state("ship-0") in {"paused", "watching", "catching_up"}
        assert [one.closed for one in fleet.sprites["ship-0"].programs if not one.closed] == []

    go(work())


def test_a_channel_that_breaks_is_cut_and_comes_back(root, fake):
    async def work():
        async with Fleet(root).captain(fake) as fleet:
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            fleet.hooks.channel_closed("ship-0")
            await until(lambda: fleet.state("ship-0") == "paused")
            ran = len(fleet.sprites["ship-0"].ran)
            await asyncio.sleep(1)
            assert len(fleet.sprites["ship-0"].ran) == ran
            fleet.begin("ship-0")
            fleet.write("ship-0", "new")
            await until(lambda: "new" in fleet.files("ship-0"))

    go(work())


def test_a_lost_ship_that_is_made_again_wipes_nothing(root, fake):
    async def work():
        fleet = Fleet(root)
        async with fleet.captain(fake):
            fleet.begin("ship-0")
            for n in range(20):
                fleet.write("ship-0", f"work-{n}")
            (fleet.sprites["ship-0"].home / "voyage/logs/1.log").write_text("log")
            await until(lambda: len(fleet.files("ship-0")) == 21)
            epoch = fleet.ledger.epoch
            fleet.hooks.ship_lost("ship-0", "gone")
            await until(lambda: not (fleet.directory / "ships/ship-0").exists())
            assert await fleet.sessions() == []
        kept = fleet.directory / f"ships/ship-0.lost-{epoch}"
        assert len(os.listdir(kept / "workspace")) == 21
        assert (kept / "logs/1.log").read_text() == "log"
        ref = f"refs/ocaptain/saved/ship-0/{epoch}"
        git = BareRepository(fleet.directory / "repo.git")
        assert len(git.files(ref)) == 21
        fleet.make("ship-0")
        async with fleet.captain(fake):
            rows = fleet.ledger.rows("saved_refs", "ref")
            assert [(row["ref"], row["ship"], row["commit_id"]) for row in rows] == [(ref, "ship-0", git.resolve(ref))]
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            (session,) = await fleet.sessions()
            assert (session.origin, session.generation) == ("sprite-ship-0-2", 2)
            assert fleet.files("ship-0") == ["young"]
        assert len(os.listdir(kept / "workspace")) == 21

    go(work())


def test_a_sprite_that_was_replaced_while_no_captain_looked_wipes_nothing(root, fake):
    async def work():
        fleet = Fleet(root)
        async with fleet.captain(fake):
            fleet.begin("ship-0")
            for n in range(20):
                fleet.write("ship-0", f"work-{n}")
            await until(lambda: len(fleet.files("ship-0")) == 21)
            # as a captain that is killed leaves it: the session is not paused, its daemon lives
            left, fleet.mirrors._mutagen = fleet.mirrors._mutagen, None
        pid = live_pid(left.place.pid_file)
        assert pid is not None
        fleet.make("ship-0")
        async with fleet.captain(fake):
            fleet.begin("ship-0")
            await until(lambda: fleet.files("ship-0") == ["young"])
            (session,) = await fleet.sessions()
            assert session.origin == "sprite-ship-0-2"
        (kept,) = (fleet.directory / "ships").glob("ship-0.lost-*")
        assert len(os.listdir(kept / "workspace")) == 21
        await left.stop()

    go(work())


def test_what_git_cannot_take_is_kept_all_the_same(root, fake):
    async def work():
        fleet = Fleet(root)
        async with fleet.captain(fake):
            fleet.begin("ship-0")
            await until(lambda: fleet.files("ship-0") == ["young"])
            shutil.move(fleet.directory / "repo.git", root / "aside")
            fleet.hooks.ship_lost("ship-0", "gone")
            await until(lambda: list((fleet.directory / "ships").glob("ship-0.lost-*")))
            assert fleet.ledger.rows("saved_refs", "ref") == []

    go(work())


def test_two_of_a_name_are_one_again_and_what_halts_goes_on(root, fake):
    async def work():
        async with Fleet(root).captain(fake) as fleet:
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            (first,) = await fleet.sessions()
            await fleet.mirrors._mutagen.create(await fleet.mirrors._line("ship-0"))

            async def one_left():
                return len(await fleet.sessions()) == 1

            await until(one_left)
            fake_mutagen.set_traps(fake, halt="halted-on-root-emptied")
            await until(lambda: not json.loads((fake / "traps.json").read_text()))
            fleet.write("ship-0", "after")
            await until(lambda: "after" in fleet.files("ship-0"))
            assert first.origin == "sprite-ship-0-1"

    go(work())


def test_mutagens_death_is_not_the_voyages(root, fake):
    async def work():
        async with Fleet(root).captain(fake) as fleet:
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            os.kill(live_pid(fleet.mirrors._mutagen.place.pid_file), signal.SIGKILL)
            fleet.write("ship-0", "after")
            await until(lambda: "after" in fleet.files("ship-0"))

    go(work())


@pytest.mark.parametrize(
    ("traps", "why"),
    [
        ({"version": "0.17.0"}, "mutagen is of version 0.17.0; 0.18 is used"),
        ({"dead": True}, "Mutagen's daemon did not start: Error: unable to start daemon: it is dead"),
        (None, "mutagen is not installed"),
    ],
)
def test_without_mutagen_all_else_goes_on(root, fake, traps, why):
    fake_mutagen.set_traps(fake, **traps or {})
    if traps is None:
        (fake / "mutagen").unlink()

    async def work():
        async with Fleet(root).captain(fake) as fleet:
            fleet.begin("ship-0")
            await fleet.let_go("ship-0")
            await until(lambda: (fleet.directory / "mirrors.json").exists() and fleet.live().why == why)
            assert fleet.state("ship-0") == "off"

    go(work())


def test_a_mutagen_that_hangs_at_first_is_asked_again(root, fake, monkeypatch):
    monkeypatch.setattr("ocaptain.sync.mutagen.VERSION_SECONDS", 0.5)
    fake_mutagen.set_traps(fake, hang=["version"])

    async def work():
        async with Fleet(root).captain(fake) as fleet:
            fleet.begin("ship-0")
            why = "mutagen version did not end in 0.5 s and was killed"
            await until(lambda: (fleet.directory / "mirrors.json").exists() and fleet.live().why == why)
            monkeypatch.setattr("ocaptain.sync.mutagen.VERSION_SECONDS", 60)
            fake_mutagen.set_traps(fake)
            await until(lambda: fleet.state("ship-0") == "watching")

    go(work())


def test_a_provider_that_does_not_answer_and_a_full_folder_are_said(root, fake):
    async def work():
        async with Fleet(root).captain(fake) as fleet:
            (fleet.directory / "ships").write_text("in the way")
            sprite, fleet.sprites["ship-0"] = fleet.sprites["ship-0"], None
            fleet.hooks.channel_opened("ship-0", sprite)
            fleet.hooks.attempt_begins("ship-0", None)

            def said():
                with contextlib.suppress(OSError, KeyError):
                    return fleet.live().ships["ship-0"].first_problem

            await until(lambda: said() == "the provider does not answer")
            fleet.sprites["ship-0"] = sprite
            await until(lambda: "cannot be made" in (said() or ""))
            assert sprite.ran, "it was reached; its task goes on"
            (fleet.directory / "ships").unlink()
            await until(lambda: fleet.state("ship-0") == "watching")

    go(work())


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_folder_that_no_mirror_made_is_left_alone_and_that_is_said(root, fake, kind):
    async def work():
        async with Fleet(root).captain(fake) as fleet:
            place, own = fleet.directory / "ships/ship-0", root / "own"
            own.mkdir()
            (own / "thesis").write_text("mine\n")
            place.parent.mkdir()
            place.symlink_to(own) if kind == "link" else own.rename(place)
            fleet.begin("ship-0")

            def said():
                with contextlib.suppress(OSError, KeyError):
                    return fleet.live().ships["ship-0"].first_problem

            await until(lambda: f"{place} is " in (said() or ""))
            assert (place / "thesis").read_text() == "mine\n"
            assert await fleet.sessions() == []
            place.rename(root / "away")
            await until(lambda: fleet.state("ship-0") == "watching")
            assert fleet.files("ship-0") == ["young"]

    go(work())


def test_a_pause_that_hangs_is_cut_off(root, fake, monkeypatch):
    monkeypatch.setattr("ocaptain.captain.mirrors.PAUSE_SECONDS", 0.6)

    async def work():
        async with Fleet(root).captain(fake) as fleet:
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            fake_mutagen.set_traps(fake, hang=["flush", "pause"])
            async with asyncio.timeout(PATIENCE / 2):
                await fleet.hooks.lets_go("ship-0")
            assert all(one.closed for one in fleet.sprites["ship-0"].programs)
            fake_mutagen.set_traps(fake)

    go(work())


def test_too_much_is_not_mirrored(root, fake, monkeypatch):
    monkeypatch.setattr("ocaptain.captain.mirrors.MAX_TOTAL_BYTES", 1000)

    async def work():
        async with Fleet(root).captain(fake) as fleet:
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            fleet.write("ship-0", "large", "x" * 2000)
            await until(lambda: fleet.state("ship-0") == "paused")
            assert "not mirrored until its next task" in fleet.live().ships["ship-0"].first_problem
            (fleet.sprites["ship-0"].home / "voyage/workspace/large").unlink()
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")

    go(work())


def test_a_daemon_that_was_left_is_found_by_the_next_captain(root, fake):
    async def work():
        fleet = Fleet(root)
        async with fleet.captain(fake):
            await until(lambda: fleet.mirrors._mutagen and fleet.mirrors._mutagen.is_running)
            left, fleet.mirrors._mutagen = fleet.mirrors._mutagen, None
        assert isinstance(left, Mutagen)
        assert left.is_running
        async with fleet.captain(fake):
            await until(lambda: not left.is_running)
        await left.stop()

    go(work())


def test_switched_off_nothing_of_mutagen_is_left(root, fake):
    async def work():
        fleet = Fleet(root)
        async with fleet.captain(fake):
            fleet.begin("ship-0")
            await until(lambda: fleet.state("ship-0") == "watching")
            left, fleet.mirrors._mutagen = fleet.mirrors._mutagen, None
        async with fleet.captain(fake, is_off=True):
            fleet.begin("ship-0")
            await until(lambda: fleet.live().why == "switched off by OCAPTAIN_MUTAGEN")
            assert not left.place.path.exists()
            assert fleet.files("ship-0") == ["young"]
            assert fleet.state("ship-0") == "off"
            await until(lambda: not left.is_running)
        await left.stop()

    go(work())


def test_whatever_ships_do_ends_with_one_session_for_each_at_work(root, fake):
    seed = int(os.environ.get("OCAPTAIN_MIRROR_SEED") or int.from_bytes(os.urandom(4)))
    chance = random.Random(seed)

    async def work():
        async with Fleet(root, 3).captain(fake) as fleet:
            at_work = dict.fromkeys(fleet.names, False)
            for _ in range(14):
                ship = chance.choice(fleet.names)
                match chance.choice(["begins", "lets go", "breaks", "lost", "reborn", "halts", "daemon dies"]):
                    case "begins":
                        at_work[ship] = True
                        fleet.begin(ship)
                    case "lets go":
                        at_work[ship] = False
                        await fleet.let_go(ship)
                    case "breaks":
                        at_work[ship] = False
                        fleet.hooks.channel_closed(ship)
                    case "lost":
                        at_work[ship] = False
                        fleet.hooks.ship_lost(ship, "gone")
                    case "reborn":
                        fleet.hooks.ship_lost(ship, "gone")
                        fleet.make(ship)
                        fleet.begin(ship)
                        at_work[ship] = True
                    case "halts":
                        fake_mutagen.set_traps(fake, halt="halted-on-root-emptied")
                    case "daemon dies":
                        mutagen = fleet.mirrors._mutagen
                        if mutagen and (pid := live_pid(mutagen.place.pid_file)):
                            os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(chance.random() / 2)

            async def has_converged():
                with contextlib.suppress(MutagenError):
                    found = await fleet.sessions() if fleet.mirrors._mutagen else []
                    running = sorted((one.ship, one.origin) for one in found if not one.paused)
                    origins = {name: f"sprite-{name}-{fleet.sprites[name].number}" for name in fleet.names}
                    return running == sorted((name, origins[name]) for name in fleet.names if at_work[name])
                return False

            await until(has_converged)
            for name in fleet.names:
                if at_work[name]:
                    fleet.write(name, "last")
                    await until(lambda name=name: "last" in fleet.files(name))
                else:
                    assert not fleet.mirrors._switch.connections(fleet.mirrors._ships[name].host)

    try:
        go(work())
    except BaseException as error:
        error.add_note(f"again: OCAPTAIN_MIRROR_SEED={seed}")
        raise
