"""``workspace/``: a checkout of what has landed, for the user to read and work in."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ocaptain.git import Git, GitError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from pathlib import Path

MAX_NAMES = 5
WOULD_OVERWRITE = "would be overwritten by merge"  # git's words, before it has touched anything
log = logging.getLogger(__name__)


def fast_forward(workspace: Path, source: Path, branch: str) -> str | None:
    """Fast-forward a checkout if no changes of its user are in the way.

    Args:
        workspace: the checkout.
        source: the repository to fetch from.
        branch: its branch; the checkout must be on the branch of the same name.

    Returns:
        Why it was not updated and what to do, None if it is up to date.
    """
    remedy = f"`git -C {workspace} pull`"
    if not workspace.exists():
        return f"workspace/ was not updated: it is gone. Make it again: `git clone -b {branch} {source} {workspace}`"
    try:
        git = Git(workspace)
        if git.text("symbolic-ref", "--quiet", "--short", "HEAD") != branch:
            return f"workspace/ was not updated: it is on another branch. Switch to {branch}, then {remedy}"
        if git.text("status", "--porcelain", "--untracked-files=no"):
            return f"workspace/ was not updated: it has changes of yours. Commit or stash them, then {remedy}"
        git.run("fetch", "--quiet", str(source), branch)
        new = git.run("diff", "--name-only", "--no-renames", "--diff-filter=A", "-z", "HEAD", "FETCH_HEAD").stdout
        added = [workspace / os.fsdecode(name) for name in new.split(b"\0") if name]
        if there := [str(path.relative_to(workspace)) for path in added if os.path.lexists(path)]:
            names = ", ".join(clean_line(name, 80) for name in there[:MAX_NAMES])
            why = f"these files of yours would be overwritten: {names}"
            return f"workspace/ was not updated: {why}. Move them, then {remedy}"
        try:
            git.run("merge", "--quiet", "--ff-only", "--no-verify", "FETCH_HEAD")
        except GitError as error:
            # A full disk ends the merge halfway, and the files that it had written would block every later one.
            # If git refused, it wrote nothing: the user has made these files since we looked.
            if WOULD_OVERWRITE not in error.message:
                for path in added:
                    path.unlink(missing_ok=True)
                git.run("restore", "--quiet", ".")
            raise
    except (GitError, OSError) as error:
        log.info("workspace/: %s", error)
        return f"workspace/ was not updated: git refused it (captain.log says why). Try {remedy}"
    return None
