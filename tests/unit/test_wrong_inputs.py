"""Wrong inputs: each is refused with what is wrong, where, and what to do; a row each.

They run by the command's own script, in copies of one process that has loaded it: to start Python for each would
take minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from ocaptain.ledger import Ledger
from tests.helpers import CLEARED, OCAPTAIN, as_documented, run_task, write_plan
from tests.scenes import Scene, make_scene

SAILS, ENDED = "voyage-0123456789ab", "voyage-0123000000ff"
BROKEN = "voyage-beef00000000"
MAX_LINES, LONG = 24, "x" * 5000


@dataclass(frozen=True)
class Row:
    """A wrong input.

    Attributes:
        line: the words after ``ocaptain``.
        said: what the message must contain.
        code: of the exit.
        env: variables beside the usual ones.
    """

    line: tuple[str, ...]
    said: tuple[str, ...]
    code: int = 2
    env: dict[str, str | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        shown = " ".join((word if len(word) < 30 else f"{word[:20]}…") or "''" for word in self.line)
        return ascii(f"{shown} {self.env or ''}".strip())


def row(line, *said, code=2, words=(), **env):
    """Return a row: a line split at spaces, and words that are not to be split."""
    return Row((*line.split(), *words), said, code, env)


ROWS = [
    # commands
    row("statuss", "No such command 'statuss'", "did you mean 'status'", "ocaptain --help"),
    row("drydock foo", "No such command 'foo'", "ocaptain drydock --help"),
    row("help no-such", "No such command 'no-such'"),
    row("telemetry export voyage-1 --receiver", "leave out --receiver or the voyage"),
    row("telemetry export --format xml", "'xml' is not"),
    row("attach ship-0", "there is no command 'attach'", "ocaptain shell"),
    row("", "No such command", words=[LONG]),
    row("", "No such command '\\x1b]0;x\\x07'", words=["\x1b]0;x\x07"]),
    row("", "No such command '\\udcff\\udcfe'", words=["\udcff\udcfe"]),
    row("", "No such command ''", words=[""]),
    row("--bogus", "No such option: --bogus", "ocaptain --help"),
    row("--json status", "--json comes after the command: `ocaptain status --json`"),
    row("--install-completion tcsh", "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    row("--install-completion zsh", "there is no home directory", "--show-completion zsh", HOME="/proc/nowhere"),
    row("--install-completion fish", "cannot be written", "--show-completion fish", code=1, XDG_CONFIG_HOME="file"),
    # options
    row("status --jsno", "No such option: --jsno", "did you mean --json?", "ocaptain status --help"),
    row("status --json=yes", "Option '--json' does not take a value", "ocaptain status --help"),
    row("cost --by", "Option '--by' requires an argument", "ocaptain cost --help"),
    row("cost --by moon", "'moon' is not one of 'ship', 'task', 'model'", "ocaptain cost --help"),
    row("tasks -s", "'' is not one of 'pending'", words=[""]),
    row("tasks -s done", "'done' is not one of 'pending', 'in_progress', 'completed', 'failed'"),
    row("tasks -s failed -s pending", "--status is given 2 times ('failed' and 'pending'); give it once"),
    row("sail plan -n 3 --ships=4", "--ships is given 2 times ('3' and '4'); give it once"),
    row("doctor --provider aws", "'aws' is not one of 'sprites', 'drydock'"),
    row("sweep --provider moon", "'moon' is not one of 'sprites', 'drydock'"),
    row("drydock start --network moon", "'moon' is not one of 'proxy', 'isolated', 'host'"),
    row("drydock start --allow-host http://a/", "--allow-host 'http://a/' is not NAME, NAME:PORT or an address"),
    row("drydock start --allow-host 127.0.0.1", "use --allow-host-port PORT"),
    row("drydock start --allow-host-port 13128", "this port of a ship is the proxy's"),
    row("drydock start --network host --allow-host a", "leave out --network host"),
    row("ls extra", "too many arguments: extra", "ocaptain ls --help"),
    row("status a b", "too many arguments: b", "ocaptain status --help"),
    # voyages
    row("status nope", "there is no voyage 'nope' in", "voyages"),
    row("status voyage-0123", "'voyage-0123' matches several voyages, give more of the id", SAILS, ENDED),
    row("status", "the voyage id is empty; give an id, or leave it out", words=[""]),
    row("status -- --json", "there is no voyage '--json'"),
    row("status", "there is no voyage 'a b'", words=["a\nb"]),
    row("status", "there is no voyage '\\x1b[31m'", words=["\x1b[31m"]),
    row("status", "there is no voyage '\\xff'", words=["\udcff"]),
    row("status", "there is no voyage 'xxxx", "…'", words=[LONG]),
    *(
        row(f"plan {verb}", "cannot be read: File name too long", words=["x" * 300])
        for verb in ("check", "show", "graph")
    ),
    row("sail", "cannot be read: File name too long", words=["x" * 300]),
    row("status", "there is no voyage '../../etc'", words=["../../etc"]),
    row(f"status {BROKEN}", BROKEN, "ledger.db", code=1),
    row("pause nope", "there is no voyage 'nope'"),
    row("sink nope", "there is no voyage 'nope'"),
    row("sink --all x", "give either a voyage's id or --all"),
    row(f"sink {SAILS}", "nobody can confirm without a terminal", "nothing was done", f"ocaptain sink {SAILS} --force"),
    row("sail --resume nope", "there is no voyage 'nope'"),
    row("sail --resume", "the voyage id is empty", words=[""]),
    row("status", "there is no active voyage in", "ocaptain sail PLAN", OCAPTAIN_HOME="empty"),
    # ships and tasks
    row(f"logs {SAILS} ship-99", "has no ship or task 'ship-99'", "its ships are ship-0, ship-1"),
    row(f"logs {SAILS}", "an argument is empty", words=[""]),
    row(f"logs {SAILS} -n x", "'--tail': must be a whole number", "ocaptain logs --help"),
    row(f"logs {SAILS} -n -1", "'--tail': must be 0 or more"),
    row(f"logs {SAILS} -n 99999999999999999999", "'--tail': must be 1000000000 or less"),
    row(f"logs {SAILS} -g [", "--grep '[' is not a regular expression: unterminated character set"),
    row("why", "Missing argument '[ID] TASK'", "ocaptain why --help"),
    row(f"why {SAILS}", "name one task: ocaptain why [ID] TASK"),
    row(f"why {SAILS} 1 2", "name one task"),
    row(f"why {SAILS} 999", f"{SAILS} has no task '999'; see: ocaptain tasks {SAILS}"),
    row(f"retry {SAILS} 999", f"{SAILS} has no task 999"),
    row(f"retry {SAILS} 2 --agent-cmd", "--agent-cmd is empty; give it a value, or leave it out", words=[""]),
    row(f"retry {SAILS} 2 --task-file nope.json", "nope.json: is missing"),
    row(f"retry {SAILS} 2 --task-file empty", "empty: cannot be read: Is a directory"),
    row("approve", "Missing argument '[ID] TASK...'", "ocaptain approve --help"),
    row(f"approve {SAILS} 999", f"{SAILS} has no task 999"),
    row("shell a b", "name one ship, not 2 ('a', 'b')"),
    row(f"shell {SAILS} ship-77", f"{SAILS} has no ship 'ship-77'; it has ship-0, ship-1"),
    row(f"shell {SAILS} ship-0", "attaching needs a terminal; --raw also takes commands"),
    row("proxy", "Missing argument '[ID] SHIP PORT'"),
    row("proxy ship-0 ssh", "'ssh' is not a TCP port; give one from 1 to 65535"),
    row("proxy ship-0 99999", "'99999' is not a TCP port"),
    row("sweep --dry-run", "OCAPTAIN_MUTAGEN: must be 'auto' or 'off'", OCAPTAIN_MUTAGEN="on"),
    row("open", "Missing argument '[ID] SHIP PORT'"),
    row("open ship-0 http", "'http' is not a TCP port; give one from 1 to 65535"),
    row("open ship-0 0", "'0' is not a TCP port"),
    row(f"open {SAILS} ship-99 80", "has no ship 'ship-99'; it has ship-0, ship-1"),
    row(f"open {SAILS} ship-0 ship-1 80", "name one ship, not 2"),
    row("open nope 80", "has no ship 'nope'"),
    row(f"clone {SAILS} -d file", "file exists and is not an empty directory", "--dest"),
    row(f"clone {SAILS} -d /proc/nowhere/x", "/proc/nowhere is not a directory", "--dest"),
    row(f"clone {SAILS} -d", "a path is empty; give one", words=[""]),
    # plans
    row("plan check", "Missing argument", "ocaptain plan check --help"),
    row("plan check nope", "nope: does not exist; name a plan's directory"),
    row("plan check file", "file: is not a directory; name a plan's directory"),
    row("plan check", "a path is empty; give one, or `.`", words=[""]),
    row("plan check empty", "spec.md: is missing", "verify.sh: is missing", "tasks: is missing"),
    row("plan check not-json", "tasks/1.json: line 2: is not valid JSON"),
    row("plan check binary", "spec.md: is not valid UTF-8"),
    row("plan check directory", "voyage.json: cannot be read: Is a directory"),
    row("plan check", "does not exist", words=["\udcff\n\x1b[1m"]),
    row("sail nope", "nope", "does not exist; name a plan's directory"),
    row("sail file", "is not a directory; name a plan's directory"),
    row("sail", "a path is empty; give one", words=[""]),
    row("sail plan -n 0", "'--ships': must be 1 or more", "ocaptain sail --help"),
    row("sail plan -n many", "'--ships': must be a whole number"),
    row("sail plan --hosts nope.yml:web", "the inventory", "nope.yml does not exist", "INVENTORY[:GROUP]"),
    row("sail plan --verify-on moon", "'moon' is not one of 'clean', 'any'"),
    row("sail plan --max-turns 0", "'--max-turns': must be 1 or more"),
    row("sail", "give a plan's directory, tasks (--task TEXT), or --resume ID"),
    row(f"sail plan --resume {SAILS}", "give a plan's directory, tasks (--task TEXT), or --resume ID"),
    row("plan simulate plan -n 9..1", "-n 9..1: give a number of ships or a range, from 1 to 500"),
    row("plan simulate plan --seconds nan", "'--seconds': must be"),
    row("plan simulate plan --overhead -1", "'--overhead': must be 0 or more"),
    # drydock
    row("drydock start --idle soon", "not a duration (30s, 1m30s, 250ms): 'soon'", "ocaptain drydock start --help"),
    row("drydock start --port 70000", "'--port': must be 65535 or less"),
    row("drydock start --faults nope.json", "the fault plan nope.json cannot be read: No such file or directory"),
    row("drydock start --faults file", "file is not a fault plan (docs/faults.md)", "correct it"),
    row("drydock start --layer nope", "--layer", "must be an absolute path with a directory usr, etc, var or opt"),
    # configuration
    row("sweep --dry-run", "OCAPTAIN_DEFAULT_SHIPS: must be a whole number", ".env", OCAPTAIN_DEFAULT_SHIPS="many"),
    row("sweep --dry-run", "OCAPTAIN_DEFAULT_SHIPS: must be 500 or less", OCAPTAIN_DEFAULT_SHIPS="501"),
    row("sweep --dry-run", "OCAPTAIN_PROVIDER: must be 'sprites' or 'drydock'", OCAPTAIN_PROVIDER="moon"),
    row("sweep --dry-run", "SPRITES_API_URL", "an example is https://", SPRITES_API_URL="moon"),
    row("sweep --dry-run", "SPRITES_TOKEN: the token contains spaces or invalid characters", SPRITES_TOKEN="a b\n"),
    row("ls", "OCAPTAIN_HOME is ~no-such-user/x, but there is no such user", OCAPTAIN_HOME="~no-such-user/x"),
    row("ls", "OCAPTAIN_HOME is a path of", "choose a shorter one", OCAPTAIN_HOME="x" * 3000),
    row("ls", "a .env file cannot be read", ".config/ocaptain/.env", HOME="bad-home"),
    row(f"cost {SAILS}", "prices.toml", OCAPTAIN_PRICES="prices.toml"),
    row(f"cost {SAILS}", "nope.toml", OCAPTAIN_PRICES="nope.toml"),
    row("ls nope", "too many arguments: nope", HOME=None),
    row("status nope", "there is no voyage 'nope' in", HOME=None, OCAPTAIN_HOME=None),
]

#: Runs each case in a copy of this process, by the command's own script.
DRIVER = """
import json, os, runpy, sys
from ocaptain.cli import app, control, cost, drydock, logs, plan, render, sail, shell, sink, views, why
import ocaptain.voyage.prepare, ocaptain.voyage.request, ocaptain.agents, ocaptain.prices
for command, words in ((app.status, ["x"]), (app.cost, ["--by", "x"])):  # what checks options is loaded late
    try:
        app.app([command.__name__, *words], standalone_mode=False)
    except Exception:
        pass
