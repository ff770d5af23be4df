"""How mirrors are, as the captain publishes it: ``mirrors.json`` in the voyage's directory.

captain ──Live.encode──> mirrors.json ──Live.decode──> Live ──health(ship, now)──> ``status``, the board
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_FILE = "mirrors.json"  #: in the voyage's directory
FRESH_SECONDS = 10.0  # without a cycle for longer, a mirror is not said to be up to date
PUBLISHED_SECONDS = 20.0  # a status file that is older was left by a captain that is gone

State: TypeAlias = Literal["watching", "catching_up", "paused", "halted", "stale", "off"]
By: TypeAlias = Literal["mutagen", "git", "none"]


@dataclass(frozen=True)
class Health:
    """How the live files of a ship are.

    Attributes:
        by: ``mutagen`` has a session for it; ``none`` = there is no mirror, and live refs (``git``) are all there is.
        state: ``watching`` only if it is true: both ends connected, no problem, and a cycle within
            :data:`FRESH_SECONDS`; ``catching_up`` = it is connected and works; ``paused`` = the ship rests;
            ``halted`` = Mutagen stopped it; ``stale`` = nothing was heard for longer; ``off`` = there is none.
        behind_seconds: since a cycle was seen last; None if none was, or if it rests.
        files, bytes: at the ship.
        problems: how many.
        first_problem: one line of harmless text.
    """

    by: By = "none"
    state: State = "off"
    behind_seconds: float | None = None
    files: int = 0
    bytes: int = 0
    problems: int = 0
    first_problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it for ``status --json``."""
        return asdict(self)


@dataclass(frozen=True)
class Live:
    """What the captain publishes about mirrors, in :data:`STATUS_FILE` of the voyage's directory.

    Attributes:
        at: when, in seconds since 1970.
        version: of Mutagen; "" if it is not used.
        why: why it is not used, or does not work now; "" if it does.
        ships: by id.
        origins: by ship: the sprite's id and the generation of what is in its folder.
    """

    at: float = 0.0
    version: str = ""
    why: str = ""
    ships: Mapping[str, Health] = field(default_factory=dict)
    origins: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the file's content."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Live:
        """Return what a file says; of one that is damaged, nothing."""
        try:
            found = json.loads(data)
            ships = {str(ship): _health_of(one) for ship, one in dict(found["ships"]).items()}
            origins = {str(ship): (str(one), int(number)) for ship, (one, number) in dict(found["origins"]).items()}
            return cls(float(found["at"]), str(found["version"]), str(found["why"]), ships, origins)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def health(self, ship: str, now: float) -> Health:
        """Return how a ship's mirror is now.

        Args:
            ship: its id.
            now: in seconds since 1970; what an earlier captain left is ``stale``, with its age.
        """
        found = self.ships.get(ship, Health())
        age = max(0.0, now - self.at)
        if found.state not in {"watching", "catching_up"}:
            return found
        behind = None if found.behind_seconds is None else found.behind_seconds + age
        if age <= PUBLISHED_SECONDS and (found.state != "watching" or (behind or 0.0) <= FRESH_SECONDS):
            return replace(found, behind_seconds=behind)
        return Health(found.by, "stale", behind, found.files, found.bytes, found.problems, found.first_problem)


def _health_of(found: Mapping[str, Any]) -> Health:
    return Health(**{one.name: found[one.name] for one in fields(Health)})
