"""From what a ship tells of an agent's stream to what its attempt used: a pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.ledger import Spent
from ocaptain.protocol.usage import cost_of, price_of

if TYPE_CHECKING:
    from ocaptain.agents.verdict import Facts
    from ocaptain.prices import Prices


def spent_of(facts: Facts, prices: Prices) -> Spent:
    """Return what an attempt used so far.

    What the CLI says that it billed counts up to its last result, the messages after it at our prices;
    so a run that was killed has its cost as well.
    """
    models: dict[str, list[int | None]] = {}

    def add(model: str, tokens: list[int], cost: int | None) -> None:
        before = models.setdefault(model, [0, 0, 0, 0, 0, 0])
        sums = [(a or 0) + b for a, b in zip(before[:5], tokens, strict=True)]
        known = None if before[5] is None or cost is None else before[5] + cost
        models[model] = [*sums, known]

    for one in facts.billed:
        price = prices.models[one.model] if one.model in prices.own else None
        add(one.model, one.tokens, cost_of(price, one.tokens) if price else one.cost)
    for used in facts.usage:
        price = price_of(used.model, prices.models)
        add(used.model, used.tokens, cost_of(price, used.tokens, long=used.long) if price else None)
    result = facts.result
    if result and result.total_cost is not None and not facts.billed and not facts.resumed and len(models) == 1:
        # An older CLI: its total is of the session, which is this run.
        (alone,) = models.values()
        alone[5] = result.total_cost
    costs = [one[5] for one in models.values()]
    return Spent(
        model=max(models, key=lambda name: models[name][1] or 0) if models else facts.model,
        tokens_in=sum((one[0] or 0) + (one[2] or 0) + (one[3] or 0) + (one[4] or 0) for one in models.values()),
        tokens_out=sum(one[1] or 0 for one in models.values()),
        tokens_cached=sum(one[2] or 0 for one in models.values()),
        cost_nano=None if None in costs else sum(one or 0 for one in costs),
        mark=None if facts.auth is None else "subscription" if facts.auth == "none" else "api",
        usage=[{"model": name, "tokens": one[:5], "cost_nano": one[5]} for name, one in models.items()],
    )
