"""Watching a voyage: what is read again, and what happens to what it watches."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocaptain.ledger import Ledger, LedgerError
from ocaptain.query import watch
from ocaptain.query.watch import Diffstat, Watcher
from ocaptain.text import clean_line
from tests.scenes import Scene, make_scene


class Clock:
    """A clock that goes as it is told."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def voyage(tmp_path):
    directory = make_scene(tmp_path, Scene(tasks=12, ships=3, landed=4, failed={}, retrying={}))
    captain = Ledger(directory.path / "ledger.db")  # as of a captain: the log of the database is not folded in
    captain.take_command()
    yield directory.path, captain
    captain.close()


def reader(directory):
    """Return a watcher with its clocks, a minute after what happened, and how often it has read the ledger."""
    wall, ticks, reads = Clock(4e9), Clock(100.0), []
    made = Watcher(directory, wall, ticks)

    class Counting(type(made._query)):
        def snapshot(self, now):
            reads.append(now)
            return super().snapshot(now)

    made._query = Counting(directory, patience=0.0)
    return made, wall, ticks, reads


def touch(path, at):
    os.utime(path, (at, at))


# -- what is read again ------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_read(voyage):
    directory, captain = voyage
    watcher, _, ticks, reads = reader(directory)
    first = watcher.snapshot()
    for _ in range(50):
        ticks.now += 0.125
        assert watcher.snapshot() is first
    assert len(reads) == 1
    captain.set_note("something")
    second = watcher.snapshot()
    assert (second is first, second.about.note) == (False, "something")
    assert watcher.snapshot() is second
    assert len(reads) == 2


def test_a_change_in_the_tick_of_a_files_clock_is_seen_nevertheless(voyage):
    directory, _ = voyage
    watcher, wall, ticks, reads = reader(directory)
    path = directory / "ledger.db-wal"
    wall.now = path.stat().st_mtime  # it was written right now
    touch(directory / "ledger.db", wall.now - 60)
    watcher.snapshot()
    ticks.now += 0.01
    watcher.snapshot()
    assert len(reads) == 2  # it may have changed, and its time is the same
    wall.now += 1
    ticks.now += 1
    watcher.snapshot()
    watcher.snapshot()
    assert len(reads) == 3


def test_a_clock_that_was_set_back_costs_one_more_reading_and_no_more(voyage):
    directory, _ = voyage
    watcher, wall, ticks, reads = reader(directory)
    wall.now = 1.0  # all files are of the future
    for _ in range(20):
        watcher.snapshot()
        ticks.now += 0.125
    assert len(reads) == 2


def test_another_ledger_of_the_same_size_and_time_is_seen(voyage, tmp_path):
    directory, captain = voyage
    captain.close()
    watcher, _, _, reads = reader(directory)
    first = watcher.snapshot()
    path, copy = directory / "ledger.db", tmp_path / "copy"
    shutil.copy2(path, copy)
    with contextlib.closing(sqlite3.connect(copy)) as db, db:
        db.execute("UPDATE voyage SET state = 'paused'")
    touch(copy, path.stat().st_mtime - 1000)
    assert copy.stat().st_size == path.stat().st_size
    copy.replace(path)
    assert (first.about.state, watcher.snapshot().about.state) == ("running", "paused")
    assert watcher.snapshot().about.state == "paused"
    assert len(reads) == 2


# -- what happens to the ledger ------------------------------------------------------------------------


def test_a_ledger_that_is_missing_and_comes_back(voyage):
    directory, captain = voyage
    captain.close()
    watcher, *_ = reader(directory)
    first = watcher.snapshot()
    path = directory / "ledger.db"
    path.rename(directory / "away")
    for _ in range(2):
        with pytest.raises(LedgerError, match="there is no ledger at"):
            watcher.snapshot()
    (directory / "away").rename(path)
    assert [line.id for line in watcher.snapshot().tasks] == [line.id for line in first.tasks]


def test_a_voyage_that_is_not_there(tmp_path):
    watcher, *_ = reader(tmp_path / "none")
    with pytest.raises(LedgerError, match="there is no ledger at"):
        watcher.snapshot()
    assert (watcher.actions(), watcher.diffstats(["a" * 40])) == ({}, {})


def test_a_page_that_is_damaged(voyage):
    directory, captain = voyage
    captain.close()
    watcher, *_ = reader(directory)
    watcher.snapshot()
    path = directory / "ledger.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    for _ in range(2):
        with pytest.raises(LedgerError, match="restore it from a copy"):
            watcher.snapshot()
    path.write_bytes(whole)
    assert len(watcher.snapshot().tasks) == 12


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_what_is_no_ledger(voyage, content):
    directory, captain = voyage
    captain.close()
    watcher, *_ = reader(directory)
    watcher.snapshot()
    for log in directory.glob("ledger.db-*"):
        log.unlink()
    (directory / "ledger.db").write_bytes(content)
    with pytest.raises(LedgerError):
        watcher.snapshot()


def test_while_others_have_locked_it_the_last_look_is_shown(voyage):
    directory, captain = voyage
    captain.close()
    path = directory / "ledger.db"
    watcher, *_, reads = reader(directory)
    first = watcher.snapshot()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE voyage SET note = 'locked'")
        assert watcher.snapshot() is first
        assert watcher.snapshot() is first
        fresh, *_ = reader(directory)
        with pytest.raises(LedgerError, match="cannot be read now: database is locked"):
            fresh.snapshot()
        other.execute("COMMIT")
    assert watcher.snapshot().about.note == "locked"
    assert len(reads) == 4


def test_a_look_waits_but_a_moment_for_others():
    assert Watcher(watch.__file__)._query.patience <= 0.5


