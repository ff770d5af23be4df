"""The way to a ship that is a host of an inventory: OpenSSH's client, as the inventory says.

The channel is an ssh whose connection other calls share (ControlMaster); files go through stdin and
stdout. How a host is reached is data (``target``). A host is never gone: one that does not answer
may only be cut off, and its work is on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ocaptain.captain.transport.base import STDERR, STDOUT, WORKER, FileFault, RemoteCommand, Stream, TransportError
from ocaptain.captain.transport.target import argv, remote_command, target_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from ocaptain.captain.transport.base import Transport
    from ocaptain.captain.transport.target import SshTarget
    from ocaptain.ledger import ShipRow

LOCK = ".ocaptain/voyage.lock"  # on the host: which voyage has it, and as which ship (playbooks/tasks/take.yml)
FILE_SECONDS = 600.0  # a part of a bundle has at most 32 MiB
ASK_SECONDS = 60.0
CLOSE_SECONDS = 2.0
TAIL_SECONDS = 1.0  # for the last complaint of an ssh that has ended
MAX_REASON = 2000
_CHUNK = 64 * 1024
_SSH_FAILED = 255
_MISSING = 44
#: Begins the output that counts: what a user's shell says before it is noise.
_MARK = b"\x01ocaptain-output\n"


@dataclass(frozen=True)
class ScriptResult:
    """A script that ended: exit code, output (cut at the limit that was asked for), complaints."""

    code: int
    out: bytes
    stderr: str


class SshTransport:
    """A host.

    Args:
        target: how it is reached.
        name: of the ship's host, for messages.
        sockets: a directory of this machine for the shared connections' sockets.
    """

    def __init__(self, target: SshTarget, name: str, sockets: Path) -> None:
        self._target = target
        self._name = name
        self._sockets = sockets
        self._shared: str | None = None

    async def open(self) -> Stream:
        """Start ``worker channel`` over a connection that file calls share while it lives."""
        # A name of its own each time: a socket that a killed ssh left behind is in nobody's way.
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._shared = f"{os.getpid()}-{secrets.token_hex(4)}"
        options = ["-o", "ControlMaster=yes", "-o", f"ControlPath={self._shared}", "-o", "ControlPersist=no"]
        process = await self._start(options, f"exec python3 {WORKER} channel")
        return SshStream(process, self._name, self._sockets / self._shared)

    async def put(self, path: str, data: bytes) -> None:
        """Write a file whole or not at all: what a broken link cut short is never renamed."""
        names = (path, f"{path}.{secrets.token_hex(4)}.part", str(PurePosixPath(path).parent))
        target, scratch, folder = map(shlex.quote, names)
        script = (
            f"umask 077; target={target} scratch={scratch}; mkdir -p -- {folder} && "
            'trap \'rm -f -- "$scratch"\' EXIT && cat > "$scratch" && '
            f'[ "$(wc -c < "$scratch")" -eq {len(data)} ] && mv -f -- "$scratch" "$target"'
        )
        done = await self._script(script, data=data, seconds=FILE_SECONDS)
        if done.code:
            raise TransportError(f"{self._name}: {path} could not be written: {done.stderr or f'exit {done.code}'}")

    async def get(self, path: str, limit: int) -> bytes:
        """Read a file. One that is not there, or is too long, is no missing host."""
        target = shlex.quote(path)
        script = f"[ -f {target} ] || exit {_MISSING}; exec head -c {limit + 1} -- {target}"
        done = await self._script(script, limit=limit + 1, seconds=FILE_SECONDS)
        if done.code == _MISSING:
            raise FileFault(f"{self._name}: there is no file {path}")
        if done.code:
            raise TransportError(f"{self._name}: {path} could not be read: {done.stderr or f'exit {done.code}'}")
        if len(done.out) > limit:
            raise FileFault(f"{self._name}: the file {path} is larger than {limit} bytes")
        return done.out

    async def command(self, argv: Sequence[str]) -> RemoteCommand:
        """Start a command over the shared connection, if there is one."""
        return SshCommand(await self._start_script(shlex.join(argv)), self._name)

    async def _script(
        self, script: str, *, data: bytes = b"", limit: int = MAX_REASON, seconds: float = ASK_SECONDS
    ) -> ScriptResult:
        """Run a script in the ship's home; its exit code is its own.

        Raises:
            TransportError: the host cannot be reached, or did not answer in time.
        """
        command = SshCommand(await self._start_script(script), self._name)
        feeding = asyncio.create_task(command.feed(data))
        out, complaints = bytearray(), b""
        try:
            async with asyncio.timeout(seconds):
                async for stream, piece in command:
                    if stream == STDERR:
                        complaints = (complaints + piece)[-MAX_REASON:]
                    elif len(out) < limit:  # more is read only so that the other end can end
                        out += piece
        except TimeoutError as error:
            raise TransportError(f"{self._name}: no answer in {seconds:g} s") from error
        finally:
            feeding.cancel()
            await command.close()
            await asyncio.gather(feeding, return_exceptions=True)
        return ScriptResult(command.code, bytes(out[:limit]), complaints.decode(errors="replace").strip())

    async def holder(self) -> str | None:
        """Return the voyage that has the host, None if none has. Raises :class:`TransportError`."""
        done = await self._script(f"[ ! -e {LOCK} ] || head -n 1 {LOCK}")
        if done.code:
            raise TransportError(f"{self._name}: {LOCK} could not be read: {done.stderr}")
        words = done.out.decode(errors="replace").split()
        return words[0] if words else None

    async def _start_script(self, script: str) -> asyncio.subprocess.Process:
        """Start a script whose output begins behind :data:`_MARK`."""
        options = ["-o", "ControlMaster=no", "-o", f"ControlPath={self._shared or 'none'}"]
        return await self._start(options, f"printf '\\001ocaptain-output\\n'; {script}")

    async def _start(self, options: Sequence[str], script: str) -> asyncio.subprocess.Process:
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        try:
            return await asyncio.create_subprocess_exec(
                *argv(self._target, options, remote_command(self._target, script)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # A socket's path may have 108 bytes; one that is relative always fits.
                cwd=self._sockets,
            )
        except OSError as error:
            raise TransportError(f"{self._target.executable} cannot be run: {error.strerror}") from error


class SshCommand:
    """An ssh as a command; what a user's shell says before the command is dropped."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self._marked = False
        self._stderr = b""

    @property
    def code(self) -> int:
        """The exit code."""
        code = self._process.returncode
        if code is None or code == _SSH_FAILED or not self._marked:
            reason = self._stderr.decode(errors="replace").strip() or f"ssh ended (exit {code})"
            raise TransportError(f"{self._name}: {reason}")
        return code

    async def send(self, data: bytes) -> None:
        """Send on stdin."""
        await _write(self._process, self._name, data)

    async def send_eof(self) -> None:
        """End stdin."""
        assert self._process.stdin
        self._process.stdin.close()

    async def feed(self, data: bytes) -> None:
        """Send all of the input; whoever does not read it says why by its exit code."""
        with contextlib.suppress(TransportError):
            await self.send(data)
            await self.send_eof()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(1)
        readers = [
            asyncio.create_task(_pass_on(self._process.stdout, STDOUT, pieces)),
            asyncio.create_task(_pass_on(self._process.stderr, STDERR, pieces)),
        ]
        ended: set[int] = set()
        before = b""
        try:
            while len(ended) < len(readers):
                # A process of ssh's own (ProxyJump) may hold its stderr for long after it.
                async with asyncio.timeout(TAIL_SECONDS if STDOUT in ended else None):
                    stream, data = await pieces.get()
                if not data:
                    ended.add(stream)
                elif stream == STDERR:
                    self._stderr = (self._stderr + data)[-MAX_REASON:]
                elif not self._marked:
                    noise, mark, data = (before + data).partition(_MARK)
                    self._marked = bool(mark)
                    before = noise[-_CHUNK:]
                if data:
                    yield stream, data
        except TimeoutError:
            ended.add(STDERR)
        finally:
            for reader in readers:
                reader.cancel()
            _let_go(self._process)
        await self._process.wait()
        _ = self.code  # raises if the command's end was not seen

    async def close(self) -> None:
        """End the ssh; the command ends with it."""
        await _end(self._process)


