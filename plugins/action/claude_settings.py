"""Action ``claude_settings``: what Claude Code needs on a host (see plugins/modules/claude_settings.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ocaptain.agents.claude.files import (
    CREDENTIAL_CHOICES,
    Credentials,
    build_files,
    choose_credential,
    configured_credentials,
)
from ocaptain.agents.claude.settings import ClaudeSettings
from ocaptain.ansible.action import Action
from ocaptain.ansible.tree import send_files
from ocaptain.config import load_part
from ocaptain.errors import UsageError


class ActionModule(Action):
    """Parses, asks :mod:`ocaptain.agents.claude.files` for the tree, sends it."""

    SPEC: ClassVar = {
        "home": {"type": "str", "required": True},
        "login_home": {"type": "str"},
        "cli": {"type": "str", "required": True},
        "credential": {"type": "str", "choices": list(CREDENTIAL_CHOICES), "default": "auto"},
        "oauth_token": {"type": "str", "no_log": True},
        "api_key": {"type": "str", "no_log": True},
        "key_helper": {"type": "str", "no_log": False},
        "key_helper_src": {"type": "str", "no_log": False},
        "base_url": {"type": "str"},
        "environment": {"type": "dict", "default": {}},
        "settings": {"type": "dict", "default": {}},
        "workspaces": {"type": "list", "elements": "str", "default": []},
    }

    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run the task."""
        home = str(args["home"])
        if not home.startswith("/"):
            raise UsageError(f"home must be an absolute path, not {home!r}")
        settings = load_part(ClaudeSettings)
        credentials = self._given(args)
        # A task that names one does not look at ocaptain's configuration.
        credentials = (
            configured_credentials(settings)
            if credentials == Credentials() and args["credential"] != "none"
            else credentials
        )
        kind = choose_credential(args["credential"], credentials)
        files = build_files(
            home.rstrip("/"),
            args["cli"],
            kind,
            credentials,
            base_url=args["base_url"] or settings.base_url or "",
            environment=args["environment"],
            settings=args["settings"],
            workspaces=args["workspaces"],
            login_home=args["login_home"] or "",
        )
        return {**send_files(self, self.host_vars, home, files), "credential": kind}

    def _given(self, args: dict[str, Any]) -> Credentials:
        return Credentials(
            key_helper=args["key_helper"] or "",
            key_helper_program=self.read_file("key_helper_src", args["key_helper_src"])
            if args["key_helper_src"]
            else b"",
            oauth_token=args["oauth_token"] or "",
            api_key=args["api_key"] or "",
        )
