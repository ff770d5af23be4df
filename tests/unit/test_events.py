"""``events``: every event once, in order, for people, pipes and programs, while the voyage sails."""

from __future__ import annotations

import ast
import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
import time

import pytest

from ocaptain.cli.event_lines import EventChoice, Teller, event_json, event_record, event_sign, event_words
from ocaptain.cli.lines import Painter, format_utc, parse_since, wait_for_news
from ocaptain.cli.render import Screen
from ocaptain.cli.streams import ReaderGone
from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from ocaptain.query import Event
from tests.helpers import OCAPTAIN, REPO, schema_of, wait_for
from tests.scenes import VOYAGE, Scene, make_scene

SMALL = Scene(tasks=8, ships=2, landed=3, failed={"2": "exit 3\tboom"}, retrying={}, layers=0)
NOW = 1_796_000_000.0


def event(kind, text="", *, ship=None, task=None, n=1, at=NOW):
    return Event(n, at, kind, ship, task, text)


def told_to_people(events, width=80):
    painter = Painter(Screen())
    return [line[9:] for line in Teller({"1": "Add OAuth2 login"}, painter, width).lines(events, NOW)]


def test_people_read_subjects_commands_and_no_noise():
    command = json.dumps({"id": "c2", "said": "retried: task 1", "tasks": ["1"]})
    assert told_to_people(
        [
            *(event("ship", "bootstrapping", ship=f"ship-{number}") for number in (0, 1)),
            event("voyage", "running"),
            event("ship", "idle", ship="ship-0"),
            event("claim", "attempt 1", ship="ship-0", task="1"),
            event("landed", "4f73232" + "0" * 33, ship="ship-0", task="1"),
            event("command", command),
            event("pause", "user"),
            event("voyage", "paused"),
            event("voyage", "running"),
            event("voyage", "running"),
            event("command", "{"),
        ]
    ) == [
        "● ship-0, ship-1 are built",
        "● work begins",
        "● #1 → ship-0 (attempt 1)  Add OAuth2 login",
        "✓ #1 landed as 4f73232000 (ship-0)  Add OAuth2 login",
        "○ you: retry 1",
        "○ you: pause (what is under way is finished first)",
        "○ voyage: paused",
        "● work goes on",
        "○ command: {",
    ]


def test_a_reason_is_broken_between_words():
    (line,) = told_to_people([event("failed", "reason " * 20, ship="ship-0", task="1")])
    first, *rest = line.split("\n")
    assert first.endswith(" reason")
    assert rest
    assert all(one.startswith(" " * 9 + "reason") for one in rest)


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (event("landed", "4f73232" + "0" * 33, ship="ship-3", task="41"), "✓ task 41 landed as 4f73232000 (ship-3)"),
        (event("failed", "boom", ship="ship-0", task="7"), "✗ task 7 failed for good on ship-0: boom"),
        (event("ship", "lost: no power", ship="ship-0"), "✗ ship-0 is lost: no power"),
        (event("voyage", "complete"), "✓ voyage: complete"),
        (event("verify", "passed at " + "a" * 40, ship="ship-verify"), "✓ final verify: passed at aaaaaaaaaa"),
        (event("verify", "verify.sh ended with exit code 1 at " + "a" * 40), "✗ final verify: verify.sh ended with"),
        (event("command", '{"id": "x"}'), '○ command: {"id": "x"}'),
        (event("refused", "too much", ship="ship-1"), "✗ refused (ship-1): too much"),
        (event("new kind", "of later", task="3"), "○ task 3 new kind: of later"),
        (event("lost", "\x1b[31m\x07\u202e" + "x" * 500, ship="s", task="1"), r"✗ task 1 on s was lost, and is tried"),
    ],
)
def test_an_event_in_words(told, line):
    shown = f"{event_sign(told)} {event_words(told)}"
    assert shown.startswith(line)
    assert shown.isprintable()
    assert len(shown) < 260


def test_an_event_is_one_record_and_one_object_whatever_it_says():
    told = event("retry", "a\tb\nc\\d \x1b[1m é", ship="ship-0", task="1", n=7, at=NOW + 0.9996)
    record = event_record(told)
    assert record.split("\t") == ["7", format_utc(NOW), "retry", "ship-0", "1", r"a b c\\d \\x1b[1m é"]
    (line,) = event_json(told).splitlines()
    found = json.loads(line)
    schema_of("events").validate(found)
    assert (found["n"], found["text"], found["task"]) == (7, told.text, "1")
    assert event_record(event("pause", "user")).split("\t")[3:] == ["", "", "user"]


