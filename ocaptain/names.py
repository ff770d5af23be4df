"""What voyages, ships and sprites are called."""

from __future__ import annotations

import re
import secrets
from typing import Literal

VOYAGE = r"voyage-[0-9a-f]{12}"
#: Takes no task: the final verify runs there, where no agent was.
VERIFY_SHIP = "ship-verify"
SHIP = rf"(?:ship-(?:0|[1-9][0-9]{{0,3}})|{VERIFY_SHIP})"
VOYAGE_ID = re.compile(VOYAGE)
SHIP_ID = re.compile(SHIP)
_SPRITE = re.compile(rf"({VOYAGE})-({SHIP})")
#: A tailnet numbers devices whose name is taken.
_DEVICE = re.compile(rf"({VOYAGE}-{SHIP})(?:-[0-9]+)?")
#: A file in the directory of a voyage that is sunk; from that no voyage comes back.
SUNK_FILE = "sunk"
ProviderName = Literal["sprites", "drydock"]
PROVIDERS: tuple[ProviderName, ...] = ("sprites", "drydock")
#: Where the final verify runs: where no agent was, or on any ship.
VerifyOn = Literal["clean", "any"]
VERIFY_ON: tuple[VerifyOn, ...] = ("clean", "any")
#: Of every sprite of ours, beside the voyage's id.
LABEL = "ocaptain"


def new_voyage_id() -> str:
    """Return a new voyage id."""
    return f"voyage-{secrets.token_hex(6)}"


def sprite_name(voyage: str, ship: str) -> str:
    """Return the name of a ship's sprite."""
    return f"{voyage}-{ship}"


def split_sprite(name: str) -> tuple[str, str] | None:
    """Return voyage and ship of a sprite's name, None if it is none of ours."""
    found = _SPRITE.fullmatch(name)
    return (found[1], found[2]) if found else None


def sprite_of_device(name: str) -> str | None:
    """Return the sprite whose device on a tailnet is called so, None if it is none of ours."""
    found = _DEVICE.fullmatch(name)
    return found[1] if found else None
