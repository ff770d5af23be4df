"""Set the ship's workspace to a commit, with a new git repository for the agent."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import List, NamedTuple, Sequence, Set

from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import remove_path, walk
from ocaptain.worker.repository import IGNORE_PATTERNS, START_REFS, Repository

MAX_LISTED_RULES = 200
MAX_PATH = 4000  # bytes
GIT_RULE_FILES = frozenset({".gitignore", ".gitattributes"})
ORIGIN = b"refs/remotes/origin/"
#: Without it git runs ``git status`` in a submodule, and with that the filters which the agent has set there.
NO_STATUS = "--ignore-submodules=dirty"
INDEX_STATE_FILE = "ocaptain-index"
AGENT_GIT_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
[user]
\tname = {ship}
\temail = {ship}@ocaptain.invalid
[gc]
\tauto = 0
"""


class WalkResult(NamedTuple):
    """What a walk through the workspace's folders found.

    Attributes:
        nested: folders, not ignored, that are git repositories.
        unread: folders, not ignored, that cannot be read.
        rules: ``.gitignore`` and ``.gitattributes`` files.
        links: whether there is a symbolic link to a folder.
    """

    nested: List[str]
    unreadable: List[str]
    rules: List[str]
    links: bool


class Checkout(Repository):
    """The workspace, with the operations that set it to a commit."""

    def reset(self, commit: str, branch: str) -> None:
        """Set the workspace exactly to ``commit``; remove untracked files, keep ignored ones.

        The agent's ``.git`` is replaced by a new one, on ``branch``.
        """
        root = self._places.workspace
        if root.is_symlink() or not root.is_dir():
            remove_path(root)
            root.mkdir(parents=True)
        remove_path(root / ".git")
        self._remove_git_locks()
        found = self._walk(repair=True)
        self._forget_index_state()
        # The index still knows what stood here, so files that did not change keep their times
        # (and builds their caches).
        written = self._succeeds("read-tree", "--reset", "-u", commit)
        if found.nested or found.rules:
            self._remove_hidden_from_git(found)
        arguments = ("ls-files", "--others", "--modified", "--exclude-standard", "--directory", "-z")
        if not written or found.links or found.nested or self._git(*arguments):
            self._remove_foreign_files(commit)
        self._record_index_state(commit)
        self._make_agent_repository(commit, branch)

    def _remove_foreign_files(self, commit: str) -> None:
        """Remove every file that ``commit`` does not have or that is in its way."""
        try:
            self._git("read-tree", "--reset", commit)
        except WorkspaceError as error:
            if self._succeeds("rev-list", "--objects", "--quiet", f"{commit}^{{tree}}"):
                raise  # for example a full disk: sending everything again would not help
            raise WorkspaceError("need_full", str(error)) from error
        # -ff removes nested repositories, too.
        self._git("clean", "-ffdq", check=False)
        remaining = self._git("ls-files", "--others", "--exclude-standard", "--directory", "-z")
        for name in filter(None, remaining.split(b"\0")):  # what git could not remove, perhaps root's
            remove_path(self._places.workspace / os.fsdecode(name.rstrip(b"/")))
        self._force_checkout(commit)

    def _remove_hidden_from_git(self, found: WalkResult) -> None:
        """Remove what an agent hid from git: nested repositories in tracked folders, untracked rule files."""
        for path in found.nested:
            remove_path(self._places.workspace / path / ".git")
        entries = self._git("ls-files", "--stage", "-z").split(b"\0") if found.nested else []
        submodules = {os.fsdecode(one.partition(b"\t")[2]) for one in entries if one.startswith(b"160000 ")}
        for path in submodules.intersection(found.nested):  # git leaves alone what is in there
            remove_path(self._places.workspace / path)
            (self._places.workspace / path).mkdir(parents=True, exist_ok=True)
        named = found.rules if len(found.rules) < MAX_LISTED_RULES else []  # else all are listed
        listed = self._git("--literal-pathspecs", "ls-files", "-z", "--", *named) if found.rules else b""
        for path in set(found.rules) - {os.fsdecode(name) for name in listed.split(b"\0")}:
            remove_path(self._places.workspace / path)

    def _make_agent_repository(self, commit: str, branch: str) -> None:
        """Make the agent's repository, like that of a new clone; it shares the worker's objects."""
        own = self._places.workspace / ".git"
        for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info", "hooks"):
            (own / name).mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("HEAD", f"ref: refs/heads/{branch}\n"),
            ("config", AGENT_GIT_CONFIG.format(ship=self._ship)),
            ("info/exclude", "\n".join(IGNORE_PATTERNS) + "\n"),
            ("objects/info/alternates", f"{self._places.git}/objects\n"),
            (f"refs/heads/{branch}", f"{commit}\n"),
        ):
            (own / name).write_text(content)
        self._add_start_refs(own)
        shutil.copyfile(self._places.git / "index", own / "index")  # the same files, with the same times

    def _add_start_refs(self, own: Path) -> None:
        """Give the agent's repository the tags and the branch that the voyage started from."""
        try:
            refs = (self._places.git / START_REFS).read_bytes()
        except FileNotFoundError:  # a captain of before sends none
            return
        (own / "packed-refs").write_bytes(refs)
        for line in refs.splitlines():
            name = line.partition(b" ")[2]
            if name.startswith(ORIGIN):
                (own / "refs/remotes/origin").mkdir(parents=True)
                (own / "refs/remotes/origin/HEAD").write_bytes(b"ref: " + name + b"\n")

    def add_saved_ref(self) -> None:
        """Give the agent's repository the ref of a lost attempt's work, if one was imported."""
        commit, ref = self._read_given()
        if commit:
            path = self._places.workspace / ".git" / ref
            path.parent.mkdir(parents=True)
            path.write_text(f"{commit}\n")

    # -- the index ----------------------------------------------------------------------------

    def _record_index_state(self, commit: str) -> None:
        """Record that the index matches ``commit`` now."""
        (self._places.git / INDEX_STATE_FILE).write_text(f"{commit} {self._index_state()}")

    def _forget_index_state(self) -> None:
        (self._places.git / INDEX_STATE_FILE).unlink(missing_ok=True)

    def _is_index_of(self, commit: str) -> bool:
        """Return whether the index is unchanged since it was recorded to match ``commit``."""
        try:
            return (self._places.git / INDEX_STATE_FILE).read_text() == f"{commit} {self._index_state()}"
        except OSError:
            return False

    def _index_state(self) -> str:
        state = os.stat(self._places.git / "index")
        return f"{state.st_ino} {state.st_size} {state.st_mtime_ns}"

    def _walk(self, *, repair: bool = False) -> WalkResult:
        """Walk through the workspace's folders, except those that are always ignored.

        Args:
            repair: undo an agent's read-only folders, which git could not clean.
        """
        root = str(self._places.workspace)
        nested: List[str] = []
        rules: List[str] = []
        unreadable_paths: List[str] = []
        links = False
        if repair:
            _make_writable(root)
        for path, directories, files in walk(root, onerror=lambda error: unreadable_paths.append(str(error.filename))):
            if path != root and (".git" in directories or ".git" in files):
                nested.append(os.path.relpath(path, root))
            rules += [os.path.relpath(os.path.join(path, name), root) for name in files if name in GIT_RULE_FILES]
            links = links or any(os.path.islink(os.path.join(path, name)) for name in directories)
            directories[:] = [name for name in directories if name != ".git" and f"{name}/" not in IGNORE_PATTERNS]
        found = [_shorten_path(os.path.relpath(name, root)) for name in unreadable_paths]
        ignored = self._find_ignored([*nested, *found]) if nested or found else set()
        return WalkResult(
            [name for name in nested if name not in ignored],
            [name for name in found if name not in ignored],
            rules,
            links,
        )

    def _find_ignored(self, names: Sequence[str]) -> Set[str]:
        listed = b"\0".join(map(os.fsencode, names))
        found = self._git("check-ignore", "--stdin", "-z", stdin=listed, check=False).split(b"\0")
        return {os.fsdecode(name) for name in found if name}

    def _force_checkout(self, commit: str) -> None:
        """Write every tracked path that differs from ``commit``, replacing whatever is there."""
        self._git("update-index", "-q", "--refresh", check=False)
        remaining = [name for name in self._git("diff-files", NO_STATUS, "--name-only", "-z").split(b"\0") if name]
        for name in remaining:
            remove_path(self._places.workspace / os.fsdecode(name))
        if remaining:
            self._git("checkout-index", "--all", "--force", "--quiet")
            self._git("read-tree", "--reset", commit)
            self._git("update-index", "-q", "--refresh", check=False)

    def _remove_git_locks(self) -> None:
        """Remove the locks of a killed git; no other process uses this directory."""
        for lock in (self._places.git / "index.lock", *(self._places.git / "refs").rglob("*.lock")):
            lock.unlink(missing_ok=True)

    def reset_to_fresh_clone(self, commit: str, branch: str) -> None:
        """Empty the workspace, then set it to ``commit``: no ignored or untracked file remains."""
        for child in list(self._places.workspace.iterdir()):
            remove_path(child)
        self.reset(commit, branch)


def _make_writable(root: str) -> None:
    """Undo an agent's read-only folders, which git could not clean."""
    with contextlib.suppress(OSError):
        os.chmod(root, 0o700)
    for path, directories, _ in walk(root):
        for name in directories:
            below = os.path.join(path, name)
            with contextlib.suppress(OSError):
                mode = os.lstat(below).st_mode
                if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
                    os.chmod(below, stat.S_IMODE(mode) | 0o700)


def _shorten_path(path: str) -> str:
    """Return a path, or its nearest parent that is short enough for git."""
    while len(os.fsencode(path)) > MAX_PATH:
        path = os.path.dirname(path)
    return path
