"""What the captain knows of one ship's mirror, and the program that the ship needs for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.captain.transport.base import run
from ocaptain.sync.agent import agent_path, find_bundle, probe_argv, read_agent
from ocaptain.sync.spec import health

if TYPE_CHECKING:
    from ocaptain.captain.transport.base import Transport
    from ocaptain.sync.live import Health
    from ocaptain.sync.mutagen import Binary
    from ocaptain.sync.spec import Session

FLUSH_AFTER = 4.0  # seconds without a cycle, after which one is asked for: nothing else shows that a link is dead
PROBE_SECONDS = 30.0


@dataclass
class ShipMirror:
    """What is known of a ship and its mirror.

    Attributes:
        host: its sprite's name.
        way: to it, while its channel is open.
        at_work: whether it is kept awake anyway; only then it may be dialled.
        is_lost: whether its sprite is gone, or out of service for good.
        origin: the provider's id of the sprite behind ``way``; "" while it was not asked.
        has_agent: whether Mutagen's agent is there.
        is_admitted: whether the switch lets Mutagen reach it.
        too_large: whether its files are too many to be mirrored.
        problem: what failed last; "" = nothing.
        session: that it has, by the last list.
        cycles, cycle_at: the count of cycles, and when it was seen to grow, on the loop's clock.
    """

    host: str
    way: Transport | None = None
    at_work: bool = False
    is_lost: bool = False
    origin: str = ""
    has_agent: bool = False
    is_admitted: bool = False
    too_large: bool = False
    problem: str = ""
    session: Session | None = None
    cycles: int = 0
    cycle_at: float | None = None

    def may_dial(self, way: Transport) -> bool:
        """Whether the ship may be reached on this way: it is at work, and its channel is the one that it was."""
        return self.at_work and self.way is way

    def note(self, session: Session | None, now: float) -> None:
        """Note the session that the ship has by the list, None if it has none.

        Args:
            session: its only one, or the first.
            now: on the loop's clock.
        """
        before, self.session = self.session, session
        if session is None or before is None or session.id != before.id or session.cycles < self.cycles:
            self.cycles, self.cycle_at = 0, None
        if session and session.cycles > self.cycles:
            self.cycles, self.cycle_at = session.cycles, now

    def needs_flush(self, now: float) -> bool:
        """Whether only a flush can show that the link lives: nothing changed for a while."""
        is_quiet = self.cycle_at is not None and now - self.cycle_at > FLUSH_AFTER
        return is_quiet and self.is_admitted and self.session is not None and self.session.connected

    def health(self, now: float) -> Health:
        """Return how the mirror is."""
        found = health(self.session, None if self.cycle_at is None else now - self.cycle_at)
        if self.problem and found.state != "watching":
            return replace(found, problems=found.problems + 1, first_problem=found.first_problem or self.problem)
        return found


async def bring_agent(way: Transport, binary: Binary) -> int:
    """Put Mutagen's agent on a ship that lacks it, from the user's own bundle; without one, Mutagen brings it itself.

    Returns:
        How many bytes were sent.

    Raises:
        TransportError: the ship cannot be reached.
        OSError: the bundle cannot be read.
    """
    said = await run(way, probe_argv(binary.version), PROBE_SECONDS)
    machine = said.stdout.decode(errors="replace").strip()
    bundle = find_bundle(binary.path)
    if said.code or machine == "there" or bundle is None:
        return 0
    agent = await asyncio.to_thread(read_agent, bundle, machine)
    if agent is None:
        return 0
    path = agent_path(binary.version)
    await way.put(path, agent)
    await run(way, ["chmod", "700", path], PROBE_SECONDS)
    return len(agent)
