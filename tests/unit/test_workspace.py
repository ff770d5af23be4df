"""The ship's trees, by real git: whatever an agent leaves behind is offered or refused, and goes away."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ocaptain.git import Git, admit_bundle, write_bundle
from ocaptain.git.bundles import BadBundle
from ocaptain.protocol.limits import MEBIBYTE, Limits
from ocaptain.protocol.messages import Bundle, Part
from ocaptain.worker.errors import UnfitWorkspace, WorkspaceError
from ocaptain.worker.places import Places
from ocaptain.worker.workspace import Workspace


def commit(git, files, parent=None):
    """Make a commit with ``files`` in a bare repository."""
    entries = []
    for path, content in sorted(files.items()):
        oid = git.text("hash-object", "-w", "--stdin", stdin=content.encode())
        entries.append(f"100644 {oid}\t{path}\n")
    index = {"GIT_INDEX_FILE": str(git.directory / "scratch-index")}
    git.run("read-tree", "--empty", extra=index)
    git.run("update-index", "--index-info", stdin="".join(entries).encode(), extra=index)
    tree = git.run("write-tree", extra=index).stdout.decode().strip()
    return git.text("commit-tree", tree, "-m", "c", *(["-p", parent] if parent else []))


def import_bytes(git, data, commit, base=None, limits=None):
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(data)
        admit_bundle(git, file, commit, base, limits)


class Ship:
    """A captain's repository and a ship's workspace, joined by bundles."""

    def __init__(self, root: Path) -> None:
        (root / "home").mkdir()
        subprocess.run(["git", "init", "-q", "--bare", root / "repo.git"], check=True)
        self.git = Git(root / "repo.git")
        self.places = Places(root / "home")
        self.work = Workspace(self.places, "ship-0")
        self.root = self.places.workspace
        self.base = commit(self.git, {"a.txt": "one\n", "dir/b.txt": "two\n", ".gitignore": "*.log\n"})
        self.give(self.base)
        self.work.reset(self.base, "voyage")

    def give(self, oid, have=None):
        whole = self.git.directory.parent / "bundle"
        parts = []
        self.places.make()
        for number, part in enumerate(write_bundle(self.git, oid, "refs/ocaptain/send", have, whole)):
            path = self.places.inbox / f"x.{number}"
            path.write_bytes(whole.read_bytes()[part.offset :][: part.size])
            parts.append(Part(f".ocaptain/in/x.{number}", part.size, part.sha256))
        self.work.import_commit(Bundle(tuple(parts), "refs/ocaptain/send"), oid)

    def offer(self, **more):
        """Snapshot and import; return (snapshot, {path: content} of the tree)."""
        found = self.work.snapshot(self.base, "attempt-1", **more)
        data = b"".join((self.places.home / part.path).read_bytes() for part in found.bundle.parts)
        import_bytes(self.git, data, found.commit)
        names = self.git.run("ls-tree", "-r", "-z", "--name-only", found.commit).stdout.split(b"\0")
        tree = {
            os.fsdecode(name): self.git.run("show", f"{found.commit}:{os.fsdecode(name)}").stdout
            for name in names
            if name
        }
        return found, tree

    def own(self, *arguments):
        """Run git as the agent does."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True, timeout=240
        )
        return done.stdout.strip()


@pytest.fixture
def ship(tmp_path):
    return Ship(tmp_path)


