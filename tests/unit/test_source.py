"""Which repositories a voyage starts from, and which it refuses, before anything is created: docs/repositories.md."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ocaptain.captain.rescue import fsck, write_proven_bundle
from ocaptain.cli.plan import check_plan
from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.git import BareRepository, Git, GitError, GitTimeout, pack_start_refs
from ocaptain.voyage import clone
from ocaptain.voyage.clone import clone_workspace, import_repository
from ocaptain.voyage.proof import prove_source
from ocaptain.voyage.source import Source, parse_source
from ocaptain.voyage.start import RefList, SourceRefused, Start, choose_start
from tests.helpers import OCAPTAIN, REPO, wait_for, write_plan
from tests.sources import (
    ODD_COMMITS,
    git,
    make,
    path_of,
    save,
    serve,
    write_commit,
    write_object,
    write_odd_tree,
)

VOYAGE = "voyage-000000000000"


@pytest.fixture
def source(tmp_path):
    return make(tmp_path / "source")


class Made:
    """A source that was proven and cloned as a voyage's is."""

    def __init__(self, tmp_path, where, branch=None, *, allow_partial=False):
        found = replace(parse_source(str(where), tmp_path), branch=branch)
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        self.settings = load_settings()
        self.proof = prove_source(found, self.settings, scratch, allow_partial=allow_partial)
        self.start = self.proof.start
        repo = tmp_path / "building" / "repo.git"
        shutil.rmtree(repo.parent, ignore_errors=True)
        made = import_repository(found, self.start, repo, VOYAGE, "n", self.settings, allow_partial=allow_partial)
        self.root, self.git = made.root, Git(repo)
        self.notes = [*self.proof.notes, *made.notes]

    def files(self):
        return sorted(self.git.files(self.root))


def refusal(tmp_path, where, branch=None):
    """Return field, problem and remedy of what is refused before it is cloned."""
    before = sorted(tmp_path.rglob("*"))
    scratch = tmp_path.parent / f"{tmp_path.name}-scratch"
    scratch.mkdir(exist_ok=True)
    found = replace(parse_source(str(where), tmp_path), branch=branch)
    with pytest.raises(SourceRefused) as refused:
        prove_source(found, load_settings(), scratch, allow_partial=False)
    assert (sorted(tmp_path.rglob("*")), refused.value.exit_code) == (before, 2)
    assert refused.value.remedy in str(refused.value)
    return refused.value.field, refused.value.problem, refused.value.remedy


# -- which start ------------------------------------------------------------------------------


def test_whatever_names_a_repository_starts_from_the_branch_of_its_head(tmp_path, source):
    git(source, "worktree", "add", "-q", tmp_path / "tree", "-b", "feature/x")
    save(tmp_path / "tree", {"new": "1"})
    git(tmp_path, "clone", "-q", "--bare", source, "bare.git")
    os.symlink(source, tmp_path / "link")
    git(tmp_path, "config", "--global", "safe.bareRepository", "explicit")
    script = tmp_path / "ssh"
    script.write_text('#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\nexec sh -c "$1"\n')
    script.chmod(0o700)
    git(tmp_path, "config", "--global", "core.sshCommand", script)
    main, feature = git(source, "rev-parse", "main"), git(source, "rev-parse", "feature/x")
    with serve(tmp_path) as url:
        for where in (source, source / ".git", tmp_path / "link", f"file://{source}", f"ssh://host{source}"):
            assert Made(tmp_path, where).start == Start("main", main), where
        for where in (tmp_path / "bare.git", f"{url}/bare.git", f"file://{tmp_path}/bare.git"):
            assert Made(tmp_path, where).start == Start("main", main), where
    made = Made(tmp_path, tmp_path / "tree")
    assert (made.start, made.root, made.files()) == (
        Start("feature/x", feature),
        feature,
        ["a.txt", "new", "src/b.txt"],
    )


def test_a_branch_that_is_asked_for_is_the_start(tmp_path, source):
    git(source, "branch", "release/1.0", "main~1")
    with serve(tmp_path) as url:
        for where in (source, f"file://{source}", f"{url}/source/.git"):
            made = Made(tmp_path, where, "release/1.0")
            assert (made.start.branch, made.files()) == ("release/1.0", ["a.txt", "src/b.txt", "x"])
            assert made.git.text("symbolic-ref", "HEAD") == f"refs/heads/{VOYAGE}"


