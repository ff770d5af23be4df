"""What a ship's joining left on the tailnet, noted before it is there.

One file a ship below ``mesh/`` of the voyage's directory, since ships are built in parallel by
processes that do not command the ledger. A file is written anew under another name and renamed.
It is there as long as something may have to be taken away::

    minting (a key may be made) ──> key known ──> joined: key deleted, device known ──> nothing: no file
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class MeshRecord:
    """What may have to be taken away of one ship.

    Attributes:
        ship: id.
        sprite: its name on the tailnet.
        unsure: a key may have been made of which the id is not known.
        keys: ids of keys.
        nodes: ids of devices, as the ship said.
    """

    ship: str
    sprite: str
    unsure: bool = False
    keys: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def with_key(self, key: str) -> MeshRecord:
        """Return it with one more key."""
        return replace(self, keys=(*self.keys, key))

    def without_key(self, key: str) -> MeshRecord:
        """Return it without a key."""
        return replace(self, keys=tuple(one for one in self.keys if one != key))

    def with_node(self, node: str) -> MeshRecord:
        """Return it with a device, which is noted once."""
        return self if not node or node in self.nodes else replace(self, nodes=(*self.nodes, node))


class Records:
    """The records of one voyage."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "mesh"

    def get(self, ship: str, sprite: str) -> MeshRecord:
        """Return a ship's record, an empty one if there is none."""
        found = {left.ship: left for left in self.all()}
        return found.get(ship, MeshRecord(ship, sprite))

    def all(self) -> list[MeshRecord]:
        """Return every record.

        Raises:
            OcaptainError: one cannot be read.
        """
        return [self._read(file) for file in self.files()]

    def files(self) -> list[Path]:
        """Return the records' files."""
        return sorted(self.path.glob("*.json"))

    def put(self, left: MeshRecord) -> None:
        """Write a ship's record so that it is on the disk.

        Raises:
            UsageError: the ship's name is none.
        """
        if not _NAME.fullmatch(left.ship):
            raise UsageError(f"{left.ship!r} is not a ship's name (ship-0, ship-1, …)")
        self.path.mkdir(mode=0o700, exist_ok=True)
        temporary = self.path / f".{left.ship}.{os.getpid()}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(left), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.path / f"{left.ship}.json")

    def drop(self, ship: str) -> None:
        """Forget a ship: nothing of it is left."""
        (self.path / f"{ship}.json").unlink(missing_ok=True)

    @staticmethod
    def _read(file: Path) -> MeshRecord:
        try:
            fields = json.loads(file.read_text("utf-8"))
            return MeshRecord(
                str(fields["ship"]),
                str(fields["sprite"]),
                bool(fields["unsure"]),
                tuple(map(str, fields["keys"])),
                tuple(map(str, fields["nodes"])),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OcaptainError(
                f"{file} cannot be read: {error}; delete it, then remove the voyage's devices in the tailnet's console"
            ) from error