def files_of(root):
    found = {}
    for path in sorted(root.rglob("*")):
        if ".git" not in path.relative_to(root).parts and (path.is_file() or path.is_symlink()):
            found[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else path.read_text()
    return found


BASE = {".gitignore": "*.log\n", "a.txt": "one\n", "dir/b.txt": "two\n"}


def test_the_clone_is_a_real_one(ship):
    assert files_of(ship.root) == BASE
    assert ship.own("status", "--porcelain") == ""
    assert ship.own("branch", "--show-current") == "voyage"
    assert ship.own("rev-parse", "HEAD") == ship.base


def test_edits_are_offered_and_nothing_is_empty(ship):
    (ship.root / "a.txt").write_text("changed\n")
    (ship.root / "dir/b.txt").unlink()
    (ship.root / "new file ü\n.txt").write_text("new")
    (ship.root / "-rf").write_text("dash")
    (ship.root / "noise.log").write_text("ignored")
    (ship.root / "node_modules").mkdir()
    (ship.root / "node_modules/x.js").write_text("ignored")
    found, tree = ship.offer()
    assert set(tree) == {".gitignore", "a.txt", "new file ü\n.txt", "-rf"}
    assert tree["a.txt"] == b"changed\n"
    assert not found.empty


def test_nothing_done_is_empty(ship):
    found = ship.work.snapshot(ship.base, "out")
    assert (found.empty, found.commit, found.bundle.parts) == (True, ship.base, ())


def test_what_the_agent_committed_comes_along(ship):
    (ship.root / "a.txt").write_text("mine\n")
    ship.own("commit", "-qam", "A subject\n\nA body")
    found, tree = ship.offer()
    assert tree["a.txt"] == b"mine\n"
    assert "A body" in found.message
    assert len(ship.git.text("log", "-1", "--format=%P", found.commit).split()) == 2


@pytest.mark.parametrize(
    "vandal",
    [
        "rm -rf .git",
        "rm -rf .git; echo nonsense > .git",
        "rm -rf .git; ln -s /nowhere .git",
        "git checkout -q --orphan other; git rm -rqf . ; printf 'one\\n' > a.txt; git add a.txt; git commit -qm x",
        "git update-ref -d HEAD",
        "echo 'ref: refs/heads/../../x' > .git/HEAD",
        "printf '[core]\\n\\tworktree = /tmp\\n\\tfsmonitor = \"touch /tmp/ocaptain-owned\"\\n' > .git/config",
        "printf '#!/bin/sh\\ntouch /tmp/ocaptain-owned\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit",
        "printf '* filter=evil\\n' > .gitattributes; git config filter.evil.clean 'touch /tmp/ocaptain-owned'",
        "chmod -R a-w dir",
        "rm -rf dir; ln -s /etc dir",
        "touch .git/index.lock",
    ],
)
def test_whatever_an_agent_does_to_git_its_files_count_and_the_next_one_starts_clean(ship, vandal):
    Path("/tmp/ocaptain-owned").unlink(missing_ok=True)
    subprocess.run(["bash", "-c", vandal], cwd=ship.root, check=False, capture_output=True, timeout=240)
    (ship.root / "work.txt").write_text("work\n")
    found, tree = ship.offer()
    assert tree["work.txt"] == b"work\n"
    assert found.base == ship.base
    ship.work.reset(ship.base, "voyage")
    assert files_of(ship.root) == BASE
    assert ship.own("status", "--porcelain") == ""
    assert not Path("/tmp/ocaptain-owned").exists()


def test_a_link_out_of_the_tree_is_a_link_and_nothing_more(ship):
    (ship.root / "link").symlink_to("/etc/passwd")
    found, _ = ship.offer()
    listed = ship.git.text("ls-tree", found.commit, "link")
    assert listed.startswith("120000 ")


def test_nested_repositories_are_refused_by_name(ship):
    (ship.root / "vendor/lib").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", ship.root / "vendor/lib"], check=True)
    (ship.root / "vendor/lib/x").write_text("x")
    with pytest.raises(UnfitWorkspace) as refused:
        ship.work.snapshot(ship.base, "x")
    assert refused.value.paths == ["vendor/lib"]
    found, tree = ship.offer(lenient=True)
    assert found.left_out == ()
    assert tree["vendor/lib/x"] == b"x"
    ship.work.reset(ship.base, "voyage")
    assert files_of(ship.root) == BASE


TIGHT = Limits(files=3, file_mib=1, total_mib=2, depth=3)


def test_too_much_is_refused_by_name_and_rescued_all_the_same(ship):
    (ship.root / "big.bin").write_bytes(b"x" * (MEBIBYTE + 1))
    (ship.root / "small.txt").write_text("s")
    with pytest.raises(UnfitWorkspace, match=r"files of more than 1 MB \(file_mib\)") as refused:
        ship.work.snapshot(ship.base, "x", limits=TIGHT)
    assert refused.value.paths[0] == "big.bin"
    found, tree = ship.offer(lenient=True)
    assert found.left_out == ()
    assert {"small.txt", "big.bin"} <= set(tree)


def test_too_many_files_are_refused(ship):
    for number in range(5):
        (ship.root / f"{number}.txt").write_text("x")
    with pytest.raises(UnfitWorkspace, match="new files"):
        ship.work.snapshot(ship.base, "x", limits=TIGHT)


def _deep(ship):
    (ship.root / "a/b/c").mkdir(parents=True)
    (ship.root / "a/b/c/d.txt").write_text("x")


def _hidden_git(ship):
    folder = ship.root / ".g\u200cit"
    folder.mkdir()
    (folder / "config").write_text("x")


def _much(ship):
    for number in range(3):
        (ship.root / f"{number}.bin").write_bytes(os.urandom(MEBIBYTE))


def _large(ship):
    (ship.root / "large.bin").write_bytes(b"x" * (MEBIBYTE + 1))


def _submodule_url(ship):
    (ship.root / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = --upload-pack=touch owned\n')


def _link_for_modules(ship):
    (ship.root / ".gitmodules").symlink_to("a.txt")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_deep, "paths of more than 3 names"),
        (_hidden_git, "some system takes for .git"),
        (_much, "more than 2 MB of new and changed files"),
        (_submodule_url, "gitmodulesUrl"),
        (_link_for_modules, "cannot read"),
    ],
)
def test_the_worker_hands_back_what_the_captain_would_refuse(ship, make, reason):
    make(ship)
    with pytest.raises(UnfitWorkspace, match=reason) as refused:
        ship.work.snapshot(ship.base, "x", limits=TIGHT)
    assert refused.value.paths
    assert not (ship.places.own / "proving").exists()