def test_a_branch_that_does_not_exist_is_refused_with_near_names(tmp_path, source):
    git(source, "tag", "v1")
    git(source, "branch", "release")
    git(source, "update-ref", "refs/remotes/origin/topic", "main")
    expected = {
        "v1": ("is a tag", "git branch NAME v1"),
        "relaese": ("no branch 'relaese'", "did you mean release?"),
        "topic": ("no branch topic of its own", "git branch topic origin/topic"),
        "origin/main": ("no branch 'origin/main'", "did you mean main?"),
        "refs/heads/main": ("no branch", "did you mean main?"),
        "zzz\x1b": (r"'zzz\\x1b'", "choose one of its branches: main, release"),
    }
    for branch, (problem, remedy) in expected.items():
        found = refusal(tmp_path, source, branch)
        assert (found[0], problem in found[1], remedy in found[2]) == ("branch", True, True), found
    with serve(tmp_path) as url:
        assert "did you mean release?" in refusal(tmp_path, f"{url}/source/.git", "relaese")[2]


def test_a_head_that_names_no_branch_never_makes_an_empty_start(tmp_path, source):
    git(tmp_path, "-c", "init.defaultBranch=master", "init", "-q", "--bare", "central.git")
    central = tmp_path / "central.git"
    git(central, "symbolic-ref", "HEAD", "refs/heads/master")
    git(source, "push", "-q", central, "main")
    for where in (central, f"file://{central}"):
        made = Made(tmp_path, where)
        assert made.files() == ["a.txt", "src/b.txt"]
        assert made.notes == [
            f"HEAD of {where} names master, which does not exist: the voyage starts from its only branch, main"
        ]
    with serve(tmp_path) as url:
        assert "names no branch that exists" in Made(tmp_path, f"{url}/central.git").notes[0]
        git(source, "push", "-q", central, "main:other")
        for where in (central, f"{url}/central.git"):
            field, problem, remedy = refusal(tmp_path, where)
            assert (field, "its branches are main, other" in problem, "--branch" in remedy) == ("branch", True, True)
            assert Made(tmp_path, where, "other").start.branch == "other"


def test_a_branch_that_was_deleted_or_not_born_is_told_from_a_new_repository(tmp_path, source):
    git(source, "switch", "-q", "--orphan", "fresh")
    assert Made(tmp_path, source).start.branch == "main"
    git(tmp_path, "init", "-q", "tags")
    git(source, "push", "-q", tmp_path / "tags", "main:refs/tags/v1")
    _, problem, remedy = refusal(tmp_path, tmp_path / "tags")
    assert ("no branch, only refs/tags/v1" in problem, "git branch" in remedy) == (True, True)


def test_a_repository_without_any_commit_is_a_new_one(tmp_path):
    git(tmp_path, "init", "-q", "empty")
    for where in (tmp_path / "empty", f"file://{tmp_path}/empty"):
        made = Made(tmp_path, where)
        assert (made.start.commit, made.files(), made.git.text("log", "--format=%s", made.root)) == (
            None,
            [],
            "Start of n",
        )
        assert made.notes == [f"{where} has no commit: the voyage makes the first one"]
    assert refusal(tmp_path, tmp_path / "empty", "main")[0] == "branch"


def test_a_detached_head_starts_from_its_commit(tmp_path, source):
    git(source, "checkout", "-q", "--detach", "main~1")
    made = Made(tmp_path, source)
    assert (made.start.branch, made.files()) == ("", ["a.txt", "src/b.txt", "x"])
    assert re.search(r"HEAD of .* is detached: the voyage starts from its commit [0-9a-f]{10}$", made.notes[0])
    alone = save(source, {"alone": "1"})
    assert Made(tmp_path, f"file://{source}").root == alone
    git(source, "checkout", "-q", "--detach", "main")
    assert Made(tmp_path, source).start.branch == "main"


@pytest.mark.parametrize(
    ("found", "start"),
    [
        (RefList({}, None, "main"), Start()),
        (RefList({"refs/heads/a": "1", "refs/heads/b": "2"}, "2", "b"), Start("b", "2")),
        (RefList({"refs/heads/a": "1"}, "1", None), Start("a", "1")),
    ],
)
def test_the_start_is_a_decision_on_data(found, start):
    chosen = choose_start(found, None, "x")
    assert (chosen.branch, chosen.commit) == (start.branch, start.commit)


