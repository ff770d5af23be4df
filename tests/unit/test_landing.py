"""Landing by real git and a real ledger: merges, conflicts, moved heads, crashes between the steps."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from ocaptain.captain.decide.outcome import failure_reason
from ocaptain.captain.landing import (
    CheckFailed,
    Conflicted,
    Landed,
    Lander,
    TokenLost,
    lander,
    parse_outcome,
)
from ocaptain.captain.landing.fetch import _fetch_part, fetch_snapshot
from ocaptain.captain.transport import CutShort, TransportError
from ocaptain.git import BadBundle, BareRepository, BundleRefused, Git, GitError, commit_message
from ocaptain.ledger import LedgerError, overview
from ocaptain.protocol.codec import Malformed, from_dict
from ocaptain.protocol.limits import MEBIBYTE
from ocaptain.protocol.messages import Bundle, CheckResult, Part, Snapshot
from tests.helpers import PATIENCE
from tests.unit.test_ledger import make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"


class Sea:
    """A repository with a head, and a ledger with four free tasks."""

    def __init__(self, root, ledger=None):
        subprocess.run(["git", "init", "-q", "--bare", root / "repo.git"], check=True)
        self.git = BareRepository(root / "repo.git")
        self.base = commit(self.git, {"a.txt": "1\n2\n3\n4\n5\n6\n7\n8\n9\n"})
        self.git.update_ref(f"refs/heads/{BRANCH}", self.base)
        self.ledger = ledger or make(root / "ledger.db", {str(n): frozenset() for n in range(1, 5)})
        self.lander = Lander(self.git, self.ledger, BRANCH)

    def offer(self, files, base=None):
        oid = commit(self.git, files, base or self.base)
        return Snapshot(commit=oid, base=base or self.base, empty=False, message="", bundle=Bundle(parts=()))

    def land(self, offer, *, claim=None, check=None, ship="ship-0"):
        claim = claim or self.ledger.claim(ship)
        return asyncio.run(self.lander.land(claim, self.base, offer, check, {}))

    def content(self, path="a.txt"):
        return self.git.text("show", f"{BRANCH}:{path}")

    @property
    def head(self):
        return self.git.resolve(f"refs/heads/{BRANCH}")


@pytest.fixture
def sea(tmp_path):
    found = Sea(tmp_path)
    yield found
    found.ledger.close()


LINES = "1\n2\n3\n4\n5\n6\n7\n8\n9\n"


def test_two_changes_of_different_lines_both_land(sea):
    assert isinstance(sea.land(sea.offer({"a.txt": LINES.replace("1", "one")})), Landed)
    assert isinstance(sea.land(sea.offer({"a.txt": LINES.replace("9", "nine")}), ship="ship-1"), Landed)
    assert sea.content().splitlines()[0] == "one"
    assert sea.content().splitlines()[-1] == "nine"
    assert sea.git.text("rev-list", "--count", "--no-merges", BRANCH) == "3"


def test_two_changes_of_one_line_conflict_and_name_both_sides(sea):
    sea.land(sea.offer({"a.txt": LINES.replace("1", "one")}))
    verdict = sea.land(sea.offer({"a.txt": LINES.replace("1", "uno")}), ship="ship-1")
    assert isinstance(verdict, Conflicted)
    assert "a.txt" in verdict.reason
    assert "Task 1" in verdict.reason
    assert sea.content().startswith("one")


def test_an_empty_change_lands_as_an_empty_commit(sea):
    sea.land(sea.offer({"a.txt": LINES + "10\n"}))
    verdict = sea.land(sea.offer({"a.txt": LINES}), ship="ship-1")
    assert isinstance(verdict, Landed)
    assert sea.git.tree(verdict.commit) == sea.git.text("rev-parse", f"{verdict.commit}^^{{tree}}")
    assert sea.content().endswith("10")


def test_settings_of_agents_that_land_are_named_with_the_landing(sea):
    evil = '{"env": {"ANTHROPIC_BASE_URL": "x"}}'
    sea.land(sea.offer({"a.txt": LINES, ".claude/settings.json": evil, "sub/.env": "A=1\n"}))
    sea.land(sea.offer({"a.txt": LINES, "b.txt": "nothing of the kind\n"}), ship="ship-1")
    wanted = ["`.claude/settings.json` sets env.ANTHROPIC_BASE_URL", "`sub/.env` is environment of whoever loads it"]
    assert sea.ledger.notices() == [{"task": "1", "text": text} for text in wanted]
    assert overview(sea.ledger).notices == sea.ledger.notices()


def test_the_base_is_what_the_ledger_says_not_the_ship(sea):
    """A ship that claims another base cannot undo what landed."""
    sea.land(sea.offer({"a.txt": LINES, "b.txt": "landed\n"}))
    forged = sea.offer({"a.txt": LINES}, base=sea.head)
    verdict = sea.land(forged, ship="ship-1")
    assert isinstance(verdict, Landed)
    assert sea.content("b.txt") == "landed"


def result(code):
    return CheckResult(code=code, seconds=0.1, tail="said\x1b[31m")


def test_a_failed_check_never_lands(sea):
    async def check(candidate):
        return result(3)

    verdict = sea.land(sea.offer({"a.txt": "x\n"}), check=check)
    assert isinstance(verdict, CheckFailed)
    assert verdict.evidence["check"]["exit_code"] == 3
    assert "\x1b" not in verdict.reason
    assert sea.head == sea.base


def test_the_check_sees_the_merged_candidate(sea):
    sea.land(sea.offer({"a.txt": LINES, "b.txt": "b\n"}))
    seen = []

    async def check(candidate):
        seen.append(sea.git.text("ls-tree", "--name-only", candidate).split())
        return result(0)

    assert isinstance(sea.land(sea.offer({"a.txt": LINES, "c.txt": "c\n"}), check=check, ship="ship-1"), Landed)
    assert seen == [["a.txt", "b.txt", "c.txt"]]


class Checks:
    """Checks of a queue of offers: each waits until the test says how it ends.

    Attributes:
        seen: by task, the file names of each candidate that its check was given.
        stopped: tasks whose check was ended, since its candidate was not needed any more.
    """

    def __init__(self, sea):
        self.sea, self.seen, self.stopped = sea, {}, []
        self._ends, self._began = {}, {}

    def of(self, task):
        async def check(candidate):
            names = self.sea.git.text("ls-tree", "--name-only", candidate).split()
            self.seen.setdefault(task, []).append(names)
            self._began.setdefault(task, asyncio.Event()).set()
            self._ends[task] = asyncio.get_running_loop().create_future()
            try:
                return await self._ends[task]
            except asyncio.CancelledError:
                self.stopped.append(task)
                raise

        return check

    async def until(self, task, count):
        """Wait until a task's check was begun so often."""
        while len(self.seen.get(task, ())) < count:
            await asyncio.wait_for(self._began.setdefault(task, asyncio.Event()).wait(), PATIENCE)
            self._began[task].clear()

    def end(self, task, outcome):
        if isinstance(outcome, int):
            self._ends[task].set_result(result(outcome))
        else:
            self._ends[task].set_exception(outcome)


