"""What is said of a source that cannot be read: the cause, and what to do about that one."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from ocaptain.ansible.voyage import check_plan as ansible_check
from ocaptain.cli.plan import check_plan
from ocaptain.config import load_settings
from ocaptain.git import Git, GitError
from ocaptain.plan import load_plan
from ocaptain.voyage import source as sources
from ocaptain.voyage.plan_check import check_whole_plan
from ocaptain.voyage.proof import prove_source
from ocaptain.voyage.source import parse_source, takes_gh_token
from ocaptain.voyage.start import SourceRefused, SourceUnreadable
from ocaptain.voyage.unreadable import explain_unreadable
from tests.helpers import write_plan
from tests.sources import make, serve

GITHUB = "https://github.com/o/not-found-certificate.git"
MINE = "https://git.example.com/o/n.git"
SSH = "git@github.com:o/n.git"
#: URL, whether GH_TOKEN is set, what git said, the problem, words of the remedy
SAID = [
    (GITHUB, False, "Could not resolve host: github.com", "name of its host", "network"),
    (SSH, False, "ssh: Could not resolve hostname github.com: nodename nor servname provided", "name of its host", ""),
    (GITHUB, True, "Could not resolve proxy: proxy.corp", "name of the proxy", "https_proxy"),
    (GITHUB, False, "Failed to connect to github.com port 443 after 75001 ms: Timeout", "does not answer", "network"),
    (GITHUB, False, "did not end in 60 s", "does not answer", "network"),
    (SSH, False, "kex_exchange_identification: Connection closed by remote host", "does not answer", "try again"),
    (MINE, False, "SSL certificate problem: self-signed certificate", "who it is", "http.sslCAInfo"),
    (SSH, False, "Host key verification failed.", "key of its host", "ssh HOST"),
    (SSH, False, "git@github.com: Permission denied (publickey).", "let you in", "ssh-add"),
    (SSH, False, "error: cannot run ssh: No such file or directory", "ssh is not installed", "apt-get"),
    (
        GITHUB,
        False,
        "could not read Username for 'https://github.com': terminal prompts disabled",
        "asks",
        "set GH_TOKEN",
    ),
    (GITHUB, True, "Authentication failed for 'https://github.com/o/n.git/'", "asks", "GH_TOKEN is valid"),
    (GITHUB, True, "remote: Repository not found.\nfatal: repository not found", "not exist", "GH_TOKEN is valid"),
    (MINE, False, "could not read Username for 'https://git.example.com'", "asks", "a credential for git.example.com"),
    (MINE, True, "The requested URL returned error: 403", "asks", "a credential for git.example.com"),
    (SSH, True, "ERROR: Repository not found.", "not exist", "your key"),
    ("git://x.invalid/y", False, "fatal: protocol error: bad line length", "git failed", "git ls-remote"),
]


@pytest.mark.parametrize(("url", "has_token", "told", "problem", "action"), SAID)
def test_each_cause_has_its_own_remedy(url, has_token, told, problem, action):
    told = f"fatal: unable to access '{url}/': {told}\nfatal: Could not read from remote repository."
    told = told if "did not end" not in told else "did not end in 60 s"
    found = explain_unreadable(told, url, takes_token=takes_gh_token(url, None), has_token=has_token)
    assert (problem in found.problem, action in found.action, found.field, found.exit_code) == (True, True, "repo", 2)
    assert ("GH_TOKEN" in found.action) == ("GH_TOKEN" in action), "only where the token would help"
    assert "Could not read from remote" not in found.problem


@pytest.mark.parametrize(
    ("url", "gh_host", "takes"),
    [
        (GITHUB, None, True),
        ("https://me@GitHub.com:443/o/n", None, True),
        ("https://git.example.com:8443/o/n", "git.example.com", True),
        ("http://127.0.0.1:8000/o/n", None, True),
        (MINE, None, False),
        ("https://github.com.evil.invalid/o/n", None, False),
        ("https://[x/y", None, False),
        (SSH, None, False),
    ],
)
def test_which_hosts_take_the_token(url, gh_host, takes):
    assert takes_gh_token(url, gh_host) is takes


def test_git_itself_is_asked_and_its_command_is_not_shown(tmp_path):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and not listening: nothing else can listen there
        port = held.getsockname()[1]
        for url, problem in (
            ("https://nosuch.invalid/x.git", "name of its host cannot be resolved"),
            (f"https://127.0.0.1:{port}/x.git", "its host does not answer"),
            (f"git://127.0.0.1:{port}/x.git", "its host does not answer"),
            (f"file://{tmp_path}/nowhere", "there is no git repository"),
        ):
            with pytest.raises(SourceUnreadable) as refused:
                prove_source(parse_source(url, tmp_path), load_settings(), tmp_path, allow_partial=False)
            text = str(refused.value)
            assert (problem in text, "GH_TOKEN" in text, "ls-remote" in text) == (True, False, False), text


def test_what_git_said_is_apart_from_what_was_run(tmp_path):
    with pytest.raises(GitError) as failed:
        Git(tmp_path).run("rev-parse", "--git-dir")
    assert failed.value.told.startswith("fatal: not a git repository")
    assert failed.value.message == f"git rev-parse --git-dir in {tmp_path}: {failed.value.told}"


def test_a_damaged_repository_here_is_no_matter_of_access(tmp_path):
    Git(tmp_path).run("init", "-q", str(tmp_path / "r"))
    (tmp_path / "r/.git/packed-refs").write_text("no ref\n")
    source = replace(parse_source("r", tmp_path), branch=None)
    with pytest.raises(SourceRefused, match=r"cannot be read: fatal: .*packed-refs.*; find out more with git fsck"):
        prove_source(source, load_settings(), tmp_path, allow_partial=False)


def test_a_plan_may_name_what_is_not_here_and_no_password(tmp_path, capsys):
    task = {"metadata": {"run": "true"}}
    for repo, code, words in (
        ("elsewhere/there/is", 0, "does not exist"),
        (f"file://{tmp_path}/nowhere", 0, "there is no git repository"),
        ("a" * 3000, 0, "cannot be found: File name too long"),
        ("file:///" + "a" * 3000, 0, "cannot be read"),
        ("~no-such-user/x", 0, "does not exist"),
        ("https://me:secret@x.invalid/y", 2, "contains a password or token"),
    ):
        assert check_plan(write_plan(tmp_path / "plan", [task], repo=repo), as_json=False) == code
        shown = " ".join(capsys.readouterr().err.split())
        assert (words in shown, "voyage.json: repo: " in shown, "secret" in shown) == (True, True, False), shown


def test_a_branch_without_a_repository_is_foretold(tmp_path, capsys):
    directory = write_plan(tmp_path / "plan", [{"metadata": {"run": "true"}}], branch="main")
    assert check_plan(directory, as_json=False) == 0
    assert "voyage.json: branch: is the branch of a repository, and the plan names none; add `repo`" in " ".join(
        capsys.readouterr().err.split()
    )


def test_a_bare_repository_is_searched_for_settings_as_it_is_proven(tmp_path, monkeypatch, capsys):
    git = Git(tmp_path)
    git.run("init", "-q", "work")
    (tmp_path / "work/.env").write_text("A=1\n")
    work = Git(tmp_path / "work")
    work.run("add", "-A")
    work.run("commit", "-qm", "x")
    git.run("clone", "-q", "--bare", "work", "bare.git")
    (tmp_path / ".gitconfig").write_text("[safe]\n\tbareRepository = explicit\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = write_plan(tmp_path / "plan", [{"metadata": {"run": "true"}}], repo=str(tmp_path / "bare.git"))
    assert check_plan(directory, as_json=False) == 0
    assert ".env: (in " in capsys.readouterr().err


def test_the_play_says_of_a_plan_what_the_command_line_says(tmp_path):
    directory = write_plan(tmp_path / "plan", [{"metadata": {"agent": "parrot"}}, {"description": ""}], branch="main")
    found = check_whole_plan(load_plan(directory), directory)
    said = ansible_check({"plan": str(directory)})
    assert (said["failed"], said["faults"]) == (True, [str(fault) for fault in found.faults])
    assert said["warnings_found"] == [str(warning) for warning in found.warnings]
    assert len(said["faults"]) == 1
    assert len(said["warnings_found"]) == 2


def test_a_server_that_goes_silent_ends_the_search_for_settings(tmp_path, monkeypatch, capsys):
    make(tmp_path / "source")
    monkeypatch.setattr(sources, "STALL_SECONDS", 1)
    with serve(tmp_path, "stall") as url:
        directory = write_plan(tmp_path / "plan", [{"metadata": {"run": "true"}}], repo=f"{url}/source/.git")
        assert check_plan(directory, as_json=False) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "could not be searched for agent settings: " in shown
    assert "git -c" not in shown
