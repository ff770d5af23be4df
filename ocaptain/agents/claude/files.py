"""The files of Claude Code on a ship: credential, settings and environment.

This module only builds them; the action ``claude_settings`` sends them. Exactly one credential is
among them, so that the CLI has no choice::

    key_helper    .ocaptain/claude/key-helper  0700   run by the CLI (apiKeyHelper)
    oauth_token   .ocaptain/claude/env.json    0600   CLAUDE_CODE_OAUTH_TOKEN of the CLI itself
    api_key       .ocaptain/claude/key         0600   read by the CLI (apiKeyHelper)
"""

from __future__ import annotations

import json
import posixpath
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocaptain.agents.claude.settings import REMEDY
from ocaptain.agents.claude.ship.own import find_problems
from ocaptain.errors import UsageError
from ocaptain.tree import TreeFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ocaptain.agents.claude.settings import ClaudeSettings

CLAUDE_DIRECTORY = ".ocaptain/claude"
CREDENTIAL_KINDS = ("key_helper", "oauth_token", "api_key")
CREDENTIAL_CHOICES = ("auto", *CREDENTIAL_KINDS, "none")


@dataclass(frozen=True)
class Credentials:
    """The available credentials. They are never shown.

    Attributes:
        key_helper: a shell line on the ship that prints a key.
        key_helper_program: content of a program that prints one.
        oauth_token: token of a subscription.
        api_key: key of the API.
    """

    key_helper: str = field(default="", repr=False)
    key_helper_program: bytes = field(default=b"", repr=False)
    oauth_token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)

    def has(self, kind: str) -> bool:
        """Whether a credential of this kind is available."""
        return bool(getattr(self, kind) or (kind == "key_helper" and self.key_helper_program))


def configured_credentials(settings: ClaudeSettings) -> Credentials:
    """Return the configured credentials.

    Raises:
        UsageError: the key helper cannot be read.
    """
    helper, token, key = settings.key_helper, settings.oauth_token, settings.api_key
    return Credentials(
        key_helper_program=_read_program(helper) if helper else b"",
        oauth_token=token.get_secret_value() if token else "",
        api_key=key.get_secret_value() if key else "",
    )


def _read_program(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"the key helper {path} (OCAPTAIN_CLAUDE_KEY_HELPER) cannot be read: {error.strerror}"
        raise UsageError(message) from error


def choose_credential(requested: str, credentials: Credentials) -> str:
    """Return the kind of the credential for the ship.

    A key helper is set only for ocaptain; an API key may be in the environment for other programs, and
    costs money beside a subscription: so it comes last.

    Raises:
        UsageError: none is available, or not the requested kind; says what to set.
    """
    if requested == "none":
        return requested
    found = [kind for kind in CREDENTIAL_KINDS if credentials.has(kind)]
    if requested == "auto" and found:
        return found[0]
    if requested in found:
        return requested
    message = "no credential for Claude Code" if requested == "auto" else f"no {requested} for Claude Code"
    raise UsageError(f"{message}: {REMEDY}, or the role's variable of that name")


def build_files(
    home: str,
    cli: str,
    kind: str,
    credentials: Credentials,
    *,
    base_url: str = "",
    environment: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    workspaces: Sequence[str] = (),
    login_home: str = "",
) -> list[TreeFile]:
    """Build the files below ``home``.

    Args:
        home: home directory of the agents, absolute.
        cli: path of the CLI.
        kind: kind of the credential, as :func:`choose_credential` returns it.
        credentials: the available credentials.
        base_url: URL of the API, "" = the CLI's default.
        environment: more variables of the CLI; a value of None leaves one out.
        settings: more of Claude Code's settings.
        workspaces: directories below ``home`` that are trusted, each by its own name: a git repository does
            not inherit it.
        login_home: ``$HOME`` of the user, where the CLI keeps what it remembers, if that is not ``home``.

    Raises:
        UsageError: the CLI would reject these settings.
    """
    if wrong := find_problems(dict(settings or {})):
        raise UsageError(f"claude_settings cannot be used: {'; '.join(wrong)}")
    helper, key, program = f"{home}/{CLAUDE_DIRECTORY}/key-helper", credentials.api_key, credentials.key_helper_program
    variables = {
        **({"ANTHROPIC_BASE_URL": base_url} if base_url else {}),
        **{name: str(value) for name, value in (environment or {}).items() if value is not None},
        **({"CLAUDE_CODE_OAUTH_TOKEN": credentials.oauth_token} if kind == "oauth_token" else {}),
    }
    lines = {
        "key_helper": credentials.key_helper or shlex.quote(helper),
        "api_key": f"cat {shlex.quote(f'{home}/{CLAUDE_DIRECTORY}/key')}",
    }
    own = {
        "skipDangerousModePermissionPrompt": True,
        # What lands is one commit of ocaptain's own making.
        "attribution": {"commit": "", "pr": ""},
        **(settings or {}),
        **({"apiKeyHelper": lines[kind]} if kind in lines else {}),
    }
    trusted = {f"{home}/{name}": {"hasTrustDialogAccepted": True} for name in workspaces}
    cli_state = {"hasCompletedOnboarding": True, "projects": trusted}
    elsewhere = login_home if login_home.rstrip("/") != home else ""
    is_own_program = kind == "key_helper" and not credentials.key_helper
    return [
        TreeFile(f"{CLAUDE_DIRECTORY}/env.json", _json(variables), 0o600),
        TreeFile(f"{CLAUDE_DIRECTORY}/key", f"{key}\n".encode(), 0o600) if kind == "api_key" else _absent("key"),
        TreeFile(f"{CLAUDE_DIRECTORY}/key-helper", program, 0o700) if is_own_program else _absent("key-helper"),
        TreeFile(f"{CLAUDE_DIRECTORY}/settings.json", _json(own), 0o600),
        TreeFile(f"{CLAUDE_DIRECTORY}/path", f"{cli}\n".encode(), 0o644),
        TreeFile(posixpath.join(elsewhere, ".claude.json"), _json(cli_state), 0o600, "merged"),
    ]


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _absent(name: str) -> TreeFile:
    return TreeFile(f"{CLAUDE_DIRECTORY}/{name}", state="absent")
