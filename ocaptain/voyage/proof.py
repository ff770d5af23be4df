"""Prove that a voyage can start from a source, before anything is created.

::

    Source ──local: is it a repository, may git read it, is it whole?──┐
           ──git ls-remote: can it be read?──> RefList ──choose_start──> Start ──local: what do ships not get?──> Proof
                                                                             remote: proven by the clone (clone.py)

A local source is read and never changed.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.git import GitError, GitTimeout, Incomplete, find_incomplete
from ocaptain.text import clean_line, escape_control
from ocaptain.voyage.source import local_git, source_git, takes_gh_token
from ocaptain.voyage.start import HEADS, RefList, SourceRefused, Start, choose_start, parse_ref_list
from ocaptain.voyage.unreadable import explain_unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.config import Settings
    from ocaptain.git import Git
    from ocaptain.voyage.source import Source

ACCESS_SECONDS = 60.0
WALK_SECONDS = 60.0
MAX_NAMED = 3
_OID_LETTERS = 40  # of SHA-1
_REPLACE = "refs/replace/"
_OWNER = re.compile(r"detected dubious ownership")
_EXTENSION = re.compile(
    r"unknown repository extensions? found:\s*(\S+)|[Ee]xpected git repo version <= \d+, found (\d+)"
)
_GITFILE = re.compile(r"not a git repository: (\S.*)")
_NO_REPOSITORY = re.compile(r"not a git repository|does not appear to be a git repository")


@dataclass(frozen=True)
class Proof:
    """A source that a voyage can start from.

    Attributes:
        start: where.
        notes: what the user should know, a line each.
    """

    start: Start = field(default_factory=Start)
    notes: tuple[str, ...] = ()


def prove_source(
    source: Source, settings: Settings, scratch: Path, *, allow_partial: bool, walk_seconds: float = WALK_SECONDS
) -> Proof:
    """Prove that a voyage can start from a source.

    Args:
        source: it.
        settings: with the token for private ones.
        scratch: a private directory for temporary files.
        allow_partial: whether it may have submodules and files in LFS.
        walk_seconds: how long the objects of a local source are walked through; the clone proves the rest.

    Raises:
        SourceRefused: no voyage can start from it.
        SourceUnreadable: it is elsewhere, and cannot be read from here.
    """
    if not source.url:
        if source.branch is not None:
            raise SourceRefused("branch", "a new repository has no branch yet", "leave it out, or name a repository")
        return Proof()
    if source.path is not None:
        _require_repository(source.path)
    git = source_git(settings, scratch, scratch, source.url)
    try:
        listed = git.run("ls-remote", "--quiet", "--symref", "--", source.url, seconds=ACCESS_SECONDS).stdout
    except GitError as error:
        raise _explain(error, source, settings) from error
    if source.path is None:
        found = parse_ref_list(listed.decode("utf-8", "surrogateescape"))
        _require_readable(found, source.url)
        _require_sha1(found, source.url)
        return _proof(choose_start(found, source.branch, source.url))
    return _prove_local(source.path, source, scratch, allow_partial=allow_partial, walk_seconds=walk_seconds)


def _proof(start: Start, *notes: str) -> Proof:
    return Proof(start, tuple(note for note in (start.note, *notes) if note))


def _prove_local(path: Path, source: Source, scratch: Path, *, allow_partial: bool, walk_seconds: float) -> Proof:
    git = local_git(path)
    try:
        if git.text("rev-parse", "--show-object-format") != "sha1":
            raise _refuse_object_format(source.url)
        if git.text("rev-parse", "--is-shallow-repository") == "true":
            raise refuse_shallow(source.url)
        _require_no_grafts(git, source.url)
        found = _local_refs(git)
        start = choose_start(found, source.branch, source.url)
        if start.commit is None:
            return _proof(start)
        _require_complete(git, source.url, start.commit, walk_seconds)
        lacks = find_incomplete(git, start.commit, scratch / "index")
    except GitError as error:
        raise SourceRefused("repo", _damage(source.url, error), "find out more with git fsck") from error
    notes = list(incomplete_notes(lacks, source.url, allow_partial=allow_partial))
    if found.below(_REPLACE):
        notes.append(f"{source.url} has replaced objects (git replace): the voyage takes the original ones")
    if _has_changes(git):
        notes.insert(0, f"{source.url} has uncommitted changes; the voyage starts from its last commit")
    return _proof(start, *notes)


def _local_refs(git: Git) -> RefList:
    """Return the refs of a repository here, those included whose objects are missing: nobody else lists them."""
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)")
    if broken := re.findall(r"broken ref (\S+)", listed.stderr.decode(errors="replace")):
        raise _refuse_broken_refs(str(git.directory), broken)
    lines = listed.stdout.decode("utf-8", "surrogateescape").split("\n")
    refs = {name: oid for oid, _, name in (line.partition(" ") for line in lines if line)}
    symbolic = git.run("symbolic-ref", "--quiet", "HEAD", ok=(0, 1)).stdout.decode("utf-8", "surrogateescape").strip()
    branch = symbolic.removeprefix(HEADS) if symbolic.startswith(HEADS) else None
    found = git.run("rev-parse", "--quiet", "--verify", "HEAD", ok=(0, 1)).stdout.decode().strip()
    return RefList(refs, found or None, branch)


def _has_changes(git: Git) -> bool:
    try:
        in_tree = git.text("rev-parse", "--is-inside-work-tree") == "true"
        return in_tree and bool(git.text("status", "--porcelain"))
    except GitError:
        return False


# -- refusals ----------------------------------------------------------------------------------


def _require_repository(path: Path) -> None:
    """Refuse a directory that is no repository, or only a part of one."""
    git = local_git(path)
    try:
        found = Path(git.text("rev-parse", "--absolute-git-dir"))
    except GitError as error:
        raise _explain_local(error.told, path) from error
    if (path / ".git").exists() or found.resolve() == path.resolve():
        return
    top = git.run("rev-parse", "--show-toplevel", ok=(0, 128)).stdout.decode(errors="replace").strip() or str(found)
    raise SourceRefused("repo", f"{path} is a directory inside the repository {top}", f"give {top}")


def _explain(error: GitError, source: Source, settings: Settings) -> SourceRefused:
    """Return why a source cannot be read."""
    if source.path is not None:
        return _explain_local(error.told, source.path)
    if found := _EXTENSION.search(error.told):
        return _refuse_extension(source.url, found)
    takes_token = takes_gh_token(source.url, settings.gh_host)
    return explain_unreadable(error.told, source.url, takes_token=takes_token, has_token=bool(settings.gh_token))


def _explain_local(text: str, path: Path) -> SourceRefused:
    """Return why git does not take a directory for a repository.

    Args:
        text: the error of git.
        path: of the directory.
    """
    if _OWNER.search(text):
        inner = path / ".git"
        trusted = [path, inner] if inner.exists() else [path]
        commands = " && ".join(f"git config --global --add safe.directory {shlex.quote(str(one))}" for one in trusted)
        problem = f"{path} belongs to another user, so that git does not read it"
        return SourceRefused("repo", problem, f"if you trust that user: {commands}")
    if found := _EXTENSION.search(text):
        return _refuse_extension(str(path), found)
    if found := _GITFILE.search(text):
        problem = f"{path}/.git names the directory {clean_line(found[1], 300)}, which is no repository"
        return SourceRefused("repo", problem, "repair it with git worktree repair, or give the repository itself")
    if _NO_REPOSITORY.search(text):
        remedy = "give a repository, make one there with git init, or leave it out for a new one"
        return SourceRefused("repo", f"{path} is not a git repository", remedy)
    return SourceRefused("repo", f"{path} cannot be read: {clean_line(text, 500)}", "find out more with git fsck")


def _refuse_extension(where: str, found: re.Match[str]) -> SourceRefused:
    name = found[1] or f"format version {found[2]}"
    problem = f"{where} uses {escape_control(name)}, which this machine's git does not know"
    remedy = "update git"
    if name.lower() == "refstorage":
        problem, remedy = f"{problem} (reftable needs git 2.45)", "update git, or git refs migrate --ref-format=files"
    return SourceRefused("repo", problem, remedy)


def _refuse_broken_refs(where: str, names: Sequence[str]) -> SourceRefused:
    problem = f"{where} has refs that cannot be read: {_named(names)}"
    return SourceRefused("repo", problem, "restore them: git reflog shows what they were")


def _require_readable(found: RefList, where: str) -> None:
    """Refuse a remote source that lists refs without any object, as git does where the file of a ref is damaged."""
    if broken := [name for name, oid in found.refs.items() if not oid.strip("0")]:
        raise _refuse_broken_refs(where, broken)


def _require_sha1(found: RefList, where: str) -> None:
    if any(len(oid) != _OID_LETTERS for oid in (*found.refs.values(), found.head) if oid):
        raise _refuse_object_format(where)


def _refuse_object_format(where: str) -> SourceRefused:
    remedy = "convert it: git fast-export --all, then git fast-import in a new repository"
    return SourceRefused("repo", f"{where} has git's SHA-256 object format, and ships work with SHA-1", remedy)


def refuse_shallow(where: str) -> SourceRefused:
    """Return the refusal of a shallow source."""
    problem = f"{where} is a shallow clone, which lacks the older history"
    return SourceRefused("repo", problem, "run `git fetch --unshallow` in it first, or give its own remote")


def _require_no_grafts(git: Git, where: str) -> None:
    grafts = git.directory / git.text("rev-parse", "--git-path", "info/grafts")
    try:
        lines = grafts.read_text(errors="replace").splitlines()
    except OSError:
        return
    if any(line.strip() and not line.startswith("#") for line in lines):
        problem = f"{where} has grafts (info/grafts), with which its history cannot be cloned"
        raise SourceRefused("repo", problem, "run `git replace --convert-graft-file` in it first")


def _require_complete(git: Git, where: str, commit: str, seconds: float) -> None:
    """Refuse a repository here that lacks objects.

    Raises:
        GitError: it is damaged.
    """
    listed = ("rev-list", "--objects", "--quiet", "--missing=print", commit, "--branches", "--tags")
    try:
        missing = git.run(*listed, seconds=seconds).stdout.decode().split()
    except GitTimeout:
        return
    except GitError as error:
        if lost := _lost_alternates(git):
            raise _refuse_alternates(where, lost) from error
        raise
    if not missing:
        return
    if lost := _lost_alternates(git):
        raise _refuse_alternates(where, lost)
    promisors = git.run("config", "--get-regexp", r"^remote\..*\.promisor$", ok=(0, 1)).stdout.decode().split()
    if promisors:
        remote = promisors[0].removeprefix("remote.").removesuffix(".promisor")
        url = git.run("config", "--get", f"remote.{remote}.url", ok=(0, 1)).stdout.decode(errors="replace").strip()
        problem = f"{where} is a partial clone, which lacks {len(missing)} objects of its history"
        fetch = f"git -c remote.{remote}.partialclonefilter= fetch --refetch --no-filter {remote}"
        raise SourceRefused("repo", problem, f"run `{fetch}` in it first, or give its remote {escape_control(url)}")
    named = ", ".join(oid.removeprefix("?") for oid in missing[:MAX_NAMED])
    problem = f"{where} lacks {len(missing)} objects of its history ({named})"
    raise SourceRefused("repo", problem, "see git fsck, and restore them from another clone")


def _lost_alternates(git: Git) -> list[str]:
    """Return the directories from which the repository borrows objects and that do not exist."""
    objects = git.directory / git.text("rev-parse", "--git-path", "objects")
    try:
        lines = (objects / "info/alternates").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line and not line.startswith("#") and not (objects / line).is_dir()]


def _refuse_alternates(where: str, lost: list[str]) -> SourceRefused:
    named = ", ".join(escape_control(one) for one in lost[:MAX_NAMED])
    problem = f"{where} borrows objects from {named} (objects/info/alternates), which does not exist"
    return SourceRefused("repo", problem, "bring that directory back, or correct the path in objects/info/alternates")


def _damage(where: str, error: GitError) -> str:
    return f"{where} is damaged: {clean_line(error.told, 500)}"


def incomplete_notes(lacks: Incomplete, where: str, *, allow_partial: bool) -> list[str]:
    """Return notes about what ships do not get.

    Raises:
        SourceRefused: that are submodules or files in LFS, and ``allow_partial`` is not set.
    """
    lfs = lacks.filtered.get("lfs", ())
    for what, paths in (("submodules", lacks.submodules), ("files in LFS", lfs)):
        if paths and not allow_partial:
            problem = f"{where} has {what}, which ships do not get ({_named(paths)})"
            raise SourceRefused("repo", problem, "sail without them with --allow-partial")
    return [
        f"{where} has files with the filter {escape_control(name)}, which ships do not run:"
        f" they get what git stores ({_named(paths)})"
        for name, paths in lacks.filtered.items()
        if name != "lfs"
    ]


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(escape_control(name) for name in names[:MAX_NAMED]) + more
