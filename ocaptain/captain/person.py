"""Show that an agent with a screen of its own waits for a person: as the reason of its ship, and as an event.

::

    ship's facts (``waits``) ──records──> the ship's ``reason`` ──> status, watch, events, JSON

The wait ends by what the person types, or as a stall after the task's limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.text import clean_line

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger

#: How the reason of such a ship begins.
WAITS = "waits for a person"


def show_wait(ledger: Ledger, ship: str, token: int, waits: str | None) -> None:
    """Show what the agent of a ship waits for, or that it goes on.

    Args:
        ledger: the voyage's.
        ship: its id.
        token: the attempt that said so; one that has ended says nothing any more.
        waits: for what, None if it does not wait.
    """
    row, claim = ledger.ship_row(ship), ledger.held_claim(ship)
    if claim is None or claim.token != token or row.state != "working":
        return
    if waits:
        reason = f"{WAITS} ({clean_line(waits, 60)}): ocaptain shell {ledger.voyage().id} {ship} --write"
        ledger.set_ship(ship, "working", reason)
    else:
        end_wait(ledger, ship)


def end_wait(ledger: Ledger, ship: str) -> None:
    """Show that a ship's agent does not wait for a person any more."""
    row = ledger.ship_row(ship)
    if row.state == "working" and (row.reason or "").startswith(WAITS):
        ledger.set_ship(ship, "working")
