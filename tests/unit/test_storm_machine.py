"""Ledger, leases, journals, cursors and landing together, in any weather.

The parts are the real ones (SQLite, the worker's journal on disk, git); only ships and network
are played: messages are lost, repeated, reordered and damaged, clocks jump, captains crash between
any two steps of a landing, ships vanish. After every storm there is calm, and then nothing may wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ocaptain.captain.cursors import Cursors
from ocaptain.captain.decide.leases import LEASE_SECONDS, MAX_TICK, Leases
from ocaptain.captain.landing import (
    CheckFailed,
    Conflicted,
    Landed,
    Lander,
)
from ocaptain.captain.refs import stale_ref, work_ref
from ocaptain.git import BareRepository, Git
from ocaptain.ledger import Ledger, TakenOver, task_views
from ocaptain.protocol import CLASSES, PROTOCOL, Fence, HelloRefused, class_of_record, make_record, read_record
from ocaptain.protocol.messages import Bundle, CheckResult, Snapshot
from ocaptain.worker.journal import Journal
from tests.unit.test_ledger import SHIPS, make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"
#: Tasks 1 and 2 edit the same line; 3 waits for both; the check of 4 fails once.
GRAPH = {
    "1": frozenset(),
    "2": frozenset(),
    "3": frozenset({"1", "2"}),
    "4": frozenset(),
    "5": frozenset({"4"}),
}
HELLO = {"protocol": PROTOCOL, "voyage": BRANCH, "ship": "s"}


class Crash(BaseException):
    """The captain dies here."""


@dataclass
class Ship:
    """A worker as far as the channel sees it: fence, journal, at most one job."""

    home: Path
    fence: Fence = field(default_factory=Fence)
    job: tuple[int, str, str] | None = None
    done: set[int] = field(default_factory=set)
    there: bool = True

    def __post_init__(self):
        self.journal = Journal(self.home)

    def restart(self):
        """The worker dies and starts again: what counts is on its disk."""
        self.journal.close()
        self.journal = Journal(self.home)


class Storm(RuleBasedStateMachine):
    """See the module."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        root = Path(self.directory.name)
        subprocess.run(["git", "init", "-q", "--bare", root / "repo.git"], check=True)
        self.git = BareRepository(root / "repo.git")
        self.base = commit(self.git, {"line": "0\n"})
        self.git.update_ref(f"refs/heads/{BRANCH}", self.base)
        self.path = root / "ledger.db"
        self.ledger = make(self.path, GRAPH)
        self.ships = {ship: Ship(root / f"{ship}-journal") for ship in SHIPS}
        self.clock = 0.0
        self.tokens: list[int] = []
        self.offers: dict[str, int] = {}  # commit -> token, of everything that ever reached a captain
        self.checked: set[str] = set()
        self.former: list[Ledger] = []

    @initialize()
    def begin(self):
        self.command()

    def teardown(self):
        try:
            self.calm()
        finally:
            for one in (self.ledger, *self.former, *(ship.journal for ship in self.ships.values())):
                one.close()
            self.directory.cleanup()

    # -- the captain ------------------------------------------------------------------------------

    def command(self):
        """A captain starts: as captain.py and ship.py do, in the same order."""
        if self.ledger.epoch:
            self.former.append(self.ledger)
            self.ledger = Ledger(self.path)
        self.ledger.take_command()
        self.lander = Lander(self.git, self.ledger, BRANCH)
        self.lander.reconcile()
        self.cursors: dict[str, Cursors] = {}
        self.leases = Leases({})

    def head(self):
        return self.git.resolve(f"refs/heads/{BRANCH}")

    def files(self, revision):
        names = self.git.text("ls-tree", "--name-only", revision).splitlines()
        return {name: self.git.text("show", f"{revision}:{name}") + "\n" for name in names}

    def is_up(self, ship):
        return ship in self.cursors

    def lost(self, ship, reason):
        claim = self.ledger.held_claim(ship)
        if claim:
            self.ledger.return_task(claim.token, "lost", reason)

    @rule(ship=st.sampled_from(SHIPS))
    def connect(self, ship):
        there = self.ships[ship]
        if not there.there:
            self.cursors.pop(ship, None)
            self.lost(ship, "gone")
            return
        row = self.ledger.ship_row(ship)
        cursors = self.cursors[ship] = Cursors(row.journal, row.cursors)
        hello = {**HELLO, "epoch": self.ledger.epoch, "generation": self.ledger.next_generation()}
        there.fence.admit(hello)
        cursors.start_channel(there.journal.name, {name: there.journal.first(name) for name in CLASSES})
        self.deliver(ship, [])
        held = self.ledger.held_claim(ship)
        if there.job and (held is None or held.token != there.job[0]):
            self.finish(ship, ok=True)  # cancelled: what it was at is journalled as well
            self.deliver(ship, [])
        elif held and there.job is None and held.token not in there.done:
            self.start(ship, held)

    def start(self, ship, claim):
        base = claim.base or self.head()
        self.ledger.record_start(claim.token, base)
        self.ships[ship].job = (claim.token, claim.task, base)

    @rule(ship=st.sampled_from(SHIPS), arrives=st.booleans())
    def claim(self, ship, arrives):
        if not self.is_up(ship) or self.ledger.held_claim(ship):
            return
        claim = self.ledger.claim(ship)
        if claim is None:
            return
        assert not self.tokens or claim.token > self.tokens[-1]
        self.tokens.append(claim.token)
        if arrives and self.ships[ship].there:
            self.start(ship, claim)
        else:
            self.cursors.pop(ship)

    @rule(ship=st.sampled_from(SHIPS), ok=st.booleans())
    def finish(self, ship, ok):
        """The agent ends; its result is on the ship's disk, whether or not anybody listens."""
        there = self.ships[ship]
        if not there.there or there.job is None:
            return
        token, task, base = there.job
        name = "line" if task in {"1", "2"} else f"f{task}"
        work = commit(self.git, {**self.files(base), name: f"{task}\n"}, base) if ok else None
        there.journal.append({"kind": "log", "token": token, "offset": 0, "data": ""}, durable=False)
        body = {"kind": "result", "id": f"start:{token}", "ok": True, "data": {"work": work, "base": base}}
        there.journal.append(body, durable=True)
        there.job = None
        there.done.add(token)

    @rule(
        ship=st.sampled_from(SHIPS),
        weather=st.lists(st.sampled_from(["skip", "twice", "damage", "swap", "crash"]), max_size=3),
    )
    def deliver(self, ship, weather):
        """Records come as the network will have it; a gap is asked for again."""
        if not self.is_up(ship) or not self.ships[ship].there:
            return
        journal, cursors = self.ships[ship].journal, self.cursors[ship]
        reader, sent = journal.reader(), []
        for name in CLASSES:
            reader.seek(name, cursors.of(name).seen)
            sent += [make_record(number, body) for number, body in reader.read(name, 64)]
        for kind in weather:
            if kind == "skip":
                sent = sent[1:]
            elif kind == "twice":
                sent = [one for one in sent for _ in range(2)]
            elif kind == "swap":
                sent = sent[::-1]
            elif kind == "damage":
                sent = [{**one, "crc": 1} for one in sent]
        for message in sent:
            found = read_record(message)
            if found is None:
                break
            number, body = found
            result, cursor = body["kind"] == "result", cursors.of(class_of_record(body))
            if cursor.accept(number, hold=result) != "use":
                continue
            if result:
                try:
                    self.judge(ship, int(body["id"].split(":")[1]), body["data"], crash="crash" in weather)
                except Crash:
                    self.command()
                    return
                cursor.settle(number)
            self.ledger.set_ship_cursors(ship, cursors.journal, cursors.settled_numbers())
            journal.acknowledge(cursors.settled_numbers())

    def judge(self, ship, token, data, *, crash):
        claim = self.ledger.held_claim(ship)
        mine = claim is not None and claim.token == token
        attempt = self.ledger.attempt_row(token)
        assert attempt["ship"] == ship
        work = data["work"]
        if work:
            ref = work_ref(attempt["task"], attempt["number"]) if mine else stale_ref(token)
            self.offers[work] = token
            asyncio.run(self.lander.save_ref(ref, work))
        if not mine:
            if work:
                self.ledger.note_late_result(token, "kept")
            return
        if not work:
            self.ledger.fail(token, "it failed")
            return
        assert self.ledger.record_offer(token, work=work, code=0, seconds=1.0)
        offer = Snapshot(commit=work, base=data["base"], empty=False, bundle=Bundle(parts=()))
        with self.dying() if crash else contextlib.nullcontext():
            verdict = asyncio.run(self.lander.land(claim, claim.base, offer, self.check_of(claim), {}))
        match verdict:
            case Conflicted(reason=reason):
                assert claim.task in {"1", "2"}
                self.ledger.return_task(token, "conflict", reason)
            case CheckFailed(reason=reason):
                self.ledger.fail(token, reason)
            case Landed(commit=new):
                assert self.git.is_ancestor(new, self.head())

    def check_of(self, claim):
        if claim.task != "4":
            return None

        async def check(candidate):
            first = claim.task not in self.checked
            self.checked.add(claim.task)
            return CheckResult(code=int(first), seconds=0.1)

        return check

    @contextlib.contextmanager
    def dying(self):
        """Die at one of the three steps of a landing, in turn."""
        steps = [(self.ledger, "begin_landing"), (Git, "update_ref"), (self.ledger, "finish_landing")]
        where, name = steps[len(self.tokens) % 3]
        real = getattr(where, name)
        before = len(self.tokens) % 2

        def die(*arguments, **more):
            if where is Git and not str(arguments[1]).startswith("refs/heads/"):
                return real(*arguments, **more)
            if not before:
                real(*arguments, **more)
            raise Crash

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(where, name, die)
            yield

    # -- weather ------------------------------------------------------------------------------------

    @rule(ship=st.sampled_from(SHIPS))
    def cut(self, ship):
        self.cursors.pop(ship, None)

    @rule()
    def crash(self):
        self.command()

    @rule(ship=st.sampled_from(SHIPS))
    def worker_dies(self, ship):
        if self.ships[ship].there:
            self.ships[ship].restart()
            self.cursors.pop(ship, None)

    @rule(ship=st.sampled_from(SHIPS[1:]))
    def vanish(self, ship):
        """A ship is destroyed; the first one stays, so that somebody is free in the end."""
        self.ships[ship].there = False
        self.cursors.pop(ship, None)

    @rule(seconds=st.sampled_from([-1e6, 0.0, 1.0, 1e9]), ticks=st.sampled_from([1, 5, 40]))
    def time_passes(self, seconds, ticks):
        """However the clock jumps, a tick is worth two seconds at most."""
        before = dict(self.leases.silent)
        for _ in range(ticks):
            self.clock += seconds
            silent = {ship for ship in SHIPS if not self.is_up(ship) and self.ledger.held_claim(ship)}
            self.leases, lapsed = self.leases.tick(self.clock, silent)
            for ship in lapsed:
                assert before.get(ship, 0.0) + MAX_TICK * ticks >= LEASE_SECONDS
                self.lost(ship, "silent")

    @rule(ship=st.sampled_from(SHIPS))
    def a_former_captain_wakes(self, ship):
        """It writes nothing, and no worker obeys it."""
        if not self.former:
            return
        old = self.former[-1]
        for attempt in (lambda: old.claim(ship), lambda: old.set_state("failed"), old.next_generation):
            with pytest.raises(TakenOver):
                attempt()
        if self.ships[ship].fence.epoch > old.epoch:
            with pytest.raises(HelloRefused):
                self.ships[ship].fence.admit({**HELLO, "epoch": old.epoch, "generation": 1})

    # -- promises -----------------------------------------------------------------------------------

    @invariant()
    def a_task_lands_at_most_once(self):
        log = self.git.text("log", "--format=%(trailers:key=Task,valueonly,separator=%x2C)", BRANCH)
        landed = [line for line in log.splitlines() if line]
        assert len(landed) == len(set(landed)), landed
        completed = {view.id for view in task_views(self.ledger) if view.status == "completed"}
        assert completed <= set(landed)

    @invariant()
    def what_was_offered_is_reachable(self):
        refs = set(self.git.refs("refs/ocaptain").values())
        assert set(self.offers) <= refs

    def calm(self):
        """Whoever is left works on: everything ends, nothing waits for ever."""
        for _ in range(60):
            for ship in SHIPS:
                self.connect(ship)
            if not self.ledger.count_tasks()["in_progress"] and not self.ledger.has_claimable_task(["ship-0"]):
                break
            for ship in SHIPS:
                if self.is_up(ship):
                    self.claim(ship, arrives=True)
                    self.finish(ship, ok=True)
                    self.deliver(ship, [])
        counts = self.ledger.count_tasks()
        assert counts["in_progress"] == 0
        for view in task_views(self.ledger):
            assert view.status in {"completed", "failed"} or view.held_by, view
        self.a_task_lands_at_most_once()
        self.what_was_offered_is_reachable()


TestStorm = Storm.TestCase
TestStorm.settings = settings(
    max_examples=16, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
