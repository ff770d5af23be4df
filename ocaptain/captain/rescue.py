"""Before the fleet goes: take command, stop every agent, fetch what each ship was at.

Runs in the process that sinks, with the captain's lock and a new epoch, over the same channels.
What is fetched is under ``refs/ocaptain/saved/<ship>/<epoch>`` before anything is destroyed; then
:func:`prove` has git look at the whole repository, and puts what had not landed into a bundle that
stands by itself and was cloned once.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.captain.adopt import adopt
from ocaptain.captain.cursors import Cursors
from ocaptain.captain.landing import fetch
from ocaptain.captain.records import Records
from ocaptain.captain.refs import ROOT, former_work_ref, saved_ref, unlanded, work_ref
from ocaptain.captain.ship.context import Context
from ocaptain.captain.ship.link import Link
from ocaptain.captain.transport.base import ShipFault, ShipGone, TransportError
from ocaptain.captain.views import Views
from ocaptain.errors import OcaptainError
from ocaptain.git import Git, fsck, write_proven_bundle
from ocaptain.protocol import messages as wire
from ocaptain.protocol.codec import Malformed, from_dict
from ocaptain.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Ledger, ShipRow
    from ocaptain.prices import Prices

RESCUE_SECONDS = 180.0
TRIES = 3


@dataclass(frozen=True)
class Rescue:
    """What became of one ship's work.

    Attributes:
        ship, sprite: which.
        ok: nothing more of it is needed: the work is here, or there is none, or the ship is gone.
        ref: where the work is, None if there was none.
        reason: why not, or that the ship is gone.
    """

    ship: str
    sprite: str
    ok: bool
    ref: str | None = None
    reason: str | None = None


async def rescue(
    directory: Path,
    ledger: Ledger,
    transports: Callable[[ShipRow], Transport],
    there: AbstractSet[str] = frozenset(),
    prices: Prices | None = None,
) -> list[Rescue]:
    """Stop and fetch every ship, all at once.

    Args:
        directory: the voyage's.
        ledger: with its epoch taken.
        transports: make the way to a ship.
        there: sprites that the provider lists: what the ledger calls gone may be there after all.
        prices: of what agents used at last; by default ours.
    """
    context = Context.of(directory, ledger, prices, takes_over=True)  # nothing is lost by it: all is fetched
    records = Records(directory, ledger, context.prices)
    await asyncio.to_thread(context.lander.reconcile)
    await asyncio.to_thread(adopt, context.git, ledger, context.lander.ref, may_refuse=False)
    rows = [row for row in ledger.ships() if row.state != "gone" or row.sprite in there]
    found = await asyncio.gather(*(rescue_ship(context, records, transports(row), row) for row in rows))
    for row in rows:
        claim = ledger.held(row.id)
        if claim:
            ledger.give_back(claim.token, "sunk", "the fleet was sunk")
    Views(directory, ledger, context.git, context.voyage.id).write_tasks(whole=True)
    return found


async def rescue_ship(context: Context, records: Records, transport: Transport, row: ShipRow) -> Rescue:
    """Stop one ship and fetch what it was at."""
    if not context.ledger.worked(row.id):  # it may never have been built, and would be waited for
        return Rescue(row.id, row.sprite, ok=True, reason="it never had a task")
    cursors = Cursors(row.journal, row.cursors)
    reason = ""
    for attempt in range(TRIES):
        try:
            async with asyncio.timeout(RESCUE_SECONDS):
                link = await Link.open(row.id, context, transport, cursors, records.take)
                try:
                    ref = await _fetch_work(context, link, transport, attempt)
                finally:
                    await link.channel.close()
        except ShipGone as error:
            return Rescue(row.id, row.sprite, ok=True, reason=f"was gone already: {clean(str(error))}")
        except (TransportError, ShipFault, OcaptainError, Malformed, TimeoutError) as error:
            reason = clean(str(error)) or f"no answer in {RESCUE_SECONDS:g} s"
        else:
            return Rescue(row.id, row.sprite, ok=True, ref=ref)
        await asyncio.sleep(0.5 * (attempt + 1))
    return Rescue(row.id, row.sprite, ok=False, reason=reason)


async def _fetch_work(context: Context, link: Link, transport: Transport, attempt: int) -> str | None:
    ledger, ship = context.ledger, link.ship
    held = ledger.held(ship)
    name = f"{ledger.epoch}-{attempt}"
    answer = await link.call(f"rescue:{name}", wire.Rescue(name))
    if not answer.ok:
        raise TransportError(f"the work could not be packed: {answer.failure().reason}")
    offer = from_dict(wire.RescueResult, answer.data).snapshot
    if offer is None:
        return None
    if offer.left_out:
        names = ", ".join(clean(path) for path in offer.left_out[:10])
        raise TransportError(f"not all of its work can be packed: {names}")
    if offer.empty:
        return None
    there = await asyncio.to_thread(context.git.resolve, offer.base)
    await fetch(context.git, transport, offer, there, context.limits.for_rescue())
    if await asyncio.to_thread(_is_known, context, ship, offer.commit):
        return None
    ref = saved_ref(ship, ledger.epoch or 0)
    await context.lander.save_ref(ref, offer.commit)
    ledger.add_saved_ref(ref, ship, held.token if held else None, offer.commit)
    ledger.event("rescue", f"work in progress is {ref}", ship=ship, task=held.task if held else None)
    return ref


def _is_known(context: Context, ship: str, commit: str) -> bool:
    """Whether a workspace holds just what one of the ship's attempts offered, or what landed."""
    tree = context.git.tree(commit)
    offered = [
        name(row["task"], row["number"])
        for row in context.ledger.rows("attempts", "token")
        if row["ship"] == ship and row["work"]
        for name in (work_ref, former_work_ref)
    ]
    refs = context.git.refs("refs")
    known = [*offered, context.lander.ref]
    return any(context.git.tree(refs[ref]) == tree for ref in known if ref in refs)


def prove(directory: Path, ledger: Ledger) -> Path | None:
    """Prove that what is here is sound, so that the ships may go.

    Returns:
        The bundle of what had not landed, None if everything had.

    Raises:
        GitError: the repository is not sound; nothing may be destroyed.
    """
    git = Git(directory / "repo.git")
    fsck(git)
    refs = git.refs(ROOT)
    kept = unlanded(refs, ledger.rows("attempts", "token"))
    if not kept:
        return None
    branch = f"refs/heads/{ledger.voyage().id}"
    wanted = {**kept, **({branch: head} if (head := git.resolve(branch)) else {})}
    name = hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()[:12]
    path = directory / "rescue" / f"{name}.bundle"
    if not path.exists():  # the same refs were proven before
        path.parent.mkdir(exist_ok=True)
        write_proven_bundle(git, wanted, path)
    return path
