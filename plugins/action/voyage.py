"""Action ``voyage``: the steps of a voyage that happen on the controller (see plugins/modules/voyage.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.ansible.action import ControllerAction
from ocaptain.ansible.voyage import STATES
from ocaptain.ansible.ways import read_ways
from ocaptain.errors import UsageError

#: The connection plugin's name for the plays: a collection's has its whole one.
CONNECTION = "ocaptain.fleet.sprite" if __name__.startswith("ansible_collections.") else "sprite"


def _ways(names: list[str], hostvars: Any) -> dict[str, Any]:
    if not names:
        raise UsageError("no host of the inventory is meant: name a group that has one (ocaptain_hosts)")
    if "localhost" in names:
        raise UsageError("localhost is Ansible's name for where it runs: give the ship another one")
    return read_ways(names, hostvars)


class ActionModule(ControllerAction):
    """Parses, calls :data:`ocaptain.ansible.voyage.STATES`, returns."""

    SPEC: ClassVar = {
        "state": {"type": "str", "required": True, "choices": list(STATES)},
        "plan": {"type": "path"},
        "voyage": {"type": "str"},
        "ships": {"type": "int"},
        "repo": {"type": "str"},
        "agent": {"type": "str"},
        "agent_cmd": {"type": "str"},
        "model": {"type": "str"},
        "max_turns": {"type": "int"},
        "provider": {"type": "str", "choices": ["sprites", "drydock"]},
        "mesh": {"type": "str", "choices": ["auto", "none", "tailscale"]},
        "on_active": {"type": "str", "choices": ["resume", "refuse", "new"], "default": "resume"},
        "allow_partial": {"type": "bool", "default": False},
        "replace": {"type": "bool", "default": False},
        "ready": {"type": "list", "elements": "str", "default": []},
        "created": {"type": "list", "elements": "str", "default": []},
        "destroyed": {"type": "list", "elements": "str", "default": []},
        "failed": {"type": "dict", "default": {}},
        "abandon": {"type": "bool", "default": False},
        "strict": {"type": "bool", "default": False},
        "hosts": {"type": "list", "elements": "str"},
    }

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        given = {**args, "inventory": list(self.known.get("groups", {}).get("all", ())), "check": self.check}
        if args["hosts"] is not None:
            given["ways"] = _ways([str(name) for name in args["hosts"]], self.known["hostvars"])
        return {"connection": CONNECTION, **STATES[args["state"]](given)}
