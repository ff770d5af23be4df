"""What the command line prints, whatever its streams and its terminal are."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios

import pytest
from rich.cells import cell_len

from ocaptain.cli.streams import MIN_WIDTH, SYMBOLS, correct_environment, prepare_streams
from ocaptain.ledger import Ledger
from ocaptain.query import Query
from tests.helpers import CLEARED, OCAPTAIN, as_documented, new_voyage

VOYAGE = "voyage-0123456789ab"
TASKS = 12
SUBJECT = (
    "修复登录页面 Réécrire l'exposé \x1b]0;title\x07 of a page that has a long name, and that is to be read in full"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a voyage whose subjects are long and hostile."""
    home = tmp_path_factory.mktemp("home")
    directory = home / "voyages" / VOYAGE
    (directory / "logs/ship-0").mkdir(parents=True)
    rows = [
        {
            "id": f"task-with-a-long-id-{n}",
            "position": n,
            "subject": SUBJECT,
            "raw": "{}",
            "agent": "command",
            "pin": None,
            "priority": 0,
            "status": "pending",
        }
        for n in range(TASKS)
    ]
    new = new_voyage(
        id=VOYAGE,
        name="a\x1b]52;c;eA==\x07plan",
        tasks=rows,
        edges={row["id"]: frozenset() for row in rows},
        ships=[("ship-0", f"{VOYAGE}-ship-0")],
    )
    Ledger.create(directory / "ledger.db", new)
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        claim = ledger.claim("ship-0")
        ledger.record_start(claim.token, "0" * 40)
        ledger.fail(claim.token, "exit code 7 \x1b[31m " + "and more " * 40)
        ledger.set_ship("ship-0", "lost", "no \x9b31mpower " * 20)
    (directory / f"logs/ship-0/{rows[0]['id']}.1.log").write_text("said → \x1b]52;c;eA==\x07\n" * 4000)
    return home


def environment(home, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*CLEARED, "COLUMNS", "TERM"))}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **more}


def sh(home, line, **more):
    """Run a shell line in which ``O`` is the command; return what it said, with the code of the command in ``rc``."""
    env = {**environment(home, **more), "O": str(OCAPTAIN), "V": VOYAGE}
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL)


#: Several commands in one process: to start it takes longer than any of them.
SEVERAL = """
import sys
from ocaptain.cli import main
for words in ("tasks", "status", "cost --by=task", "logs -n1"):
    sys.argv[1:] = [*words.split(), sys.argv[1]]
    code = None
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    assert not code, (words, code)
    sys.argv[1:] = sys.argv[-1:]
"""


@pytest.mark.parametrize(
    "more",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252", "COLUMNS": "1"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"COLUMNS": "0", "LINES": "0"},
        {"COLUMNS": "10", "TERM": "dumb"},
        {"COLUMNS": "10000", "NO_COLOR": "1"},
        {"COLUMNS": "²", "LINES": "x"},
    ],
    ids=lambda more: " ".join(f"{name}={value}" for name, value in more.items()),
)
def test_what_is_piped_is_a_line_a_record_in_any_environment(home, more):
    done = sh(home, f"{sys.executable} -c '{SEVERAL}' $V", **more)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(b"next: ocaptain ") for line in done.stderr.splitlines())
    assert b"\x1b" not in done.stdout
    lines = done.stdout.decode(more.get("PYTHONIOENCODING", "utf-8")).splitlines()
    tasks = lines[:TASKS]
    fields = [line.split("\t") for line in tasks]
    assert [one[0] for one in fields] == [f"task-with-a-long-id-{n}" for n in range(TASKS)]
    assert {len(one) for one in fields} == {9}
    assert all(one[7].endswith("to be read in full") for one in fields)
    assert fields[0][8] == r"exit code 7 \x1b[31m " + "and more " * 40
    assert lines[TASKS] == f"voyage\t{VOYAGE}"


OUTPUTS = [
    ('"$O" --help >/dev/full', 1, r"standard output cannot be written: No space left on device; send it elsewhere\n"),
    ('"$O" logs "$V" >&-', 0, r"next: ocaptain [^\n]+\n"),
    ('"$O" logs "$V" 2>&-', 0, ""),
    ('"$O" logs "$V" 2>/dev/full', 0, ""),
    ('"$O" logs "$V" <&- >&- 2>&-', 0, ""),
    ('( "$O" logs "$V"; echo $? >rc ) | true; exit $(cat rc)', 141, ""),
]


@pytest.mark.parametrize(("line", "code", "said"), OUTPUTS)
def test_an_output_that_takes_nothing_is_no_crash(home, tmp_path, line, code, said):
    done = sh(home, f"cd {tmp_path}; {line}")
    assert (done.returncode, bool(re.fullmatch(said, done.stderr.decode()))) == (code, True), done


def test_an_error_keeps_its_code_where_it_cannot_be_shown(home):
    assert sh(home, '"$O" status nope --json 2>&- >/dev/full').returncode == 2


