"""Action ``sprite_policy``: where a sprite may connect to (see plugins/modules/sprite_policy.py)."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

from ocaptain.ansible.access import find_sprite_and_endpoint
from ocaptain.ansible.action import ENDPOINT_OPTIONS, ControllerAction
from ocaptain.voyage.sprites import ensure_policy, policy_rules


class ActionModule(ControllerAction):
    """Parses, calls :func:`ocaptain.voyage.sprites.ensure_policy`, returns."""

    SPEC: ClassVar = {
        "sprite": {"type": "str"},
        "allow": {"type": "list", "elements": "str", "default": []},
        "deny": {"type": "list", "elements": "str", "default": []},
        "defaults": {"type": "bool", "default": False},
        **ENDPOINT_OPTIONS,
    }

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        rules = policy_rules(args["allow"], args["deny"], defaults=args["defaults"])
        sprite, reached = find_sprite_and_endpoint(args, self.host_vars, self._templar.template, check=self.check)
        before, changed = asyncio.run(ensure_policy(reached, sprite, rules, check=self.check))
        diff = {"before": json.dumps(before, indent=2) + "\n", "after": json.dumps(rules, indent=2) + "\n"}
        return {"changed": changed, "rules": rules, "diff": diff}