@pytest.mark.parametrize("fraction", [0.0, 0.0004, 0.5, 0.9994, 0.9999999])
def test_a_time_for_programs_is_a_time(fraction):
    schema_of("events").validate(json.loads(event_json(event("pause", "user", at=NOW + fraction))))
    assert abs(parse_since(format_utc(NOW + fraction, digits=3), NOW + 5) - NOW - fraction) <= 0.001


def test_every_kind_that_is_written_is_documented():
    documented = {one["const"] for one in schema_of("events").schema["properties"]["kind"]["anyOf"] if "const" in one}
    written = set()
    for file in (REPO / "ocaptain").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_event"):
                written |= {one.value for one in node.args[:2] if isinstance(one, ast.Constant)}
    ended = {"lost", "conflict", "sunk", "waited", "denied"}  # what return_task says
    assert written | ended | {"retry", "failed", "saved", "left out"} == documented
    assert "claim" in written


@pytest.mark.parametrize(
    ("text", "ago"),
    [("10m", 600), ("2h", 7200), ("3d", 259200), ("1d2h", 93600), ("1h30m", 5400), ("250ms", 0.25), ("0s", 0)],
)
def test_since_so_long_ago(text, ago):
    assert parse_since(text, NOW) == NOW - ago


def test_since_a_time_of_this_machine(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        now = parse_since("2026-11-29T14:30+01:00", NOW * 2)
        assert now == parse_since("2026-11-29T13:30Z", NOW * 2) == parse_since("2026-11-29T14:30", NOW * 2)
        assert now - parse_since("14:05", now) == 25 * 60
        assert now - parse_since("14:29:30", now) == 30
        assert now - parse_since("15:00", now) == 23.5 * 3600  # it has not been that late today
        assert now - parse_since("2026-11-29", now) == 14.5 * 3600
        after_change = parse_since("2026-10-25T12:00", NOW * 2)  # the clocks went back at night
        assert after_change - parse_since("13:00", after_change) == 24 * 3600
        assert after_change - parse_since("00:30", after_change) == 12.5 * 3600
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "10",
        "-5m",
        "5m3",
        "25:00",
        "14:60",
        "2026-13-01",
        "0001-01-01",
        "9" * 400,
        "9" * 400 + "d",
        "٣m",
        "\x1b",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match=r"--since .* is no time; give 10m") as caught:
        parse_since(text, NOW)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 160


def test_a_time_to_come_is_refused():
    with pytest.raises(UsageError, match="is still to come"):
        parse_since("2126-01-01", NOW)


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    make_scene(tmp_path, SMALL)
    return tmp_path


def environment(home, **more):
    return {**os.environ, "OCAPTAIN_HOME": str(home / "voyages"), **more}


def run(home, *words, **more):
    argv = [str(OCAPTAIN), "events", *words]
    return subprocess.run(argv, env=environment(home, **more), capture_output=True, text=True, check=False, timeout=240)


def ledger_of(home):
    return Ledger(home / "voyages" / VOYAGE / "ledger.db")


