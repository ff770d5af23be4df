"""The user's checkout goes forward, is left alone, and survives a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from ocaptain.captain.checkout import fast_forward
from ocaptain.git import Git, GitError

BIG = 3 << 20


@pytest.fixture
def source(tmp_path):
    """A repository of a branch, and a function that adds a commit to it."""
    path = tmp_path / "source"
    Git(tmp_path).run("init", "-q", "--template=", "-b", "trunk", str(path))
    git = Git(path)

    def commit(**files):
        for name, content in files.items():
            (path / name).write_bytes(content)
        git.run("add", "-A")
        git.run("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "more")

    commit(first=b"1\n")
    return path, commit


@pytest.fixture
def workspace(tmp_path, source):
    Git(tmp_path).run("clone", "-q", str(source[0]), str(tmp_path / "workspace"))
    return tmp_path / "workspace"


def test_it_goes_forward(source, workspace):
    path, commit = source
    commit(first=b"2\n", second=b"2\n")
    assert fast_forward(workspace, path, "trunk") is None
    assert (workspace / "second").read_bytes() == b"2\n"
    assert fast_forward(workspace, path, "trunk") is None


@pytest.mark.parametrize(("name", "says"), [("first", "has changes"), ("second", "would be overwritten: second")])
def test_what_is_the_users_stays(source, workspace, name, says):
    path, commit = source
    (workspace / name).write_text("mine")
    commit(first=b"2\n", second=b"2\n", third=b"3\n")
    assert says in fast_forward(workspace, path, "trunk")
    assert (workspace / name).read_text() == "mine"
    assert not (workspace / "third").exists()


@pytest.mark.parametrize("name", ["first", "second"])
def test_what_its_user_writes_at_the_last_moment_stays(source, workspace, monkeypatch, name):
    path, commit = source
    commit(first=b"2\n", second=b"2\n")
    real = Git.run

    def run(git, *arguments, **more):
        if arguments[0] == "merge":
            (workspace / name).write_text("mine")
        return real(git, *arguments, **more)

    monkeypatch.setattr(Git, "run", run)
    assert "git refused it" in fast_forward(workspace, path, "trunk")
    assert (workspace / name).read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_was_full_is_not_in_its_way_for_ever(tmp_path, source):
    path, commit = source
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={4 * BIG}", "small", small], check=True)
    try:
        workspace = small / "workspace"
        Git(tmp_path).run("clone", "-q", str(path), str(workspace))
        # The objects still fit, and the first of the new files.
        commit(first=b"2\n", second=b"x" * BIG, third=os.urandom(BIG))
        full = small / "full"
        full.write_bytes(b"x" * (BIG * 7 // 4))
        assert "git refused it" in fast_forward(workspace, path, "trunk")
        assert Git(workspace).text("status", "--porcelain") == ""
        full.unlink()
        assert fast_forward(workspace, path, "trunk") is None
        assert (workspace / "first").read_bytes() == b"2\n"
    finally:
        subprocess.run(["umount", small], check=True)


def test_one_that_is_gone_is_made_by_what_is_advised(source, workspace):
    path, _ = source
    shutil.rmtree(workspace)
    said = fast_forward(workspace, path, "trunk")
    assert "it is gone" in said
    subprocess.run(said.split("`")[1], shell=True, check=True, capture_output=True)
    assert fast_forward(workspace, path, "trunk") is None


def test_a_directory_that_is_gone_is_not_a_git_that_is_missing(tmp_path):
    with pytest.raises(GitError, match="gone: this directory does not exist"):
        Git(tmp_path / "gone").run("status")
