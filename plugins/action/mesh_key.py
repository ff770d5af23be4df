"""Action ``mesh_key``: the key by which one ship joins the mesh (see plugins/modules/mesh_key.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.ansible.action import ControllerAction
from ocaptain.ansible.mesh import Joining, end_key, make_key


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

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        sprite = args["sprite"] or self.known.get("ocaptain_sprite") or self.known["inventory_hostname"]
        joining = Joining(args["voyage"], args["ship"] or self.known.get("ocaptain_ship") or sprite, sprite)
        if args["state"] == "absent":
            return end_key(joining, key=args["id"], node=args["node"], check=self.check)
        return make_key(joining, check=self.check)
