"""The list of voyages: what a line says, and that a broken one hides no other."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time

import pytest

from ocaptain.cli.ls import show_voyages
from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from ocaptain.locks import Lock
from ocaptain.process import captain_lock_path
from ocaptain.query import Query
from ocaptain.voyage.home import Home
from ocaptain.voyage.listing import HEADER, Row, cells, describe, format_age, lines
from tests.helpers import as_documented
from tests.unit.test_ledger import make


def voyage(root, number, state="running", created=None):
    """Make a voyage with two tasks; return its directory."""
    directory = root / f"voyage-{number:012x}"
    directory.mkdir()
    with make(directory / "ledger.db", {"1": frozenset(), "2": frozenset()}) as ledger:
        ledger.set_state(state)
    with contextlib.closing(sqlite3.connect(directory / "ledger.db")) as db, db:
        db.execute("UPDATE voyage SET created = ?, spec = ?", (created or time.time() - 60 * number, "x" * 10**6))
    return directory


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path))
    monkeypatch.setattr("ocaptain.cli.render._json_printed", False)
    return Home(tmp_path)


def spoil_page(directory):
    """Damage every page of a ledger but the first, which opening it reads."""
    file = directory / "ledger.db"
    with contextlib.closing(sqlite3.connect(file)) as db, db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'task_counts'").fetchone()
    data = bytearray(file.read_bytes())
    data[(root - 1) * size : root * size] = os.urandom(size)
    file.write_bytes(data)


def no_ledger(directory):
    for file in directory.glob("ledger.db*"):
        file.unlink()


def no_sense(directory):
    with contextlib.closing(sqlite3.connect(directory / "ledger.db")) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET sql = replace(replace(sql, 'REAL', 'TEXT'), 'STRICT', '') WHERE name='voyage'"
        )
    with contextlib.closing(sqlite3.connect(directory / "ledger.db")) as db, db:
        db.execute("UPDATE voyage SET created = 'yesterday'")


SPOILT = {
    "a page": (spoil_page, "cannot be read"),
    "garbage": (lambda one: (one / "ledger.db").write_bytes(b"garbage" * 999), "cannot be read as a ledger"),
    "empty": (lambda one: (one / "ledger.db").write_bytes(b""), "cannot be read as a ledger"),
    "no ledger": (no_ledger, "there is no ledger at"),
    "a directory": (lambda one: (no_ledger(one), (one / "ledger.db").mkdir()), "there is no ledger at"),
    "a newer one": (
        lambda one: sqlite3.connect(one / "ledger.db").execute("PRAGMA user_version = 99").connection.close(),
        "was made by a newer version",
    ),
    "no sense": (no_sense, "values that make no sense"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_ledger_that_cannot_be_read_is_a_row_with_a_note(home, capsys, how):
    good, bad = voyage(home.path, 1), voyage(home.path, 2)
    spoil, said = SPOILT[how]
    spoil(bad)
    show_voyages(as_json=True)
    rows = {row["voyage"]: row for row in as_documented(capsys.readouterr().out)["voyages"]}
    assert (rows[good.name]["state"], rows[good.name]["problem"]) == ("running", None)
    assert (rows[bad.name]["state"], said in rows[bad.name]["problem"]) == (None, True), rows[bad.name]
    show_voyages(as_json=False)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2
    assert [line.split("\t")[2] for line in shown if line.startswith(bad.name)] == ["unreadable"]
    if how in {"a page", "no sense"}:  # its state can be read, and says that it runs
        with pytest.raises(UsageError, match="several voyages are active"):
            home.find(None)
    else:
        assert home.find(None).id == good.name


def test_newest_first_and_a_line_each(home, capsys):
    for number in (3, 1, 2):
        voyage(home.path, number)
    (home.path / "notes").mkdir()
    show_voyages(as_json=False)
    captured = capsys.readouterr()
    assert [line.split("\t")[0][-1] for line in captured.out.splitlines()] == ["1", "2", "3"]
    assert [line.split("\t")[5] for line in captured.out.splitlines()] == ["1m", "2m", "3m"]


def test_no_voyage_is_no_line(home, capsys):
    show_voyages(as_json=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"there is no voyage in {home.path}\nnext: ocaptain sail PLAN\n")


def test_which_is_meant_is_shown_as_the_list(home):
    for number, state in ((1, "running"), (2, "running"), (3, "complete")):
        voyage(home.path, number, state)
    with pytest.raises(UsageError) as several:
        home.find(None)
    with pytest.raises(UsageError) as ambiguous:
        home.find("voyage-0")
    for error in (several.value, ambiguous.value):
        assert error.details[0].split() == list(HEADER)
        assert [line.split()[2] for line in error.details[1:]] == ["running", "running", "complete"]


def test_the_one_that_has_not_ended_is_meant(home):
    for number, state in ((1, "failed"), (2, "running"), (3, "complete"), (4, "sunk")):
        voyage(home.path, number, state)
    assert home.find(None).id.endswith("2")
    with Lock(captain_lock_path(home.path / "voyage-000000000003")) as lock:
        assert lock.acquire_within(1)
        assert home.find(None).id.endswith("3")  # a captain that lives counts first


def test_what_a_line_says(tmp_path):
    directory = voyage(tmp_path, 1, created=1000.0)
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.fail(ledger.claim("ship-0").token, "no", final=True)
        ledger.fail(ledger.claim("ship-0").token, "no")
    row = Row(directory, Query(directory).summary(), None, has_captain=False, created=1000.0)
    assert describe(row) == "no captain runs, 1 failed, 1 retrying"
    found = dict(zip(HEADER, cells(row, 1000.0 + 7200), strict=True))
    assert (found["STATE"], found["DONE"], found["AGE"], found["COST"]) == ("running", "0/2", "2h", "-")
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("failed")
    row = Row(directory, Query(directory).summary(), None, has_captain=False, created=1000.0)
    assert describe(row) == "1 failed, 1 retrying, not sunk"
    assert row.as_dict(1000.0 + 7200)["age_seconds"] == 7200
    assert json.dumps(row.as_dict(0.0)).count("1970-01-01T00:16:40Z") == 1


def test_a_name_of_two_columns_a_character_stays_aligned(tmp_path):
    rows = []
    for number, name in ((1, "修复\x1b]0;x\x07"), (2, "plain")):
        directory = voyage(tmp_path, number)
        with contextlib.closing(sqlite3.connect(directory / "ledger.db")) as db, db:
            db.execute("UPDATE voyage SET name = ?", (name,))
        rows.append(Row(directory, Query(directory).summary(), None, has_captain=True, created=0.0))
    head, first, second = lines(rows, 0.0)
    assert "修复\\x1b]0;x\\x07  running" in first
    assert second.index("running") == head.index("STATE") == first.index("running") + 2


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-5, "0s"), (0, "0s"), (59.9, "60s"), (60, "1m"), (7199, "1h"), (86400 * 12, "12d")]
)
def test_ages(seconds, shown):
    assert format_age(seconds) == shown