script, place = sys.argv[1:]
for number, case in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if child == 0:
        code = 99
        try:
            for fd, name in ((0, os.devnull), (1, f"{place}/{number}.out"), (2, f"{place}/{number}.err")):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), fd)
            for name, value in case["env"].items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
            sys.argv[:] = [script, *case["line"]]
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 98
        finally:
            sys.stdout.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Seen:
    """What a line did."""

    code: int
    out: str
    err: str


def with_json(line):
    """Return a line that asks for JSON as well; None if it has an own end of options."""
    return None if "--" in line or not line else (*line, "--json")


def make_files(home):
    """Make what the rows name."""
    make_scene(home, Scene(tasks=4, ships=2, landed=2, failed={"2": "exit 3"}, retrying={}, layers=0), SAILS)
    ended = make_scene(home, Scene(tasks=2, ships=1, landed=0, failed={}, retrying={}, layers=0), ENDED)
    with Ledger(ended.path / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("sunk")
    (home / "voyages" / BROKEN).mkdir()
    (home / "voyages" / BROKEN / "ledger.db").write_text("no ledger")
    (home / "file").write_text("x")
    (home / "empty").mkdir()
    (home / "prices.toml").write_text("not toml [")
    (home / "bad-home/.config/ocaptain").mkdir(parents=True)
    (home / "bad-home/.config/ocaptain/.env").write_bytes(b"A=\xff\xfe\n")
    for name in ("plan", "not-json", "binary", "directory"):
        write_plan(home / name, [run_task("true")])
    (home / "not-json/tasks/1.json").write_text("{\n")
    (home / "binary/spec.md").write_bytes(b"\xff\xfe\x00")
    (home / "directory/voyage.json").unlink()
    (home / "directory/voyage.json").mkdir()


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What every row did, and did with ``--json``."""
    home = tmp_path_factory.mktemp("wrong")
    make_files(home)
    place = tmp_path_factory.mktemp("said")
    kept = {name: value for name, value in os.environ.items() if not name.startswith((*CLEARED, "COLUMNS", "XDG_"))}
    env = {**kept, "HOME": str(home), "OCAPTAIN_HOME": str(home / "voyages"), "COLUMNS": "80", "TERM": "dumb"}
    env |= {"XDG_STATE_HOME": str(home / "state"), "XDG_CACHE_HOME": str(home / "cache")}
    lines = [line for one in ROWS for line in (one.line, with_json(one.line) or one.line)]
    cases = [{"line": line, "env": ROWS[number // 2].env} for number, line in enumerate(lines)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, OCAPTAIN, place],
        input=json.dumps(cases),
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    codes = [int(line) for line in done.stdout.split()]
    texts = [[(place / f"{number}.{end}").read_text("utf-8") for end in ("out", "err")] for number in range(len(codes))]
    return [Seen(code, *text) for code, text in zip(codes, texts, strict=True)]


def test_there_are_many():
    """And none stands there twice."""
    assert len(ROWS) >= 60
    assert len({one.name for one in ROWS}) == len(ROWS)


def test_each_wrong_input_is_refused(seen):
    """All in one test: side by side, each process of the suite would run all lines."""
    faults = {}
    for number, asked in enumerate(ROWS):
        try:
            check(asked, seen[2 * number], seen[2 * number + 1])
        except AssertionError as error:
            faults[asked.name] = str(error)
    assert faults == {}


def check(asked, plain, as_json):
    assert (plain.code, plain.out == "") == (asked.code, asked.line[0] != "--json"), plain
    for words in asked.said:
        assert words in plain.err
    lines = plain.err.splitlines()
    assert 1 <= sum(-(-len(line) // 80) or 1 for line in lines) <= MAX_LINES
    for fault in ("Traceback", "internal error", "Errno", "\x1b", "Value error"):
        assert fault not in plain.err
    if with_json(asked.line) and "--json" not in as_json.err:  # else the command has no such option
        told = as_documented(as_json.out)
        assert as_json.code == asked.code
        if told["kind"] == "error":  # a plan's faults are the result of its check
            assert told["exit_code"] == asked.code
            assert told["message"].splitlines()[0] in as_json.err
        else:
            assert asked.line[:2] == ("plan", "check")
