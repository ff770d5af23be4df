"""Having a command carried out."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ocaptain import process
from ocaptain.control.commands import Answer, Command, carry_out
from ocaptain.control.place import socket_path
from ocaptain.errors import OcaptainError
from ocaptain.ledger import Ledger
from ocaptain.locks import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_LINE = 64 * 1024
ANSWER_SECONDS = 10.0
PATIENCE_SECONDS = 30.0  # a captain may just be starting or ending


def ask(directory: Path, command: Command) -> Answer:
    """Have a command carried out by the voyage's captain, or here if none lives.

    Raises:
        OcaptainError: the captain does not answer.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        for way in (_of_captain, _under_lock):
            if (answer := way(directory, command)) is not None:
                return answer
        if time.monotonic() > until:
            raise OcaptainError(f"the captain of {directory.name} does not answer; see {directory / 'captain.log'}")
        time.sleep(0.2)


def _of_captain(directory: Path, command: Command) -> Answer | None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as joined:
        joined.settimeout(ANSWER_SECONDS)
        try:
            with socket_path(directory) as path:
                joined.connect(str(path))
            joined.sendall(command.model_dump_json().encode() + b"\n")
            line = b"".join(_until_line(joined))
        except OSError:
            return None
    try:
        return Answer.model_validate_json(line)
    except ValidationError:
        return None  # it ended meanwhile; the command may be repeated


def _until_line(joined: socket.socket) -> Iterator[bytes]:
    size = 0
    while size < MAX_LINE and (data := joined.recv(4096)):
        size += len(data)
        yield data
        if data.endswith(b"\n"):
            return


def _under_lock(directory: Path, command: Command) -> Answer | None:
    with Lock(process.lock_path(directory)) as lock:
        if not lock.acquire_within(0.5):
            return None
        with Ledger(directory / "ledger.db") as ledger:
            ledger.take_command()
            answer = carry_out(command, ledger)
            pauses = answer.done and command.name == "pause"
            under_way = ledger.count_tasks()["in_progress"]
            if pauses and not under_way:
                ledger.set_state("paused")
    if pauses and under_way:
        process.start(directory)  # somebody has to bring home what is under way
    return answer


def stop(directory: Path) -> bool:
    """End the captain that runs, in order if it listens, else by signals; True if none runs afterwards.

    Its ships work on.
    """
    if process.is_running(directory) and _of_captain(directory, Command(name="stop")) is not None:
        until = time.monotonic() + process.STOP_SECONDS
        while process.is_running(directory) and time.monotonic() < until:
            time.sleep(0.05)
    return process.stop(directory)
