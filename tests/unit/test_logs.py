"""``logs``: every line once, in the order of time, for as much work as what is shown needs."""

from __future__ import annotations

import io
import os
import pty
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocaptain.cli.log_lines import LogChoice, TextPattern, show_logs
from ocaptain.cli.style import SHIP_COLOURS, ship_colour
from ocaptain.errors import UsageError
from ocaptain.ledger import Ledger
from ocaptain.log_times import note_piece
from ocaptain.names import VERIFY_SHIP
from ocaptain.query import Log, LogReader, Query
from ocaptain.query import logs as logs_module
from ocaptain.query.logs import MAX_LINE, Source, _read_lines, _read_lines_back, ascending, clean_log_line, merge
from tests.helpers import OCAPTAIN, wait_for
from tests.scenes import VOYAGE, Scene, make_scene

SMALL = Scene(tasks=6, ships=2, landed=2, failed={"2": "exit 3"}, retrying={}, layers=0, seconds=100.0)
ALL = LogChoice()


# -- one file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 10**6])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"a",
        b"a\n",
        b"a\nb",
        b"\na",
        b"a\n\n\nbb\n",
        b"abc\n" * 9,
        b"x" * 30 + b"\ny\n" + b"z" * 30,
    ],
)
def test_lines_are_the_same_from_either_end(data, block, monkeypatch):
    monkeypatch.setattr(logs_module, "_BLOCK", block)
    monkeypatch.setattr(logs_module, "MAX_LINE", 10)
    for start in [0, *(at + 1 for at, one in enumerate(data) if one == 10)]:
        lines = list(_read_lines(io.BytesIO(data), start, len(data)))
        assert lines == list(_read_lines_back(io.BytesIO(data), start, len(data)))[::-1]
        whole = data[start:].split(b"\n")
        assert [head for _, head, _ in lines] == [line[:10] for line in (whole if whole[-1] else whole[:-1])]
        assert all(data[at : at + size][:10] == head for at, head, size in lines)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        (b"  kept indent", "  kept indent"),
        (b"10%\r50%\r100%\r", "100%"),
        (b"\r\r", ""),
        (b"a\x00b\x1b[31mc\x07", r"a\x00b\x1b[31mc\x07"),
        (b"\xff\xfe ok", "�� ok"),
        ("\u202eevil\u2028line\u0085".encode(), r"evilline\x85"),
        ("修复 👍".encode(), "修复 👍"),
        (b"ends in blanks   ", "ends in blanks"),
    ],
)
def test_a_line_is_clean(data, text):
    assert clean_log_line(data, len(data)) == text


def test_of_a_line_without_end_the_beginning_is_shown():
    assert clean_log_line(b"ab", 12) == "ab … [10 more bytes]"


def test_a_reader_waits_for_the_end_of_a_line_and_looks_at_no_byte_twice(tmp_path, monkeypatch):
    path = tmp_path / "1.1.log"
    reader = LogReader(Log(path))
    assert reader.end(partial=False) == 0
    searched = []
    original = logs_module._rfind_line_end

    def search(file, start, end):
        searched.append((start, end))
        return original(file, start, end)

    monkeypatch.setattr(logs_module, "_rfind_line_end", search)
    path.write_bytes(b"one\ntw")
    reader.offset = reader.end(partial=False)
    assert reader.offset == 4
    with path.open("ab") as file:
        file.write(b"o")
    assert (reader.end(partial=False), reader.end(partial=True)) == (4, 7)
    with path.open("ab") as file:
        file.write(b"\nthree\nfo")
    assert [line.text for line in reader.lines(reader.end(partial=False))] == ["two", "three"]
    assert searched == [(0, 6), (6, 7), (7, 16)]


# -- merging ------------------------------------------------------------------------------------------


