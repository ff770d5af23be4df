"""The channel's messages. Standard library only: it travels to the ship inside the worker.

One JSON object per line, in both directions. Any other line (a banner, a motd, half a line after a
broken connection) is noise and ignored.

Captain to worker::

    hello    protocol, voyage, ship, epoch, generation, journal, after, classes   first; opens the channel
    command  id, name, args, parts                       idempotent by id; long arguments are in the files ``parts``
    ack      upto                                        records up to here are processed
    pull     class, after                                send again from here
    task_list  tasks, whole, more                        entries of the list of all tasks; nothing answers it
    rest                                                 no work for this ship: it may sleep
    ping
    look     token, number, have                         the files of a running attempt as they are now

Worker to captain::

    welcome  protocol, journal, first, last, busy, parts, commands     answer to hello; records follow
    refused  protocol, reason, epoch, generation         a newer captain or channel is known, or another protocol
    record   n, crc, body                                one journal entry
    dropped  class, upto                                 records up to here do not exist any more
    trouble  reason                                      why the worker waits (its disk is full), "" = no more
    resting  last                                        answer to rest
    pong
    seen     number, snapshot, files, size, problem, is_running     answer to look; nothing keeps it

A record's body has a ``kind``: ``result`` (id, ok, data), ``log`` (token, offset, data in base64),
``agent`` (token, facts: from the agent's stream so far) or ``otlp`` (a piece of what an agent reported by
OTLP). The kind determines the record's class: ``result``, ``log``, ``telemetry`` or ``otlp``. The records of
a class are numbered from 1 without gaps and sent in order; results come before logs, logs before telemetry,
and records of ``otlp`` only when there is nothing else. ``after``, ``upto``, ``first`` and ``last`` are numbers
by class. ``journal`` names the numbering, which starts anew when a ship's disk does.

The class ``otlp`` came later, within protocol 3: a captain that knows it says so in ``classes`` of its hello, and
only then does the worker speak of it; a worker that knows it names it in ``first`` and ``last`` of its welcome.

Protocol 2 knew no bundles inside of messages (``data``). Protocol 1 knew one numbering for all (``after``,
``upto``, ``first`` and ``last`` were numbers), and neither ``class``, ``rest``, ``dropped`` nor ``trouble``. A
captain uses them with such a worker.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

PROTOCOL = 3
#: The protocol versions of a captain, newest first.
PROTOCOLS = (3, 2, 1)
#: The type of the message that carries a command.
COMMAND = "command"
#: The classes of a journal's records, in the order in which they are sent.
CLASSES = ("result", "log", "telemetry", "otlp")
#: Those that every captain and worker of protocol 2 and 3 knows.
FIRST_CLASSES = CLASSES[:3]
#: Longest line that is parsed as a message; a result with a long list of names fits.
MAX_LINE = 4 * 1024 * 1024
#: Limits for a line from a ship: bytes, number of values, nesting depth. A captain parses such a line in less
#: than 50 ms.
MAX_SHIP_LINE = 1024 * 1024
MAX_VALUES = 10_000
MAX_NESTING = 32
#: Size of a bundle's parts: sending to six ships at the same time needs 24 MiB of memory.
PART_BYTES = 4 * 1024 * 1024
MAX_PART_BYTES = 32 * 1024 * 1024  # accepted, since workers of earlier versions send such parts
#: Arguments of a command with more characters than this are sent as files, to a worker that reads such (``parts``).
INLINE_CHARACTERS = 256 * 1024
#: A bundle up to this size is sent inside the message that names it, without a separate call.
INLINE_BYTES = 64 * 1024
MAX_BUNDLE = 1024 * 1024 * 1024
MAX_PARTS = MAX_BUNDLE // PART_BYTES

Message = dict[str, Any]


def encode_line(message: Message) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"


def decode_line(line: bytes) -> Message | None:
    """Return the message in a line, None for noise."""
    if len(line) > MAX_LINE:
        return None
    try:
        return _parse_message(line)
    except RecursionError:
        return None


def _parse_message(line: bytes) -> Message | None:
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) and isinstance(message.get("type"), str) else None


def decode_from_ship(line: bytes) -> Message | None:
    """Return the message in a ship's line, None for noise; an oversized line is not parsed.

    Raises:
        Excessive: it is longer, or has more or deeper values, than the limits allow.
    """
    if not line.lstrip().startswith(b"{"):
        return None
    if len(line) > MAX_SHIP_LINE or sum(map(line.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise OversizedLine("it sent a line that no worker sends")
    try:
        message = _parse_message(line)
    except RecursionError:
        raise OversizedLine("it sent a line that no worker sends") from None
    if message is not None and not _is_shallow(message):
        raise OversizedLine("it sent a line that no worker sends")
    return message


def _is_shallow(message: Message) -> bool:
    """Return whether no value is nested deeper than :data:`MAX_NESTING`."""
    level: list[Any] = [message]
    for _ in range(MAX_NESTING):
        below = [value for one in level for value in (one.values() if isinstance(one, dict) else one)]
        level = [value for value in below if isinstance(value, (dict, list))]
        if not level:
            return True
    return False


def checksum(number: int, body: Message) -> int:
    """Return the checksum of a record: CRC-32 over its number and canonical body."""
    canonical = json.dumps([number, body], separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return zlib.crc32(canonical.encode("ascii"))


def make_record(number: int, body: Message) -> Message:
    """Return the message that carries a journal entry."""
    return {"type": "record", "n": number, "crc": checksum(number, body), "body": body}


def read_record(message: Message) -> tuple[int, Message] | None:
    """Return number and body of a valid record, None for a damaged one."""
    number, body = message.get("n"), message.get("body")
    if not isinstance(number, int) or number < 1 or not isinstance(body, dict):
        return None
    return (number, body) if message.get("crc") == checksum(number, body) else None


def class_of_record(body: Message) -> str:
    """Return the class of a record with this body."""
    kind = body.get("kind")
    return str(kind) if kind in {"result", "log", "otlp"} else "telemetry"


class LineSplitter:
    """Splits a byte stream into lines; drops a line longer than ``max_bytes`` bytes."""

    def __init__(self, max_bytes: int = MAX_LINE) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._dropping = False
        self.dropped = 0  #: lines that were too long

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; return the lines that are complete now."""
        lines = []
        *complete, rest = data.split(b"\n")
        for part in complete:
            if not self._dropping and len(self._rest) + len(part) <= self._max_bytes:
                lines.append(bytes(self._rest) + part)
            else:
                self.dropped += not self._dropping
            self._rest.clear()
            self._dropping = False
        if self._dropping or len(self._rest) + len(rest) > self._max_bytes:
            self.dropped += not self._dropping
            self._rest.clear()
            self._dropping = True
        else:
            self._rest += rest
        return lines