def offered(sea, checks, files, *, unchecked=()):
    """Offer a file for each task, all from one base; return the tasks that wait for their verdicts."""
    landings = []
    for number, content in enumerate(files, 1):
        claim = sea.ledger.claim(f"ship-{number}")
        offer = sea.offer({"a.txt": LINES, **content})
        check = None if str(number) in unchecked else checks.of(claim.task)
        landings.append(asyncio.create_task(sea.lander.land(claim, sea.base, offer, check, {})))
    return landings


def test_checks_run_side_by_side_and_what_lands_is_what_was_checked(sea):
    async def three():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"1": "1\n"}, {"2": "2\n"}, {"3": "3\n"}])
        for task in ("1", "2", "3"):
            await checks.until(task, 1)
        for task in ("3", "2"):
            checks.end(task, 0)
            await asyncio.sleep(0.1)
            assert sea.head == sea.base, "what is below it is not settled"
        checks.end("1", 0)
        return checks, await asyncio.gather(*landings)

    checks, verdicts = asyncio.run(three())
    commits = [verdict.commit for verdict in verdicts]
    assert sea.git.text("rev-list", "--reverse", f"{sea.base}..{BRANCH}").split() == commits
    assert checks.seen == {"1": [["1", "a.txt"]], "2": [["1", "2", "a.txt"]], "3": [["1", "2", "3", "a.txt"]]}
    assert [sea.git.text("ls-tree", "--name-only", one).split() for one in commits] == [
        checks.seen[task][-1] for task in ("1", "2", "3")
    ]


