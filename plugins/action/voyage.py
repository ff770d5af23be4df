"""Action ``voyage``: the steps of a voyage that happen on the controller (see plugins/modules/voyage.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.ansible.action import ControllerAction
from ocaptain.ansible.selection import check_selection
from ocaptain.ansible.targets import read_targets
from ocaptain.ansible.voyage import STATES, name_roles
from ocaptain.errors import UsageError
from ocaptain.options import argument_spec

IN_COLLECTION = __name__.startswith("ansible_collections.")
#: The connection plugin's name for the plays: a collection's has its whole one.
CONNECTION = "ocaptain.fleet.sprite" if IN_COLLECTION else "sprite"

#: What stands before and after a playbook's name.
PLAYBOOKS = ("ocaptain.fleet.", "") if IN_COLLECTION else ("playbooks/", ".yml")
#: The states by which a playbook begins.
WHOLE = frozenset({"prepared", "rescued"})


def _targets(names: list[str], hostvars: Any) -> dict[str, Any]:
    if not names:
        raise UsageError("no host of the inventory is meant: name a group that has one (ocaptain_hosts)")
    if "localhost" in names:
        raise UsageError("localhost is Ansible's name for where it runs: give the ship another one")
    return read_targets(names, hostvars)


def after_early_end(voyage: str) -> str:
    """Return what to do if the run ends before it says what sails."""
    sail, sink = (f"{PLAYBOOKS[0]}{name}{PLAYBOOKS[1]} -e voyage={voyage}" for name in ("sail", "sink"))
    return f"{voyage} is prepared; if this run ends early, go on with {sail}, or end it with {sink}"


class ActionModule(ControllerAction):
    """Parses, calls :data:`ocaptain.ansible.voyage.STATES`, returns."""

    SPEC: ClassVar = {
        "state": {"type": "str", "required": True, "choices": list(STATES)},
        "plan": {"type": "path"},
        "voyage": {"type": "str"},
        **argument_spec(),
        "on_active": {"type": "str", "choices": ["resume", "refuse", "new"], "default": "resume"},
        "ship": {"type": "str"},
        "is_new": {"type": "bool", "default": False},
        "joined": {"type": "list", "elements": "str", "default": []},
        "ready": {"type": "list", "elements": "str", "default": []},
        "created": {"type": "list", "elements": "str", "default": []},
        "destroyed": {"type": "list", "elements": "str", "default": []},
        "failed": {"type": "dict", "default": {}},
        "unfetched": {"type": "list", "elements": "str", "default": []},
        "abandon": {"type": "bool", "default": False},
        "strict": {"type": "bool", "default": False},
        "hosts": {"type": "list", "elements": "str"},
    }
    RULES: ClassVar = {"required_if": [("state", "joined", ["voyage", "ship"])]}

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        if args["state"] in WHOLE:
            known = self.host_vars
            check_selection(
                known.get("ansible_run_tags", ()), known.get("ansible_skip_tags", ()), known.get("ansible_limit")
            )
        given = {**args, "inventory": list(self.host_vars.get("groups", {}).get("all", ())), "check": self.check}
        if args["hosts"] is not None:
            given["targets"] = _targets([str(name) for name in args["hosts"]], self.host_vars["hostvars"])
        result = {"connection": CONNECTION, **STATES[args["state"]](given)}
        if args["state"] == "prepared" and IN_COLLECTION:
            result["voyage"]["roles"] = name_roles(result["voyage"]["roles"])
        if args["state"] == "prepared" and not self.check:
            # On stderr, since a callback may print what is read by a program. Said now: nothing of ours runs later, if
            # the run is interrupted.
            self._display.display(after_early_end(result["voyage"]["id"]), stderr=True)
        return result
