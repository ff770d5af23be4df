"""``cost``: the cost of agents and machines so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.cli.facts import counted
from ocaptain.cli.style import HEAD, format_clock, format_money
from ocaptain.cli.tables import lay_out
from ocaptain.cli.views import find_voyage, machine_cost, print_next_of
from ocaptain.query import Query

if TYPE_CHECKING:
    from rich.text import Text

    from ocaptain.query import By, Costs, Line, Overview
    from ocaptain.voyage.home import VoyageDirectory


HEADER = ("TRIES", "TOKENS IN", "CACHED", "OUT", "AGENTS", "AWAKE", "MACHINE")
#: What is not known, or not split this way.
NOTHING = "-"


def show_cost(voyage: str | None, *, by: By, as_json: bool) -> None:
    """Show what a voyage cost."""
    directory = find_voyage(voyage)
    about, costs = read_costs(directory, by)
    if as_json:
        facts = {"voyage": about.voyage, "state": about.state, "provider": about.provider}
        render.print_json("cost", {**facts, **costs.as_dict()})
        return
    console = render.out()
    if console.is_piped:
        render.print_records(cost_records(costs))
    else:
        render.print_lines(console, cost_lines(costs, console.width))
        for note in cost_notes(costs):
            console.print(f"  {note}")
    print_next_of(directory)


def read_costs(directory: VoyageDirectory, by: By) -> tuple[Overview, Costs]:
    """Return a voyage's status and its costs, at this machine's prices.

    Args:
        directory: the voyage's.
        by: what one line of the costs is about.
    """
    query = Query(directory.path)
    about = query.overview()
    return about, query.costs(by, machine_cost(about.provider))


def cost_notes(costs: Costs) -> list[str]:
    """Return the lines to print below the table."""
    total, spent = costs.total, costs.total.spent
    machines = f"machines: {format_money(total.machine_nano or 0)} for {format_clock(total.awake_seconds or 0)} awake"
    lines = [f"{machines}; with the agents {format_money(costs.total_nano, unknown=spent.unknown > 0)}"]
    if not spent.attempts:
        lines.append("no agent has told what it used")
    if "subscription" in spent.marks:
        lines.append("a subscription is shown at list prices; it is not billed by tokens")
    if spent.unknown:
        lines.append(
            f"+ {counted(spent.unknown, 'attempt')} used a model without a known price; set it in OCAPTAIN_PRICES"
        )
    return lines


def cost_lines(costs: Costs, width: int) -> list[Text]:
    """Return the costs as a table."""
    records = cost_records(costs)
    shown = len(HEADER) if costs.by == "ship" else HEADER.index("AWAKE")
    head = (costs.by.upper(), *HEADER, "")
    rows = [[*row[: shown + 1], row[-1]] for row in (head, *records)]
    lines = lay_out(rows, width, flexible=[shown + 1] if costs.by != "model" else [0], right=range(1, shown + 1))
    lines[0].stylize(HEAD)
    lines[-1].stylize(HEAD)
    return lines


def cost_records(costs: Costs) -> list[tuple[str, ...]]:
    """Return the costs as fields: name, tries, tokens in, cached, out, agents, awake, machine, what it is.

    The last record is the total. What is not known, or not split this way, is ``-``.
    """
    return [*(_fields(line, line.name) for line in costs.lines), _fields(costs.total, "total")]


def _fields(line: Line, name: str) -> tuple[str, ...]:
    spent = line.spent
    used = (
        str(spent.attempts),
        f"{spent.tokens_in:,}",
        f"{spent.tokens_cached:,}",
        f"{spent.tokens_out:,}",
        format_money(spent.cost_nano, unknown=spent.unknown > 0),
    )
    return (
        name,
        *(used if spent.attempts else [NOTHING] * len(used)),
        NOTHING if line.awake_seconds is None else format_clock(line.awake_seconds),
        NOTHING if line.machine_nano is None else format_money(line.machine_nano),
        line.about,
    )