def test_one_that_fails_is_taken_out_and_those_behind_it_are_checked_anew(sea):
    async def three():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"1": "1\n"}, {"2": "2\n"}, {"3": "3\n"}])
        for task in ("1", "2", "3"):
            await checks.until(task, 1)
        checks.end("2", 7)
        await checks.until("3", 2)  # at once, though whether 2 is to blame is not known yet
        assert not landings[1].done()
        checks.end("3", 0)
        checks.end("1", 0)
        return checks, await asyncio.gather(*landings)

    checks, (one, two, three_) = asyncio.run(three())
    assert isinstance(one, Landed)
    assert isinstance(two, CheckFailed)
    assert isinstance(three_, Landed)
    assert checks.stopped == ["3"]
    assert checks.seen["3"] == [["1", "2", "3", "a.txt"], ["1", "3", "a.txt"]]
    assert sea.git.text("ls-tree", "--name-only", BRANCH).split() == ["1", "3", "a.txt"]


def test_a_failure_on_top_of_one_that_fails_says_nothing(sea):
    async def two():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"1": "1\n"}, {"2": "2\n"}])
        for task in ("1", "2"):
            await checks.until(task, 1)
        checks.end("2", 7)
        await asyncio.sleep(0.1)
        checks.end("1", 7)
        await checks.until("2", 2)
        checks.end("2", 0)
        return checks, await asyncio.gather(*landings)

    checks, (one, two_) = asyncio.run(two())
    assert isinstance(one, CheckFailed)
    assert isinstance(two_, Landed)
    assert checks.seen["2"] == [["1", "2", "a.txt"], ["2", "a.txt"]]
    evidence = json.loads(sea.ledger.attempt_row(2)["evidence"])
    assert (evidence["check"]["ok"], evidence["check"]["runs"]) == (True, 2)


@pytest.mark.parametrize("first", [0, 7])
def test_a_conflict_with_what_has_not_landed_yet_waits_for_it(sea, first):
    async def two():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"same": "one\n"}, {"same": "other\n"}])
        await checks.until("1", 1)
        await asyncio.sleep(0.1)
        assert "2" not in checks.seen
        checks.end("1", first)
        if first:
            await checks.until("2", 1)
            checks.end("2", 0)
        return await asyncio.gather(*landings)

    one, two_ = asyncio.run(two())
    assert isinstance(one, CheckFailed if first else Landed)
    assert isinstance(two_, Landed if first else Conflicted)
    if not first:
        assert two_.reason == "it does not merge: same was also changed by: Task 1 (Task: 1)"


def test_an_offer_without_a_check_takes_its_place(sea):
    async def three():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"1": "1\n"}, {"2": "2\n"}, {"3": "3\n"}], unchecked=("2",))
        await checks.until("3", 1)
        assert sea.head == sea.base
        checks.end("1", 0)
        await asyncio.wait(landings[:2])
        assert not landings[2].done()
        checks.end("3", 0)
        return await asyncio.gather(*landings)

    assert all(isinstance(one, Landed) for one in asyncio.run(three()))
    assert sea.git.text("ls-tree", "--name-only", BRANCH).split() == ["1", "2", "3", "a.txt"]


@pytest.mark.parametrize("how", ["the channel breaks", "nobody waits any more"])
def test_a_ship_that_is_lost_in_its_check_takes_nobody_along(sea, how):
    async def two():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"1": "1\n"}, {"2": "2\n"}])
        for task in ("1", "2"):
            await checks.until(task, 1)
        if how == "the channel breaks":
            checks.end("1", TransportError("cut"))
        else:
            landings[0].cancel()
        await checks.until("2", 2)
        checks.end("2", 0)
        return checks, await asyncio.gather(*landings, return_exceptions=True)

    checks, (one, two_) = asyncio.run(two())
    assert isinstance(one, TransportError | asyncio.CancelledError)
    assert isinstance(two_, Landed)
    assert checks.stopped == (["2"] if how == "the channel breaks" else ["1", "2"])
    assert sea.git.text("ls-tree", "--name-only", BRANCH).split() == ["2", "a.txt"]


