"""Checkpoints: copies of a sprite's disk (its overlay and home directories), stored beside it.

A copy is made while every process is frozen, so it shows the disk at one moment. It does not include
``/tmp``, ``/.sprite`` (logs, sockets) and memory.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from pydantic import BaseModel

from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.sandbox import remove_tree

if TYPE_CHECKING:
    from pathlib import Path

DISK_PARTS = ("upper", "home", "own")
CHECKPOINT_NAME = re.compile(r"v[0-9]{1,9}")
COPY_SECONDS = 600.0


class Checkpoint(BaseModel):
    """A checkpoint.

    Attributes:
        id: ``v1``, ``v2`` …
        create_time: RFC 3339.
        comment: that the client gave.
        source_id: the checkpoint that the copied disk was last saved as or restored from.
    """

    id: str
    create_time: str
    comment: str = ""
    source_id: str | None = None

    def describe(self) -> dict[str, object]:
        """Return the checkpoint as the API shows it."""
        return {**self.model_dump(exclude_none=True), "is_auto": False}


def save_checkpoint(directory: Path, name: str) -> None:
    """Copy the disk of the sandbox in ``directory``; nothing may write to it meanwhile.

    Raises:
        DrydockError: it cannot be copied (for example, the disk is full); the partial copy is removed.
    """
    target = directory / "checkpoints" / name
    target.mkdir(parents=True)
    try:
        for part in DISK_PARTS:
            _copy_tree(directory / part, target / part)
    except BaseException:
        remove_tree(target)
        raise


def restore_checkpoint(directory: Path, name: str) -> None:
    """Replace the disk by a checkpoint; the sandbox must be down.

    Raises:
        DrydockError: it cannot be copied; the disk is unchanged.
    """
    fresh = directory / "restoring"
    remove_tree(fresh)
    fresh.mkdir()
    try:
        for part in DISK_PARTS:
            _copy_tree(directory / "checkpoints" / name / part, fresh / part)
    except BaseException:
        remove_tree(fresh)
        raise
    for part in DISK_PARTS:
        remove_tree(directory / part)
        (fresh / part).rename(directory / part)
    remove_tree(directory / "work")  # an overlay's scratch belongs to the upper side that is gone
    (directory / "work").mkdir()
    remove_tree(fresh)


def delete_checkpoint(directory: Path, name: str) -> None:
    """Remove a checkpoint's copy.

    Raises:
        DrydockError: it cannot be removed completely.
    """
    remove_tree(directory / "checkpoints" / name)


def _copy_tree(source: Path, target: Path) -> None:
    """Copy with owners, modes, links, devices (an overlay's whiteouts) and attributes."""
    argv = ["cp", "--archive", "--reflink=auto", "--", str(source), str(target)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=COPY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DrydockError(f"{source} could not be copied in {COPY_SECONDS:g} s") from error
    if done.returncode:
        raise DrydockError(f"{source} could not be copied: {done.stderr.strip()[-300:]}")
