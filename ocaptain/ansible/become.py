"""Become another user with a password: the dialogue before a command's own input may be sent.

::

    sudo: prompt ──> password ──> "BECOME-SUCCESS-…" ──> the module's input
          └ (none: the user needs no password) ─────────┘
"""

from __future__ import annotations

import time
from typing import Protocol


class BecomePlugin(Protocol):
    """The part of Ansible's become plugins that is used here."""

    def check_success(self, b_output: bytes) -> bool:
        """Whether the command has started as the other user."""

    def check_password_prompt(self, b_output: bytes) -> bool:
        """Whether the output ends in a password prompt."""

    def check_incorrect_password(self, b_output: bytes) -> bool:
        """Whether the password was refused."""

    def check_missing_password(self, b_output: bytes) -> bool:
        """Whether a password is required and none was given."""

    def strip_become_prompt(self, data: bytes) -> bytes:
        """Return output without the prompt."""

    def get_option(self, option: str) -> str | None:
        """Return an option of the plugin."""


class BecomeError(Exception):
    """Becoming the other user failed."""


class BecomeDialogue:
    """The dialogue with sudo and similar programs, for :meth:`ocaptain.sprites.SpritesClient.run`.

    Args:
        become: the plugin that recognises prompt and success.
        seconds: time limit for becoming the other user.
    """

    def __init__(self, become: BecomePlugin, seconds: float) -> None:
        self._become = become
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._answered = 0

    def __call__(self, stdout: bytes, stderr: bytes) -> bytes | None:
        """Return what to send now, None once the command's own input may flow.

        Raises:
            BecomeError: the password is wrong or missing, or the time limit passed.
        """
        become = self._become
        if become.check_success(stdout):
            return None
        output = stdout + stderr
        if become.check_incorrect_password(output):
            raise BecomeError("the become password is wrong")
        if become.check_missing_password(output):
            raise BecomeError("becoming another user needs a password, and none was given (ansible_become_password)")
        if time.monotonic() > self._deadline:
            raise BecomeError(
                f"becoming another user did not succeed in {self._seconds:g} s; check ansible_become_password"
            )
        if become.check_password_prompt(output[self._answered :]):
            if self._answered:
                raise BecomeError("the become password is wrong: the prompt appeared again")
            self._answered = len(output)
            return (become.get_option("become_pass") or "").encode() + b"\n"
        return b""

    def strip_prompt(self, stderr: bytes) -> bytes:
        """Return the error output of a command without the password prompt."""
        return self._become.strip_become_prompt(stderr)