def test_a_large_file_that_only_was_touched_is_no_new_one(ship):
    (ship.root / "big.bin").write_bytes(b"x" * (MEBIBYTE + 1))
    found, _ = ship.offer()
    ship.work.reset(found.commit, "voyage")
    os.utime(ship.root / "big.bin", (1, 1))
    (ship.root / "new").write_text("x")
    assert not ship.work.snapshot(found.commit, "x", limits=TIGHT).empty


def test_a_history_that_the_captain_would_refuse_stays_behind(ship):
    """The agent committed what it removed again: its files count, and nobody is to blame."""
    for make in (_deep, _large):
        make(ship)
        ship.own("add", "-A")
        ship.own("commit", "-qm", "too much")
        ship.own("rm", "-rqf", "--cached", ".")
        for path in ("a/b/c/d.txt", "large.bin"):
            (ship.root / path).unlink(missing_ok=True)
        (ship.root / "f").write_text(make.__name__)
        ship.own("add", "-A")
        ship.own("commit", "-qm", "better")
        found = ship.work.snapshot(ship.base, "x", limits=TIGHT)
        data = b"".join((ship.places.home / part.path).read_bytes() for part in found.bundle.parts)
        import_bytes(ship.git, data, found.commit, ship.base, TIGHT)
        assert ship.git.text("rev-parse", f"{found.commit}^@") == ship.base
        ship.work.reset(ship.base, "voyage")


def test_folders_of_any_depth_stop_no_worker(ship):
    """1,200 levels below an ignored folder, and one whose path is longer than the kernel takes."""
    script = """
import os
for start, name, levels in (("ignored.log", "d", 1200), ("node_modules", "n" * 200, 60), ("open", "o" * 200, 60)):
    os.chdir({root!r})
    os.mkdir(start); os.chdir(start)
    for _ in range(levels):
        os.mkdir(name); os.chdir(name)
    open("f", "w").close()
"""
    subprocess.run([sys.executable, "-c", script.format(root=str(ship.root))], check=True)
    with pytest.raises(UnfitWorkspace, match="cannot read"):
        ship.work.snapshot(ship.base, "x")
    ship.work.reset(ship.base, "voyage")
    assert not (ship.root / "open").exists()
    assert (ship.root / "node_modules").exists(), "what is ignored stays"
    assert ship.work.snapshot(ship.base, "x").empty
    ship.work.reset_to_fresh_clone(ship.base, "voyage")
    assert files_of(ship.root) == BASE


