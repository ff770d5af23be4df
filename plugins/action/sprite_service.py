"""Action ``sprite_service``: a service of a sprite (see plugins/modules/sprite_service.py)."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from ocaptain.ansible.access import find_sprite_and_endpoint
from ocaptain.ansible.action import ENDPOINT_OPTIONS, ControllerAction
from ocaptain.voyage.sprites import ServiceSpec, ensure_service, format_service, remove_service


class ActionModule(ControllerAction):
    """Parses, calls :func:`ocaptain.voyage.sprites.ensure_service`, returns."""

    SPEC: ClassVar = {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "sprite": {"type": "str"},
        "cmd": {"type": "str"},
        "args": {"type": "list", "elements": "str", "default": []},
        "chdir": {"type": "str", "default": "/home/sprite"},
        "restarted": {"type": "bool", "default": False},
        **ENDPOINT_OPTIONS,
    }
    RULES: ClassVar = {"required_if": [("state", "present", ["cmd"])]}

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        sprite, reached = find_sprite_and_endpoint(args, self.host_vars, self._templar.template, check=self.check)
        if args["state"] == "absent":
            return {"changed": asyncio.run(remove_service(reached, sprite, args["name"], check=self.check))}
        wanted = ServiceSpec(args["name"], args["cmd"], tuple(args["args"]), args["chdir"])
        before, changed = asyncio.run(
            ensure_service(reached, sprite, wanted, restart=args["restarted"], check=self.check)
        )
        after = {"cmd": wanted.cmd, "args": list(wanted.args), "dir": wanted.cwd, "state": {"status": "running"}}
        result = {"changed": changed, "service": {**after, "name": wanted.name, "state": "running"}}
        return (
            {**result, "diff": {"before": format_service(before), "after": format_service(after)}}
            if changed
            else result
        )
