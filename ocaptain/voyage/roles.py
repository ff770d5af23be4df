"""The roles that build each ship, and the facts they use. The plays apply them in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.agents import ADAPTERS, agent_roles
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger
from ocaptain.names import VERIFY_SHIP
from ocaptain.protocol.files import write_atomic
from ocaptain.voyage.host_ports import find_host_ports, service_urls
from ocaptain.worker.build import worker_path

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from ocaptain.config import Settings
    from ocaptain.ledger import Voyage

#: The worker comes last: when it runs, the ship is built.
LAST_ROLE = "tmux-agent"
#: Roles by mesh.
MESH_ROLES = {"tailscale": ("tailscale",)}


def ship_roles(agent_pins: Collection[tuple[str, str | None]], ship: str, mesh: str = "none") -> list[str]:
    """Return the roles of a ship: only those of agents that may work there, so that it gets no other credential.

    Args:
        agent_pins: of each open task: (agent, ship that the task is pinned to or None).
        ship: id of the ship.
        mesh: network that the ships join.
    """
    if ship == VERIFY_SHIP:
        return [LAST_ROLE]  # no agent, no credential, no network of the others
    agents = sorted({agent for agent, pin in agent_pins if pin in {None, ship} and agent in ADAPTERS})
    return [*MESH_ROLES.get(mesh, ()), *(role for agent in agents for role in agent_roles(agent)), LAST_ROLE]


@dataclass(frozen=True)
class ShipFacts:
    """Facts from which the ships of a voyage are built.

    Attributes:
        roles: roles of each ship, by its id.
        mesh: network that they join.
        login_server: login server of the mesh; "" = Tailscale's own.
        spec_file, verify_file: files with the plan's ``spec.md`` and ``verify.sh``, on this machine. Never their
            texts: Ansible repeats a result in every event, and an event of some hundred kilobytes ends the run.
        worker: path of the worker on this machine.
        host_ports: ports of this machine that the ships need, by what for; empty where ships are elsewhere.
    """

    roles: Mapping[str, Sequence[str]]
    mesh: str
    login_server: str
    spec_file: str
    verify_file: str
    worker: str
    host_ports: Mapping[int, str]


def ship_facts(directory: Path, settings: Settings) -> ShipFacts:
    """Return the facts from which the ships of the voyage in a directory are built.

    The plan's documents are written to ``plan/`` there, from the ledger.

    Raises:
        LedgerError: its ledger cannot be read.
        OcaptainError: the documents cannot be written.
    """
    with Ledger(directory / "ledger.db") as ledger:
        voyage, ships = ledger.voyage(), ledger.ships()
        left = [row for row in ledger.rows("tasks", "position") if row["agent"] and row["status"] != "completed"]
    agent_pins = [(row["agent"], row["pin"]) for row in left]
    spec_file, verify_file = _write_documents(
        directory / "plan", {"spec.md": voyage.spec.encode(), "verify.sh": voyage.verify_script}
    )
    return ShipFacts(
        roles={ship.id: ship_roles(agent_pins, ship.id, voyage.mesh) for ship in ships},
        mesh=voyage.mesh,
        login_server=settings.tailscale_login_server or "",
        spec_file=spec_file,
        verify_file=verify_file,
        worker=str(worker_path()),
        host_ports=_find_host_ports(voyage, [agent for agent, _ in agent_pins], settings),
    )


def _find_host_ports(voyage: Voyage, agents: Sequence[str], settings: Settings) -> dict[int, str]:
    if voyage.provider != "drydock":
        return {}
    login_server = settings.tailscale_login_server if voyage.mesh == "tailscale" else None
    return find_host_ports(service_urls(agents, voyage.repo, login_server or ""))


def _write_documents(directory: Path, documents: Mapping[str, bytes]) -> list[str]:
    """Write files that differ from what they should be; return their paths."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for name, data in documents.items():
            path = directory / name
            if not path.is_file() or path.read_bytes() != data:
                write_atomic(path, data)
    except OSError as error:
        raise OcaptainError(f"{directory} cannot be written: {error.strerror}") from error
    return [str(directory / name) for name in documents]
