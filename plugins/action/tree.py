"""Action ``tree``: a tree of small files with modes in one remote call (see plugins/modules/tree.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure
from ocaptain.ansible.tree import parse_files, send
from ocaptain.errors import OcaptainError, UsageError

SPEC = {
    "dest": {"type": "str", "required": True},
    "files": {"type": "list", "elements": "dict", "required": True},
}


class ActionModule(ActionBase):
    """Parses, sends the files, returns what changed."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(SPEC)
        try:
            files = parse_files(args["files"], self._read)
            return {**result, **send(self, task_vars or {}, args["dest"], files)}
        except OcaptainError as error:
            return {**result, **failure(error)}

    def _read(self, src: str) -> bytes:
        try:
            return Path(self._find_needle("files", src)).read_bytes()
        except Exception as error:
            raise UsageError(f"src {src} cannot be read on the controller: {error}") from error
