"""Commands of ours that get the terminal while the screen waits: ``shell``, ``sail --resume``, ``sink``."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from ocaptain.background import background_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: How this very ocaptain is run, wherever the user is.
OURSELVES = (sys.executable, "-P", "-m", "ocaptain")


def run_program(program: Sequence[str], words: Sequence[str], environ: Mapping[str, str], *, is_kept: bool) -> int:
    """Run a command of ours in the terminal, and return its exit code (127 if it cannot be run).

    What it said stays to be read until Enter, if it failed or ``is_kept``.

    Args:
        program: how ocaptain is run.
        words: the command.
        environ: its environment.
        is_kept: whether its output is to be read in any case.
    """
    with _interrupts_for_others():
        if is_kept:
            print(f"\n$ ocaptain {' '.join(words)}", file=sys.stderr, flush=True)  # noqa: T201 - the terminal is ours
        try:
            code = subprocess.run([*program, *words], env=background_environment(environ), check=False).returncode
        except OSError as error:
            print(f"{program[0]} cannot be run: {error.strerror}", file=sys.stderr)  # noqa: T201 - likewise
            code = 127
        if (code or is_kept) and os.isatty(0):
            print("\nEnter goes back to watch ", end="", file=sys.stderr, flush=True)  # noqa: T201 - likewise
            with contextlib.suppress(OSError, EOFError, ValueError):
                os.read(0, 1024)
    return code


@contextlib.contextmanager
def _interrupts_for_others() -> Iterator[None]:
    """Leave Ctrl-C to the program that runs inside the block."""
    former = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