def test_another_commit_on_the_branch_makes_every_candidate_anew(sea):
    async def two():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"1": "1\n"}, {"2": "2\n"}])
        for task in ("1", "2"):
            await checks.until(task, 1)
        sea.git.update_ref(f"refs/heads/{BRANCH}", sea.offer({"a.txt": LINES, "user": "u\n"}).commit)
        checks.end("1", 0)
        for task in ("1", "2"):
            await checks.until(task, 2)
            checks.end(task, 0)
        return checks, await asyncio.gather(*landings)

    checks, verdicts = asyncio.run(two())
    assert all(isinstance(one, Landed) for one in verdicts)
    assert checks.seen["2"][-1] == ["1", "2", "a.txt", "user"]
    assert sea.git.text("ls-tree", "--name-only", BRANCH).split() == ["1", "2", "a.txt", "user"]


def test_a_token_that_lost_its_task_does_not_land(sea):
    claim = sea.ledger.claim("ship-0")
    sea.ledger.return_task(claim.token, "lost", "silent")
    assert isinstance(sea.land(sea.offer({"a.txt": "x\n"}), claim=claim), TokenLost)
    assert sea.head == sea.base


def test_somebody_else_moving_the_branch_is_merged_with(sea, monkeypatch):
    """The user pushed to the branch between our merge and our compare and swap."""
    real, moved = Git.update_ref, []

    def meddle(git, ref, new, old=None):
        if old == sea.base and not moved:
            moved.append(real(git, ref, commit(git, {"a.txt": LINES, "user.txt": "u\n"}, sea.base), sea.base))
        return real(git, ref, new, old)

    monkeypatch.setattr(Git, "update_ref", meddle)
    assert isinstance(sea.land(sea.offer({"a.txt": LINES, "b.txt": "b\n"})), Landed)
    assert sea.git.text("ls-tree", "--name-only", BRANCH).split() == ["a.txt", "b.txt", "user.txt"]


@pytest.mark.parametrize("moved", [True, False])
def test_a_landing_is_finished_after_a_crash_between_any_two_steps(sea, moved):
    claim = sea.ledger.claim("ship-0")
    new = commit(sea.git, {"a.txt": "new\n"}, sea.base)
    ref = f"refs/heads/{BRANCH}"
    assert sea.ledger.begin_landing(claim.token, ref, sea.base, new, {"check": None})
    if moved:
        assert sea.git.update_ref(ref, new, sea.base)
    assert len(sea.lander.reconcile()) == 1
    assert sea.head == new
    assert sea.ledger.count_tasks()["completed"] == 1
    assert sea.lander.reconcile() == []


@pytest.mark.parametrize("moved", [True, False])
def test_a_landing_that_is_tried_again_is_known_by_the_commit_that_landed(sea, monkeypatch, moved):
    """The kill matrix found it: git was killed, and the next try's commit, a second later, is another one."""
    real, tries = Git.update_ref, []

    def killed(git, ref, new, old=None):
        tries.append(new)
        if len(tries) > 1:
            return real(git, ref, new, old)
        if moved:
            real(git, ref, new, old)
        raise GitError("killed")

    monkeypatch.setattr(Git, "update_ref", killed)
    claim, offer = sea.ledger.claim("ship-0"), sea.offer({"a.txt": "new\n"})
    monkeypatch.setenv("GIT_COMMITTER_DATE", "@1000000000 +0000")
    with pytest.raises(GitError):
        sea.land(offer, claim=claim)
    monkeypatch.setenv("GIT_COMMITTER_DATE", "@1000000001 +0000")
    assert sea.land(offer, claim=claim) == Landed(sea.head)
    with closing(sqlite3.connect(sea.ledger.path)) as db:
        rows = db.execute("SELECT commit_id FROM tasks WHERE status = 'completed'").fetchall()
    assert rows == [(sea.head,)]
    assert sea.ledger.open_intents() == []
    assert sea.git.text("rev-list", "--count", BRANCH) == "2"


def test_a_second_landing_of_one_token_is_no_landing(sea):
    claim = sea.ledger.claim("ship-0")
    assert sea.ledger.begin_landing(claim.token, "refs/heads/x", sea.base, "1" * 40, {})
    with pytest.raises(LedgerError, match="is landing already"):
        sea.ledger.begin_landing(claim.token, "refs/heads/x", sea.base, "2" * 40, {})


