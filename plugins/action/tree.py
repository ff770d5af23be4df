"""Action ``tree``: a tree of small files with modes in one remote call (see plugins/modules/tree.py)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure
from ocaptain.ansible.tree import PROGRAM, parse_files, parse_reply, payload
from ocaptain.errors import OcaptainError, UsageError

SPEC = {
    "dest": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "required": True},
}


class ActionModule(ActionBase):
    """Parses, sends :data:`ocaptain.ansible.tree.PROGRAM` its files, returns what it says."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC)
        try:
            files = parse_files(args["files"], self._read)
        except OcaptainError as error:
            return {**result, **failure(error)}
        python = (task_vars or {}).get("ansible_python_interpreter") or "/usr/bin/python3"
        done = self._low_level_execute_command(
            f"{shlex.quote(python)} -c {shlex.quote(PROGRAM)}",
            in_data=payload(args["dest"], files, check=bool(self._task.check_mode)),
            executable="/bin/sh",
        )
        changed = parse_reply(done["stdout"]) if done["rc"] == 0 else None
        if changed is None:
            said = (done["stderr"] or done["stdout"] or "no reply").strip()[-500:]
            message = f"the tree below {args['dest']} was not written (exit {done['rc']}): {said}"
            return {**result, **failure(OcaptainError(message))}
        diff = [{"before_header": path, "after_header": path, "before": "", "after": "(differs)\n"} for path in changed]
        return {**result, "changed": bool(changed), "paths": changed, "diff": diff}

    def _read(self, src: str) -> bytes:
        try:
            return Path(self._find_needle("files", src)).read_bytes()
        except Exception as error:
            raise UsageError(f"src {src} cannot be read on the controller: {error}") from error
