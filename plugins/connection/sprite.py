"""Connection ``sprite``: commands over the Sprites exec socket, files over its fs API."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sprite
short_description: Run tasks on sprites (https://sprites.dev) or on drydock
description:
  - Commands run over the exec WebSocket, files travel over the fs API; no ssh and no port is needed.
  - A pipelined task costs one remote call.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
notes:
  - Files of any size arrive whole or not at all; their checksum is compared.
  - So does what a command writes; a large output is fetched as a file.
  - A sprite that is silent while a command runs, and does not start another one in time, is unreachable.
  - Only the opening of a connection is tried again, never a command.
  - The end of a command's input is a message of the protocol, not a half-closed socket.
  - A connection that breaks while a command runs makes the host unreachable; the command is not
    run again, since it may have run.
options:
  sprite:
    description: Name of the sprite.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ocaptain_sprite
  provider:
    description: Where the sprite is; by default as ocaptain is configured.
    type: str
    vars:
      - name: ocaptain_provider
    env:
      - name: OCAPTAIN_PROVIDER
  api_url:
    description: Base URL of the API.
    type: str
    vars:
      - name: ocaptain_api_url
  api_token:
    description: Bearer token of the API; without it the configuration's.
    type: str
    vars:
      - name: ocaptain_api_token
  command_timeout:
    description: Seconds that a command may take before it is killed and the task fails.
    type: int
    default: 3600
    vars:
      - name: ocaptain_command_timeout
  become_success_timeout:
    description: Seconds that become may take to ask for a password, and to take it.
    type: int
    default: 20
    vars:
      - name: ansible_sprite_become_success_timeout
  pipelining:
    description: Send modules on standard input rather than as files.
    type: boolean
    default: true
    vars:
      - name: ansible_pipelining
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import (
    AnsibleAuthenticationFailure,
    AnsibleConnectionFailure,
    AnsibleError,
    AnsibleFileNotFound,
)
from ansible.plugins.connection import ConnectionBase, ensure_connect
from ansible.utils.display import Display

from ocaptain.ansible.access import NO_DRYDOCK, die_with_ansible, find_endpoint
from ocaptain.ansible.action import SpriteMissing
from ocaptain.ansible.become import BecomeDialogue, BecomeError
from ocaptain.errors import OcaptainError
from ocaptain.sprites import (
    ApiError,
    AuthenticationError,
    DeadlinePassed,
    FileMissing,
    SpritesClient,
    SpritesError,
    TransferFailed,
    download,
    run_whole,
    upload,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ocaptain.provider import Endpoint

display = Display()
#: Statuses that say that the sprite cannot be used now, not that this request was refused.
UNREACHABLE = frozenset({404, 410, 429, 500, 502, 503, 504})
#: Those that say that there is no such sprite.
MISSING = frozenset({404, 410})


class Connection(ConnectionBase):
    """One task's way to one sprite; made anew for each task, in a forked worker."""

    transport = "sprite"
    has_pipelining = True

    _connected: bool
    _endpoint: Endpoint
    _sprite: str

    def _connect(self) -> Connection:
        if not self._connected:
            die_with_ansible()
            try:
                options = (self.get_option(name) for name in ("provider", "api_url", "api_token"))
                found = find_endpoint(*options, restart=True)[1]
            except OcaptainError as error:
                raise AnsibleConnectionFailure(str(error)) from error
            if found is None:
                raise SpriteMissing(NO_DRYDOCK)
            self._endpoint = found
            self._sprite = self.get_option("sprite")
            self._connected = True
        return self

    def _call(self, work: Callable[[SpritesClient], Awaitable[Any]]) -> Any:
        """Run ``work`` with a client; every error becomes the Ansible error it is."""

        async def run() -> Any:
            async with self._endpoint.client() as client:
                return await work(client)

        try:
            return asyncio.run(run())
        except BecomeError as error:
            # The sprite was reached: as over ssh, the task has failed, and a rescue may handle it.
            raise AnsibleError(f"{self._sprite}: {error}") from error
        except FileMissing as error:
            raise AnsibleFileNotFound(error.message) from error
        except (TransferFailed, DeadlinePassed) as error:
            raise AnsibleError(error.message) from error
        except AuthenticationError as error:
            raise AnsibleAuthenticationFailure(f"{self._sprite}: {error.message}") from error
        except ApiError as error:
            # A refused command or transfer is a failed task; a sprite that is not there is unreachable.
            kind = AnsibleConnectionFailure if error.status in UNREACHABLE else AnsibleError
            kind = SpriteMissing if error.status in MISSING else kind
            raise kind(f"{self._sprite}: {error.message}") from error
        except SpritesError as error:
            raise AnsibleConnectionFailure(f"{self._sprite}: {error.message}") from error

    @ensure_connect
    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:  # noqa: FBT001, FBT002
        """Run a command line by ``/bin/sh -c``."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if not self._play_context.no_log:
            display.vvv(f"EXEC {cmd}", host=self._sprite)
        seconds = float(self.get_option("command_timeout"))
        dialogue = None
        if sudoable and self.become and self.become.expect_prompt():
            dialogue = BecomeDialogue(self.become, self.get_option("become_success_timeout"))
        argv = ["/bin/sh", "-c", cmd]
        done = self._call(
            lambda client: run_whole(
                client, self._sprite, argv, stdin=in_data or b"", seconds=seconds, answer_output=dialogue
            )
        )
        stderr = dialogue.strip_prompt(done.stderr) if dialogue else done.stderr
        return done.code, done.stdout, stderr

    @ensure_connect
    def put_file(self, in_path: str, out_path: str) -> None:
        """Write a file on the sprite."""
        super().put_file(in_path, out_path)
        source = Path(in_path)
        if not source.is_file():
            raise AnsibleFileNotFound(f"{in_path} is not a file")
        self._call(lambda client: upload(client, self._sprite, source, out_path, mode=0o600))

    @ensure_connect
    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Read a file from the sprite."""
        super().fetch_file(in_path, out_path)
        self._call(lambda client: download(client, self._sprite, in_path, Path(out_path)))

    def reset(self) -> None:
        """Forget the endpoint; there is no connection between commands."""
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._connected = False
