"""``workspace/`` as the user's place of work: where it stands, their commits, and how it moves on after a landing.

All of this runs git in the user's clone, with our settings and environment: no hook, no file-system monitor, no
signature, no configuration but that clone's own. It blocks.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.captain.decide.local import MAX_COMMITS, Standing, UserCommit
from ocaptain.git import BundleRefused, Git, GitError, admit_bundle, write_bundle
from ocaptain.git.quarantine import INCOMING
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from ocaptain.captain.decide.local import LandChain
    from ocaptain.protocol.limits import Limits

MAX_NAMES = 5
BUNDLE_REF = "refs/ocaptain/local/0"  # what the chain is called on its way; no repository has it
#: What git keeps while a command of several steps is under way, and that command.
_UNFINISHED = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


@dataclass(frozen=True)
class Workspace:
    """A user's clone.

    Attributes:
        path: of the clone.
        source: the voyage's repository.
        branch: the voyage's branch, and that of the same name in the clone.
    """

    path: Path
    source: Path
    branch: str

    @property
    def git(self) -> Git:
        """Git in the clone."""
        return Git(self.path, environment={"GIT_NO_REPLACE_OBJECTS": "1", "GIT_LITERAL_PATHSPECS": "1"})

    def read_tip(self) -> str | None:
        """Return the commit of its branch without starting git; None if that takes more than reading one file."""
        try:
            found = (self.path / ".git/refs/heads" / self.branch).read_bytes()[:41].decode("ascii").strip()
        except (OSError, ValueError):
            return None
        return found if re.fullmatch("[0-9a-f]{40}", found) else None

    def look(self, head: str) -> Standing:
        """Return where it stands, beside the branch's head.

        Raises:
            GitError: it cannot be read.
        """
        git = self.git
        on = git.run("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1)).stdout.decode(errors="replace").strip()
        tip = git.resolve("HEAD")
        if tip is None:
            raise GitError(f"{self.path}: HEAD names no commit")
        standing = Standing(str(self.path), self.branch, on or None, tip, unfinished=self._unfinished())
        if on != self.branch:
            return standing
        self._fetch(head)
        if git.is_ancestor(tip, head):
            return replace(standing, is_behind=True)
        lines = git.text(
            *("rev-list", "--topo-order", "--reverse", f"--max-count={MAX_COMMITS + 1}"),
            *("--no-commit-header", "--format=%H%x00%P%x00%s", tip, f"^{head}", "--"),
        )
        found = (line.split("\0", 2) for line in lines.split("\n") if line)
        commits = tuple(UserCommit(name, tuple(parents.split()), subject) for name, parents, subject in found)
        return replace(standing, commits=commits)

    def uncommitted(self, seconds: float = 600.0) -> tuple[str, ...]:
        """Return the files that are changed or new and not committed; those that git ignores are left out.

        Args:
            seconds: that it may take.

        Raises:
            GitError: it cannot be read, or not in this time.
        """
        return tuple(path for _, path in self._status("--untracked-files=normal", seconds=seconds))

    def bring(self, repository: Git, chain: LandChain, limits: Limits) -> None:
        """Bring a chain's objects into the voyage's repository, through its quarantine.

        Raises:
            BundleRefused: they are beyond the limits, or hold what not every ship can check out.
            GitError: they cannot be read or stored.
        """
        try:
            incoming = repository.directory / INCOMING  # which the next captain clears if this one is killed
            incoming.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=incoming) as scratch:
                path = Path(scratch) / "bundle"
                write_bundle(self.git, chain.tip, BUNDLE_REF, chain.base, path)
                if path.stat().st_size > limits.pack_bytes:
                    raise BundleRefused(f"your commits are larger than limits.total_mib ({limits.total_mib}) allows")
                with path.open("rb", buffering=0) as file:
                    admit_bundle(repository, file, chain.tip, chain.base, limits)
        except OSError as error:
            raise GitError(f"{self.path}: its commits cannot be read: {error.strerror}") from error

    def move(self, tip: str, new: str) -> str | None:
        """Move it from ``tip``, all of which has landed, to ``new``; what is not committed stays.

        Returns:
            Why it was not moved and what to do, None if it was, or if its user went on meanwhile.
        """
        git = self.git
        again = "then it moves on by itself, or by `ocaptain land`"
        try:
            self._fetch(new)
            if git.resolve(f"refs/heads/{self.branch}") != tip or git.resolve("HEAD") != tip:
                return None  # its user went on; that is looked at next
            if self._unfinished():
                return f"workspace/ was not moved: a {self._unfinished()} is under way there; finish it, {again}"
            if split := [path for state, path in self._status("--untracked-files=no") if " " not in state]:
                why = f"what is staged differs from the file: {_names(split)}"
                return f"workspace/ was not moved: {why}. Commit, stash or unstage it, {again}"
            if there := self._in_the_way(tip, new):
                why = f"these files of yours would be overwritten: {_names(there)}"
                return f"workspace/ was not moved: {why}. Move them, {again}"
            git.run("reset", "--quiet", "--keep", new, extra={"GIT_REFLOG_ACTION": "ocaptain: landed"})
            # A commit that its user made in this moment: back to it, it is looked at next.
            if (before := git.resolve("ORIG_HEAD")) not in {tip, None}:
                git.run("reset", "--quiet", "--keep", str(before))
        except (GitError, OSError) as error:
            told = clean_line(error.told if isinstance(error, GitError) else str(error), 300)
            return f"workspace/ was not moved: {told}. Commit or stash what is in the way, {again}"
        return None

    def _fetch(self, head: str) -> None:
        if self.git.resolve(head) is None:
            name = f"refs/heads/{self.branch}"
            self.git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(self.source), name)

    def _unfinished(self) -> str:
        own = Path(self.git.text("rev-parse", "--absolute-git-dir"))
        return next((command for name, command in _UNFINISHED.items() if (own / name).exists()), "")

    def _status(self, *options: str, seconds: float = 600.0) -> list[tuple[str, str]]:
        """Return the files that ``git status`` names, each with its two letters."""
        command = ("status", "--porcelain", "--no-renames", "-z", "--ignore-submodules=all", *options)
        told = self.git.run(*command, seconds=seconds).stdout
        lines = (os.fsdecode(line) for line in told.split(b"\0") if line)
        return [(line[:2], line[3:]) for line in lines]

    def _in_the_way(self, old: str, new: str) -> list[str]:
        """Return untracked files where ``new`` has files that ``old`` has not; git would overwrite ignored ones."""
        git = self.git
        changes = git.run("diff", "--name-status", "--no-renames", "--no-ext-diff", "-z", old, new).stdout.split(b"\0")
        added = [os.fsdecode(path) for state, path in zip(changes[::2], changes[1::2], strict=False) if state == b"A"]
        gone = {os.fsdecode(path) for state, path in zip(changes[::2], changes[1::2], strict=False) if state == b"D"}
        found: dict[str, None] = {}
        for path in added:
            if os.path.lexists(self.path / path) and not self._is_folder_of(path, gone):
                found[path] = None
            for folder in (str(one) for one in Path(path).parents if str(one) != "."):
                place = self.path / folder
                if os.path.lexists(place) and (place.is_symlink() or not place.is_dir()) and folder not in gone:
                    found[folder] = None
        return list(found)

    def _is_folder_of(self, path: str, gone: set[str]) -> bool:
        """Whether a path is a folder that holds nothing but files that go away."""
        place = self.path / path
        if place.is_symlink() or not place.is_dir():
            return False
        return all(str(one.relative_to(self.path)) in gone for one in place.rglob("*") if not one.is_dir())


def _names(paths: list[str]) -> str:
    more = f" and {len(paths) - MAX_NAMES} more" if len(paths) > MAX_NAMES else ""
    return ", ".join(clean_line(path, 80) for path in paths[:MAX_NAMES]) + more
