"""The worker's append-only journal: survives the worker, is cut when the captain acknowledges."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

from ocaptain.protocol import Message, decode, encode, read_record, record
from ocaptain.worker.places import write_atomic

CUT_BYTES = 1024 * 1024


class Journal:
    """Numbered records on disk; those not yet acknowledged are also in memory.

    The first line names the numbering and the last acknowledged record. A torn last line (the
    machine died while writing) is dropped: nobody was told of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = uuid.uuid4().hex
        self.acknowledged = 0
        self._open: dict[int, Message] = {}
        self._read()
        self._rewrite()

    def _read(self) -> None:
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        head = decode(lines[0])
        if head is None or head.get("type") != "journal":
            return
        self.name, self.acknowledged = str(head["name"]), int(head["acknowledged"])
        for line in lines[1:]:
            message = decode(line)
            found = read_record(message) if message else None
            if found is None or found[0] != self.last + 1:
                break
            self._open[found[0]] = found[1]

    def _rewrite(self) -> None:
        head = encode({"type": "journal", "name": self.name, "acknowledged": self.acknowledged})
        write_atomic(self._path, head + b"".join(encode(record(n, body)) for n, body in self._open.items()))
        self._file = self._path.open("ab")

    @property
    def last(self) -> int:
        """Number of the newest record."""
        return next(reversed(self._open), self.acknowledged)

    def append(self, body: Message, *, durable: bool) -> int:
        """Append a record; if ``durable`` it is on disk when this returns.

        Raises:
            OSError: it could not be written (a full disk); the journal is as it was.
        """
        number = self.last + 1
        body = json.loads(json.dumps(body))
        line, size = encode(record(number, body)), os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[os.write(self._file.fileno(), line) :]
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            os.ftruncate(self._file.fileno(), size)  # half a record would hide the next ones
            raise
        self._open[number] = body
        return number

    def after(self, number: int, most: int) -> list[tuple[int, Message]]:
        """Return the first ``most`` unacknowledged records after ``number``."""
        start = max(number, self.acknowledged) + 1
        return [(n, self._open[n]) for n in range(start, min(self.last, start + most - 1) + 1)]

    def acknowledge(self, upto: int) -> None:
        """Forget the records up to ``upto``."""
        upto = min(upto, self.last)
        for number in range(self.acknowledged + 1, upto + 1):
            self._open.pop(number, None)
        self.acknowledged = max(self.acknowledged, upto)
        if os.fstat(self._file.fileno()).st_size > CUT_BYTES:
            self.close()
            self._rewrite()

    def rename(self) -> None:
        """Start another numbering: somebody has seen records of this one that are not here any more."""
        self.name = uuid.uuid4().hex
        self.close()
        self._rewrite()

    def close(self) -> None:
        """Close the file; what was appended is in it."""
        self._file.close()
