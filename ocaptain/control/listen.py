"""The captain's side: receives commands of this user, one per line, and answers each with a line."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ocaptain.control.ask import MAX_LINE
from ocaptain.control.commands import UNKNOWN, Answer, Command
from ocaptain.control.socket_location import remove_private_directory, socket_path
from ocaptain.errors import OcaptainError
from ocaptain.peers import is_ours

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path


@contextlib.asynccontextmanager
async def listening(directory: Path, carry_out: Callable[[Command], Answer | Awaitable[Answer]]) -> AsyncIterator[None]:
    """Accept commands inside the block; without a socket (none can be made) no command arrives.

    Args:
        directory: the voyage's directory.
        carry_out: executes a command; called on the event loop.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not is_ours(writer.get_extra_info("socket")):
                return
            answer = await _answer(await reader.readline(), carry_out)
            writer.write(answer.model_dump_json().encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):  # it hung up, or its line does not end
            pass
        finally:
            writer.close()

    try:
        with socket_path(directory, fresh=True) as path:
            path.unlink(missing_ok=True)  # left by a captain that was killed: we hold its lock
            before = os.umask(0o177)
            try:
                server = await asyncio.start_unix_server(serve, str(path), limit=MAX_LINE)
            finally:
                os.umask(before)
    except (OcaptainError, OSError):
        yield
        return
    try:
        yield
    finally:
        server.close()
        with contextlib.suppress(OSError), socket_path(directory) as path:
            path.unlink(missing_ok=True)
        remove_private_directory(directory)


async def _answer(line: bytes, carry_out: Callable[[Command], Answer | Awaitable[Answer]]) -> Answer:
    try:
        answer = carry_out(Command.model_validate_json(line))
        return answer if isinstance(answer, Answer) else await answer
    except ValidationError:
        return Answer(done=False, said=UNKNOWN)
    except OcaptainError as error:
        return Answer(done=False, said=error.message, has_failed=True)
