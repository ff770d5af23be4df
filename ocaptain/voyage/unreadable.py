"""Why a source elsewhere cannot be read: by what git, ssh and curl say of it, in our words. Pure functions."""

from __future__ import annotations

import re

from ocaptain.environment import install_line
from ocaptain.text import clean_line
from ocaptain.voyage.source import MAX_SHOWN, web_host
from ocaptain.voyage.start import SourceUnreadable

MAX_TOLD = 300
#: What git adds to every failure of a helper, though it knows nothing of the reason.
_EMPTY_WORDS = re.compile(
    r"^fatal: Could not read from remote repository\.$|^Please make sure you have the correct access rights$"
    r"|^and the repository exists\.$",
    re.MULTILINE,
)
_NO_ACCESS = re.compile(
    r"could not read (Username|Password)|Authentication failed|terminal prompts disabled|returned error: 40[13]\b"
    r"|Invalid username|Access denied|Permission to \S+ denied"
)
_NOT_THERE = re.compile(r"not found$|returned error: (404|410)\b|[Rr]epository not found", re.MULTILINE)
#: Words (of curl, OpenSSH and git, on Linux, macOS and BSD), the problem, and what to do.
_CAUSES = tuple(
    (re.compile(words), problem, action)
    for words, problem, action in (
        (
            r"resolve proxy",
            "the name of the proxy cannot be resolved",
            "correct https_proxy, or git's own setting http.proxy",
        ),
        (
            r"[Cc]ould not resolve host|unable to look up|[Nn]ame or service not|nodename nor servname|name resolution",
            "the name of its host cannot be resolved",
            "check the name, and the network of this machine",
        ),
        (
            r"certificate|SSL_connect|TLS connect|SSL connect",
            "its host cannot prove who it is (TLS)",
            "check the name, or name the authority that you trust: git config --global http.sslCAInfo FILE",
        ),
        (
            r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
            "ssh does not know the key of its host",
            "run ssh HOST once, look at the key, and accept it if it is right",
        ),
        (
            r"Permission denied \(|Too many authentication failures",
            "its host does not let you in by ssh",
            "load a key that may read it (ssh-add), or give its https URL",
        ),
        (
            r"cannot run ssh|ssh: (command )?not found",
            "ssh is not installed",
            f"{install_line('openssh-client')}, or give its https URL",
        ),
        (
            r"remote helper for|transport .* not allowed",
            "this machine's git does not fetch from such a URL",
            "give an https or ssh URL, or a directory",
        ),
        (
            r"Connection (refused|reset|closed)|timed out|(ailed|nable) to connect|unreachable|o route|^did not",
            "its host does not answer",
            "check the address, the network and the proxy, and try again",
        ),
        (
            r"not appear to be a git repository|not a git repository",
            "there is no git repository",
            "check the path",
        ),
    )
)


def explain_unreadable(told: str, url: str, *, takes_token: bool, has_token: bool) -> SourceUnreadable:
    """Return why a source elsewhere cannot be read, and what to do.

    Args:
        told: what git said.
        url: of the source.
        takes_token: whether its host gets GH_TOKEN.
        has_token: whether GH_TOKEN is set.
    """
    problem, action = _find_cause(told, url, takes_token=takes_token, has_token=has_token)
    said = clean_line(_EMPTY_WORDS.sub("", told), MAX_TOLD)
    shown = clean_line(url, MAX_SHOWN)
    return SourceUnreadable("repo", f"the repository {shown} cannot be read: {problem} ({said})", action)


def _find_cause(told: str, url: str, *, takes_token: bool, has_token: bool) -> tuple[str, str]:
    # The name of a repository may have any of these words in it.
    words = told.replace(url.rstrip("/"), "URL")
    for pattern, problem, action in _CAUSES:
        if pattern.search(words):
            return problem, action
    is_refused, is_missing = bool(_NO_ACCESS.search(words)), bool(_NOT_THERE.search(words))
    if not is_refused and not is_missing:
        return "git failed", "try git ls-remote with it"
    problem = "it does not exist, or you may not read it" if is_missing else "it asks for credentials"
    if not takes_token:
        if host := web_host(url):
            return problem, f"check the name, and give git a credential for {host} (git help credentials)"
        return problem, "check the name, and that your key may read it"
    if has_token:
        return problem, "check the name, and that GH_TOKEN is valid and may read it"
    return problem, "check the name, and set GH_TOKEN if it is private"
