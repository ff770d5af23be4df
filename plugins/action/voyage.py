"""Action ``voyage``: the steps of a voyage that happen on the controller (see plugins/modules/voyage.py)."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure
from ocaptain.ansible.voyage import STATES
from ocaptain.errors import OcaptainError

SPEC = {
    "state": {"type": "str", "required": True, "choices": list(STATES)},
    "plan": {"type": "path"},
    "voyage": {"type": "str"},
    "ships": {"type": "int"},
    "repo": {"type": "str"},
    "agent": {"type": "str"},
    "agent_cmd": {"type": "str"},
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
}


class ActionModule(ActionBase):
    """Parses, calls :data:`ocaptain.ansible.voyage.STATES`, returns."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC)
        try:
            return {**result, **STATES[args["state"]](args)}
        except OcaptainError as error:
            return {**result, **failure(error)}
