"""One sandbox: namespaces over a copy-on-write view of the host's root.

Without a user namespace root inside is root outside, so its init and everything that enters it
(:mod:`ocaptain.drydock.enter`) keeps only capabilities with which it cannot reach the host; the
list was tried against ``apt-get install``, ``sudo``, ``sshd`` and ``tmux``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.background import dying_with_us
from ocaptain.drydock import network, oom, pools
from ocaptain.drydock.cgroups import Limits, ShipGroups
from ocaptain.drydock.enter import ALLOWED_CAPABILITIES, freeze_processes, thaw_processes
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.rootless import SPRITE_UID, SandboxMode, sandbox_mode, sprite_owner_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: For the sandbox's init, which becomes itself before anything of the ship has ever run.
CONFINE_COMMAND = (
    "setpriv",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all," + ",".join(f"+{name}" for name in ALLOWED_CAPABILITIES),
)
#: The same with one id: it becomes the ship's only user, in a namespace without any power over the others.
CONFINE_SINGLE_COMMAND = ("unshare", "--user", f"--map-user={SPRITE_UID}", f"--map-group={SPRITE_UID}")
OVERLAID_DIRECTORIES = ("usr", "etc", "var", "opt")
OWN_DIRECTORIES = ("own/root", "own/srv", "own/mnt", "own/media")
VAR_TMP = "own/var-tmp"
BASE_ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/home/sprite",
    "USER": "sprite",
    "LOGNAME": "sprite",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "PATH": "/.sprite/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
CREATE_SECONDS = 30.0


def sandbox_command(
    script: Path,
    directory: Path,
    base: Path | None,
    name: str,
    *,
    isolated: bool = False,
    layers: Sequence[Path] = (),
) -> list[str]:
    """Return the command that builds a sandbox and then stays as its keeper.

    With ``isolated`` the sandbox gets its own network; ``layers`` lie above the base, the first one highest.

    The keeper dies with drydock, this process, and the sandbox with the keeper
    (``--kill-child``), so even after ``kill -9`` of drydock no sandbox remains.
    """
    return [
        *dying_with_us(("unshare", "--mount", "--pid", "--uts", "--ipc", *(("--net",) if isolated else ()))),
        *("--fork", "--kill-child=KILL"),
        *(
            "/bin/sh",
            str(script),
            str(directory),
            str(base) if base else "-",
            ":".join(map(str, layers)) or "-",
            name,
            sandbox_mode(),
        ),
        *(CONFINE_SINGLE_COMMAND if sandbox_mode() is SandboxMode.SINGLE else CONFINE_COMMAND),
    ]


class Sandbox:
    """A sandbox in ``directory``: its disk, and while it is up its processes.

    Attributes:
        name: host name inside.
        directory: its folder on the host; removed by :meth:`destroy`.
        init_pid: pid of its init as the host sees it; 0 while it is down.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        base: Path | None,
        *,
        isolated: bool = False,
        layers: Sequence[Path] = (),
        groups: ShipGroups | None = None,
    ) -> None:
        self.name = name
        self.directory = directory
        self.init_pid = 0
        self._base = base
        self._isolated = isolated
        self._layers = layers
        self._groups = groups or ShipGroups(Limits(), {}, directory.name)
        self._keeper: asyncio.subprocess.Process | None = None
        self._stopped: Sequence[int] = ()

    async def create(self) -> None:
        """Make its disk and start it (about 30 ms).

        Raises:
            DrydockError: a step failed, and nothing is left; the message holds the script's error output.
        """
        try:
            make_disk(self.directory)
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
        await pools.removing(functools.partial(remove_tree, self.directory / "tmp"))
        try:
            make_scratch(self.directory)
        except OSError as error:
            raise DrydockError(f"sandbox {self.name} could not be built: {error}") from error
        self._groups.open()
        with as_file(files("ocaptain.drydock") / "sandbox.sh") as script:
            self._keeper = keeper = await asyncio.create_subprocess_exec(
                *sandbox_command(
                    script, self.directory, self._base, self.name, isolated=self._isolated, layers=self._layers
                ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": BASE_ENVIRONMENT["PATH"]},
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(CREATE_SECONDS):
                    first_line = await keeper.stdout.readline() if keeper.stdout else b""
                    if first_line != b"ready\n":
                        stderr = await keeper.stderr.read() if keeper.stderr else b""
                        message = f"sandbox {self.name} could not be built: {stderr.decode(errors='replace').strip()}"
                        raise DrydockError(message)
                children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text("ascii").split()
                self.init_pid = int(children[0])
                for pid in self.host_pids:
                    oom.raise_process(pid, oom.INIT)
                self._groups.join(self.init_pid)
                if self._isolated:
                    await asyncio.to_thread(network.bring_up_loopback, self.init_pid)
            except (TimeoutError, OSError, IndexError) as error:
                await self.halt()
                raise DrydockError(f"sandbox {self.name} could not be built: {error}") from error
            except BaseException:
                await self.halt()
                raise

    @property
    def root(self) -> Path:
        """The sandbox's root directory as a path of the host (through procfs)."""
        return Path(f"/proc/{self.init_pid}/root")

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

    async def freeze(self) -> None:
        """Stop every process but the init; memory is kept.

        Raises:
            DrydockError: the sandbox cannot be entered.
        """
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
        await pools.freezing(functools.partial(thaw_processes, self.init_pid, self._stopped))
        self._stopped = ()

    async def halt(self) -> None:
        """End every process inside, which also ends its mounts; keep the disk."""
        self.init_pid = 0
        if self._keeper:
            await _kill_keeper(self._keeper)
            self._keeper = None
        await pools.removing(self._groups.close)

    async def destroy(self) -> None:
        """End every process inside, and remove the folder.

        Raises:
            DrydockError: the folder cannot be removed.
        """
        await self.halt()
        await pools.removing(functools.partial(remove_tree, self.directory))


def make_disk(directory: Path) -> None:
    """Make the directories of a new sandbox's disk.

    Raises:
        OSError: one cannot be made.
    """
    for sub in ("root", "upper", "work", "home/sprite", "dot-sprite/logs/services", "dot-sprite/bin", *OWN_DIRECTORIES):
        (directory / sub).mkdir(parents=True)
    for owned in ("home/sprite", "dot-sprite", "dot-sprite/logs", "dot-sprite/logs/services"):
        shutil.chown(directory / owned, sprite_owner_id(), sprite_owner_id())


def make_scratch(directory: Path) -> None:
    """Make the directories that anybody in the sandbox may write to, before it starts.

    Raises:
        OSError: one cannot be made.
    """
    for scratch in ("tmp", VAR_TMP):
        (directory / scratch).mkdir(parents=True, exist_ok=True)
        (directory / scratch).chmod(0o1777)


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
