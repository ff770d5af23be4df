"""What an agent writes goes to the attempt's log and to the pane, without its secrets.

It is shown unchanged, or formatted by the agent's ``stream`` module: then the stream is saved beside the job, and its
facts in ``facts.json``. An agent with a screen of its own has the pane for itself; the lines that are made of what it
writes into files (:mod:`.terminal`) go to the log alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from pathlib import Path
from typing import Any, BinaryIO, List

from ocaptain.protocol import LineSplitter
from ocaptain.protocol.files import write_json
from ocaptain.worker.job import JobFile
from ocaptain.worker.launch import PreparedRun
from ocaptain.worker.show import MAX_LINE, LineMasker, Masker
from ocaptain.worker.streams import new_stream

SAVE_SECONDS = 1.0
DRAW_MILLISECONDS = 200
PAUSE_SECONDS = 0.01
MAX_STREAM_BYTES = 256 * 1024 * 1024


class OutputView:
    """Writes output to log and pane, without secrets.

    Attributes:
        apart: whether standard error needs its own pipe.
        has_pane: whether the pane shows the output; else the agent draws its own screen there.
    """

    has_separate_stderr = False
    has_pane = True

    def __init__(self, log: BinaryIO, mask: Masker, news: str = "") -> None:
        self._log = os.dup(log.fileno())
        self._mask = LineMasker(mask)
        self._news = news
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        if os.isatty(1):  # the launcher's, which never reads or writes there but for us
            os.set_blocking(1, False)

    def receive(self, data: bytes, *, error: bool = False) -> None:
        """Process a piece of the agent's output."""
        del error
        self._show(self._mask.feed(data))

    def tick(self) -> float:
        """Do due work; return the seconds until more is due, 0 if nothing is."""
        return 0.0

    def close(self) -> None:
        """Show the rest and close the log."""
        self._show(self._mask.close())
        os.close(self._log)
        self._socket.close()

    def _show(self, data: bytes) -> None:
        if data:
            with contextlib.suppress(OSError):
                os.write(self._log, data)
            if self.has_pane:
                self._write_to_pane(data)
            self._wake_worker()

    def _write_to_pane(self, data: bytes) -> None:
        """Write to the pane as far as it accepts data: a paused pane must not block the agent."""
        with contextlib.suppress(OSError):
            writable = select.poll()
            writable.register(1, select.POLLOUT)
            view = memoryview(data)
            while view and writable.poll(DRAW_MILLISECONDS):
                view = view[_write_some(view) :]

    def _wake_worker(self) -> None:
        """Wake the worker, if one runs; a full socket has woken it already."""
        if self._news:
            with contextlib.suppress(OSError):
                self._socket.sendto(b"", self._news)


class StreamOutputView(OutputView):
    """Shows an agent's stream in readable form; saves the masked stream and its facts."""

    has_separate_stderr = True

    def __init__(self, log: BinaryIO, start: PreparedRun, directory: Path, stream: Any, news: str) -> None:
        super().__init__(log, start.mask, news)
        self._secrets = start.mask
        self._directory = directory
        self._resumed = start.resumed
        self._lines = LineSplitter(MAX_LINE)
        self._stream = stream
        self._saved_stream = open(directory / "stream.jsonl", "ab", buffering=0, opener=_open_private)  # noqa: SIM115 - closed below
        self._size = 0
        self._saved = 0.0

    def receive(self, data: bytes, *, error: bool = False) -> None:
        """Show complete lines of the stream; show standard error unchanged."""
        if error:
            super().receive(data)
            return
        for line in self._lines.feed(data):
            self._receive_line(self._secrets(line))

    def _receive_line(self, line: bytes) -> None:
        if self._size < MAX_STREAM_BYTES:
            with contextlib.suppress(OSError):
                self._size += self._saved_stream.write(line + b"\n")
        shown: List[str] = self._stream.line(line)
        self._show("".join(f"{one}\n" for one in shown).encode(errors="replace"))

    def tick(self) -> float:
        """Save the facts, at most once a second."""
        if not self._stream.changed:
            return 0.0
        left = self._saved + SAVE_SECONDS - time.monotonic()
        if left > 0:
            return left
        self._save()
        return 0.0

    def _save(self) -> None:
        self._stream.changed = False
        self._saved = time.monotonic()
        with contextlib.suppress(OSError):
            write_json(self._directory / "facts.json", {**self._stream.facts(), "resumed": self._resumed})
        self._wake_worker()

    def close(self) -> None:
        """Process an incomplete last line, and save."""
        for line in self._lines.feed(b"\n"):
            if line:
                self._receive_line(self._secrets(line))
        self._save()
        self._saved_stream.close()
        super().close()


def _write_some(data: memoryview) -> int:
    """Write to the pane without waiting; return the number of written bytes."""
    try:
        return os.write(1, data)
    except BlockingIOError:
        time.sleep(PAUSE_SECONDS)  # there is room, but not enough
        return 0


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def make_view(job: JobFile, directory: Path, prepared: PreparedRun, log: BinaryIO) -> OutputView:
    """Return the view for a job, whose log is open."""
    if job.stream:
        view = StreamOutputView(log, prepared, directory, new_stream(job.stream, job.prices), job.news)
        view.has_pane = job.screen is None
        return view
    return OutputView(log, prepared.mask, job.news)
