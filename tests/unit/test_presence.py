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
from ocaptain.presence import SECONDS, Existing, Look, judge, look, what_exists
from ocaptain.sprites import ApiError, ConnectionFailed, NotFound

NAMES = frozenset({"a", "b"})


def test_two_answers_far_enough_apart():
    missing = frozenset({"b"})
    first, second = Look(0.0, frozenset({"a"}), missing), Look(SECONDS, frozenset({"a"}), missing)
    assert judge(NAMES, [first, second]) == Existing(frozenset({"a"}), missing)
    assert judge(NAMES, [second]) == Existing(frozenset({"a"}), unknown=missing)
    assert judge(NAMES, [first, Look(SECONDS / 2, frozenset({"a"}), missing)]).gone == frozenset()
    assert judge(NAMES, [first, Look(SECONDS, frozenset({"a", "b"}))]) == Existing(NAMES)
    assert judge(NAMES, [first, Look(SECONDS, frozenset({"a"}), found=missing)]) == Existing(NAMES)
    assert judge(NAMES, []).unknown == NAMES
    assert judge(NAMES, [second], destroyed=missing) == judge(NAMES, [first, second])
    assert judge(NAMES, [Look(0.0, None, missing)], destroyed=missing).unknown == NAMES


LOOKS = st.builds(
    Look,
    st.floats(0, 10),
    st.none() | st.frozensets(st.sampled_from("abc")),
    st.frozensets(st.sampled_from("ab")),
    st.frozensets(st.sampled_from("ab")),
)


@given(st.lists(LOOKS, max_size=4))
def test_only_what_was_missing_twice_is_gone(looks):
    looks.sort(key=lambda one: one.at)
    found = judge(NAMES, looks)
    assert found.left | found.gone >= NAMES
    assert not found.left & found.gone
    for name in found.gone:
        says_so = [one for one in looks if one.listed is not None and name in one.missing]
        assert looks[-1] in says_so
        assert says_so[-1].at - says_so[0].at >= SECONDS
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
    monkeypatch.setattr(presence, "SECONDS", 0.05)
    found = asyncio.run(what_exists(Told(lists, gets), "", ["a"]))
    assert getattr(found, kind) == {"a"}
    assert bool(found.why) == (kind == "unknown")


def test_what_nobody_asked_for_is_there_too():
    assert asyncio.run(look(Told([["a", "c"]]), "", ["a"])).listed == {"a", "c"}
    assert judge(["a"], [Look(0, frozenset({"a", "c"}))]).there == {"a", "c"}


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
        seen = [watch.look(needed=False), watch.look(needed=True)]
        for _ in range(3):
            await asyncio.sleep(0.01)
            seen.append(watch.look(needed=False))
        await asyncio.sleep(0.01)
        seen.append(watch.look(needed=False))
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
        watch.look(needed=True)
        await asyncio.sleep(0.01)
        watch.look(needed=True)

    with pytest.raises(Elsewhere):
        asyncio.run(sail())
