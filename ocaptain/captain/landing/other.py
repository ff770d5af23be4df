"""Save what an agent committed elsewhere than in its files, under refs that the captain names."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.captain.landing.fetch import fetch_snapshot
from ocaptain.git import BadBundle
from ocaptain.protocol.limits import Limits
from ocaptain.protocol.messages import Snapshot
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.captain.landing.lander import Lander
    from ocaptain.captain.transport.base import Transport
    from ocaptain.git import Git
    from ocaptain.ledger import Ledger
    from ocaptain.protocol.messages import OtherWork

MAX_NAME = 300
MAX_TEXT = 1000


@dataclass(frozen=True)
class Owner:
    """Whose work it is: the ship, its attempt and the task, as far as they are known."""

    ship: str
    token: int | None = None
    task: str | None = None


async def save_other_work(
    git: Git,
    lander: Lander,
    ledger: Ledger,
    transport: Transport,
    work: OtherWork,
    owner: Owner,
    ref: Callable[[int], str],
) -> list[str]:
    """Fetch an agent's other commits and save each under a ref; return the refs.

    What is not valid is not saved, which is told as an event: it is no reason to lose the files.

    Args:
        git: the voyage's repository.
        lander: sets the refs.
        ledger: stores the agent's names for them.
        transport: to the ship.
        work: what the ship says.
        owner: whose it is.
        ref: returns the name of the ref with a number (1, 2, …).

    Raises:
        TransportError: the ship cannot be reached, or the bundle arrives incomplete.
        GitError: our own repository failed.
    """
    left_out = [clean_line(one, MAX_NAME) for one in work.left_out]
    saved: list[str] = []
    if {tip.commit for tip in work.tips} - ledger.saved_commits(tip.commit for tip in work.tips):
        offer = Snapshot(empty=False, bundle=work.bundle, commit=work.commit, base=work.base)
        try:
            await fetch_snapshot(git, transport, offer, None, Limits.for_other_work())
        except BadBundle as error:
            left_out.append(f"all of it: {clean_line(error.message, MAX_NAME)}")
        else:
            # A ship may name any commit; only those count that its bundle brought.
            brought = (await asyncio.to_thread(git.text, "rev-parse", f"{work.commit}^@")).split()
            tips = [tip for tip in work.tips if tip.commit in brought]
            for number, tip in enumerate(tips, 1):
                await lander.save_ref(ref(number), tip.commit)
                name = clean_line(tip.name, MAX_NAME)
                ledger.add_saved_ref(ref(number), owner.ship, owner.token, tip.commit, name=name, size=tip.size)
                saved.append(f"{ref(number)} ({clean_line(tip.name, 80)})")
    _tell(ledger, owner, saved, left_out)
    return [text.partition(" ")[0] for text in saved]


def _tell(ledger: Ledger, owner: Owner, saved: list[str], left_out: list[str]) -> None:
    for kind, told, found in (
        ("saved", "commits that are not in the files are saved", saved),
        ("left out", "commits that are not in the files could not all be saved", left_out),
    ):
        if found:
            more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
            text = f"{told}: {'; '.join(found[:5])}"[:MAX_TEXT] + more
            ledger.add_event(kind, text, ship=owner.ship, task=owner.task)
