"""Action ``mesh_key``: the key by which one ship joins the mesh (see plugins/modules/mesh_key.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.ansible.action import ControllerAction
from ocaptain.ansible.mesh import JoiningShip, create_ship_key, delete_ship_key


class ActionModule(ControllerAction):
    """Parses, calls :mod:`ocaptain.ansible.mesh`, returns."""

    SPEC: ClassVar = {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "voyage": {"type": "str", "required": True},
        "ship": {"type": "str"},
        "sprite": {"type": "str"},
        "id": {"type": "str"},
        "node": {"type": "str", "default": ""},
    }
    RULES: ClassVar = {"required_if": [("state", "absent", ["id"])]}

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        sprite = args["sprite"] or self.host_vars.get("ocaptain_sprite") or self.host_vars["inventory_hostname"]
        joining = JoiningShip(args["voyage"], args["ship"] or self.host_vars.get("ocaptain_ship") or sprite, sprite)
        if args["state"] == "absent":
            return delete_ship_key(joining, key=args["id"], node=args["node"], check=self.check)
        return create_ship_key(joining, check=self.check)
