"""The command line's grammar, its JSON, and where it gets what it shows."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from ocaptain import process
from ocaptain.ansible.runner import RunResult
from ocaptain.ansible.voyage import _not_sunk_error
from ocaptain.cli import progress, render, sweep
from ocaptain.cli.arguments import PositionalArguments, optional_name, parse_port, parse_positional
from ocaptain.cli.control import RetryArguments, run_approve, run_retry
from ocaptain.cli.cost import show_cost
from ocaptain.cli.sail import _final_error
from ocaptain.cli.views import show_status, show_tasks
from ocaptain.cli.voyage_news import SHOWN_EVENTS, format_event, merge_ship_events
from ocaptain.cli.why import show_why
from ocaptain.errors import BY_EXIT_CODE, OcaptainError, PartialError, UsageError
from ocaptain.ledger import Ledger
from ocaptain.query import Event, Query
from ocaptain.voyage.home import VoyageDirectory
from ocaptain.voyage.listing import describe, read_rows
from tests.helpers import OCAPTAIN, REPO, as_documented, new_voyage, run_task, write_plan

VOYAGE = "voyage-0123456789ab"


# -- grammar ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ([], PositionalArguments(None)),
        (["voyage-4f59"], PositionalArguments("voyage-4f59")),
        (["voyage-4f59", "ship-0"], PositionalArguments("voyage-4f59", ("ship-0",))),
        (["ship-0"], PositionalArguments(None, ("ship-0",))),
        (["4f59"], PositionalArguments(None, ("4f59",))),  # a task may be called so
        (["3", "voyage-4f59"], PositionalArguments(None, ("3", "voyage-4f59"))),
        ([f"{VOYAGE}-ship-12", "3"], PositionalArguments(VOYAGE, ("ship-12", "3"))),
        ([f"{VOYAGE}-ship-01"], PositionalArguments(f"{VOYAGE}-ship-01")),
    ],
)
def test_words_after_a_verb(words, meant):
    assert parse_positional(words) == meant


@pytest.mark.parametrize("words", [[""], ["", "ship-0"], ["voyage-4f59", ""]])
def test_an_empty_word_means_nothing(words):
    with pytest.raises(UsageError, match="an argument is empty; leave it out"):
        parse_positional(words)


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "check", "~no-such-user/p"),
        ("plan", "simulate", "~no-such-user/p"),
        ("sail", "~no-such-user/p"),
        ("sail", "PLAN", "--repo", "~no-such-user/p"),
        ("sail", "PLAN", "--hosts", "~no-such-user/p"),
        ("ls",),
    ],
)
def test_the_home_of_a_user_who_does_not_exist_is_no_internal_error(words, tmp_path):
    words = [str(write_plan(tmp_path / "plan", [run_task("true")])) if word == "PLAN" else word for word in words]
    home = "~no-such-user/v" if words == ["ls"] else str(tmp_path)
    done = subprocess.run(
        [OCAPTAIN, *words], capture_output=True, text=True, check=False, env={**os.environ, "OCAPTAIN_HOME": home}
    )
    assert (done.returncode, "internal error" in done.stderr) == (2, False), done.stderr
    assert "no-such-user" in done.stderr


def test_one_name_is_one():
    assert (optional_name([], "ship"), optional_name(["a"], "ship")) == (None, "a")
    with pytest.raises(UsageError, match="name one ship, not 2"):
        optional_name(["a", "b"], "ship")


@pytest.mark.parametrize("text", ["0", "65536", "x", "", "-1", "٣", "1" * 5000])
def test_a_port_that_is_none(text):
    assert parse_port("22") == 22
    with pytest.raises(UsageError, match="is not a TCP port"):
        parse_port(text)


# -- JSON ------------------------------------------------------------------------------------


def printed_kinds() -> set[str]:
    """Return every kind that the command line's source prints."""
    found = set()
    for file in (REPO / "ocaptain/cli").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("print_json"):
                assert isinstance(node.args[0], ast.Constant), f"{file.name}: a kind that only running it tells"
                found.add(node.args[0].value)
    return found


def test_each_kind_has_a_schema_and_each_schema_a_kind():
    schemas = {file.stem: json.loads(file.read_text()) for file in (REPO / "docs/json").glob("*.json")}
    del schemas["events"]  # it is of lines, and `kind` is the event's; test_events.py has it
    assert printed_kinds() == set(schemas)
    for kind, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"]["kind"] == {"const": kind}
        assert schema["properties"]["schema"] == {"const": render.SCHEMA}
        assert {"schema", "kind"} <= set(schema["required"])


