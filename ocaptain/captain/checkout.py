"""``workspace/``: a checkout of what has landed, for the user to look into and work in."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ocaptain.git import Git, GitError

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = "would be overwritten by merge"  # git's words, before it has touched anything
log = logging.getLogger(__name__)


def forward(workspace: Path, source: Path, branch: str) -> str | None:
    """Fast-forward a checkout if nothing of its user's is in the way.

    Args:
        workspace: the checkout.
        source: the repository to fetch from.
        branch: its branch; the checkout is to be on the one of the same name.

    Returns:
        Why it was left as it is and what to do, None if it is up to date.
    """
    remedy = f"`git -C {workspace} pull` brings it up to date"
    try:
        git = Git(workspace)
        if git.text("symbolic-ref", "--quiet", "--short", "HEAD") != branch:
            return f"workspace/ is on another branch and was left; {remedy}"
        if git.text("status", "--porcelain", "--untracked-files=no"):
            return f"workspace/ has changes and was left; {remedy}"
        git.run("fetch", "--quiet", str(source), branch)
        new = git.run("diff", "--name-only", "--no-renames", "--diff-filter=A", "-z", "HEAD", "FETCH_HEAD").stdout
        added = [workspace / os.fsdecode(name) for name in new.split(b"\0") if name]
        if any(os.path.lexists(path) for path in added):
            return f"workspace/ has files where others are to come, and was left; move them, then {remedy}"
        try:
            git.run("merge", "--quiet", "--ff-only", "--no-verify", "FETCH_HEAD")
        except GitError as error:
            # A full disk ends it halfway, and what it had written would be in its own way for ever. Where git
            # refused, nothing was written: what is in the way is its user's, who was quicker than our looks.
            if REFUSED not in error.message:
                for path in added:
                    path.unlink(missing_ok=True)
                git.run("restore", "--quiet", ".")
            raise
    except (GitError, OSError) as error:
        log.info("workspace/: %s", error)
        return f"workspace/ could not be brought forward and was left; {remedy}"
    return None
