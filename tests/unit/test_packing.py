"""A repository after hundreds of landings: packed, and nothing missing."""

from __future__ import annotations

import os
import subprocess

import pytest

from ocaptain.git import Git, GitError, drop_unreachable, fsck, pack, packing, write_proven_bundle
from tests.unit.test_workspace import commit


def count(git):
    objects = git.directory / "objects"
    return sum(1 for _ in objects.glob("??/*")), sum(1 for _ in objects.glob("pack/*.pack"))


def test_it_is_packed_when_there_is_much_and_keeps_all(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAX_LOOSE", 60)
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repo.git"], check=True)
    git = Git(tmp_path / "repo.git")
    head, packed, kept = None, 0, []
    for number in range(60):
        head = commit(git, {"line": f"{number}\n"}, *([head] if head else []))
        git.update_ref("refs/heads/voyage", head)
        git.update_ref(f"refs/ocaptain/tasks/{number}/1/work", head)
        kept.append(commit(git, {"dangling": f"{number}\n"}))  # being brought in, and named in a moment
        packed += pack(git)
        loose, packs = count(git)
        assert loose <= 60 + 6
        assert packs <= 6
    assert 3 <= packed <= 10
    fsck(git)
    assert len(git.refs("refs/ocaptain/tasks")) == 60
    assert all(git.resolve(one) == one for one in kept)
    assert int(git.text("rev-list", "--count", "refs/heads/voyage")) == 60


def test_replaced_versions_are_removed_once_they_take_room_and_all_else_stays(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repo.git"], check=True)
    git = Git(tmp_path / "repo.git")
    head = commit(git, {"line": "1\n"})
    git.update_ref("refs/heads/voyage", head)
    replaced = []
    for _ in range(3):
        replaced.append(commit(git, {"noise": os.urandom(150_000).hex()}, head))
        git.update_ref("refs/ocaptain/live/ship-0", replaced[-1])
        git.run("repack", "--quiet", "-d")  # one after the other into a pack of its own, as a fetch brings them
    last = replaced.pop()
    assert not drop_unreachable(git)  # it is not worth the time
    monkeypatch.setattr(packing, "MIN_WASTE", 100_000)
    assert drop_unreachable(git)
    assert [git.resolve(one) for one in replaced] == [None, None]
    assert git.resolve("refs/ocaptain/live/ship-0") == last
    fsck(git)
    assert not drop_unreachable(git)
    (git.directory / "objects/pack/pack-0.promisor").touch()
    git.update_ref("refs/ocaptain/live/ship-0", head)
    assert not drop_unreachable(git)  # it would fetch


def test_a_bundle_that_holds_another_commit_fails_its_proof(tmp_path):
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "repo.git"], check=True)
    git = Git(tmp_path / "repo.git")
    first, second = (commit(git, {"line": f"{number}\n"}) for number in range(2))
    git.update_ref("refs/heads/voyage", first)
    with pytest.raises(GitError, match=f"failed its proof: a clone has {first} as refs/heads/voyage, not {second}"):
        write_proven_bundle(git, {"refs/heads/voyage": second}, tmp_path / "rescue.bundle")
    assert not (tmp_path / "rescue.bundle").exists()


@pytest.mark.parametrize(
    ("arguments", "is_set"),
    [(("bundle", "create"), True), (("repack",), True), (("merge-tree",), False), ((), False)],
)
def test_only_what_writes_packs_leaves_large_files_apart(tmp_path, arguments, is_set):
    assert ("core.bigFileThreshold=8m" in Git(tmp_path).argv(*arguments)) is is_set
