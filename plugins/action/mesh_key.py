"""Action ``mesh_key``: the key by which one ship joins the mesh (see plugins/modules/mesh_key.py)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure
from ocaptain.ansible.mesh import Joining, end_key, make_key
from ocaptain.errors import OcaptainError

SPEC = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "voyage": {"type": "str", "required": True},
    "ship": {"type": "str"},
    "sprite": {"type": "str"},
    "id": {"type": "str"},
    "node": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):
    """Parses, calls :mod:`ocaptain.ansible.mesh`, returns."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        known = task_vars or {}
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC, required_if=[("state", "absent", ["id"])])
        sprite = args["sprite"] or known.get("ocaptain_sprite") or known["inventory_hostname"]
        joining = Joining(args["voyage"], args["ship"] or known.get("ocaptain_ship") or sprite, sprite)
        check = bool(self._task.check_mode)
        try:
            if args["state"] == "absent":
                return {**result, **end_key(joining, key=args["id"], node=args["node"], check=check)}
            return {**result, **make_key(joining, check=check)}
        except OcaptainError as error:
            return {**result, **failure(error)}
