"""Mirrors as data: the calls, what the list says, and what there should be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.sync.live import Health, Live
from ocaptain.sync.spec import (
    Act,
    Create,
    Line,
    MoveAway,
    Session,
    create_argv,
    health,
    is_label,
    list_argv,
    read_sessions,
    read_version,
    session_argv,
    wanted,
)

LINE = Line("voyage-1", "ship-0", "voyage-1-ship-0", "sprite-a", 1, "voyage", "/home/u/voyages/voyage-1/ships/ship-0")
#: As Mutagen 0.18.1 printed it, with the labels that a session of ours has.
REAL = {
    "identifier": "sync_s7QP",
    "version": 1,
    "creationTime": "2026-11-23T12:48:52.5Z",
    "creatingVersion": "0.18.1",
    "alpha": {"protocol": "ssh", "host": "h", "path": "voyage", "connected": True, "files": 3, "totalFileSize": 30},
    "beta": {"protocol": "local", "path": "/m", "connected": True, "scanned": True, "files": 3, "totalFileSize": 30},
    "mode": "one-way-replica",
    "name": "voyage-1-ship-0-g1",
    "labels": {"ocaptain.ship": "ship-0", "ocaptain.sprite": "sprite-a", "ocaptain.generation": "1"},
    "paused": False,
    "status": "watching",
    "successfulCycles": 2,
}


def session(**more):
    return read_sessions(json.dumps([{**REAL, **more}]).encode())[0]


def end(**more):
    return {**REAL["beta"], **more}


def test_the_call_that_makes_a_session():
    line = Line(**{**LINE.__dict__, "ignores": ("node_modules/", "*.pyc")})
    assert create_argv(line) == [
        "sync",
        "create",
        "--no-global-configuration",
        "--name",
        "voyage-1-ship-0-g1",
        "--label",
        "ocaptain.voyage=voyage-1",
        "--label",
        "ocaptain.ship=ship-0",
        "--label",
        "ocaptain.kind=voyage",
        "--label",
        "ocaptain.sprite=sprite-a",
        "--label",
        "ocaptain.generation=1",
        "--mode",
        "one-way-replica",
        "--ignore-vcs",
        "-i",
        "node_modules/",
        "-i",
        "*.pyc",
        "--symlink-mode",
        "portable",
        "--probe-mode",
        "assume",
        "--watch-polling-interval",
        "1",
        "--default-file-mode-beta",
        "0444",
        "--default-directory-mode-beta",
        "0755",
        "--max-entry-count",
        "200000",
        "--max-staging-file-size",
        "100MB",
        "voyage-1-ship-0:voyage",
        "/home/u/voyages/voyage-1/ships/ship-0",
    ]


def test_the_other_calls():
    template = "{{json .}}"
    assert list_argv("voyage-1") == [
        *["sync", "list", "--label-selector", "ocaptain.voyage=voyage-1", "--template"],
        template,
    ]
    assert session_argv("reset", "sync_1") == ["sync", "reset", "sync_1"]


@pytest.mark.parametrize(
    ("said", "version"),
    [("0.18.1\n", "0.18.1"), ("0.18.12", "0.18.12"), ("0.17.6\n", None), ("0.19.0-rc1", None), ("", None)],
)
def test_only_versions_that_were_tried_are_used(said, version):
    assert read_version(said) == version


@pytest.mark.parametrize(
    ("value", "fits"), [("a-1_b.c", True), ("", False), ("a b", False), ("-a", False), ("x" * 64, False)]
)
def test_what_a_label_may_be(value, fits):
    assert is_label(value) is fits


def test_a_real_list_is_read():
    assert session() == Session(
        "sync_s7QP", "ship-0", "sprite-a", 1, "watching", connected=True, cycles=2, files=3, bytes=30
    )


@pytest.mark.parametrize("output", [b"{}", b"null", b"3", b"not json", b"[" * 100_000])
def test_what_is_no_list_is_said(output):
    with pytest.raises(ValueError, match=r".+"):
        read_sessions(output)


ODD = [None, True, -1, 3, "a\nb", [], [{}], [[]], ["a"], {}, {"path": 3}, {"connected": 1}, [{"path": [], "root": {}}]]


@given(st.dictionaries(st.sampled_from([*REAL, "conflicts", "excludedConflicts", "lastError"]), st.sampled_from(ODD)))
def test_whatever_a_field_is_nothing_fails_and_nothing_is_called_watching_for_it(fields):
    for one in read_sessions(json.dumps([{"identifier": "s", **fields}]).encode()):
        assert health(one, 0.0).state != "watching"  # no end says that it is connected
        assert "\n" not in one.first_problem


@pytest.mark.parametrize(
    ("more", "count", "first"),
    [
        ({"conflicts": [{"root": "same"}], "excludedConflicts": 5}, 6, "conflict at same"),
        (
            {"beta": end(transitionProblems=[{"path": "", "error": "unable to open parent"}])},
            1,
            "this machine: the top:",
        ),
        (
            {"alpha": end(scanProblems=[{"path": "a\nb\x1b[2J", "error": "absolute"}])},
            1,
            "the ship: a b\\x1b[2J: absolute",
        ),
        ({"alpha": end(excludedScanProblems=3, scanProblems=[{"path": "a"}])}, 4, "the ship: a: it is not said why"),
        ({"lastError": "beta polling error"}, 1, "beta polling error"),
    ],
)
def test_problems_are_counted_wherever_they_stand(more, count, first):
    found = session(**more)
    assert found.problems == count
    assert found.first_problem.startswith(first)
    assert health(found, 1.0).state == "catching_up", "`watching` stays Mutagen's status all the time"


@pytest.mark.parametrize(
    ("more", "age", "state"),
    [
        ({}, 1.0, "watching"),
        ({}, None, "catching_up"),
        ({}, 10.1, "stale"),
        ({"alpha": end(connected=False)}, 1.0, "catching_up"),
        ({"alpha": end(connected=False)}, 11.0, "stale"),
        ({"alpha": {}}, 1.0, "catching_up"),
        ({"status": "staging-beta"}, 1.0, "catching_up"),
        ({"status": "halted-on-root-emptied"}, 1.0, "halted"),
        ({"paused": True, "status": "halted-on-root-emptied"}, 1.0, "paused"),
    ],
)
def test_watching_is_said_only_if_it_is_true(more, age, state):
    assert health(session(**more), age).state == state


def test_a_ship_without_a_session_has_no_mirror():
    assert health(None, 1.0) == Health("none", "off")


def test_a_sessions_time_behind():
    assert health(session(), 3.14).behind_seconds == 3.1
    assert health(session(paused=True), 3.14).behind_seconds is None


# -- what there should be ------------------------------------------------------------------


def had(number=1, **more):
    return Session(
        **{"id": f"s{number}", "ship": "ship-0", "origin": "sprite-a", "generation": 1, "status": "watching", **more}
    )


OTHER = Line(**{**LINE.__dict__, "origin": "sprite-b", "generation": 2})
KEPT = {"ship-0": "sprite-a"}


@pytest.mark.parametrize(
    ("lines", "resting", "sessions", "kept", "steps"),
    [
        pytest.param([LINE], [], [], {}, [Create(LINE)], id="the first"),
        pytest.param([LINE], [], [had()], KEPT, [], id="all is well"),
        pytest.param([LINE], [], [had(paused=True)], KEPT, [Act("resume", "s1", "ship-0")], id="at work again"),
        pytest.param([], ["ship-0"], [had()], KEPT, [Act("pause", "s1", "ship-0")], id="it rests"),
        pytest.param([], ["ship-0"], [had(paused=True)], KEPT, [], id="it rests on"),
        pytest.param([LINE], [], [had(1), had(2)], KEPT, [Act("terminate", "s2", "ship-0")], id="double"),
        pytest.param([], [], [had(ship="")], {}, [Act("terminate", "s1", "")], id="unknown"),
        pytest.param(
            [LINE], [], [had(status="halted-on-root-deletion")], KEPT, [Act("resume", "s1", "ship-0")], id="halted"
        ),
        pytest.param([], [], [had()], KEPT, [Act("terminate", "s1", "ship-0"), MoveAway("ship-0")], id="lost"),
        pytest.param(
            [OTHER],
            [],
            [had()],
            KEPT,
            [Act("terminate", "s1", "ship-0"), MoveAway("ship-0"), Create(OTHER)],
            id="another sprite of its name",
        ),
        pytest.param([OTHER], [], [], KEPT, [MoveAway("ship-0"), Create(OTHER)], id="its session is gone already"),
        pytest.param([LINE], [], [], KEPT, [Create(LINE)], id="sessions were lost, the folder is its own"),
    ],
)
def test_what_is_to_do(lines, resting, sessions, kept, steps):
    assert wanted(lines, frozenset(resting), sessions, kept) == steps


def test_what_halts_again_is_reset():
    halted = had(status="halted-on-root-emptied")
    assert wanted([LINE], frozenset(), [halted], KEPT, resumed=frozenset(["s1"])) == [Act("reset", "s1", "ship-0")]


# -- what is published ---------------------------------------------------------------------


def test_what_is_published_is_read_again():
    live = Live(10.0, "0.18.1", "", {"ship-0": Health("mutagen", "watching", 0.5, 3, 30)}, {"ship-0": ("sprite-a", 2)})
    assert Live.decode(live.encode()) == live
    assert live.health("ship-0", 11.0).state == "watching"
    assert live.health("ship-1", 11.0) == Health()


def test_what_a_captain_that_is_gone_left_is_stale():
    live = Live(10.0, ships={"ship-0": Health("mutagen", "watching", 0.5), "ship-1": Health("mutagen", "paused")})
    assert live.health("ship-0", 100.0) == Health("mutagen", "stale", 90.5)
    assert live.health("ship-1", 100.0).state == "paused"


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"at": 1}', b'{"at":1,"version":"","why":"","ships":[],"origins":{"a":1}}']
)
def test_a_damaged_file_says_nothing(data):
    assert Live.decode(data) == Live()


def test_a_mirror_is_watching_only_while_that_is_true():
    live = Live(at=100.0, ships={"ship-0": Health("mutagen", "watching", 5.0)})
    assert live.health("ship-0", 101.0) == Health("mutagen", "watching", 6.0)
    assert live.health("ship-0", 106.0) == Health("mutagen", "stale", 11.0)  # the daemon hangs: nothing is published
    busy = Live(at=100.0, ships={"ship-0": Health("mutagen", "catching_up", 5.0)})
    assert busy.health("ship-0", 106.0) == Health("mutagen", "catching_up", 11.0)
    assert busy.health("ship-0", 121.0).state == "stale"
