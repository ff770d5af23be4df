"""The transport to a ship that is a host of an inventory: OpenSSH's client, with the inventory's settings.

The channel is an ssh whose connection other calls share (ControlMaster); files go through stdin and
stdout. How a host is reached is data (``target``). A host never counts as gone: one that does not answer
may only be disconnected, and its work is on it.
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
from ocaptain.captain.transport.target import read_target, remote_command, ssh_argv

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
#: Marks where the command's output begins: what a user's shell prints before it is ignored.
_MARK = b"\x01ocaptain-output\n"


@dataclass(frozen=True)
class ScriptResult:
    """A script that ended: exit code, output (cut at the limit that was asked for), end of stderr."""

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
        # A new name each time: a socket that a killed ssh left behind does not matter.
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._shared = f"{os.getpid()}-{secrets.token_hex(4)}"
        options = ["-o", "ControlMaster=yes", "-o", f"ControlPath={self._shared}", "-o", "ControlPersist=no"]
        process = await self._start(options, f"exec python3 {WORKER} channel")
        return SshStream(process, self._name, self._sockets / self._shared)

    async def put(self, path: str, data: bytes) -> None:
        """Write a file whole or not at all: an incomplete one is never renamed to its final name."""
        names = (path, f"{path}.{secrets.token_hex(4)}.part", str(PurePosixPath(path).parent))
        target, scratch, folder = map(shlex.quote, names)
        script = (
            f"umask 077; target={target} scratch={scratch}; mkdir -p -- {folder} && "
            'trap \'rm -f -- "$scratch"\' EXIT && cat > "$scratch" && '
            f'[ "$(wc -c < "$scratch")" -eq {len(data)} ] && mv -f -- "$scratch" "$target"'
        )
        done = await self._run_script(script, data=data, seconds=FILE_SECONDS)
        if done.code:
            raise TransportError(f"{self._name}: {path} could not be written: {done.stderr or f'exit {done.code}'}")

    async def get(self, path: str, limit: int) -> bytes:
        """Read a file. One that does not exist, or is too large, does not mean that the host is gone."""
        target = shlex.quote(path)
        script = f"[ -f {target} ] || exit {_MISSING}; exec head -c {limit + 1} -- {target}"
        done = await self._run_script(script, limit=limit + 1, seconds=FILE_SECONDS)
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

    async def _run_script(
        self, script: str, *, data: bytes = b"", limit: int = MAX_REASON, seconds: float = ASK_SECONDS
    ) -> ScriptResult:
        """Run a script in the ship's home; its exit code is its own.

        Raises:
            TransportError: the host cannot be reached, or did not answer in time.
        """
        command = SshCommand(await self._start_script(script), self._name)
        feeding = asyncio.create_task(command.feed(data))
        out, stderr = bytearray(), b""
        try:
            async with asyncio.timeout(seconds):
                async for stream, piece in command:
                    if stream == STDERR:
                        stderr = (stderr + piece)[-MAX_REASON:]
                    elif len(out) < limit:  # more is read only so that the other end can end
                        out += piece
        except TimeoutError as error:
            raise TransportError(f"{self._name}: no answer in {seconds:g} s") from error
        finally:
            feeding.cancel()
            await command.close()
            await asyncio.gather(feeding, return_exceptions=True)
        return ScriptResult(command.exit_code, bytes(out[:limit]), stderr.decode(errors="replace").strip())

    async def read_holder(self) -> str | None:
        """Return the id of the voyage that holds the host, None if none does. Raises :class:`TransportError`."""
        done = await self._run_script(f"[ ! -e {LOCK} ] || head -n 1 {LOCK}")
        if done.code:
            raise TransportError(f"{self._name}: {LOCK} could not be read: {done.stderr}")
        words = done.out.decode(errors="replace").split()
        return words[0] if words else None

    async def _start_script(self, script: str) -> asyncio.subprocess.Process:
        """Start a script whose output begins after :data:`_MARK`."""
        options = ["-o", "ControlMaster=no", "-o", f"ControlPath={self._shared or 'none'}"]
        return await self._start(options, f"printf '\\001ocaptain-output\\n'; {script}")

    async def _start(self, options: Sequence[str], script: str) -> asyncio.subprocess.Process:
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        try:
            return await asyncio.create_subprocess_exec(
                *ssh_argv(self._target, options, remote_command(self._target, script)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                # A socket's path may have 108 bytes; one that is relative always fits.
                cwd=self._sockets,
            )
        except OSError as error:
            raise TransportError(f"{self._target.executable} cannot be run: {error.strerror}") from error


class SshCommand:
    """An ssh as a command; what the user's shell prints before the command is dropped."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self._marked = False
        self._stderr = b""

    @property
    def exit_code(self) -> int:
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
        """Send all of the input; a command that ends without reading it shows why by its exit code."""
        with contextlib.suppress(TransportError):
            await self.send(data)
            await self.send_eof()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        pieces: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue(1)
        readers = [
            asyncio.create_task(_forward_output(self._process.stdout, STDOUT, pieces)),
            asyncio.create_task(_forward_output(self._process.stderr, STDERR, pieces)),
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
            _close_pipes(self._process)
        await self._process.wait()
        _ = self.exit_code  # raises if the command's end was not seen

    async def close(self) -> None:
        """End the ssh; the command ends with it."""
        await _end(self._process)


async def _forward_output(
    source: asyncio.StreamReader | None, stream: int, pieces: asyncio.Queue[tuple[int, bytes]]
) -> None:
    """Put what is read into the queue; an empty piece marks the end."""
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
        self._stderr_tail = asyncio.create_task(_read_tail(process.stderr))

    async def send(self, data: bytes) -> None:
        """Send on stdin."""
        await _write(self._process, self._name, data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._process.stdout
        while data := await self._process.stdout.read(_CHUNK):
            yield data
        stderr, code = await _wait_for_end(self._process, self._stderr_tail)
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


async def _read_tail(stderr: asyncio.StreamReader) -> str:
    tail = b""
    while data := await stderr.read(_CHUNK):
        tail = (tail + data)[-MAX_REASON:]
    return tail.decode(errors="replace").strip()


async def _wait_for_end(process: asyncio.subprocess.Process, stderr: asyncio.Task[str]) -> tuple[str, int]:
    """Return the stderr and the exit code of an ssh whose output has ended."""
    await asyncio.wait([stderr], timeout=TAIL_SECONDS)
    _close_pipes(process)
    return await stderr, await process.wait()


def _close_pipes(process: asyncio.subprocess.Process) -> None:
    """Close the pipes that are read: a child of ssh (ProxyJump) may hold their other ends for long after it.

    Python waits for the end of a process *and* of its pipes.
    """
    for fd in (1, 2):
        pipe = process._transport.get_pipe_transport(fd)  # type: ignore[attr-defined]  # noqa: SLF001
        if pipe:
            pipe.close()


async def _end(process: asyncio.subprocess.Process, patience: float = 0.0) -> None:
    """End an ssh: by the end of its input, or after ``patience`` seconds by force."""
    if process.stdin:
        process.stdin.close()
    if process.returncode is None and patience:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    _close_pipes(process)
    await process.wait()


def socket_directory(directory: Path) -> Path:
    """Return the directory for the sockets of a voyage's shared connections."""
    return directory / "ssh"


def ssh_transport(directory: Path, ship: ShipRow) -> SshTransport:
    """Return the transport to a ship that is a host."""
    return SshTransport(read_target(ship), ship.sprite, socket_directory(directory))


def ssh_transport_factory(directory: Path) -> Callable[[ShipRow], Transport]:
    """Return a function that makes the transport to a ship that is a host."""
    return lambda row: ssh_transport(directory, row)


async def find_held_hosts(directory: Path, voyage: str, ships: Sequence[ShipRow]) -> dict[str, str | None]:
    """Find the hosts that a voyage holds, asking all at once.

    Returns:
        By name, the hosts that the voyage holds (None) or that could not be asked (the reason).
    """

    async def ask(ship: ShipRow) -> tuple[bool, str | None]:
        try:
            return await ssh_transport(directory, ship).read_holder() == voyage, None
        except TransportError as error:
            return True, str(error)

    answers = await asyncio.gather(*(ask(ship) for ship in ships))
    return {ship.sprite: why for ship, (has, why) in zip(ships, answers, strict=True) if has}
