"""The captain of one voyage: reconciles, runs one actor a ship, ticks, verifies, and ends.

All state that matters is in the ledger; what is here can be lost at any moment. At start:
take the lock (process.py), a new epoch, finish or void the landings under way, then reach every
ship and go on from what ledger and ships say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any, TypeGuard

from ocaptain.agents import ADAPTERS
from ocaptain.captain.cargo import CargoStore
from ocaptain.captain.checkout import forward
from ocaptain.captain.decide.dispatch import Idle, Work, whom_to_call
from ocaptain.captain.decide.finish import Standing, finish
from ocaptain.captain.decide.leases import TICK, Leases
from ocaptain.captain.landing import Lander
from ocaptain.captain.ship import SLEEP_AFTER, ShipActor, VerifyJob, log_piece
from ocaptain.captain.spending import spent_of
from ocaptain.captain.transport import SpriteTransport
from ocaptain.control.commands import carry_out
from ocaptain.control.listen import listening
from ocaptain.git import Git, GitError, pack
from ocaptain.ledger import Fenced, Ledger, task_files
from ocaptain.prices import our_prices
from ocaptain.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ocaptain.agents.verdict import Ending, Facts
    from ocaptain.captain.awake import Awake
    from ocaptain.captain.fleet import Fleet
    from ocaptain.captain.landing import VerifyResult
    from ocaptain.captain.transport import Transport
    from ocaptain.control.commands import Answer, Command
    from ocaptain.ledger import Claim, ShipRow
    from ocaptain.prices import Prices
    from ocaptain.protocol import Message
    from ocaptain.sprites import SpritesClient

VERIFY_TRIES = 5
STOP_SECONDS = 0.1  # so that the answer to a command that ends this captain goes out first
KEEP_SECONDS = 5.0  # a task that comes back is kept so long for the ship that has its agent's session
FIRST_PAUSE = 5.0  # a ship whose agent found the service busy; it doubles
MOST_PAUSE = 300.0
MOST_WAITS = 60  # about four hours and a half, as long as a limit may last
START_SECONDS = 10.0  # so long a ship that was not reached yet is waited for with what was wished for it
FALL_ASLEEP_SECONDS = 60.0  # a provider pauses a ship after about 30 s of nothing
WAKE_SECONDS = 30.0  # what a ship that slept meanwhile may take to be there again
CREDENTIAL = (
    "work that landed or was offered is kept; set a good CLAUDE_CODE_OAUTH_TOKEN, ANTHROPIC_API_KEY or"
    " OCAPTAIN_CLAUDE_KEY_HELPER, then go on with: ocaptain sail --resume"
)
MOST_LOSSES = 10
MAX_LANDED_TOLD = 100  # landings that a prompt names, the last ones
log = logging.getLogger("ocaptain.captain")


class Captain:
    """Runs a voyage to its end.

    Args:
        directory: the voyage's.
        ledger: opened for writing, with an epoch taken.
        transports: makes the transport to a ship.
        provider_there: whether the provider that the ships are on is still the same one; a
            drydock that ended took its sprites with it.
        fleet: replaces ships that are lost; None = nobody does.
        prices: of tokens; by default ours.
        awake: counts how long ships are awake; None = the time of open channels counts (hosts bill nobody).
    """

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        transports: Callable[[ShipRow], Transport],
        provider_there: Callable[[], bool] = lambda: True,
        fleet: Fleet | None = None,
        prices: Prices | None = None,
        awake: Awake | None = None,
    ) -> None:
        self.directory = directory
        self.ledger = ledger
        self.voyage = ledger.voyage()
        self.git = Git(directory / "repo.git")
        self.lander = Lander(self.git, ledger, self.voyage.id)
        self.cargo = CargoStore(self.git, directory / "sending")
        self.prices = prices or our_prices()
        self.claiming = True
        self.over = False
        self._denied: str | None = None
        self._is_paused = False
        self._running: asyncio.Task[Any] | None = None
        #: By task: the ship that has it again, until when, and whether that ship may sleep until then.
        self._kept: dict[str, tuple[str, float, bool]] = {}
        self._transports = transports
        self._provider_there = provider_there
        self._fleet = fleet
        self._awake = awake
        self._actors: dict[str, ShipActor] = {}
        self._leases = Leases({})
        self._news = asyncio.Event()
        self._began = 0.0
        self._unwritten: dict[str, None] = {}
        self._logs: dict[tuple[str, int], Path] = {}
        self._skips: dict[int, int] = {}
        self._checkout = asyncio.Lock()
        self._verify_job: VerifyJob | None = None
        self._jobs: set[asyncio.Task[Any]] = set()
        self._packing: asyncio.Task[Any] | None = None

    # -- the voyage's life --------------------------------------------------------------------

    async def run(self) -> None:
        """Run until the voyage is complete or failed, or this captain is fenced or stopped.

        Raises:
            Fenced: another captain commands.
        """
        self._running = asyncio.current_task()
        for intent in await asyncio.to_thread(self.lander.reconcile):
            log.info("task %s: the landing of an earlier captain is settled", intent.task)
        if self.voyage.state in {"complete", "paused", "sunk"}:
            return
        self._is_paused = self.voyage.paused_reason is not None  # and the captain before was killed on the way
        self.claiming = not self._is_paused
        await asyncio.to_thread(self.cargo.clear)  # of a captain that was killed
        self.ledger.set_state("running")
        # A lost ship may answer again; one that failed or is gone is not asked.
        for row in self.ledger.ships():
            if row.state == "provisioning":
                continue  # it is being made; another captain will know it
            if row.state not in {"failed", "gone"}:
                self._actors[row.id] = ShipActor(self, row.id, row.sprite, self._transports(row))
            elif claim := self.ledger.held(row.id):
                reason = f"{row.id} does not sail any more"
                self.ledger.give_back(claim.token, "lost", reason, ship_state=row.state)
        self.project(whole=True)
        await self._update_checkout()
        self._began = asyncio.get_running_loop().time()
        self._later(START_SECONDS)
        async with listening(self.directory, self._carry_out), asyncio.TaskGroup() as group:
            sailing = [group.create_task(actor.run(), name=actor.ship) for actor in self._actors.values()]
            ticking = group.create_task(self._tick(), name="tick")
            counting = group.create_task(self._awake.follow(), name="awake") if self._awake else None
            await self._finish()
            await asyncio.gather(*(actor.let_go() for actor in self._actors.values()))
            for task in sailing:
                task.cancel()
            await self._all_sleep()
            ticking.cancel()
            if counting:
                counting.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        for actor in self._actors.values():
            await actor.disconnect()
        await asyncio.to_thread(self.cargo.clear)

    async def _finish(self) -> None:
        """Wait until nothing more can be done, then verify; sets the voyage's last state."""
        while (found := finish(self._standing())).next == "wait":
            self._news.clear()
            await self._news.wait()
        if found.next == "verify":
            await self._verify()
        self.over = True
        if found.next != "verify":
            self.ledger.set_state(found.next, found.why)

    def _standing(self) -> Standing:
        counts = self.ledger.counts()
        if counts["in_progress"]:  # nothing else counts then, and this is asked with each piece of news
            return Standing(self.voyage.id, working=counts["in_progress"])
        sailing = [name for name, actor in self._actors.items() if not actor.gone]
        return Standing(
            voyage=self.voyage.id,
            pending=counts["pending"],
            failed=tuple(self.ledger.failed()) if counts["failed"] else (),
            claimable=self.ledger.claimable(sailing),
            sails=bool(sailing),
            hopes=self._fleet is not None and self._fleet.hopes(),
            paused=self._is_paused,
            denied=self._denied,
        )

    def _carry_out(self, command: Command) -> Answer:
        """Do what a user asks of this voyage."""
        answer = carry_out(command, self.ledger)
        if command.name == "stop" and self._running:
            asyncio.get_running_loop().call_later(STOP_SECONDS, self._running.cancel)
        if not answer.done or self.over:
            return answer
        match command.name:
            case "pause":
                self._is_paused, self.claiming = True, False
            case "retry":
                self.project()
                self.dispatch()
        self._news.set()
        return answer

    async def _verify(self) -> None:
        """Have some ship run the final verify, and set what it says."""
        self.ledger.set_state("verifying")
        loop = asyncio.get_running_loop()
        job = self._verify_job = VerifyJob(await self.lander.head(), loop.create_future())
        try:
            while not job.result.done():
                self.dispatch()
                await asyncio.wait([job.result], timeout=TICK)
                if job.tries >= VERIFY_TRIES or all(actor.gone for actor in self._actors.values()):
                    why = job.problem or "no ship is left"
                    remedy = f"try again with `ocaptain sail --resume {self.voyage.id}`"
                    self.ledger.set_state("failed", f"the final verify could not be run ({clean(why)[:300]}); {remedy}")
                    return
        finally:
            self._verify_job = None
        self._verified(job.commit, job.result.result())

    async def _all_sleep(self) -> None:
        """See the ships fall asleep, so that all of their time is counted; the voyage has ended already."""
        for actor in self._actors.values():
            await actor.disconnect()
        if self._awake:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._awake.all_paused(), FALL_ASLEEP_SECONDS)

    def take_verify(self) -> VerifyJob | None:
        """Return the final verify if there is one to run and nobody runs it; the caller does."""
        job = self._verify_job
        if job is None or job.taken or job.result.done():
            return None
        job.taken = True
        return job

    def _verified(self, commit: str, answer: VerifyResult) -> None:
        tail = clean(answer.tail)[-8000:]
        with contextlib.suppress(OSError):
            (self.directory / "logs").mkdir(exist_ok=True)
            (self.directory / "logs" / "verify.log").write_text(tail, "utf-8")
        ok = answer.code == 0
        self.ledger.verified(ok=ok, code=answer.code, clean=answer.clean, commit=commit, tail=tail)
        if ok:
            self.ledger.set_state("complete")
        else:
            stage = "setup" if answer.stage == "setup" else "verify.sh"
            why = "took too long" if answer.timed_out else f"ended with exit code {answer.code}"
            self.ledger.set_state("failed", f"{stage} {why} on the merged head (logs/verify.log)")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._count_awake()
            if not self.over:
                await self._look_after_ships()

    def _count_awake(self) -> None:
        if self._awake:
            self._awake.count()
        elif connected := [name for name, actor in self._actors.items() if actor.channel is not None]:
            self.ledger.add_awake(dict.fromkeys(connected, (None, TICK)))

    async def _look_after_ships(self) -> None:
        if not self._provider_there():
            self._fleet = None
            for actor in self._actors.values():
                if not actor.gone:
                    actor.gone = True
                    self.ship_lost(actor, "the drydock that it was on has ended")
        silent = {name for name, actor in self._actors.items() if actor.channel is None and self.ledger.held(name)}
        self._leases, lapsed = self._leases.tick(time.monotonic(), silent)
        for name in lapsed:
            if claim := self.ledger.held(name):
                self.given_back(claim, "lost", f"{name} was silent for too long", ship_state="lost")
        if self._fleet:
            await self._fleet.look_after()
        self._news.set()
        self.dispatch()  # one that was called and did not come is not counted on any more

    # -- what actors tell -----------------------------------------------------------------------

    def dispatch(self) -> None:
        """Call as many idle ships as there is work for."""
        idle = [actor for actor in self._actors.values() if actor.idle and not actor.gone]
        if not idle or self.over:
            return
        work = []
        if (job := self._verify_job) is not None and not job.taken and not job.result.done():
            work.append(Work("verify"))
        willing = [actor.ship for actor in idle if not actor.rests] if self.claiming else []
        if willing:
            kept = {task: self._kept[task][0] for task in self._kept_for(lambda _: True)}
            found = self.ledger.ready(willing, list(kept))
            kept_now = [
                (task, ship) for task, ship in kept.items() if ship in willing and self.ledger.is_ready(task, ship)
            ]
            wishes = self.ledger.wish_of([task for task, _ in found])
            free = self._free()
            # As a claim does: what was wished for a ship that is free is left to that one, even if it cannot be called.
            work += [Work(task, pin or (wish if (wish := wishes.get(task)) in free else None)) for task, pin in found]
            work += [Work(task, ship) for task, ship in kept_now]
        ships = [Idle(actor.ship, actor.channel is not None, actor.called) for actor in idle]
        for ship in whom_to_call(work, ships):
            self._actors[ship].call()

    def claim_for(self, actor: ShipActor) -> Claim | None:
        """Claim a task for a ship, first what it had before; None if there is nothing for it now."""
        if not self.claiming or actor.rests:
            return None
        others = self._kept_for(lambda ship: ship != actor.ship)
        mine = self._kept_for(lambda ship: ship == actor.ship)
        claim = self.ledger.claim(actor.ship, first=mine, others=others, free=self._free() - {actor.ship})
        if claim:
            self._kept.pop(claim.task, None)
        return claim

    def _free(self) -> set[str]:
        return {ship for ship, actor in self._actors.items() if self._is_free(actor)}

    def _is_free(self, actor: ShipActor) -> bool:
        """Whether a ship can take what was wished for it: it is idle, or is only just being reached."""
        if actor.gone or actor.rests:
            return False
        young = asyncio.get_running_loop().time() - self._began < START_SECONDS
        return actor.idle or (young and not actor.connected_once and self.ledger.held(actor.ship) is None)

    def _kept_for(self, which: Callable[[str], bool]) -> list[str]:
        """Return the tasks that are kept for ships of a kind, as long as those can take them."""
        now = asyncio.get_running_loop().time()
        for task, (ship, until, sleeps) in list(self._kept.items()):
            actor = self._actors.get(ship)
            if now >= until or actor is None or actor.gone or (actor.channel is None and not sleeps):
                del self._kept[task]
        return [task for task, (ship, *_) in self._kept.items() if which(ship)]

    def _keep(self, claim: Claim, actor: ShipActor | None, pause: float = 0.0) -> None:
        """Keep a task that comes back for the ship that has its agent's session, for a moment.

        A ship that is to pause first may let go of its channel meanwhile, and is waited for.
        """
        if actor is None or not ADAPTERS[claim.agent].is_model:
            return
        seconds = pause + KEEP_SECONDS + (WAKE_SECONDS if pause > SLEEP_AFTER else 0.0)
        self._kept[claim.task] = (actor.ship, asyncio.get_running_loop().time() + seconds, pause > 0)
        self._later(seconds)

    def _later(self, seconds: float) -> None:
        """Look again for work when a time has passed."""
        asyncio.get_running_loop().call_later(seconds + 0.05, self._look_again)

    def _look_again(self) -> None:
        self._news.set()
        self.dispatch()

    def changed(self) -> None:
        """Bring the views up to date, and have it looked whether that was all.

        Nobody is called: the ship that brought the change may take what it made ready.
        """
        self.project()
        self._news.set()

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        return task

    async def has_landed(self, claim: Claim, commit: str) -> None:
        """Take note of a landing."""
        log.info("task %s landed as %s (%s, attempt %d)", claim.task, commit, claim.ship, claim.number)
        self.changed()
        self._spawn(self._update_checkout())
        if self._packing is None or self._packing.done():
            self._packing = self._spawn(self._pack())

    async def _pack(self) -> None:
        try:
            await asyncio.to_thread(pack, self.git)
        except GitError as error:  # a full disk, say: what is not packed is there all the same
            log.warning("the repository could not be packed: %s", error.message)

    def note_spent(self, ship: str, token: Any, facts: Facts | None) -> None:
        """Take what an agent used so far; only the ship that has or had the attempt may tell."""
        if facts is None or not is_token(token):
            return
        attempt = self.ledger.attempt(token)
        if attempt is not None and attempt["ship"] == ship:
            self.ledger.spent(token, spent_of(facts, self.prices), facts.resumed or facts.session)

    def ended(self, actor: ShipActor, claim: Claim, ending: Ending, evidence: dict[str, Any]) -> None:
        """Deal with an attempt that brought nothing to land."""
        match ending.kind:
            case "denied":
                self._deny(ending.reason)
                self.given_back(claim, "denied", ending.reason)
            case "busy":
                waits = self.ledger.waits(claim.task)
                pause = pause_of(waits, ending.wait)
                if pause is None:
                    self.failed(claim, f"{ending.reason} (it waited {waits} times before)", evidence)
                    return
                actor.rests_until = asyncio.get_running_loop().time() + pause
                self._later(pause)
                self._keep(claim, actor, pause)
                reason = f"{ending.reason}; it waits {pause:.0f} s"
                self.given_back(claim, "waited", reason)
                self.ledger.set_ship(actor.ship, "idle", clean(reason)[:300])
            case "hopeless":
                self.failed(claim, ending.reason, evidence, final=True)
            case _:
                self.failed(claim, ending.reason, evidence, again=actor)

    def _deny(self, reason: str) -> None:
        """No ship can work with this credential: hand out nothing more, and say so once."""
        if self._denied is None:
            self.claiming = False
            what = clean(reason).split("\n", 1)[0][:300]
            self._denied = f"the agents' credential was refused: {what}; {CREDENTIAL} {self.voyage.id}"
            self.ledger.event("denied", self._denied)
            log.error("%s", self._denied)

    def failed(
        self,
        claim: Claim,
        reason: str,
        evidence: dict[str, Any] | None = None,
        *,
        again: ShipActor | None = None,
        final: bool = False,
    ) -> None:
        """Count a failed attempt.

        Args:
            claim: the attempt.
            reason: why it failed.
            evidence: of it.
            again: the ship that is to have the task again, if it can.
            final: whether there is no use in another attempt.
        """
        self._keep(claim, again)
        status = self.ledger.fail(claim.token, reason, evidence, final=final)
        log.warning("task %s attempt %d failed (%s): %s", claim.task, claim.number, status, reason)
        self.changed()

    def given_back(
        self, claim: Claim, state: str, reason: str, *, ship_state: str = "idle", again: ShipActor | None = None
    ) -> None:
        """Return a task to the pool; one that is lost again and again is a failure after all."""
        if state == "lost" and self.ledger.losses(claim.task) >= MOST_LOSSES:
            self.failed(claim, f"{reason}; it was lost {MOST_LOSSES} times before")
            return
        self._keep(claim, again)
        self.ledger.give_back(claim.token, state, reason, ship_state=ship_state)
        log.warning("task %s attempt %d: %s: %s", claim.task, claim.number, state, reason)
        self.changed()

    def note_silence(self, actor: ShipActor, reason: str) -> None:
        """Show why a ship does not answer."""
        row = self.ledger.ship(actor.ship)
        self.ledger.set_ship(actor.ship, row.state, clean(reason)[:300])

    def ship_lost(self, actor: ShipActor, reason: str) -> None:
        """A ship is gone for good: its task goes to another at once."""
        self._off(actor, "lost", clean(reason)[:300])

    def ship_faulty(self, actor: ShipActor, reason: str, *, benched: bool) -> None:
        """A ship cannot do its work: its task goes back, without blame for the task."""
        self._off(actor, "failed" if benched else "idle", clean(reason)[:300])

    def _off(self, actor: ShipActor, state: str, reason: str) -> None:
        if claim := self.ledger.held(actor.ship):
            # One transaction: a captain that dies here leaves no task with a ship that is off.
            self.given_back(claim, "lost", f"{actor.ship}: {reason}", ship_state=state)
        self.ledger.set_ship(actor.ship, state, reason)
        self.changed()
        self.dispatch()

    def landed(self) -> tuple[tuple[str, str], ...]:
        """Return (task, subject) of what landed last, for prompts."""
        return tuple(self.ledger.landed(MAX_LANDED_TOLD))

    # -- views ------------------------------------------------------------------------------------

    def project(self, *, whole: bool = False) -> None:
        """Write ``tasks/N.json`` of what changed: a view by one writer, never read back.

        Args:
            whole: of every task, as at the start, when the files may be of any age.
        """
        changed = self.ledger.take_changed()
        tasks = [row["id"] for row in self.ledger.rows("tasks", "position")] if whole else [*self._unwritten, *changed]
        if not tasks:
            return
        self._unwritten.clear()
        folder = self.directory / "tasks"
        for task, shown in task_files(self.ledger, tasks).items():
            scratch = folder / f".{task}.json.tmp"
            try:
                folder.mkdir(exist_ok=True)
                scratch.write_text(json.dumps(shown, indent=2, ensure_ascii=False) + "\n", "utf-8")
                scratch.replace(folder / f"{task}.json")
            except OSError:  # a full disk must not stop the voyage: once more with the next change
                self._unwritten[task] = None

    async def _update_checkout(self) -> None:
        """Fast-forward ``workspace/`` if it is clean; else leave it and say so."""
        async with self._checkout:
            workspace, source = self.directory / "workspace", self.directory / "repo.git"
            note = await asyncio.to_thread(forward, workspace, source, self.voyage.id)
        with contextlib.suppress(Fenced):
            # Why a voyage failed is not to be overwritten by how its checkout is.
            if not self.over and note != self.ledger.voyage().note:
                self.ledger.set_note(note)

    def _skipped(self, token: int) -> int:
        """Return how many bytes of an attempt's log are not in its file, less the notes that say so."""
        if token not in self._skips:
            attempt = self.ledger.attempt(token)
            self._skips[token] = attempt["log_skipped"] if attempt else 0
        return self._skips[token]

    def write_log(self, ship: str, body: Message) -> None:
        """Add to an attempt's log; only the ship that has or had the attempt may."""
        token = body.get("token")
        if not is_token(token):
            return
        path = self._logs.get((ship, token))
        if path is None:
            attempt = self.ledger.attempt(token)
            if attempt is None or attempt["ship"] != ship:
                return  # and it is not remembered: the token may be handed to this ship yet
            path = self.directory / "logs" / ship / f"{attempt['task']}.{attempt['number']}.log"
            self._logs[ship, token] = path
        skipped = self._skipped(token)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                piece = log_piece(body, os.fstat(file.fileno()).st_size, skipped)
                file.write(piece.data)
            if piece.skips:  # only of what is written: what is not is missed, and said, with the next piece
                self._skips[token] = skipped + piece.skips
                self.ledger.log_skipped(token, skipped + piece.skips)


def pause_of(waits: int, asked: float) -> float | None:
    """Return for how many seconds a ship waits for a busy service, None if it did so for long enough.

    Args:
        waits: attempts in a row that found it busy before.
        asked: seconds that the service wants.
    """
    return None if waits >= MOST_WAITS else min(MOST_PAUSE, max(asked, FIRST_PAUSE * 2**waits))


def is_token(value: Any) -> TypeGuard[int]:
    """Whether what a ship tells may be an attempt's token; a ledger takes no number without bounds."""
    return type(value) is int and 0 < value < 2**53


def sprite_transports(client: SpritesClient) -> Callable[[ShipRow], Transport]:
    """Return what makes the transport to a ship that is a sprite."""
    return lambda row: SpriteTransport(client, row.sprite)
