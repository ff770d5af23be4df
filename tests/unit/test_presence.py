"""What exists: absent is not gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain import presence
from ocaptain.captain import provider_watch
from ocaptain.captain.provider_watch import ProviderWatch
from ocaptain.presence import CONFIRM_SECONDS, Observation, Presence, ask_once, decide_presence, find_existing
from ocaptain.sprites import ApiError, ConnectionFailed, NotFound

NAMES = frozenset({"a", "b"})


def test_two_answers_far_enough_apart():
    missing = frozenset({"b"})
    first, second = Observation(0.0, frozenset({"a"}), missing), Observation(CONFIRM_SECONDS, frozenset({"a"}), missing)
    assert decide_presence(NAMES, [first, second]) == Presence(frozenset({"a"}), missing)
    assert decide_presence(NAMES, [second]) == Presence(frozenset({"a"}), unknown=missing)
    assert (
        decide_presence(NAMES, [first, Observation(CONFIRM_SECONDS / 2, frozenset({"a"}), missing)]).gone == frozenset()
    )
    assert decide_presence(NAMES, [first, Observation(CONFIRM_SECONDS, frozenset({"a", "b"}))]) == Presence(NAMES)
    assert decide_presence(NAMES, [first, Observation(CONFIRM_SECONDS, frozenset({"a"}), found=missing)]) == Presence(
        NAMES
    )
    assert decide_presence(NAMES, []).unknown == NAMES
    assert decide_presence(NAMES, [second], destruction_confirmed=missing) == decide_presence(NAMES, [first, second])
    assert decide_presence(NAMES, [Observation(0.0, None, missing)], destruction_confirmed=missing).unknown == NAMES


LOOKS = st.builds(
    Observation,
    st.floats(0, 10),
    st.none() | st.frozensets(st.sampled_from("abc")),
    st.frozensets(st.sampled_from("ab")),
    st.frozensets(st.sampled_from("ab")),
)


@given(st.lists(LOOKS, max_size=4))
def test_only_what_was_missing_twice_is_gone(looks):
    looks.sort(key=lambda one: one.at)
    found = decide_presence(NAMES, looks)
    assert found.possible | found.gone >= NAMES
    assert not found.possible & found.gone
    for name in found.gone:
        says_so = [one for one in looks if one.listed is not None and name in one.missing]
        assert looks[-1] in says_so
        assert says_so[-1].at - says_so[0].at >= CONFIRM_SECONDS
        assert name not in looks[-1].listed | looks[-1].found


@dataclass
class Told:
    """A provider that says one thing after the other."""

    lists: list = field(default_factory=list)
    gets: list = field(default_factory=list)

    async def list(self, prefix=""):
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [type("Sprite", (), {"name": name}) for name in answer]

    async def get(self, name):
        answer = self.gets.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


ABSENT = NotFound("sprite not found", status=404)
BROKEN = ApiError("internal error", status=500)
DOWN = ConnectionFailed("nobody listens")


@pytest.mark.parametrize(
    ("lists", "gets", "kind"),
    [
        ([["a"]], [], "there"),
        ([[], []], [ABSENT, ABSENT], "gone"),
        ([[], DOWN], [ABSENT], "unknown"),
        ([DOWN], [], "unknown"),
        ([[], []], [ABSENT, BROKEN], "unknown"),
        ([[]], [BROKEN], "unknown"),
        ([[]], [object()], "there"),
        ([[], ["a"]], [ABSENT], "there"),
        ([[], BROKEN], [ABSENT], "unknown"),
    ],
)
def test_what_a_provider_says(lists, gets, kind, monkeypatch):
    monkeypatch.setattr(presence, "CONFIRM_SECONDS", 0.05)
    found = asyncio.run(find_existing(Told(lists, gets), "", ["a"]))
    assert getattr(found, kind) == {"a"}
    assert bool(found.why) == (kind == "unknown")


def test_what_nobody_asked_for_is_there_too():
    assert asyncio.run(ask_once(Told([["a", "c"]]), "", ["a"])).listed == {"a", "c"}
    assert decide_presence(["a"], [Observation(0, frozenset({"a", "c"}))]).there == {"a", "c"}


def test_a_provider_is_asked_in_the_background_and_only_while_there_is_a_reason(monkeypatch):
    monkeypatch.setattr(provider_watch, "LOOK_SECONDS", 0.0)
    answers: list = [DOWN, DOWN, None]
    asked = []

    async def ask():
        asked.append(1)
        answer = answers.pop(0)
        if answer:
            raise answer

    async def sail():
        watch = ProviderWatch(ask)
        seen = [watch.check(needed=False), watch.check(needed=True)]
        for _ in range(3):
            await asyncio.sleep(0.01)
            seen.append(watch.check(needed=False))
        await asyncio.sleep(0.01)
        seen.append(watch.check(needed=False))
        await watch.close()
        return seen

    seen = asyncio.run(sail())
    assert [bool(one) for one in seen] == [False, False, True, True, False, False]
    assert len(asked) == 3


def test_a_provider_that_serves_elsewhere_ends_the_watch():
    class Elsewhere(Exception):
        pass

    async def ask():
        raise Elsewhere

    async def sail():
        watch = ProviderWatch(ask)
        watch.check(needed=True)
        await asyncio.sleep(0.01)
        watch.check(needed=True)

    with pytest.raises(Elsewhere):
        asyncio.run(sail())
