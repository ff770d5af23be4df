"""What a ``sail`` does before its voyage works: steps of Ansible's run, and how many ships are built.

events of Ansible ──note──> Building ──building_lines, with_steps──> the screen
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ocaptain.cli.board import clip, join, phase_text, spread
from ocaptain.cli.style import HEAD, QUIET, fit, format_clock
from ocaptain.query import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.ansible.runner import Event
    from ocaptain.query import Snapshot

PREPARE_TASK = "Check everything and prepare the voyage"
BUILT_TASK = "Join the voyage"
LAUNCH_TASK = "Complete the fleet"
#: Tasks that only choose what comes next; they say nothing of what a ship is at.
_FRAMES = re.compile("Build the ship( once more| after all)?$|Apply the roles$|Validating arguments ")


@dataclass
class Building:
    """How far a ``sail`` is before its voyage works.

    Attributes:
        title: name of the plan, or id of the voyage that is resumed.
        began: in seconds since 1970.
        step: what this machine does now, "" if nothing is known.
        ships: ids of the ships, by the name of their machine.
        at: what is done on each ship now, by ship.
        built: ships that are built.
        is_over: whether the voyage was handed to the captain.
    """

    title: str
    began: float
    step: str = ""
    ships: dict[str, str] = field(default_factory=dict)
    at: dict[str, str] = field(default_factory=dict)
    built: set[str] = field(default_factory=set)
    is_over: bool = False

    def begin_ships(self, ships: Sequence[Mapping[str, Any]]) -> None:
        """Note which ships are to be built."""
        self.ships = {str(ship["sprite"]): str(ship["id"]) for ship in ships}

    def note(self, event: Event) -> None:
        """Note an event of Ansible's."""
        ship = self.ships.get(event.host)
        step = event.task.rpartition(" : ")[2]
        if event.kind == "runner_on_start" and ship and not _FRAMES.match(step):
            self.at[ship] = step
        elif event.kind == "runner_on_ok" and ship and event.task == BUILT_TASK:
            self.built.add(ship)
        elif event.kind == "runner_on_start" and event.host == "localhost":
            self.step = event.task
        elif event.kind == "runner_on_ok" and event.host == "localhost" and event.task == LAUNCH_TASK:
            self.is_over = True


def building_lines(state: Building, now: float, width: int, height: int) -> list[Text]:
    """Return the screen while there is no voyage yet: name and time, phases, what is done now."""
    clock = Text(format_clock(now - state.began))
    head = spread(Text(fit(state.title, max(0, width - clock.cell_len - 2)), style=HEAD), clock, width)
    phases = [
        Phase("plan and repository", "now", "", state.began),
        *(Phase(name, "next") for name in ("ships", "work", "verify")),
    ]
    step = Text(fit(f"{state.step or 'checks plan and repository'} …", width), style=QUIET)
    return [head, clip(join([phase_text(one, now) for one in phases]), width), step][: max(0, height)]


def with_steps(seen: Snapshot, state: Building) -> tuple[Snapshot, dict[str, str]]:
    """Return a voyage with its built ships counted as they come, and what is done on each ship now."""
    if state.is_over:
        return seen, {}
    crew = {ship.id for ship in seen.ships if ship.is_crew}
    phases = tuple(
        replace(one, text=f"{len(crew & state.built)}/{len(crew)}")
        if one.name == "ships" and one.state == "now"
        else one
        for one in seen.phases
    )
    ships = tuple(
        replace(ship, state="bootstrapping") if ship.id in state.built and ship.state == "provisioning" else ship
        for ship in seen.ships
    )
    return replace(seen, phases=phases, ships=ships), dict(state.at)
