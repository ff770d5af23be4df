"""What agents reported by OTLP, in words: pure functions of sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.telemetry.store import LOSSES
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from ocaptain.telemetry.store import Reported

#: So many tools are named.
MAX_TOOLS = 4
_MAX_NAME = 24


def reported_text(found: Reported | None) -> str:
    """Return tokens and calls of tools, "" if there is nothing to say."""
    if found is None:
        return ""
    parts = []
    if found.tokens_in or found.tokens_out:
        parts.append(f"{found.tokens_in:,} tokens in, {found.tokens_out:,} out")
    if found.tools:
        total = sum(calls for calls, _ in found.tools.values())
        named = [
            f"{clean_line(name, _MAX_NAME)} {calls:,}" for name, (calls, _) in list(found.tools.items())[:MAX_TOOLS]
        ]
        more = ["…"] if len(found.tools) > MAX_TOOLS else []
        failed = sum(failed for _, failed in found.tools.values())
        fails = f", {failed:,} failed" if failed else ""
        parts.append(f"{total:,} tool {'call' if total == 1 else 'calls'} ({', '.join([*named, *more])}{fails})")
    return " · ".join(parts)


def loss_text(found: Reported | None) -> str:
    """Return how many calls of agents were lost and why, "" for none."""
    if found is None:
        return ""
    parts = [f"{calls:,} {LOSSES.get(reason, reason)}" for reason, calls in found.lost.items() if calls]
    return "; ".join(parts)


def reported_lines(found: Reported | None) -> list[str]:
    """Return what agents reported, in all and of each ship, and what was lost; [] if there is nothing to say."""
    if found is None:
        return []
    ships = [
        f"{clean_line(ship, _MAX_NAME)}: {read:,} tokens in, {written:,} out, {calls:,} tool calls"
        for ship, (read, written, calls) in found.by_ship.items()
    ]
    facts = [("agents reported", reported_text(found)), ("not all of it is there", loss_text(found))]
    return [*(f"{key}: {text}" for key, text in facts if text), *ships]