def on_terminal(home, *arguments, cols, key="", **more):
    """Run a command on a terminal of some width, answer its question; return its exit code and what was seen.

    The key is pressed again after a second without an answer, as a person does: Python does not see a Ctrl-C that
    comes after it has asked and before it reads.
    """
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, cols, 0, 0))
    running = subprocess.Popen(
        [OCAPTAIN, *arguments],
        env=environment(home, **more),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(follower, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - there is one thread
    )
    os.close(follower)
    seen = b""
    with running, contextlib.suppress(OSError):  # Linux says so where the other side was closed
        presses = 0
        while True:
            answers = select.select([leader], [], [], 1)[0]
            if answers:
                seen += os.read(leader, 65536)
            if key and b"[y/N]: " in seen and not (presses and answers):
                os.write(leader, key.encode())
                presses += 1
    os.close(leader)
    return running.returncode, seen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("cols", [0, 1, 60, 80])
def test_a_terminal_of_any_width_shows_whole_ids(home, cols):
    code, seen = on_terminal(home, "tasks", VOYAGE, cols=cols, TERM="xterm")
    assert code == 0
    for n in range(TASKS):
        assert f"task-with-a-long-id-{n} " in seen
    if cols in {0, 80}:
        assert max(cell_len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in seen.splitlines()[:-1]) <= 80


@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "xterm"}, {}])
def test_a_terminal_without_colours_gets_none(home, more):
    code, seen = on_terminal(home, "status", VOYAGE, cols=80, **more)
    assert (code, "\x1b[3" in seen, "0/12 landed" in seen) == (0, False, True)


def test_red_is_for_failure_alone(home):
    _, seen = on_terminal(home, "status", VOYAGE, cols=80, TERM="xterm")
    red = re.findall(r"\x1b\[(?:[0-9;]*;)?(?:31|91)m([^\x1b]*)", seen)
    assert red[0] == "✗ lost"
    assert set("".join(red[1:])) <= set("no \\x9b31mpower…")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("0", None), ("1", str(MIN_WIDTH)), ("19", "20"), ("20", "20"), ("10000", "10000"), ("999999", None)]
    + [(text, None) for text in ("", "-1", "x", "²", "1e3", " 80")],
)
def test_a_width_that_is_none(given, kept):
    found = {"COLUMNS": given, "OTHER": "0"}
    correct_environment(found)
    assert found == {**({"COLUMNS": kept} if kept else {}), "OTHER": "0", "TERM": "dumb"}


def test_our_symbols_have_one_column_in_any_encoding(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):  # as they were, after this test
        monkeypatch.setattr(f"sys.{name}", None)
    prepare_streams()
    for encoding in ("ascii", "latin-1", "cp1252"):
        for symbol in SYMBOLS:
            assert len(symbol.encode(encoding, "ocaptain-symbols")) == 1
        assert "é修".encode(encoding, "ocaptain-symbols").endswith(b"\\u4fee")


# -- sink asks ------------------------------------------------------------------------------------


def test_sink_asks_and_without_a_terminal_does_nothing(home):
    said = sh(home, '"$O" sink "$V" --json')
    told = as_documented(said.stdout.decode())
    assert (said.returncode, told["exit_code"], told["remedy"].endswith(f"ocaptain sink {VOYAGE} --force")) == (
        2,
        2,
        True,
    )
    assert b"nothing was done" in said.stderr
    for key, code, answer in (
        ("\x03", 130, "interrupted"),
        ("\x04", 130, "the input ended"),
        ("n\n", 1, "you answered no"),
    ):
        done, seen = on_terminal(home, "sink", VOYAGE, cols=80, key=key)
        assert (done, f"\n{answer}" in seen) == (code, True), seen
    assert Query(home / "voyages" / VOYAGE).state() == "preparing"


# -- Ctrl-C, again and again -----------------------------------------------------------------------


def hammer(home, *arguments, until):
    """Run a command on a terminal, and send it interrupts without a pause once it has shown something."""
    leader, follower = pty.openpty()
    running = subprocess.Popen(
        [OCAPTAIN, *arguments],
        env=environment(home),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(follower, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - there is one thread
    )
    os.close(follower)
    seen, sent = b"", 0
    with running, contextlib.suppress(OSError):
        while True:
            if until in seen:
                running.send_signal(signal.SIGINT)
                sent += 1
            if select.select([leader], [], [], 0.002)[0]:
                chunk = os.read(leader, 65536)
                if not chunk:
                    break
                seen += chunk
            elif running.poll() is not None:
                break
    os.close(leader)
    return running.returncode, seen.decode().replace("\r\n", "\n"), sent


@pytest.mark.parametrize(
    ("arguments", "until"), [(("sink", VOYAGE), b"[y/N]: "), (("logs", VOYAGE, "-f"), b"said"), (("ls",), b"ID")]
)
def test_who_hammers_on_ctrl_c_interrupts_once(home, arguments, until):
    """Also while Python itself ends, where an interrupt has it print complaints of its own."""
    sent = 0
    while sent < 2:  # it may have ended after the first, on a busy machine
        code, seen, sent = hammer(home, *arguments, until=until)
        assert code in ({0, 130} if arguments == ("ls",) else {130}), seen
        for one in ("Error in sys.excepthook", "lost sys.stderr", "Traceback", "Exception ignored", "internal error"):
            assert one not in seen
        assert seen.count("interrupted") == (arguments[0] == "sink")
        if arguments == ("ls",):
            break