def test_an_intent_that_cannot_move_any_more_is_void(sea):
    claim = sea.ledger.claim("ship-0")
    new = commit(sea.git, {"a.txt": "new\n"}, sea.base)
    sea.ledger.begin_landing(claim.token, f"refs/heads/{BRANCH}", sea.base, new, {})
    other = sea.land(sea.offer({"a.txt": "other\n"}), ship="ship-1")
    sea.lander.reconcile()
    assert sea.head == other.commit
    assert sea.ledger.held_claim("ship-0").token == claim.token


def test_only_our_own_refs_are_ever_written(sea):
    for ref in ("refs/heads/main", "refs/ocaptain/../heads/x", "refs/ocaptain/a b", "--help"):
        with pytest.raises(GitError):
            asyncio.run(sea.lander.save_ref(ref, sea.base))


def test_the_message_has_our_trailers_and_no_others_of_that_name():
    body = "Did it.\n\nTask: 99\n ship : evil\nSigned-off-by: me\n\x1b[31mred"
    message = commit_message("One\nline\x07", body, task="3", ship="ship-1", attempt=2)
    assert message.splitlines()[0] == "One line\\x07"
    assert "99" not in message
    assert "evil" not in message
    assert "\x1b" not in message
    assert message.endswith("\n\nTask: 3\nShip: ship-1\nAttempt: 2\n")


OUTCOME = {"code": 0, "reason": "exit", "seconds": 1}
SNAPSHOT = {"commit": "a" * 40, "base": "b" * 40, "empty": False, "bundle": {"parts": []}}


@pytest.mark.parametrize(
    ("data", "part"),
    [
        ({**OUTCOME, "code": 3, "tail": "boom\x1b"}, "exit code 3; the end of its output:\nboom\\x1b"),
        ({**OUTCOME, "reason": "timeout"}, "time limit"),
        ({**OUTCOME, "reason": "stall"}, "silent"),
        ({**OUTCOME, "reason": "died", "code": 137}, "supervisor"),
        ({**OUTCOME, "unfit": {"reason": "nested", "paths": ["x\n"]}}, "cannot be landed: nested: x"),
        (OUTCOME, "offered no snapshot"),
        ({**OUTCOME, "reason": "error", "code": 127}, "exit code 127"),
    ],
)
def test_why_an_attempt_failed(data, part):
    outcome = parse_outcome(data)
    assert not isinstance(outcome, str)
    assert part in failure_reason(outcome)


def test_an_attempt_that_did_not_fail():
    outcome = parse_outcome({**OUTCOME, "snapshot": SNAPSHOT})
    assert not isinstance(outcome, str)
    assert failure_reason(outcome) is None


PART = {"path": ".ocaptain/out/attempt-1.0", "size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "snapshot",
    [
        {**SNAPSHOT, "commit": "refs/heads/main"},
        {**SNAPSHOT, "commit": "--upload-pack=evil"},
        {**SNAPSHOT, "bundle": {"parts": [{**PART, "path": "../../etc/shadow"}]}},
        {**SNAPSHOT, "bundle": {"parts": [{**PART, "path": "/etc/shadow"}]}},
        {**SNAPSHOT, "bundle": {"parts": [{**PART, "path": ".ocaptain/out/../x.0"}]}},
        {**SNAPSHOT, "bundle": {"parts": [{**PART, "size": 10**12}]}},
        {**SNAPSHOT, "bundle": {"parts": [PART] * 1000}},
        {**SNAPSHOT, "message": "x" * 100_000},
        [],
    ],
)
def test_a_forged_offer_is_refused(snapshot):
    assert isinstance(parse_outcome({**OUTCOME, "snapshot": snapshot}), str)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"code": "0"},
        {**OUTCOME, "code": 10**9},
        {**OUTCOME, "seconds": -1},
        {**OUTCOME, "seconds": float("inf")},
        {**OUTCOME, "seconds": float("nan")},
        {**OUTCOME, "reason": "x" * 101},
    ],
)
def test_a_forged_outcome_is_refused(data):
    assert isinstance(parse_outcome(data), str)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_forged_check_is_refused(seconds):
    with pytest.raises(Malformed):
        from_dict(CheckResult, {"code": 0, "seconds": seconds})


class Reads:
    """A ship whose file reads as it says, time after time."""

    def __init__(self, *answers):
        self.answers = list(answers)

    async def get(self, path, limit):
        return self.answers.pop(0)


