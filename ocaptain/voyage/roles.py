"""Which of our roles build which ship: a decision, and nothing else. The plays apply them in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

#: The worker comes last: when it runs, the ship is built.
LAST = "tmux-agent"
#: Roles that an agent needs beside it: its program and its credential. ``command`` needs nothing.
OF_AGENT = {"claude": ("claude",)}
#: Roles of a mesh.
OF_MESH = {"tailscale": ("tailscale",)}


def ship_roles(tasks: Collection[tuple[str, str | None]], ship: str, mesh: str = "none") -> list[str]:
    """Return the roles of a ship: those of every agent that may work there, so that no other credential goes there.

    Args:
        tasks: that are to be done: agent, and the ship that it is pinned to or None.
        ship: its id.
        mesh: that the ships join.
    """
    agents = sorted({agent for agent, pin in tasks if pin in {None, ship}})
    return [*OF_MESH.get(mesh, ()), *(role for agent in agents for role in OF_AGENT.get(agent, ())), LAST]
