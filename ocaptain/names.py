"""Names of voyages, ships and sprites."""

from __future__ import annotations

import re
from typing import Literal

VOYAGE = r"voyage-[0-9a-f]{12}"
#: A ship without tasks: the final verify runs there, where no agent has been.
VERIFY_SHIP = "ship-verify"
SHIP = rf"(?:ship-(?:0|[1-9][0-9]{{0,3}})|{VERIFY_SHIP})"
VOYAGE_ID = re.compile(VOYAGE)
SHIP_ID = re.compile(SHIP)
_SPRITE = re.compile(rf"({VOYAGE})-({SHIP})")
#: A tailnet appends a number to the name of a device if it is taken.
_DEVICE = re.compile(rf"({VOYAGE}-{SHIP})(?:-[0-9]+)?")
#: A file in the directory of a voyage that is sunk, which it stays.
SUNK_FILE = "sunk"
ProviderName = Literal["sprites", "drydock"]
PROVIDERS: tuple[ProviderName, ...] = ("sprites", "drydock")
#: Instead of a provider's name: the ships are hosts of an inventory, which ocaptain neither makes nor destroys.
HOSTS = "hosts"
#: Where the final verify runs: where no agent was, or on any ship.
VerifyOn = Literal["clean", "any"]
VERIFY_ON: tuple[VerifyOn, ...] = ("clean", "any")
#: Label of every sprite of ours; the voyage's id is another.
LABEL = "ocaptain"
#: What holds a task that people gave back too often, until it is retried.
BY_PERSON = "person"
#: How the note of a voyage begins that ended since tasks failed; their names follow.
FAILED_NOTE = "failed for good: task "


def new_voyage_id() -> str:
    """Return a new voyage id."""
    import secrets  # noqa: PLC0415 - the grammar of names is needed at each start, this for a new voyage alone

    return f"voyage-{secrets.token_hex(6)}"


def sprite_name(voyage: str, ship: str) -> str:
    """Return the name of a ship's sprite."""
    return f"{voyage}-{ship}"


def split_sprite(name: str) -> tuple[str, str] | None:
    """Return voyage and ship of a sprite's name, None if it is none of ours."""
    found = _SPRITE.fullmatch(name)
    return (found[1], found[2]) if found else None


def sprite_of_device(name: str) -> str | None:
    """Return the sprite of a tailnet device with this name, None if it is none of ours."""
    found = _DEVICE.fullmatch(name)
    return found[1] if found else None


def stage_name(stage: str) -> str:
    """Return what people call a stage of the final verify, or of the gate's trial (``setup`` or ``verify``)."""
    return "setup" if stage == "setup" else "verify.sh"
