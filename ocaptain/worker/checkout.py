"""The ship's workspace: set to a commit, with a repository for the agent that is as new as a clone's."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import remove
from ocaptain.worker.repository import IGNORED, Repository

INDEX_NOTE = "ocaptain-index"
OWN_CONFIG = """[core]
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


class Checkout(Repository):
    """The workspace, as the captain wants it."""

    def reset(self, commit: str, branch: str) -> None:
        """Set the workspace exactly to ``commit``; untracked files go, ignored ones stay.

        The agent's own ``.git`` is made anew, on ``branch``.
        """
        root = self._places.workspace
        if root.is_symlink() or not root.is_dir():
            remove(root)
            root.mkdir(parents=True)
        remove(root / ".git")
        self._unlock()
        self._make_writable()
        self._forget_index()
        # The index still knows what stood here, so files that did not change keep their times
        # (and builds their caches).
        written = self._ran("read-tree", "--reset", "-u", commit)
        arguments = ("ls-files", "--others", "--modified", "--exclude-standard", "--directory", "-z")
        if not written or self._git(*arguments):
            if not written and not self.has(commit):
                raise WorkspaceError("need_full", f"commit {commit} is not on this ship")
            self._clear(commit)
        self._note_index(commit)
        self._make_own(commit, branch)

    def _clear(self, commit: str) -> None:
        """Remove whatever is not of ``commit``, or in its way."""
        try:
            self._git("read-tree", "--reset", commit)
        except WorkspaceError as error:
            raise WorkspaceError("need_full", str(error)) from error
        # Two -f: nested repositories of an agent go as well.
        self._git("clean", "-ffdq", check=False)
        left = self._git("ls-files", "--others", "--exclude-standard", "--directory", "-z")
        for name in filter(None, left.split(b"\0")):  # what git could not remove, perhaps root's
            remove(self._places.workspace / os.fsdecode(name.rstrip(b"/")))
        self._force(commit)

    def _make_own(self, commit: str, branch: str) -> None:
        """Make the agent's own repository: that of a fresh clone, which shares objects with ours."""
        own = self._places.workspace / ".git"
        for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
            (own / name).mkdir(parents=True, exist_ok=True)
        for name, content in (
            ("HEAD", f"ref: refs/heads/{branch}\n"),
            ("config", OWN_CONFIG.format(ship=self._ship)),
            ("info/exclude", "\n".join(IGNORED) + "\n"),
            ("objects/info/alternates", f"{self._places.git}/objects\n"),
            (f"refs/heads/{branch}", f"{commit}\n"),
        ):
            (own / name).write_text(content)
        shutil.copyfile(self._places.git / "index", own / "index")  # the same files, with the same times

    # -- the index ----------------------------------------------------------------------------

    def _note_index(self, commit: str) -> None:
        """Note that the index is that of ``commit`` now."""
        (self._places.git / INDEX_NOTE).write_text(f"{commit} {self._index_state()}")

    def _forget_index(self) -> None:
        (self._places.git / INDEX_NOTE).unlink(missing_ok=True)

    def _is_index_of(self, commit: str) -> bool:
        """Whether nobody has written the index since it was noted to be that of ``commit``."""
        try:
            return (self._places.git / INDEX_NOTE).read_text() == f"{commit} {self._index_state()}"
        except OSError:
            return False

    def _index_state(self) -> str:
        state = os.stat(self._places.git / "index")
        return f"{state.st_ino} {state.st_size} {state.st_mtime_ns}"

    def _make_writable(self) -> None:
        """Undo an agent's read-only directories, which git could not clean."""
        with contextlib.suppress(OSError):
            os.chmod(self._places.workspace, 0o700)
        for path, directories, _ in os.walk(self._places.workspace):
            for name in directories:
                below = os.path.join(path, name)
                with contextlib.suppress(OSError):
                    if not os.path.islink(below):
                        os.chmod(below, stat.S_IMODE(os.lstat(below).st_mode) | 0o700)

    def _force(self, commit: str) -> None:
        """Write every tracked path that is not as ``commit`` has it, whatever stands there."""
        self._git("update-index", "-q", "--refresh", check=False)
        left = [name for name in self._git("diff-files", "--name-only", "-z").split(b"\0") if name]
        for name in left:
            remove(self._places.workspace / os.fsdecode(name))
        if left:
            self._git("checkout-index", "--all", "--force", "--quiet")
            self._git("read-tree", "--reset", commit)
            self._git("update-index", "-q", "--refresh", check=False)

    def _unlock(self) -> None:
        """Remove the locks of a git that was killed; nobody else uses this directory."""
        for lock in (self._places.git / "index.lock", *(self._places.git / "refs").rglob("*.lock")):
            lock.unlink(missing_ok=True)

    def clone(self, commit: str, branch: str) -> None:
        """Replace the workspace by a fresh one: nothing ignored or untracked survives."""
        for child in list(self._places.workspace.iterdir()):
            remove(child)
        self.reset(commit, branch)