@pytest.fixture
def voyage(tmp_path, monkeypatch):
    """The directory of a voyage that has done a bit of everything."""
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path))
    monkeypatch.setattr(render, "_json_printed", False)
    directory = tmp_path / VOYAGE
    (directory / "logs/ship-0").mkdir(parents=True)
    rows = [
        {
            "id": name,
            "position": n,
            "subject": f"Task {name} \x1b[1m",
            "raw": '{"metadata": {"hold": true}}' if name == "3" else "{}",
            "agent": "command",
            "pin": None,
            "approved": int(name != "3"),
            "priority": 0,
            "status": "pending",
        }
        for n, name in enumerate(("1", "2", "3"))
    ]
    new = new_voyage(
        id=VOYAGE,
        tasks=rows,
        edges={"1": frozenset(), "2": frozenset(), "3": frozenset({"2"})},
        ships=[("ship-0", f"{VOYAGE}-ship-0"), ("ship-1", f"{VOYAGE}-ship-1")],
    )
    Ledger.create(directory / "ledger.db", new)
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("running")
        ledger.set_ship("ship-1", "failed", "no power")
        for name, code in (("1", 0), ("2", 7)):
            claim = ledger.claim("ship-0")
            assert claim.task == name
            (directory / f"logs/ship-0/{name}.1.log").write_text(f"hello from {name}\n")
            ledger.record_start(claim.token, "0" * 40)
            ledger.record_offer(claim.token, work="1" * 40, code=code, seconds=1.5)
            if code:
                ledger.fail(claim.token, "exit code 7")
                continue
            check = {"command": "true", "ok": True, "exit_code": 0, "seconds": 0.1, "tail": ""}
            ledger.begin_landing(claim.token, "refs/heads/x", "0" * 40, "2" * 40, {"check": check})
            ledger.finish_landing(claim.token)
    return directory


@pytest.mark.parametrize(
    "show",
    [
        lambda: show_status(VOYAGE, as_json=True),
        lambda: show_tasks(VOYAGE, None, as_json=True),
        lambda: show_why(VOYAGE, "2", as_json=True),
        lambda: run_approve(VOYAGE, ["3"], as_json=True),
        lambda: show_cost(VOYAGE, by="ship", as_json=True),
        lambda: show_cost(VOYAGE, by="task", as_json=True),
        lambda: show_cost(VOYAGE, by="model", as_json=True),
    ],
)
def test_what_is_shown_as_json_is_as_documented(voyage, capsys, show):
    show()
    assert as_documented(capsys.readouterr().out)["voyage"] == voyage.name


def test_tasks_of_one_state(voyage, capsys):
    show_tasks(voyage.name, "completed", as_json=True)
    (task,) = as_documented(capsys.readouterr().out)["tasks"]
    assert (task["id"], task["owner"], task["check"]["seconds"]) == ("1", "ship-0", 0.1)


def run(*arguments, **env):
    return subprocess.run(
        [OCAPTAIN, *arguments], capture_output=True, text=True, check=False, env={"HOME": "/proc/nowhere", **env}
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "voyage-ffff"], "there is no voyage 'voyage-ffff' in"),
        (["status", ""], "the voyage id is empty"),
        (["sink", "", "--all", "--force"], "give either a voyage's id or --all"),
        (["sail", "--resume", ""], "the voyage id is empty"),
        (["logs", ""], "an argument is empty"),
        (["status", "--bogus"], "No such option: --bogus"),
        (["tasks", "-s", "foo"], "'foo' is not one of"),
        (["statu"], "No such command 'statu'"),
        (["proxy", "ship-0", "no"], "'no' is not a TCP port"),
        (["shell", "a", "b"], "name one ship, not 2 ('a', 'b')"),
        (["plan", "check"], "Missing argument 'PLAN'"),
    ],
)
def test_wrong_input_is_one_line_and_one_object(tmp_path, arguments, said):
    done = run(*arguments, "--json", OCAPTAIN_HOME=str(tmp_path))
    told = as_documented(done.stdout)
    assert (done.returncode, told["kind"], told["exit_code"]) == (2, "error", 2), done
    plain = run(*arguments, OCAPTAIN_HOME=str(tmp_path))
    assert (plain.returncode, plain.stdout) == (2, "")
    if "--json" not in done.stderr:  # of a verb that has no such option
        assert (said in told["message"], told["message"] in done.stderr) == (True, True), done
    assert said in plain.stderr
    assert len(plain.stderr.splitlines()) == 1, plain.stderr


def test_a_word_behind_two_dashes_asks_for_no_json():
    assert run("status", "--", "--json").stdout == ""


