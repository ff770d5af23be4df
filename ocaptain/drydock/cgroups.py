"""Limits of a ship's memory and processes, by control groups of version 1 or 2 (cgroups(7)).

The way of a limit::

    --ship-memory, --ship-pids ──> Limits ──find_places──> one place a controller, or why there is none
    a ship's boot ──> ShipGroups.open: a group a place, with its limit
                      the init, and every command, puts itself in before its first instruction
    a ship's end  ──> ShipGroups.close

A place is a group below which this process may make groups. In version 1 that is its own group. In version 2 a group
with processes cannot have groups with controllers below it, so the place is the nearest group above that has them
already. Where there is none, drydock does not start with a limit: a limit that does not hold is worse than none.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.drydock.errors import DrydockError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "ocaptain-"
PROCESSES_FILE = "cgroup.procs"
#: A limit's option, by its controller.
OPTIONS: Mapping[str, str] = {"memory": "--ship-memory", "pids": "--ship-pids"}
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True)
class Limits:
    """What one ship may use at most.

    Attributes:
        memory: bytes, its share of the page cache included; None = no limit.
        pids: processes and threads; None = no limit.
    """

    memory: int | None = None
    pids: int | None = None

    def controllers(self) -> list[str]:
        """Return the controllers that the limits need."""
        return [name for name in OPTIONS if getattr(self, name) is not None]


def parse_size(text: str) -> int:
    """Return the bytes of a size: a number with or without K, M, G or T (powers of 1024), as ``512M``.

    Raises:
        ValueError: it is none, or is 0.
    """
    found = re.fullmatch(r"([0-9]{1,12})([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    size = int(found[1]) * 1024 ** " KMGT".index(found[2].upper() or " ") if found else 0
    if not size:
        raise ValueError(f"not a size: {text!r}; write it as 512M or 2G")
    return size


@dataclass(frozen=True)
class Place:
    """A directory of a control-group file system.

    Attributes:
        path: of the group.
        version: 1 or 2.
    """

    path: Path
    version: int


def find_candidates(controller: str, own_groups: str, mounts: str) -> list[Place]:
    """Return the groups in which a controller's groups might be made, the nearest first.

    Args:
        controller: ``memory`` or ``pids``.
        own_groups: ``/proc/self/cgroup`` (cgroups(7)).
        mounts: ``/proc/self/mountinfo`` (proc(5)).
    """
    groups = {}
    for line in own_groups.splitlines():
        _, names, path = line.split(":", 2)
        groups.update(dict.fromkeys(names.split(","), path))  # "" is version 2
    found = []
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        root, mounted = fields.split()[3:5]
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup" and controller in options.split(",") and controller in groups:
            found += [Place(own, 1) for own in _below_mount(groups[controller], root, mounted)[:1]]
        if kind == "cgroup2" and "" in groups:
            found += [Place(own, 2) for own in _below_mount(groups[""], root, mounted)]
    return found


def _below_mount(group: str, root: str, mounted: str) -> list[Path]:
    """Return a group's directory and those above it in a mount of the hierarchy's part ``root``; [] if it has none."""
    top = root.rstrip("/")
    if group != root and not group.startswith(top + "/"):  # its own group is not shown here
        return []
    own = Path(mounted + group.removeprefix(top)) if group != root else Path(mounted)
    return [own, *(above for above in own.parents if above == Path(mounted) or Path(mounted) in above.parents)]


def find_places(limits: Limits) -> dict[str, Place]:
    """Return where the groups of the limits' controllers are made: tried by making one.

    Raises:
        DrydockError: a limit cannot be kept on this machine; the message says which, and why.
    """
    own_groups, mounts = (Path(f"/proc/self/{name}").read_text("utf-8") for name in ("cgroup", "mountinfo"))
    places, reasons = {}, []
    for controller in limits.controllers():
        why = f"no control groups with the controller {controller} are mounted"
        for place in find_candidates(controller, own_groups, mounts):
            reason = _try_place(place, controller)
            if reason is None:
                places[controller] = place
                break
            why = reason
        else:
            reasons.append(f"{OPTIONS[controller]} cannot be kept on this machine: {why}")
    if reasons:
        raise DrydockError(f"{'; '.join(reasons)}; start drydock without it")
    return places


def _try_place(place: Place, controller: str) -> str | None:
    """Return why no group with the controller can be made at a place; None if it can."""
    group = place.path / f"{PREFIX}{os.getpid()}-try-{secrets.token_hex(4)}"
    try:
        if place.version == 2 and controller not in (place.path / "cgroup.subtree_control").read_text().split():
            return f"{place.path} does not hand the controller {controller} to groups below it"
        group.mkdir()
        try:
            (group / PROCESSES_FILE).open("wb").close()
        finally:
            group.rmdir()
    except OSError as error:
        return f"no group can be made in {place.path} ({error.strerror})"
    return None


def settings(limits: Limits, controller: str, version: int) -> list[tuple[str, str]]:
    """Return the files of a group and what is written to each, in order; a name that ends with ``?`` may be missing."""
    if controller == "pids":
        return [("pids.max", str(limits.pids))]
    memory = str(limits.memory)
    if version == 1:
        return [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes?", memory)]
    return [("memory.max", memory), ("memory.swap.max?", "0")]


class ShipGroups:
    """The control groups of one ship.

    Args:
        limits: of the ship.
        places: of :func:`find_places`; {} if there are no limits.
        name: of the ship's folder, unique on this machine.
    """

    def __init__(self, limits: Limits, places: Mapping[str, Place], name: str) -> None:
        self._limits = limits
        self._groups = {
            controller: Place(place.path / f"{PREFIX}{os.getpid()}-{name}", place.version)
            for controller, place in places.items()
        }

    def open(self) -> None:
        """Make the groups and set their limits.

        Raises:
            DrydockError: one cannot be made.
        """
        try:
            for controller, group in self._groups.items():
                group.path.mkdir(exist_ok=True)  # two controllers of version 2 share one
                for name, value in settings(self._limits, controller, group.version):
                    file = group.path / name.removesuffix("?")
                    if file.exists() or not name.endswith("?"):
                        file.write_text(value, "ascii")
        except OSError as error:
            self.close()
            raise DrydockError(f"the limits of a ship cannot be set: {error}") from error

    def process_files(self) -> Sequence[Path]:
        """Return the files into which a process writes ``0`` to join the groups."""
        return [path / PROCESSES_FILE for path in dict.fromkeys(group.path for group in self._groups.values())]

    def close(self) -> None:
        """Remove the groups; the ship's processes have been killed."""
        for group in {group.path for group in self._groups.values()}:
            _remove_group(group, _CLOSE_SECONDS)


def remove_leftovers(places: Mapping[str, Place]) -> None:
    """Remove the empty groups of drydocks that have been killed."""
    for place in set(places.values()):
        for group in place.path.glob(f"{PREFIX}[0-9]*-*"):
            pid = group.name.removeprefix(PREFIX).split("-")[0]
            if not Path("/proc", pid).exists():
                _remove_group(group, 0.0)


def _remove_group(group: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while group.exists():  # it is busy until the last process is gone
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        if time.monotonic() >= until:
            return
        time.sleep(0.01)
