"""One sandbox: namespaces over a copy-on-write view of a system, under ids of its own.

:mod:`.build` makes it in a forked child, :mod:`.enter` runs commands in it, and both confine what they start
(:mod:`.confine`). Its disk belongs to its ids (:mod:`.ids`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.drydock import network, pools
from ocaptain.drydock.build import (
    OWN_DIRECTORIES,
    VAR_TMP,
    VIEW,
    Plan,
    build_and_become_init,
    etc_files,
    root_links,
)
from ocaptain.drydock.cgroups import Limits, ShipGroups
from ocaptain.drydock.enter import freeze_processes, spawn, thaw_processes
from ocaptain.drydock.errors import ApiError, DrydockError
from ocaptain.drydock.gate import Gate
from ocaptain.drydock.ids import move_tree
from ocaptain.drydock.init_process import InitProcess
from ocaptain.drydock.rootless import sandbox_mode
from ocaptain.drydock.seccomp import filter_program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.drydock.enter import RunningProcess, SandboxCommand
    from ocaptain.drydock.ids import Ids

#: Of a sprite's folder, what belongs to its ids.
DISK_FOLDERS = ("upper", "home", "own", "dot-sprite", "checkpoints")

BASE_ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/home/sprite",
    "USER": "sprite",
    "LOGNAME": "sprite",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "PATH": "/.sprite/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
CREATE_SECONDS = 30.0
#: Of what a sandbox says that could not be built.
STDERR_SECONDS = 2.0
MAX_STDERR = 64 * 1024


class Sandbox:
    """A sandbox in ``directory``: its disk, and while it is up its processes.

    Attributes:
        name: host name inside.
        directory: its folder on the host; removed by :meth:`destroy`.
        ids: its user and group ids.
        disk_first: first id of the range that its disk belongs to; other than that of ``ids`` until the next boot
            if its range was lost to another drydock, or if an earlier version made it (0).
        environment: of every command, before what its caller adds.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        base: Path | None,
        ids: Ids,
        *,
        isolated: bool = False,
        layers: Sequence[Path] = (),
        groups: ShipGroups | None = None,
    ) -> None:
        self.name = name
        self.directory = directory
        self.ids = ids
        self.disk_first = ids.first
        self.environment = BASE_ENVIRONMENT
        self._base = base
        self._isolated = isolated
        self._layers = layers
        self._groups = groups or ShipGroups(Limits(), {}, directory.name)
        self._keeper: asyncio.subprocess.Process | None = None
        self._init: InitProcess | None = None
        self._stopped: Sequence[int] = ()
        self._gate = Gate()

    async def create(self) -> None:
        """Make its disk and start it (about 30 ms).

        Raises:
            DrydockError: a step failed, and nothing is left; the message holds the script's error output.
        """
        try:
            make_folder(self.directory, self.ids)
            await self.boot()
        except OSError as error:
            await self.destroy()
            raise DrydockError(f"sandbox {self.name} could not be built: {error}") from error
        except BaseException:
            await self.destroy()
            raise

    async def boot(self) -> None:
        """Start it on its disk; ``/tmp`` and memory are empty.

        Raises:
            DrydockError: a step failed; the sandbox is down.
        """
        await pools.removing(self._prepare_disk)
        self._groups.open()
        plan, parent = await asyncio.to_thread(self._plan), os.getpid()
        self._keeper = keeper = await asyncio.create_subprocess_exec(
            "/proc/self/exe",  # never reached: the hook below builds it by system calls
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": BASE_ENVIRONMENT["PATH"]},
            start_new_session=True,
            preexec_fn=lambda: build_and_become_init(plan, parent),
        )
        try:
            async with asyncio.timeout(CREATE_SECONDS):
                first_line = await keeper.stdout.readline() if keeper.stdout else b""
                if first_line != b"ready\n":
                    stderr = await read_some(keeper.stderr) if keeper.stderr else b""
                    message = f"sandbox {self.name} could not be built: {stderr.decode(errors='replace').strip()}"
                    raise DrydockError(message)
            self._init = InitProcess(keeper.pid)
            if self._isolated:
                await asyncio.to_thread(network.bring_up_loopback, self.init_pid)
        except (TimeoutError, OSError, ValueError) as error:  # ValueError: a line without an end
            await self.halt()
            raise DrydockError(f"sandbox {self.name} could not be built: {error}") from error
        except BaseException:
            await self.halt()
            raise

    def _prepare_disk(self) -> None:
        """Empty ``/tmp``, and give the disk to the ids that the ship has now."""
        remove_tree(self.directory / "tmp")
        try:
            if self.disk_first != self.ids.first:
                for part in DISK_FOLDERS:
                    if (self.directory / part).exists():
                        move_tree(self.directory / part, self.disk_first, self.ids.first)
                self.disk_first = self.ids.first
            (self.directory / VIEW).mkdir(exist_ok=True)
            for scratch in ("tmp", VAR_TMP):
                (self.directory / scratch).mkdir(parents=True, exist_ok=True)
                os.chown(self.directory / scratch, self.ids.first, self.ids.first)
                (self.directory / scratch).chmod(0o1777)
        except OSError as error:
            raise DrydockError(f"the disk of {self.name} cannot be prepared: {error}") from error

    def _plan(self) -> Plan:
        plan = Plan(
            self.name,
            str(self.directory),
            sandbox_mode(),
            str(self._base) if self._base else None,
            tuple(map(str, self._layers)),
            self.ids,
            self._isolated,
            filter_program(),
        )
        groups = tuple(self._groups.process_files())
        return replace(plan, links=root_links(plan.host), files=etc_files(self.name), group_files=groups)

    @property
    def root(self) -> Path:
        """The sandbox's root directory as a path of the host (through procfs)."""
        return Path(f"/proc/{self.init_pid}/root")

    @property
    def init_pid(self) -> int:
        """Pid of its init as the host sees it, and of nothing else until :meth:`halt`; 0 while it is down."""
        return self._init.pid if self._init else 0

    @property
    def is_alive(self) -> bool:
        """Whether it is up, and neither its init nor its keeper has ended by itself."""
        if self._init is None or self._keeper is None:
            return False
        return self._init.is_alive and self._keeper.returncode is None

    @property
    def isolated(self) -> bool:
        """Whether it has a network of its own."""
        return self._isolated

    @property
    def host_pids(self) -> Sequence[int]:
        """Its keeper and its init, as the host sees them; none while it is down."""
        return (self._keeper.pid, self.init_pid) if self._keeper and self.init_pid else ()

    @property
    def group_files(self) -> Sequence[Path]:
        """Where a process of it writes ``0`` to be counted as one of its control groups."""
        return self._groups.process_files()

    async def spawn(self, command: SandboxCommand, *, stdin: int, stdout: int, stderr: int) -> RunningProcess:
        """Start a command as :func:`.enter.spawn` does, but not while the sandbox stands still.

        Raises:
            ApiError: 400: the command is invalid; 500: the sandbox that it was for has ended.
        """
        async with self._gate.passing():
            if not self.is_alive or command.init_pid != self.init_pid:
                raise ApiError(500, "sandbox_failed", f"the sandbox {self.name} has ended")
            return await spawn(command, stdin=stdin, stdout=stdout, stderr=stderr)

    async def freeze(self) -> None:
        """Stop every process, and start none until :meth:`thaw`; memory is kept.

        Raises:
            DrydockError: the sandbox cannot be entered.
        """
        await self._gate.close()
        try:
            self._stopped = await pools.freezing(functools.partial(freeze_processes, self.init_pid))
        except DrydockError:  # perhaps some of them stand already
            await self.thaw()
            raise

    async def thaw(self) -> None:
        """Continue every process that :meth:`freeze` stopped.

        Raises:
            DrydockError: they cannot be reached.
        """
        try:
            await pools.freezing(functools.partial(thaw_processes, self.init_pid, self._stopped))
        finally:
            self._stopped = ()
            await self._gate.open()

    async def halt(self) -> None:
        """End every process inside, which also ends its mounts; keep the disk.

        Raises:
            DrydockError: one does not end; everything else is done.
        """
        init, keeper, self._init, self._keeper = self._init, self._keeper, None, None
        has_ended = await pools.removing(init.end) if init else True
        if init:
            init.close()
        if keeper:
            await _kill_keeper(keeper)
        await pools.removing(self._groups.close)
        await self._gate.open(wholly=True)
        if not has_ended:
            raise DrydockError(f"a process of sandbox {self.name} does not end; try again later")

    async def destroy(self) -> None:
        """End every process inside, and remove the folder.

        Raises:
            DrydockError: the folder cannot be removed.
        """
        await self.halt()
        await pools.removing(functools.partial(remove_tree, self.directory))


