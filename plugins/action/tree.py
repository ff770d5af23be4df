"""Action ``tree``: a tree of small files with modes in one remote call (see plugins/modules/tree.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.ansible.action import Action
from ocaptain.ansible.tree import parse_files, send_files


class ActionModule(Action):
    """Parses, sends the files, returns what changed."""

    SPEC: ClassVar = {
        "dest": {"type": "str", "required": True},
        "files": {"type": "list", "elements": "dict", "required": True},
    }

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        files = parse_files(args["files"], lambda src: self.read_file("src", src))
        return send_files(self, self.host_vars, args["dest"], files)
