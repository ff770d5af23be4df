"""Whatever an agent does with git, what it committed or stashed is saved, by real git, as the captain takes it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ocaptain.captain.decide.outcome import ELSEWHERE, decide_work_elsewhere
from ocaptain.protocol.codec import from_dict, to_dict
from ocaptain.protocol.limits import MAX_OTHER_TIPS, Limits
from ocaptain.protocol.messages import Bundle, OtherTip, OtherWork, Outcome, Snapshot
from ocaptain.worker import salvage
from ocaptain.worker.errors import UnfitWorkspace
from tests.unit.test_workspace import Ship, import_bytes

ME = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def make_ship(tmp_path, monkeypatch):
    """Return a ship whose agent has a folder outside of the workspace, and no settings of a user's."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    found = Ship(tmp_path)
    found.outside = tmp_path / "outside"
    found.outside.mkdir()
    return found


@pytest.fixture
def ship(tmp_path, monkeypatch):
    return make_ship(tmp_path, monkeypatch)


def do(ship, script):
    """Run a script as the agent; ``$out`` is a folder outside of the workspace."""
    subprocess.run(
        ["bash", "-euc", f'new() {{ echo "$1" > "$1"; git add -A; git commit -qm "$1"; }}\n{script}'],
        cwd=ship.root,
        check=True,
        capture_output=True,
        timeout=240,
        env={**os.environ, **ME, "out": str(ship.outside), "HOME": str(ship.outside)},
    )


class Saved:
    """What the captain has of an attempt after its end."""

    def __init__(self, ship):
        self.git = ship.git
        known, self.empty, self.unfit = None, None, None
        try:
            snapshot = ship.work.snapshot(ship.base, "attempt-1")
            self.files = self._take(ship, snapshot) if snapshot.bundle.parts else {}
            known, self.empty = snapshot.commit, snapshot.empty
        except UnfitWorkspace as error:
            self.unfit = error
        work = ship.work.find_other_work(ship.base, "attempt-1-other", known, with_files=self.unfit is not None)
        self.work = from_dict(OtherWork, to_dict(work)) if work else OtherWork(ship.base, ship.base)
        self.left_out = self.work.left_out
        if self.work.tips:
            self._take(ship, self.work, Limits.for_other_work())
            parents = ship.git.text("rev-parse", f"{self.work.commit}^@").split()
            assert {tip.commit for tip in self.work.tips} == set(parents)
        ship.git.run("fsck", "--connectivity-only", self.work.commit)
        self.tips = {tip.name: tip for tip in self.work.tips}

    def _take(self, ship, offer, limits=None):
        """Admit a bundle as the captain does; return its files."""
        data = b"".join((ship.places.home / part.path).read_bytes() for part in offer.bundle.parts)
        import_bytes(ship.git, data, offer.commit, ship.base, limits)
        return {path: ship.git.content(oid, 1000) for path, oid in ship.git.files(offer.commit).items()}

    @property
    def elsewhere(self):
        """The names of what counts as the agent's work."""
        return {tip.name for tip in self.work.tips if tip.is_work}

    def has(self, path, name=None):
        """Whether a saved commit, or that of this name, has a file of this name and content."""
        commits = [tip.commit for tip in self.work.tips if name in {None, tip.name}]
        return any(
            self.git.run("cat-file", "blob", f"{commit}:{path}", ok=(0, 128)).stdout.decode().strip()
            == path.rpartition("/")[2]
            for commit in commits
        )


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("git checkout -q -b x; new f; git checkout -q -", "refs/heads/x"),
        (
            "git checkout -q -b x/y; new f; git checkout -q -; git pack-refs --all; git gc -q --prune=now",
            "refs/heads/x/y",
        ),
        ('git checkout -q -b "b\'\\$(x);ü&"; new f; git checkout -q -', "refs/heads/b'$(x);ü&"),
        ("git checkout -q --orphan x; new f; git checkout -q -f voyage", "refs/heads/x"),
        ("new f; git tag -a -m t v1; git reset -q --hard HEAD~", "refs/tags/v1"),
        ("new f; git update-ref refs/mine/x HEAD; git reset -q --hard HEAD~", "refs/mine/x"),
        ("echo f > f; git add f; git stash -q", "refs/stash"),
        ("echo f > f; git add f; git stash -q; echo g > a.txt; git stash -q", "stash@{1}"),
        ("git checkout -q --detach; new f; git checkout -q voyage", "HEAD@{1} (detached)"),
        ('git worktree add -q "$out/w" -b x; cd "$out/w"; new f', "refs/heads/x"),
        ('git worktree add -q --detach "$out/w"; cd "$out/w"; new f', "worktree w: HEAD"),
        ('git worktree add -q --detach "$out/w"; echo f > "$out/w/f"', "worktree w: files"),
        (
            "echo '*' > .git/info/exclude; git worktree add -q --detach node_modules/w; echo f > node_modules/w/f",
            "worktree w: files",
        ),
        ('mv .git "$out/g"; ln -s "$out/g" .git; git checkout -q -b x; new f; git checkout -q -', "refs/heads/x"),
        ('git init -q --separate-git-dir "$out/g"; git checkout -q -b x; new f; git checkout -q -', "refs/heads/x"),
        ("git checkout -q -b x; new f; git checkout -q -; git init -q", "refs/heads/x"),
        ("git checkout -q -b x; new f; git checkout -q -; echo '[nonsense' > .git/config", "refs/heads/x"),
        ("git checkout -q -b x; new f; git checkout -q -; rm .git/HEAD .git/index", "refs/heads/x"),
        ("git checkout -q -b x; new f; git checkout -q -; git replace refs/heads/x HEAD", "refs/heads/x"),
        ("git checkout -q -b x; new f; echo $(git rev-parse x) > .git/info/grafts; git checkout -q -", "refs/heads/x"),
        (
            (
                "echo f > a; git add a; git mv a f; git stash -q; git checkout -q -b y; git stash apply -q; new g;"
                " git checkout -q voyage; git stash drop -q"
            ),
            "refs/heads/y",
        ),
    ],
)
def test_work_that_is_not_in_the_files_is_saved_and_told(ship, script, name):
    do(ship, script)
    saved = Saved(ship)
    assert (saved.empty, saved.unfit, saved.left_out) == (True, None, ())
    assert saved.has("f", name)
    assert (name in saved.elsewhere) == (not name.startswith("refs/mine"))
    assert saved.tips[name].size > 0


