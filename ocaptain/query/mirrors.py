"""How the mirrors of ships are, beside what the ledger knows.

the captain ──mirrors.json──> Live ──health of each ship──> `mirror` of the ships of an overview
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ocaptain.ledger.live import WATCHING_SECONDS
from ocaptain.sync.live import STATUS_FILE, Live
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.ledger import Overview

__all__ = ["WATCHING_SECONDS", "live_problem", "read_mirrors", "with_mirrors"]

MAX_BYTES = 4 * 1024**2  # of the file; the captain's of a thousand ships has less
MAX_PROBLEM = 300


def read_mirrors(directory: Path) -> Live:
    """Return what the captain says of mirrors; nothing where it has not, or what it left cannot be read.

    Args:
        directory: the voyage's.
    """
    try:
        with (directory / STATUS_FILE).open("rb") as file:
            return Live.decode(file.read(MAX_BYTES))
    except OSError:
        return Live()


def with_mirrors(seen: Overview, directory: Path, now: float) -> Overview:
    """Return an overview whose ships that have a mirror say how it is.

    Args:
        seen: of the ledger.
        directory: the voyage's.
        now: in seconds since 1970.
    """
    live = read_mirrors(directory)
    if not live.ships:
        return seen
    ships = []
    for ship in seen.ships:
        found = live.health(ship["id"], now)
        told = {**found.as_json(), "first_problem": clean_line(found.first_problem, MAX_PROBLEM)}
        ships.append({**ship, "mirror": told if found.by == "mutagen" and found.state != "off" else None})
    return replace(seen, ships=ships)


def live_problem(ship: Mapping[str, Any]) -> str:
    """Return why not all files of a ship's attempt are followed, "" if they are.

    Args:
        ship: of an overview.
    """
    mirror = ship.get("mirror") or {}
    if mirror.get("first_problem") or mirror.get("state") in {"halted", "stale"}:
        of_mirror = f"the mirror is {mirror['state']}"
        return f"{of_mirror}: {mirror['first_problem']}" if mirror["first_problem"] else of_mirror
    return str((ship.get("live") or {}).get("problem") or "")
