"""The one place that runs Mutagen: its calls, each with a deadline, and its daemon, as a child of the captain.

The environment is made anew: neither daemon nor clients see a token. ``daemon start`` is never used: on macOS it may
hand over to a daemon that the user registered, whatever the data directory is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError
from ocaptain.locks import Lock
from ocaptain.process import identify, live_pid
from ocaptain.sync.place import Place, find_place, remove_place
from ocaptain.sync.spec import create_argv, list_argv, read_sessions, read_version, session_argv
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from typing import Literal

    from ocaptain.sync.spec import Line, Session

CALL_SECONDS = 20.0
FLUSH_SECONDS = 30.0
CREATE_SECONDS = 60.0
PAUSE_SECONDS = 5.0
START_SECONDS = 20.0
END_SECONDS = 5.0  # it takes about 1.5
VERSION_SECONDS = 20.0
_MAX_SAID = 300


class MutagenError(OcaptainError):
    """Mutagen cannot be used, or a call of it failed."""


class MutagenNotUsed(MutagenError):
    """There is no Mutagen, or one of a version that was not tried: asking again changes nothing."""


@dataclass(frozen=True)
class Binary:
    """Mutagen, as it is installed: where, and which version."""

    path: Path
    version: str


def find_binary(search: str | None = None) -> Path | None:
    """Return where ``mutagen`` is on ``PATH`` (or on ``search``), None if it is not installed."""
    found = shutil.which("mutagen", path=search)
    return Path(found) if found else None


async def require_binary(search: str | None = None) -> Binary:
    """Return the Mutagen that is used.

    Args:
        search: instead of ``PATH``.

    Raises:
        MutagenNotUsed: there is none, or it is of a version that was not tried.
        MutagenError: it does not say its version.
    """
    found = find_binary(search)
    if found is None:
        raise MutagenNotUsed("mutagen is not installed")
    said = await read_said_version(found)
    version = read_version(said)
    if version is None:
        raise MutagenNotUsed(f"mutagen is of version {clean_line(said, 40) or 'unknown'}; 0.18 is used")
    return Binary(found, version)


async def read_said_version(binary: Path) -> str:
    """Return what ``mutagen version`` prints. Raises MutagenError, also if it hangs."""
    return (await _call(binary, ["version"], _environment(None), VERSION_SECONDS)).decode(errors="replace").strip()


def _environment(place: Place | None) -> dict[str, str]:
    """Return all that Mutagen's programs see of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    found = {**kept, "LC_ALL": "C.UTF-8", "MUTAGEN_DISABLE_AUTOSTART": "1"}
    if place:
        found |= {"MUTAGEN_DATA_DIRECTORY": str(place.data), "MUTAGEN_SSH_PATH": str(place.programs)}
    return found


async def _call(binary: Path, argv: list[str], environment: dict[str, str], seconds: float) -> bytes:
    """Run Mutagen; return what it prints.

    Raises:
        MutagenError: it failed, or did not end in time and was killed.
    """
    pipe = asyncio.subprocess.PIPE
    shown = f"mutagen {' '.join(argv[:2])}"
    try:
        process = await asyncio.create_subprocess_exec(
            binary,
            *argv,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            start_new_session=True,
        )
    except OSError as error:
        raise MutagenError(f"{binary} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            out, complaint = await process.communicate()
    except TimeoutError as error:
        raise MutagenError(f"{shown} did not end in {seconds:g} s and was killed") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - a grandchild may hold the pipes
        await process.wait()
    if process.returncode:
        said = clean_line(complaint.decode(errors="replace"))[-_MAX_SAID:] or f"exit {process.returncode}"
        raise MutagenError(f"{shown}: {said.removeprefix('Error: ')}")
    return out


class Mutagen:
    """Mutagen for one voyage.

    Args:
        binary: which.
        place: of its files.
        voyage: its id.
    """

    def __init__(self, binary: Binary, place: Place, voyage: str) -> None:
        self.binary = binary
        self.place = place
        self._voyage = voyage
        self._daemon: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether the daemon runs."""
        return self._daemon is not None and self._daemon.returncode is None

    async def start(self) -> None:
        """Start the daemon, in the place of one that an earlier captain left behind.

        Raises:
            MutagenError: it does not start.
        """
        try:
            await asyncio.to_thread(end_daemon, self.place)
            self.place.write_programs()
            self._daemon = await self._start_daemon()
        except OSError as error:
            raise MutagenError(f"Mutagen's daemon cannot be started: {error}") from error
        until = time.monotonic() + START_SECONDS
        while not (self.place.data / "daemon" / "daemon.sock").is_socket():
            if not self.is_running or time.monotonic() > until:
                said = clean_line(self.place.log.read_text("utf-8", "replace"))[-_MAX_SAID:]
                await self.stop()
                raise MutagenError(f"Mutagen's daemon did not start: {said or 'it says nothing'}")
            await asyncio.sleep(0.05)
        await self.sessions()

    async def _start_daemon(self) -> asyncio.subprocess.Process:
        """Start it with a lock on the file that names it, which the kernel releases when it ends. Raises OSError."""
        with Lock(self.place.pid_file) as lock, self.place.log.open("wb") as log:
            daemon = await asyncio.create_subprocess_exec(
                self.binary.path,
                *("daemon", "run"),
                env=_environment(self.place),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock.fileno(),) if lock.acquire() else (),
            )
            self.place.pid_file.write_text(f"{daemon.pid} {identify(daemon.pid)}\n", "ascii")
        return daemon

    async def stop(self) -> None:
        """End the daemon; its sessions stay, for the next one."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                daemon.send_signal(number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await daemon.wait()
                    break
        with contextlib.suppress(OSError):
            self.place.pid_file.unlink()

    async def _run(self, argv: list[str], seconds: float) -> bytes:
        return await _call(self.binary.path, argv, _environment(self.place), seconds)

    async def sessions(self) -> list[Session]:
        """Return the sessions of the voyage. Raises MutagenError."""
        try:
            return read_sessions(await self._run(list_argv(self._voyage), CALL_SECONDS))
        except ValueError as error:
            raise MutagenError(f"mutagen sync list: {error}") from error

    async def create(self, line: Line) -> None:
        """Make a session; the folder's parents are made first, since Mutagen makes none. Raises MutagenError."""
        try:
            Path(line.target).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MutagenError(f"{Path(line.target).parent} cannot be made: {error.strerror}") from error
        await self._run(create_argv(line), CREATE_SECONDS)

    async def act(
        self,
        verb: Literal["flush", "pause", "resume", "reset", "terminate"],
        session: str,
        seconds: float | None = None,
    ) -> None:
        """Have something done to a session. Raises MutagenError, also if it takes longer than ``seconds``."""
        usual = FLUSH_SECONDS if verb == "flush" else CALL_SECONDS
        await self._run(session_argv(verb, session), usual if seconds is None else seconds)


def end_daemon(place: Place) -> None:
    """End the daemon of an earlier captain, if it lives."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pid = live_pid(place.pid_file)
        if pid is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + END_SECONDS
        while live_pid(place.pid_file) is not None and time.monotonic() < until:
            time.sleep(0.05)
    with contextlib.suppress(OSError):
        place.pid_file.unlink()


def clear(directory: Path) -> None:
    """End the daemon of a voyage whose captain is gone, and remove its files; the mirrors stay.

    Args:
        directory: the voyage's.
    """
    if found := find_place(directory):
        end_daemon(Place(found))
    remove_place(directory)