async def _pass_on(source: asyncio.StreamReader | None, stream: int, pieces: asyncio.Queue[tuple[int, bytes]]) -> None:
    """Read to the end, which an empty piece tells."""
    assert source
    while data := await source.read(_CHUNK):
        await pieces.put((stream, data))
    await pieces.put((stream, b""))


class SshStream:
    """An ssh as a stream; stderr is noise and becomes the reason of a broken stream."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, socket: Path) -> None:
        self._process = process
        self._name = name
        self._socket = socket
        assert process.stderr
        self._stderr_tail = asyncio.create_task(_tail(process.stderr))

    async def send(self, data: bytes) -> None:
        """Send on stdin."""
        await _write(self._process, self._name, data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._process.stdout
        while data := await self._process.stdout.read(_CHUNK):
            yield data
        stderr, code = await _ended(self._process, self._stderr_tail)
        raise TransportError(f"{self._name}: the worker's channel ended (exit {code}){f': {stderr}' if stderr else ''}")

    async def close(self) -> None:
        """End the ssh; the remote end goes with it."""
        await _end(self._process, CLOSE_SECONDS)
        await self._stderr_tail
        with contextlib.suppress(OSError):
            self._socket.unlink(missing_ok=True)


async def _write(process: asyncio.subprocess.Process, name: str, data: bytes) -> None:
    assert process.stdin
    try:
        process.stdin.write(data)
        await process.stdin.drain()
    except (OSError, RuntimeError) as error:
        raise TransportError(f"{name}: ssh has ended") from error


async def _tail(stderr: asyncio.StreamReader) -> str:
    tail = b""
    while data := await stderr.read(_CHUNK):
        tail = (tail + data)[-MAX_REASON:]
    return tail.decode(errors="replace").strip()


async def _ended(process: asyncio.subprocess.Process, stderr: asyncio.Task[str]) -> tuple[str, int]:
    """Return what an ssh complained of whose output has ended, and its exit code."""
    await asyncio.wait([stderr], timeout=TAIL_SECONDS)
    _let_go(process)
    return await stderr, await process.wait()


def _let_go(process: asyncio.subprocess.Process) -> None:
    """Close what is read of an ssh: a process of its own (ProxyJump) may hold the other ends for long after it.

    Python waits for the end of a process *and* of its pipes.
    """
    for fd in (1, 2):
        pipe = process._transport.get_pipe_transport(fd)  # type: ignore[attr-defined]  # noqa: SLF001
        if pipe:
            pipe.close()


async def _end(process: asyncio.subprocess.Process, patience: float = 0.0) -> None:
    """End an ssh: by the end of its input, by force if that is not enough; nothing of it is left."""
    if process.stdin:
        process.stdin.close()
    if process.returncode is None and patience:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    _let_go(process)
    await process.wait()


def sockets_of(directory: Path) -> Path:
    """Return where a voyage's shared connections have their sockets."""
    return directory / "ssh"


def transport_of(directory: Path, ship: ShipRow) -> SshTransport:
    """Return the transport to a ship that is a host."""
    return SshTransport(target_of(ship), ship.sprite, sockets_of(directory))


def ssh_transports(directory: Path) -> Callable[[ShipRow], Transport]:
    """Return what makes the transport to a ship that is a host."""
    return lambda row: transport_of(directory, row)


async def holding(directory: Path, voyage: str, ships: Sequence[ShipRow]) -> dict[str, str | None]:
    """Ask all hosts at once who has them.

    Returns:
        The hosts that the voyage has (None), or that cannot be asked (why), by name.
    """

    async def ask(ship: ShipRow) -> tuple[bool, str | None]:
        try:
            return await transport_of(directory, ship).holder() == voyage, None
        except TransportError as error:
            return True, str(error)

    answers = await asyncio.gather(*(ask(ship) for ship in ships))
    return {ship.sprite: why for ship, (has, why) in zip(ships, answers, strict=True) if has}
