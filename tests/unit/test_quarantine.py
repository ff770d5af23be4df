"""What ships bring, made byte by byte: nothing of what is refused is left, and none of it costs much."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ocaptain.git import (
    BadBundle,
    BareRepository,
    BundleRefused,
    Conflict,
    Git,
    GitError,
    TooLarge,
    admit_bundle,
    clear_quarantine,
    compare_trees,
    merge,
    quarantine,
)
from ocaptain.protocol import packs
from ocaptain.protocol.git import BUNDLE_PACK, bundle_revisions, make_bundle_header
from ocaptain.protocol.limits import Limits, is_dot_git, name_problem
from tests import sources
from tests.hostile import FILE, FOLDER, LINK, PACKS, Hold
from tests.unit.test_workspace import commit

HEAVY = 300 * 2**20


class Harbour:
    """A repository with a base, and what is in its directory."""

    def __init__(self, root):
        self.git = Git(root / "repo.git")
        if self.git.directory.exists():
            self.base = self.git.resolve("refs/heads/main")
            return
        subprocess.run(["git", "init", "-q", "--bare", root / "repo.git"], check=True)
        self.base = commit(self.git, {"a.txt": "1\n", "d/b.txt": "2\n"})
        self.git.update_ref("refs/heads/main", self.base)

    def hold(self, limits=None):
        listed = self.git.run("ls-tree", "-z", self.base).stdout.split(b"\0")
        entries = [(one[:6].lstrip(b"0"), one.partition(b"\t")[2], one.split()[2].decode()) for one in listed if one]
        return Hold(self.base, entries, limits)

    def admit(self, made, limits=None):
        oid, data = made
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(data)
            admit_bundle(self.git, file, oid, self.base, limits)
        return oid

    def admit_file(self, path, limits):
        with path.open("rb", buffering=0) as file:
            admit_bundle(self.git, file, path.suffix[1:], self.base, limits)

    def files(self):
        root = self.git.directory
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def harbour(tmp_path):
    return Harbour(tmp_path)


def test_what_is_sound_moves_in_as_one_pack(harbour):
    hold = harbour.hold()
    blob = hold.blob(b"new\n")
    script = hold.blob(b"#!/bin/sh\n")
    folder = hold.tree((b"100755", b"run", script), (LINK, b"link", hold.blob(b"../a.txt")))
    before = harbour.files()
    oid = harbour.admit(hold.land((FILE, b"new", blob), (FOLDER, b"bin", folder)))
    assert {Path(name).suffix for name in harbour.files() - before} <= {".pack", ".idx", ".rev"}
    assert harbour.git.text("show", f"{oid}:new") == "new"
    assert harbour.git.text("fsck", "--no-dangling", "--no-progress", "--strict", oid) == ""
    assert not list((harbour.git.directory / "incoming").iterdir())


LOW = Limits(total_mib=100)  # so that what is beyond it is made and unpacked in a moment


def make_all(root):
    """Write every hostile pack to a file: to make them takes more memory than to refuse them."""
    harbour = Harbour(root)
    for number, make in enumerate(PACKS.values()):
        oid, data = make(harbour.hold(LOW))
        (root / f"{number}.{oid}").write_bytes(data)


def refuse_all(root):
    """Offer every hostile pack; return those that were taken, and those of which something is left."""
    harbour = Harbour(root)
    taken, left = [], []
    for number, name in enumerate(PACKS):
        (path,) = root.glob(f"{number}.*")
        before = harbour.files()
        try:
            harbour.admit_file(path, LOW)
            taken.append(name)
        except BadBundle:
            pass
        if harbour.files() != before or any((harbour.git.directory / "incoming").iterdir()):
            left.append(name)
        path.unlink()
    # ru_maxrss of a process begins with that of the one that forked it: of our own memory the kernel's mark counts.
    own = int(re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]) // 1024
    peaks = [own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024]
    return {"taken": taken, "left": left, "fsck": harbour.git.text("fsck", "--no-progress"), "peaks": peaks}


def test_hostile_packs_leave_nothing_and_cost_no_memory(tmp_path):
    """In a process of its own, in which neither the captain's part nor git's can have more than 300 MiB."""
    assert len(PACKS) >= 40
    make = "import pathlib, sys; from tests.unit import test_quarantine as one; one.make_all(pathlib.Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", make, tmp_path], check=True)
    code = (
        "import json, pathlib, resource, sys; from tests.unit import test_quarantine as one\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({HEAVY}, {HEAVY}))\n"
        "print(json.dumps(one.refuse_all(pathlib.Path(sys.argv[1]))))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert (found["taken"], found["left"], found["fsck"]) == ([], [], "")
    assert max(found["peaks"]) < 300


def test_3_gb_of_15_kb_are_refused_before_git_sees_them(harbour, monkeypatch):
    """Not even unpacked: what a delta makes stands at its beginning."""
    monkeypatch.setattr(quarantine, "_index", None)  # would be called
    made = PACKS["3 GB out of 15 KB"](harbour.hold())
    assert len(made[1]) < 20_000
    with pytest.raises(BundleRefused, match="makes 3221225280 bytes"):
        harbour.admit(made)


def test_git_itself_is_bounded_for_what_no_look_sees(harbour, monkeypatch):
    """If the scan let all of it pass, git would end at its memory, and nothing would be left."""
    made = PACKS["3 GB out of 15 KB"](harbour.hold())
    before = harbour.files()
    monkeypatch.setattr(packs, "MAX_DELTA", 2**40)
    monkeypatch.setattr(
        quarantine, "scan_pack", lambda file, start, limits, small: packs.scan_pack(file, start, WIDE, small)
    )
    with pytest.raises(BundleRefused, match="exceeded its limits"):
        harbour.admit(made)
    assert harbour.files() == before


WIDE = Limits(file_mib=2**20, total_mib=2**20)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a name of 300 bytes", "names of more than 255 bytes (name): nnn"),
        ("101 levels", "paths of more than 100 names (depth): deep/d"),
        ("a path of 5,000 bytes", "paths of more than 4095 bytes (path): deep/ppp"),
        ("5,001 files", "more than 5000 new files (5001) (files): m"),
        ("one file of 40 MB at 20 paths", "more than 100 MB of new and changed files (total_mib): big0"),
        ("a file of 60 MB", "more than 50 MB (file_mib)"),
        ("a commit of 2 MB", "more than 1 MB; shorten the commit's message"),
        ("a submodule", "sub is a submodule"),
    ],
)
def test_a_refusal_names_the_limit_and_the_file(harbour, name, names):
    with pytest.raises(BundleRefused) as refused:
        harbour.admit(PACKS[name](harbour.hold(LOW)), LOW)
    assert names in refused.value.message


def test_limits_are_of_what_is_new(harbour):
    """What the base has may be as large and as deep as it is; limits can be set."""
    wide = Limits(depth=200, file_mib=100)
    for name in ("a file of 60 MB", "101 levels"):
        oid = harbour.admit(PACKS[name](harbour.hold()), wide)
        harbour.git.update_ref("refs/heads/main", oid)
        harbour.base = oid
        hold = harbour.hold()
        harbour.admit(hold.land((FILE, b"new", hold.blob(b"x"))))
    moved = harbour.hold()
    deep = next(entry for entry in moved.entries if entry[1] == b"deep")
    moved.entries.remove(deep)
    with pytest.raises(BundleRefused, match="depth"):
        harbour.admit(moved.land((FOLDER, b"elsewhere", deep[2])))


def test_a_rescue_may_be_large_but_nothing_that_cannot_be_read(harbour):
    harbour.admit(PACKS["a file of 60 MB"](harbour.hold()), Limits().for_rescue())
    for name in ("3 GB out of 15 KB", "3,000 levels", "claims 3 GB", ".git"):
        with pytest.raises(BadBundle):
            harbour.admit(PACKS[name](harbour.hold()), Limits().for_rescue())


def die_while_looking(directory, base):
    harbour = Harbour.__new__(Harbour)
    harbour.git, harbour.base = Git(directory), base
    quarantine._Inspector = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    hold = harbour.hold()
    harbour.admit(hold.land((FILE, b"new", hold.blob(b"x"))))


def test_what_a_killed_captain_had_under_way_goes_with_the_next_start(harbour):
    before = harbour.files()
    code = (
        "import pathlib, sys; from tests.unit import test_quarantine as one\n"
        "one.die_while_looking(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )
    argv = [sys.executable, "-c", code, str(harbour.git.directory), harbour.base]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    assert len(harbour.files() - before) >= 2, "its pack was unpacked, apart"
    assert b"in-pack: 0" in harbour.git.run("count-objects", "-v").stdout
    clear_quarantine(harbour.git)
    assert harbour.files() == before


def test_a_full_disk_is_nobody_s_fault_but_ours(harbour, monkeypatch):
    def full(*_, **__):
        raise GitError("git index-pack: fatal: write error: No space left on device")

    made = PACKS["a name of 300 bytes"](harbour.hold())
    monkeypatch.setattr(Git, "run", full)
    with pytest.raises(GitError) as failed:
        harbour.admit(made)
    assert not isinstance(failed.value, BadBundle)


def test_large_offers_wait_where_no_small_one_does(harbour):
    hold = harbour.hold()
    oid, data = hold.land((FILE, b"new", hold.zeros(20 * 2**20)))
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        with pytest.raises(TooLarge):
            admit_bundle(harbour.git, file, oid, harbour.base, small=16 * 2**20)
        assert harbour.git.resolve(oid) is None
        admit_bundle(harbour.git, file, oid, harbour.base)
    assert harbour.git.resolve(oid) == oid


# -- trees ----------------------------------------------------------------------------------------------


def test_names_that_other_systems_take_for_one_are_named(harbour):
    hold = harbour.hold()
    blob = hold.blob(b"x")
    nfc, nfd = "\u00e9".encode(), "e\u0301".encode()
    folder = hold.tree((FILE, nfc, blob), (FILE, nfd, blob))
    oid = harbour.admit(hold.land((FILE, b"A.TXT", blob), (FOLDER, b"n", folder)))
    store = BareRepository(harbour.git.directory)
    found = compare_trees(store, store.tree(oid), store.tree(harbour.base), Limits())
    assert sorted(found.collisions) == [(b"A.TXT", b"a.txt"), (b"n/" + nfc, b"n/" + nfd)]
    assert compare_trees(store, store.tree(oid), store.tree(oid), Limits()).collisions == []


@pytest.mark.parametrize(
    "name", [b".git", b".GiT", ".g\u200cit".encode(), b"git~1", b"GIT~1. .", b".git:x", b"a\\.git", b".git\xff"]
)
def test_names_that_some_system_takes_for_git_s(name):
    assert name_problem(name, Limits())
    assert is_dot_git(name)


@pytest.mark.parametrize("name", [b".gitx", b"git", b".gitmodules", b"git~2", b"\xff", b".git_", b"agit~1"])
def test_names_that_only_look_like_git_s(name):
    assert name_problem(name, Limits()) == ""


def test_a_merge_that_needs_too_much_is_a_conflict(harbour, monkeypatch):
    """Millions of short lines that two attempts changed: git would need gigabytes."""
    lines = b"".join(b"%d\n" % (number % 7) for number in range(6_000_000))
    sides = []
    for data in (lines, b"one\n" + lines, lines + b"other\n"):
        oid = harbour.git.text("hash-object", "-w", "--stdin", stdin=data)
        tree = harbour.git.text("mktree", stdin=f"100644 blob {oid}\tlines\n".encode())
        parents = ["-p", sides[0]] if sides else []
        sides.append(harbour.git.text("commit-tree", tree, "-m", "x", *parents))
    found = merge(harbour.git, *sides[1:])
    assert isinstance(found, Conflict)
    assert "the merge needs more than" in found.note


def offer_of(repo, made, base, *objects):
    """Return what a ship sends of a commit, with further objects."""
    revisions = bundle_revisions(made, base, objects)
    return make_bundle_header(made, "refs/x", base) + Git(repo).run(*BUNDLE_PACK, stdin=revisions).stdout


def test_what_the_repository_has_already_may_be_odd_and_nothing_else(tmp_path):
    source = sources.make(tmp_path / "source (its name, too)")
    modules = sources.write_object(source, "blob", b'[submodule "x"]\n\tpath = x\n\turl = -u\n')
    lines = sources.write_object(source, "blob", b"*.x " + b"a" * 3000 + b"\n")
    entries = [("100644 .gitmodules", modules), ("100644 .gitattributes", lines)]
    odd_tree = sources.write_odd_tree(source, *entries)
    base = sources.write_commit(source, sources.ODD_COMMITS["badTimezone"], odd_tree)
    sources.git(tmp_path, "clone", "-q", "--bare", "--no-local", source, "repo.git")
    ours = Git(tmp_path / "repo.git")

    def admit(made, *objects):
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(offer_of(source, made, base, *objects))
            admit_bundle(ours, file, made, base)
        assert ours.resolve(made) == made

    sources.git(source, "read-tree", base)
    new = sources.git(source, "hash-object", "-w", "--stdin", stdin=b"new")
    sources.git(source, "update-index", "--add", "--cacheinfo", f"100644,{new},new.txt")
    made = sources.git(source, "commit-tree", sources.git(source, "write-tree"), "-p", base, "-m", "new")
    admit(made)  # beside files of the user's that git's strict check dislikes
    admit(sources.git(source, "commit-tree", made + "^{tree}", "-p", base, "-m", "x"), odd_tree)  # sent once more
    before = {path for path in ours.directory.rglob("*") if path.is_file()}
    other = sources.write_object(source, "blob", b'[submodule "y"]\n\tpath = y\n\turl = -u\n')
    sources.git(source, "update-index", "--add", "--cacheinfo", f"100644,{other},.gitmodules")
    its = sources.git(source, "commit-tree", sources.git(source, "write-tree"), "-p", base, "-m", "x")
    odd_commit = sources.write_commit(source, sources.ODD_COMMITS["zeroPaddedDate"], made + "^{tree}")
    new_tree = sources.write_odd_tree(source, ("100644 zzz", new), *entries)
    with_tree = sources.git(source, "commit-tree", new_tree, "-p", base, "-m", "x")
    for refused in (its, odd_commit, with_tree):
        with pytest.raises(BundleRefused, match="fsck error"):
            admit(refused)
    assert {path for path in ours.directory.rglob("*") if path.is_file()} == before
