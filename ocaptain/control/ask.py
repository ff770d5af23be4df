"""Send a command to a voyage's captain, or execute it here if no captain is running."""

from __future__ import annotations

import socket
import time
from functools import partial
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ocaptain import process
from ocaptain.control.commands import UNKNOWN, Answer, Command, carry_out
from ocaptain.control.socket_location import socket_path
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger
from ocaptain.locks import Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_LINE = 16 * 1024 * 1024  # bytes; a task's file may have 4 MiB
ANSWER_SECONDS = 10.0
MAX_WAIT_SECONDS = 30.0  # while a captain starts or ends


class CaptainSilent(OcaptainError):
    """The captain neither answers nor ends."""


def ask(
    directory: Path,
    command: Command,
    execute: Callable[[Command, Ledger], Answer] = carry_out,
    seconds: float | None = None,
) -> Answer:
    """Have the voyage's captain execute a command, or execute it here if no captain is running.

    A captain of another version that does not know the command is replaced by one of this version; its ships work on.

    Args:
        directory: the voyage's.
        command: to be executed.
        execute: what executes it here, with the ledger opened for writing.
        seconds: how long an answer is waited for; None = as long as a captain takes to start or to end.

    Raises:
        CaptainSilent: the captain does not answer.
        OcaptainError: it could not execute the command.
    """
    until = time.monotonic() + (MAX_WAIT_SECONDS if seconds is None else seconds)
    is_replaced = False
    while True:
        for attempt in (_ask_captain, partial(_run_under_lock, execute=execute)):
            if (answer := attempt(directory, command)) is None:
                continue
            if answer.has_failed:
                raise OcaptainError(answer.said)
            is_unknown = not answer.done and answer.said == UNKNOWN
            if not answer.is_late and not is_unknown:
                if is_replaced:
                    _start_captain_again(directory)
                return answer
            # Late: its voyage has ended, and all that it still does is to count.
            process.stop_captain(directory)
            is_replaced = is_replaced or is_unknown
        if time.monotonic() > until:
            raise CaptainSilent(f"the captain of {directory.name} does not answer; see {directory / 'captain.log'}")
        time.sleep(0.2)


def _ask_captain(directory: Path, command: Command) -> Answer | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            with socket_path(directory) as path:
                connection.connect(str(path))
            connection.sendall(command.model_dump_json().encode() + b"\n")
            line = b"".join(_receive_line(connection))
        except OSError:
            return None
    try:
        return Answer.model_validate_json(line)
    except ValidationError:
        return None  # the captain ended meanwhile; the command can be repeated


def _receive_line(connection: socket.socket) -> Iterator[bytes]:
    size = 0
    while size < MAX_LINE and (data := connection.recv(4096)):
        size += len(data)
        yield data
        if data.endswith(b"\n"):
            return


def _run_under_lock(directory: Path, command: Command, execute: Callable[[Command, Ledger], Answer]) -> Answer | None:
    with Lock(process.captain_lock_path(directory)) as lock:
        if not lock.acquire_within(0.5):
            return None
        with Ledger(directory / "ledger.db") as ledger:
            ledger.take_command()
            answer = execute(command, ledger)
            pauses = answer.done and command.name == "pause"
            under_way = ledger.count_tasks()["in_progress"]
            if pauses and not under_way:
                ledger.set_state("paused")
    if pauses and under_way:
        process.start_captain(directory)  # a captain must finish the running tasks
    return answer


def _start_captain_again(directory: Path) -> None:
    with Ledger(directory / "ledger.db") as ledger:
        state = ledger.voyage().state
    if state in {"running", "verifying"}:
        process.start_captain(directory)


def stop_captain(directory: Path) -> bool:
    """Stop the running captain, by a command if it listens, else by signals; return whether none runs afterwards.

    Its ships work on.
    """
    if process.is_captain_running(directory) and _ask_captain(directory, Command(name="stop")) is not None:
        until = time.monotonic() + process.STOP_SECONDS
        while process.is_captain_running(directory) and time.monotonic() < until:
            time.sleep(0.05)
    return process.stop_captain(directory)