def test_what_a_terminal_cannot_show_is_escaped(tmp_path):
    done = run("status", "schöner", OCAPTAIN_HOME=str(tmp_path), PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8")
    assert (done.returncode, "internal" in done.stderr) == (2, False), done.stderr


def test_an_error_says_its_remedy():
    for kind in BY_EXIT_CODE.values():
        error = kind("it broke; mend it", ["a detail; not a remedy"])
        assert render.error_as_dict(error) == {
            "exit_code": kind.exit_code,
            "message": "it broke; mend it\na detail; not a remedy",
            "remedy": "mend it",
        }
    assert OcaptainError("it broke").remedy is None


def test_there_is_one_object_never_two(capsys, monkeypatch):
    monkeypatch.setattr(render, "_json_printed", False)
    render.print_json("pause", {"voyage": VOYAGE, "said": "x"})
    render.print_json_error(OcaptainError("later"))
    assert as_documented(capsys.readouterr().out)["kind"] == "pause"


def test_why_a_task_landed_and_where_its_output_is(voyage, capsys):
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_log_skipped(1, 7)
    show_why(voyage.name, "1", as_json=False)
    shown = capsys.readouterr()
    landed = f"it landed as 2222222222: git -C {voyage}/repo.git log -p -1 --first-parent {'2' * 40}"
    for line in ("check: true: exit code 0", landed, "7 bytes of its output are lost: its ship had no room for them"):
        assert f"    {line}\n" in shown.out
    assert f"the agents' output: ocaptain logs {voyage.name} 1\n" in shown.out
    show_why(voyage.name, "2", as_json=True)
    (attempt,) = as_documented(capsys.readouterr().out)["attempts"]
    assert (attempt["landing"], Path(attempt["log"]).read_text()) == (None, "hello from 2\n")


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [({"agent": {}}, "was handed back"), ({"conflict": {"paths": ["a"]}}, "does not merge with what landed meanwhile")],
)
def test_only_work_that_was_merged_in_vain_is_said_not_to_merge(voyage, evidence, verdict):
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        claim = ledger.claim("ship-0")
        ledger.return_task(claim.token, "conflict", "no", evidence=evidence)
    attempt = Query(voyage).why(claim.task, has_captain=True).attempts[-1]
    assert attempt.verdict == f"{verdict}; does not count as a failure"
    assert attempt.conflicts == tuple(evidence.get("conflict", {}).get("paths", ()))


# -- query -----------------------------------------------------------------------------------


def test_events_and_landings(voyage):
    query = Query(voyage)
    events = query.events()
    assert [one.n for one in events] == list(range(1, query.last_event() + 1))
    assert query.events(events[-2].n) == events[-1:]
    assert [(one.task, one.ship, one.commit) for one in query.landings()] == [("1", "ship-0", "2" * 40)]
    assert format_event(Event(1, 0.0, "claim", "ship-0", "1", "a\x1bb")) == "task 1 → ship-0 (a\\x1bb)"
    assert format_event(Event(1, 0.0, "ship", "ship-0", None, "bootstrapping")) == "ship-0 is built"
    assert format_event(Event(1, 0.0, "lost", "ship-0", "1", "silent")) == (
        "task 1 on ship-0 was lost, and is tried again: silent"
    )


def test_what_is_said_of_many_ships_is_said_once():
    gone = [Event(n, 0.0, "ship", f"ship-{n}", None, "gone: no credit") for n in (1, 2, 3)]
    other = [Event(4, 0.0, "ship", "ship-4", None, "idle"), Event(5, 0.0, "claim", "ship-4", "1", "idle")]
    merged = merge_ship_events([*gone, *other])
    assert [event.n for event in merged] == [3, 4, 5]
    assert format_event(merged[0]) == "ship-1, ship-2, ship-3 are gone: no credit"
    assert merged[1:] == other
    assert merge_ship_events([]) == []


def test_a_pause_that_is_under_way_is_shown(voyage, capsys):
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        ledger.pause("user")
    show_status(voyage.name, as_json=False)
    assert "pausing (user): what is under way is finished first" in capsys.readouterr().out


