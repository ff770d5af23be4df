"""Voyages as screens meet them, made by the ledger's own methods: at work, with failures, ended, of any size."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.ledger import Ledger
from ocaptain.voyage.home import VoyageDirectory
from tests.helpers import new_voyage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

VOYAGE = "voyage-0123456789ab"
SUBJECTS = (
    "Add OAuth2 login",
    "修复登录页面在移动设备上的布局问题使其在小屏幕上可以正常使用",
    "Réécrire l'exposé of a page that has a long name, and that is to be read in full",
    "Ship the family emoji picker 👨‍👩‍👧‍👦",
    "データベースの移行スクリプトを書く",
)
ACTIONS = ("Edit app/login.css", "npm test", "Bash: git diff --stat", "Read docs/界面.md", "wrote 3 files")


@dataclass(frozen=True)
class Scene:
    """What a voyage is like.

    Attributes:
        tasks, ships: how many.
        landed: how many of its first tasks have landed.
        failed: tasks that failed for good, with the reason; they come before those that landed.
        retrying: tasks that failed once and are tried again, if they are among those that ships work on at the end.
        lost: ships that were lost, with the reason.
        state: it ends in; ``running``: every ship that sails has a task, if there are enough.
        layers: a task waits for the one that many numbers before it; 0 = no task waits.
        seconds: since it was made.
        subjects: of the tasks, in turn.
        logs: last line of the logs, in turn.
        name: of the plan.
    """

    tasks: int = 50
    ships: int = 5
    landed: int = 38
    failed: Mapping[str, str] = field(default_factory=lambda: {"7": 'exit 3, said "boom"'})
    retrying: Mapping[str, str] = field(default_factory=lambda: {"43": "check `false`: exit 1"})
    lost: Mapping[str, str] = field(default_factory=dict)
    state: str = "running"
    layers: int = 10
    seconds: float = 252.0
    subjects: tuple[str, ...] = SUBJECTS
    logs: tuple[str, ...] = ACTIONS
    name: str = "fifty"


def make_scene(root: Path, scene: Scene = Scene(), voyage: str = VOYAGE) -> VoyageDirectory:
    """Make the voyage's directory below ``root/voyages``; there is no repository and no captain."""
    directory = VoyageDirectory(root / "voyages" / voyage)
    directory.path.mkdir(parents=True)
    names = [str(number + 1) for number in range(scene.tasks)]
    edges = {
        name: frozenset([names[at - scene.layers]] if scene.layers and at >= scene.layers else ())
        for at, name in enumerate(names)
    }
    edges = {name: waits - set(scene.failed) for name, waits in edges.items()}
    Ledger.create(
        directory.path / "ledger.db",
        new_voyage(
            id=voyage,
            name=scene.name,
            repo="/source/todo",
            root="3f2a1c" + "0" * 34,
            tasks=[
                {
                    "id": name,
                    "position": at,
                    "subject": scene.subjects[at % len(scene.subjects)],
                    "raw": json.dumps({"id": name, "metadata": {}}),
                    "agent": "claude",
                    "pin": None,
                    "priority": scene.tasks - at,
                    "status": "pending",
                }
                for at, name in enumerate(names)
            ],
            edges=edges,
            ships=[(f"ship-{number}", f"oc-{number}") for number in range(scene.ships)],
        ),
    )
    with Ledger(directory.path / "ledger.db") as ledger:
        ledger._db.execute("PRAGMA synchronous = OFF")  # it is made, not sailed
        ledger.take_command()
        _sail(ledger, directory, scene)
        _spread_times(ledger, scene.seconds)
    return directory


def _sail(ledger: Ledger, directory: VoyageDirectory, scene: Scene) -> None:
    for number in range(scene.ships):
        ledger.set_ship(f"ship-{number}", "bootstrapping")
        ledger.set_ship(f"ship-{number}", "idle")
    ledger.set_state("running")
    landed = 0
    free = [f"ship-{number}" for number in range(scene.ships) if f"ship-{number}" not in scene.lost]
    turn = 0
    while landed < scene.landed:
        ship = free[turn % len(free)]
        claim = ledger.claim(ship)
        if claim is None:
            break
        turn += 1
        _write_log(directory, claim, scene)
        if claim.task in scene.failed:
            ledger.fail(claim.token, scene.failed[claim.task], final=True)
        else:
            commit = f"{claim.token:07x}".ljust(40, "0")
            ledger.begin_landing(claim.token, "refs/heads/x", "0" * 40, commit, {})
            ledger.finish_landing(claim.token)
            landed += 1
    for ship, reason in scene.lost.items():
        ledger.set_ship(ship, "lost", reason)
    if scene.state == "running":
        for ship in free:
            claim = ledger.claim(ship)
            if claim is not None and claim.task in scene.retrying:
                ledger.fail(claim.token, scene.retrying[claim.task])
                claim = ledger.claim(ship)
            if claim is not None:
                _write_log(directory, claim, scene)
    else:
        if scene.state == "complete":
            ledger.set_state("verifying")
            ledger.record_verify(ok=True, code=0, clean=True, commit="c" * 40, tail="ok", ship="verify")
        ledger.set_state(scene.state, "3 tasks failed" if scene.state == "failed" else None)


def _write_log(directory: VoyageDirectory, claim, scene: Scene) -> None:
    path = directory.path / "logs" / claim.ship / f"{claim.task}.{claim.number}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    last = scene.logs[claim.token % len(scene.logs)]
    path.write_bytes(f"first line of task {claim.task}\n".encode() + last.encode(errors="surrogateescape") + b"\n")


def _spread_times(ledger: Ledger, seconds: float) -> None:
    """Give all that happened its place in the time since the voyage was made."""
    now = time.time()
    began = now - seconds
    last = max(1, ledger.last_event_number())
    db = ledger._db
    db.execute("UPDATE voyage SET created = ?", (began,))
    db.execute("UPDATE events SET at = ? + ? * n / ?", (began, seconds, last))
    of_token = "(SELECT {} FROM events WHERE task = attempts.task AND kind {})"
    claimed = of_token.format("max(at)", "= 'claim'")
    over = of_token.format("max(at)", "!= 'claim'")
    ships = max(1, len(ledger.ships()))
    db.execute(f"UPDATE attempts SET started = max(?, {claimed} - ?)", (began, seconds / last * ships))
    db.execute(f"UPDATE attempts SET ended = max(started, {over}) WHERE ended IS NOT NULL")
    db.execute("UPDATE landings SET at = (SELECT at FROM events WHERE events.task = landings.task AND kind = 'landed')")