def test_merging_is_sorting_and_opens_nothing_before_its_time():
    draw = random.Random(4)
    opened, most = set(), 0

    def items(number, keys):
        nonlocal most
        opened.add(number)
        most = max(most, len(opened))
        yield from ((key, (key, number)) for key in keys)
        opened.discard(number)

    ranges = []
    for number in range(1000):
        start = number // 5 * 10.0
        keys = sorted(start + draw.random() * 10 for _ in range(draw.randrange(5)))
        ranges.append((start, keys))
    sources = [Source(start, lambda n=n, keys=keys: items(n, keys)) for n, (start, keys) in enumerate(ranges)]
    merged = list(merge(sources))
    assert merged == sorted((key, n) for n, (_, keys) in enumerate(ranges) for key in keys)
    assert most <= 20
    first = merge(sources)
    next(first)
    assert len(opened) <= 10


def test_a_clock_that_went_back_moves_nothing():
    assert list(ascending(iter([1.0, 3.0, 2.0, 4.0]), float)) == [(1.0, 1.0), (3.0, 3.0), (3.0, 2.0), (4.0, 4.0)]


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path, monkeypatch):
    found = make_scene(tmp_path, SMALL).path
    with Ledger(found / "ledger.db") as ledger:
        ledger._db.execute("UPDATE events SET at = at - 60")
        at = "(SELECT max(at) FROM events WHERE kind = 'claim' AND events.task = attempts.task)"
        ledger._db.execute(f"UPDATE attempts SET started = {at}")
    monkeypatch.setenv("OCAPTAIN_HOME", str(found.parent))
    return found


def logs_of(directory):
    return {log.label: log for log in Query(directory).logs()}


def write_log(log, pieces):
    """Write a log, with pieces that came so many seconds after its attempt began."""
    log.path.write_bytes(b"")
    for after, data in pieces:
        note_piece(log.path, log.path.stat().st_size, log.began + after, began=log.began, now=log.began + 10**6)
        with log.path.open("ab") as file:
            file.write(data)


def shown(capsys, choice=ALL):
    show_logs(VOYAGE, choice, follow=False)
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_lines_and_what_became_of_tasks_are_in_the_order_of_time(directory, capsys):
    lines = shown(capsys)
    assert {len(line) for line in lines} == {4}
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)
    of_two = [line[2:] for line in lines if line[2].split("#")[0] == "2"]
    assert of_two[0][0] == "2"
    assert of_two[0][1].startswith("● #2 begins on ship-")
    assert [line[0] for line in of_two[1:-1]] == ["2#1"] * 2
    assert of_two[-1][1].startswith("✗ task 2 failed for good on ship-")
    (landed,) = [line for line in lines if line[2] == "1" and "landed" in line[3]]
    assert landed[3].split()[:4] == ["✓", "#1", "landed", "0000001"]


def test_two_ships_that_print_at_the_same_time_take_turns(directory, capsys):
    running = [log for log in Query(directory).logs() if log.ended is None]
    base = max(log.began for log in running)
    for number, log in enumerate(running):
        write_log(log, [(base - log.began + n * 2 + number + 1, b"%d\n" % (n * 2 + number)) for n in range(10)])
    lines = [int(line[3]) for line in shown(capsys) if line[3].isdigit()]
    assert lines == list(range(20))
    assert {line[1] for line in shown(capsys) if line[3].isdigit()} == {"ship-0", "ship-1"}


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    "choice", [{}, {"names": ("1", "3")}, {"grep": "e"}, {"since": "110s"}, {"ships": ("ship-1",)}]
)
def test_the_last_lines_are_the_last_of_all(directory, capsys, choice, count):
    everything = shown(capsys, LogChoice(**choice))
    assert shown(capsys, LogChoice(**choice, tail=count)) == (everything[-count:] if count else [])
    assert everything


@pytest.mark.parametrize(
    ("choice", "tasks", "ships"),
    [
        (LogChoice(), {"1", "2", "3", "4", "5"}, {"ship-0", "ship-1"}),
        (LogChoice(names=("ship-0",)), None, {"ship-0"}),
        (LogChoice(names=("2", "3")), {"2", "3"}, None),
        (LogChoice(tasks=("2", "3")), {"2", "3"}, None),
        (LogChoice(ships=("ship-1",)), None, {"ship-1"}),
        (LogChoice(names=("ship-0", "ship-1"), tasks=("1",)), {"1"}, None),
    ],
)
def test_lines_of_some(directory, capsys, choice, tasks, ships):
    lines = shown(capsys, choice)
    assert lines
    assert tasks is None or {line[2].split("#")[0] for line in lines} == tasks
    assert ships is None or {line[1] for line in lines} == ships


