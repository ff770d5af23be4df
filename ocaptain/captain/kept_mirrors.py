"""Keep the mirror of a sprite that is lost: as a folder beside the mirrors, and as a commit.

``ships/ship-0`` (terminated, so nobody writes there) ──its workspace, by git──> ``refs/ocaptain/saved/ship-0/<n>``
                                                     ──renamed────────────────> ``ships/ship-0.lost-<n>``

The commit comes first: a captain that dies in between keeps it again, under another number.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.captain.refs import ROOT
from ocaptain.git import GitError
from ocaptain.scratch import scratch_directory
from ocaptain.sync.spec import SHIPS

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.git import Git

GIT_SECONDS = 300.0
log = logging.getLogger("ocaptain.captain")


@dataclass(frozen=True)
class Kept:
    """What was kept of a mirror.

    Attributes:
        folder: where it is now.
        ref, commit: of its workspace; "" if it has none, or if git could not take it.
    """

    folder: Path
    ref: str = ""
    commit: str = ""


def mirror_path(directory: Path, ship: str) -> Path:
    """Return the folder of a ship's mirror.

    Args:
        directory: the voyage's.
        ship: its id.
    """
    return directory / SHIPS / ship


def refuse_folder(folder: Path, *, is_ours: bool) -> str | None:
    """Return why a mirror must not be made in a folder, None if it may: what is only there would be deleted.

    Args:
        folder: of the ship.
        is_ours: whether a mirror was made there before, by what was published.
    """
    if folder.is_symlink():
        return f"{folder} is a link; remove it, and the mirror is made"
    if not is_ours and os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        return f"{folder} is there, and no mirror made it; move it away, and the mirror is made"
    return None


def next_generation(directory: Path, ship: str) -> int:
    """Return the generation of a ship's next mirror: 1, and one more for each that is kept."""
    pattern = re.compile(rf"{re.escape(ship)}\.lost-[0-9-]+")
    with contextlib.suppress(OSError):
        return 1 + sum(pattern.fullmatch(name) is not None for name in os.listdir(directory / SHIPS))  # noqa: PTH208
    return 1


def keep_mirror(git: Git, directory: Path, ship: str, number: int, branch: str) -> Kept | None:
    """Move a lost sprite's mirror away and save its workspace as a commit on the branch; it blocks.

    Args:
        git: of ``repo.git``.
        directory: the voyage's.
        ship: its id.
        number: of this captain (its epoch), which no other one uses for a name.
        branch: the voyage's, which has the voyage's name.

    Returns:
        What was kept, None if there is no mirror.

    Raises:
        OSError: it cannot be moved; then it is where it was.
    """
    mirror = mirror_path(directory, ship)
    if not mirror.is_dir() or mirror.is_symlink():
        return None
    name, folder, ref = _free_name(git, directory, ship, number)
    commit = ""
    try:
        commit = _save(git, mirror / "workspace", branch, f"{ship}: its mirror when it was lost ({name})")
        if commit:
            git.run("update-ref", ref, commit)
    except (GitError, OSError) as error:
        log.warning("%s: git could not take its mirror, which is kept as %s: %s", ship, folder, error)
        commit = ""
    mirror.rename(folder)
    return Kept(folder, ref if commit else "", commit)


def _free_name(git: Git, directory: Path, ship: str, number: int) -> tuple[str, Path, str]:
    """Return a name that nothing has yet, with the folder and the ref of that name."""
    again = 0
    while True:
        again += 1
        name = f"{number}-{again}" if again > 1 else str(number)
        folder, ref = mirror_path(directory, f"{ship}.lost-{name}"), f"{ROOT}/saved/{ship}/{name}"
        taken = os.path.lexists(folder)
        with contextlib.suppress(GitError):  # a repository that is damaged has no ref that could be lost
            taken = taken or git.resolve(ref) is not None
        if not taken:
            return name, folder, ref


def _save(git: Git, workspace: Path, branch: str, message: str) -> str:
    """Return a commit of the files of a workspace, as git sees them, "" if there are none or all are on the branch."""
    if not workspace.is_dir() or workspace.is_symlink():
        return ""
    head = git.text("rev-parse", "--verify", f"refs/heads/{branch}")
    with scratch_directory("mirror") as scratch:
        extra = {
            "GIT_DIR": str(git.directory),
            "GIT_WORK_TREE": str(workspace),
            "GIT_INDEX_FILE": str(scratch / "index"),
            "GIT_ATTR_NOSYSTEM": "1",
        }
        # What git does not take, such as names that are harmful elsewhere, stays in the folder alone.
        git.run("add", "--all", "--ignore-errors", "--", ".", ok=(0, 1, 128), seconds=GIT_SECONDS, extra=extra)
        tree = git.run("write-tree", seconds=GIT_SECONDS, extra=extra).stdout.decode().strip()
    if tree in {git.tree(head), git.run("mktree").stdout.decode().strip()}:
        return ""
    return git.text("commit-tree", tree, "-p", head, "-m", message)
