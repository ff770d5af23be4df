"""What Claude Code finds on a ship: credential, settings and environment, as a tree of files.

A decision, and nothing else; the action ``claude_settings`` sends the tree. Exactly one
credential goes there, so that the CLI has nothing to choose from::

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
from ocaptain.agents.claude.ship.own import problems
from ocaptain.errors import UsageError
from ocaptain.tree import TreeFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ocaptain.agents.claude.settings import ClaudeSettings

OWN = ".ocaptain/claude"
KINDS = ("key_helper", "oauth_token", "api_key")
CHOICES = ("auto", *KINDS, "none")


@dataclass(frozen=True)
class Credentials:
    """What there is to choose from. Nothing of it is ever shown.

    Attributes:
        key_helper: a shell line on the ship that prints a key.
        key_helper_program: content of a program that prints one.
        oauth_token: of a subscription.
        api_key: of the API.
    """

    key_helper: str = field(default="", repr=False)
    key_helper_program: bytes = field(default=b"", repr=False)
    oauth_token: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)

    def has(self, kind: str) -> bool:
        """Whether there is one of a kind."""
        return bool(getattr(self, kind) or (kind == "key_helper" and self.key_helper_program))


def configured(settings: ClaudeSettings) -> Credentials:
    """Return what ocaptain is configured with.

    Raises:
        UsageError: the key helper cannot be read.
    """
    helper, token, key = settings.key_helper, settings.oauth_token, settings.api_key
    return Credentials(
        key_helper_program=_program(helper) if helper else b"",
        oauth_token=token.get_secret_value() if token else "",
        api_key=key.get_secret_value() if key else "",
    )


def _program(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"the key helper {path} (OCAPTAIN_CLAUDE_KEY_HELPER) cannot be read: {error.strerror}"
        raise UsageError(message) from error


def choose(wanted: str, there: Credentials) -> str:
    """Return which credential goes to the ship.

    A key helper is only ever set for this; an API key may stand in an environment for other
    programs, and would be billed beside a subscription: so it comes last.

    Raises:
        UsageError: there is none, or not the one that is wanted; says what to set.
    """
    if wanted == "none":
        return wanted
    found = [kind for kind in KINDS if there.has(kind)]
    if wanted == "auto" and found:
        return found[0]
    if wanted in found:
        return wanted
    message = "no credential for Claude Code" if wanted == "auto" else f"no {wanted} for Claude Code"
    raise UsageError(f"{message}: {REMEDY}, or the role's variable of that name")


def tree(
    home: str,
    cli: str,
    kind: str,
    there: Credentials,
    *,
    base_url: str = "",
    environment: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    workspaces: Sequence[str] = (),
    login_home: str = "",
) -> list[TreeFile]:
    """Return the files below ``home``.

    Args:
        home: that the agents work below, absolute.
        cli: path of the CLI.
        kind: of the credential, as :func:`choose` returns it.
        there: the credentials.
        base_url: of the API, "" = the CLI's own.
        environment: more variables of the CLI; a value of None leaves one out.
        settings: more of Claude Code's settings.
        workspaces: directories below ``home`` that are trusted, each by its own name: a git repository does
            not inherit it.
        login_home: ``$HOME`` of the user, where the CLI keeps what it remembers, if that is not ``home``.

    Raises:
        UsageError: the CLI would not take these settings.
    """
    if wrong := problems(dict(settings or {})):
        raise UsageError(f"claude_settings cannot be used: {'; '.join(wrong)}")
    helper, key, program = f"{home}/{OWN}/key-helper", there.api_key, there.key_helper_program
    variables = {
        **({"ANTHROPIC_BASE_URL": base_url} if base_url else {}),
        **{name: str(value) for name, value in (environment or {}).items() if value is not None},
        **({"CLAUDE_CODE_OAUTH_TOKEN": there.oauth_token} if kind == "oauth_token" else {}),
    }
    lines = {
        "key_helper": there.key_helper or shlex.quote(helper),
        "api_key": f"cat {shlex.quote(f'{home}/{OWN}/key')}",
    }
    own = {
        "skipDangerousModePermissionPrompt": True,
        # What lands is one commit of ocaptain's own making.
        "attribution": {"commit": "", "pr": ""},
        **(settings or {}),
        **({"apiKeyHelper": lines[kind]} if kind in lines else {}),
    }
    trusted = {f"{home}/{name}": {"hasTrustDialogAccepted": True} for name in workspaces}
    started = {"hasCompletedOnboarding": True, "projects": trusted}
    elsewhere = login_home if login_home.rstrip("/") != home else ""
    given = kind == "key_helper" and not there.key_helper
    return [
        TreeFile(f"{OWN}/env.json", _json(variables), 0o600),
        TreeFile(f"{OWN}/key", f"{key}\n".encode(), 0o600) if kind == "api_key" else _absent("key"),
        TreeFile(f"{OWN}/key-helper", program, 0o700) if given else _absent("key-helper"),
        TreeFile(f"{OWN}/settings.json", _json(own), 0o600),
        TreeFile(f"{OWN}/path", f"{cli}\n".encode(), 0o644),
        TreeFile(posixpath.join(elsewhere, ".claude.json"), _json(started), 0o600, "merged"),
    ]


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _absent(name: str) -> TreeFile:
    return TreeFile(f"{OWN}/{name}", state="absent")