def test_lines_since(directory, capsys):
    (log,) = [one for one in Query(directory).logs() if one.label == "5#1"]
    now = time.time()
    write_log(log, [(1.0, b"old\nhalf "), (now - log.began - 5, b"line\nnew\n"), (now - log.began - 1, b"newest\n")])
    assert [line[3] for line in shown(capsys, LogChoice(tasks=("5",), since="10s"))] == ["new", "newest"]
    assert [line[3] for line in shown(capsys, LogChoice(tasks=("5",), since="3s"))] == ["newest"]
    assert [line[3] for line in shown(capsys, LogChoice(tasks=("5",), since="10s", tail=9))] == ["new", "newest"]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (LogChoice(names=("ship-9",)), "no ship or task 'ship-9'; its ships are ship-0, ship-1"),
        (LogChoice(tasks=("ship-0",)), "no task 'ship-0'"),
        (LogChoice(ships=("1",)), "no ship '1'"),
        (LogChoice(grep="("), "is not a regular expression"),
        (LogChoice(since="soon"), "is no time; give 10m"),
        (LogChoice(names=("\x1b[2J",)), r"no ship or task .*x1b.2J"),
    ],
)
def test_what_there_is_not_is_refused(directory, choice, said):
    with pytest.raises(UsageError, match=said):
        show_logs(VOYAGE, choice, follow=False)


def test_a_pattern_that_would_never_end_is_given_up():
    pattern = TextPattern("(a+)+$")
    assert pattern.matches("aaa")
    began = time.process_time()
    with pytest.raises(UsageError, match="takes too long on a line"):
        pattern.matches("a" * 60 + "b")
    assert time.process_time() - began < 20
    assert not pattern.matches("b")


def test_hostile_text_is_one_clean_line(directory, capsys):
    (log,) = [one for one in Query(directory).logs() if one.label == "5#1"]
    hostile = b"\x1b]0;owned\x07\ttab \\n \xff\x00\n1%\r2%\r\n" + b"x" * (MAX_LINE * 3) + b"\nlast"
    write_log(log, [(1.0, hostile)])
    lines = [line[3] for line in shown(capsys, LogChoice(tasks=("5",))) if line[2] == "5#1"]
    assert lines[0] == r"\\x1b]0;owned\\x07\ttab \\n " + "�" + r"\\x00"
    assert lines[1] == "2%"
    assert lines[2].endswith(f" … [{MAX_LINE * 2} more bytes]")
    assert lines[3] == "last"


def test_the_final_verify_is_before_what_it_came_to(tmp_path, monkeypatch, capsys):
    directory = make_scene(tmp_path, Scene(tasks=3, ships=1, landed=3, failed={}, state="complete", layers=0)).path
    monkeypatch.setenv("OCAPTAIN_HOME", str(directory.parent))
    (directory / "logs/verify.log").write_text("looking\nfound\n")
    lines = shown(capsys)
    assert [line[2:] for line in lines[-3:-1]] == [["verify", "looking"], ["verify", "found"]]
    assert lines[-1][2:] == ["verify", "✓ final verify: passed at cccccccccc"]
    assert not [line for line in shown(capsys, LogChoice(names=("ship-0",))) if line[2] == "verify"]


def test_a_ship_has_one_colour_and_it_is_never_that_of_failures():
    assert [ship_colour(f"ship-{n}") for n in range(8)] == list(SHIP_COLOURS)
    assert ship_colour("ship-8") == ship_colour("ship-0")
    assert not [one for one in SHIP_COLOURS if "red" in one]
    assert ship_colour(None) == ship_colour(VERIFY_SHIP)


# -- as a process -------------------------------------------------------------------------------------


def environment(**more):
    return {**os.environ, **more}


