"""A receiver without a voyage: agents that run on this machine report to it, and it stores and forwards like a captain.

    agent ──OTLP/HTTP on 127.0.0.1──> OtlpServer ──checked, unzipped──> StoringSink ──> telemetry.db, collector

The server is the one that ships have (:mod:`ocaptain.worker.otlp_http`), with its bounds. A call that has no room is
answered 503, which exporters try again. It runs in the background until it is stopped; a lock tells that it lives, and
a record beside it where.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import signal
import time
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ocaptain.background import start_module
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.locks import Lock, end_lock_holder, is_locked
from ocaptain.protocol.files import read_json, write_atomic
from ocaptain.sources import state_directory
from ocaptain.telemetry.batch import Batch
from ocaptain.telemetry.clean import Labels
from ocaptain.telemetry.forward import Forwarder, is_loopback
from ocaptain.telemetry.sink import StoringSink
from ocaptain.telemetry.store import FILE_NAME
from ocaptain.worker.otlp_body import MAX_UNZIPPED, BadBody, check_body
from ocaptain.worker.otlp_http import MAX_HEAD, OtlpServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ocaptain.telemetry.forward import Collector
    from ocaptain.worker.otlp_http import Call

HOST = "127.0.0.1"
#: That exporters use if nothing else is configured (specification of the exporter, "OTLP/HTTP").
DEFAULT_PORT = 4318
START_SECONDS, STOP_SECONDS = 60.0, 30.0
log = logging.getLogger("ocaptain.telemetry")


@dataclass(frozen=True)
class Record:
    """A receiver that runs.

    Attributes:
        pid: of its process.
        url: that agents report to.
        store: path of its store.
    """

    pid: int
    url: str
    store: str


def receiver_directory() -> Path:
    """Return where the receiver's files are."""
    return state_directory() / "telemetry"


def store_path() -> Path:
    """Return where the receiver stores what comes."""
    return receiver_directory() / FILE_NAME


def running() -> Record | None:
    """Return the receiver that runs, None if none does."""
    directory = receiver_directory()
    found = read_json(directory / "receiver.json") if is_locked(directory / "lock") else None
    try:
        return Record(**found) if found else None
    except TypeError:
        return None


def start(port: int | None) -> Record:
    """Start a receiver in the background unless one runs; return when it listens.

    Args:
        port: on 127.0.0.1; 0 = any; None = :data:`DEFAULT_PORT`, or where one runs already.

    Raises:
        UsageError: one runs on another port.
        OcaptainError: it did not start; the message holds its output.
    """
    if found := running():
        if port not in {None, 0, int(found.url.rpartition(":")[2])}:
            raise UsageError(f"a receiver runs already at {found.url}; stop it first (`ocaptain telemetry stop`)")
        return found
    directory = receiver_directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = directory / "receiver.log"
    file.unlink(missing_ok=True)
    process = start_module("ocaptain.telemetry", [str(DEFAULT_PORT if port is None else port)], file)
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        has_ended = process.poll() is not None
        if found := running():
            return found
        if has_ended:
            tail = file.read_text("utf-8", "replace").strip()[-2000:] or "it printed nothing"
            raise OcaptainError(f"the receiver did not start (log: {file}):\n{tail}")
        time.sleep(0.02)
    process.kill()
    raise OcaptainError(f"the receiver was not ready within {START_SECONDS:g} s and was killed (log: {file})")


def stop() -> bool:
    """Stop the receiver that runs, after it has stored what it has taken; return False if none runs.

    Raises:
        OcaptainError: its process did not end.
    """
    found = running()
    if found is None:
        return False
    if not end_lock_holder(receiver_directory() / "lock", found.pid, STOP_SECONDS):
        raise OcaptainError(f"the receiver (pid {found.pid}) did not end, although it was killed; try again later")
    return True


# -- the process -----------------------------------------------------------------------------------------


def serve(port: int, collector: Collector | None, secrets: Sequence[str]) -> int:
    """Receive until a signal comes; return the exit code.

    Args:
        port: on 127.0.0.1; 0 = any.
        collector: what is received is forwarded to; None = it is not.
        secrets: to be masked.
    """
    directory = receiver_directory()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with Lock(directory / "lock") as lock:
        if not lock.acquire_within(1.0):
            log.error("another receiver runs already")
            return 1
        try:
            asyncio.run(_serve(directory, port, collector, secrets))
        except OSError as error:
            text = "cannot listen on %s:%d: %s; choose another --port"
            log.error(text, HOST, port, error.strerror)  # noqa: TRY400 - a known error needs no traceback
            return 1
        finally:
            (directory / "receiver.json").unlink(missing_ok=True)
    return 0


async def _serve(directory: Path, port: int, collector: Collector | None, secrets: Sequence[str]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    sinks: list[StoringSink] = []

    async def take(call: Call) -> None:
        await _take(call, sinks[0])

    server = await asyncio.start_server(
        OtlpServer(take, lambda: not ended.is_set()).serve_connection, HOST, port, limit=MAX_HEAD
    )
    url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    if collector and is_loopback(collector.url) and collector.url.rpartition(":")[2] == url.rpartition(":")[2]:
        log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is this receiver: nothing is forwarded")
        collector = None
    forwarder = Forwarder(store_path(), collector) if collector else None
    sinks.append(StoringSink(store_path(), lambda _: Labels(), secrets, forwarder.wake if forwarder else None))
    record = Record(os.getpid(), url, str(store_path()))
    write_atomic(directory / "receiver.json", json.dumps(asdict(record)).encode(), durable=False)
    try:
        await ended.wait()
    finally:
        server.close()
        await asyncio.to_thread(sinks[0].close)
        if forwarder:
            await asyncio.to_thread(forwarder.close)


async def _take(call: Call, sink: StoringSink) -> None:
    """Hand a call to the sink.

    Raises:
        BadBody: it is malformed.
        LargeBody: unzipped it is too large.
        OSError: there is no room for it now.
    """
    body = await asyncio.to_thread(_unpack, call)
    if not sink.has_room(len(body)):
        raise OSError(errno.ENOBUFS, "more comes than can be stored")
    sink.put(Batch("", None, call.signal, call.content_type, body, time.time()))


def _unpack(call: Call) -> bytes:
    check_body(call.body, call.content_type, gzipped=call.gzipped)
    if not call.gzipped:
        return bytes(call.body)
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(bytes(call.body), MAX_UNZIPPED)
    except zlib.error as error:
        raise BadBody(f"it is not gzip: {error}") from None
