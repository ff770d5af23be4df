"""Collect what an attempt left for people: fetch the archive as bundles are fetched, and keep it.

It comes after the landing and before the ship's next task: no other task waits for it, and the ship still has it.
What cannot be had is told as an event; it costs neither the task nor the ship anything.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.captain.artifacts import BadArchive
from ocaptain.captain.landing.fetch import fetch_parts
from ocaptain.captain.transport.base import CutShort
from ocaptain.git import BadBundle
from ocaptain.protocol.artifacts import MAX_ARCHIVE
from ocaptain.protocol.limits import MEBIBYTE
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from ocaptain.captain.artifacts import Store, Unpacked
    from ocaptain.captain.transport.base import Transport
    from ocaptain.ledger import Ledger
    from ocaptain.protocol.messages import Artifacts

COLLECT_SECONDS = 300.0  # then the ship gets its next task
MAX_NAME = 300
MAX_TEXT = 1000
SHOWN = 5  # of what is left out, in an event


@dataclass(frozen=True)
class Left:
    """Whose artifacts they are: an attempt by its ship, its task, and its number."""

    ship: str
    task: str
    attempt: int


async def collect_artifacts(
    store: Store, ledger: Ledger, transport: Transport, artifacts: Artifacts, left: Left, *, strict: bool = False
) -> None:
    """Fetch and keep the artifacts of an attempt, unless a later one of the task has left some.

    Args:
        store: of the voyage.
        ledger: gets the events.
        transport: to the ship.
        artifacts: what the ship says.
        left: whose they are.
        strict: whether the ship is about to be destroyed: then a disk of ours that is full is an error.

    Raises:
        TransportError: the ship cannot be reached.
        OSError: ``strict``, and they cannot be written.
    """
    left_out = tuple(clean_line(one, MAX_NAME) for one in artifacts.left_out)
    found = None
    newest = store.newest(left.task)
    if newest == left.attempt:  # an earlier captain, or an earlier try, had them and did not come to say so
        return
    if newest > left.attempt:
        left_out = (f"all of attempt {left.attempt}: those of attempt {newest} are here already",)
    elif artifacts.bundle.parts:
        try:
            async with asyncio.timeout(COLLECT_SECONDS):
                found = await _fetch_and_keep(store, transport, artifacts, left, left_out)
            left_out += found.left_out
        except TimeoutError:
            left_out = (*left_out, f"all of it: it did not come within {COLLECT_SECONDS:g} s")
        except (BadArchive, BadBundle, CutShort) as error:
            left_out = (*left_out, f"all of it: {clean_line(str(error), MAX_NAME)}")
        except OSError as error:
            if strict:
                raise
            left_out = (*left_out, f"all of it: it cannot be written to {store.path}: {error.strerror}")
    _tell(ledger, left, found, left_out)


async def _fetch_and_keep(
    store: Store, transport: Transport, artifacts: Artifacts, left: Left, left_out: tuple[str, ...]
) -> Unpacked:
    size = sum(part.size for part in artifacts.bundle.parts)
    if size > MAX_ARCHIVE:
        raise BadArchive(f"it has {size // MEBIBYTE} MiB, more than {MAX_ARCHIVE // MEBIBYTE}")
    with tempfile.TemporaryFile(dir=store.path.parent) as file:
        await fetch_parts(transport, artifacts.bundle, file)
        await asyncio.to_thread(file.seek, 0)
        return await asyncio.to_thread(store.keep, left.task, left.attempt, left.ship, file, left_out)


def _tell(ledger: Ledger, left: Left, found: Unpacked | None, left_out: tuple[str, ...]) -> None:
    if found and found.files:
        number = "1 file" if found.files == 1 else f"{found.files} files"
        see = f"ocaptain artifacts {ledger.voyage().id} {left.task}"
        text = f"attempt {left.attempt} left {number}, {found.size} bytes: {see}"
        ledger.add_event("artifacts", text, ship=left.ship, task=left.task)
    if left_out:
        more = f"; and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
        text = f"artifacts that were left out: {'; '.join(left_out[:SHOWN])}"[:MAX_TEXT] + more
        ledger.add_event("left out", text, ship=left.ship, task=left.task)
