"""Which of the user's commits form a chain, what is refused, and what lands of a commit: decisions, as data."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.captain.decide.local import (
    MAX_COMMITS,
    LandChain,
    MoveOn,
    Nothing,
    Refuse,
    Standing,
    UserCommit,
    describe_conflict,
    describe_uncommitted,
    plan_local,
    refuse_state,
    state_after,
)
from ocaptain.git.local import BadCommit, landed_commit, local_message, parse_commit

BRANCH = "voyage-000000000000"


def oid(number):
    return f"{number:040x}"


def chain(count):
    return tuple(UserCommit(oid(n), (oid(n - 1),), f"commit {n}") for n in range(1, count + 1))


def standing(commits=(), **more):
    tip = commits[-1].id if commits else oid(0)
    facts = {"workspace": "/v/workspace", "branch": BRANCH, "on": BRANCH, "tip": tip, "is_behind": not commits}
    return Standing(**{**facts, "commits": tuple(commits), **more})


@given(count=st.integers(1, 12), landed=st.integers(0, 12))
def test_what_landed_before_is_left_out_and_the_rest_is_a_chain(count, landed):
    commits = chain(count)
    found = plan_local(standing(commits), {one.id for one in commits[:landed]})
    if landed >= count:
        assert found == MoveOn(commits[-1].id)
    else:
        assert found == LandChain(commits[landed:], oid(landed))
        assert found.tip == commits[-1].id


@given(count=st.integers(1, 8), data=st.data(), parents=st.sampled_from([(), (oid(90), oid(91))]))
def test_one_merge_or_root_refuses_the_whole_chain_and_is_named(count, data, parents):
    commits = list(chain(count))
    at = data.draw(st.integers(0, count - 1))
    commits[at] = UserCommit(commits[at].id, parents, commits[at].subject)
    found = plan_local(standing(commits), set())
    assert isinstance(found, Refuse)
    assert commits[at].id[:10] in found.reason
    assert "git -C /v/workspace pull --rebase" in found.reason


def test_without_commits_there_is_nothing_to_land():
    assert plan_local(standing(), set()) == Nothing()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"on": "mine"}, f"is on branch mine, and only commits on {BRANCH} land"),
        ({"on": None}, "is on no branch"),
        ({"on": None, "unfinished": "rebase"}, "a rebase is under way"),
        ({"unfinished": "merge"}, "git -C /v/workspace merge --continue"),
    ],
)
def test_a_place_that_is_not_ready_is_refused_with_a_command(more, says):
    found = plan_local(standing(chain(1), **more), set())
    assert isinstance(found, Refuse)
    assert says in found.reason
    assert "git -C /v/workspace" in found.reason


def test_too_many_commits_are_refused():
    assert "rebase -i" in plan_local(standing(chain(MAX_COMMITS + 1)), set()).reason
    assert isinstance(plan_local(standing(chain(MAX_COMMITS)), set()), LandChain)


def test_a_hostile_subject_cannot_act_on_a_terminal():
    told = describe_conflict(standing(chain(1)), oid(1), "\x1b[2Jevil\n", "a.txt was also changed")
    assert "\x1b" not in told
    assert told.endswith("go on with: git -C /v/workspace pull --rebase --autostash")


@pytest.mark.parametrize(
    ("state", "failed", "after"),
    [
        ("complete", False, "running"),
        ("failed", False, "running"),
        ("failed", True, "failed"),
        ("paused", False, "paused"),
        ("running", False, "running"),
        ("verifying", False, "verifying"),
    ],
)
def test_a_voyage_that_ended_runs_again(state, failed, after):
    assert refuse_state(BRANCH, state, "/v") is None
    assert state_after(state, has_failed_tasks=failed) == after


@pytest.mark.parametrize("state", ["sinking", "sunk"])
def test_after_a_sink_the_line_that_saves_the_commits_is_named(state):
    told = refuse_state(BRANCH, state, "/my voyages/v")
    assert told.endswith(f"git fetch '/my voyages/v/workspace' {BRANCH}:my-commits")
    assert state in told


def test_uncommitted_files_are_named():
    assert describe_uncommitted([]) == ""
    assert describe_uncommitted(["a", "b"]) == "not committed, so not landed: a, b"
    assert describe_uncommitted([str(n) for n in range(7)]).endswith("4 and 2 more")


# -- what lands of a commit --------------------------------------------------------------------------

FORGED = ("Task: 9", "ship: ship-3", " Attempt : 4", "TASK:x")
LINES = st.sampled_from(["", "why it is so", "Signed-off-by: Ada <a@b.c>", "Co-authored-by: Bo <b@b.c>", *FORGED])


def trailers(message):
    done = subprocess.run(["git", "interpret-trailers", "--parse"], input=message, capture_output=True, check=True)
    return done.stdout.decode().splitlines()


@given(lines=st.lists(LINES, max_size=8))
def test_our_trailers_are_taken_away_and_ship_local_is_the_last_line(lines):
    message = "\n".join(["the subject", "", *lines]).encode()
    found = local_message(message)
    told = found.decode().splitlines()
    assert told[0] == "the subject"
    assert told[-1] == "Ship: local"
    assert [line for line in told[1:-1] if line] == [line for line in lines if line and line not in FORGED]


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (b"one", ["Ship: local"]),
        (b"one\n\nTask: 1\nShip: ship-0\nAttempt: 1\n", ["Ship: local"]),
        (b"one\n\nbody\n\nSigned-off-by: Ada <a@b.c>\n", ["Signed-off-by: Ada <a@b.c>", "Ship: local"]),
        (b"Task: 1\nShip: ship-0\nAttempt: 1\n", ["Ship: local"]),
    ],
)
def test_git_reads_ship_local_and_the_users_own_trailers(message, wanted):
    assert trailers(local_message(message)) == wanted


@given(text=st.binary(min_size=1, max_size=60).filter(lambda text: b"\0" not in text and text.strip()))
def test_author_date_encoding_and_words_stay_byte_for_byte(text):
    author = b"J\xf6rg <j@x> 1700000000 +0530"
    names = b"\nauthor " + author + b"\ncommitter c <c@c> 1 +0000"
    more = b"\nencoding iso-8859-1\ngpgsig -----BEGIN\n parent x\n -----END\n\nsubject "
    made = parse_commit(b"tree " + b"1" * 40 + b"\nparent " + b"2" * 40 + names + more + text)
    assert (made.parents, made.encoding) == (("2" * 40,), b"iso-8859-1")
    data = landed_commit(made, "3" * 40, "4" * 40, 5)
    again = parse_commit(data)
    assert (again.tree, again.parents, again.author, again.encoding) == ("3" * 40, ("4" * 40,), author, made.encoding)
    assert b"gpgsig" not in data
    first = (b"subject " + text).split(b"\n")[0]
    assert again.message.split(b"\n")[0] == first


def test_what_is_no_commit_is_refused():
    with pytest.raises(BadCommit):
        parse_commit(b"tree 1\n\nno author")
