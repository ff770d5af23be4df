"""Action ``sprite_service``: a service of a sprite (see plugins/modules/sprite_service.py)."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from ocaptain.ansible.access import of_host
from ocaptain.ansible.action import ENDPOINT, ControllerAction
from ocaptain.voyage.sprites import ServiceSpec, ensure_service, forget_service, service_text


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
        **ENDPOINT,
    }
    RULES: ClassVar = {"required_if": [("state", "present", ["cmd"])]}

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        sprite, reached = of_host(args, self.known, self._templar.template)
        if args["state"] == "absent":
            return {"changed": asyncio.run(forget_service(reached, sprite, args["name"], check=self.check))}
        wanted = ServiceSpec(args["name"], args["cmd"], tuple(args["args"]), args["chdir"])
        before, changed = asyncio.run(
            ensure_service(reached, sprite, wanted, restart=args["restarted"], check=self.check)
        )
        after = {"cmd": wanted.cmd, "args": list(wanted.args), "dir": wanted.cwd, "state": {"status": "running"}}
        result = {"changed": changed, "service": {**after, "name": wanted.name, "state": "running"}}
        return {**result, "diff": {"before": service_text(before), "after": service_text(after)}} if changed else result
