"""Mirrors of the ships: which there should be now, and what becomes of them, beside the voyage and never in its way.

::

    hooks of ships (begins, lets go, closed, lost) ──note──> ShipMirror        ┌──> Mutagen (calls, daemon)
    every 5 s, and at each news: `sync list` + ShipMirror ──spec.wanted──> steps ┼──> Switch (who may be dialled)
                                                     └──spec.health──> mirrors.json

Nothing here raises to the captain: what fails is a line in the log and in ``mirrors.json``, and is tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ocaptain.captain.kept_mirrors import keep_mirror, mirror_path, next_generation, refuse_folder
from ocaptain.captain.mirror_state import ShipMirror, bring_agent
from ocaptain.captain.transport.base import TransportError
from ocaptain.errors import OcaptainError
from ocaptain.protocol.files import write_atomic
from ocaptain.sync.live import STATUS_FILE, Live
from ocaptain.sync.mutagen import PAUSE_SECONDS, Mutagen, MutagenError, MutagenNotUsed, clear, require_binary
from ocaptain.sync.place import make_place
from ocaptain.sync.spec import MAX_TOTAL_BYTES, SOURCE, Act, Create, Line, MoveAway, is_label, wanted
from ocaptain.sync.switch import Switch
from ocaptain.worker.repository import IGNORE_PATTERNS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from ocaptain.captain.transport.base import Transport
    from ocaptain.git import Git
    from ocaptain.ledger import Claim, Ledger
    from ocaptain.sync.spec import Session, Step

LOOK_SECONDS = 5.0
PAUSE_BETWEEN = 0.2  # seconds, however much happens
RETRY_SECONDS = 30.0  # after Mutagen's daemon did not start
AT_ONCE = 4  # ships that are seen to at the same time
OFF = "switched off by OCAPTAIN_MUTAGEN"
LOST = frozenset({"failed", "gone"})
TOO_LARGE = f"its files have more than {MAX_TOTAL_BYTES // 1024**3} GB, so they are not mirrored until its next task"
log = logging.getLogger("ocaptain.captain")


class Mirrors:
    """Follows the ships of one captain; a :class:`ocaptain.captain.ship.hooks.ShipHook`, and a context manager.

    Args:
        directory: the voyage's.
        ledger: of the captain.
        git: of ``repo.git``.
        identify: returns the provider's id of a sprite, by its name; raises OcaptainError.
        search: where ``mutagen`` is looked for, instead of ``PATH``.
        is_off: whether there are to be no mirrors.
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        git: Git,
        identify: Callable[[str], Awaitable[str]],
        search: str | None = None,
        *,
        is_off: bool = False,
    ) -> None:
        self._is_off = is_off
        self._directory = directory.absolute()
        self._ledger = ledger
        self._git = git
        self._identify = identify
        self._search = search
        self._voyage = ledger.voyage().id
        work = (row for row in ledger.ships() if row.role == "work")
        self._ships = {row.id: ShipMirror(row.sprite, is_lost=row.state in LOST) for row in work}
        self._live = self._read_published()
        self._mutagen: Mutagen | None = None
        self._switch: Switch | None = None
        self._news = asyncio.Event()
        self._resumed: frozenset[str] = frozenset()
        self._warned: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing: dict[str, asyncio.Task[None]] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._limit = asyncio.Semaphore(AT_ONCE)

    # -- the captain's side ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Begin; Mutagen is looked for and started beside the voyage."""
        self._spawn(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End: no session is left that could dial, and no process."""
        tasks = [*self._tasks, *self._flushing.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._rest(name) for name in self._ships), return_exceptions=True)
        if self._switch:
            await self._switch.close()
        if self._mutagen:
            await self._mutagen.stop()
        self._publish(self._live.why)

    def channel_opened(self, ship: str, transport: Transport) -> None:
        """Note the way to the ship; its sprite may be another one than before."""
        if ship not in self._ships and (row := self._ledger.ship_row(ship)).role == "work":
            self._ships[ship] = ShipMirror(row.sprite)  # it joined while the voyage sails
        if one := self._ships.get(ship):
            one.way, one.origin, one.has_agent = transport, "", False

    def attempt_begins(self, ship: str, claim: Claim) -> None:  # noqa: ARG002 - a hook's signature
        """Have the ship mirrored from now on: it is awake anyway."""
        if one := self._ships.get(ship):
            one.at_work, one.is_lost, one.too_large = True, False, False
            self._news.set()

    def attempt_ended(self, ship: str, claim: Claim) -> None:
        """Do nothing: until its channel is let go, the ship is awake."""

    async def lets_go(self, ship: str) -> None:
        """Fetch what is new, pause the ship's session, and cut what is left of it; for at most a few seconds."""
        await self._rest(ship)

    def channel_closed(self, ship: str) -> None:
        """Refuse the ship from now on: it may sleep."""
        self._leave(ship)

    def ship_lost(self, ship: str, reason: str) -> None:  # noqa: ARG002 - a hook's signature
        """End the ship's session and keep its mirror."""
        if one := self._ships.get(ship):
            one.is_lost = True
            self._leave(ship)

    def voyage_ended(self, ship: str) -> None:
        """Do nothing: :meth:`lets_go` follows."""

    def _leave(self, ship: str) -> None:
        if one := self._ships.get(ship):
            one.at_work = one.is_admitted = False
            one.way = None
            if self._switch:
                self._spawn(self._switch.cut(one.host))
            self._news.set()

    async def _rest(self, ship: str) -> None:
        one = self._ships.get(ship)
        if one is None:
            return
        one.at_work = False
        session, mutagen = one.session, self._mutagen
        try:
            if session and mutagen and mutagen.is_running and one.is_admitted and not session.paused:
                async with asyncio.timeout(PAUSE_SECONDS):
                    with contextlib.suppress(MutagenError):
                        await mutagen.act("flush", session.id, PAUSE_SECONDS / 2)
                    await mutagen.act("pause", session.id)
        except (MutagenError, TimeoutError) as error:
            log.info("%s: its mirror was cut off: %s", ship, str(error) or "pausing it took too long")
        finally:
            one.is_admitted = False
            if self._switch:
                await self._switch.cut(one.host)
            self._news.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- beside the voyage ------------------------------------------------------------------------

    async def _run(self) -> None:
        if self._is_off:
            await asyncio.to_thread(clear, self._directory)  # of a captain that was killed, when it was on
            self._publish(OFF)
            return
        while True:
            try:
                await self._follow()
            except MutagenNotUsed as error:
                log.info("mirrors: %s", error)
                self._publish(str(error))
                return
            except (OcaptainError, OSError) as error:
                self._warn("", str(error))
                self._publish(str(error))
            except Exception as error:
                log.exception("mirrors: an error of ours")
                self._publish(f"an error of ours: {type(error).__name__}")
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        """Start Mutagen, and follow the ships until something of it fails."""
        if self._mutagen is None:
            binary = await require_binary(self._search)
            place = await asyncio.to_thread(make_place, self._directory)
            switch = Switch(place.switch)
            switch.open()
            self._switch, self._mutagen = switch, Mutagen(binary, place, self._voyage)
        while True:
            self._news.clear()
            if not self._mutagen.is_running:
                await self._mutagen.start()
                log.info("mirrors: mutagen %s", self._mutagen.binary.version)
            await self._reconcile(self._mutagen)
            await asyncio.sleep(PAUSE_BETWEEN)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()

    async def _reconcile(self, mutagen: Mutagen) -> None:
        """Compare what there is with what there should be, and do the difference.

        Raises:
            MutagenError: there is no list.
        """
        busy = frozenset(self._settling)  # what the list will say of them may be old
        found = await asyncio.gather(*(self._line(name) for name in self._ships if name not in busy))
        lines = {line.ship: line for line in found if line}
        sessions = await mutagen.sessions()
        self._note(sessions)
        resting = frozenset(name for name, one in self._ships.items() if name not in lines and not one.is_lost)
        kept = {name: origin for name, (origin, _) in self._live.origins.items()}
        steps = wanted(lines.values(), resting, sessions, kept, resumed=self._resumed)
        self._resumed = frozenset(one.id for one in sessions if one.is_halted and not one.paused)
        for name in dict.fromkeys([*(_ship_of(one) for one in steps), *lines]):
            if name not in busy:
                mine = [one for one in steps if _ship_of(one) == name]
                self._settling[name] = self._spawn(self._settle(name, mine, lines.get(name)))
        self._publish("")

    async def _line(self, ship: str) -> Line | None:
        """Return the mirror that a ship should have now, None if it should have none."""
        one = self._ships[ship]
        if not one.at_work or one.is_lost or one.too_large:
            return None
        if not one.origin:
            try:
                found = await self._identify(one.host)
            except OcaptainError as error:
                self._fail(ship, str(error))
                return None
            one.origin = found if is_label(found) else hashlib.sha256(found.encode()).hexdigest()[:32]
        origin, generation = self._live.origins.get(ship, ("", 0))
        if origin != one.origin:
            generation = next_generation(self._directory, ship) + bool(origin)
        target = str(mirror_path(self._directory, ship))
        return Line(self._voyage, ship, one.host, one.origin, generation, SOURCE, target, tuple(IGNORE_PATTERNS))

    async def _settle(self, ship: str, steps: Sequence[Step], line: Line | None) -> None:
        """Do what is to be done for one ship, in order; what fails is tried again at the next look."""
        try:
            async with self._limit:
                ends = [one for one in steps if isinstance(one, MoveAway) or _ends(one)]
                for step in ends:
                    await self._do(step)
                begins = [one for one in steps if one not in ends]
                if line and await self._admit(line) and not begins:
                    begins = self._redial(ship)
                for step in begins:
                    await self._do(step)
        except (OcaptainError, TransportError, OSError) as error:
            self._fail(ship, str(error))
        except Exception as error:
            log.exception("%s: its mirror: an error of ours", ship)
            self._fail(ship, f"an error of ours: {type(error).__name__}")
        else:
            if line and not self._ships[ship].too_large:
                self._ships[ship].problem = ""
        finally:
            self._settling.pop(ship, None)

    async def _do(self, step: Step) -> None:
        mutagen = self._mutagen
        assert mutagen
        if isinstance(step, MoveAway):
            await self._move_away(step.ship)
            self._news.set()
        elif isinstance(step, Create):
            ship, folder = step.line.ship, Path(step.line.target)
            if why := refuse_folder(folder, is_ours=ship in self._live.origins):
                raise OcaptainError(why)
            if self._ships[ship].is_admitted:
                self._live = replace(
                    self._live, origins={**self._live.origins, ship: (step.line.origin, step.line.generation)}
                )
                self._publish("", durable=True)
                await mutagen.create(step.line)
                self._news.set()
        elif step.verb not in {"resume", "reset"} or self._ships[step.ship].is_admitted:
            log.info("%s: its mirror: %s", step.ship or "a session of nobody's", step.verb)
            await mutagen.act(step.verb, step.session)

    async def _admit(self, line: Line) -> bool:
        """Let Mutagen reach a ship that is at work; return whether it was let go before.

        Only after sessions of another sprite of its name have ended: one of them would take it for theirs.
        """
        one = self._ships[line.ship]
        way = one.way
        if one.is_admitted or way is None or self._switch is None or self._mutagen is None:
            return False
        if not one.has_agent and (size := await bring_agent(way, self._mutagen.binary)):
            log.info("%s: has Mutagen's agent now (%d bytes)", line.ship, size)
        one.has_agent = True
        if one.may_dial(way):  # it may have been let go meanwhile, and another sprite may have come
            one.is_admitted = True
            self._switch.admit(one.host, way)
        return one.is_admitted

    def _redial(self, ship: str) -> list[Step]:
        """Return what makes a session try again now that was cut off: by itself it waits for 15 s."""
        session = self._ships[ship].session
        return [Act("resume", session.id, ship)] if session and not session.connected else []

    async def _move_away(self, ship: str) -> None:
        """Keep a lost sprite's mirror, and say where. Raises OSError."""
        number = self._ledger.epoch or 0
        kept = await asyncio.to_thread(keep_mirror, self._git, self._directory, ship, number, self._voyage)
        self._live = replace(self._live, origins={k: v for k, v in self._live.origins.items() if k != ship})
        self._publish("", durable=True)
        if kept is None:
            return
        if kept.commit:
            self._ledger.add_saved_ref(kept.ref, ship, None, kept.commit)
        where = f"{kept.folder}{f' and as {kept.ref}' if kept.commit else ''}"
        self._ledger.add_event("mirror", f"the mirror of a sprite that is lost is kept in {where}", ship=ship)

    # -- what is known ------------------------------------------------------------------------------

    def _note(self, sessions: Sequence[Session]) -> None:
        """Note what the list says of each ship, and ask for a cycle where none was for a while."""
        now = asyncio.get_running_loop().time()
        found = {session.ship: session for session in reversed(sessions)}
        for name, one in self._ships.items():
            session = found.get(name)
            one.note(session, now)
            if session and session.bytes > MAX_TOTAL_BYTES and not one.too_large:
                one.too_large = True
                self._fail(name, TOO_LARGE)
            if session and one.needs_flush(now) and name not in self._flushing:
                self._flushing[name] = asyncio.create_task(self._flush(name, session.id))

    async def _flush(self, ship: str, session: str) -> None:
        assert self._mutagen
        try:
            with contextlib.suppress(MutagenError):  # the count of cycles says what came of it
                await self._mutagen.act("flush", session)
        finally:
            self._flushing.pop(ship, None)

    def _fail(self, ship: str, problem: str) -> None:
        if one := self._ships.get(ship):
            one.problem = problem
        self._warn(ship, problem)

    def _warn(self, ship: str, problem: str) -> None:
        """Log a problem, once."""
        line = f"{ship}: no mirror: {problem}" if ship else f"mirrors: {problem}"
        if line not in self._warned:
            self._warned.add(line)
            log.warning("%s", line)

    def _read_published(self) -> Live:
        with contextlib.suppress(OSError):
            return Live.decode((self._directory / STATUS_FILE).read_bytes())
        return Live()

    def _publish(self, why: str, *, durable: bool = False) -> None:
        """Write what is known for those who show it; a disk that is full changes nothing else."""
        version = self._mutagen.binary.version if self._mutagen else ""
        now = asyncio.get_running_loop().time()
        ships = {name: one.health(now) for name, one in self._ships.items()}
        self._live = Live(time.time(), version, why, ships, self._live.origins)
        try:
            write_atomic(self._directory / STATUS_FILE, self._live.encode(), durable=durable, one_writer=True)
        except OSError as error:
            self._warn("", f"{STATUS_FILE} cannot be written: {error.strerror}")


def _ship_of(step: Step) -> str:
    return step.line.ship if isinstance(step, Create) else step.ship


def _ends(step: Step) -> bool:
    return isinstance(step, Act) and step.verb in {"terminate", "pause"}
