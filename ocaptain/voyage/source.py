"""The repository that a voyage starts from: parse its name, run git on it, find agent settings in it."""

from __future__ import annotations

import contextlib
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ocaptain.agents.repository import MAX_FILE_BYTES, settings_files
from ocaptain.git import Git, askpass_environment
from ocaptain.paths import expand_home
from ocaptain.voyage.start import SourceRefused, SourceUnreadable

if TYPE_CHECKING:
    from ocaptain.agents.repository import SettingsFile
    from ocaptain.config import Settings
    from ocaptain.voyage.start import Start

_GITHUB = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9][A-Za-z0-9.-]+:[^:].*")  # of ssh: [user@]host:path
_SCHEMES = ("https://", "http://", "ssh://", "git://", "file://")
FILE_URL = "file://"
LOOK_SECONDS = 1800.0
#: A server that sends nothing for so long is given up; git's own servers send a sign of life every 5 s.
STALL_SECONDS = 120
MAX_SHOWN = 200  # characters of a name in a message
#: Neither downloads nor replaces objects, and writes nothing: what is proven is what is there. A bare repository that
#: the user names is meant, whatever ``safe.bareRepository`` says of those that git happens upon.
_AS_STORED = {
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.bareRepository",
    "GIT_CONFIG_VALUE_0": "all",
}


@dataclass(frozen=True)
class Source:
    """Where the repository comes from.

    Attributes:
        url: URL or path for git; "" for a new repository.
        local: whether it was given as a directory on this machine.
        branch: the branch that the voyage starts from, None for the one that its HEAD names.
    """

    url: str
    local: bool = False
    branch: str | None = None

    @property
    def path(self) -> Path | None:
        """Its directory on this machine, if it is there; also that of a ``file://`` URL."""
        if self.local:
            return Path(self.url)
        if not self.url.startswith(FILE_URL):
            return None
        path = Path(unquote(self.url.removeprefix(FILE_URL)))
        with contextlib.suppress(OSError):  # a name that no file can have
            return path if path.is_dir() else None
        return None


def parse_source(repo: str | None, base_directory: Path) -> Source:
    """Parse ``--repo`` or the plan's ``repo``; only tests whether a directory exists.

    Args:
        repo: ``owner/name`` (GitHub), a URL or a path; None or "" = a new repository.
        base_directory: the directory that relative paths start from.

    Raises:
        SourceRefused: it is none of these, or contains credentials.
        SourceUnreadable: there is no such directory, or it cannot be looked at.
    """
    if not repo:
        return Source("")
    if repo.startswith("-") or any(ord(char) < 32 for char in repo):
        problem = f"{repo!r} is neither owner/name, nor the URL or path of a git repository"
        raise SourceRefused("repo", problem, "correct it, or leave it out for a new one")
    if repo.startswith(_SCHEMES):
        if re.match(r"https?://[^/@]*@|[a-z]+://[^/@]*:[^/@]*@", repo):
            problem = "the repository's URL contains a password or token"
            raise SourceRefused("repo", problem, "remove it and set GH_TOKEN or a git credential")
        if re.match(r"[a-z]+://[^/@]*%[^/@]*@", repo):
            problem = f"not a repository: {repo!r}: its user name is escaped, so that it may look like a host"
            raise SourceRefused("repo", problem, "write the user name without %")
        return Source(repo)
    if found := _find_directory(repo, base_directory):
        return found
    if _GITHUB.fullmatch(repo) and not repo.startswith("."):
        return Source(f"https://github.com/{repo}.git")
    if _SCP.fullmatch(repo):
        return Source(repo)
    raise SourceUnreadable("repo", f"the repository {repo!r} does not exist", "give owner/name, a URL or a directory")


def _find_directory(repo: str, base_directory: Path) -> Source | None:
    try:
        path = (base_directory / expand_home(repo)).resolve()
        if path.is_dir():
            return Source(str(path), local=True)
        is_file = path.is_file()
    except OSError as error:  # a name that no file can have
        problem = f"the repository {repo[:MAX_SHOWN]!r} cannot be found: {error.strerror}"
        raise SourceUnreadable("repo", problem, "correct it") from error
    if is_file:
        remedy = f"clone it first: git clone {shlex.quote(str(path))}"
        raise SourceRefused("repo", f"the repository {repo!r} is a file, not a directory", remedy)
    return None


def token_hosts(url: str, gh_host: str | None) -> list[str]:
    """Return the hosts that may receive GH_TOKEN.

    These are GitHub, GH_HOST, and this machine if the URL names a server on it (for tests); a
    redirection to this machine does not get the token.
    """
    found = re.match(r"https?://(?:[^/@]*@)?((?:127\.0\.0\.1|localhost)(?::\d+)?)/", url)
    hosts = ["github.com", "gist.github.com", *([gh_host.lower()] if gh_host else [])]
    return [*hosts, found[1]] if found else hosts


def web_host(url: str) -> str | None:
    """Return host and port of an http or https URL, in lower case; None for any other."""
    found = re.match(r"https?://(?:[^/@]*@)?([^/]+)", url)
    return found[1].lower() if found else None


def takes_gh_token(url: str, gh_host: str | None) -> bool:
    """Whether the host of a URL gets GH_TOKEN."""
    host = web_host(url)
    return host is not None and not {host, re.sub(r":\d+$", "", host)}.isdisjoint(token_hosts(url, gh_host))


def local_git(path: Path) -> Git:
    """Return the git that reads a source on this machine, and changes nothing there."""
    return Git(path, with_user_config=True, environment=_AS_STORED)


def source_git(settings: Settings, directory: Path, scratch: Path, url: str) -> Git:
    """Return the git that reads a source, with the user's configuration and our token.

    Args:
        settings: with the token.
        directory: that it runs in.
        scratch: a private directory for its helper.
        url: of the source.
    """
    token = settings.gh_token.get_secret_value() if settings.gh_token else None
    hosts = token_hosts(url, settings.gh_host)
    return Git(directory, with_user_config=True, environment=askpass_environment(token, scratch / "askpass", hosts))


def end_stalls(seconds: int) -> tuple[str, ...]:
    """Return git's settings with which it gives up a server that sends nothing for so long; over http alone."""
    return ("-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={seconds}")


def settings_in_commit(git: Git, commit: str) -> list[SettingsFile]:
    """Return the files of a commit that contain agent settings.

    Raises:
        GitError: the commit cannot be read.
    """
    found = git.files(commit)
    return settings_files(sorted(found), lambda path: git.content(found[path], MAX_FILE_BYTES))


def find_settings(source: Source, start: Start, settings: Settings, scratch: Path) -> list[SettingsFile]:
    """Return the files with agent settings at a voyage's start; of a remote source no other file is fetched.

    Raises:
        GitError: it cannot be read.
    """
    if start.commit is None:
        return []
    if source.path is not None:
        return settings_in_commit(local_git(source.path), start.commit)
    git = source_git(settings, scratch, scratch, source.url)
    partial = ("--bare", "--template=", "--depth=1", "--no-tags", "--filter=blob:none")
    branch = ("--branch", start.branch) if start.branch else ()
    clone = (*end_stalls(STALL_SECONDS), "clone", "--quiet", *partial, *branch, "--", source.url, "look.git")
    git.run(*clone, seconds=LOOK_SECONDS)
    return settings_in_commit(replace(git, directory=scratch / "look.git"), "HEAD")
