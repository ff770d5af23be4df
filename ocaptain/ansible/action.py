"""Base class of our actions: parse the arguments, perform, return the result; our errors fail the task."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ocaptain.ansible.access import die_with_ansible, failure_result
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.names import PROVIDERS

#: Options that name the API, for actions that call it.
ENDPOINT_OPTIONS: dict[str, Any] = {
    "provider": {"type": "str", "choices": list(PROVIDERS)},
    "api_url": {"type": "str"},
    "api_token": {"type": "str", "no_log": True},
}
#: What each of them is, for the documentation of those actions (``scripts/document``).
ENDPOINT_DESCRIPTIONS = {
    "provider": "Where the sprite is; by default as configured.",
    "api_url": "Base URL of the API.",
    "api_token": "Bearer token of the API.",
}


class SpriteMissing(AnsibleConnectionFailure):
    """There is no such sprite: in check mode because it is to be made, else the host is unreachable."""


class Action(ActionBase):
    """Base class of our actions.

    Attributes:
        SPEC: the argument spec, in Ansible's form.
        RULES: constraints between options (``required_if`` and the like).
        host_vars: the host's variables.
        check: change nothing, only report what would change.
    """

    SPEC: ClassVar[dict[str, Any]]
    RULES: ClassVar[dict[str, Any]] = {}
    host_vars: dict[str, Any]
    check: bool
    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the task."""
        die_with_ansible()
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(self.SPEC, **self.RULES)
        self.host_vars, self.check = task_vars or {}, bool(self._task.check_mode)
        try:
            return {**result, **self.perform(args)}
        except OcaptainError as error:
            return {**result, **failure_result(error)}

    @abstractmethod
    def perform(self, args: dict[str, Any]) -> dict[str, Any]:
        """Carry out the task; return its result.

        Args:
            args: its options, complete and validated.

        Raises:
            OcaptainError: fails the task with its message.
        """

    def read_file(self, option: str, src: str) -> bytes:
        """Return the content of a file on the controller, found as Ansible finds the files of a role.

        Raises:
            UsageError: it cannot be read; the message names the option.
        """
        try:
            return Path(self._find_needle("files", src)).read_bytes()
        except Exception as error:
            raise UsageError(f"{option} {src} cannot be read on the controller: {error}") from error


class ControllerAction(Action):
    """An action that runs on the controller only."""

    _requires_connection = False
