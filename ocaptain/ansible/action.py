"""What every action of ours does: parse, act, return. An error of ours is a failed task, never a traceback."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import end_with_ansible, failure
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.names import PROVIDERS

#: Where the API is, for actions that may be told so.
ENDPOINT: dict[str, Any] = {
    "provider": {"type": "str", "choices": list(PROVIDERS)},
    "api_url": {"type": "str"},
    "api_token": {"type": "str", "no_log": True},
}


class Action(ActionBase):
    """The base of our actions.

    Attributes:
        SPEC: the options, in Ansible's form.
        RULES: between options (``required_if`` and the like).
        known: the host's variables.
        check: change nothing, only say what would change.
    """

    SPEC: ClassVar[dict[str, Any]]
    RULES: ClassVar[dict[str, Any]] = {}
    known: dict[str, Any]
    check: bool
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        end_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(self.SPEC, **self.RULES)
        self.known, self.check = task_vars or {}, bool(self._task.check_mode)
        try:
            return {**result, **self.act(args)}
        except OcaptainError as error:
            return {**result, **failure(error)}

    @abstractmethod
    def act(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do what the task asks for; return its result.

        Args:
            args: its options, all there and of the right type.

        Raises:
            OcaptainError: the task fails with it.
        """

    def read(self, option: str, src: str) -> bytes:
        """Return a file of the controller's, found as Ansible finds the files of a role.

        Raises:
            UsageError: it cannot be read; the message names the option.
        """
        try:
            return Path(self._find_needle("files", src)).read_bytes()
        except Exception as error:
            raise UsageError(f"{option} {src} cannot be read on the controller: {error}") from error


class ControllerAction(Action):
    """An action that happens on the controller alone."""

    _requires_connection = False
