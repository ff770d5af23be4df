"""Before the fleet is destroyed: take command, stop every agent, fetch each ship's work in progress.

Runs in the process that sinks, with the captain's lock and a new epoch, over the same channels.
What is fetched is under ``refs/ocaptain/saved/<ship>/<epoch>`` before anything is destroyed; then
:func:`bundle_unlanded_work` has git check the whole repository, and writes what had not landed into a
complete bundle, proven by a clone of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ocaptain.captain.adopt import adopt_landings
from ocaptain.captain.cursors import Cursors
from ocaptain.captain.landing import Left, Owner, collect_artifacts, fetch_snapshot, save_other_work
from ocaptain.captain.records import Records
from ocaptain.captain.refs import ROOT, former_work_ref, other_ref, saved_other_ref, saved_ref, unlanded_refs, work_ref
from ocaptain.captain.ship.context import Context
from ocaptain.captain.ship.link import Link
from ocaptain.captain.ship.live import settle_live
from ocaptain.captain.transport.base import ShipFault, ShipGone, TransportError
from ocaptain.captain.views import Views
from ocaptain.errors import OcaptainError
from ocaptain.git import Git, fsck, write_proven_bundle
from ocaptain.protocol import messages as wire
from ocaptain.protocol.codec import Malformed, from_dict
from ocaptain.text import escape_control

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Claim, Ledger, ShipRow
    from ocaptain.prices import Prices

RESCUE_SECONDS = 180.0
REACH_SECONDS = 90.0  # how long all tries together may take to reach a ship; a cold one takes seconds
MAX_TRIES = 3


@dataclass(frozen=True)
class Rescue:
    """The result of rescuing one ship's work.

    Attributes:
        ship, sprite: which.
        ok: whether the ship may be destroyed: its work is here, or it has none, or it is gone.
        ref: where the work is, None if there was none.
        reason: why it could not be rescued, or why there is nothing to rescue.
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
    listed: AbstractSet[str] = frozenset(),
    prices: Prices | None = None,
) -> list[Rescue]:
    """Stop the agents of all ships and fetch their work, all ships at the same time.

    Args:
        directory: the voyage's.
        ledger: with its epoch taken.
        transports: makes the transport to a ship.
        listed: sprites that the provider lists: a ship that the ledger calls gone may exist after all.
        prices: of tokens, for the agents' last usage; by default ours.
    """
    context = Context.of(directory, ledger, prices, takes_over=True)  # loses nothing: all work is fetched
    records = Records(directory, ledger, context.prices)
    await asyncio.to_thread(context.lander.reconcile)
    await asyncio.to_thread(adopt_landings, context.git, ledger, context.lander.ref, is_strict=False)
    await asyncio.to_thread(context.artifacts.settle)
    rows = [row for row in ledger.ships() if row.state != "gone" or row.sprite in listed]
    found = await asyncio.gather(*(rescue_ship(context, records, transports(row), row) for row in rows))
    for row in rows:
        claim = ledger.held_claim(row.id)
        if claim:
            ledger.return_task(claim.token, "sunk", "the fleet was sunk")
    await settle_live(context)
    Views(directory, ledger, context.git, context.voyage.id).write_tasks(whole=True)
    return found


async def rescue_ship(context: Context, records: Records, transport: Transport, row: ShipRow) -> Rescue:
    """Stop one ship's agent and fetch its work in progress."""
    if not context.ledger.has_worked(row.id):  # it may never have been built, and would be waited for
        return Rescue(row.id, row.sprite, ok=True, reason="it never had a task")
    cursors = Cursors(row.journal, row.cursors)
    reason = ""
    clock = asyncio.get_running_loop().time
    reach_until = clock() + REACH_SECONDS
    for attempt in range(MAX_TRIES):
        try:
            async with asyncio.timeout(RESCUE_SECONDS) as limit:
                async with asyncio.timeout_at(reach_until):
                    link = await Link.open(row.id, context, transport, cursors, records.save)
                reach_until = clock() + RESCUE_SECONDS + REACH_SECONDS  # it can be reached: once more if it breaks
                try:
                    ref = await _fetch_work(context, link, transport, attempt, limit)
                finally:
                    await link.channel.close()
        except ShipGone as error:
            return Rescue(row.id, row.sprite, ok=True, reason=f"was gone already: {escape_control(str(error))}")
        except (TransportError, ShipFault, OcaptainError, Malformed, TimeoutError) as error:
            reason = escape_control(str(error)) or reason or "it does not answer"
            if clock() >= reach_until:
                break
        else:
            return Rescue(row.id, row.sprite, ok=True, ref=ref)
        await asyncio.sleep(0.5 * (attempt + 1))
    return Rescue(row.id, row.sprite, ok=False, reason=reason)