@pytest.mark.parametrize(
    "script",
    [
        "new f; git commit -q --amend -m amended; git rm -q f; git commit -qm away",
        "new f; git reset -q --hard HEAD~",
        "new f; git branch x; git checkout -q x; git checkout -q voyage; git branch -qD x; git reset -q --hard HEAD~",
        "new f; new g; git rebase -q --onto HEAD~2 HEAD~1; git reset -q --hard HEAD~",
        "git stash push -q -u || true; echo f > f; git stash -qu; git stash pop -q; new f; git reset -q --hard HEAD~",
    ],
)
def test_what_only_a_log_names_is_saved_but_was_the_agents_own_decision(ship, script):
    do(ship, script)
    saved = Saved(ship)
    assert saved.has("f")
    assert saved.elsewhere == set()


def test_untracked_files_of_a_stash_are_saved(ship):
    do(ship, "echo f > f; git stash -qu")
    saved = Saved(ship)
    assert saved.git.text("cat-file", "blob", f"{saved.tips['refs/stash'].commit}^3:f") == "f"


@pytest.mark.parametrize(
    "script",
    [
        "true",
        "new f",
        "git checkout -q -b x; new f",
        "git checkout -q -b x; new f; git checkout -q voyage; git merge -q x",
        "git branch x; git tag y; git checkout -q --detach; git checkout -q voyage",
        "new f; new g; git checkout -q HEAD~1; git checkout -q voyage",
        "rm -rf .git; git init -q",
        "rm -rf .git; echo f > f",
        'git worktree add -q --detach "$out/w"',
        "git stash -q; git gc -q --prune=now",
    ],
)
def test_nothing_is_saved_twice(ship, script):
    """The snapshot holds the files and the commits of the checked-out branch."""
    do(ship, script)
    saved = Saved(ship)
    assert saved.work.tips == ()
    assert saved.left_out == ()


def test_a_history_of_its_own_is_saved_beside_the_files(ship):
    do(ship, "rm -rf .git; git init -q -b own; new f; new g")
    saved = Saved(ship)
    assert saved.files["f"] == b"f\n"
    assert saved.has("g", "refs/heads/own")


