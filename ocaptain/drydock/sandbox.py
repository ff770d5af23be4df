"""One sandbox: namespaces over a copy-on-write view of the host's root.

Without a user namespace root inside is root outside, so its init and everything that enters it
(:mod:`ocaptain.drydock.enter`) keeps only capabilities with which it cannot reach the host; the
list was tried against ``apt-get install``, ``sudo``, ``sshd`` and ``tmux``.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.drydock.enter import KEPT
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.rootless import UID, Mode, mode, owner

if TYPE_CHECKING:
    from collections.abc import Mapping

#: For the sandbox's init, which becomes itself before anything of the ship has ever run.
CONFINE = (
    "setpriv",
    "--clear-groups",
    "--inh-caps=-all",
    "--bounding-set=-all," + ",".join(f"+{name}" for name in KEPT),
)
#: The same with one id: it becomes the ship's only user, in a namespace without any power over the others.
CONFINE_SINGLE = ("unshare", "--user", f"--map-user={UID}", f"--map-group={UID}")
OVERLAID = ("usr", "etc", "var", "opt")
OWN = ("own/root", "own/srv", "own/mnt", "own/media")
BASE_ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/home/sprite",
    "USER": "sprite",
    "LOGNAME": "sprite",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
CREATE_SECONDS = 30.0


def create_argv(script: Path, directory: Path, base: Path | None, name: str) -> list[str]:
    """Return the command that builds a sandbox and stays as its keeper.

    The keeper dies with drydock (``--pdeathsig``) and the sandbox with the keeper
    (``--kill-child``), so not even ``kill -9`` of drydock leaves one behind.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"),
        *("/bin/sh", str(script), str(directory), str(base) if base else "-", name, mode()),
        *(CONFINE_SINGLE if mode() is Mode.SINGLE else CONFINE),
    ]


class Sandbox:
    """A running sandbox in ``directory``.

    Attributes:
        name: host name inside.
        directory: its folder on the host; removed by :meth:`destroy`.
        init_pid: pid of its init as the host sees it.
    """

    def __init__(self, name: str, directory: Path, keeper: asyncio.subprocess.Process, init_pid: int) -> None:
        self.name = name
        self.directory = directory
        self.init_pid = init_pid
        self._keeper = keeper

    @classmethod
    async def create(cls, name: str, directory: Path, base: Path | None) -> Sandbox:
        """Build a sandbox (about 30 ms).

        Raises:
            DrydockError: the kernel refused a step; the text is what the script said.
        """
        for sub in ("root", "upper", "work", "home/sprite", "tmp", "dot-sprite/logs/services", *OWN):
            (directory / sub).mkdir(parents=True)
        (directory / "tmp").chmod(0o1777)
        for own in ("home/sprite", "dot-sprite", "dot-sprite/logs", "dot-sprite/logs/services"):
            shutil.chown(directory / own, owner(), owner())
        with as_file(files("ocaptain.drydock") / "sandbox.sh") as script:
            keeper = await asyncio.create_subprocess_exec(
                *create_argv(script, directory, base, name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": BASE_ENVIRONMENT["PATH"]},
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(CREATE_SECONDS):
                    said = await keeper.stdout.readline() if keeper.stdout else b""
                    if said != b"ready\n":
                        why = await keeper.stderr.read() if keeper.stderr else b""
                        message = f"sandbox {name} could not be built: {why.decode(errors='replace').strip()}"
                        raise DrydockError(message)
                children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text("ascii").split()
                return cls(name, directory, keeper, int(children[0]))
            except BaseException:
                await _end(keeper)
                await asyncio.to_thread(remove_tree, directory)
                raise

    @property
    def root(self) -> Path:
        """The sandbox's root directory as a path of the host (through procfs)."""
        return Path(f"/proc/{self.init_pid}/root")

    async def destroy(self) -> None:
        """End every process inside, with it every mount, and remove the folder.

        Raises:
            DrydockError: the folder cannot be removed.
        """
        await _end(self._keeper)
        await asyncio.to_thread(remove_tree, self.directory)


async def _end(keeper: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        keeper.kill()
    await keeper.wait()


def remove_tree(path: Path) -> None:
    """Remove what a ship left, however deep it is, staying on its file system.

    Raises:
        DrydockError: something is left.
    """
    done = subprocess.run(
        ["rm", "-rf", "--one-file-system", "--", str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DrydockError(f"{path} cannot be removed: {done.stderr.strip()[-300:]}")
