"""Action ``sprite_policy``: where a sprite may connect to (see plugins/modules/sprite_policy.py)."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

from ocaptain.ansible.access import of_host
from ocaptain.ansible.action import ENDPOINT, ControllerAction
from ocaptain.voyage.sprites import ensure_policy, policy_rules


class ActionModule(ControllerAction):
    """Parses, calls :func:`ocaptain.voyage.sprites.ensure_policy`, returns."""

    SPEC: ClassVar = {
        "sprite": {"type": "str"},
        "allow": {"type": "list", "elements": "str", "default": []},
        "deny": {"type": "list", "elements": "str", "default": []},
        "defaults": {"type": "bool", "default": False},
        **ENDPOINT,
    }

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        rules = policy_rules(args["allow"], args["deny"], defaults=args["defaults"])
        sprite, reached = of_host(args, self.known, self._templar.template)
        before, changed = asyncio.run(ensure_policy(reached, sprite, rules, check=self.check))
        diff = {"before": json.dumps(before, indent=2) + "\n", "after": json.dumps(rules, indent=2) + "\n"}
        return {"changed": changed, "rules": rules, "diff": diff}
