"""One sandbox: namespaces over a copy-on-write view of the host's root.

Decision and deed are apart: :func:`create_argv` and :func:`enter_argv` are pure and say
what is run; :class:`Sandbox` runs it. Without a user namespace root inside is root
outside, so everything entered loses the capabilities with which it could reach the host
(:data:`DROPPED`); the list was tried against ``apt-get install``, ``sudo`` and ``tmux``.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.drydock.errors import DrydockError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DROPPED = (
    "sys_admin",
    "mknod",
    "sys_ptrace",
    "sys_module",
    "sys_rawio",
    "net_admin",
    "sys_boot",
    "sys_time",
    "mac_admin",
    "mac_override",
    "audit_control",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "bpf",
    "perfmon",
    "checkpoint_restore",
)
CONFINE = ("--inh-caps=-all", "--bounding-set=" + ",".join(f"-{cap}" for cap in DROPPED))
OVERLAID = ("usr", "etc", "var", "opt")
UID = 1000
BASE_ENVIRONMENT: Mapping[str, str] = {
    "HOME": "/home/sprite",
    "USER": "sprite",
    "LOGNAME": "sprite",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
# Starts in a directory that may be missing (the live service ignores that) and words the
# absence of a program as the live service does. Everything else is passed unchanged.
LAUNCH = (
    'cd -- "$1" 2>/dev/null || cd; shift; '
    'if ! command -v -- "$1" >/dev/null 2>&1; then '
    "printf 'executable file `%s` not found in $PATH: No such file or directory\\n' \"$1\" >&2; "
    'exit 127; fi; exec "$@"'
)
CREATE_SECONDS = 30.0


def create_argv(script: Path, directory: Path, base: Path | None, name: str) -> list[str]:
    """Return the command that builds a sandbox and stays as its keeper.

    The keeper dies with drydock (``--pdeathsig``) and the sandbox with the keeper
    (``--kill-child``), so not even ``kill -9`` of drydock leaves one behind.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"),
        *("/bin/sh", str(script), str(directory), str(base) if base else "-", name),
        *CONFINE,
    ]


def enter_argv(
    init_pid: int, argv: Sequence[str], *, cwd: str = "/home/sprite", as_root: bool = False, tty: bool = False
) -> list[str]:
    """Return the command that runs ``argv`` inside the sandbox whose init is ``init_pid``.

    The environment is handed over as the process' environment, never in argv.
    """
    user = [] if as_root else [f"--reuid={UID}", f"--regid={UID}", "--init-groups"]
    return [
        *(("setsid", "--ctty") if tty else ()),
        *("setpriv", "--pdeathsig", "KILL"),
        *("nsenter", "-t", str(init_pid), "-m", "-p", "-u", "-i", "-r", "-w", "--"),
        *("setpriv", *CONFINE, *user),
        *("/bin/sh", "-c", LAUNCH, "sh", cwd, *argv),
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
        for sub in ("root", "upper", "work", "home/sprite", "tmp", "dot-sprite/logs/services"):
            (directory / sub).mkdir(parents=True)
        (directory / "tmp").chmod(0o1777)
        for own in ("home/sprite", "dot-sprite", "dot-sprite/logs", "dot-sprite/logs/services"):
            shutil.chown(directory / own, UID, UID)
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
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
                raise

    @property
    def alive(self) -> bool:
        """Whether the sandbox's init still runs."""
        return self._keeper.returncode is None

    @property
    def root(self) -> Path:
        """The sandbox's root directory as a path of the host (through procfs)."""
        return Path(f"/proc/{self.init_pid}/root")

    async def destroy(self) -> None:
        """End every process inside, with it every mount, and remove the folder."""
        await _end(self._keeper)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)


async def _end(keeper: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        keeper.kill()
    await keeper.wait()