def test_a_name_that_is_no_text_can_be_told(ship, monkeypatch):
    os.mkdir(os.fsencode(ship.root) + b"/caf\xe9")
    subprocess.run(["git", "init", "-q", os.fsencode(ship.root) + b"/caf\xe9"], check=True)
    with pytest.raises(UnfitWorkspace) as refused:
        ship.work.snapshot(ship.base, "x")
    assert refused.value.paths == ["caf\ufffd"]
    with open(os.fsencode(ship.root) + b"/\xff.bin", "wb") as file:
        file.write(b"x" * (MEBIBYTE + 1))
    with pytest.raises(UnfitWorkspace, match="files of more than") as refused:
        ship.work.snapshot(ship.base, "x", limits=TIGHT)
    assert "\ufffd.bin" in refused.value.paths
    # As work it is welcome: the tree holds bytes.
    found, tree = ship.offer(lenient=True)
    assert (found.left_out, tree["\udcff.bin"]) == ((), b"x" * (MEBIBYTE + 1))
    monkeypatch.setattr(ship.work, "_stage", lambda *_: ["\udcff.bin"])
    assert ship.work.snapshot(ship.base, "x", lenient=True).left_out == ("\ufffd.bin",)


def test_reset_replaces_what_stands_in_the_way(ship):
    (ship.root / "a.txt").unlink()
    (ship.root / "a.txt").mkdir()
    (ship.root / "a.txt/in.log").write_text("an ignored file in a directory where a file belongs")
    (ship.root / "dir/b.txt").unlink()
    (ship.root / "dir").rmdir()
    (ship.root / "dir").write_text("a file where a directory belongs")
    (ship.root / "keep.log").write_text("ignored ones stay")
    (ship.root / "stray.txt").write_text("untracked ones go")
    ship.work.reset(ship.base, "voyage")
    assert files_of(ship.root) == {**BASE, "keep.log": "ignored ones stay"}


def test_reset_moves_forward_and_leaves_unchanged_files_alone(ship):
    before = (ship.root / "dir/b.txt").stat().st_mtime_ns
    head = commit(ship.git, {"a.txt": "newer\n", "dir/b.txt": "two\n", "c.txt": "c\n"}, ship.base)
    ship.give(head, ship.base)
    ship.work.reset(head, "voyage")
    assert files_of(ship.root) == {"a.txt": "newer\n", "c.txt": "c\n", "dir/b.txt": "two\n"}
    assert (ship.root / "dir/b.txt").stat().st_mtime_ns == before


def test_a_clone_keeps_nothing(ship):
    (ship.root / "keep.log").write_text("x")
    ship.work.reset_to_fresh_clone(ship.base, "voyage")
    assert files_of(ship.root) == BASE


def test_a_bundle_that_does_not_fit_is_asked_for_in_full(ship):
    head = commit(ship.git, {"a.txt": "2\n"}, ship.base)
    later = commit(ship.git, {"a.txt": "3\n"}, head)
    with pytest.raises(WorkspaceError) as refused:
        ship.give(later, head)
    assert refused.value.code == "need_full"
    ship.give(later)
    ship.work.reset(later, "voyage")
    assert (ship.root / "a.txt").read_text() == "3\n"
    with pytest.raises(WorkspaceError) as refused:
        ship.work.import_commit(None, "0" * 40)
    assert refused.value.code == "need_full"


def test_a_damaged_part_is_refused(ship):
    part = Part(".ocaptain/in/y.0", 4, "0" * 64)
    (ship.places.inbox / "y.0").write_bytes(b"evil")
    with pytest.raises(WorkspaceError) as refused:
        ship.work.import_commit(Bundle((part,), "r"), "1" * 40)
    assert refused.value.code == "damaged"


def test_the_captain_refuses_what_is_no_sound_bundle(ship):
    (ship.root / "new.txt").write_text("new\n")
    found, _ = ship.offer()
    data = b"".join((ship.places.home / part.path).read_bytes() for part in found.bundle.parts)
    for broken in (b"", b"PACK", data[:-30], data.replace(b"# v2", b"# v9")):
        with pytest.raises(BadBundle):
            import_bytes(ship.git, broken, found.commit)
    with pytest.raises(BadBundle):
        import_bytes(ship.git, data, "1" * 40)


