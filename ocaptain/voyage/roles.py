"""Which of our roles build a ship: a decision, and nothing else. The plays apply them in this order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from ocaptain.mesh import Mesh

#: The worker comes last: when it runs, the ship is built.
LAST = "tmux-agent"


def ship_roles(agents: Collection[str], mesh: Mesh = "none") -> list[str]:
    """Return the roles of a voyage's ships.

    Args:
        agents: of the tasks that are to be done.
        mesh: that the ships join.
    """
    del agents  # ``command`` needs nothing that is not on every ship
    return [*(["tailscale"] if mesh == "tailscale" else []), LAST]