def make_folder(directory: Path, ids: Ids) -> None:
    """Make the folder of a new sandbox.

    Raises:
        OSError: it cannot be made.
    """
    for sub in ("root", "upper", "work", "home/sprite", "dot-sprite/logs/services", "dot-sprite/bin", *OWN_DIRECTORIES):
        (directory / sub).mkdir(parents=True)
    for of_root in ("upper", "home", "dot-sprite/bin", "own", *OWN_DIRECTORIES):
        os.chown(directory / of_root, ids.first, ids.first)
    for of_sprite in ("home/sprite", "dot-sprite", "dot-sprite/logs", "dot-sprite/logs/services"):
        os.chown(directory / of_sprite, ids.sprite, ids.sprite)


async def read_some(stream: asyncio.StreamReader) -> bytes:
    """Return what a ship that is not ready has said, within limits: it may say something for ever."""
    said = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STDERR_SECONDS):
            while len(said) < MAX_STDERR and (data := await stream.read(MAX_STDERR - len(said))):
                said += data
    return said


async def _kill_keeper(keeper: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        keeper.kill()
    await keeper.wait()


def remove_tree(path: Path) -> None:
    """Remove a directory tree of any depth, without entering other file systems.

    Raises:
        DrydockError: it cannot be removed completely.
    """
    done = subprocess.run(
        ["rm", "-rf", "--one-file-system", "--", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DrydockError(f"{path} cannot be removed: {done.stderr.strip()[-300:]}")