class OversizedLine(ValueError):
    """A line that is larger than any line of a real worker."""


class HelloRefused(Exception):
    """A hello of an older captain or channel."""


class Fence:
    """Decides which captain the worker obeys: the one with the highest (epoch, generation) for its voyage."""

    def __init__(self, voyage: str = "", epoch: int = 0, generation: int = 0) -> None:
        self.voyage = voyage
        self.epoch = epoch
        self.generation = generation

    def admit(self, hello: Message) -> None:
        """Accept a hello and remember it.

        Raises:
            Refused: it is of another voyage, an older captain or an older channel.
        """
        voyage, epoch, generation = hello.get("voyage"), hello.get("epoch"), hello.get("generation")
        if hello.get("protocol") != PROTOCOL:
            # The words of the first version, too: an older captain shows them to its user.
            raise HelloRefused(f"protocol {hello.get('protocol')!r}, this worker speaks {PROTOCOL}")
        if not isinstance(voyage, str) or not isinstance(epoch, int) or not isinstance(generation, int):
            raise HelloRefused("hello without voyage, epoch and generation")
        if self.voyage not in {"", voyage}:
            raise HelloRefused(f"this ship sails in {self.voyage}")
        if (epoch, generation) < (self.epoch, self.generation):
            raise HelloRefused(f"a newer captain is known (epoch {self.epoch}, channel {self.generation})")
        self.voyage, self.epoch, self.generation = voyage, epoch, generation