async def _fetch_work(
    context: Context, link: Link, transport: Transport, attempt: int, limit: asyncio.Timeout
) -> str | None:
    ledger, ship = context.ledger, link.ship
    held = ledger.held_claim(ship)
    name = f"{ledger.epoch}-{attempt}"
    answer = await link.call(f"rescue:{name}", wire.Rescue(name))
    if not answer.ok:
        raise TransportError(f"the ship could not pack its work: {answer.failure().reason}")
    found = from_dict(wire.RescueResult, answer.data)
    offer = found.snapshot
    if offer is None:
        return None
    if found.artifacts:
        limit.reschedule(None)  # they have a limit of their own, after which the work is fetched all the same
        await _collect_artifacts(context, ship, transport, found.artifacts)
        limit.reschedule(asyncio.get_running_loop().time() + RESCUE_SECONDS)
    others = await _save_other_work(context, ship, transport, found.other, held) if found.other else None
    if offer.left_out:
        names = ", ".join(escape_control(path) for path in offer.left_out[:10])
        raise TransportError(f"the ship cannot pack all of its work; left out: {names}")
    if offer.empty:
        return others
    base = await asyncio.to_thread(context.git.resolve, offer.base)
    await fetch_snapshot(context.git, transport, offer, base, context.limits.for_rescue())
    if await asyncio.to_thread(_is_already_saved, context, ship, offer.commit):
        return others
    ref = saved_ref(ship, ledger.epoch or 0)
    await context.lander.save_ref(ref, offer.commit)
    ledger.add_saved_ref(ref, ship, held.token if held else None, offer.commit)
    ledger.add_event("rescue", f"work in progress is saved as {ref}", ship=ship, task=held.task if held else None)
    return ref


async def _collect_artifacts(context: Context, ship: str, transport: Transport, artifacts: wire.Artifacts) -> None:
    """Fetch what the ship's last attempt left for people, unless that was fetched when it ended."""
    attempt = context.ledger.attempt_row(artifacts.token)
    if attempt is None or attempt["ship"] != ship:
        text = f"artifacts of an attempt that this ledger does not know (number {artifacts.token}) are left out"
        context.ledger.add_event("left out", text, ship=ship)
        return
    left = Left(ship, attempt["task"], attempt["number"])
    try:
        await collect_artifacts(context.artifacts, context.ledger, transport, artifacts, left, strict=True)
    except OSError as error:
        raise OcaptainError(f"its artifacts cannot be written to {context.artifacts.path}: {error.strerror}") from error


async def _save_other_work(
    context: Context, ship: str, transport: Transport, work: wire.OtherWork, held: Claim | None
) -> str | None:
    """Save what the agent committed elsewhere than in its files; return the first ref, None if nothing was new."""
    if held:
        owner, ref = Owner(ship, held.token, held.task), partial(other_ref, held.task, held.number)
    else:
        owner, ref = Owner(ship), partial(saved_other_ref, ship, context.ledger.epoch or 0)
    refs = await save_other_work(context.git, context.lander, context.ledger, transport, work, owner, ref)
    return refs[0] if refs else None


def _is_already_saved(context: Context, ship: str, commit: str) -> bool:
    """Whether a workspace's files are exactly those that one of the ship's attempts offered, or those that landed."""
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


def bundle_unlanded_work(directory: Path, ledger: Ledger) -> Path | None:
    """Check the repository and bundle the work that had not landed, so that the ships may be destroyed.

    Returns:
        The path of the bundle, None if everything had landed.

    Raises:
        GitError: the repository is damaged; nothing may be destroyed.
    """
    git = Git(directory / "repo.git")
    fsck(git)
    refs = git.refs(ROOT)
    kept = unlanded_refs(refs, ledger.rows("attempts", "token"))
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
