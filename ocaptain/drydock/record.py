"""The record of a sprite on disk; with it a new drydock finds the sprites of a killed one.

``sprite.json`` in the sprite's folder. The file is complete or missing: a folder without it belongs to
a create call that never finished, and is removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from ocaptain.drydock.checkpoints import Checkpoint
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.policy import NetworkPolicy, PrivilegesPolicy, ResourcesPolicy
from ocaptain.protocol.files import start_time, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

EnvName = Annotated[str, StringConstraints(pattern=r"^[^=\x00]+$")]
EnvValue = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
RECORD_FILE = "sprite.json"
MAX_END_SECONDS = 30.0


class UrlSettings(BaseModel):
    """``url_settings`` of a sprite."""

    model_config = ConfigDict(extra="allow")

    auth: Literal["sprite", "public"] = "sprite"
    private_access: Literal["admins", "org_users"] | None = None


class CreateBody(BaseModel):
    """Body of ``POST /v1/sprites``; sizes are accepted and ignored, as on the live service."""

    model_config = ConfigDict(extra="ignore")

    name: str
    labels: list[str] = []
    environment: dict[EnvName, EnvValue] = {}
    url_settings: UrlSettings = Field(default_factory=UrlSettings)
    config: dict[str, Any] = {}
    runtime: str = "default"
    wait_for_capacity: bool = False


class UpdateBody(BaseModel):
    """Body of ``PUT /v1/sprites/{name}``; a missing field means no change."""

    model_config = ConfigDict(extra="ignore")

    labels: list[str] | None = None
    clear_labels: bool = False
    url_settings: UrlSettings | None = None


class ServiceDefinition(BaseModel):
    """Body of ``PUT /services/{name}``."""

    model_config = ConfigDict(extra="ignore")

    cmd: str = Field(min_length=1)
    args: list[str] = []
    env: dict[str, str] = {}
    dir: str = "/home/sprite"
    needs: list[str] = []
    http_port: int | None = None


class ServiceRecord(BaseModel):
    """A service's definition, and whether it should run."""

    definition: ServiceDefinition
    wanted: bool = True


class Process(BaseModel):
    """A process, identified by pid and start time, since pids are reused."""

    # An earlier version wrote the start time as a number.
    model_config = ConfigDict(coerce_numbers_to_str=True)

    pid: int
    started: str

    @classmethod
    def find(cls, pid: int) -> Process | None:
        """Return the process with a pid; None if it does not exist or is a zombie."""
        started = start_time(pid)
        return cls(pid=pid, started=started) if started else None

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return Process.find(self.pid) == self

    def kill(self) -> None:
        """End the process if it still runs; it is another's pid otherwise, and left alone."""
        with contextlib.suppress(OSError):  # it has ended
            fd = os.pidfd_open(self.pid)
            try:
                if self.is_alive:  # looked at after it was opened
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)

    async def wait(self) -> None:
        """Wait until the process has ended.

        Raises:
            DrydockError: it still runs after :data:`MAX_END_SECONDS`.
        """
        until = time.monotonic() + MAX_END_SECONDS
        while self.is_alive:
            if time.monotonic() > until:
                raise DrydockError(f"process {self.pid} of a drydock that was killed still runs; try again later")
            await asyncio.sleep(0.05)


class SpriteRecord(BaseModel):
    """The facts about a sprite that must survive the end of its processes and of drydock.

    Attributes:
        stands_on: id of the checkpoint that the disk was last saved as or restored from.
        host_ports: ports of the host that are this sprite's alone, beside those that drydock was started with.
        last_started_at: when its processes began; None in a record of an earlier version.
        first_id: first id of the range that the disk belongs to; 0 = the machine's ids, as before there were ranges.
        mode: what it was made of (:class:`ocaptain.drydock.rootless.SandboxMode`); "" = not recorded then.
    """

    body: CreateBody
    id: str
    created_at: str
    updated_at: str
    services: dict[str, ServiceRecord] = {}
    checkpoints: list[Checkpoint] = []
    stands_on: str | None = None
    last_started_at: str | None = None
    network: NetworkPolicy = Field(default_factory=NetworkPolicy)
    privileges: PrivilegesPolicy = Field(default_factory=PrivilegesPolicy)
    resources: ResourcesPolicy = Field(default_factory=ResourcesPolicy)
    host_ports: list[int] = []
    processes: list[Process] = []
    first_id: int = 0
    mode: str = ""

    def note_boot(self, pids: Sequence[int], first_id: int) -> None:
        """Note the processes of a sandbox that was started, and the range of ids that its disk belongs to."""
        self.processes = [found for pid in pids if (found := Process.find(pid))]
        self.first_id = first_id

    async def wait_for_processes(self) -> None:
        """End the processes of a drydock that was killed, and wait for that: most have ended with it.

        Raises:
            DrydockError: one does not.
        """
        for process in reversed(self.processes):  # the init before its keeper
            process.kill()
        for process in self.processes:
            await process.wait()

    @classmethod
    def load(cls, directory: Path) -> SpriteRecord:
        """Read the record in a sprite's folder.

        Raises:
            OSError: the file is missing or cannot be read.
            ValueError: the file is not a valid record.
        """
        return cls.model_validate_json((directory / RECORD_FILE).read_text("utf-8"))


def save_record(directory: Path, content: str) -> None:
    """Write a record into a sprite's folder: whole or not at all, and lasting when this returns.

    Args:
        directory: the sprite's folder.
        content: the record as JSON.

    Raises:
        OSError: it cannot be written, for example because the disk is full.
    """
    write_atomic(directory / RECORD_FILE, content.encode(), one_writer=True)
