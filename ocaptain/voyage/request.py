"""What is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ocaptain.options import SailOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.captain.transport.target import SshTarget

OnActive = Literal["resume", "refuse", "new"]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        plan: directory of a plan; or ``voyage`` is given.
        voyage: one to go on with.
        options: of the voyage.
        on_active: what to do if the plan sails already.
        hosts: (name, way) of hosts that are the ships, in place of sprites.
    """

    plan: Path | None = None
    voyage: str | None = None
    options: SailOptions = field(default_factory=SailOptions)
    on_active: OnActive = "resume"
    hosts: tuple[tuple[str, SshTarget], ...] = ()

    def as_kept(self) -> dict[str, Any]:
        """Return what was asked for of a new voyage, as the ledger keeps it."""
        hosts = [name for name, _ in self.hosts]
        return {**self.options.chosen(), **({"hosts": hosts} if hosts else {})}


@dataclass(frozen=True)
class Prepared:
    """A voyage that can be provisioned.

    Attributes:
        id, directory, provider, state: of the voyage.
        ships: every ship that shall sail: (id, sprite or host).
        targets: of those that are hosts, by id.
        resumed: whether the voyage was there before.
        notes: what the user should know, a line each.
    """

    id: str
    directory: str
    provider: str
    state: str
    ships: tuple[tuple[str, str], ...]
    resumed: bool
    notes: tuple[str, ...] = field(default=())
    targets: Mapping[str, SshTarget] = field(default_factory=dict)
