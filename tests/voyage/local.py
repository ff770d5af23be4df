"""A captain over real workers on this machine, each in a home of its own: no drydock, no Ansible.

The transport is a unix socket and plain files, so it can be cut, stopped and lied to at will.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from ocaptain.captain.life import Captain
from ocaptain.captain.transport import FileFault, TransportError
from ocaptain.git import Git
from ocaptain.ledger import Ledger, NewVoyage
from ocaptain.plan.graph import critical_paths
from ocaptain.worker.build import worker_bytes
from tests.helpers import PATIENCE, wait_for

VOYAGE = f"voyage-{os.getpid():012x}"  # an attempt's marker is looked for on the whole machine


class SocketStream:
    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    async def send(self, data):
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise TransportError(str(error)) from error

    async def __aiter__(self):
        try:
            while data := await self._reader.read(65536):
                yield data
        except OSError as error:
            raise TransportError(str(error)) from error
        raise TransportError("the worker's end closed")

    async def close(self):
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class LocalShip:
    """A worker, and the transport to it; on Debian's Python, or on another one, which is ``python3`` there."""

    def __init__(self, home: Path, python: Path = Path("/usr/bin/python3")) -> None:
        self.home = home
        self.python = python
        self.down = False
        self.opened = 0
        self._streams: list[asyncio.StreamWriter] = []
        own = home / ".ocaptain"
        own.mkdir(parents=True, mode=0o700, exist_ok=True)
        if not (own / "worker.pyz").exists():
            (own / "worker.pyz").write_bytes(worker_bytes())
        (own / "tmux.conf").write_text("")
        path = os.environ["PATH"]
        if python.name != "python3":
            (home / "bin").mkdir(exist_ok=True)
            (home / "bin/python3").symlink_to(python)
            path = f"{home}/bin:{path}"
        self.env = {
            "PATH": path,
            "HOME": str(home),
            "OCAPTAIN_SHIP_HOME": str(home),
            "TMUX_TMPDIR": str(home),
        }
        self.process: subprocess.Popen | None = None

    def start(self):
        socket = self.home / ".ocaptain/worker.sock"
        socket.unlink(missing_ok=True)
        with (self.home / "worker.log").open("ab") as log:
            argv = [self.python, self.home / ".ocaptain/worker.pyz", "serve"]
            self.process = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, cwd=self.home)
        wait_for(lambda: socket.exists() or self.process.poll() is not None)
        return self

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        self.process.wait(PATIENCE)

    def end(self):
        if self.process and self.process.poll() is None:
            self.kill()
        subprocess.run(["tmux", "-L", "ocaptain", "kill-server"], env=self.env, capture_output=True, check=False)
        marker = b"OCAPTAIN_MARKER=voyage-"
        for found in Path("/proc").glob("[0-9]*/environ"):
            try:
                data = found.read_bytes()
            except OSError:
                continue
            if marker in data and str(self.home).encode() in data:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(found.parent.name), signal.SIGKILL)

    def cut(self):
        """Break every stream and refuse new ones."""
        self.down = True
        for writer in self._streams:
            writer.close()

    # -- the transport ---------------------------------------------------------------------

    async def open(self):
        if self.down:
            raise TransportError("cut")
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.home / ".ocaptain/worker.sock"))
        except OSError as error:
            raise TransportError(str(error)) from error
        self.opened += 1
        self._streams.append(writer)
        return SocketStream(reader, writer)

    async def put(self, path, data):
        if self.down:
            raise TransportError("cut")
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    async def get(self, path, limit):
        if self.down:
            raise TransportError("cut")
        try:
            data = (self.home / path).read_bytes()
        except OSError as error:
            raise FileFault(f"{path}: {error.strerror}") from error
        if len(data) > limit:
            raise FileFault(f"{path} is longer than {limit}")
        return data

    async def command(self, argv):
        if self.down:
            raise TransportError("cut")
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=self.home, env=self.env, stdin=pipe, stdout=pipe, stderr=pipe
        )
        return LocalCommand(process)