def follow(*words):
    argv = [str(OCAPTAIN), "logs", "-f", *words]
    return subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_followed_while_lines_grow_until_the_voyage_ends(directory):
    log = logs_of(directory)["5#1"]
    log.path.write_bytes(b"begun\n")
    with follow("-t", "5", "-n", "1") as process:
        assert process.stdout.readline().split("\t")[3] == "begun\n"
        with log.path.open("ab", buffering=0) as file:
            file.write(b"ha")
            time.sleep(0.5)
            file.write(b"lf\nno end")
            assert process.stdout.readline().split("\t")[2:] == ["5#1", "half\n"]
        with Ledger(directory / "ledger.db") as ledger:
            ledger.take_command()
            token = next(one["token"] for one in ledger.brief_attempts() if one["task"] == "5")
            ledger.begin_landing(token, "refs/heads/x", "0" * 40, "abcdef1" + "0" * 33, {})
            ledger.finish_landing(token)
            ledger.set_state("sunk")
        rest = [line.split("\t")[2:] for line in process.stdout]
        assert process.wait(240) == 0
    texts = [line[1] for line in rest]
    assert texts[0] == "no end\n"
    assert texts[1].startswith("✓ #5 landed abcdef1 ship-")
    assert len(rest) == 2


def test_a_reader_that_goes_away_ends_it_though_nobody_prints(directory):
    with follow() as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(240) == 141
        assert process.stderr.read() == ""


def test_on_a_terminal_each_line_has_its_time_and_its_ship_s_colour(directory):
    log = logs_of(directory)["5#1"]
    log.path.write_bytes("\ta tab, and 界\n".encode())
    leader, follower = pty.openpty()
    argv = [str(OCAPTAIN), "logs", "-t", "5"]
    env = environment(TERM="xterm")
    env.pop("NO_COLOR", None)
    done = subprocess.run(argv, env=env, stdout=follower, stderr=subprocess.DEVNULL, check=False, timeout=240)
    os.close(follower)
    lines = wait_for(lambda: os.read(leader, 65536).decode()).splitlines()
    os.close(leader)
    assert done.returncode == 0
    assert f"{log.ship} 5#1\x1b[0m |         a tab, and 界" in lines[1]
    assert time.strftime("%H:%M:%S", time.localtime(log.began)) in lines[1]
    assert "●" in lines[0]


LAST_OF_MUCH = """
import resource, sys
from ocaptain.cli import main
sys.argv[1:] = ["logs", "voyage-0123456789ab", *sys.argv[1:]]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    main()
except SystemExit:
    pass
sys.stderr.write(f"KiB {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before} ")
sys.stderr.write(f"read {[l for l in open('/proc/self/io') if l.startswith('rchar')][0].split()[1]}\\n")
"""


@pytest.mark.parametrize("end", [b"\nlast\n", b"\nlast"])
def test_the_last_lines_of_a_huge_log_are_read_from_its_end(directory, end):
    log = logs_of(directory)["5#1"]
    size = 500 * 1024 * 1024
    with log.path.open("wb") as file:  # a hole: it takes no room
        file.seek(size)
        file.write(b"\n" + b"\n".join(b"line %d" % n for n in range(150)) + end)
    argv = [sys.executable, "-c", LAST_OF_MUCH, "-n", "20", "-t", "5"]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=False, timeout=240)
    lines = [line.split("\t")[3] for line in done.stdout.splitlines()]
    assert len(lines) == 20
    assert "last" in lines
    figures = done.stderr.split("KiB ")[1].split()
    assert int(figures[2]) < 60 * 1024 * 1024, "bytes read, Python's own modules included"
    assert int(figures[0]) < 100 * 1024, "KiB of memory"


def test_a_thousand_attempts_need_no_thousand_files(tmp_path):
    scene = Scene(tasks=1000, ships=4, landed=1000, failed={}, retrying={}, layers=0, state="complete")
    directory = make_scene(tmp_path, scene).path
    argv = [str(OCAPTAIN), "logs"]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done = subprocess.run(
        argv,
        env=environment(OCAPTAIN_HOME=str(directory.parent)),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 64), hard)),
    )
    assert done.returncode == 0, done.stderr
    assert sum("first line of task" in line for line in done.stdout.splitlines()) == 1000
    assert Path(directory / "logs").is_dir()
