"""Decide whether a person gave back the task of an agent with a screen of its own (``--interactive``).

A person who types ``exit`` there, or Ctrl-C twice, wants the attempt to end: it is no failure. Only keys can end the
agent at its prompt, and nobody else than a person has any; the end of an attempt in any other way is judged as ever.
A task that is given back goes to a ship at once, so somebody who does not want it tried must be able to stop that:
after :data:`MAX_GIVEN_BACK` times without a landing it is held until ``ocaptain retry``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.captain.decide.outcome import Decision

if TYPE_CHECKING:
    from ocaptain.agents.facts import Facts
    from ocaptain.protocol.messages import Outcome

MAX_GIVEN_BACK = 5
#: How the reason begins.
GIVEN_BACK = "a person ended the agent at its screen"


def is_given_back(outcome: Outcome, facts: Facts | None) -> bool:
    """Whether a person gave the task back."""
    if facts is None or facts.result is not None or (outcome.reason, outcome.code) != ("exit", 0):
        return False
    return bool(facts.left and (facts.person or facts.keys))


def decide_given_back(outcome: Outcome, facts: Facts | None, before: int) -> Decision | None:
    """Decide about a task that a person gave back; None if nobody did.

    Args:
        outcome: how the attempt ended.
        facts: of its stream.
        before: how often the task was given back before, without a landing, since its last retry.
    """
    if not is_given_back(outcome, facts):
        return None
    times = before + 1
    if times < MAX_GIVEN_BACK:
        return Decision("return", f"{GIVEN_BACK}; no try is counted", "conflict", same_ship=True)
    reason = f"{GIVEN_BACK} for the {times}th time: the task is held until it is retried"
    return Decision("return", reason, "conflict", hold=True)
