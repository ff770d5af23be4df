"""Records of what a ship has on the tailnet, written before it is created there.

One file for each ship below ``mesh/`` of the voyage's directory, since ships are built in parallel by
processes that do not command the ledger. A file is written under another name and
renamed. It exists as long as something may have to be removed::

    minting (a key may be made) ──> key known ──> joined: key deleted, device known ──> nothing: no file
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError, UsageError
from ocaptain.protocol.files import write_json

if TYPE_CHECKING:
    from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class MeshRecord:
    """Keys and devices of one ship that may have to be removed.

    Attributes:
        ship: id.
        sprite: its name on the tailnet.
        unsure: whether a key with an unknown id may have been made.
        keys: ids of keys.
        nodes: ids of devices, as the ship reported them.
    """

    ship: str
    sprite: str
    unsure: bool = False
    keys: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    def with_key(self, key: str) -> MeshRecord:
        """Return a copy with one more key."""
        return replace(self, keys=(*self.keys, key))

    def without_key(self, key: str) -> MeshRecord:
        """Return a copy without this key."""
        return replace(self, keys=tuple(one for one in self.keys if one != key))

    def with_node(self, node: str) -> MeshRecord:
        """Return a copy with this device, once."""
        return self if not node or node in self.nodes else replace(self, nodes=(*self.nodes, node))


class MeshRecords:
    """The records of one voyage."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "mesh"

    def get(self, ship: str, sprite: str) -> MeshRecord:
        """Return a ship's record, an empty one if there is none."""
        found = {record.ship: record for record in self.all()}
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

    def put(self, record: MeshRecord) -> None:
        """Write a ship's record durably to disk.

        Raises:
            UsageError: the ship's name is not valid.
        """
        if not _NAME.fullmatch(record.ship):
            raise UsageError(f"{record.ship!r} is not a ship's name (ship-0, ship-1, …)")
        self.path.mkdir(mode=0o700, exist_ok=True)
        write_json(self.path / f"{record.ship}.json", asdict(record))

    def drop(self, ship: str) -> None:
        """Delete the record of a ship of which nothing is record."""
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
