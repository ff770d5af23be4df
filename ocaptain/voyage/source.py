"""The repository that a voyage starts from: named, checked for access, brought into ``repo.git``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.agents.repository import MAX_READ, settings_files
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.git import Git, GitError, askpass_environment

if TYPE_CHECKING:
    from ocaptain.agents.repository import SettingsFile
    from ocaptain.config import Settings

_GITHUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^:].*")
_SCHEMES = ("https://", "http://", "ssh://", "git://", "file://")
ACCESS_SECONDS = 60.0
CLONE_SECONDS = 1800.0


@dataclass(frozen=True)
class Source:
    """Where the repository comes from.

    Attributes:
        url: what git is given; "" for a new repository.
        local: whether it is a directory on this machine.
    """

    url: str
    local: bool = False


def resolve(named: str | None, beside: Path) -> Source:
    """Decide what ``--repo`` or the plan's ``repo`` means; touches nothing but a look for directories.

    Args:
        named: ``owner/name`` (GitHub), a URL or a path; None or "" = a new repository.
        beside: the directory that relative paths start from.

    Raises:
        UsageError: it is none of these, or carries credentials.
    """
    if not named:
        return Source("")
    if named.startswith("-") or any(ord(char) < 32 for char in named):
        raise UsageError(f"{named!r} is neither owner/name, nor the URL or path of a git repository")
    if named.startswith(_SCHEMES):
        if re.match(r"https?://[^/@]*@|[a-z]+://[^/@]*:[^/@]*@", named):
            raise UsageError(
                "the repository's URL carries a password or token; remove it and set GH_TOKEN or a git credential"
            )
        if re.match(r"[a-z]+://[^/@]*%[^/@]*@", named):
            raise UsageError(f"not a repository: {named!r}: its user name is escaped, so that it may look like a host")
        return Source(named)
    path = (beside / Path(named).expanduser()).resolve()
    if path.is_dir():
        return Source(str(path), local=True)
    if _GITHUB.fullmatch(named) and not named.startswith("."):
        return Source(f"https://github.com/{named}.git")
    if _SCP.fullmatch(named):
        return Source(named)
    raise UsageError(f"the repository {named!r} does not exist; name owner/name, a URL or a directory")


def token_hosts(url: str, gh_host: str | None) -> list[str]:
    """Return the hosts that may see GH_TOKEN.

    GitHub, GH_HOST, and this machine if the repository that was named is on it: a server here is
    what it takes to try it, and a redirection to here gets nothing.
    """
    found = re.match(r"https?://(?:[^/@]*@)?((?:127\.0\.0\.1|localhost)(?::\d+)?)/", url)
    hosts = ["github.com", "gist.github.com", *([gh_host.lower()] if gh_host else [])]
    return [*hosts, found[1]] if found else hosts


def _git(settings: Settings, directory: Path, scratch: Path, url: str) -> Git:
    token = settings.gh_token.get_secret_value() if settings.gh_token else None
    hosts = token_hosts(url, settings.gh_host)
    return Git(directory, with_user_config=True, environment=askpass_environment(token, scratch / "askpass", hosts))


def check_access(source: Source, settings: Settings, scratch: Path) -> list[str]:
    """Return warnings about a source that can be reached.

    Raises:
        UsageError: it cannot; says what git said.
    """
    if not source.url:
        return []
    git = _git(settings, scratch, scratch, source.url)
    try:
        git.run("ls-remote", "--quiet", "--", source.url, "HEAD", seconds=ACCESS_SECONDS)
    except GitError as error:
        needs_token = not settings.gh_token and source.url.startswith("http")
        remedy = "set GH_TOKEN if it is private" if needs_token else "check the name and your access"
        raise UsageError(f"the repository {source.url} cannot be read ({remedy}): {error.message}") from error
    if not source.local:
        return []
    there = Git(Path(source.url), with_user_config=True)
    try:
        bare = there.text("rev-parse", "--is-bare-repository") == "true"
        if not bare and there.text("status", "--porcelain"):
            return [f"{source.url} has uncommitted changes; the voyage starts from its last commit"]
    except GitError:
        return []
    return []


def settings_of(git: Git, commit: str) -> list[SettingsFile]:
    """Return the files of a commit that set something of an agent.

    Raises:
        GitError: it cannot be read.
    """
    found = git.files(commit)
    return settings_files(sorted(found), lambda path: git.content(found[path], MAX_READ))


def look(source: Source, settings: Settings, scratch: Path) -> list[SettingsFile]:
    """Return the settings of agents in a source's last commit; of one elsewhere little more than names is fetched.

    Raises:
        GitError: it cannot be read, or has no commit.
    """
    if not source.url:
        return []
    if source.local:
        return settings_of(Git(Path(source.url), with_user_config=True), "HEAD")
    git = _git(settings, scratch, scratch, source.url)
    few = ("--bare", "--template=", "--depth=1", "--no-tags", "--filter=blob:none")
    git.run("clone", "--quiet", *few, "--", source.url, "look.git", seconds=CLONE_SECONDS)
    return settings_of(replace(git, directory=scratch / "look.git"), "HEAD")


def bring(source: Source, repo: Path, branch: str, name: str, settings: Settings, *, allow_partial: bool) -> str:
    """Make the bare repository ``repo`` with ``branch`` at the source's head; return that commit.

    Raises:
        UsageError: the source is shallow, or has submodules or LFS files and ``allow_partial`` is not set.
        OcaptainError: git failed.
    """
    repo.parent.mkdir(parents=True, exist_ok=True)
    if source.url:
        outside = _git(settings, repo.parent, repo.parent, source.url)
        try:
            outside.run("clone", "--quiet", "--bare", "--template=", "--", source.url, str(repo), seconds=CLONE_SECONDS)
        finally:
            (repo.parent / "askpass").unlink(missing_ok=True)
    else:
        Git(repo.parent).run("init", "--quiet", "--bare", "--template=", str(repo))
    git = Git(repo)
    if git.text("rev-parse", "--is-shallow-repository") == "true":
        raise UsageError(f"{source.url} is a shallow clone; run `git fetch --unshallow` in it first")
    root = git.resolve("HEAD")
    if root is None:
        empty_tree = git.text("mktree")
        root = git.text("commit-tree", empty_tree, "-m", f"Start of {name}")
    elif not allow_partial:
        _refuse_partial(git, root, source)
    git.update_ref(f"refs/heads/{branch}", root)
    git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    return root


def _refuse_partial(git: Git, root: str, source: Source) -> None:
    entries = git.run("ls-tree", "-r", "-z", root).stdout.split(b"\0")
    if any(entry.startswith(b"160000 ") for entry in entries):
        raise UsageError(f"{source.url} has submodules, which ships do not get; sail without them by --allow-partial")
    found = git.run("grep", "-q", "-e", "filter=lfs", root, "--", "*.gitattributes", ".gitattributes", ok=(0, 1))
    if found.returncode == 0:
        raise UsageError(
            f"{source.url} keeps files in LFS, which ships do not get; sail without them by --allow-partial"
        )


def checkout(repo: Path, workspace: Path, branch: str) -> None:
    """Clone the voyage branch to ``workspace``; its remote is relative, so that both can move."""
    try:
        Git(repo.parent).run("clone", "--quiet", "--template=", "--branch", branch, "--", str(repo), str(workspace))
        Git(workspace).run("remote", "set-url", "origin", "../repo.git")
    except GitError as error:
        raise OcaptainError(f"{workspace} could not be made: {error.message}") from error
