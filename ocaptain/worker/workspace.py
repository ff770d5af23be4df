"""The ship's trees: set the workspace to a commit, snapshot whatever an agent left in it.

The worker has a git directory of its own (``.ocaptain/git``), so whatever an agent did to
``workspace/.git`` does not matter: that one is made anew for each attempt and shares objects.
What the agent committed is carried along as a second parent of the snapshot, where it can be
read; what counts is the tree.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import List, NamedTuple, Sequence

from ocaptain.protocol import PART_BYTES
from ocaptain.protocol.git import BUNDLE_PACK, NO_DELTAS, bundle_start, bundle_wants
from ocaptain.protocol.messages import Bundle, Part, Snapshot
from ocaptain.worker.checkout import Checkout, Walk
from ocaptain.worker.errors import Unfit, WorkspaceError
from ocaptain.worker.places import open_plain

MAX_BYTES = 50 * 1024 * 1024
MAX_FILES = 5000
MAX_MESSAGE = 8000
MAX_NAMES = 100
MAX_LINE = 4096
OUT_REF = "refs/ocaptain/out"


class Changes(NamedTuple):
    """What is not as a commit has it.

    Attributes:
        changed: paths that the commit has.
        new: paths that it has not; a repository of its own ends with a slash.
        has_links: whether a repository or a submodule is among them.
    """

    changed: List[str]
    new: List[str]
    has_links: bool

    def __bool__(self) -> bool:
        return bool(self.changed or self.new)


class Workspace(Checkout):
    """The workspace, as the agent left it."""

    def snapshot(self, base: str, name: str, *, lenient: bool = False) -> Snapshot:
        """Commit the workspace as it is, on ``base``, and bundle what the captain lacks.

        Args:
            base: the commit that the workspace was set to.
            name: file name of the bundle, without suffix.
            lenient: take everything, whatever its size (for a rescue).

        Raises:
            Unfit: nested repositories, more than 50 MB or 5,000 new files.
        """
        self._unlock()
        if not self._is_index_of(base):
            self._git("read-tree", "--reset", base)
        head, message = self._agent_commits(base)
        changes = self._changes()
        found = self._walk()
        if not changes and not head and not found.nested and not found.unread:
            return Snapshot(empty=True, bundle=Bundle(()), commit=base, base=base)
        self._forget_index()
        left_out = self._inspect(base, changes, found, lenient=lenient)
        tree = self._git("write-tree").decode().strip()
        empty = tree == self._git("rev-parse", f"{base}^{{tree}}").decode().strip()
        parents = ["-p", base, *(("-p", head) if head else ())]
        commit = self._git("commit-tree", tree, *parents, stdin=f"snapshot {name}\n".encode()).decode().strip()
        self._write_ref(OUT_REF, commit)
        bundle = self._bundle(base, commit, name)
        return Snapshot(empty, bundle, commit=commit, base=base, message=message, left_out=tuple(left_out))

    def _changes(self) -> Changes:
        """Return what is not as the index has it.

        ``diff-files`` sees a tracked folder that is a link now, through which ``ls-files --modified`` looks.
        """
        fields = iter(self._git("diff-files", "--raw", "-z").split(b"\0"))
        changed = {os.fsdecode(next(fields)): modes for modes in fields if modes}
        listed = self._git("ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
        new = [os.fsdecode(name) for name in listed if name]
        links = any(b"160000" in modes[:14] for modes in changed.values()) or any(name.endswith("/") for name in new)
        return Changes(list(changed), new, links)

    def _inspect(self, base: str, changes: Changes, found: Walk, *, lenient: bool) -> list[str]:
        """Stage the workspace, after a look at what is new in it; return what was left out."""
        nested = found.nested
        if lenient:  # the last look at this ship: nested repositories come along as plain files
            for path in nested:
                (self._places.workspace / path / ".git").rename(self._places.workspace / path / "dot-git.rescued")
            nested = []
            changes = self._changes()
        sizes = {}
        for name in (*changes.changed, *changes.new):
            with contextlib.suppress(OSError):
                sizes[name] = os.lstat(self._places.workspace / name).st_size
        too_large = sorted(sizes, key=lambda name: -sizes[name])
        problems: list[tuple[str, list[str]]] = []
        if nested:
            problems.append(("nested git repositories", nested))
        if sum(sizes.values()) > MAX_BYTES:
            problems.append((f"more than {MAX_BYTES // 2**20} MB of changed files", too_large[:10]))
        if len(changes.new) > MAX_FILES:
            reason = f"more than {MAX_FILES} new files ({len(changes.new)})"
            problems.append((reason, sorted(_tops(changes.new))[:10]))
        if problems and not lenient:
            reasons = "; ".join(reason for reason, _ in problems)
            raise Unfit(reasons, _shown([path for _, paths in problems for path in paths][:MAX_NAMES]))
        unread = [*found.unread, *self._stage(base, changes)]
        if unread and not lenient:
            raise Unfit("files that git cannot read", _shown(unread[:MAX_NAMES]))
        return _shown(unread[:MAX_NAMES])

    def _stage(self, base: str, changes: Changes) -> list[str]:
        """Stage everything; return what could not be read."""
        staged = self._succeeds("add", "--all", "--ignore-errors", "--", ".")
        if staged and not changes.has_links:
            return []
        # A gitlink is a pointer to what the captain will never have.
        listed = self._git("ls-files", "--stage", "-z").split(b"\0")
        links = {entry.partition(b"\t")[2] for entry in listed if entry.startswith(b"160000 ")}
        known = {
            entry.partition(b"\t")[2]: entry.split()[2]
            for entry in self._git("ls-tree", "-r", "-z", base).split(b"\0")
            if entry.startswith(b"160000 ")
        }
        if links - set(known):
            gone = b"\0".join(links - set(known)) + b"\0"
            self._git("update-index", "--force-remove", "-z", "--stdin", stdin=gone)
        if known:  # submodules do not travel: they stay what they were
            kept = b"".join(b"160000 %s\t%s\0" % (oid, name) for name, oid in known.items())
            self._git("update-index", "-z", "--index-info", stdin=kept)
        left = self._git("ls-files", "--others", "--modified", "--exclude-standard", "-z").split(b"\0")
        return [os.fsdecode(name) for name in left if name and name.rstrip(b"/") not in known]

    def _agent_commits(self, base: str) -> tuple[str, str]:
        """Return the agent's own head and the bodies of its commits, ("", "") if there are none."""
        own = self._places.workspace / ".git"
        if not own.is_dir() or not _is_file(own / "HEAD") or _stands_at(own, base):
            return "", ""
        try:
            # One refspec, nothing else of that repository's configuration is used.
            self._git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(own), "+HEAD:refs/ocaptain/agent")
            head = self._git("rev-parse", "refs/ocaptain/agent").decode().strip()
            if head == base:
                return "", ""
            self._git("merge-base", "--is-ancestor", base, head)
            if int(self._git("rev-list", "--objects", "--disk-usage", head, f"^{base}")) > MAX_BYTES:
                return "", ""  # what counts is the tree; a history of that size stays behind
            text = self._git("log", "--reverse", "--no-merges", "--max-count=50", "--format=%B", f"{base}..{head}")
        except (WorkspaceError, subprocess.TimeoutExpired, ValueError):
            return "", ""
        return head, text.decode(errors="replace").strip()[:MAX_MESSAGE]

    def _bundle(self, base: str, commit: str, name: str) -> Bundle:
        """Write what ``commit`` has and ``base`` has not, in parts; a bundle as ``git bundle create`` writes it."""
        path = self._places.outbox / f"{name}.bundle"
        with open(path, "w+b") as whole:
            whole.write(bundle_start(commit, OUT_REF, base))
            whole.flush()
            self._git("-c", NO_DELTAS, *BUNDLE_PACK, stdin=bundle_wants(commit, base), output=whole)
            whole.seek(0)
            parts = []
            for number, data in enumerate(iter(lambda: whole.read(PART_BYTES), b"")):
                part = path.with_suffix(f".{number}")
                part.write_bytes(data)
                place = str(part.relative_to(self._places.home))
                parts.append(Part(place, len(data), hashlib.sha256(data).hexdigest()))
        path.unlink()
        return Bundle(tuple(parts), OUT_REF)


def _stands_at(own: Path, commit: str) -> bool:
    """Whether a repository's branch is ``commit``, as :meth:`Workspace.reset` left it; a doubt is a no."""
    try:
        branch = _line(own / "HEAD").partition("ref: ")[2]
        return bool(re.fullmatch(r"refs/heads/[\w-]+", branch)) and _line(own / branch) == commit
    except (OSError, ValueError):
        return False


def _is_file(path: Path) -> bool:
    """Whether it is a regular file: git would wait for ever at a pipe in its place."""
    try:
        open_plain(path).close()
    except OSError:
        return False
    return True


def _line(path: Path) -> str:
    with open_plain(path) as file:
        return file.read(MAX_LINE).decode().strip()


def _shown(names: Sequence[str]) -> list[str]:
    """Return file names as text: a name is bytes, and what is no UTF-8 of it cannot be told to anybody."""
    return [os.fsencode(name).decode(errors="replace") for name in names]


def _tops(files: list[str]) -> set[str]:
    return {name.partition("/")[0] for name in files}
