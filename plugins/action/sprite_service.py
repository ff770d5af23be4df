"""Action ``sprite_service``: a service of a sprite (see plugins/modules/sprite_service.py)."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure, of_host
from ocaptain.ansible.sprite import ServiceSpec, ensure_service, forget_service, service_text
from ocaptain.errors import OcaptainError

SPEC = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "sprite": {"type": "str"},
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
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC, required_if=[("state", "present", ["cmd"])])
        check = bool(self._task.check_mode)
        try:
            sprite, reached = of_host(args, task_vars or {}, self._templar.template)
            if args["state"] == "absent":
                return {**result, "changed": asyncio.run(forget_service(reached, sprite, args["name"], check=check))}
            wanted = ServiceSpec(args["name"], args["cmd"], tuple(args["args"]), args["chdir"])
            work = ensure_service(reached, sprite, wanted, restart=args["restarted"], check=check)
            before, changed = asyncio.run(work)
        except OcaptainError as error:
            return {**result, **failure(error)}
        after = {"cmd": wanted.cmd, "args": list(wanted.args), "dir": wanted.cwd, "state": {"status": "running"}}
        result |= {"changed": changed, "service": {**after, "name": wanted.name, "state": "running"}}
        return {**result, "diff": {"before": service_text(before), "after": service_text(after)}} if changed else result