@pytest.mark.parametrize(("stage", "script"), [("setup", "setup"), ("verify", "verify.sh")])
def test_a_final_verify_that_failed_names_what_failed(voyage, capsys, stage, script):
    with Ledger(voyage / "ledger.db") as ledger:
        ledger._db.execute("ALTER TABLE voyage DROP COLUMN verify_stage")  # as an earlier version made it
    assert Query(voyage).overview().verify is None
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        ledger.record_verify(ok=False, code=3, clean=True, commit="2" * 40, tail="", ship="ship-0", stage=stage)
    *_, event = Query(voyage).events()
    assert format_event(event) == f"final verify: {script} ended with exit code 3 at 2222222222"
    show_status(voyage.name, as_json=False)
    assert f"{script} failed with exit code 3 on the merged head (2222222222)\n" in capsys.readouterr().out
    show_status(voyage.name, as_json=True)
    assert as_documented(capsys.readouterr().out)["verify"]["stage"] == stage


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("user", "pausing (user): what is under way is finished first"),
        ("provider", "the provider does not answer: nothing new is started until it does"),
        ("ours", "this machine or the repository fails: nothing new is started until that is mended"),
    ],
)
def test_a_waiting_sail_shows_a_pause(voyage, reason, line):
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        ledger.pause(reason)
    *_, event = Query(voyage).events()
    assert event.kind in SHOWN_EVENTS
    assert format_event(event) == line


@pytest.mark.parametrize(
    ("reason", "note", "why"),
    [
        ("user", "pausing: user", f"the voyage is paused (user): ocaptain sail --resume {VOYAGE}"),
        ("provider", "paused: provider", "the voyage is paused (provider), and goes on by itself"),
        ("ours", "paused: ours", "the voyage is paused (ours), and goes on by itself"),
    ],
)
def test_a_pause_that_ends_by_itself_needs_no_command(voyage, reason, note, why):
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        ledger.pause(reason)
    assert describe(read_rows([voyage])[0]).startswith(note)
    assert Query(voyage).why("3", has_captain=True).waits[-1] == why


def test_a_resumed_sail_says_once_what_waits_for_approval(voyage, capsys):
    def announce(task):
        with Ledger(voyage / "ledger.db") as ledger:
            ledger.take_command()
            ledger._db.execute("UPDATE tasks SET blockers = 0 WHERE id = '3'")
            ledger.add_event("held", f"waits for approval: ocaptain approve {VOYAGE} {task}", task=task)

    announce("3")
    shown = progress.SailProgress()
    shown.directory = VoyageDirectory(voyage)
    shown._skip_old_events(shown.directory)
    for task in ("3", "2"):  # by the next captain
        announce(task)
        shown.on_idle()
    assert [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()] == [
        f"task {task} waits for approval: ocaptain approve {VOYAGE} {task}" for task in ("3", "2")
    ]


# -- another try -----------------------------------------------------------------------------


@pytest.fixture
def busy(voyage, monkeypatch):
    """A voyage whose task 2 failed for good, and on whose ships another command is at work."""
    monkeypatch.setattr(progress, "LOCK_SECONDS", 0.1)
    with Ledger(voyage / "ledger.db") as ledger:
        ledger.take_command()
        ledger.fail(ledger.claim("ship-0").token, "no", final=True)
    with process.fleet_lock(voyage) as lock:
        assert lock.acquire()
        yield voyage


def test_a_retry_is_done_while_another_command_makes_the_ships(busy, capsys):
    assert run_retry(busy.name, RetryArguments(), as_json=False) == 0
    shown = capsys.readouterr()
    assert shown.out == f"retried: task 2\n{busy.name} is running\n"
    assert shown.err.startswith("another command is at work on its ships: a `sail` goes on with all open tasks")
    assert shown.err.splitlines()[-1].startswith(f"next: ocaptain sail --resume {busy.name} --wait")


def test_a_retry_that_needs_other_ships_is_done_in_part(busy, tmp_path, capsys):
    file = tmp_path / "2.json"
    file.write_text('{"id": "2", "subject": "Better", "metadata": {"run": "true"}}')
    with pytest.raises(PartialError, match="when that has ended: ocaptain sail --resume"):
        run_retry(busy.name, RetryArguments(task_file=file), as_json=True)
    told = as_documented(capsys.readouterr().out)
    assert (told["kind"], told["tasks"], told["error"]["exit_code"]) == ("retry", ["2"], 3)


def test_a_voyage_that_is_complete_sails_no_more(voyage):
    ends = {}
    for state in ("running", "complete"):
        with Ledger(voyage / "ledger.db") as ledger:
            ledger.take_command()
            ledger.set_state(state)
        ends[state] = _final_error(Query(voyage).overview(), RunResult(ok=True), wait=False)
    assert [str(ends[state]).splitlines() for state in ends] == [
        [f"{voyage.name} sails with fewer ships than asked for:", "ship-1: no power"],
        [f"{voyage.name} is complete, but sailed with fewer ships than asked for:", "ship-1: no power"],
    ]
    assert {error.exit_code for error in ends.values()} == {3}


