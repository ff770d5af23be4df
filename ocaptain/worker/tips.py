"""Read what a git directory names: refs, detached heads, stash, linked worktrees, reflogs. Runs no git.

The files are an agent's: its configuration, hooks, grafts and replacements are not looked at, and nothing here can
block on a pipe. Names are for people.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

from ocaptain.worker.places import open_regular_file, walk

MAX_REF_FILE = 4096
MAX_PACKED_REFS = 64 * 1024 * 1024
MAX_REFLOG = 1024 * 1024  # bytes, of its end
MAX_REFLOGS = 2000
_OID = re.compile(rb"[0-9a-f]{40}")
_PACKED = re.compile(rb"^([0-9a-f]{40}) (refs/[^\n]+)$", re.MULTILINE)
_LOGGED = re.compile(rb"^([0-9a-f]{40}) ([0-9a-f]{40}) [^\n]*?(?:\t([^\n]*))?$", re.MULTILINE)
_LEFT = re.compile(rb"checkout: moving from [0-9a-f]{7,40} to ")
_NO_COMMIT = "0" * 40
#: Where git puts commits that no ref names while a merge, a rebase or a bisection is under way.
_PENDING = (
    *("ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "FETCH_HEAD", "MERGE_AUTOSTASH"),
    *("rebase-merge/autostash", "rebase-merge/orig-head", "rebase-apply/autostash", "rebase-apply/orig-head"),
)


class Tip(NamedTuple):
    """Something that names a commit.

    Attributes:
        name: the agent's own name for it.
        oid: the object's id, perhaps of an annotated tag.
        is_work: whether an agent puts work there: a branch, a tag, a stash, a detached head.
        is_ref: whether it is more than a line in a log.
    """

    name: str
    oid: str
    is_work: bool
    is_ref: bool = True


class LinkedWorktree(NamedTuple):
    """A linked worktree: its git directory, and its folder if there is one."""

    git: Path
    folder: Optional[Path]


def read_tips(git: Path) -> List[Tip]:
    """Return what a git directory names: first where an agent puts work, then other refs, then entries of logs."""
    tips = list(_read_own_tips(git))
    for one in linked_worktrees(git):  # which have none of their own: links could lead in circles
        tips += [tip._replace(name=f"worktree {one.git.name}: {tip.name}") for tip in _read_own_tips(one.git)]
    return [tip for tip in sorted(tips, key=lambda tip: (not tip.is_work, not tip.is_ref)) if tip.oid != _NO_COMMIT]


def _read_own_tips(git: Path) -> Iterator[Tip]:
    yield from _read_refs(git)
    if head := _read_oid(git / "HEAD"):
        yield Tip("HEAD", head, is_work=True)
    for name in _PENDING:
        if oid := _read_oid(git / name):
            yield Tip(name, oid, is_work="autostash" in name.lower())
    yield from _read_logs(git)


def linked_worktrees(git: Path) -> List[LinkedWorktree]:
    """Return the linked worktrees of a git directory."""
    found = []
    with contextlib.suppress(OSError):
        for path in sorted((git / "worktrees").iterdir()):
            folder = None
            with contextlib.suppress(OSError, ValueError), open_regular_file(path / "gitdir") as file:
                named = path / os.fsdecode(file.read(MAX_REF_FILE).rstrip(b"\n"))  # it may be relative since git 2.48
                folder = named.parent if named.name == ".git" and named.parent.is_dir() else None
            found.append(LinkedWorktree(path, folder))
    return found


def shared_directory(git: Path) -> Path:
    """Return the git directory that holds the objects: of a linked worktree, that of its repository."""
    with contextlib.suppress(OSError, ValueError), open_regular_file(git / "commondir") as file:
        named = git / os.fsdecode(file.read(MAX_REF_FILE).rstrip(b"\n"))
        return named if named.is_dir() else git
    return git


def head_commit(git: Path, tips: List[Tip]) -> Optional[str]:
    """Return the commit that a git directory has checked out, None if there is none."""
    if oid := _read_oid(git / "HEAD"):
        return oid
    with contextlib.suppress(OSError), open_regular_file(git / "HEAD") as file:
        name = os.fsdecode(file.read(MAX_REF_FILE).strip()).partition("ref: ")[2]
        return next((one.oid for one in tips if one.name == name), None)
    return None


def _read_refs(git: Path) -> Iterator[Tip]:
    refs: Dict[str, str] = {}
    with contextlib.suppress(OSError), open_regular_file(git / "packed-refs") as file:
        for found in _PACKED.finditer(file.read(MAX_PACKED_REFS)):
            refs[os.fsdecode(found[2])] = found[1].decode()
    for folder, _, names in walk(str(git / "refs")):
        for name in names:
            path = os.path.join(folder, name)
            if oid := _read_oid(Path(path)):
                refs[os.path.relpath(path, git)] = oid
    for name, oid in sorted(refs.items()):
        yield Tip(name, oid, is_work=name.startswith(("refs/heads/", "refs/tags/")) or name == "refs/stash")


def _read_oid(path: Path) -> str:
    """Return the object id at a file's beginning, "" if there is none."""
    with contextlib.suppress(OSError, ValueError), open_regular_file(path) as file:
        found = _OID.match(file.read(MAX_REF_FILE))
        return found[0].decode() if found else ""
    return ""


def _read_logs(git: Path) -> Iterator[Tip]:
    """Yield the commits that a repository's logs name; a stash is a log, of which the ref names the last entry."""
    logs = [git / "logs/HEAD"]
    for folder, _, names in walk(str(git / "logs/refs")):
        logs += [Path(folder, name) for name in names]
    for path in logs[:MAX_REFLOGS]:
        name = os.path.relpath(path, git / "logs")
        with contextlib.suppress(OSError, ValueError), open_regular_file(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_REFLOG))
            entries = [found.groups() for found in _LOGGED.finditer(file.read(MAX_REFLOG))]
            for number, (old, new, message) in enumerate(reversed(entries)):
                if name == "refs/stash":
                    if number:  # the ref names the newest one
                        yield Tip(f"stash@{{{number}}}", new.decode(), is_work=True)
                    continue
                # What a detached head made is left by a checkout, what was undone by a reset.
                is_left = name == "HEAD" and bool(_LEFT.match(message or b""))
                label = f"{name}@{{{number + 1}}}"
                yield Tip(f"{label} (detached)" if is_left else label, old.decode(), is_work=is_left, is_ref=False)
                yield Tip(f"{name}@{{{number}}}", new.decode(), is_work=False, is_ref=False)
