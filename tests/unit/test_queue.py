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
    QueuedOffer,
    Refuse,
    Stack,
    State,
    next_action,
    with_all_waiting,
    with_candidate,
    with_state,
    without_offer,
)


@pytest.mark.parametrize(
    ("offers", "action"),
    [
        ((), None),
        ((QueuedOffer(1),), Stack(1, ())),
        ((QueuedOffer(1), QueuedOffer(2), QueuedOffer(3)), Stack(1, ())),
        ((QueuedOffer(1, "checking"), QueuedOffer(2), QueuedOffer(3)), Stack(2, (1,))),
        ((QueuedOffer(1, "checking"), QueuedOffer(2, "checking", (1,))), None),
        ((QueuedOffer(1, "checking"), QueuedOffer(2, "passed", (1,))), None),
        ((QueuedOffer(1, "passed"), QueuedOffer(2, "checking", (1,))), Land(1)),
        ((QueuedOffer(1, "failed"), QueuedOffer(2, "checking", (1,))), Refuse(1)),
        ((QueuedOffer(1, "conflict"), QueuedOffer(2)), Refuse(1)),
        # One that failed on what is not settled yet is left out, but not refused.
        (
            (QueuedOffer(1, "checking"), QueuedOffer(2, "failed", (1,)), QueuedOffer(3, "checking", (1, 2))),
            Stack(3, (1,)),
        ),
        ((QueuedOffer(1, "checking"), QueuedOffer(2, "conflict", (1,)), QueuedOffer(3, "checking", (1,))), None),
        # What it stood on is gone: its failure says nothing.
        ((QueuedOffer(2, "failed", (1,)), QueuedOffer(3, "passed", (1,))), Stack(2, ())),
        # Restacked too often by others' failures: before all others, on the bare head.
        (
            (QueuedOffer(1, "checking"), QueuedOffer(2, "checking", (1,), MAX_RESTACKS)),
            Stack(2, ()),
        ),
    ],
)
def test_next_action(offers: tuple[QueuedOffer, ...], action: Action | None) -> None:
    assert next_action(offers) == action


def test_a_restack_counts_only_where_something_below_was_lost() -> None:
    offers = (QueuedOffer(1, "checking"), QueuedOffer(2, "checking", (1,)))
    gone = without_offer(offers, 1, landed=False)
    assert with_candidate(gone, Stack(2, ()), "checking") == (QueuedOffer(2, "checking", (), 1),)
    assert with_candidate(offers, Stack(2, (1, 7)), "checking")[1] == QueuedOffer(2, "checking", (1, 7), 0)
    assert with_candidate((QueuedOffer(2),), Stack(2, ()), "passed") == (QueuedOffer(2, "passed"),)


def test_what_stood_on_a_landed_offer_stands_on_the_head() -> None:
    offers = (
        QueuedOffer(1, "passed"),
        QueuedOffer(2, "passed", (1,)),
        QueuedOffer(3, "checking", (1, 2)),
        QueuedOffer(4, "checking"),
    )
    assert without_offer(offers, 1, landed=True) == (
        QueuedOffer(2, "passed"),
        QueuedOffer(3, "checking", (2,)),
        QueuedOffer(4),  # its candidate lacks what landed
    )


def test_another_head_makes_every_candidate_anew() -> None:
    assert with_all_waiting((QueuedOffer(1, "passed", (), 2), QueuedOffer(2, "failed", (1,)))) == (
        QueuedOffer(1, restacks=2),
        QueuedOffer(2),
    )


class QueueMachine(RuleBasedStateMachine):
    """Offers come, checks end well or badly in any order, ships are lost, the head is moved by others."""

    def __init__(self) -> None:
        super().__init__()
        self.offers: tuple[QueuedOffer, ...] = ()
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
        if conflicts and self.offers:
            self.against[self.tokens] = data.draw(st.sampled_from([place.token for place in self.offers]))
        self.behind[self.tokens] = len(self.offers)
        self.checks[self.tokens] = 0
        self.offers = (*self.offers, QueuedOffer(self.tokens))
        self.drive()

    def drive(self) -> None:
        while action := next_action(self.offers):
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
        self.offers = with_candidate(self.offers, action, state)

    def settle(self, action: Land | Refuse) -> None:
        content = self.verdicts[action.token]
        assert content == (*self.head, action.token), "the verdict is of exactly what lands, or is refused"
        if isinstance(action, Land):
            self.head = content
        else:
            self.refused[action.token] = content
        self.offers = without_offer(self.offers, action.token, landed=isinstance(action, Land))

    def checking(self) -> list[int]:
        return [place.token for place in self.offers if place.state == "checking"]

    @precondition(lambda self: self.checking())
    @rule(data=st.data(), passed=st.booleans())
    def check_ends(self, data: st.DataObject, *, passed: bool) -> None:
        token = data.draw(st.sampled_from(self.checking()))
        self.verdicts[token] = self.candidates[token]
        self.offers = with_state(self.offers, token, "passed" if passed else "failed")
        self.drive()

    @precondition(lambda self: self.offers)
    @rule(data=st.data())
    def ship_is_lost(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from([place.token for place in self.offers]))
        self.offers = without_offer(self.offers, token, landed=False)
        self.drive()

    @rule()
    def head_moves(self) -> None:
        self.moves += 1
        self.head = (*self.head, -self.moves)
        self.offers = with_all_waiting(self.offers)
        self.drive()

    @invariant()
    def somebody_is_at_work(self) -> None:
        assert not self.offers or self.checking(), "offers wait, and nothing is checked"

    @invariant()
    def no_offer_is_checked_for_ever(self) -> None:
        for place in self.offers:
            # Each of those before it can take its candidate away once; so can each that is moved before it.
            assert place.restacks <= MAX_RESTACKS + self.behind[place.token] + len(self.offers)

    def teardown(self) -> None:
        """Whatever has happened: once every check passes, all that is left lands."""
        while self.offers:  # the last one first: the worst order
            token = self.checking()[-1]
            self.verdicts[token] = self.candidates[token]
            self.offers = with_state(self.offers, token, "passed")
            self.drive()
        assert len(set(self.head)) == len(self.head)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
