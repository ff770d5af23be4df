"""``exec`` on a host of an inventory: ssh has our streams; what it does not do, to interrupt a command, we do."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from ocaptain.captain.transport.target import read_target, terminal_argv
from ocaptain.cli.shell import CHUNK, Output
from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocaptain.query import ShipRow

#: What names a secret of ours in the environment: a user's ssh may be set to send all of it (``SendEnv *``).
_OURS = ("SPRITE_", "SPRITES_", "OCAPTAIN_", "GH_", "GITHUB_", "ANTHROPIC_", "CLAUDE_")
_SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD")
_END_SECONDS = 10.0
#: Interrupts that go to the host: one for the command, one that kills it. The next ends the connection.
_MAX_TOLD = 2


def environment_of_ssh(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without secrets of ours."""
    return {
        name: value
        for name, value in environment.items()
        if not (name.startswith(_OURS) and any(word in name for word in _SECRETS))
    }


def signal_line(marker: str, name: str) -> str:
    """Return the shell line that sends a signal to all processes with a marker in their environment."""
    return (
        f'for one in /proc/[0-9]*; do grep -qzsx OCAPTAIN_EXEC={marker} "$one/environ"'
        f' && kill -{name} "${{one##*/}}" 2>/dev/null; done; true'
    )


def run_on_host(ship: ShipRow, line: str, *, tty: bool) -> int:
    """Run a shell line on a host; return its exit code, 255 if the host cannot be reached.

    Raises:
        UsageError: the line is longer than this machine's programs take.
        OcaptainError: the ledger does not say how the host is reached.
    """
    target, marker = read_target(ship), secrets.token_hex(8)
    environment = environment_of_ssh(os.environ)
    argv = terminal_argv(target, line if tty else f"export OCAPTAIN_EXEC={marker}; {line}", is_terminal=tty)
    outputs = {fd: subprocess.PIPE if os.isatty(fd) else None for fd in (1, 2)}
    told = 0
    running: subprocess.Popen[bytes] | None = None

    def interrupt(number: int, _frame: object) -> None:
        nonlocal told
        told += 1
        if told > _MAX_TOLD and running:  # the host does not answer, or the command hides from us
            running.kill()
            return
        name = {signal.SIGTERM: "TERM", signal.SIGHUP: "HUP"}.get(signal.Signals(number), "INT")
        killer = terminal_argv(target, signal_line(marker, name if told == 1 else "KILL"), is_terminal=False)
        _run_silently(killer, environment)

    # With a terminal there, Ctrl-C is a key. Without one ssh would end by it, and leave the command behind.
    with _signals(interrupt) if not tty else contextlib.nullcontext():
        try:
            process = subprocess.Popen(
                argv,
                env=environment,
                stdout=outputs[1],
                stderr=outputs[2],
                preexec_fn=None if tty else _ignore_interrupts,  # noqa: PLW1509 - no thread runs yet
            )
        except OSError as error:
            raise UsageError(f"ssh cannot be started: {error.strerror}; is the command too long?") from error
        running = process
        with process:
            threads = [
                threading.Thread(target=_copy, args=(pipe.fileno(), fd), daemon=True)
                for fd, pipe in ((1, process.stdout), (2, process.stderr))
                if pipe
            ]
            for thread in threads:
                thread.start()
            code = process.wait()
            for thread in threads:
                thread.join()
    if code == 255:
        lost = "the connection failed or was lost, and the command may go on there; or it ended so itself"
        sys.stderr.write(f"exec on {ship.id}: exit code 255: {lost}\n")
    if told > _MAX_TOLD:
        sys.stderr.write(f"exec on {ship.id}: given up; the command may go on there\n")
    return code if code >= 0 else 128 - code


def _run_silently(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    nothing = subprocess.DEVNULL
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            argv, env=environment, stdin=nothing, stdout=nothing, stderr=nothing, timeout=_END_SECONDS, check=False
        )


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _copy(source: int, fd: int) -> None:
    write = Output(fd)
    while data := os.read(source, CHUNK):
        write(data)


@contextlib.contextmanager
def _signals(handler: object) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
