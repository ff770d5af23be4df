"""One connection of the worker's unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from ocaptain.protocol import CLASSES, FIRST_CLASSES, LineSplitter, Message, decode_line, encode_line, make_record
from ocaptain.protocol.envelope import Dropped, ToCaptain, pack
from ocaptain.worker.journal import Journal, Reader

#: Records of a class that are sent before classes of higher priority are checked again: a result waits for one piece
#: of telemetry at most.
BATCH_RECORDS = {"result": 16, "log": 16, "telemetry": 16, "otlp": 1}


class Channel:
    """One connection of the unix socket.

    Attributes:
        classes: of records that its captain takes.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.reader: Reader
        self.classes: tuple[str, ...] = FIRST_CLASSES
        self.sent: dict[str, int] = {}
        self._sought: set[str] = set()  # classes whose position was changed
        self.asked_to_rest = False
        self.last_sent_trouble = ""

    def seek(self, name: str, after: int) -> None:
        """Continue with the record after number ``after`` of a class."""
        self.sent[name] = after
        self.reader.seek(name, after)
        self._sought.add(name)

    async def __aiter__(self):  # type: ignore[no-untyped-def]
        lines = LineSplitter()
        while data := await self._reader.read(65536):
            for line in lines.feed(data):
                message = decode_line(line)
                if message is not None:
                    yield message

    async def send(self, message: ToCaptain) -> None:
        """Send a message; wait while the other end does not read."""
        await self.send_line(pack(message))

    async def send_line(self, line: Message) -> None:
        """Send a packed message (a record)."""
        self._writer.write(encode_line(line))
        await self._writer.drain()

    async def send_next_records(self, journal: Journal) -> bool:
        """Send a few records of the first class that has any; return whether there were any.

        A captain that misses records pulls them while others are being sent: then the rest of these is not sent, or
        it would look as if what is pulled had been dropped.
        """
        for name in self.classes:
            batch = self.reader.read(name, BATCH_RECORDS[name])
            self._sought.discard(name)
            for number, body in batch:
                if number != self.sent[name] + 1:
                    await self.send(Dropped(name, number - 1))
                    if name in self._sought:
                        return True
                self.sent[name] = number
                await self.send_line(make_record(number, body))
                if name in self._sought:
                    return True
            if batch:
                return True
            if self.sent[name] < journal.last(name):  # all of the rest has been dropped, or is not sound
                self.sent[name] = journal.last(name)
                self.reader.seek(name, self.sent[name])
                await self.send(Dropped(name, self.sent[name]))
        return False

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


def classes_of(hello: Message) -> tuple[str, ...]:
    """Return the classes of records that a captain takes, by its hello."""
    said = hello.get("classes")
    named = said if isinstance(said, list) else []
    return tuple(name for name in CLASSES if name in FIRST_CLASSES or name in named)


def parse_numbers(value: Any) -> dict[str, int]:
    """Return the record numbers by class that a captain sent; {} if invalid."""
    if not isinstance(value, dict):
        return {}
    return {name: value[name] for name in CLASSES if isinstance(value.get(name), int)}