def test_uncommitted_changes_are_a_warning(tmp_path, source):
    (source / "a.txt").write_text("changed")
    made = Made(tmp_path, source)
    assert made.notes == [f"{source} has uncommitted changes; the voyage starts from its last commit"]
    assert made.git.text("show", f"{made.root}:a.txt") == "one"


# -- what is no repository, or one that git does not read -----------------------------------------


def test_a_directory_inside_a_repository_names_that_repository(tmp_path, source):
    git(tmp_path, "clone", "-q", "--bare", source, "bare.git")
    for where, whole in ((source / "src", source), (tmp_path / "bare.git/refs", tmp_path / "bare.git")):
        assert refusal(tmp_path, where)[1:] == (
            f"{where} is a directory inside the repository {whole}",
            f"give {whole}",
        )


def test_what_is_no_repository_is_refused_as_such(tmp_path, source):
    (tmp_path / "plain").mkdir()
    assert "is not a git repository" in refusal(tmp_path, tmp_path / "plain")[1]
    assert "is not a git repository" in refusal(tmp_path, f"file://{tmp_path}/plain")[1]
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost/.git").write_text("gitdir: /nowhere/at/all\n")
    assert "names the directory /nowhere/at/all" in refusal(tmp_path, tmp_path / "lost")[1]
    with pytest.raises(UsageError, match="is a file, not a directory"):
        parse_source(str(source / "a.txt"), tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_repository_of_another_user_is_refused_with_the_command_that_trusts_it(tmp_path, source):
    for path in (source, *source.rglob("*")):
        os.chown(path, 1, 1)
    for where in (source, f"file://{source}"):
        _, problem, remedy = refusal(tmp_path, where)
        assert "belongs to another user" in problem
    subprocess.run(["sh", "-ec", remedy.partition(": ")[2]], check=True)
    assert Made(tmp_path, source).start.branch == "main"


def test_a_repository_in_a_format_that_git_does_not_know_is_refused(tmp_path, source):
    git(source, "config", "core.repositoryFormatVersion", "1")
    git(source, "config", "extensions.seaworthy", "true")
    assert "uses seaworthy, which this machine's git does not know" in refusal(tmp_path, source)[1]
    git(tmp_path, "config", "-f", source / ".git/config", "core.repositoryFormatVersion", "9")
    assert "format version 9" in refusal(tmp_path, f"file://{source}")[1]


def test_reftable_sails_where_git_knows_it_and_is_refused_by_name_elsewhere(tmp_path):
    where = tmp_path / "reftable"
    made = subprocess.run(
        ["git", "init", "-q", "-b", "main", "--ref-format=reftable", where], check=False, capture_output=True
    )
    if made.returncode == 0:
        save(where, {"a": "1"})
        assert Made(tmp_path, where).files() == ["a"]
        return
    make(where)
    git(where, "config", "core.repositoryFormatVersion", "1")
    git(where, "config", "extensions.refStorage", "reftable")
    _, problem, remedy = refusal(tmp_path, where)
    assert ("reftable needs git 2.45" in problem, "git refs migrate" in remedy) == (True, True)


def test_the_object_format_sha256_is_refused(tmp_path):
    git(tmp_path, "init", "-q", "--object-format=sha256", "empty")
    git(tmp_path, "init", "-q", "--object-format=sha256", "source")
    save(tmp_path / "source", {"a": "1"})
    with serve(tmp_path) as url:
        for where in (tmp_path / "source", tmp_path / "empty", f"file://{tmp_path}/source", f"{url}/source/.git"):
            assert "SHA-256" in refusal(tmp_path, where)[1]


# -- what is not whole ------------------------------------------------------------------------


def test_a_shallow_source_is_refused_wherever_it_is(tmp_path, source):
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{source}", "shallow")
    for where in (tmp_path / "shallow", f"file://{tmp_path}/shallow"):
        assert "shallow" in refusal(tmp_path, where)[1]
    with serve(tmp_path) as url, pytest.raises(SourceRefused, match=r"shallow clone.*--unshallow"):
        Made(tmp_path, f"{url}/shallow/.git")
    git(tmp_path / "shallow", "fetch", "-q", "--unshallow")
    assert Made(tmp_path, tmp_path / "shallow").start.branch == "main"


def test_a_partial_clone_is_refused_with_the_command_that_completes_it(tmp_path, source):
    git(source, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{source}", "partial")
    partial = tmp_path / "partial"
    for where in (partial, f"file://{partial}"):
        _, problem, remedy = refusal(tmp_path, where)
        assert ("a partial clone, which lacks 1 objects" in problem, f"file://{source}" in remedy) == (True, True)
    with serve(tmp_path) as url, pytest.raises(SourceRefused, match="lacks objects of its history"):
        Made(tmp_path, f"{url}/partial/.git")
    git(partial, *remedy.split("`")[1].split()[1:])
    assert Made(tmp_path, partial).git.text("cat-file", "blob", "HEAD~1:x") == "only here"


def test_a_ref_that_cannot_be_read_is_no_missing_branch(tmp_path, source):
    (source / ".git/refs/heads/main").write_text("")  # as a machine that lost power leaves it
    with serve(tmp_path) as url:
        for where in (source, f"{url}/source/.git"):
            assert refusal(tmp_path, where)[1] == f"{where} has refs that cannot be read: refs/heads/main"


@pytest.mark.parametrize("lost", ["main~1:x", "main~1^{tree}", "main~1", "main"])
def test_a_missing_object_is_found_before_anything_is_created(tmp_path, source, lost):
    path_of(source, lost).unlink()
    assert refusal(tmp_path, source)[0] == "repo"
    if lost != "main":  # else it is no branch any more, for whoever serves it
        with serve(tmp_path) as url, pytest.raises(SourceRefused, match="lacks objects of its history"):
            Made(tmp_path, f"{url}/source/.git")


def test_a_damaged_object_is_found_by_the_clone(tmp_path, source):
    shutil.copytree(source, tmp_path / "packed")
    path = path_of(source, "main~1:x")
    path.chmod(0o600)
    path.write_bytes(b"damage")
    with pytest.raises(SourceRefused, match="lacks objects of its history, or they are damaged"):
        Made(tmp_path, source)
    git(tmp_path / "packed", "repack", "-qad")
    (pack,) = (tmp_path / "packed/.git/objects/pack").glob("*.pack")
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0xFF
    pack.write_bytes(data)
    with pytest.raises(SourceRefused, match="damaged"):
        Made(tmp_path, tmp_path / "packed")


def test_borrowed_objects_are_copied_and_a_lost_lender_is_named(tmp_path, source):
    git(tmp_path, "clone", "-q", "--shared", source, "borrower")
    made = Made(tmp_path, tmp_path / "borrower")
    source.rename(tmp_path / "moved")
    fsck(made.git)
    _, problem, remedy = refusal(tmp_path, tmp_path / "borrower")
    assert (f"borrows objects from {source}/.git/objects" in problem, "alternates" in remedy) == (True, True)


def test_grafts_are_refused_and_replaced_objects_are_noted(tmp_path, source):
    shutil.copytree(source, tmp_path / "grafted")
    (tmp_path / "grafted/.git/info").mkdir(exist_ok=True)
    (tmp_path / "grafted/.git/info/grafts").write_text(git(source, "rev-parse", "main") + "\n")
    assert "git replace --convert-graft-file" in refusal(tmp_path, tmp_path / "grafted")[2]
    git(source, "replace", "main~1", "main~2")
    made = Made(tmp_path, source)
    assert ["the voyage takes the original ones" in note for note in made.notes] == [True]
    assert len(made.git.text("rev-list", made.root).splitlines()) == 3


# -- what ships do not get ------------------------------------------------------------------------


def test_submodules_are_entries_of_the_tree_and_no_words_in_a_file(tmp_path, source):
    save(source, {".gitmodules": "[submodule]\n"})
    assert Made(tmp_path, source).notes == []
    git(source, "update-index", "--add", "--cacheinfo", f"160000,{git(source, 'rev-parse', 'HEAD')},lib/sub")
    git(source, "rm", "-q", "--cached", ".gitmodules")
    git(source, "commit", "-qm", "gitlink")
    assert refusal(tmp_path, source)[1].endswith("has submodules, which ships do not get (lib/sub)")
    with serve(tmp_path) as url:
        with pytest.raises(SourceRefused, match="--allow-partial"):
            Made(tmp_path, f"{url}/source/.git")
        assert "lib/sub" not in Made(tmp_path, f"{url}/source/.git", allow_partial=True).files()


def test_lfs_is_what_git_says_of_paths(tmp_path, source):
    git(source, "config", "core.splitIndex", "true")
    save(source, {".gitattributes": "# filter=lfs\n*.psd filter=lfs\n", "art/.gitattributes": "*.png text\n"})
    assert Made(tmp_path, source).notes == [], "no path has the attribute"
    save(source, {".gitattributes": "[attr]big filter=lfs\n", "art/.gitattributes": "*.png big\n", "art/a.png": "v"})
    assert refusal(tmp_path, source)[1].endswith("has files in LFS, which ships do not get (art/a.png)")
    with serve(tmp_path) as url, pytest.raises(SourceRefused, match="files in LFS"):
        Made(tmp_path, f"{url}/source/.git")
    assert "art/a.png" in Made(tmp_path, source, allow_partial=True).files()
    (source / "art/.gitattributes").write_text("*.png filter=lfs\n*.png -filter\n")
    save(source, {"key": "secret", ".gitattributes": "key filter=git-crypt\n"})
    before = sorted(source.rglob("*"))
    assert ["the filter git-crypt" in note for note in Made(tmp_path, source).notes] == [True]
    assert sorted(source.rglob("*")) == before


# -- odd history ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["path", "file", "http"])
def test_odd_old_commits_of_ones_own_are_forgiven_wherever_they_come_in(tmp_path, source, scheme):
    for lines in ODD_COMMITS.values():
        write_commit(source, lines)
    blob = write_object(source, "blob", b"x" * 3000 + b" text\n")
    write_commit(
        source,
        "author A <a@b.invalid> 1 +0000\ncommitter A <a@b.invalid> 1 +0000\n",
        write_odd_tree(source, ("0100664 old-mode", blob), ("100644 .gitattributes", blob)),
    )
    with serve(tmp_path) as url:
        where = {"path": source, "file": f"file://{source}", "http": f"{url}/source/.git"}[scheme]
        made = Made(tmp_path, where)
    assert made.root == git(source, "rev-parse", "HEAD")
    fsck(made.git)
    write_proven_bundle(made.git, {f"refs/heads/{VOYAGE}": made.root}, tmp_path / "all.bundle")
    clone_workspace(made.git.directory, tmp_path / "building/workspace", VOYAGE)
    assert (tmp_path / "building/workspace/a.txt").exists()


@pytest.mark.parametrize("kind", ODD_COMMITS)
def test_a_start_that_libgit2_does_not_read_is_worked_on(tmp_path, source, kind):
    odd = write_commit(source, ODD_COMMITS[kind])
    bare = BareRepository(Made(tmp_path, source).git.directory)
    old = git(source, "rev-parse", "main~1")
    assert (bare.resolve(f"refs/heads/{VOYAGE}"), bare.resolve(odd)) == (odd, odd)
    assert bare.tree(odd) == git(source, "rev-parse", f"{odd}^{{tree}}")
    made = bare.commit(bare.tree(odd), odd, "x", author="ship-0", dated=False)
    assert (bare.is_ancestor(old, made), bare.is_ancestor(made, old), bare.merge_base(made, old)) == (True, False, old)
    assert bare.is_ancestor(odd, made)


# -- remotes that fail ----------------------------------------------------------------------------


def test_a_remote_that_asks_for_credentials_is_refused(tmp_path, source):
    with serve(tmp_path, "deny") as url, pytest.raises(UsageError, match="set GH_TOKEN if it is private"):
        Made(tmp_path, f"{url}/{source.name}/.git")


@pytest.mark.parametrize(("fault", "words"), [("die", "broke off"), ("stall", "came to a standstill")])
def test_a_remote_that_fails_in_mid_clone_leaves_nothing(tmp_path, source, monkeypatch, fault, words):
    if fault == "stall":
        monkeypatch.setattr(clone, "STALL_SECONDS", 1)
    git(source, "repack", "-qad")
    with serve(tmp_path, fault) as url, pytest.raises(OcaptainError, match=words) as failed:
        Made(tmp_path, f"{url}/source/.git")
    assert (failed.value.exit_code, list((tmp_path / "building").iterdir())) == (1, [])


def test_a_git_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path, source):
    alias = f"!sleep 600 & echo $! > {tmp_path}/pid; wait"
    git(source, "config", "alias.hang", alias)
    for seconds in (1, 10, 60):
        with pytest.raises(GitTimeout):
            Git(source).run("hang", seconds=seconds)
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():  # so that there was something to end
            break
    pid = int((tmp_path / "pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    wait_for(lambda: not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_clone_that_does_not_fit_fails_in_clear_words(tmp_path, source):
    (source / "big").write_bytes(os.urandom(400_000))
    save(source, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OcaptainError, match=r"the clone of .* broke off: .*; nothing was created") as failed:
            Made(tmp_path, source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (failed.value.exit_code, list((tmp_path / "building").iterdir())) == (1, [])
    full = clone.explain_failure(GitError("fatal: write error: No space left on device"), "x")
    assert (full.exit_code, "free some space" in full.message) == (1, True)


# -- where it is said ---------------------------------------------------------------------------------


def test_plan_check_refuses_as_sail_does(tmp_path, source, capsys):
    task = {"metadata": {"run": "true"}}
    plan = write_plan(tmp_path / "plan", [task], repo=str(source), branch="mian")
    assert check_plan(plan, as_json=False) == 2
    assert f"voyage.json: branch: {source} has no branch 'mian'; did you mean main?" in " ".join(
        capsys.readouterr().err.split()
    )
    plan = write_plan(tmp_path / "plan", [task], repo=str(source), branch="main")
    assert check_plan(plan, as_json=False) == 0
    plan = write_plan(tmp_path / "plan", [task], repo=str(source / "src"))
    assert check_plan(plan, as_json=True) == 2


def test_each_row_of_the_table_of_repositories_names_a_test():
    lines = (REPO / "docs/repositories.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("|") and line.endswith("` |")]
    tests = {row[3].strip().strip("`") for row in rows}
    known = {
        found
        for path in (REPO / "tests").rglob("test_*.py")
        for found in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(rows) > 20
    assert tests <= known, tests - known


# -- names ----------------------------------------------------------------------------------------


def test_what_a_repository_may_be(tmp_path):
    (tmp_path / "there").mkdir()
    assert parse_source(None, tmp_path) == Source("")
    assert parse_source("octocat/Hello-World", tmp_path) == Source("https://github.com/octocat/Hello-World.git")
    assert parse_source("there", tmp_path) == Source(str(tmp_path / "there"), local=True)
    assert parse_source("https://x.invalid/y.git", tmp_path) == Source("https://x.invalid/y.git")
    assert parse_source("git@x.invalid:y.git", tmp_path) == Source("git@x.invalid:y.git")


@pytest.mark.parametrize(
    "named", ["--upload-pack=evil", "nowhere", "./a/b", "https://me:secret@x.invalid/y", "a\nb", "ext::sh -c evil"]
)
def test_what_it_may_not_be(tmp_path, named):
    with pytest.raises(UsageError) as refused:
        parse_source(named, tmp_path)
    assert "secret" not in str(refused.value)


def test_a_branch_whose_name_is_no_utf8_is_started_from(tmp_path, source):
    name = b"refs/heads/caf\xe9"
    argv = ["git", "-C", os.fsencode(source), "update-ref", name, "HEAD~1"]
    subprocess.run(argv, check=True)
    subprocess.run(["git", "-C", os.fsencode(source), "symbolic-ref", "HEAD", name], check=True)
    wanted = git(source, "rev-parse", "main~1")
    with serve(tmp_path) as url:
        for where in (source, f"file://{source}", f"{url}/source/.git"):
            made = Made(tmp_path, where)
            assert (made.root, os.fsencode(made.start.branch)) == (wanted, b"caf\xe9")
    listed = pack_start_refs(made.git, made.root, json.loads(json.dumps(made.start.branch)))
    stored = subprocess.run(
        ["git", "-C", made.git.directory, "cat-file", "blob", listed.blob], capture_output=True, check=True
    ).stdout
    assert b"refs/heads/caf\xe9\n" in stored
    git(source, "update-ref", "-d", "refs/heads/main")
    git(source, "symbolic-ref", "HEAD", "refs/heads/none")
    for note in Made(tmp_path, source).notes:
        note.encode()


@pytest.mark.parametrize(("option", "value"), [("--repo", b"caf\xe9"), ("--branch", b"caf\xe9")])
def test_what_is_no_utf8_on_the_command_line_is_refused(tmp_path, source, option, value):
    plan = write_plan(tmp_path / "plan", [{"metadata": {"run": "true"}}], repo=str(source))
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    argv = [OCAPTAIN, "sail", str(plan), option, (os.fsencode(tmp_path) + b"/" if option == "--repo" else b"") + value]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, f"{option[2:]}: " in done.stderr, "UTF-8" in done.stderr) == (2, True, True), done.stderr