# -- what ships do now -----------------------------------------------------------------------------------


def working(watcher):
    """Return a ship that works, and the path of its log."""
    ship = next(one for one in watcher.snapshot().ships if one.log)
    return ship.id, watcher.directory / ship.log


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ""),
        (b"\n\n", ""),
        (b"one\ntwo\n", "two"),
        (b"one\ntwo", "two"),
        (b"one\ntwo\n\n  \n", "two"),
        (b"10%\r20%\r", "20%"),
        (b"caf\xe9\n", "caf\ufffd"),
        (b"\xff\xfe\n", "\ufffd\ufffd"),
        (b"\x1b[32mok\x1b[0m \x1b]0;title\x07done\n", "ok done"),
        (b"?[1;32mok?[0m\n", "ok"),
        (b"is it?[yes/no]\n", "is it?[yes/no]"),
        (b"\x1b[2J\x1b[H\nreal\n\x1b[0m\n", "real"),
        (b"a\x07b\x00c\n", r"a\x07b\x00c"),
        ("\u202eright to left\n".encode(), "right to left"),
        (b"y" * 300, "y" * 199 + "…"),
        (b"first\n" + "é".encode() * 40_000, "é" * 199 + "…"),
        (b"x" + "修".encode() * 40_000, "修" * 199 + "…"),
        (b"last words\n" + b"\n" * 4000, "last words"),
        (b"lost\n" + b"\n" * 5000, ""),
    ],
)
def test_the_last_line_of_a_log(voyage, content, expected):
    watcher, *_ = reader(voyage[0])
    ship, log = working(watcher)
    log.write_bytes(content)
    assert watcher.actions()[ship] == expected


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_any_log_has_a_last_line(tmp_path_factory, data, blocks):
    path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(b"\xe4\xbf" * 2048 * blocks + data)
    line = watch._last_line(path)
    assert len(line) <= 200
    assert clean_line(line) == line
    line.encode()


def test_a_log_that_grows_is_truncated_and_replaced(voyage):
    watcher, *_ = reader(voyage[0])
    ship, log = working(watcher)
    seen = []
    log.write_bytes(b"one\n")
    seen.append(watcher.actions()[ship])
    with log.open("ab") as file:
        file.write(b"two\n")
    seen.append(watcher.actions()[ship])
    log.write_bytes(b"3\n")
    seen.append(watcher.actions()[ship])
    other = log.with_suffix(".new")
    other.write_bytes(b"4\n")  # rotated: of the same size
    touch(other, log.stat().st_mtime)
    other.replace(log)
    seen.append(watcher.actions()[ship])
    assert seen == ["one", "two", "3", "4"]


def test_a_log_that_has_not_changed_is_not_read(voyage, monkeypatch):
    watcher, *_ = reader(voyage[0])
    working(watcher)
    reads = []
    last_line = watch._last_line
    monkeypatch.setattr(watch, "_last_line", lambda path: reads.append(path) or last_line(path))
    first = watcher.actions()
    assert len(reads) == len(first) == 3
    assert watcher.actions() == first
    assert len(reads) == 3


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "loop", "closed"])
def test_what_is_no_log_holds_nobody_up(voyage, kind):
    watcher, *_ = reader(voyage[0])
    ship, log = working(watcher)
    log.unlink()
    if kind == "directory":
        log.mkdir()
    elif kind == "pipe":
        os.mkfifo(log)
    elif kind == "loop":
        log.symlink_to(log)
    elif kind == "closed":
        shutil.rmtree(log.parent)
        log.parent.write_text("a file where a directory was")
    assert watcher.actions().get(ship, "") == ""
    assert len(watcher.actions()) >= 2


# -- what landings changed ---------------------------------------------------------------------------------


@pytest.fixture
def repository(voyage, tmp_path):
    """A repository with three commits; what a diff would run if it were asked to."""
    work, directory = tmp_path / "work", voyage[0]
    work.mkdir()

    def git(*arguments):
        argv = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(argv, cwd=work, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for lines in (10, 13, 2):
        (work / "file").write_text("".join(f"{number}\n" for number in range(lines)))
        (work / f"binary-{lines}").write_bytes(bytes(range(256)))
        git("add", "-A")
        git("commit", "-q", "-m", "x")
        commits.append(git("rev-parse", "HEAD"))
    git("commit", "-q", "--allow-empty", "-m", "nothing")
    commits.append(git("rev-parse", "HEAD"))
    git("clone", "-q", "--bare", ".", str(directory / "repo.git"))
    return commits


def test_lines_that_commits_changed(voyage, repository):
    watcher, *_ = reader(voyage[0])
    first, second, third, empty = repository
    assert watcher.diffstats(repository) == {second: Diffstat(3, 0), third: Diffstat(0, 11), empty: Diffstat(0, 0)}
    assert watcher.diffstats([second]) == {second: Diffstat(3, 0)}
    assert watcher.diffstats([first]) == {}  # nothing is before it
    shutil.rmtree(voyage[0] / "repo.git")
    assert watcher.diffstats([third]) == {third: Diffstat(0, 11)}  # it never changes, and is asked for once


@pytest.mark.parametrize("commit", ["", "HEAD", "--output=/tmp/x", "-h", "a" * 40, "g" * 40, "\udcff", "a\0b"])
def test_what_is_no_commit_of_it(voyage, repository, commit):
    watcher, *_ = reader(voyage[0])
    assert watcher.diffstats([commit]) == {}


def test_a_repository_that_is_missing_or_none(voyage):
    watcher, *_ = reader(voyage[0])
    assert watcher.diffstats(["a" * 40]) == {}
    (voyage[0] / "repo.git").write_text("a file")
    assert watcher.diffstats(["b" * 40]) == {}