PART = {"path": ".ocaptain/out/a.0", "size": 4, "sha256": hashlib.sha256(b"work").hexdigest()}


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([b"work"], None),
        ([b"wo", b"xxxx", b"work"], None),
        ([b"wo", b"wo", b"wo"], CutShort),
        ([b"xxxx"] * 3, BadBundle),
    ],
)
def test_what_arrives_short_is_the_ways_fault_and_what_is_other_the_ships(answers, error):
    part = Part(**PART)
    reading = _fetch_part(Reads(*answers), part)
    if error is None:
        assert asyncio.run(reading) == b"work"
    else:
        with pytest.raises(error):
            asyncio.run(reading)


class Death(BaseException):
    """Of the captain, wherever it is just now."""


class Attack:
    """Five ships offer; checks pass, fail and break off; the captain dies at the n-th step of its landings."""

    def __init__(self, sea, seed):
        self.sea, self.random = sea, random.Random(seed)
        self.checked: set[str] = set()  # trees whose check passed
        self.verdicts: dict[str, object] = {}
        self.unchecked: set[str] = set()
        self.deaths = self.random.randrange(4)

    def dies(self):
        if self.deaths and self.random.random() < 0.15:
            self.deaths -= 1
            return True
        return False

    async def check(self, candidate):
        await asyncio.sleep(self.random.random() * 0.02)
        drawn = self.random.random()
        if drawn < 0.1:
            raise TransportError("cut")
        if drawn < 0.3:
            return result(1)
        self.checked.add(self.sea.git.tree(candidate))
        return result(0)

    async def offer(self, claim, base, offer):
        await asyncio.sleep(self.random.random() * 0.03)
        check = None if claim.task in self.unchecked else self.check
        for _ in range(50):
            with contextlib.suppress(TransportError):
                self.verdicts[claim.task] = await self.sea.lander.land(claim, base, offer, check, {})
                return

    def play(self, monkeypatch):
        real = Git.update_ref

        def update_ref(git, ref, new, old=None):
            if ref == self.sea.lander.ref and self.dies():
                raise Death
            moved = real(git, ref, new, old)
            if ref == self.sea.lander.ref and self.dies():
                raise Death
            return moved

        monkeypatch.setattr(Git, "update_ref", update_ref)
        for name in ("begin_landing", "finish_landing"):
            monkeypatch.setattr(self.sea.ledger, name, partial(self.deadly, getattr(self.sea.ledger, name)))
        offers = {}
        for number in range(5):
            claim = self.sea.ledger.claim(f"ship-{number}")
            shared = {"shared": f"{number}\n"} if self.random.random() < 0.3 else {}
            files = {} if self.random.random() < 0.15 else {f"f{claim.task}": "x\n", **shared}
            offers[claim.ship] = (claim, self.sea.base, self.sea.offer({"a.txt": LINES, **files}))
            if self.random.random() < 0.25:
                self.unchecked.add(claim.task)
        while True:
            waiting = [one for one in offers.values() if one[0].task not in self.verdicts]
            try:
                self.sea.lander.reconcile()
                asyncio.run(self.all_of(waiting))
            except Death:
                self.sea.lander = Lander(self.sea.git, self.sea.ledger, BRANCH)
            else:
                return

    def deadly(self, real, *args):
        if self.dies():
            raise Death
        done = real(*args)
        if self.dies():
            raise Death
        return done

    async def all_of(self, offers):
        tasks = [asyncio.create_task(self.offer(*one)) for one in offers]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


@pytest.mark.parametrize("seed", range(16))
def test_whatever_fails_only_checked_trees_land_each_once(tmp_path, monkeypatch, seed):
    with closing(make(tmp_path / "ledger.db", {str(n): frozenset() for n in range(1, 6)})) as ledger:
        sea = Sea(tmp_path, ledger)
        attack = Attack(sea, seed)
        attack.play(monkeypatch)
        lines = sea.git.text("log", "--reverse", "--format=%T %(trailers:key=Task,valueonly)", f"{sea.base}..{BRANCH}")
        history = [line.split() for line in lines.splitlines() if line]
        tasks = [task for _, task in history]
        assert len(tasks) == len(set(tasks))
        for tree, task in history:
            assert task in attack.unchecked or tree in attack.checked
        settled = {task for task, verdict in attack.verdicts.items() if isinstance(verdict, Landed)}
        completed = {row["id"] for row in ledger.rows("tasks", "position") if row["status"] == "completed"}
        assert set(tasks) == completed
        assert settled <= completed
        assert {"1", "2", "3", "4", "5"} == set(attack.verdicts) | completed
        sea.git.run("fsck", "--strict")


