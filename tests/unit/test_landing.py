"""Landing by real git and a real ledger: merges, conflicts, moved heads, crashes between the steps."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import subprocess
from contextlib import closing

import pytest

from ocaptain.captain.decide.outcome import failure_of
from ocaptain.captain.landing import (
    CheckFailed,
    Conflicted,
    Landed,
    Lander,
    TokenLost,
    lander,
    parse_outcome,
)
from ocaptain.captain.landing.fetch import _fetch_part
from ocaptain.captain.transport import CutShort
from ocaptain.git import BadBundle, Git, GitError, commit_message
from ocaptain.ledger import LedgerError
from ocaptain.protocol.codec import Malformed, from_dict
from ocaptain.protocol.messages import Bundle, CheckResult, Part, Snapshot
from tests.unit.test_ledger import make
from tests.unit.test_workspace import commit

BRANCH = "voyage-000000000000"


class Sea:
    """A repository with a head, and a ledger with four free tasks."""

    def __init__(self, root):
        subprocess.run(["git", "init", "-q", "--bare", root / "repo.git"], check=True)
        self.git = Git(root / "repo.git")
        self.base = commit(self.git, {"a.txt": "1\n2\n3\n4\n5\n6\n7\n8\n9\n"})
        self.git.update_ref(f"refs/heads/{BRANCH}", self.base)
        self.ledger = make(root / "ledger.db", {str(n): frozenset() for n in range(4)})
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
    assert "Task 0" in verdict.reason
    assert sea.content().startswith("one")


def test_an_empty_change_lands_as_an_empty_commit(sea):
    sea.land(sea.offer({"a.txt": LINES + "10\n"}))
    verdict = sea.land(sea.offer({"a.txt": LINES}), ship="ship-1")
    assert isinstance(verdict, Landed)
    assert sea.git.tree(verdict.commit) == sea.git.tree(f"{verdict.commit}^")
    assert sea.content().endswith("10")


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


def test_a_check_keeps_no_other_from_checking_and_landing(sea):
    """The second check of a task, whose head had moved, lasts until another task was checked and has landed."""
    seen = []

    async def both():
        first, second, third = (sea.ledger.claim(f"ship-{n}") for n in range(3))

        async def quick(_):
            return result(0)

        async def check(candidate):
            seen.append(candidate)
            if len(seen) < 3:
                claim, name = (second, "b.txt") if len(seen) == 1 else (third, "d.txt")
                other = sea.offer({"a.txt": LINES, name: "x\n"})
                landing = sea.lander.land(claim, sea.base, other, quick, {})
                assert isinstance(await asyncio.wait_for(landing, 30), Landed)
            return result(0)

        verdict = await sea.lander.land(first, sea.base, sea.offer({"a.txt": LINES, "c.txt": "c\n"}), check, {})
        assert isinstance(verdict, Landed)
        assert sea.git.tree(seen[-1]) == sea.git.tree(verdict.commit)

    asyncio.run(both())
    assert len(seen) == 3
    assert sea.git.text("ls-tree", "--name-only", BRANCH).split() == ["a.txt", "b.txt", "c.txt", "d.txt"]


def test_who_is_overtaken_again_and_again_is_checked_with_the_head_held(sea, monkeypatch):
    monkeypatch.setattr(lander, "MAX_FREE_CHECKS", 1)
    seen, late = [], []

    async def both():
        first, second, third = (sea.ledger.claim(f"ship-{n}") for n in range(3))

        async def check(candidate):
            seen.append(candidate)
            if len(seen) == 1:
                other = sea.offer({"a.txt": LINES, "b.txt": "b\n"})
                assert isinstance(await sea.lander.land(second, sea.base, other, None, {}), Landed)
            else:
                other = sea.offer({"a.txt": LINES, "d.txt": "d\n"})
                late.append(asyncio.create_task(sea.lander.land(third, sea.base, other, None, {})))
                await asyncio.sleep(0.3)
                assert not late[0].done()
            return result(0)

        verdict = await sea.lander.land(first, sea.base, sea.offer({"a.txt": LINES, "c.txt": "c\n"}), check, {})
        assert isinstance(verdict, Landed)
        assert sea.git.tree(seen[1]) == sea.git.tree(verdict.commit)
        assert isinstance(await late[0], Landed)

    asyncio.run(both())
    assert len(seen) == 2


def test_a_token_that_lost_its_task_does_not_land(sea):
    claim = sea.ledger.claim("ship-0")
    sea.ledger.give_back(claim.token, "lost", "silent")
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
    assert sea.ledger.counts()["completed"] == 1
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
    assert sea.ledger.held("ship-0").token == claim.token


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
        ({**OUTCOME, "code": 3, "tail": "boom\x1b"}, "exit code 3; it said last:\nboom\\x1b"),
        ({**OUTCOME, "reason": "timeout"}, "time limit"),
        ({**OUTCOME, "reason": "stall"}, "silent"),
        ({**OUTCOME, "reason": "died", "code": 137}, "supervisor"),
        ({**OUTCOME, "unfit": {"reason": "nested", "paths": ["x\n"]}}, "cannot be taken: nested: x"),
        (OUTCOME, "offered nothing"),
        ({**OUTCOME, "reason": "error", "code": 127}, "exit code 127"),
    ],
)
def test_why_an_attempt_failed(data, part):
    outcome = parse_outcome(data)
    assert not isinstance(outcome, str)
    assert part in failure_of(outcome)


def test_an_attempt_that_did_not_fail():
    outcome = parse_outcome({**OUTCOME, "snapshot": SNAPSHOT})
    assert not isinstance(outcome, str)
    assert failure_of(outcome) is None


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