@pytest.mark.parametrize(
    ("script", "reason", "paths"),
    [
        ("git init -q n; cd n; new f", "nested git repositories", ["n"]),
        ("git init -q n; cd n; echo f > f; git add f", "nested git repositories", ["n"]),
        ("git init -q n; cd n; new g; echo f > f", "nested git repositories", ["n"]),
        ("git init -q n; cd n; new f; git checkout -q -b x; new g", "nested git repositories", ["n"]),
        ("mkdir d; git init -q d/n; cd d/n; git init -q m; cd m; new f", "nested git repositories", ["d/n", "d/n/m"]),
        ("git worktree add -q --detach w; cd w; new f", "linked worktrees", ["w"]),
        ("git worktree add -q w -b x; echo f > w/f", "linked worktrees", ["w"]),
        (
            (
                'git init -q "$out/s"; (cd "$out/s"; new g); git -c protocol.file.allow=always'
                ' submodule add -q "$out/s" s; cd s; new f'
            ),
            "nested git repositories",
            ["s"],
        ),
        (
            'git init -q "$out/s"; (cd "$out/s"; new f); git clone -q --depth 1 "file://$out/s" s',
            "nested git repositories",
            ["s"],
        ),
    ],
)
def test_nested_repositories_are_handed_back_and_saved_with_the_other_files(ship, script, reason, paths):
    (ship.root / "mine").write_text("mine\n")
    do(ship, script)
    saved = Saved(ship)
    assert (saved.unfit.reason, sorted(saved.unfit.paths)) == (reason, paths)
    assert saved.has("f")
    assert saved.has("mine", "files"), "the attempt's other files are not lost either"
    ship.work.reset(ship.base, "voyage")
    assert not (ship.root / paths[0]).exists()


def test_ignored_repositories_are_left_alone(ship):
    do(ship, "git init -q node_modules/n; cd node_modules/n; new f")
    saved = Saved(ship)
    assert (saved.empty, saved.work.tips, saved.left_out) == (True, (), ())
    assert (ship.root / "node_modules/n/.git").is_dir()


def test_a_history_that_is_not_complete_is_saved_as_its_files(ship):
    do(
        ship,
        'git init -q "$out/s"; cd "$out/s"; new a; new b; cd -; git clone -q --depth 1 "file://$out/s" s; cd s; new f',
    )
    saved = Saved(ship)
    assert saved.has("f", "s: refs/heads/master") or saved.has("f", "s: refs/heads/main")
    do(ship, "cd s; rm -rf .git/objects; mkdir .git/objects")
    saved = Saved(ship)
    assert any("s: refs/heads" in text for text in saved.left_out)
    assert saved.has("f", "s: files") or saved.has("s/f") or any("files" in text for text in saved.left_out)


def test_many_refs_are_cut_and_the_rest_is_named(ship, monkeypatch):
    assert salvage.MAX_OTHER_TIPS == MAX_OTHER_TIPS == 50
    monkeypatch.setattr(salvage, "MAX_OTHER_TIPS", 5)
    do(
        ship,
        "tree=$(git write-tree); for n in $(seq 8); do"
        " git update-ref refs/heads/b$n $(git commit-tree -p HEAD -m $n $tree); done; git pack-refs --all;"
        " for n in $(seq 2000); do echo create refs/heads/same$n HEAD; done | git update-ref --stdin",
    )
    saved = Saved(ship)
    assert len(saved.work.tips) == 5
    assert saved.left_out == ("3 more refs: more than 5 in all",)


def test_too_many_bytes_are_left_out_and_named(ship, monkeypatch):
    monkeypatch.setattr(salvage, "MAX_OTHER_BYTES", 20_000)
    do(
        ship,
        "git checkout -q -b big; head -c 30000 /dev/urandom > r; git add r; git commit -qm r; git checkout -q -;"
        " git checkout -q -b small; new f; git checkout -q -; git checkout -q -b shrunk big; git rm -q r; new g;"
        " git checkout -q voyage",
    )
    saved = Saved(ship)
    assert saved.has("f", "refs/heads/small")
    assert saved.has("g", "refs/heads/shrunk"), "its files fit, if its history does not"
    assert saved.left_out == ("refs/heads/big: more than 0 MB in all",)


def test_what_the_captain_would_refuse_is_left_out_alone(ship):
    do(
        ship,
        "git checkout -q -b good; new f; git checkout -q voyage;"
        " tree=$(printf '100644 blob %s\\t.git' $(git hash-object -w a.txt) | git hash-object -t tree --literally"
        " -w --stdin < <(printf '100644 .git\\0'; git hash-object a.txt | xxd -r -p)); git update-ref"
        " refs/heads/bad $(git commit-tree -p HEAD -m bad $tree)",
    )
    saved = Saved(ship)
    assert saved.has("f", "refs/heads/good")
    assert [text.partition(":")[0] for text in saved.left_out] == ["refs/heads/bad"]


