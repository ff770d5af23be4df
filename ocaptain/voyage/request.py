"""A request for a voyage, and the prepared voyage that answers it."""

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
    """A request for a voyage: a new one of ``plan``, or ``voyage`` to resume.

    Attributes:
        plan: directory of a plan.
        voyage: id of the voyage to resume, or a prefix of it.
        options: options of the voyage.
        on_active: what to do if the plan has an active voyage.
        hosts: (name, target) of the hosts that become the ships, instead of sprites.
    """

    plan: Path | None = None
    voyage: str | None = None
    options: SailOptions = field(default_factory=SailOptions)
    on_active: OnActive = "resume"
    hosts: tuple[tuple[str, SshTarget], ...] = ()

    def as_ledger_options(self) -> dict[str, Any]:
        """Return the options of a new voyage, as the ledger stores them."""
        hosts = [name for name, _ in self.hosts]
        return {**self.options.non_default(), **({"hosts": hosts} if hosts else {})}


@dataclass(frozen=True)
class Prepared:
    """A voyage whose ships can be provisioned.

    Attributes:
        id, directory, provider, state: facts of the voyage.
        ships: the ships that should sail: (id, name of the sprite or host).
        targets: how to reach those that are hosts, by id.
        resumed: whether the voyage existed before.
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
