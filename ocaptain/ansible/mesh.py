"""The work of the action ``mesh_key``: keys by which ships join the mesh."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.config import load_settings
from ocaptain.mesh import mint_key, record_joined, tailnet_of
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class JoiningShip:
    """A ship that joins a mesh.

    Attributes:
        voyage: id of its voyage, or any unique prefix.
        ship: id.
        sprite: its name on the tailnet.
    """

    voyage: str
    ship: str
    sprite: str

    def directory(self) -> Path:
        """Return the voyage's directory."""
        return Home(load_settings().voyages).find(self.voyage).path


def create_ship_key(joining: JoiningShip, *, check: bool) -> dict[str, Any]:
    """Mint a key for a ship; in check mode only report that one would be minted.

    Raises:
        OcaptainError: the key could not be minted.
    """
    tailnet, directory = tailnet_of(load_settings()), joining.directory()
    if check:
        return {"changed": True, "id": "", "key": ""}
    made = asyncio.run(mint_key(tailnet, directory, joining.ship, joining.sprite))
    return {"changed": True, "id": made.id, "key": made.key.get_secret_value()}


def delete_ship_key(joining: JoiningShip, *, key: str, node: str, check: bool) -> dict[str, Any]:
    """Delete a ship's key, and record the device that joined with it.

    Raises:
        OcaptainError: the key could not be deleted.
    """
    tailnet, directory = tailnet_of(load_settings()), joining.directory()
    if not check:
        asyncio.run(record_joined(tailnet, directory, joining.ship, joining.sprite, key=key, node=node))
    return {"changed": True}
