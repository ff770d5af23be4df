"""Action ``sprite``: many sprites at once, as they shall be (see plugins/modules/sprite.py)."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure, find_endpoint, require
from ocaptain.ansible.sprite import SpriteChange, make_absent, make_checkpointed, make_present, make_restored
from ocaptain.errors import OcaptainError, UsageError

SPEC = {
    "names": {"type": "list", "elements": "str", "required": True, "aliases": ["name"]},
    "state": {"type": "str", "choices": ["present", "absent", "checkpointed", "restored"], "default": "present"},
    "checkpoint": {"type": "str"},
    "labels": {"type": "list", "elements": "str", "default": []},
    "best_effort": {"type": "bool", "default": False},
    "provider": {"type": "str", "choices": ["sprites", "drydock"]},
    "api_url": {"type": "str"},
    "api_token": {"type": "str", "no_log": True},
}


class ActionModule(ActionBase):
    """Parses, calls :mod:`ocaptain.ansible.sprite`, returns."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC)
        try:
            change = self._apply(args)
        except OcaptainError as error:
            return {**result, **failure(error)}
        result |= {
            "changed": bool(change.changed),
            "present": change.present,
            "changed_names": change.changed,
            "failed_names": change.failed,
        }
        before = change.changed if args["state"] == "absent" else []
        after = [] if args["state"] == "absent" else change.changed
        result["diff"] = {
            "before": "".join(f"{one}\n" for one in before),
            "after": "".join(f"{one}\n" for one in after),
        }
        # With best_effort some may fail, not all: a fleet of nothing is no fleet.
        if change.failed and not (args["best_effort"] and len(change.failed) < len(args["names"])):
            lines = [f"{name}: {reason}" for name, reason in change.failed.items()]
            return {**result, **failure(OcaptainError(f"sprites could not be made {args['state']}:", lines))}
        return result

    def _apply(self, args: dict[str, Any]) -> SpriteChange:
        names, check = list(dict.fromkeys(args["names"])), bool(self._task.check_mode)
        where = (args["provider"], args["api_url"], args["api_token"])
        if not names:
            return SpriteChange()
        if args["state"] in {"checkpointed", "restored"}:
            if not args["checkpoint"]:
                raise UsageError(f"state {args['state']} needs checkpoint: its name")
            work = make_checkpointed if args["state"] == "checkpointed" else make_restored
            return asyncio.run(work(require(*where), names, args["checkpoint"], check=check))
        if args["state"] == "absent":
            _, reached = find_endpoint(*where)
            # The sprites of a drydock that does not run are gone already.
            return asyncio.run(make_absent(reached, names, check=check)) if reached else SpriteChange()
        if check and find_endpoint(*where)[1] is None:
            return SpriteChange(changed=names)  # a drydock that does not run has no sprite yet
        return asyncio.run(make_present(require(*where), names, args["labels"], check=check))