def opens_a_ledger(node: ast.AST) -> bool:
    """Whether a piece of source imports what opens ledgers, or opens a voyage's."""
    match node:
        case ast.Import(names=names):
            return any(one.name.startswith("ocaptain.ledger") for one in names)
        case ast.ImportFrom(module=module):
            return str(module).startswith("ocaptain.ledger")
        case ast.Attribute(value=value, attr="ledger" | "voyage"):
            return "directory" in ast.unparse(value)
    return False


def test_command_line_and_ansible_open_no_ledger():
    files = [
        file for folder in ("ocaptain/cli", "ocaptain/ansible", "plugins") for file in (REPO / folder).rglob("*.py")
    ]
    assert len(files) > 20
    for file in [*files, *(REPO / "inventory_plugins").glob("*.py")]:
        assert not any(opens_a_ledger(node) for node in ast.walk(ast.parse(file.read_text()))), file


def test_help_loads_nothing_heavy():
    heavy = "{'ansible', 'httpx', 'rich.live', 'pydantic'}"
    source = f"import sys; from ocaptain.cli.app import app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_string_that_is_printed_acts_on_the_terminal(capsys):
    for console in (render.out(), render.err()):
        console.print("a\x1b]52;c;eA==\x07\x9bm \u202eb", "c\nd")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("a\\x1b]52;c;eA==\\x07\\x9bm b c\nd\n",) * 2


# -- questions ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A standard input at which the user answers, or presses Ctrl-C where nothing is left to read."""

    def readline(self, size=-1):
        if line := super().readline(size):
            return line
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (io.StringIO("n\n"), "you answered no; these ships were kept"),
        (io.StringIO(""), "the input ended without an answer; these ships were kept"),
        (Terminal(""), "interrupted; these ships were kept"),
    ],
)
def test_without_a_yes_the_error_says_why_and_what_was_kept(monkeypatch, stdin, message):
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(OcaptainError) as refused:
        render.confirm("Destroy?", kept="these ships were kept")
    assert refused.value.message == message
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    render.confirm("Destroy?")


# -- ships that are left --------------------------------------------------------------------------


def test_abandon_is_advised_only_where_it_helps():
    assert sweep._raise_if_left({}, []) == 0
    with pytest.raises(PartialError) as failed:
        sweep._raise_if_left({"a": "HTTP 500"}, ["drydock"])
    assert (
        str(failed.value) == "these ships are left (run `ocaptain sweep --provider drydock` to try again):\na: HTTP 500"
    )
    with pytest.raises(PartialError, match="with --abandon to destroy also those that a captain commands"):
        sweep._raise_if_left({"a": "HTTP 500", "b": sweep.COMMANDED}, ["drydock"])
    left = {"a": "HTTP 500"}
    error = _not_sunk_error("voyage-4f59", left, ["b"], ["a device"])
    first = "voyage-4f59 is not sunk, these ships are left (`ocaptain sink voyage-4f59` tries again):"
    assert str(error).splitlines() == [first, "a: HTTP 500", "a device"]
    assert "--abandon" in str(_not_sunk_error("voyage-4f59", left, ["a"], []))


@pytest.mark.parametrize(
    ("verb", "usage"),
    [
        ("logs", "ocaptain logs [OPTIONS] [ID] [SHIP|TASK]..."),
        ("shell", "ocaptain shell [OPTIONS] [ID] [SHIP]"),
        ("proxy", "ocaptain proxy [OPTIONS] [ID] SHIP PORT"),
        ("open", "ocaptain open [OPTIONS] [ID] SHIP PORT"),
    ],
)
def test_the_usage_shows_the_words(verb, usage):
    shown = run(verb, "--help").stdout
    assert any(line.strip() == f"Usage: {usage}" for line in shown.splitlines()), shown


def test_options_and_settings_are_refused_in_plain_words():
    option = run("sail", "-n", "0", ".")
    setting = run("sweep", "--dry-run", OCAPTAIN_DEFAULT_SHIPS="x", SPRITES_API_URL="ftp://x")
    assert (option.returncode, setting.returncode) == (2, 2)
    assert "must be 1 or more" in option.stderr
    assert "OCAPTAIN_DEFAULT_SHIPS: must be a whole number" in setting.stderr
    assert "SPRITES_API_URL: does not have the right form; an example is https://api.sprites.dev" in setting.stderr


# -- imports -----------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['ocaptain', '--help']\n"
        "from ocaptain.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'ansible', 'ansible_runner', 'httpx', 'pydantic', 'uvicorn', 'starlette', 'sqlite3', 'jinja2'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "sail" in done.stdout
