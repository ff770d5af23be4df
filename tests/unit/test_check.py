"""What is checked before anything is created."""

from __future__ import annotations

import json

import pytest

from ocaptain.errors import UsageError
from ocaptain.options import SailOptions
from ocaptain.plan import load_plan
from ocaptain.voyage.check import _check_interactive, _check_pins, choose_fleet_size, describe_missing_room
from ocaptain.voyage.request import Request


@pytest.mark.parametrize(
    ("running", "limit", "ships", "room"),
    [
        (None, 3, 9, None),
        (0, None, 9, None),
        (0, 3, 3, None),
        (1, 3, 3, "room for 2 of 3"),
        (5, 3, 2, "room for 0 of 2"),
    ],
)
def test_a_limit_is_said_before_anything_is_created(running, limit, ships, room):
    note = describe_missing_room(running, limit, ships)
    assert note is None if room is None else room in note


@pytest.mark.parametrize("pin", ["ship-2", "ship-01", "ship-00", "ship-99999"])
def test_a_pin_names_a_ship_that_sails(tmp_path, pin):
    (tmp_path / "spec.md").write_text("spec")
    (tmp_path / "verify.sh").write_text("true")
    (tmp_path / "tasks").mkdir()
    task = {"id": "1", "subject": "a", "description": "", "status": "pending", "metadata": {"run": "true"}}
    for name, pinned in (("1", pin), ("2", "ship-1")):
        (tmp_path / "tasks" / f"{name}.json").write_text(
            json.dumps({**task, "id": name, "metadata": {"run": "true", "pin": pinned}})
        )
    report = load_plan(tmp_path)
    if report.plan is None:  # such a pin is none at all
        assert any("metadata.pin" in str(fault) for fault in report.faults)
        return
    with pytest.raises(UsageError) as raised:
        _check_pins(report.plan, 2)
    assert [line.partition(":")[0] for line in raised.value.details] == ["tasks/1.json"]


@pytest.mark.parametrize(("asked", "plan", "default", "size"), [(2, 5, 3, 2), (None, 5, 3, 5), (None, None, 3, 3)])
def test_how_many_ships(asked, plan, default, size):
    assert choose_fleet_size(asked, plan, default) == size


@pytest.mark.parametrize("asked", [0, -1, 100_000])
def test_an_absurd_fleet_is_refused(asked):
    with pytest.raises(UsageError):
        choose_fleet_size(asked, None, 3)


@pytest.mark.parametrize(
    ("agents", "settings", "said"),
    [
        ({"1": "claude", "2": "claude"}, None, None),
        ({"1": "claude"}, "hooks", None),
        ({"1": "claude", "2": "command"}, None, "--interactive is for agents with a screen of their own (claude)"),
        ({"1": "claude"}, "trust", "--interactive does not go with --repo-settings trust"),
    ],
)
def test_only_an_agent_with_a_screen_of_its_own_is_interactive(agents, settings, said):
    request = Request(options=SailOptions(interactive=True, repo_settings=settings))
    if said is None:
        _check_interactive(agents, request)
        return
    with pytest.raises(UsageError) as raised:
        _check_interactive(agents, request)
    assert said in str(raised.value)
    assert raised.value.exit_code == 2
