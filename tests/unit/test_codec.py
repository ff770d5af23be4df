"""Messages to JSON and back: what is sent arrives, and nothing else is taken."""

from __future__ import annotations

import json
from dataclasses import is_dataclass, replace
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.protocol import envelope, messages
from ocaptain.protocol.codec import Malformed, _old_hints, from_dict, to_dict
from ocaptain.protocol.messages import (
    COMMANDS,
    Bundle,
    Cancel,
    Check,
    Failure,
    Outcome,
    Part,
    Rescue,
    RescueResult,
    Result,
    Resume,
    Snapshot,
    Start,
    Trial,
    TrialResult,
    UnfitTree,
    Verify,
    VerifyResult,
    command_name,
)
from ocaptain.worker.streams import stream_module

PART = Part(".ocaptain/out/a-1.0", 4, "0" * 64)
SNAPSHOT = Snapshot(empty=False, bundle=Bundle((PART,), "r"), commit="a" * 40, base="b" * 40, left_out=("x",))
MESSAGES = [
    Start(7),
    Start(7, "a" * 40, "b", "l", {"id": "1"}, Bundle((PART,)), ("x",), {"A": "1"}, resume=(Resume("s", ("x",), "p"),)),
    Cancel(7),
    Check("a" * 40, "b", "true", 1.5, "l", Bundle((PART,), "r")),
    Verify("a" * 40, "b", "eA==", 1.5, "l"),
    Rescue("1-0"),
    Outcome(0, "exit", 1.5, "tail", SNAPSHOT, None, {"session": None}),
    Outcome(1, "exit", 1.5, unfit=UnfitTree("nested", ("x",))),
    VerifyResult(clean=True, code=0, seconds=1.5),
    RescueResult(SNAPSHOT),
    Failure("unfit", "r", ("x",)),
    Result(ok=True, data={"a": [1, None]}),
    Trial("a" * 40, "b", "eA==", 1.5, "l", "make"),
    TrialResult(127, 1.5, timed_out=False, tail="t", stage="setup", missing="bash\r"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_what_is_sent_arrives(message):
    assert from_dict(type(message), json.loads(json.dumps(to_dict(message)))) == message


def test_what_a_captain_sends_may_be_larger_than_what_a_ship_may_offer():
    large = Start(7, bundle=Bundle((replace(PART, path=".ocaptain/in/a.1234"),) * 1000))
    assert from_dict(Start, to_dict(large)) == large


@pytest.mark.parametrize(
    ("stream", "view", "module"),
    [
        ("a.b", "raw", "a.b"),
        (None, "raw", None),
        (None, "claude-stream", "ocaptain.agents.claude.stream"),
        (None, "../x-stream", None),
    ],
)
def test_captains_and_jobs_of_before_name_a_stream_by_its_view(stream, view, module):
    assert stream_module(stream, view) == module


def test_a_newer_end_may_say_more():
    assert from_dict(Cancel, {"token": 1, "why": "x"}) == Cancel(1)


def test_each_command_has_its_name():
    assert {command_name(one) for one in MESSAGES if isinstance(one, tuple(COMMANDS.values()))} == set(COMMANDS)


@pytest.mark.parametrize(
    ("cls", "data", "where"),
    [
        (Cancel, {}, "token is missing"),
        (Cancel, {"token": "1"}, "token is of another type than int"),
        (Cancel, {"token": True}, "token is of another type"),
        (Cancel, {"token": 1.0}, "token is of another type"),
        (Cancel, [], "the message must be a JSON object"),
        (Start, {"token": 0}, "token must be at least 1"),
        (Start, {"token": 2**60}, "token is more than"),
        (Start, {"token": 1, "env": {"A": 1}}, "env.A is of another type"),
        (Start, {"token": 1, "argv": "x"}, "argv is of another type"),
        (Check, {**to_dict(MESSAGES[3]), "timeout": float("nan")}, "timeout is of another type"),
        (Outcome, {**to_dict(MESSAGES[6]), "snapshot": {}}, "snapshot.empty is missing"),
        (
            Bundle,
            {"parts": [{**to_dict(PART), "path": ".ocaptain/out/../x.0"}]},
            "parts.0.path does not have",
        ),
        (Snapshot, {**to_dict(SNAPSHOT), "bundle": {"parts": [to_dict(PART)] * 1000}}, "1000 parts, more than"),
        (Check, {**to_dict(MESSAGES[3]), "timeout": 10**400}, "timeout is of another type"),
    ],
)
def test_what_is_not_of_its_shape_is_refused(cls, data, where):
    with pytest.raises(Malformed, match=where):
        from_dict(cls, data)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(MESSAGES), st.data())
def test_nothing_else_comes_of_a_forged_field(message, data):
    """One field holds anything: it is refused, or it is a value that would be sent back the same."""
    whole = to_dict(message)
    name = data.draw(st.sampled_from(sorted(whole)))
    forged = {**whole, name: data.draw(anything)}
    try:
        taken = from_dict(type(message), forged)
    except Malformed:
        return
    assert from_dict(type(message), to_dict(taken)) == taken


@pytest.mark.parametrize("module", [envelope, messages])
def test_a_python_whose_types_have_no_union_reads_the_same_hints(module):
    """Python 3.9's way gives what ``get_type_hints`` gives from 3.10 on, for every message."""
    classes = [one for one in vars(module).values() if isinstance(one, type) and is_dataclass(one)]
    assert len(classes) > 10
    for one in classes:
        assert _old_hints(one) == get_type_hints(one), one
