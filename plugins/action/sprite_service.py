"""Action ``sprite_service``: a service of a sprite (see plugins/modules/sprite_service.py)."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure, require
from ocaptain.ansible.sprite import ServiceSpec, ensure_no_service, ensure_service
from ocaptain.errors import OcaptainError

SPEC = {
    "name": {"type": "str", "required": True},
    "sprite": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "cmd": {"type": "str"},
    "args": {"type": "list", "elements": "str", "default": []},
    "chdir": {"type": "str", "default": "/home/sprite"},
    "restarted": {"type": "bool", "default": False},
    "provider": {"type": "str", "choices": ["sprites", "drydock"]},
    "api_url": {"type": "str"},
    "api_token": {"type": "str", "no_log": True},
}


class ActionModule(ActionBase):
    """Parses, calls :func:`ocaptain.ansible.sprite.ensure_service`, returns."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        known = task_vars or {}
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC, required_if=[("state", "present", ["cmd"])])
        wanted = ServiceSpec(args["name"], args["cmd"] or "", tuple(args["args"]), args["chdir"])
        sprite = args["sprite"] or known.get("ocaptain_sprite") or known["inventory_hostname"]
        provider = args["provider"] or known.get("ocaptain_provider")
        try:
            reached = require(provider, args["api_url"], args["api_token"])
            check = bool(self._task.check_mode)
            if args["state"] == "absent":
                work = ensure_no_service(reached, sprite, args["name"], check=check)
            else:
                work = ensure_service(reached, sprite, wanted, restart=args["restarted"], check=check)
            return {**result, "changed": asyncio.run(work)}
        except OcaptainError as error:
            return {**result, **failure(error)}
