"""``cost``: the cost of agents and machines so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from ocaptain.cli import render
from ocaptain.cli.views import find_voyage, print_next_of
from ocaptain.config import load_settings
from ocaptain.prices import load_prices
from ocaptain.protocol.usage import format_dollars
from ocaptain.query import Query
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from ocaptain.query import By, Costs, Line, Overview
    from ocaptain.voyage.home import VoyageDirectory


def show_cost(voyage: str | None, *, by: By, as_json: bool) -> None:
    """Show what a voyage cost."""
    directory = find_voyage(voyage)
    about, costs = read_costs(directory, by)
    if as_json:
        facts = {"voyage": about.voyage, "state": about.state, "provider": about.provider}
        render.print_json("cost", {**facts, **costs.as_dict()})
        return
    console = render.out()
    console.show(cost_table(costs, plain=console.is_plain))
    for note in cost_notes(costs):
        console.print(f"  {note}")
    print_next_of(directory)


def read_costs(directory: VoyageDirectory, by: By) -> tuple[Overview, Costs]:
    """Return a voyage's status and its costs, at this machine's prices.

    Args:
        directory: the voyage's.
        by: what one line of the costs is about.
    """
    prices = load_prices(load_settings().prices)
    query = Query(directory.path)
    about = query.overview()
    price = prices.machines.get(about.provider)
    return about, query.costs(by, price.cost if price else lambda _: 0)


def cost_notes(costs: Costs) -> list[str]:
    """Return the lines to print below the table."""
    total, spent = costs.total, costs.total.spent
    machines = (
        f"machines: {format_dollars(total.machine_nano or 0)} for {format_duration(total.awake_seconds or 0)} awake"
    )
    lines = [f"{machines}; with the agents {format_dollars(costs.total_nano)}{'+' if spent.unknown else ''}"]
    if "subscription" in spent.marks:
        lines.append("a subscription is shown at list prices; it is not billed by tokens")
    if spent.unknown:
        lines.append(f"+ {spent.unknown} attempts used a model without a known price; set it in OCAPTAIN_PRICES")
    return lines


def cost_table(costs: Costs, *, plain: bool = False) -> Table:
    """Return the costs as a table; ``plain``: with full names."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(costs.by, no_wrap=True)
    for name in (
        "tries",
        "tokens in",
        "cached",
        "out",
        "agents",
        *(("awake", "machine") if costs.by == "ship" else ()),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    for line in costs.lines:
        table.add_row(*_cells(costs, line, plain=plain))
    table.add_row(*_cells(costs, costs.total, "total"), style="bold")
    return table


def _cells(costs: Costs, line: Line, name: str | None = None, *, plain: bool = False) -> list[str]:
    spent = line.spent
    return [
        name or clean_line(line.name, 0 if plain else 40),
        str(spent.attempts or ""),
        f"{spent.tokens_in:,}",
        f"{spent.tokens_cached:,}",
        f"{spent.tokens_out:,}",
        f"{format_dollars(spent.cost_nano)}{'+' if spent.unknown else ''}",
        *(
            [format_duration(line.awake_seconds or 0), format_dollars(line.machine_nano or 0)]
            if costs.by == "ship"
            else []
        ),
        clean_line(line.about, 0 if plain else 50),
    ]


def format_duration(seconds: float) -> str:
    """Format a time as ``1:02:03``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
