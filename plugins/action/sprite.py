"""Action ``sprite``: many sprites at once, as they shall be (see plugins/modules/sprite.py)."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from ocaptain.ansible.access import failure_result, find_endpoint, require_running_endpoint
from ocaptain.ansible.action import ENDPOINT_OPTIONS, ControllerAction
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.voyage.sprites import SpriteChange, make_absent, make_checkpointed, make_present, make_restored


class ActionModule(ControllerAction):
    """Parses, calls :mod:`ocaptain.voyage.sprites`, returns."""

    SPEC: ClassVar = {
        "names": {"type": "list", "elements": "str", "required": True, "aliases": ["name"]},
        "state": {"type": "str", "choices": ["present", "absent", "checkpointed", "restored"], "default": "present"},
        "checkpoint": {"type": "str"},
        "labels": {"type": "list", "elements": "str", "default": []},
        "spare": {"type": "list", "elements": "str", "default": []},
        "host_ports": {"type": "list", "elements": "int", "default": []},
        "best_effort": {"type": "bool", "default": False},
        **ENDPOINT_OPTIONS,
    }

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        change = _apply(args, check=self.check)
        before = change.changed if args["state"] == "absent" else []
        after = [] if args["state"] == "absent" else change.changed
        result = {
            "changed": bool(change.changed),
            "present": change.present,
            "changed_names": change.changed,
            "failed_names": change.failed,
            "diff": {"before": "".join(f"{one}\n" for one in before), "after": "".join(f"{one}\n" for one in after)},
        }
        # With best_effort some may fail, not all: a fleet of nothing is no fleet.
        if change.failed and not (args["best_effort"] and len(change.failed) < len(args["names"])):
            lines = [f"{name}: {reason}" for name, reason in change.failed.items()]
            return {**result, **failure_result(OcaptainError(f"sprites could not be made {args['state']}:", lines))}
        return result


def _apply(args: dict[str, Any], *, check: bool) -> SpriteChange:
    names = list(dict.fromkeys(args["names"]))
    where = (args["provider"], args["api_url"], args["api_token"])
    if not names:
        return SpriteChange()
    if args["state"] in {"checkpointed", "restored"}:
        if not args["checkpoint"]:
            raise UsageError(f"state {args['state']} needs checkpoint: its name")
        work = make_checkpointed if args["state"] == "checkpointed" else make_restored
        if check and find_endpoint(*where)[1] is None:
            return SpriteChange(changed=names)
        return asyncio.run(work(require_running_endpoint(*where), names, args["checkpoint"], check=check))
    if args["state"] == "absent":
        # A drydock that does not run may have left sprites: only one that serves can destroy them.
        reached = find_endpoint(*where, restart=not check)[1]
        return asyncio.run(make_absent(reached, names, check=check)) if reached else SpriteChange()
    if check and find_endpoint(*where)[1] is None:
        return SpriteChange(changed=names)  # a drydock that does not run has no sprite yet
    options = {"spare": args["spare"], "host_ports": args["host_ports"]}
    return asyncio.run(make_present(require_running_endpoint(*where), names, args["labels"], **options, check=check))
