"""Where Mutagen's files of a voyage are, on this machine.

::

    <voyage>/mutagen/       or, if that path is too long, a private folder below XDG_RUNTIME_DIR or for temporary files,
      bin/ssh, bin/scp      which ``<voyage>/mutagen.place`` names
      switch.sock
      daemon.pid            pid and start time of the daemon
      d/                    Mutagen's own: sessions, caches, and the daemon's socket

A socket's path may have about 100 bytes. With a data directory of 103 Mutagen starts, says that all is well, and then
no call of its reaches it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ocaptain.sync.thin
from ocaptain.private import find_private_directory, is_private, make_private_directory
from ocaptain.protocol.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

MAX_DATA = 80  # bytes of the path of Mutagen's data directory
FOLDER = "mutagen"
POINTER = "mutagen.place"
_PREFIX = "ocaptain-mutagen-"


@dataclass(frozen=True)
class Place:
    """The folder, and what is in it."""

    path: Path

    @property
    def data(self) -> Path:
        """Mutagen's data directory."""
        return self.path / "d"

    @property
    def switch(self) -> Path:
        """The switch's socket."""
        return self.path / "switch.sock"

    @property
    def programs(self) -> Path:
        """The folder of ``ssh`` and ``scp``."""
        return self.path / "bin"

    @property
    def pid_file(self) -> Path:
        """Names the daemon."""
        return self.path / "daemon.pid"

    @property
    def log(self) -> Path:
        """What the daemon says."""
        return self.path / "daemon.log"

    def write_programs(self) -> None:
        """Write ``ssh`` and ``scp`` anew, since Python or the socket may be elsewhere now. Raises OSError."""
        self.programs.mkdir(mode=0o700, exist_ok=True)
        words = [sys.executable, "-I", "-S", ocaptain.sync.thin.__file__, str(self.switch)]
        for tool in ("ssh", "scp"):
            script = f'#!/bin/sh\nexec {shlex.join(words)} {tool} "$@"\n'
            write_atomic(self.programs / tool, script.encode(), 0o700, durable=False, one_writer=True)


def make_place(directory: Path) -> Place:
    """Return the place of a voyage's mirrors, made if it is not there.

    Args:
        directory: the voyage's.

    Raises:
        OSError: it cannot be made; or no folder has a path that is short enough.
    """
    found = find_place(directory)
    if found is None:
        found = directory / FOLDER
        if _fits(found):
            found.mkdir(mode=0o700, exist_ok=True)
        elif private := make_private_directory(directory / POINTER, _PREFIX, _fits):
            found = private
        else:
            short = "set XDG_RUNTIME_DIR to a folder with a short path"
            raise OSError(f"{directory} is too long a path for Mutagen; {short}")
        if not is_private(found):
            raise OSError(f"{found} is not this user's alone: remove it")
    place = Place(found)
    place.data.mkdir(mode=0o700, exist_ok=True)
    return place


def find_place(directory: Path) -> Path | None:
    """Return the place of a voyage's mirrors, None if there is none, or if what is there is not this user's alone."""
    with contextlib.suppress(OSError, ValueError):
        if _fits(directory / FOLDER):
            return directory / FOLDER if is_private(directory / FOLDER) else None
        return find_private_directory(directory / POINTER, _PREFIX)
    return None


def remove_place(directory: Path) -> None:
    """Remove it; sessions and caches with it."""
    if found := find_place(directory):
        shutil.rmtree(found, ignore_errors=True)
    with contextlib.suppress(OSError):
        (directory / POINTER).unlink()


def _fits(path: Path) -> bool:
    return len(os.fsencode(Place(path).data)) <= MAX_DATA