@pytest.mark.parametrize(
    ("path", "make"),
    [
        ("refs/heads/x", "mkfifo"),
        ("refs/heads/x", "ln -s /dev/zero"),
        ("packed-refs", "mkfifo"),
        ("logs/HEAD", "ln -s /dev/zero"),
        ("worktrees", "mkfifo"),
        ("HEAD", "mkdir"),
        ("commondir", "head -c 9999 /dev/urandom >"),
    ],
)
def test_files_that_are_none_stop_nobody(ship, path, make):
    do(
        ship,
        "git checkout -q -b good; new f; git checkout -q voyage; touch .git/index.lock;"
        f" rm -rf .git/{path}; {make} .git/{path}",
    )
    assert Saved(ship).has("f", "refs/heads/good")


def test_an_agents_repository_runs_nothing(ship):
    owned = Path(ship.outside / "owned")
    do(
        ship,
        "git checkout -q -b x; new f; git checkout -q -; echo f > f; git stash -qu;"
        " git worktree add -q --detach $out/w x; git config core.fsmonitor 'touch OWNED';"
        " git config uploadpack.packObjectsHook 'touch OWNED;'; git config filter.x.clean 'touch OWNED';"
        " git config core.alternateRefsCommand 'touch OWNED;'; echo '* filter=x' > $out/w/.gitattributes;"
        " printf '#!/bin/sh\\ntouch OWNED' > .git/hooks/post-index-change; chmod +x .git/hooks/*".replace(
            "OWNED", str(owned)
        ),
    )
    owned.unlink(missing_ok=True)
    saved = Saved(ship)
    assert saved.elsewhere >= {"refs/heads/x", "refs/stash", "worktree w: files"}
    assert not owned.exists()


def test_saved_commits_can_be_picked_by_the_next_attempt_on_this_ship(ship):
    do(ship, "git checkout -q -b x; new f; git checkout -q voyage")
    commit = Saved(ship).tips["refs/heads/x"].commit
    ship.work.reset(ship.base, "voyage")
    do(ship, f"git cherry-pick {commit}")
    saved = Saved(ship)
    assert saved.files["f"] == b"f\n"
    assert saved.work.tips == ()


def test_a_rescue_leaves_the_workspace_as_it_is_and_may_be_repeated(ship):
    do(ship, "git init -q n; (cd n; new f); git checkout -q -b x; echo 1 > g; git stash -qu -- g")
    for name in ("rescue-1", "rescue-2"):
        found = ship.work.snapshot(ship.base, name, lenient=True)
        assert not found.empty
        work = ship.work.find_other_work(ship.base, f"{name}-other", found.commit)
        assert {tip.name.replace("main", "master") for tip in work.tips} == {"refs/stash", "n: refs/heads/master"}
        assert (ship.root / "n/.git").is_dir()


def ended(*tips, empty=True, code=0):
    snapshot = Snapshot(empty=empty, bundle=Bundle(()), commit="1" * 40, base="1" * 40)
    return Outcome(code, "exit", 1.0, snapshot=snapshot, other=OtherWork("1" * 40, "2" * 40, tips=tips))


def test_unchanged_files_with_work_elsewhere_are_handed_back_once():
    branch, log = OtherTip("refs/heads/x\x1b[2J", "3" * 40, 1, is_work=True), OtherTip("HEAD@{1}", "4" * 40, 1)
    first = decide_work_elsewhere(ended(branch, log), again=False)
    assert (first.kind, first.state, first.same_ship) == ("return", "conflict", True)
    assert f"your work is on branch x\\x1b[2J (commit {'3' * 40}); put it on the checked-out branch" in first.reason
    assert first.reason.startswith(ELSEWHERE)
    assert decide_work_elsewhere(ended(branch), again=True).kind == "fail"
    for other in (ended(), ended(log), ended(branch, empty=False), Outcome(0, "exit", 1.0)):
        assert decide_work_elsewhere(other, again=False) is None


def test_each_test_that_the_documentation_names_exists():
    tests = Path(__file__).parents[1]
    known = set(
        re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in tests.rglob("test_*.py")), re.MULTILINE)
    )
    text = (tests.parent / "docs/agents-git.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    named = [re.findall(r"`(test_\w+)`", row.rpartition("| ")[2]) for row in rows if not row.endswith("| test |")]
    assert len(named) > 30
    assert all(named)
    assert {name for names in named for name in names} <= known
