"""The ledger: claims, tokens, failures, landings, epochs."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ocaptain.config import load_settings
from ocaptain.errors import UsageError
from ocaptain.ledger import (
    Ledger,
    LedgerError,
    LedgerUnwritable,
    Spent,
    TakenOver,
    long_paths,
    overview,
    task_files,
    task_views,
)
from ocaptain.names import VOYAGE_ID
from ocaptain.plan.graph import critical_paths
from ocaptain.voyage import doctor
from ocaptain.voyage.make import make_home
from tests.helpers import new_voyage

SHIPS = ("ship-0", "ship-1", "ship-2")


def make(path, graph, *, pins=None, done=(), hold=()):
    chains = critical_paths({task: before - set(done) for task, before in graph.items() if task not in done})
    tasks = [
        {
            "id": task,
            "position": number,
            "subject": f"Task {task}",
            "raw": f'{{"id": "{task}", "subject": "Task {task}"}}',
            "agent": "command",
            "pin": (pins or {}).get(task),
            "approved": int(task not in hold),
            "priority": chains.get(task, 0),
            "status": "completed" if task in done else "pending",
        }
        for number, task in enumerate(graph)
    ]
    own = {"id": path.parent.name} if VOYAGE_ID.fullmatch(path.parent.name) else {}
    new = new_voyage(tasks=tasks, edges=graph, ships=[(ship, f"v-{ship}") for ship in SHIPS], **own)
    Ledger.create(path, new)
    ledger = Ledger(path)
    ledger.take_command()
    return ledger


@pytest.fixture
def ledger(tmp_path):
    graph = {"1": frozenset(), "2": frozenset(), "3": frozenset({"1"}), "4": frozenset({"3"})}
    with make(tmp_path / "ledger.db", graph) as found:
        yield found


def land(ledger, claim, commit="c" * 40):
    assert ledger.begin_landing(claim.token, "refs/heads/v", "0" * 40, commit, {})
    ledger.finish_landing(claim.token)


def test_the_longest_chain_goes_first_then_the_lowest_id(ledger):
    first, second = ledger.claim("ship-0"), ledger.claim("ship-1")
    assert (first.task, second.task) == ("1", "2")
    assert ledger.claim("ship-2") is None
    land(ledger, first)
    assert ledger.claim("ship-2").task == "3"


def test_waits_in_a_row_are_counted_while_the_next_attempt_holds_the_task(ledger):
    for number in range(3):
        held = ledger.claim("ship-0")
        assert (held.task, ledger.count_waits("1")) == ("1", number)
        ledger.return_task(held.token, "waited", f"busy {number}")
    held = ledger.claim("ship-0")
    assert (ledger.count_waits("1"), held.reason) == (3, "busy 0")
    ledger.fail(held.token, "no")
    assert ledger.count_waits("1") == 0
    assert ledger.claim("ship-0").reason == "no"


def test_tokens_only_grow_and_a_lost_one_can_do_nothing(ledger):
    old = ledger.claim("ship-0")
    assert ledger.return_task(old.token, "lost", "silent")
    new = ledger.claim("ship-1")
    assert new.task == old.task
    assert new.token > old.token
    assert new.number == 2
    assert not ledger.record_offer(old.token, work="a" * 40, code=0, seconds=1.0)
    assert not ledger.begin_landing(old.token, "r", "0" * 40, "1" * 40, {})
    assert ledger.fail(old.token, "late") is None
    land(ledger, new)
    assert ledger.count_tasks()["completed"] == 1


def test_a_task_lands_at_most_once(ledger):
    claim = ledger.claim("ship-0")
    land(ledger, claim)
    assert not ledger.begin_landing(claim.token, "r", "0" * 40, "1" * 40, {})
    with pytest.raises(LedgerError):
        ledger.finish_landing(claim.token)


def test_the_third_failure_fails_the_task_and_holds_what_waits(ledger):
    for number in (1, 2, 3):
        claim = ledger.claim("ship-0")
        assert (claim.task, claim.number) == ("1", number)
        assert ledger.fail(claim.token, f"reason {number}") == ("failed" if number == 3 else "pending")
    views = {view.id: view for view in task_views(ledger)}
    assert views["1"].status == "failed"
    assert views["3"].held_by == views["4"].held_by == "1"
    assert ledger.claim("ship-0").task == "2"
    assert ledger.claim("ship-1") is None


def test_a_write_tells_which_tasks_it_changed(ledger):
    assert ledger.pop_changed_tasks() == []
    first = ledger.claim("ship-0")
    assert ledger.pop_changed_tasks() == ["1"]
    ledger.return_task(first.token, "lost", "silent")
    assert ledger.pop_changed_tasks() == ["1"]
    ledger.record_spent(first.token, Spent(None, 1, 1, 0, 1, None, ()), None)
    assert ledger.pop_changed_tasks() == []
    ledger.fail(ledger.claim("ship-0").token, "no", final=True)
    assert sorted(ledger.pop_changed_tasks()) == ["1", "3", "4"]  # what waits for it is held now
    land(ledger, ledger.claim("ship-1"))
    assert ledger.pop_changed_tasks() == ["2"]
    assert ledger.recent_landings(10) == [("2", "Task 2")]
    assert ledger.recent_landings(0) == []
    shown = task_files(ledger, ["3", "2"])
    assert list(shown) == ["2", "3"]
    assert (shown["2"]["status"], shown["2"]["owner"]) == ("completed", "ship-1")
    assert (shown["3"]["blockedBy"], shown["3"]["blocks"], "owner" in shown["3"]) == (["1"], ["4"], False)


def test_what_an_attempt_costs_the_ledger_does_not_grow_with_the_plan(tmp_path):
    """Each question that is asked once an attempt or more often finds its rows by an index."""
    graph = {str(n): frozenset() for n in range(50)}
    with make(tmp_path / "ledger.db", graph) as ledger:
        asked = []
        ledger._db.set_trace_callback(asked.append)
        claim = ledger.claim("ship-0")
        ledger.record_start(claim.token, "b" * 40)
        ledger.held_claim("ship-0")
        ledger.ship_row("ship-0")
        ledger.attempt_row(claim.token)
        ledger.count_losses("1")
        ledger.count_waits("1")
        ledger.count_tasks()
        ledger.has_claimable_task(["ship-0"])
        ledger.has_worked("ship-0")
        ledger.open_intents()
        land(ledger, claim)
        ledger.recent_landings(10)
        task_files(ledger, ledger.pop_changed_tasks())
        ledger._db.set_trace_callback(None)
        scans = set()
        for line in asked:
            if line.startswith(("SELECT", "UPDATE tasks", "WITH")):
                plan = ledger._db.execute(f"EXPLAIN QUERY PLAN {line}")
                scans |= {
                    (row["detail"], line) for row in plan if row["detail"].startswith(("SCAN tasks", "SCAN attempts"))
                }
    whole = {(detail, line) for detail, line in scans if "INDEX" not in detail}
    assert whole == set()


def test_no_ship_of_a_voyage_that_ended_is_being_built(ledger):
    ledger.set_ship("ship-0", "bootstrapping")
    ledger.set_ship("ship-1", "lost")
    ledger.set_state("verifying")
    assert [ship.state for ship in ledger.ships()][:2] == ["bootstrapping", "lost"]
    ledger.set_state("failed", "why")
    assert [ship.state for ship in ledger.ships()][:2] == ["idle", "lost"]


def test_a_conflict_is_no_failure(ledger):
    for _ in range(10):
        claim = ledger.claim("ship-0")
        ledger.return_task(claim.token, "conflict", "both edited x")
        assert claim.task == "1"
    assert ledger.claim("ship-0").reason == "both edited x"


def test_a_pin_is_obeyed(tmp_path):
    graph = {"1": frozenset(), "2": frozenset()}
    with make(tmp_path / "ledger.db", graph, pins={"1": "ship-2"}) as ledger:
        assert ledger.claim("ship-0").task == "2"
        assert ledger.claim("ship-0") is None
        assert not ledger.has_claimable_task(["ship-0", "ship-1"])
        assert ledger.has_claimable_task(["ship-2"])
        assert ledger.claim("ship-2").task == "1"


def test_completed_in_the_plan_is_satisfied(tmp_path):
    graph = {"1": frozenset(), "2": frozenset({"1"})}
    with make(tmp_path / "ledger.db", graph, done=("1",)) as ledger:
        assert ledger.claim("ship-0").task == "2"
        assert overview(ledger).tasks["completed"] == 1


def test_an_older_epoch_writes_nothing(tmp_path):
    path = tmp_path / "ledger.db"
    old = make(path, {"1": frozenset()})
    claim = old.claim("ship-0")
    with Ledger(path) as new:
        new.take_command()
        for attempt in (
            lambda: old.claim("ship-1"),
            lambda: old.begin_landing(claim.token, "r", "0" * 40, "1" * 40, {}),
            lambda: old.set_state("complete"),
            lambda: old.add_event("x", "y"),
            old.next_generation,
        ):
            with pytest.raises(TakenOver):
                attempt()
        assert new.held_claim("ship-0").token == claim.token
    old.close()


def test_a_reader_cannot_write(tmp_path):
    path = tmp_path / "ledger.db"
    make(path, {"1": frozenset()}).close()
    with Ledger(path) as reader, pytest.raises(TakenOver):
        reader.claim("ship-0")


def test_what_is_no_ledger_is_a_clear_error(tmp_path):
    path = tmp_path / "ledger.db"
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger(path)
    path.write_text("not a database, but long enough to look like a file of some kind")
    with pytest.raises(LedgerError, match="cannot be read as a ledger"):
        Ledger(path)
    sqlite3.connect(tmp_path / "empty.db").close()
    with pytest.raises(LedgerError, match=r"cannot be read as a ledger: .*; restore it from a copy$"):
        Ledger(tmp_path / "empty.db")


def is_open(path):
    """Whether this process holds a descriptor of the file."""
    return any(os.readlink(one) == str(path.resolve()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())


def test_a_ledger_that_was_refused_is_closed(tmp_path):
    """A newer Python warns of each connection that nobody closed; a captain that looks often would run out of them."""
    path = tmp_path / "ledger.db"
    make(path, {"1": frozenset()}).close()
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"x" * 4096)
    newer = tmp_path / "newer.db"
    newer.write_bytes(path.read_bytes())
    former = tmp_path / "former.db"
    former.write_bytes(path.read_bytes())
    for place, version in ((newer, 99), (former, 3)):  # a former one lacks what is added to it
        db = sqlite3.connect(place)
        db.execute(f"PRAGMA user_version = {version}")
        db.execute("DROP TABLE attempts")
        db.commit()
        db.close()
    for refused in (broken, newer, former):
        with pytest.raises(LedgerError) as error:
            Ledger(refused)
        assert error.value  # whose frames still hold all that they held
        assert not is_open(refused), refused


def test_a_ledger_that_cannot_be_read_now_is_no_damaged_one(tmp_path):
    path = tmp_path / "ledger.db"
    make(path, {"1": frozenset()}).close()
    (tmp_path / "ledger.db-wal").mkdir()
    with pytest.raises(LedgerUnwritable, match=r"ledger\.db cannot be read now: .*; try again$"):
        Ledger(path)


def test_intents_are_found_again(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = make(path, {"1": frozenset()})
    claim = ledger.claim("ship-0")
    ledger.begin_landing(claim.token, "refs/heads/v", "0" * 40, "1" * 40, {"check": None})
    ledger.close()
    with Ledger(path) as again:
        again.take_command()
        assert [(one.task, one.old, one.new) for one in again.open_intents()] == [("1", "0" * 40, "1" * 40)]
        again.void_landing(claim.token)
        assert again.open_intents() == []
        assert again.begin_landing(claim.token, "refs/heads/v", "2" * 40, "3" * 40, {})
        again.finish_landing(claim.token)
        assert task_views(again)[0].commit == "3" * 40


def test_claims_from_many_threads_are_never_double(tmp_path):
    path = tmp_path / "ledger.db"
    make(path, {str(number): frozenset() for number in range(200)}).close()
    with Ledger(path) as first:
        epoch = first.take_command()
    claims: list = []

    def work(ship):
        with Ledger(path, epoch=epoch) as mine:
            while claim := mine.claim(ship):
                claims.append(claim)

    threads = [threading.Thread(target=work, args=(ship,)) for ship in SHIPS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(claim.task) for claim in claims) == list(range(200))
    assert len({claim.token for claim in claims}) == 200


class LedgerMachine(RuleBasedStateMachine):
    """Any order of claims, landings, failures, losses, retries, approvals and restarts keeps the promises."""

    def __init__(self):
        super().__init__()
        import tempfile
        from pathlib import Path

        self.directory = tempfile.TemporaryDirectory()
        graph = {str(n): frozenset(str(m) for m in range(n) if (n * 7 + m) % 4 == 0) for n in range(8)}
        self.path = Path(self.directory.name) / "ledger.db"
        self.graph = graph
        self.unapproved = {"1", "6"}
        self.ledger = make(self.path, graph, hold=self.unapproved)
        self.tokens: list[int] = []
        self.live: dict[int, str] = {}
        self.landed: list[str] = []

    def teardown(self):
        self.ledger.close()
        self.directory.cleanup()

    @rule(ship=st.sampled_from(SHIPS))
    def claim(self, ship):
        if self.ledger.held_claim(ship):
            return
        claim = self.ledger.claim(ship)
        if claim:
            assert not self.tokens or claim.token > self.tokens[-1]
            assert claim.task not in self.live.values()
            assert claim.task not in self.landed
            assert self.graph[claim.task] <= set(self.landed)
            assert claim.task not in self.unapproved
            self.tokens.append(claim.token)
            self.live[claim.token] = claim.task

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), crash=st.booleans())
    def land(self, data, crash):
        token = data.draw(st.sampled_from(self.tokens))
        began = self.ledger.begin_landing(token, "r", "0" * 40, "1" * 40, {})
        assert began == (token in self.live)
        if crash:
            self.restart()
        if began:
            self.ledger.finish_landing(token)
            self.landed.append(self.live.pop(token))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), how=st.sampled_from(["fail", "lost", "conflict"]))
    def end(self, data, how):
        token = data.draw(st.sampled_from(self.tokens))
        if how == "fail":
            assert (self.ledger.fail(token, "r") is not None) == (token in self.live)
        else:
            assert self.ledger.return_task(token, how, "r") == (token in self.live)
        self.live.pop(token, None)

    @rule(data=st.data())
    def retry(self, data):
        failed = self.ledger.failed_tasks()
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.graph)), unique=True))
        back = self.ledger.retry_failed(chosen)
        assert back == [task for task in failed if task in chosen or not chosen]
        assert all(row["tries"] == 0 for row in self.ledger.task_rows(back))

    @rule(task=st.sampled_from(["1", "6"]))
    def approve(self, task):
        answers = []
        found = self.ledger.approve([task], lambda tasks: {"id": "x", "tasks": answers.append(tasks)})
        assert answers == [found]
        assert found == ([task] if task in self.unapproved else [])
        self.unapproved.discard(task)

    def waits_for_approval(self, task):
        return task in self.unapproved or any(map(self.waits_for_approval, self.graph[task]))

    @rule()
    def restart(self):
        self.ledger.close()
        self.ledger = Ledger(self.path)
        self.ledger.take_command()

    @invariant()
    def promises(self):
        counts = self.ledger.count_tasks()
        assert counts["in_progress"] == len(self.live)
        assert counts["completed"] == len(self.landed) == len(set(self.landed))
        assert sum(counts.values()) == len(self.graph)
        if not counts["in_progress"] and not self.ledger.has_claimable_task(SHIPS):
            # Nothing waits for ever: what is left is done, failed, held by a failure, or waits for approval.
            for view in task_views(self.ledger):
                ended = view.status in {"completed", "failed"} or view.held_by
                assert ended or self.waits_for_approval(view.id)
        for view in task_views(self.ledger):
            assert view.hold == (view.id in self.unapproved)
            assert view.held_by is None or view.held_by in self.ledger.failed_tasks()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def far(root, length):
    """Make a directory with a path of so many bytes."""
    path = f"{root}/{'x' * 250}/{'x' * 250}/{'x' * 250}/{'x' * 250}"[:length].rstrip("/")
    os.makedirs(path, exist_ok=True)
    return Path(path)


@pytest.mark.parametrize("length", [300, 469, 470, 490, 502, 520, 1000])
def test_a_ledger_at_the_end_of_a_long_path(tmp_path, length):
    path = far(tmp_path, length) / "ledger.db"
    before = set(os.listdir("/proc/self/fd"))
    Ledger.create(path, new_voyage(ships=[]))
    with Ledger(path) as writer, Ledger(path) as reader:
        writer.take_command()
        writer.set_state("running")
        assert reader.voyage().state == "running"
        assert {one.name for one in path.parent.iterdir()} == {
            "ledger.db",
            "ledger.db-wal",
            "ledger.db-shm",
            "ledger.lock",
        }
        # Another process sees the same, and writes after us.
        code = f"from ocaptain.ledger import Ledger; import pathlib; Ledger(pathlib.Path({str(path)!r})).take_command()"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=240)
        with pytest.raises(TakenOver):
            writer.set_state("paused")
    assert set(os.listdir("/proc/self/fd")) == before
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path):
    Ledger.create(tmp_path / "ledger.db", new_voyage(ships=[]))
    (tmp_path / "ledger.lock").unlink(missing_ok=True)
    (tmp_path / "ledger.lock").mkdir()
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(LedgerUnwritable, match=r"/ledger\.lock cannot be locked: Is a directory; check its permissions"),
    ):
        ledger.take_command()


def test_a_path_that_sqlite_does_not_take_is_said_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(long_paths, "accepts_symlinked_path", lambda: False)
    home = tmp_path / ("x" * 250) / ("x" * 250)
    with pytest.raises(UsageError, match="is too long for this machine"):
        make_home(home)
    assert list(tmp_path.iterdir()) == []
    make_home(tmp_path / ("x" * 200))


@pytest.mark.parametrize(
    ("letter", "count", "good"), [("x", 1000, True), ("x", 1001, False), ("ü", 1000, True), ("🚢", 900, False)]
)
def test_how_long_a_home_may_be(monkeypatch, letter, count, good):
    monkeypatch.setenv("OCAPTAIN_HOME", "/" + letter * (count - 1))
    settings = load_settings()
    if good:
        assert len(str(settings.voyages)) == count
        return
    with pytest.raises(UsageError, match=f"OCAPTAIN_HOME is a path of {count} characters") as raised:
        _ = settings.voyages
    assert (raised.value.exit_code, raised.value.remedy) == (2, "choose a shorter one")
    told = doctor._check_home(settings)
    assert (told.status, told.remedy) == ("fault", "choose a shorter one")