def test_all_and_some(home):
    with ledger_of(home) as ledger:
        last = ledger.last_event_number()
    lines = [line.split("\t") for line in run(home).stdout.splitlines()]
    assert [int(line[0]) for line in lines] == list(range(1, last + 1))
    assert {len(line) for line in lines} == {6}
    found = [json.loads(line) for line in run(home, "--json").stdout.splitlines()]
    assert [one["n"] for one in found] == list(range(1, last + 1))
    for one in found:
        schema_of("events").validate(one)
    assert [int(line.split("\t")[0]) for line in run(home, "--after", str(last - 2)).stdout.splitlines()] == [
        last - 1,
        last,
    ]
    of_task = [line.split("\t")[2:5] for line in run(home, "-t", "2").stdout.splitlines()]
    assert [one[0] for one in of_task] == ["claim", "failed"]
    assert {one[2] for one in of_task} == {"2"}
    of_both = run(home, "-t", "2", "-s", of_task[0][1]).stdout.splitlines()
    assert len(of_both) == 2
    assert run(home, "--since", "0s").stdout == ""
    assert len(run(home, "--since", "1h").stdout.splitlines()) == last


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-t", "99"], "no task '99'; see `ocaptain tasks`"),
        (["-s", "ship-9"], "no ship 'ship-9'; its ships are ship-0, ship-1"),
        (["--since", "soon"], "'soon' is no time"),
        (["--after", "-1"], "0 or more"),
        (["voyage-nope"], "voyage"),
    ],
)
def test_wrong_input_is_exit_2_and_one_line(home, words, said):
    done = run(home, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    schema_of("error").validate(json.loads(run(home, "--json", *words).stdout))


def test_followed_until_the_voyage_ends_though_the_ledger_is_busy(home):
    with ledger_of(home) as ledger:
        after = str(ledger.last_event_number())
    argv = [str(OCAPTAIN), "events", "-f", "--json", "--after", after]
    with subprocess.Popen(argv, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        with ledger_of(home) as ledger:
            ledger.take_command()
            ledger.add_event("held", "waits", task="5")
            assert json.loads(process.stdout.readline())["task"] == "5"
            ledger.add_event("approved", "yes", task="5")
            assert json.loads(process.stdout.readline())["kind"] == "approved"
        path = home / "voyages" / VOYAGE / "ledger.db"
        path.rename(path.with_name("away"))  # as by a backup; to lock it takes longer than to read it
        time.sleep(0.6)
        assert process.poll() is None
        path.with_name("away").rename(path)
        with ledger_of(home) as ledger:
            ledger.take_command()
            ledger.set_state("sinking")
            ledger.add_event("rescue", "last words", ship="ship-0")
            ledger.set_state("sunk")
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(240) == 0
    assert [one["text"] for one in rest] == ["sinking", "last words", "sunk"]


def test_a_ledger_that_another_writes_to_is_waited_for(home):
    argv = [str(OCAPTAIN), "events", "-f"]
    with subprocess.Popen(argv, env=environment(home), stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        held = sqlite3.connect(home / "voyages" / VOYAGE / "ledger.db", isolation_level=None)
        held.execute("BEGIN EXCLUSIVE")
        time.sleep(0.6)
        assert process.poll() is None
        held.execute("UPDATE voyage SET state = 'sunk'")
        held.execute("COMMIT")
        held.close()
        process.stdout.read()
        assert process.wait(240) == 0


def test_a_reader_that_goes_away_ends_it_though_nothing_happens(home):
    argv = [str(OCAPTAIN), "events", "-f"]
    with subprocess.Popen(argv, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(240) == 141
        assert process.stderr.read() == b""


def test_on_a_terminal_it_is_time_symbol_and_words(home):
    leader, follower = pty.openpty()
    argv = [str(OCAPTAIN), "events", "-t", "2"]
    done = subprocess.run(argv, env=environment(home, TERM="xterm"), stdout=follower, check=False, timeout=240)
    os.close(follower)
    shown = wait_for(lambda: os.read(leader, 65536).decode()).splitlines()
    os.close(leader)
    assert done.returncode == 0
    claim, failed, more = shown
    assert "#2 → ship-1 (attempt 1)  修复" in claim
    assert "\x1b[31m✗\x1b[0m #2 修复" in failed
    assert failed.endswith("…: failed for good on")
    assert more.startswith(" " * 9)


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colours_there_are_no_escapes(more, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    leader, follower = pty.openpty()
    with open(follower, "w", closefd=True) as file:
        screen = Screen()
        screen.file = file
        screen.is_piped = False
        (line,) = Teller({}, Painter(screen), 80).lines([event("failed", "x", task="1")], NOW)
    os.close(leader)
    assert "\x1b" not in line


def test_a_choice_is_of_all_its_conditions():
    told = event("landed", ship="ship-1", task="4")
    assert EventChoice(tasks=("4",), ships=("ship-1",)).has(told, NOW)
    assert not EventChoice(tasks=("4",), ships=("ship-2",)).has(told, NOW)
    assert not EventChoice(tasks=("5",)).has(told, NOW)
    assert not EventChoice().has(told, NOW + 1)


@pytest.mark.parametrize(
    ("events", "is_gone"), [(select.POLLNVAL, False), (select.POLLHUP, True), (select.POLLERR, True)]
)
def test_a_device_that_cannot_be_polled_is_no_reader_that_went_away(monkeypatch, events, is_gone):
    """As every device is on macOS: a terminal, and /dev/null."""

    class Poller:
        def register(self, fd, wanted):
            assert (fd, wanted) == (1, 0)

        def poll(self, _milliseconds):
            return [(1, events)]

    monkeypatch.setattr(select, "poll", Poller)
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    if is_gone:
        with pytest.raises(ReaderGone):
            wait_for_news(0.25)
    else:
        wait_for_news(0.25)
    assert waited == ([] if is_gone else [0.25])


def test_nobody_reads_what_is_closed():
    code = "from ocaptain.cli.lines import *\ntry: wait_for_news(60)\nexcept ReaderGone: raise SystemExit(7) from None"
    assert subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", code], check=False).returncode == 7