def test_a_tree_that_no_checkout_should_see_is_refused(tmp_path, ship):
    evil = Git(tmp_path / "evil.git")
    subprocess.run(["git", "init", "-q", "--bare", evil.directory], check=True)
    blob = evil.text("hash-object", "-w", "--stdin", stdin=b"[core]\n\tfsmonitor = evil\n")
    inner = evil.text("mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    raw = b"40000 .git\0" + bytes.fromhex(inner)
    tree = evil.text("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
    oid = evil.text("commit-tree", tree, "-m", "x")
    evil.update_ref("refs/heads/x", oid)
    write_bundle(evil, oid, "refs/heads/x", None, tmp_path / "bundle")
    with pytest.raises(BadBundle, match="refused"):
        import_bytes(ship.git, (tmp_path / "bundle").read_bytes(), oid)


def test_a_tracked_folder_that_became_a_link_is_a_change_and_is_put_right(ship):
    base = commit(ship.git, {".gitignore": "build\n", "build/a": "1\n"}, ship.base)
    ship.give(base, ship.base)
    ship.work.reset(base, "voyage")
    (ship.root / "build").rename(ship.places.voyage / "out")
    (ship.root / "build").symlink_to(ship.places.voyage / "out")
    assert not ship.work.snapshot(base, "out").empty
    ship.work.reset(base, "voyage")
    assert not (ship.root / "build").is_symlink()
    assert (ship.root / "build" / "a").read_text() == "1\n"


def test_what_an_agent_hid_from_git_hides_nothing_of_the_next_one(ship):
    (ship.root / "dir" / ".gitignore").write_text("*\n")
    subprocess.run(["git", "init", "-q", ship.root / "dir"], check=True)
    ship.work.reset(ship.base, "voyage")
    assert sorted(path.name for path in (ship.root / "dir").iterdir()) == ["b.txt"]
    (ship.root / "dir" / "new.txt").write_text("new\n")
    found, tree = ship.offer()
    assert not found.empty
    assert tree["dir/new.txt"] == b"new\n"


@pytest.mark.parametrize("what", ["pipe", "device"])
def test_a_head_without_an_end_holds_nobody_up(ship, what):
    head = ship.root / ".git" / "HEAD"
    head.unlink()
    if what == "pipe":
        os.mkfifo(head)
    else:
        head.symlink_to("/dev/zero")
    (ship.root / "new.txt").write_text("new\n")
    assert not ship.work.snapshot(ship.base, "out").empty


def test_a_full_disk_is_no_reason_to_send_everything(ship, monkeypatch):
    real = Workspace._git

    def full(self, *arguments, **more):
        if arguments[0] == "read-tree":
            raise WorkspaceError("git", "No space left on device")
        return real(self, *arguments, **more)

    monkeypatch.setattr(Workspace, "_git", full)
    with pytest.raises(WorkspaceError) as refused:
        ship.work.reset(ship.base, "voyage")
    assert refused.value.code == "git"


def test_a_submodule_that_became_a_file_stays_what_it_was(ship):
    link = ship.git.text("mktree", stdin=f"160000 commit {ship.base}\tsub\n".encode())
    base = ship.git.text("commit-tree", link, "-p", ship.base, "-m", "sub")
    ship.give(base, ship.base)
    ship.work.reset(base, "voyage")
    (ship.root / "sub").rmdir()
    (ship.root / "sub").write_text("a file\n")
    assert ship.work.snapshot(base, "out").empty


def test_odd_files_of_the_base_are_forgiven_and_no_others(ship):
    odd = '[submodule "x"]\n\tpath = x\n\turl = -u\n'
    ship.base = commit(ship.git, {"a.txt": "one\n", ".gitmodules": odd}, ship.base)
    ship.give(ship.base)
    ship.work.reset(ship.base, "voyage")
    (ship.root / ".gitattributes").write_text("*.txt text\n")  # a file that git reads: it looks strictly
    found, tree = ship.offer()
    assert (found.empty, sorted(tree)) == (False, [".gitattributes", ".gitmodules", "a.txt"])
    (ship.root / ".gitmodules").write_text(odd.replace("x", "y"))
    with pytest.raises(UnfitWorkspace, match="gitmodulesUrl"):
        ship.work.snapshot(ship.base, "attempt-2")
