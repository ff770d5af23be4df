"""The voyage's repository, read in this process (libgit2) for short queries, without starting git.

Objects from ships, merges, packs and moves of the branch are left to git itself, for its checks, locks and
recovery. Only bare repositories that ocaptain made are opened here.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import pygit2
from pygit2.enums import ConfigLevel, DeltaStatus, ObjectType, Option, RepositoryOpenFlag

from ocaptain.git.run import IDENTITY, Git, GitError

if TYPE_CHECKING:
    from collections.abc import Callable

_Found = TypeVar("_Found")

# As for git: only the repository's own configuration, and all writes are flushed to the disk.
for _level in (ConfigLevel.PROGRAMDATA, ConfigLevel.SYSTEM, ConfigLevel.XDG, ConfigLevel.GLOBAL):
    pygit2.option(Option.SET_SEARCH_PATH, _level, "")
pygit2.option(Option.ENABLE_FSYNC_GITDIR, True)  # noqa: FBT003 - its signature


@dataclass(frozen=True)
class BareRepository(Git):
    """A bare repository of ours. Thread-safe: calls are serialised by a lock."""

    @cached_property
    def _repository(self) -> pygit2.Repository:
        flags = RepositoryOpenFlag.BARE | RepositoryOpenFlag.NO_SEARCH
        return pygit2.Repository(str(self.directory), flags)

    @cached_property
    def _turn(self) -> threading.Lock:
        return threading.Lock()

    def _ask(self, question: Callable[[pygit2.Repository], _Found]) -> _Found:
        try:
            with self._turn:
                return question(self._repository)
        except (pygit2.GitError, OSError, ValueError, KeyError) as error:
            raise GitError(f"{self.directory}: {error}") from error

    def reopen(self) -> None:
        """Close packs that git has replaced: libgit2 keeps open what it once opened."""
        with self._turn:
            if "_repository" in self.__dict__:
                self._repository.free()
                del self.__dict__["_repository"]

    def resolve(self, revision: str) -> str | None:
        """Return the commit that a full ref name or an id names, None if there is none."""

        def look(repository: pygit2.Repository) -> str | None:
            found: pygit2.Oid | str = revision
            if revision.startswith("refs/"):
                try:
                    found = repository.references[revision].resolve().target
                except KeyError:
                    return None
                if repository.odb.read_header(pygit2.Oid(hex=str(found)))[0] == ObjectType.TAG:
                    return str(repository.references[revision].peel(pygit2.Commit).id)
            try:
                kind, _ = repository.odb.read_header(pygit2.Oid(hex=str(found)))
            except KeyError:
                return None
            return str(found) if kind == ObjectType.COMMIT else None

        return self._ask(look)

    def tree(self, commit: str) -> str:
        """Return the tree of a commit.

        Raises:
            GitError: there is no such commit.
        """
        return self._ask(lambda repository: _tree_of(repository, commit))

    def tree_bytes(self, oid: str) -> bytes:
        """Return a tree's bytes."""
        return self._ask(lambda repository: bytes(repository.odb.read(pygit2.Oid(hex=oid))[1]))

    def file_size(self, oid: str) -> int:
        """Return a file's size in bytes."""
        return self._ask(lambda repository: int(repository.odb.read_header(pygit2.Oid(hex=oid))[1]))

    def added_or_changed(self, old: str, new: str) -> dict[str, str]:
        """Return the files of ``new`` that are not in ``old`` or differ there: paths, with their blobs' ids."""

        def look(repository: pygit2.Repository) -> dict[str, str]:
            before, now = repository[old].peel(pygit2.Tree), repository[new].peel(pygit2.Tree)
            files = (one.new_file for one in before.diff_to_tree(now).deltas if one.status != DeltaStatus.DELETED)
            return {file.raw_path.decode(errors="replace"): str(file.id) for file in files}

        return self._ask(look)

    def content(self, blob: str, limit: int) -> bytes | None:
        """Return a blob's bytes, None if it has more than ``limit``."""

        def look(repository: pygit2.Repository) -> bytes | None:
            found = repository[blob].peel(pygit2.Blob)
            return found.data if found.size <= limit else None

        return self._ask(look)

    def commit(self, tree: str, parent: str, message: str, *, author: str, dated: bool = True) -> str:
        """Make a commit of a tree; return its id.

        Args:
            tree: of the files.
            parent: the commit before it.
            message: the whole message.
            author: a ship's id.
            dated: whether its date is now; if not, it is its parent's, so that the same commit is made each
                time, and a walk through history by date meets it in its place.
        """

        def make(repository: pygit2.Repository) -> str:
            when = () if dated else (_time_of(repository, parent), 0)
            by = pygit2.Signature(author, f"{author}@ocaptain.invalid", *when)
            ours = pygit2.Signature(*IDENTITY, *when)
            parents: list[pygit2.Oid | str] = [pygit2.Oid(hex=parent)]
            return str(repository.create_commit(None, by, ours, message, pygit2.Oid(hex=tree), parents))

        try:
            return self._ask(make)
        except GitError:  # on an old commit of the user's that libgit2 does not read
            when = "" if dated else f"@{self._ask(lambda repository: _time_of(repository, parent))} +0000"
            extra = {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": f"{author}@ocaptain.invalid"}
            dates = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when} if when else {}
            arguments = ("commit-tree", tree, "-p", parent)
            return self.run(*arguments, stdin=message.encode(), extra={**extra, **dates}).stdout.decode().strip()

    def read_commit(self, commit: str) -> bytes:
        """Return a commit as git stores it."""
        return self._ask(lambda repository: bytes(repository.odb.read(pygit2.Oid(hex=commit))[1]))

    def write_commit(self, data: bytes) -> str:
        """Store a commit that is given as git stores it; return its id."""
        return self._ask(lambda repository: str(repository.write(ObjectType.COMMIT, data)))

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``old`` is reachable from ``new``."""

        def look(repository: pygit2.Repository) -> bool:
            if old not in repository or new not in repository:
                return False
            return old == new or repository.descendant_of(new, old)

        try:
            return self._ask(look)
        except GitError:  # an old commit of the user's that libgit2 does not read: git does
            return self.run("merge-base", "--is-ancestor", old, new, ok=(0, 1)).returncode == 0

    def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor of two commits, None if there is none."""

        def look(repository: pygit2.Repository) -> object:
            return repository.merge_base(one, other) if one in repository and other in repository else None

        try:
            found = self._ask(look)
        except GitError:
            return self.run("merge-base", one, other, ok=(0, 1)).stdout.decode().strip() or None
        return None if found is None else str(found)

    def update_ref(self, ref: str, new: str, old: str | None = None) -> bool:
        """Set a ref; with ``old``, only if it has that value, by git. See :meth:`ocaptain.git.Git.update_ref`."""
        if old is not None:
            return super().update_ref(ref, new, old)
        self._ask(lambda repository: repository.references.create(ref, new, force=True))
        return True


def _header_of(repository: pygit2.Repository, commit: str) -> bytes:
    """Return the lines before a commit's message, unparsed: git takes old commits that libgit2 does not.

    Raises:
        KeyError: there is no such commit.
    """
    kind, data = repository.odb.read(pygit2.Oid(hex=commit))
    if kind != ObjectType.COMMIT:
        raise KeyError(f"{commit} is no commit")
    return bytes(data).partition(b"\n\n")[0] + b"\n"


def _tree_of(repository: pygit2.Repository, commit: str) -> str:
    """Return the tree of a commit. Raises KeyError, ValueError."""
    found = re.match(rb"tree ([0-9a-f]{40})\n", _header_of(repository, commit))
    if not found:
        raise ValueError(f"{commit} has no tree")
    return found[1].decode()


def _time_of(repository: pygit2.Repository, commit: str) -> int:
    """Return a commit's time in seconds, 0 if it has none that can be read. Raises KeyError."""
    found = re.search(rb"\ncommitter [^\n]*> ?([0-9]{1,12})\b", _header_of(repository, commit))
    return int(found[1]) if found else 0
