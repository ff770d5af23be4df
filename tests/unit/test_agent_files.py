"""What differs in a workspace without an agent's doing does not land: conversions, modes, hidden files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ocaptain.protocol.limits import MEBIBYTE, Limits
from tests.unit.test_workspace import BASE, Ship, commit

WINDOWS = "one\r\ntwo\r\n"


@pytest.fixture
def ship(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return Ship(tmp_path)


def begin(ship, files):
    """Start an attempt on a base with these files."""
    ship.base = commit(ship.git, files, ship.base)
    ship.give(ship.base)
    ship.work.reset(ship.base, "voyage")


def do(ship, script):
    subprocess.run(
        ["bash", "-ec", script],
        cwd=ship.root,
        check=True,
        capture_output=True,
        timeout=240,
        env={**os.environ, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "HOME": str(ship.places.home)},
    )


def landed(ship, **more):
    """Return what would land: paths with their modes, None for those that were removed."""
    found = ship.work.snapshot(ship.base, "attempt-1", **more)
    assert found.empty or found.bundle.parts
    if found.bundle.parts:
        found, _ = ship.offer(**more)
    lines = ship.git.text("diff-tree", "-r", ship.base, found.commit).splitlines()
    paths = {line.partition("\t")[2]: line.split()[1] for line in lines}
    assert found.empty == (not paths)
    return {path: None if mode == "000000" else mode for path, mode in paths.items()}


@pytest.mark.parametrize("rule", ["*.txt text", "* text=auto", "*.txt eol=crlf", "*.txt eol=lf", "*.txt crlf"])
def test_files_that_git_would_store_otherwise_do_not_land(ship, rule):
    begin(ship, {".gitattributes": rule + "\n", "win.txt": WINDOWS, "unix.txt": "1\n", "sub/win.txt": WINDOWS})
    for script in (
        "true",
        "touch *.txt sub/*.txt",
        "cp win.txt x; rm win.txt; mv x win.txt",
        "git checkout -q -- .; git stash -q || true",
        "git add --renormalize .",
        "git add --renormalize . && git commit -qm renormalised || true",
    ):
        do(ship, script)
        assert landed(ship) == {}, script
    (ship.root / "new").write_text("new")
    assert landed(ship) == {"new": "100644"}


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "* text=auto"), (None, "*.txt text eol=crlf"), ("*.txt eol=crlf", None), ("*.txt text", "*.txt -text")],
)
def test_new_rules_land_without_the_files_that_they_are_about(ship, before, after):
    rules = {".gitattributes": before + "\n"} if before else {}
    begin(ship, {**rules, "win.txt": WINDOWS, "unix.txt": "1\n2\n"})
    path = ship.root / ".gitattributes"
    if after:
        path.write_text(after + "\n")
    else:
        path.unlink()
    do(ship, "touch *.txt")
    assert landed(ship) == {".gitattributes": "100644" if after else None}


def test_other_conversions_land_only_where_the_agent_wrote(ship):
    rules = "*.id ident\n*.w working-tree-encoding=UTF-16 text\n"
    begin(ship, {".gitattributes": rules, "a.id": "$Id$\n", "b.id": "$Id$\n", "a.w": "ä\n", "b.w": "ä\n"})
    assert "$Id: " in (ship.root / "a.id").read_text()
    do(ship, "touch *.id *.w; echo more >> b.id; printf '\\377\\376b\\000\\n\\000' > b.w")
    assert landed(ship) == {"b.id": "100644", "b.w": "100644"}


def test_a_large_file_that_would_be_stored_otherwise_is_no_new_one(ship):
    begin(ship, {".gitattributes": "* text=auto\n", "large.txt": "line\r\n" * (MEBIBYTE // 4)})
    do(ship, "touch large.txt; echo 1 > new")
    assert landed(ship, limits=Limits(file_mib=1)) == {"new": "100644"}


@pytest.mark.parametrize("where", ["git config", "git config --global"])
def test_line_endings_of_the_agents_own_git_do_not_land(ship, where):
    begin(ship, {"a.txt": "1\n2\n", "b.txt": "1\n2\n", "win.txt": WINDOWS})
    do(
        ship,
        f"env -u GIT_CONFIG_GLOBAL {where} core.autocrlf true; rm *.txt; env -u GIT_CONFIG_GLOBAL git checkout -q .",
    )
    assert (ship.root / "a.txt").read_bytes() == b"1\r\n2\r\n"
    assert landed(ship) == {}
    (ship.root / "b.txt").write_bytes(b"1\r\n3\r\n")
    assert landed(ship) == {"b.txt": "100644"}
    assert ship.offer()[1]["b.txt"] == b"1\n3\n", "as its own git would commit it"


@pytest.mark.parametrize("off", ["= false", "= no", "= off", "= 0", "="])
def test_line_endings_of_its_user_that_the_repository_switches_off_stay(ship, off):
    begin(ship, {"a.txt": "1\n"})
    do(ship, f"printf '[core]\\nautocrlf\\n' > $HOME/.gitconfig; printf '[core]\\nautocrlf {off}\\n' >> .git/config")
    (ship.root / "a.txt").write_bytes(b"2\r\n")
    assert ship.offer()[1]["a.txt"] == b"2\r\n"
    do(ship, "sed -i '/autocrlf/d' .git/config")
    assert ship.offer()[1]["a.txt"] == b"2\n"


def test_what_the_agent_converted_itself_lands(ship):
    begin(ship, {".gitattributes": "*.txt text\n", "win.txt": WINDOWS, "other.txt": WINDOWS})
    (ship.root / "win.txt").write_text("one\ntwo\n")
    assert landed(ship) == {"win.txt": "100644"}


def test_modes_land_unless_the_agents_git_does_not_heed_them(ship):
    begin(ship, {".gitattributes": "*.txt text\n", "win.txt": WINDOWS, "a.sh": "x\n", "b.sh": "x\n"})
    do(ship, "chmod 755 a.sh win.txt; chmod 600 b.sh; chmod g+w .gitattributes")
    assert landed(ship) == {"a.sh": "100755", "win.txt": "100755"}
    do(ship, "git config core.fileMode false; chmod 755 b.sh; echo y >> b.sh; echo new > c.sh; chmod 755 c.sh")
    assert landed(ship) == {"b.sh": "100644", "c.sh": "100644"}


@pytest.mark.parametrize(
    "script",
    [
        "git sparse-checkout set --no-cone /only",
        "git sparse-checkout set --cone only",
        "git sparse-checkout set --cone --sparse-index only",
        "git update-index --skip-worktree dir/b.txt a.txt; rm -r dir a.txt",
        "git config core.splitIndex true; git update-index --split-index --skip-worktree dir/b.txt; rm -r dir",
    ],
)
def test_hidden_files_are_unchanged(ship, script):
    begin(ship, {**BASE, "only/c.txt": "c\n"})
    do(ship, script)
    assert not (ship.root / "dir").exists()
    assert landed(ship) == {}
    do(ship, "echo more >> only/c.txt")
    assert landed(ship) == {"only/c.txt": "100644"}
    ship.work.reset(ship.base, "voyage")
    assert (ship.root / "dir/b.txt").read_text() == "two\n"


def test_what_was_committed_before_it_was_hidden_lands(ship):
    begin(ship, {**BASE, "only/c.txt": "c\n"})
    do(ship, "echo 3 > dir/b.txt; echo n > dir/new; git rm -q a.txt; git add -A; git commit -qm x")
    do(ship, "git sparse-checkout set --cone only; echo s > only/staged; git add only/staged")
    assert landed(ship) == {"dir/b.txt": "100644", "dir/new": "100644", "a.txt": None, "only/staged": "100644"}
    do(
        ship,
        "echo 4 > d; git update-index --add --cacheinfo 100644,$(git hash-object -w d),d; rm d;"
        " git update-index --skip-worktree d",
    )  # in no commit
    assert ship.offer()[1]["d"] == b"4\n"


def test_hidden_changes_land_and_real_deletions_too(ship):
    do(ship, "git update-index --skip-worktree dir/b.txt; echo 3 > dir/b.txt; rm a.txt")
    assert landed(ship) == {"dir/b.txt": "100644", "a.txt": None}
    ship.work.reset(ship.base, "voyage")
    do(ship, "git update-index --assume-unchanged dir/b.txt a.txt; echo 3 > dir/b.txt; rm a.txt")
    assert landed(ship) == {"dir/b.txt": "100644", "a.txt": None}
    ship.work.reset(ship.base, "voyage")
    do(ship, "git update-index --skip-worktree dir/b.txt; rm -r dir; echo 3 > dir")
    assert landed(ship) == {"dir/b.txt": None, "dir": "100644"}


@pytest.mark.parametrize("index", ["rm .git/index", "echo nonsense > .git/index", "rm .git/index; mkfifo .git/index"])
def test_an_index_that_is_none_hides_nothing(ship, index):
    do(ship, f"{index}; rm a.txt")
    assert landed(ship) == {"a.txt": None}


def test_case_and_form_of_names_are_the_agents_alone(ship):
    begin(ship, {**BASE, "README": "r\n", "cafe\u0301": "c\n"})
    do(ship, "git config core.ignoreCase true; git config core.precomposeUnicode true; touch README cafe*")
    assert landed(ship) == {}
    do(ship, "git mv README readme 2> /dev/null || mv README readme")
    assert landed(ship) == {"README": None, "readme": "100644"}


def test_no_filter_of_an_agents_runs(ship):
    owned = Path(ship.places.home / "owned")
    begin(ship, {**BASE, ".gitattributes": "b.txt filter=x\n"})
    for kind in ("clean", "smudge", "process"):
        do(ship, f"git config filter.x.{kind} 'touch {owned}; cat'; git config filter.x.required true")
    do(ship, f"echo '* filter=x diff=x merge=x' > .gitattributes; git config diff.x.textconv 'touch {owned}'")
    do(ship, f"git config core.fsmonitor 'touch {owned}'; touch dir/b.txt; echo 2 > new")
    assert landed(ship) == {".gitattributes": "100644", "new": "100644"}
    assert not owned.exists()
