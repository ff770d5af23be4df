"""The merge queue: what lands, and in which order, decided as data."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ocaptain.captain.decide.queue import (
    MAX_RESTACKS,
    Action,
    Land,
    Place,
    Refuse,
    Stack,
    State,
    anew,
    judged,
    next_action,
    stacked,
    without,
)


@pytest.mark.parametrize(
    ("places", "action"),
    [
        ((), None),
        ((Place(1),), Stack(1, ())),
        ((Place(1), Place(2), Place(3)), Stack(1, ())),
        ((Place(1, "checking"), Place(2), Place(3)), Stack(2, (1,))),
        ((Place(1, "checking"), Place(2, "checking", (1,))), None),
        ((Place(1, "checking"), Place(2, "passed", (1,))), None),
        ((Place(1, "passed"), Place(2, "checking", (1,))), Land(1)),
        ((Place(1, "failed"), Place(2, "checking", (1,))), Refuse(1)),
        ((Place(1, "conflict"), Place(2)), Refuse(1)),
        # One that failed on what is not settled yet is left out, but not refused.
        ((Place(1, "checking"), Place(2, "failed", (1,)), Place(3, "checking", (1, 2))), Stack(3, (1,))),
        ((Place(1, "checking"), Place(2, "conflict", (1,)), Place(3, "checking", (1,))), None),
        # What it stood on is gone: its failure says nothing.
        ((Place(2, "failed", (1,)), Place(3, "passed", (1,))), Stack(2, ())),
        # Restacked too often by others' failures: before all others, on the bare head.
        (
            (Place(1, "checking"), Place(2, "checking", (1,), MAX_RESTACKS)),
            Stack(2, ()),
        ),
    ],
)
def test_next_action(places: tuple[Place, ...], action: Action | None) -> None:
    assert next_action(places) == action


def test_a_restack_counts_only_where_something_below_was_lost() -> None:
    places = (Place(1, "checking"), Place(2, "checking", (1,)))
    gone = without(places, 1, landed=False)
    assert stacked(gone, Stack(2, ()), "checking") == (Place(2, "checking", (), 1),)
    assert stacked(places, Stack(2, (1, 7)), "checking")[1] == Place(2, "checking", (1, 7), 0)
    assert stacked((Place(2),), Stack(2, ()), "passed") == (Place(2, "passed"),)


def test_what_stood_on_a_landed_offer_stands_on_the_head() -> None:
    places = (Place(1, "passed"), Place(2, "passed", (1,)), Place(3, "checking", (1, 2)), Place(4, "checking"))
    assert without(places, 1, landed=True) == (
        Place(2, "passed"),
        Place(3, "checking", (2,)),
        Place(4),  # its candidate lacks what landed
    )


def test_another_head_makes_every_candidate_anew() -> None:
    assert anew((Place(1, "passed", (), 2), Place(2, "failed", (1,)))) == (Place(1, restacks=2), Place(2))


class QueueMachine(RuleBasedStateMachine):
    """Offers come, checks end well or badly in any order, ships are lost, the head is moved by others."""

    def __init__(self) -> None:
        super().__init__()
        self.places: tuple[Place, ...] = ()
        self.tokens = 0
        self.head: tuple[int, ...] = ()  # what landed, in order
        self.candidates: dict[int, tuple[int, ...]] = {}  # the content that each offer's check sees
        self.verdicts: dict[int, tuple[int, ...]] = {}  # the content that the last verdict is of
        self.refused: dict[int, tuple[int, ...]] = {}
        self.checks: dict[int, int] = {}
        self.moves = 0
        self.behind: dict[int, int] = {}  # offers that were there when one came
        self.against: dict[int, int] = {}  # what an offer does not merge with

    @rule(data=st.data(), conflicts=st.booleans())
    def offer(self, data: st.DataObject, *, conflicts: bool) -> None:
        self.tokens += 1
        if conflicts and self.places:
            self.against[self.tokens] = data.draw(st.sampled_from([place.token for place in self.places]))
        self.behind[self.tokens] = len(self.places)
        self.checks[self.tokens] = 0
        self.places = (*self.places, Place(self.tokens))
        self.drive()

    def drive(self) -> None:
        while action := next_action(self.places):
            if isinstance(action, Stack):
                self.stack(action)
            else:
                self.settle(action)

    def stack(self, action: Stack) -> None:
        content = (*self.head, *action.stack, action.token)
        for below in action.stack:  # a candidate is made from those that are there
            assert below in self.candidates
        self.candidates[action.token] = content
        self.checks[action.token] += 1
        state: State = "conflict" if self.against.get(action.token) in content else "checking"
        if state == "conflict":
            self.verdicts[action.token] = content
        self.places = stacked(self.places, action, state)

    def settle(self, action: Land | Refuse) -> None:
        content = self.verdicts[action.token]
        assert content == (*self.head, action.token), "the verdict is of exactly what lands, or is refused"
        if isinstance(action, Land):
            self.head = content
        else:
            self.refused[action.token] = content
        self.places = without(self.places, action.token, landed=isinstance(action, Land))

    def checking(self) -> list[int]:
        return [place.token for place in self.places if place.state == "checking"]

    @precondition(lambda self: self.checking())
    @rule(data=st.data(), passed=st.booleans())
    def check_ends(self, data: st.DataObject, *, passed: bool) -> None:
        token = data.draw(st.sampled_from(self.checking()))
        self.verdicts[token] = self.candidates[token]
        self.places = judged(self.places, token, "passed" if passed else "failed")
        self.drive()

    @precondition(lambda self: self.places)
    @rule(data=st.data())
    def ship_is_lost(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from([place.token for place in self.places]))
        self.places = without(self.places, token, landed=False)
        self.drive()

    @rule()
    def head_moves(self) -> None:
        self.moves += 1
        self.head = (*self.head, -self.moves)
        self.places = anew(self.places)
        self.drive()

    @invariant()
    def somebody_is_at_work(self) -> None:
        assert not self.places or self.checking(), "offers wait, and nothing is checked"

    @invariant()
    def no_offer_is_checked_for_ever(self) -> None:
        for place in self.places:
            # Each of those before it can take its candidate away once; so can each that is moved before it.
            assert place.restacks <= MAX_RESTACKS + self.behind[place.token] + len(self.places)

    def teardown(self) -> None:
        """Whatever has happened: once every check passes, all that is left lands."""
        while self.places:  # the last one first: the worst order
            token = self.checking()[-1]
            self.verdicts[token] = self.candidates[token]
            self.places = judged(self.places, token, "passed")
            self.drive()
        assert len(set(self.head)) == len(self.head)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
