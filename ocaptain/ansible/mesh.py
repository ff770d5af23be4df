"""What the action ``mesh_key`` does: the captain's part in a ship's joining."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.config import load_settings
from ocaptain.mesh import joined, mint, tailnet_of
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Joining:
    """A ship that is to join.

    Attributes:
        voyage: id, or any unique prefix.
        ship: id.
        sprite: its name on the tailnet.
    """

    voyage: str
    ship: str
    sprite: str

    def directory(self) -> Path:
        """Return the voyage's directory."""
        return Home(load_settings().voyages).find(self.voyage).path


def make_key(joining: Joining, *, check: bool) -> dict[str, Any]:
    """Mint a key for a ship; in check mode say that one would be.

    Raises:
        OcaptainError: there is none.
    """
    tailnet, directory = tailnet_of(load_settings()), joining.directory()
    if check:
        return {"changed": True, "id": "", "key": ""}
    made = asyncio.run(mint(tailnet, directory, joining.ship, joining.sprite))
    return {"changed": True, "id": made.id, "key": made.key.get_secret_value()}


def end_key(joining: Joining, *, key: str, node: str, check: bool) -> dict[str, Any]:
    """Delete a ship's key, and note the device that joined by it.

    Raises:
        OcaptainError: it could not be deleted.
    """
    tailnet, directory = tailnet_of(load_settings()), joining.directory()
    if not check:
        asyncio.run(joined(tailnet, directory, joining.ship, joining.sprite, key=key, node=node))
    return {"changed": True}