class LocalCommand:
    """A command on this machine; all of its output comes at its end."""

    def __init__(self, process):
        self._process = process

    @property
    def exit_code(self):
        return self._process.returncode

    async def send_eof(self):
        self._process.stdin.close()

    async def __aiter__(self):
        out, complaints = await self._process.communicate()
        yield 1, out
        yield 2, complaints

    async def close(self):
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def make_voyage(root: Path, tasks: list[dict], ships: int = 1, verify: str = "true", **more) -> Path:
    """Make a voyage directory; a task has ``run`` and may have ``subject``, ``verify``, ``waits``, ``pin``, ``hold``.

    ``verify_ship`` adds a ship for the final verify.
    """
    directory = root / VOYAGE
    directory.mkdir()
    Git(directory).run("init", "-q", "--bare", "--template=", str(directory / "repo.git"))
    git = Git(directory / "repo.git")
    base = git.text("commit-tree", git.text("mktree"), "-m", "root")
    git.update_ref(f"refs/heads/{VOYAGE}", base)
    git.run("symbolic-ref", "HEAD", f"refs/heads/{VOYAGE}")
    Git(directory).run("clone", "-q", "--branch", VOYAGE, str(git.directory), str(directory / "workspace"))
    graph = {str(n): frozenset(task.get("waits", ())) for n, task in enumerate(tasks, 1)}
    chains = critical_paths(graph)
    rows = [
        {
            "id": str(n),
            "position": n,
            "subject": task.get("subject", f"Task {n}"),
            "raw": json.dumps(
                {
                    "id": str(n),
                    "subject": task.get("subject", f"Task {n}"),
                    "description": "",
                    "metadata": {k: v for k, v in task.items() if k not in {"subject", "waits", "pin", "wish"}},
                }
            ),
            "agent": task.get("agent", "command"),
            "pin": task.get("pin"),
            "approved": int(not task.get("hold")),
            "wish": task.get("wish"),
            "priority": chains[str(n)],
            "status": "pending",
        }
        for n, task in enumerate(tasks, 1)
    ]
    new = {
        "id": VOYAGE,
        "name": "n",
        "provider": "drydock",
        "digest": "d",
        "repo": "",
        "root": base,
        "agent_cmd": None,
        "spec": "spec",
        "verify_script": f"set -e\n{verify}\n".encode(),
        "verify_timeout": 60.0,
        "setup": None,
        "prompt": None,
        "tasks": rows,
        "edges": graph,
        "ships": [
            (ship, f"{VOYAGE}-{ship}")
            for ship in [
                *(f"ship-{n}" for n in range(ships)),
                *(["ship-verify"] if more.pop("verify_ship", False) else []),
            ]
        ],
    }
    Ledger.create(directory / "ledger.db", NewVoyage(**{**new, **more}))
    with command(directory) as ledger:  # as the launch leaves them
        for ship in ledger.ships():
            ledger.set_ship(ship.id, "bootstrapping" if ship.role == "work" else "asleep")
    return directory


def command(directory: Path) -> Ledger:
    """Open the ledger with a new epoch."""
    ledger = Ledger(directory / "ledger.db")
    ledger.take_command()
    return ledger


async def sail(
    directory: Path, ships: list[LocalShip], *, seconds: float = PATIENCE, meanwhile=None, hooks=(), maker=None
) -> str:
    """Run a captain to the voyage's end (or for ``seconds``); return the voyage's state."""
    with command(directory) as ledger:
        order = [row.id for row in ledger.ships()]
        captain = Captain(directory, ledger, lambda row: ships[order.index(row.id)], hooks=hooks, maker=maker)
        helper = asyncio.create_task(meanwhile(captain)) if meanwhile else None
        try:
            await asyncio.wait_for(captain.run(), seconds)
        finally:
            if helper:
                helper.cancel()
                await asyncio.gather(helper, return_exceptions=True)
        return ledger.voyage().state


def landed(directory: Path) -> list[str]:
    """Return the landed tasks, oldest first."""
    log = Git(directory / "repo.git").text(
        "log", "--reverse", "--format=%(trailers:key=Task,valueonly,separator=%x2C)", VOYAGE
    )
    return [line for line in log.splitlines() if line]