def test_only_its_own_base_can_be_offered_without_a_bundle(sea):
    """A commit of another branch, whose id stands in a message, is not what a ship made."""
    other = sea.offer({"secret": "x\n"}).commit
    bare = Snapshot(empty=True, bundle=Bundle(()), commit=other, base=sea.base)
    with pytest.raises(BadBundle, match="did not start from it"):
        asyncio.run(fetch_snapshot(sea.git, None, bare, sea.base))
    asyncio.run(fetch_snapshot(sea.git, None, replace(bare, commit=sea.base), sea.base))


def test_an_offer_beyond_the_limits_is_refused_before_it_is_fetched(sea):
    parts = (Part("x", 564 * MEBIBYTE, "0" * 64), Part("y", 1, "0" * 64))
    offer = Snapshot(empty=False, bundle=Bundle(parts), commit="1" * 40, base=sea.base)
    with pytest.raises(BundleRefused, match=r"a bundle of 565 MB, beyond limits\.total_mib \(500\) and its overhead"):
        asyncio.run(fetch_snapshot(sea.git, None, offer, sea.base))


def test_what_one_offer_s_step_dies_of_costs_no_other_offer(sea, monkeypatch):
    real = lander.stack_on

    def stack_on(git, tip, offered, limits):
        if offered.task == "2":
            raise RuntimeError("no memory")
        return real(git, tip, offered, limits)

    monkeypatch.setattr(lander, "stack_on", stack_on)

    async def three():
        checks = Checks(sea)
        landings = offered(sea, checks, [{"1": "1\n"}, {"2": "2\n"}, {"3": "3\n"}], unchecked=("1", "2", "3"))
        return await asyncio.gather(*landings, return_exceptions=True)

    one, two, three_ = asyncio.run(three())
    assert isinstance(one, Landed)
    assert isinstance(two, RuntimeError)
    assert isinstance(three_, Landed)


def test_a_store_is_as_git_is_and_lets_go_of_packs(tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repo.git"], check=True)
    git, store = Git(tmp_path / "repo.git"), BareRepository(tmp_path / "repo.git")
    one = commit(git, {"a": "1\n"})
    two = commit(git, {"a": "2\n"}, one)
    other = commit(git, {"b": "1\n"})
    git.update_ref("refs/heads/x", two)
    for found in (git, store):
        assert (found.resolve("refs/heads/x"), found.resolve(one), found.resolve("refs/heads/y")) == (two, one, None)
        assert found.resolve("1" * 40) is None
        assert found.tree(two) == git.tree(two)
        assert (found.is_ancestor(one, two), found.is_ancestor(two, one)) == (True, False)
        assert found.is_ancestor(one, "1" * 40) is False
        assert (found.merge_base(one, two), found.merge_base(one, other)) == (one, None)
        assert found.merge_base(one, "1" * 40) is None
        assert found.update_ref("refs/ocaptain/tasks/1/1/work", one)
        assert found.update_ref("refs/ocaptain/tasks/1/1/work", two)
    made = store.commit(git.tree(two), one, "said\n", author="ship-0", dated=False)
    when = f"@{git.text('show', '-s', '--format=%ct', one)} +0000"
    named = {"GIT_AUTHOR_NAME": "ship-0", "GIT_AUTHOR_EMAIL": "ship-0@ocaptain.invalid"}
    dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    by_git = git.run("commit-tree", git.tree(two), "-p", one, stdin=b"said\n", extra={**named, **dates})
    assert made == by_git.stdout.decode().strip()
    with pytest.raises(GitError):
        store.tree("1" * 40)
    for number in range(30):
        store.resolve(commit(git, {"a": f"{number}\n"}))
        git.run("repack", "-q", "-d")
        git.run("repack", "-q", "--geometric=2", "-d")
        store.reopen()
    held = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert [name for name in held if str(tmp_path) in name and "deleted" in name] == []
