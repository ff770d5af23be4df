"""The ship's workspace: snapshot the work that an agent left in it.

The worker has a git directory of its own (``.ocaptain/git``), so nothing that an agent does to
``workspace/.git`` matters: that is made anew for each attempt and shares objects. The agent's
commits become the second parent of the snapshot, where they can be read; what counts is the tree.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from typing import Iterator, Sequence

from ocaptain.protocol.limits import (
    Excess,
    Limits,
    NewFile,
    find_excesses,
    may_be_special,
    path_problem,
    printable_path,
)
from ocaptain.protocol.messages import Bundle, Snapshot
from ocaptain.worker.bundling import OUT_REF
from ocaptain.worker.checkout import WalkResult
from ocaptain.worker.errors import UnfitWorkspace, WorkspaceError
from ocaptain.worker.places import find_git_directory, is_regular_file, open_regular_file
from ocaptain.worker.salvage import Salvage
from ocaptain.worker.unchanged import Changes

MAX_MESSAGE = 8000
MAX_NAMES = 100
MAX_NAMED = 10  # files that are named for each reason
MAX_LINE = 4096


class Workspace(Salvage):
    """The workspace, with the operations on the agent's work."""

    #: The commit at which the agent's checked-out branch left the base's history: normally the base; "" = unknown.
    _fork = ""

    def snapshot(self, base: str, name: str, *, limits: Limits | None = None, lenient: bool = False) -> Snapshot:
        """Commit the workspace as it is, on ``base``, and bundle what the captain lacks.

        Args:
            base: the commit that the workspace was set to.
            name: file name of the bundle, without suffix.
            limits: for new and changed files; the captain checks them again.
            lenient: include everything, whatever its size (for a rescue).

        Raises:
            UnfitWorkspace: there are nested repositories, or the limits are exceeded.
        """
        limits = limits or Limits()
        self._remove_git_locks()
        if not self._is_index_of(base):
            self._git("read-tree", "--reset", base)
        head, message = self._fetch_agent_commits(base, limits)
        self._agent_settings = self._read_agent_settings()
        changes = self._changes()
        found = self._walk()
        self._nested = found.nested
        kept = self._find_hidden(changes, moved=bool(head))
        kept.update(self._find_untouched(changes.without(kept), found.rules))
        changes = changes.without({path: entry for path, entry in kept.items() if changes.before.get(path) == entry})
        if not changes and not head and not found.nested and not found.unreadable:
            return Snapshot(empty=True, bundle=Bundle(()), commit=base, base=base)
        self._forget_index_state()
        left_out = self._check_and_stage(base, changes, found, None if lenient else limits)
        if kept:
            self._restore(kept)
        tree = self._git("write-tree").decode().strip()
        if self._fork not in {"", base}:
            tree = self._carry_forward(base, tree, lenient=lenient)
        empty = tree == self._git("rev-parse", f"{base}^{{tree}}").decode().strip()
        special = any(may_be_special(os.fsencode(path)) for path in (*changes.changed, *changes.new))
        path, commit = self._write_bundle(base, tree, head, name)
        problem = self._find_bundle_problem(path, base, limits, strict=bool(head) or special)
        if problem and head:  # what counts is the tree; a history that nobody can take stays behind
            path, commit = self._write_bundle(base, tree, "", name)
            problem = self._find_bundle_problem(path, base, limits, strict=special)
        if problem and not lenient:
            raise UnfitWorkspace(problem, _printable_names([*changes.changed, *changes.new][:MAX_NAMES]))
        bundle = self._split_into_parts(path)
        return Snapshot(empty, bundle, commit=commit, base=base, message=message, left_out=tuple(left_out))

    def _check_and_stage(self, base: str, changes: Changes, found: WalkResult, limits: Limits | None) -> list[str]:
        """Check new files against the limits, then stage the workspace; return the files that were left out.

        Without limits every readable file is staged.
        """
        nested = found.nested
        if limits is None:  # the last look at this ship: nested repositories come along as plain files
            with self._nested_as_files(nested):
                return _printable_names([*found.unreadable, *self._stage(base, self._changes())][:MAX_NAMES])
        problems: list[tuple[str, list[str]]] = []
        if nested:
            worktrees = [path for path in nested if self._is_linked_worktree(path)]
            others = [path for path in nested if path not in worktrees]
            problems += [("linked worktrees", worktrees)] if worktrees else []
            problems += [("nested git repositories", others)] if others else []
        beyond = self._find_excesses(changes, limits)
        problems += [(one.reason, [os.fsdecode(path) for path in list(one.paths)[:MAX_NAMED]]) for one in beyond]
        if problems:
            reasons = "; ".join(reason for reason, _ in problems)
            raise UnfitWorkspace(
                reasons, _printable_names([path for _, paths in problems for path in paths][:MAX_NAMES])
            )
        unread = [*found.unreadable, *self._stage(base, changes)]
        if unread:
            raise UnfitWorkspace("files that git cannot read", _printable_names(unread[:MAX_NAMES]))
        return []

    def _is_linked_worktree(self, path: str) -> bool:
        git = find_git_directory(self._places.workspace / path)
        return git is not None and (git / "commondir").exists()

    @contextlib.contextmanager
    def _nested_as_files(self, nested: Sequence[str]) -> Iterator[None]:
        """Make git take nested repositories for plain folders meanwhile."""
        moved: list[tuple[Path, Path]] = []
        try:
            for path in nested:
                own = self._places.workspace / path / ".git"
                other = own.with_name("dot-git.rescued")
                if os.path.lexists(other):  # an agent's own; nothing else would have this name
                    other = own.with_name(f"dot-git.rescued-{os.getpid()}")
                own.rename(other)
                moved.append((own, other))
            yield
        finally:
            for own, other in moved:
                other.rename(own)

    def _find_excesses(self, changes: Changes, limits: Limits) -> list[Excess]:
        """Return the files that exceed the limits."""
        found = list(find_excesses(self._new_files(changes), limits))
        if found and changes.changed:  # a file may only have another time
            self._git(*self._agent_settings, "update-index", "-q", "--refresh", check=False)
            now = self._changes()
            now = now.without({path: entry for path, entry in now.before.items() if path not in changes.before})
            found = list(find_excesses(self._new_files(now), limits))
        return found

    def _new_files(self, changes: Changes) -> list[NewFile]:
        """Return the new and changed files that exist."""
        found = []
        for names, is_new in ((changes.changed, False), (changes.new, True)):
            for name in names:
                with contextlib.suppress(OSError):
                    size = os.lstat(self._places.workspace / name).st_size
                    found.append(NewFile(os.fsencode(name), 0 if name.endswith("/") else size, is_new))
        return found

    def _stage(self, base: str, changes: Changes) -> list[str]:
        """Stage everything; return the files that could not be read."""
        staged = self._succeeds(*self._agent_settings, "add", "--all", "--ignore-errors", "--", ".")
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
            unknown = b"\0".join(links - set(known)) + b"\0"
            self._git("update-index", "--force-remove", "-z", "--stdin", stdin=unknown)
        if known:  # submodules do not travel: they stay what they were
            kept = b"".join(b"160000 %s\t%s\0" % (oid, name) for name, oid in known.items())
            self._git("update-index", "-z", "--index-info", stdin=kept)
        remaining = self._git(
            *self._agent_settings, "ls-files", "--others", "--modified", "--exclude-standard", "-z"
        ).split(b"\0")
        return [os.fsdecode(name) for name in remaining if name and name.rstrip(b"/") not in known]

    def _fetch_agent_commits(self, base: str, limits: Limits) -> tuple[str, str]:
        """Return the agent's own head and the bodies of its commits, ("", "") if there are none."""
        self._fork = ""
        own = self._places.workspace / ".git"
        if not own.is_dir() or not is_regular_file(own / "HEAD") or _is_branch_at(own, base):
            return "", ""
        if os.path.lexists(own / "config") and not is_regular_file(own / "config"):
            return "", ""  # git would wait for a pipe
        try:
            # One refspec, nothing else of that repository's configuration is used.
            self._git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(own), "+HEAD:refs/ocaptain/agent")
            head = self._git("rev-parse", "refs/ocaptain/agent").decode().strip()
            if head == base:
                return "", ""
            self._fork = self._git("merge-base", base, head).decode().strip()
            if self._fork != base:
                return "", ""
            listed = self._git("log", *("-m", "--name-only", "--no-renames", "--format=", "-z"), f"{base}..{head}")
            if any(path_problem(path, limits) for path in set(listed.split(b"\0")) if path):
                return "", ""  # what counts is the tree; such a history stays behind
            text = self._git("log", "--reverse", "--no-merges", "--max-count=50", "--format=%B", f"{base}..{head}")
        except (WorkspaceError, subprocess.TimeoutExpired, ValueError):
            return "", ""
        return head, text.decode(errors="replace").strip()[:MAX_MESSAGE]

    def _carry_forward(self, base: str, tree: str, *, lenient: bool) -> str:
        """Return the tree of a branch that began at an older commit, with what has landed since.

        An agent may begin a branch of its own at ``main``, which is where the voyage started: its files would undo all
        landings. A tree that undoes nothing (of an amended commit, say) stays as it is.

        Raises:
            UnfitWorkspace: they do not merge, or it undoes only a part; and it is not ``lenient``.
        """
        landed = self._differing_paths(self._fork, base)
        undone = landed - self._differing_paths(self._fork, tree)
        if not undone or lenient:
            return tree
        if landed <= self._differing_paths(base, tree):  # else it began at the base, and was rewritten
            commit = self._git("commit-tree", tree, "-p", self._fork, stdin=b"work\n").decode().strip()
            with contextlib.suppress(WorkspaceError):  # a conflict, or a git older than 2.38
                return self._git("merge-tree", "--write-tree", "--no-messages", base, commit).decode().strip()
        names = _printable_names([os.fsdecode(path) for path in sorted(undone)[:MAX_NAMES]])
        reason = f"the checked-out branch lacks commit {base}, so its files would undo landed work; rebase it on that"
        raise UnfitWorkspace(reason, names)

    def _differing_paths(self, one: str, other: str) -> set[bytes]:
        listed = self._git("diff-tree", "-r", "-z", "--name-only", "--no-renames", one, other)
        return set(filter(None, listed.split(b"\0")))

    def _write_bundle(self, base: str, tree: str, head: str, name: str) -> tuple[Path, str]:
        """Commit a tree, and write a bundle with all that ``base`` does not have.

        Args:
            base: the commit before it.
            tree: of the files.
            head: the agent's own last commit, "" for none.
            name: of the bundle.

        Returns:
            The bundle, and the commit.
        """
        parents = ["-p", base, *(("-p", head) if head else ())]
        commit = self._git("commit-tree", tree, *parents, stdin=f"snapshot {name}\n".encode()).decode().strip()
        self._write_ref(OUT_REF, commit)
        return self._write_pack(base, commit, name), commit


def _is_branch_at(own: Path, commit: str) -> bool:
    """Return whether a repository's branch surely is at ``commit``, as :meth:`Workspace.reset` left it."""
    try:
        branch = _read_line(own / "HEAD").partition("ref: ")[2]
        return bool(re.fullmatch(r"refs/heads/[\w-]+", branch)) and _read_line(own / branch) == commit
    except (OSError, ValueError):
        return False


def _read_line(path: Path) -> str:
    with open_regular_file(path) as file:
        return file.read(MAX_LINE).decode().strip()


def _printable_names(names: Sequence[str]) -> list[str]:
    """Return file names as text; bytes that are not UTF-8 are replaced."""
    return [printable_path(os.fsencode(name)) for name in names]
