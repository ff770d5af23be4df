"""Compute what an attempt used, from the facts that its ship read in the agent's output: a pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.ledger import Spent
from ocaptain.protocol.usage import cost_of, find_price

if TYPE_CHECKING:
    from ocaptain.agents.facts import Facts
    from ocaptain.prices import Prices

MAX_COST = 2**62  # fits the ledger's integers, whatever usage a ship reports at whatever price


def spent_of(facts: Facts, prices: Prices) -> Spent:
    """Return what an attempt used so far.

    Up to the CLI's last result the cost that it reports counts (except for models that the user priced), and for
    the messages after it our prices; so a run that was killed has a cost, too. Usage without a known price is a
    row of its own in ``usage``, without a cost.

    The CLI reports one sum for each model, without the lengths of messages, so that the user's price for long
    prompts applies only to messages after the last result.
    """
    own = {name: prices.models[name] for name in prices.own}
    rows: dict[tuple[str, bool], list[int]] = {}  # tokens and cost, by model and whether it has a price

    def add(model: str, tokens: list[int], cost: int | None) -> None:
        key = (model, cost is not None)
        rows[key] = [a + b for a, b in zip(rows.get(key, [0] * 6), [*tokens, cost or 0], strict=True)]

    for one in facts.billed:
        price = find_price(one.model, own)
        add(one.model, one.tokens, cost_of(price, one.tokens) if price else one.cost)
    for used in facts.usage:
        price = find_price(used.model, own) or find_price(used.model, prices.models)
        add(used.model, used.tokens, cost_of(price, used.tokens, is_long_prompt=used.long) if price else None)
    result = facts.result
    if result and result.total_cost is not None and not facts.billed and not facts.resumed and len(rows) == 1:
        # An older CLI: its total is of the session, which is this run.
        ((model, _), alone) = rows.popitem()
        rows[model, True] = [*alone[:5], result.total_cost]
    return Spent(
        model=max(rows, key=lambda key: rows[key][1])[0] if rows else facts.model,
        tokens_in=sum(one[0] + one[2] + one[3] + one[4] for one in rows.values()),
        tokens_out=sum(one[1] for one in rows.values()),
        tokens_cached=sum(one[2] for one in rows.values()),
        cost_nano=min(MAX_COST, sum(one[5] for one in rows.values())),
        mark=None if facts.auth is None else "subscription" if facts.auth == "none" else "api",
        usage=[
            {"model": model, "tokens": one[:5], "cost_nano": min(MAX_COST, one[5]) if known else None}
            for (model, known), one in rows.items()
        ],
    )
