"""Action ``ship_failure``: why the task before failed, for the record (see plugins/modules/ship_failure.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.ansible.action import ControllerAction
from ocaptain.ansible.failures import describe_rescued


class ActionModule(ControllerAction):
    """Parses, calls :func:`ocaptain.ansible.failures.describe_rescued`, returns."""

    SPEC: ClassVar = {
        "result": {"type": "dict"},
        "roles": {"type": "list", "elements": "str", "default": []},
    }

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        known = self.host_vars
        names = [
            str(known[name]) for name in ("inventory_hostname", "ocaptain_sprite", "ocaptain_ship") if name in known
        ]
        task = {} if args["result"] is not None else known.get("ansible_failed_task") or {}
        result = args["result"] if args["result"] is not None else known.get("ansible_failed_result") or {}
        return {"changed": False, "reason": describe_rescued(result, task, args["roles"], names)}
