"""Action ``sprite_policy``: where a sprite may connect to (see plugins/modules/sprite_policy.py)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure, of_host
from ocaptain.ansible.sprite import ensure_policy, policy_rules
from ocaptain.errors import OcaptainError

SPEC = {
    "sprite": {"type": "str"},
    "allow": {"type": "list", "elements": "str", "default": []},
    "deny": {"type": "list", "elements": "str", "default": []},
    "defaults": {"type": "bool", "default": False},
    "provider": {"type": "str", "choices": ["sprites", "drydock"]},
    "api_url": {"type": "str"},
    "api_token": {"type": "str", "no_log": True},
}


class ActionModule(ActionBase):
    """Parses, calls :func:`ocaptain.ansible.sprite.ensure_policy`, returns."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC)
        rules = policy_rules(args["allow"], args["deny"], defaults=args["defaults"])
        try:
            sprite, reached = of_host(args, task_vars or {}, self._templar.template)
            before, changed = asyncio.run(ensure_policy(reached, sprite, rules, check=bool(self._task.check_mode)))
        except OcaptainError as error:
            return {**result, **failure(error)}
        diff = {"before": json.dumps(before, indent=2) + "\n", "after": json.dumps(rules, indent=2) + "\n"}
        return {**result, "changed": changed, "rules": rules, "diff": diff}
