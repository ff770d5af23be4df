"""Parse what ships report about attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ocaptain.protocol.codec import Malformed, from_dict
from ocaptain.protocol.messages import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping


def parse_outcome(data: Mapping[str, Any]) -> Outcome | str:
    """Return a ship's outcome, or as a string what is wrong with it."""
    try:
        return from_dict(Outcome, data)
    except Malformed as error:
        return f"the ship's result is not valid: {error}"
