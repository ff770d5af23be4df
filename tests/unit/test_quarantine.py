"""What ships bring, made byte by byte: nothing of what is refused is left, and none of it costs much."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ocaptain.git import BadBundle, Git, admit
from tests.hostile import FILE, FOLDER, LINK, PACKS, Hold
from tests.unit.test_workspace import commit

HEAVY = 300 * 2**20


class Harbour:
    """A repository with a base, and what is in its directory."""

    def __init__(self, root):
        subprocess.run(["git", "init", "-q", "--bare", root / "repo.git"], check=True)
        self.git = Git(root / "repo.git")
        self.base = commit(self.git, {"a.txt": "1\n", "d/b.txt": "2\n"})
        self.git.update_ref("refs/heads/main", self.base)

    def hold(self):
        listed = self.git.run("ls-tree", "-z", self.base).stdout.split(b"\0")
        entries = [(one[:6].lstrip(b"0"), one.partition(b"\t")[2], one.split()[2].decode()) for one in listed if one]
        return Hold(self.base, entries)

    def admit(self, made, limits=None):
        oid, data = made
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(data)
            admit(self.git, file, oid, self.base, limits)
        return oid

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


def refuse_all(root):
    """Offer every hostile pack; return those that were taken, and what is left of the others."""
    harbour = Harbour(root)
    taken, left, peaks = [], [], {}
    for name, make in PACKS.items():
        before = harbour.files()
        made = make(harbour.hold())
        try:
            harbour.admit(made)
            taken.append(name)
        except BadBundle:
            pass
        if harbour.files() != before or any((harbour.git.directory / "incoming").iterdir()):
            left.append(name)
        peaks[name] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    found = harbour.git.text("fsck", "--no-progress")
    return {"taken": taken, "left": left, "fsck": found, "children": peaks}


def test_40_hostile_packs_leave_nothing_and_cost_no_memory():
    """In a process of its own, in which neither captain nor git can have more than 300 MiB."""
    assert len(PACKS) >= 40
    with tempfile.TemporaryDirectory() as root:
        code = (
            "import json, pathlib, resource, sys; from tests.unit import test_quarantine as one\n"
            f"resource.setrlimit(resource.RLIMIT_DATA, ({HEAVY}, {HEAVY}))\n"
            "print(json.dumps(one.refuse_all(pathlib.Path(sys.argv[1]))))"
        )
        # What makes packs of 500 MB needs memory itself; what reads them is bounded.
        done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["taken"] == []
    assert found["left"] == []
    assert found["fsck"] == ""
    assert max(found["children"].values()) < 230, found["children"]
