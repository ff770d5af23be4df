"""From what a ship tells of an agent's stream to what its attempt used: a pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.ledger import Spent
from ocaptain.protocol.usage import cost_of, find_price

if TYPE_CHECKING:
    from ocaptain.agents.facts import Facts
    from ocaptain.prices import Prices

MAX_COST = 2**62  # what a ledger's integer holds, whatever a ship tells at whatever price


def spent_of(facts: Facts, prices: Prices) -> Spent:
    """Return what an attempt used so far.

    What the CLI says that it billed counts up to its last result (but for models that the user priced), the
    messages after it at our prices; so a run that was killed has its cost as well. What has no price is told
    apart: a row of ``usage`` without a cost.

    What is billed is a model's sum: of how long its messages were it tells nothing, so that the user's price
    for long prompts counts for messages after it alone.
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
