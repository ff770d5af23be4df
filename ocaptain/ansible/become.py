"""Becoming another user with a password: what is said before a command's own input may flow.

::

    sudo: prompt ──> password ──> "BECOME-SUCCESS-…" ──> the module's input
          └ (none: the user needs no password) ─────────┘
"""

from __future__ import annotations

import time
from typing import Protocol


class BecomePlugin(Protocol):
    """What is needed of Ansible's become plugins."""

    def check_success(self, b_output: bytes) -> bool:
        """Whether the other user's command has begun."""

    def check_password_prompt(self, b_output: bytes) -> bool:
        """Whether a password is asked for."""

    def check_incorrect_password(self, b_output: bytes) -> bool:
        """Whether the password was refused."""

    def check_missing_password(self, b_output: bytes) -> bool:
        """Whether there must be one and none was given."""

    def strip_become_prompt(self, data: bytes) -> bytes:
        """Return output without the prompt."""

    def get_option(self, option: str) -> str | None:
        """Return an option of the plugin."""


class LoginError(Exception):
    """The other user cannot be become."""


class Login:
    """The dialogue with sudo and its like, as :meth:`ocaptain.sprites.SpritesClient.run` takes it.

    Args:
        become: the plugin that knows prompt and success.
        seconds: for the password to be taken; counted from the first answer.
    """

    def __init__(self, become: BecomePlugin, seconds: float) -> None:
        self._become = become
        self._until = time.monotonic() + seconds
        self._seconds = seconds
        self._answered = 0

    def __call__(self, stdout: bytes, stderr: bytes) -> bytes | None:
        """Return what to say now, None once the command's own input may flow.

        Raises:
            LoginError: the password is wrong or missing, or nothing came of it in time.
        """
        become = self._become
        if become.check_success(stdout):
            return None
        said = stdout + stderr
        if become.check_incorrect_password(said):
            raise LoginError("the become password is wrong")
        if become.check_missing_password(said):
            raise LoginError("becoming another user needs a password, and none was given (ansible_become_password)")
        if time.monotonic() > self._until:
            raise LoginError(f"the password was not accepted in {self._seconds:g} s; check ansible_become_password")
        if become.check_password_prompt(said[self._answered :]):
            if self._answered:
                raise LoginError("the become password is wrong: it is asked for once more")
            self._answered = len(said)
            return (become.get_option("become_pass") or "").encode() + b"\n"
        return b""

    def without_prompt(self, stderr: bytes) -> bytes:
        """Return the output of an ended command without what was said before it began."""
        return self._become.strip_become_prompt(stderr)
