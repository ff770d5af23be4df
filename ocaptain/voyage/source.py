"""The repository that a voyage starts from: parse its name, check access to it, clone it to ``repo.git``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.agents.repository import MAX_FILE_BYTES, settings_files
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
        url: URL or path for git; "" for a new repository.
        local: whether it is a directory on this machine.
    """

    url: str
    local: bool = False


def parse_source(repo: str | None, base_directory: Path) -> Source:
    """Parse ``--repo`` or the plan's ``repo``; only tests whether a directory exists.

    Args:
        repo: ``owner/name`` (GitHub), a URL or a path; None or "" = a new repository.
        base_directory: the directory that relative paths start from.

    Raises:
        UsageError: it is none of these, or contains credentials.
    """
    if not repo:
        return Source("")
    if repo.startswith("-") or any(ord(char) < 32 for char in repo):
        raise UsageError(f"{repo!r} is neither owner/name, nor the URL or path of a git repository")
    if repo.startswith(_SCHEMES):
        if re.match(r"https?://[^/@]*@|[a-z]+://[^/@]*:[^/@]*@", repo):
            raise UsageError(
                "the repository's URL contains a password or token; remove it and set GH_TOKEN or a git credential"
            )
        if re.match(r"[a-z]+://[^/@]*%[^/@]*@", repo):
            raise UsageError(f"not a repository: {repo!r}: its user name is escaped, so that it may look like a host")
        return Source(repo)
    path = (base_directory / Path(repo).expanduser()).resolve()
    if path.is_dir():
        return Source(str(path), local=True)
    if _GITHUB.fullmatch(repo) and not repo.startswith("."):
        return Source(f"https://github.com/{repo}.git")
    if _SCP.fullmatch(repo):
        return Source(repo)
    raise UsageError(f"the repository {repo!r} does not exist; give owner/name, a URL or a directory")


def token_hosts(url: str, gh_host: str | None) -> list[str]:
    """Return the hosts that may receive GH_TOKEN.

    These are GitHub, GH_HOST, and this machine if the URL names a server on it (for tests); a
    redirection to this machine does not get the token.
    """
    found = re.match(r"https?://(?:[^/@]*@)?((?:127\.0\.0\.1|localhost)(?::\d+)?)/", url)
    hosts = ["github.com", "gist.github.com", *([gh_host.lower()] if gh_host else [])]
    return [*hosts, found[1]] if found else hosts


def _git(settings: Settings, directory: Path, scratch: Path, url: str) -> Git:
    token = settings.gh_token.get_secret_value() if settings.gh_token else None
    hosts = token_hosts(url, settings.gh_host)
    return Git(directory, with_user_config=True, environment=askpass_environment(token, scratch / "askpass", hosts))


def check_access(source: Source, settings: Settings, scratch: Path) -> list[str]:
    """Check that a source can be read; return warnings about it.

    Raises:
        UsageError: it cannot be read; contains the error of git.
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
    local_repo = Git(Path(source.url), with_user_config=True)
    try:
        bare = local_repo.text("rev-parse", "--is-bare-repository") == "true"
        if not bare and local_repo.text("status", "--porcelain"):
            return [f"{source.url} has uncommitted changes; the voyage starts from its last commit"]
    except GitError:
        return []
    return []


def settings_in_commit(git: Git, commit: str) -> list[SettingsFile]:
    """Return the files of a commit that contain agent settings.

    Raises:
        GitError: the commit cannot be read.
    """
    found = git.files(commit)
    return settings_files(sorted(found), lambda path: git.content(found[path], MAX_FILE_BYTES))


def find_settings(source: Source, settings: Settings, scratch: Path) -> list[SettingsFile]:
    """Return the files with agent settings in a source's last commit; a remote one is fetched without file contents.

    Raises:
        GitError: it cannot be read, or has no commit.
    """
    if not source.url:
        return []
    if source.local:
        return settings_in_commit(Git(Path(source.url), with_user_config=True), "HEAD")
    git = _git(settings, scratch, scratch, source.url)
    partial = ("--bare", "--template=", "--depth=1", "--no-tags", "--filter=blob:none")
    git.run("clone", "--quiet", *partial, "--", source.url, "look.git", seconds=CLONE_SECONDS)
    return settings_in_commit(replace(git, directory=scratch / "look.git"), "HEAD")


def import_repository(
    source: Source, repo: Path, branch: str, name: str, settings: Settings, *, allow_partial: bool
) -> str:
    """Clone the source to the bare repository ``repo``, with ``branch`` at its head; return that commit.

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
        raise UsageError(f"{source.url} has submodules, which ships do not get; sail without them with --allow-partial")
    found = git.run("grep", "-q", "-e", "filter=lfs", root, "--", "*.gitattributes", ".gitattributes", ok=(0, 1))
    if found.returncode == 0:
        raise UsageError(
            f"{source.url} has files in LFS, which ships do not get; sail without them with --allow-partial"
        )


def clone_workspace(repo: Path, workspace: Path, branch: str) -> None:
    """Clone the voyage branch to ``workspace``; its remote is relative, so that both can move."""
    try:
        Git(repo.parent).run("clone", "--quiet", "--template=", "--branch", branch, "--", str(repo), str(workspace))
        Git(workspace).run("remote", "set-url", "origin", "../repo.git")
    except GitError as error:
        raise OcaptainError(f"{workspace} could not be cloned: {error.message}") from error
