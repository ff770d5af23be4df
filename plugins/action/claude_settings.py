"""Action ``claude_settings``: what Claude Code needs on a host (see plugins/modules/claude_settings.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.agents.claude.files import CHOICES, Credentials, choose, configured, tree
from ocaptain.agents.claude.settings import ClaudeSettings
from ocaptain.ansible.action import Action
from ocaptain.ansible.tree import send
from ocaptain.config import load
from ocaptain.errors import UsageError


class ActionModule(Action):
    """Parses, asks :mod:`ocaptain.agents.claude.files` for the tree, sends it."""

    SPEC: ClassVar = {
        "home": {"type": "str", "required": True},
        "login_home": {"type": "str"},
        "cli": {"type": "str", "required": True},
        "credential": {"type": "str", "choices": list(CHOICES), "default": "auto"},
        "oauth_token": {"type": "str", "no_log": True},
        "api_key": {"type": "str", "no_log": True},
        "key_helper": {"type": "str", "no_log": False},
        "key_helper_src": {"type": "str", "no_log": False},
        "base_url": {"type": "str"},
        "environment": {"type": "dict", "default": {}},
        "settings": {"type": "dict", "default": {}},
        "workspaces": {"type": "list", "elements": "str", "default": []},
    }

    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        home = str(args["home"])
        if not home.startswith("/"):
            raise UsageError(f"home must be an absolute path, not {home!r}")
        settings = load(ClaudeSettings)
        there = self._given(args)
        # A task that names one does not look at ocaptain's configuration.
        there = configured(settings) if there == Credentials() and args["credential"] != "none" else there
        kind = choose(args["credential"], there)
        files = tree(
            home.rstrip("/"),
            args["cli"],
            kind,
            there,
            base_url=args["base_url"] or settings.base_url or "",
            environment=args["environment"],
            settings=args["settings"],
            workspaces=args["workspaces"],
            login_home=args["login_home"] or "",
        )
        return {**send(self, self.known, home, files), "credential": kind}

    def _given(self, args: dict[str, Any]) -> Credentials:
        return Credentials(
            key_helper=args["key_helper"] or "",
            key_helper_program=self.read("key_helper_src", args["key_helper_src"]) if args["key_helper_src"] else b"",
            oauth_token=args["oauth_token"] or "",
            api_key=args["api_key"] or "",
        )
