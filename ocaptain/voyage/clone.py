"""Clone the source of a voyage to ``repo.git``, and prove what only a clone can prove."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError
from ocaptain.git import Git, GitError, GitTimeout, find_incomplete
from ocaptain.text import clean_line, escape_control
from ocaptain.voyage.proof import incomplete_notes, refuse_shallow
from ocaptain.voyage.source import STALL_SECONDS, end_stalls, source_git
from ocaptain.voyage.start import SourceRefused

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.config import Settings
    from ocaptain.voyage.source import Source
    from ocaptain.voyage.start import Start

CLONE_SECONDS = 1800.0
MAX_SHOWN = 600
#: The objects are the user's own: git's style checks (time zones, modes) are not for them. That they are complete
#: and have the content that their ids say is still checked, as in every clone over a connection.
_OWN_OBJECTS = ("-c", "transfer.fsckObjects=false", "-c", "fetch.fsckObjects=false")
#: Not by hard links: everything is read once and checked, and nothing is borrowed from the source's alternates.
_CLONE = ("clone", "--quiet", "--bare", "--no-local", "--reject-shallow", "--template=", "--")
_SHALLOW = re.compile(r"source repository is shallow")
_FULL_DISK = re.compile(r"No space left on device|Disk quota exceeded")
_STALLED = re.compile(r"Operation too slow|[Tt]imed out")
#: What git says when the objects of the source are missing or damaged, whoever serves them.
_DAMAGED = re.compile(
    r"possible repository corruption on the remote side|did not receive expected object"
    r"|did not send all necessary objects|SHA1 mismatch|is corrupt\b|fatal: missing (blob|tree|commit)"
    r"|unable to read [0-9a-f]{40}|pack has bad object"
)


@dataclass(frozen=True)
class Imported:
    """The repository of a new voyage.

    Attributes:
        root: the commit that the voyage branch starts from.
        notes: what the user should know, a line each.
    """

    root: str
    notes: tuple[str, ...] = ()


def import_repository(
    source: Source, start: Start, repo: Path, branch: str, name: str, settings: Settings, *, allow_partial: bool
) -> Imported:
    """Make the bare repository ``repo`` of the source, with the voyage's ``branch`` at its start.

    Args:
        source: it.
        start: where the voyage starts, as it was proven.
        repo: path of the new repository.
        branch: name of the voyage's branch.
        name: of the plan, for the first commit of a new repository.
        settings: with the token for private sources.
        allow_partial: whether the source may have submodules and files in LFS.

    Raises:
        SourceRefused: the source is not what a voyage can start from; only its clone could tell.
        OcaptainError: the clone failed.
    """
    repo.parent.mkdir(parents=True, exist_ok=True)
    git = Git(repo)
    notes: list[str] = []
    if start.commit is None:
        Git(repo.parent).run("init", "--quiet", "--bare", "--template=", str(repo))
        root = git.text("commit-tree", git.text("mktree"), "-m", f"Start of {name}")
    else:
        _clone(source, repo, settings)
        root = _resolve_start(git, source, start)
        if source.path is None:  # else it was looked at when it was proven
            lacks = find_incomplete(git, root, repo / "look-index")
            notes = incomplete_notes(lacks, source.url, allow_partial=allow_partial)
    git.update_ref(f"refs/heads/{branch}", root)
    git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    return Imported(root, tuple(notes))


def _clone(source: Source, repo: Path, settings: Settings) -> None:
    git = source_git(settings, repo.parent, repo.parent, source.url)
    try:
        git.run(*_OWN_OBJECTS, *end_stalls(STALL_SECONDS), *_CLONE, source.url, str(repo), seconds=CLONE_SECONDS)
    except GitError as error:
        raise explain_failure(error, source.url) from error
    finally:
        (repo.parent / "askpass").unlink(missing_ok=True)


def _resolve_start(git: Git, source: Source, start: Start) -> str:
    named = f"refs/heads/{start.branch}" if start.branch else str(start.commit)
    root = git.resolve(named)
    if root is None:
        what = f"branch {escape_control(start.branch)}" if start.branch else f"commit {start.commit}"
        raise SourceRefused("repo", f"{what} of {source.url} was removed while it was being cloned", "try again")
    return root


def explain_failure(error: GitError, where: str) -> OcaptainError:
    """Return why a clone failed: by the source's own state (exit 2), or on the way (exit 1).

    Args:
        error: of git.
        where: URL or path of the source.
    """
    told = clean_line(error.told, MAX_SHOWN)
    if _SHALLOW.search(error.message):
        return refuse_shallow(where)
    if _FULL_DISK.search(error.message):
        return OcaptainError(f"the clone of {where} does not fit on the disk: {told}; free some space and try again")
    if _DAMAGED.search(error.message):
        problem = f"{where} lacks objects of its history, or they are damaged: {told}"
        return SourceRefused("repo", problem, "see git fsck there, and restore them from another clone")
    if isinstance(error, GitTimeout) or _STALLED.search(error.message):
        return OcaptainError(
            f"the clone of {where} came to a standstill: {told}; nothing was created: see the connection and try again"
        )
    return OcaptainError(f"the clone of {where} broke off: {told}; nothing was created: try again")


def clone_workspace(repo: Path, workspace: Path, branch: str) -> None:
    """Clone the voyage branch to ``workspace``; its remote is relative, so that both can move."""
    try:
        Git(repo.parent).run(
            *(*_OWN_OBJECTS, "clone", "--quiet", "--template=", "--branch", branch, "--", str(repo), str(workspace))
        )
        Git(workspace).run("remote", "set-url", "origin", "../repo.git")
    except GitError as error:
        raise OcaptainError(f"{workspace} could not be cloned: {error.told}") from error
