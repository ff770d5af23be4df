"""Checkpoints: copies of a sprite's disk (its overlay and home directories), stored beside it.

A copy is made while every process is frozen, so it shows the disk at one moment. A process that wakes itself up can
spoil that for its own ship, and no more: the copy reaches nothing but the disk (:mod:`.secluded`). It does not include
``/tmp``, ``/.sprite`` (logs, sockets) and memory.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from pydantic import BaseModel

from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.sandbox import remove_tree
from ocaptain.drydock.secluded import run_secluded

if TYPE_CHECKING:
    from pathlib import Path

DISK_PARTS = ("upper", "home", "own")
CHECKPOINT_NAME = re.compile(r"v[0-9]{1,9}")
COPY_SECONDS = 600.0
UNFINISHED = "unfinished"  # a copy's name until it is whole


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
    """Copy the disk of the sandbox in ``directory``; what is written meanwhile is in it or not.

    Raises:
        DrydockError: it cannot be copied (for example, the disk is full); the partial copy is removed.
    """
    target = directory / "checkpoints" / name
    fresh = directory / "checkpoints" / UNFINISHED
    try:
        for leftover in (fresh, target):  # of a drydock that was killed: no record knows it
            remove_tree(leftover)
        fresh.mkdir(parents=True)
        _copy_disk(directory, fresh)
        fresh.rename(target)
    except OSError as error:
        remove_tree(fresh)
        raise DrydockError(f"the checkpoint could not be made: {error.strerror}") from error
    except BaseException:
        remove_tree(fresh)
        raise


def restore_checkpoint(directory: Path, name: str) -> None:
    """Replace the disk by a checkpoint; the sandbox must be down.

    Raises:
        DrydockError: it cannot be copied; the disk is unchanged.
    """
    fresh = directory / "restoring"
    try:
        remove_tree(fresh)
        fresh.mkdir()
        _copy_disk(directory / "checkpoints" / name, fresh)
    except OSError as error:
        remove_tree(fresh)
        raise DrydockError(f"the disk could not be restored: {error.strerror}") from error
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


def _copy_disk(source: Path, target: Path) -> None:
    """Copy the parts of a disk with owners, modes, links, devices (an overlay's whiteouts) and attributes."""
    parts = [f"/from/{part}" for part in DISK_PARTS]
    argv = ["cp", "--archive", "--reflink=auto", "--target-directory=/to", "--", *parts]
    try:
        done = run_secluded(argv, [source / part for part in DISK_PARTS], target, COPY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DrydockError(f"{source} could not be copied in {COPY_SECONDS:g} s") from error
    if done.returncode:
        raise DrydockError(f"{source} could not be copied: {done.stderr.strip()[-300:]}")
