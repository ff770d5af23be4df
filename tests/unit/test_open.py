"""When a port of a ship is served on this machine, and when it is not; the rest is in ``tests/voyage/test_exec.py``."""

from __future__ import annotations

import pytest

from ocaptain.cli.preview import run_open, why_closed
from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from ocaptain.ledger.records import ShipRow
from tests.helpers import make_directory

VOYAGE = "voyage-0123456789ab"


def ship(state):
    return ShipRow("ship-0", "s", state, None, None, None, {}, None, None, "work")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("working", None),
        ("idle", None),
        ("draining", None),
        ("bootstrapping", None),
        ("asleep", "ship-0 is asleep, and a preview would wake it"),
        ("provisioning", "ship-0 is being built"),
        ("lost", "ship-0 is lost"),
        ("failed", "ship-0 is failed"),
        ("gone", "ship-0 is gone"),
    ],
)
def test_a_ship_that_is_awake_is_reached_and_no_other(state, said):
    why = why_closed(ship(state), has_captain=True)
    assert why is None if said is None else why.startswith(said)


def test_a_ship_that_was_replaced_is_not_taken_for_its_successor():
    assert "was replaced" in why_closed(None, has_captain=True)


def test_without_a_captain_nobody_says_when_a_ship_falls_asleep():
    assert "falls asleep, and a preview would wake it" in why_closed(ship("idle"), has_captain=False)


def test_hosts_are_reached_by_ssh_which_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path / "voyages"))
    made = make_directory(tmp_path, VOYAGE, "hosts", [("ship-0", "builder-1")])
    with Ledger(made.path / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("running")
        ledger.set_ship("ship-0", "idle")
    with pytest.raises(UsageError, match=r"ship-0 is a host of yours.*: ssh -L 80:127\.0\.0\.1:80 builder-1"):
        run_open(VOYAGE, "ship-0", 80)
