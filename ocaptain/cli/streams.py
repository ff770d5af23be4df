"""Standard input, output and error of the command line: whatever they are, no command ends with a traceback.

A stream may be closed, full, a pipe without a reader, or have an encoding without our characters. Results
that cannot be written end the command; progress and errors that cannot be written do not.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import select
import sys
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from ocaptain.errors import OcaptainError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

EXIT_NO_READER = 141  # as a shell says it of a program that SIGPIPE ended
MIN_WIDTH = 20
#: What our symbols become where the encoding lacks them; of the same width, so that columns stay aligned.
SYMBOLS = {"…": "~", "→": ">", "·": "-", "│": "|", "─": "-", "━": "-", "╸": "-", "╺": "-"} | {
    "●": "*",
    "○": "o",
    "✓": "+",
    "✗": "x",
    "↻": "@",
    "◆": "*",
    "├": "+",
    "└": "+",
}
_ERRORS = "ocaptain-symbols"


class OutputLost(OcaptainError):
    """Standard output cannot be written."""


class ReaderGone(Exception):
    """Nobody reads standard output any more."""


class RawOutput(io.FileIO):
    """A file descriptor for output.

    Args:
        fd: the descriptor, which stays open.
        required: whether what cannot be written is an error; else it is dropped.
    """

    def __init__(self, fd: int, *, required: bool) -> None:
        super().__init__(fd, "w", closefd=False)
        self._required = required
        self._is_lost = False

    def write(self, data: object) -> int:
        """Write bytes; after the first failure drop all others."""
        view = memoryview(data)  # type: ignore[arg-type] # bytes or the like; typeshed has no public name for it
        if self._is_lost:
            return view.nbytes
        try:
            written = super().write(view)
            while written is None:  # somebody left the descriptor non-blocking, and it is full
                select.select((), (self,), ())
                written = super().write(view)
        except OSError as error:
            self._is_lost = True
            if not self._required:
                return view.nbytes
            if error.errno == errno.EPIPE:
                raise ReaderGone from error
            reason = error.strerror or type(error).__name__
            raise OutputLost(f"standard output cannot be written: {reason}; send it elsewhere") from error
        return written


def prepare_streams() -> None:
    """Replace this process's standard streams by ones that cannot end a command with a traceback."""
    codecs.register_error(_ERRORS, _replace_symbols)
    for fd, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:  # closed: the next file that is opened must not take its place
            os.open(os.devnull, mode)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - it stays open
    sys.stdout = _text_output(1, sys.stdout, required=True)
    sys.stderr = _text_output(2, sys.stderr, required=False)


def _text_output(fd: int, former: TextIO | None, *, required: bool) -> TextIO:
    raw = RawOutput(fd, required=required)
    return io.TextIOWrapper(
        io.BufferedWriter(cast("BinaryIO", raw)),
        encoding=former.encoding if former else "utf-8",
        errors=_ERRORS,
        line_buffering=not required or raw.isatty(),
    )


def _replace_symbols(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode what an encoding lacks: our own symbols as similar ones, anything else as an escape."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in SYMBOLS:
        return SYMBOLS[error.object[error.start]], error.start + 1
    return codecs.backslashreplace_errors(error)


def correct_environment(environ: MutableMapping[str, str]) -> None:
    """Correct what the environment says of the terminal, where nothing could be shown so.

    A width (``COLUMNS``) or height (``LINES``) that is none is left out, so that the terminal's own counts; a
    very small width becomes :data:`MIN_WIDTH`, and the terminal wraps the lines. A terminal that nothing is
    known of (``TERM``) is taken for one that can do nothing but print.
    """
    for name, least in (("COLUMNS", MIN_WIDTH), ("LINES", 1)):
        text = environ.get(name, "")
        if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) == 0:
            environ.pop(name, None)
        elif int(text) < least:
            environ[name] = str(least)
    environ.setdefault("TERM", "dumb")
