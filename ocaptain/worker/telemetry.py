"""Receive what the agent reports by OTLP, and spool it in the journal. Standard library only.

::

    agent ──OTLP/HTTP on loopback──> otlp_http.py: one call, bounded ──otlp_body.py: checked──>
          ──cut into pieces──> journal, class ``otlp``: bounded on disk, the oldest dropped ──channel──> captain

A call's body is stored as it was sent if it is gzip, and packed by zlib if it is not. It is answered when all of it is
in the journal, without waiting for the disk: it survives a worker that is killed, not a machine that is. The numbers
in each record (:class:`ocaptain.protocol.envelope.OtlpBody`) tell the captain what was dropped.

The port is the kernel's choice, and kept in a file, so that a worker that starts anew can be reached by an agent that
runs already. Nothing here keeps a ship awake: after the captain's ``rest`` no call is taken until its next command.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sys
import time
import zlib
from typing import Callable, Dict, Mapping

from ocaptain.protocol import Message
from ocaptain.protocol.codec import to_dict
from ocaptain.protocol.envelope import OtlpBody
from ocaptain.protocol.files import write_atomic
from ocaptain.worker.journal import Journal
from ocaptain.worker.otlp_body import check_body
from ocaptain.worker.otlp_http import MAX_HEAD, PATHS, Call, OtlpServer
from ocaptain.worker.places import Places

PIECE_BYTES = 48 * 1024
HOST = "127.0.0.1"


class Spool:
    """Stores calls in the journal.

    Args:
        journal: the worker's.
        append: appends a record to it; raises OSError.
    """

    def __init__(self, journal: Journal, append: Callable[[Message], None]) -> None:
        self._journal = journal
        self._append = append
        # A journal that has lost its newest record numbers on from its last record: no call has fewer records than one.
        newest = journal.newest("otlp") or {"call": journal.last("otlp")}
        self._call = int(newest["call"])
        self._bytes = int(newest.get("before", 0)) + int(newest.get("size", 0))
        self._lock = asyncio.Lock()

    async def store(self, call: Call, token: int | None) -> None:
        """Check a call and store it; one at a time, so that memory is bounded.

        Args:
            call: as it came.
            token: of the attempt that runs.

        Raises:
            BadBody: it is malformed.
            LargeBody: unzipped it is too large.
            OSError: it could not be written.
        """
        at = time.time()
        async with self._lock:
            data = await asyncio.to_thread(_pack, call)
            self._call, before = self._call + 1, self._bytes
            self._bytes += len(data)
            starts = range(0, max(len(data), 1), PIECE_BYTES)
            for number, start in enumerate(starts):
                piece = base64.b64encode(data[start : start + PIECE_BYTES]).decode()
                body = OtlpBody(
                    call.signal, call.content_type, self._journal.name, self._call, before, len(data),
                    number, len(starts), at, piece, token,
                )  # fmt: skip
                self._append(to_dict(body))
                await asyncio.sleep(0)  # the channel's turn


def _pack(call: Call) -> bytes:
    check_body(call.body, call.content_type, gzipped=call.gzipped)
    return bytes(call.body) if call.gzipped else zlib.compress(call.body, 1)


class Telemetry:
    """The receiver of this ship's agent; off until :meth:`open`.

    Args:
        places: where everything is on this ship.
        journal: the worker's.
        append: appends a record to it, and wakes who sends it.
        token: returns the token of the attempt that runs, None if none does.

    Attributes:
        is_taking: whether calls are taken; False once the captain has let the ship rest.
    """

    def __init__(
        self, places: Places, journal: Journal, append: Callable[[Message], None], token: Callable[[], int | None]
    ) -> None:
        self.is_taking = True
        self._port_file = places.own / "otlp.port"
        self._journal = journal
        self._append = append
        self._token = token
        self._server: asyncio.AbstractServer | None = None
        self._port = 0

    async def reopen(self) -> None:
        """Listen again where an earlier worker did, for an agent that runs."""
        if self._port_file.exists():
            await self.open()

    async def open(self) -> None:
        """Listen, unless it does already; where that fails, agents report nothing."""
        if self._server:
            return
        spool = Spool(self._journal, self._append)
        otlp = OtlpServer(lambda call: spool.store(call, self._token()), lambda: self.is_taking)
        former = 0
        with contextlib.suppress(OSError, ValueError):
            former = int(self._port_file.read_text())
        for port in dict.fromkeys((former, 0)):
            try:
                self._server = await asyncio.start_server(otlp.serve_connection, HOST, port, limit=MAX_HEAD)
            except (OSError, OverflowError) as error:
                print(f"telemetry is not received on port {port or 'any'}: {error}", file=sys.stderr, flush=True)
                continue
            self._port = self._server.sockets[0].getsockname()[1]
            with contextlib.suppress(OSError):  # then a worker that starts anew listens on another one
                write_atomic(self._port_file, str(self._port).encode(), durable=False)
            return

    def environment(self, wanted: Mapping[str, str]) -> Dict[str, str]:
        """Return the environment of an agent that is to report here; {} if it is not to, or nothing listens.

        Args:
            wanted: the agent's own variables, that make it report by OTLP/HTTP.
        """
        if not wanted or not self._port:
            return {}
        base = f"http://{HOST}:{self._port}"
        # The names of the specification ("OpenTelemetry Protocol Exporter"). One for each signal, too: it comes first.
        signals = {f"OTEL_EXPORTER_OTLP_{name.upper()}_ENDPOINT": f"{base}{path}" for path, name in PATHS.items()}
        return {**wanted, "OTEL_EXPORTER_OTLP_ENDPOINT": base, **signals}

    def close(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()
