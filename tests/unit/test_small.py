"""Decisions that are pure: text, leases, hosts, trees, invocations, configuration, sources, homes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain import scratch as scratches
from ocaptain.agents import Briefing, check_agents, choose_agent
from ocaptain.agents.command.adapter import CommandAgent
from ocaptain.ansible import invocation
from ocaptain.ansible.hosts import build_host, is_selected
from ocaptain.ansible.tree import PROGRAM, build_payload, parse_files, parse_reply
from ocaptain.captain.decide.leases import LEASE_SECONDS, MAX_TICK, Leases
from ocaptain.captain.records import LogPiece, next_log_piece
from ocaptain.config import load_settings
from ocaptain.drydock.api.common import parse_duration
from ocaptain.drydock.errors import ApiError
from ocaptain.errors import UsageError
from ocaptain.plan import load_plan
from ocaptain.protocol.envelope import LogBody, read_body
from ocaptain.provider import choose_provider, sprites_token
from ocaptain.sprites import Sprite
from ocaptain.text import clean_bytes, clean_line, escape_control
from ocaptain.tree import TreeFile
from ocaptain.voyage.check import choose_fleet_size
from ocaptain.voyage.home import Home
from ocaptain.voyage.source import Source, parse_source
from ocaptain.voyage.sprites import ServiceSpec, service_differs
from ocaptain.worker import attempts
from ocaptain.worker.build import worker_bytes
from tests.helpers import REPO, run_task
from tests.unit.test_ledger import make

# -- text ------------------------------------------------------------------------------------


@given(st.text())
def test_clean_text_holds_nothing_that_a_terminal_acts_upon(text):
    assert not any((ord(one) < 32 and one not in "\t\n") or 127 <= ord(one) < 160 for one in escape_control(text))
    assert "\n" not in clean_line(text)
    escape_control(text).encode()


@given(st.binary())
def test_clean_bytes_keep_their_length(data):
    found = clean_bytes(data)
    assert len(found) == len(data)
    assert not any((byte < 32 and byte not in b"\t\n") or byte == 127 for byte in found)


def test_a_long_line_is_cut():
    assert clean_line("x" * 50, 10) == "x" * 9 + "…"


# -- leases ----------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 10**6), max_size=40))
def test_a_clock_that_jumps_takes_no_task_away(jumps):
    """However late a tick comes, it ages a lease by two seconds at most."""
    leases, now = Leases({}), 0.0
    for count, jump in enumerate(jumps):
        now += jump
        leases, lapsed = leases.tick(now, {"ship-0"})
        if lapsed:
            assert count * MAX_TICK >= LEASE_SECONDS


def test_a_silent_ship_loses_its_lease_and_one_that_is_heard_starts_afresh():
    leases, now = Leases({}), 100.0
    for _ in range(40):
        now += 1
        leases, lapsed = leases.tick(now, {"ship-0"})
        assert not lapsed
    leases, _ = leases.tick(now + 1, set())
    for second in range(2, 200):
        leases, lapsed = leases.tick(now + second, {"ship-0", "ship-1"})
        if lapsed:
            assert lapsed == {"ship-0", "ship-1"}
            assert second >= LEASE_SECONDS
            return
    pytest.fail("no lease ever lapsed")


# -- logs ------------------------------------------------------------------------------------


def test_log_pieces_are_written_once_whatever_comes_twice():
    piece = LogBody(1, 0, "aGVsbG8bIQ==")  # hello ESC !
    assert next_log_piece(piece, 0) == LogPiece(b"hello?!")
    assert next_log_piece(piece, 5) == LogPiece(b"?!")
    assert next_log_piece(piece, 7) == LogPiece()
    assert next_log_piece(LogBody(1, 0, "§"), 0) == LogPiece()
    assert next_log_piece(LogBody(1, 0, "aGk="), 10**9) == LogPiece()
    for forged in ({"token": None}, {"offset": -1}, {"offset": True}, {"offset": 2**41}, {"data": None}, {"kind": "x"}):
        assert read_body({"kind": "log", "token": 1, "offset": 0, "data": "aGk=", **forged}) is None


def test_what_a_log_misses_is_said_and_the_rest_is_in_its_place():
    first = next_log_piece(LogBody(1, 100, "aGk="), 10)
    assert b"90 bytes" in first.data
    assert first.data.endswith(b"hi")
    size = 10 + len(first.data)
    assert next_log_piece(LogBody(1, 100, "aGkh"), size, first.skips) == LogPiece(b"!")
    assert next_log_piece(LogBody(1, 102, "aGkh"), size, first.skips) == LogPiece(b"hi!")


# -- inventory --------------------------------------------------------------------------------


def sprite(**fields):
    return Sprite.model_validate({"name": "voyage-0123456789ab-ship-2", "status": "running", **fields})


def test_a_ship_is_a_host_in_its_groups():
    host = build_host(sprite(labels=["ocaptain"], organization="o"), "drydock")
    assert host == {
        "name": "voyage-0123456789ab-ship-2",
        "groups": ["ocaptain", "status_running", "voyage_0123456789ab", "ship_2"],
        "vars": {
            "ansible_connection": "sprite",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ocaptain_provider": "drydock",
            "ocaptain_sprite": "voyage-0123456789ab-ship-2",
            "ocaptain_status": "running",
            "ocaptain_labels": ["ocaptain"],
            "ocaptain_organization": "o",
            "ocaptain_url": "",
            "ocaptain_created_at": "",
            "ocaptain_voyage": "voyage-0123456789ab",
            "ocaptain_ship": "ship-2",
        },
    }
    assert json.loads(json.dumps(host)) == host


def test_a_foreign_sprite_is_no_ship():
    for name in ("voyager-prod-db", "voyage-x", "voyage-0123456789ab-ship-2-copy"):
        host = build_host(sprite(name=name, status="odd state"), "sprites")
        assert host["groups"] == ["ocaptain", "status_odd_state"]
        assert "ocaptain_ship" not in host["vars"]
        assert not is_selected(sprite(name=name), labels=[], voyage="voyage-0123456789ab")
    assert is_selected(sprite(labels=["a", "b"]), labels=["a"], voyage="voyage-0123456789ab")
    assert not is_selected(sprite(labels=["a"]), labels=["a", "b"], voyage=None)
    assert is_selected(sprite(status="warm"), prefix="voyage-", status=["warm", "cold"])
    assert not is_selected(sprite(status="warm"), status=["running"])
    assert not is_selected(sprite(), prefix="lone-")


@pytest.mark.parametrize(
    ("found", "differs"),
    [
        (None, True),
        ({"cmd": "a", "args": ["b"], "dir": "/", "state": {"status": "running"}}, False),
        ({"cmd": "a", "args": ["b"], "dir": "/", "state": {"status": "failed"}}, True),
        ({"cmd": "a", "args": [], "dir": "/", "state": {"status": "running"}}, True),
        ({"cmd": "a", "args": ["b"], "dir": "/"}, True),
    ],
)
def test_when_a_service_is_put_again(found, differs):
    assert service_differs(found, ServiceSpec("s", "a", ("b",), "/")) is differs


# -- trees -------------------------------------------------------------------------------------


def plant(directory, files, *, check=False):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=build_payload(str(directory), files, check=check),
        capture_output=True,
        check=True,
        timeout=30,
    )
    return parse_reply("motd\n" + done.stdout.decode())


def test_a_tree_is_written_once_and_repaired(tmp_path):
    files = [TreeFile("a/b.txt", b"\x00\xff", 0o640), TreeFile("run", b"#!", 0o755)]
    assert plant(tmp_path, files, check=True) == ["a/b.txt", "run"]
    assert not list(tmp_path.iterdir())
    assert plant(tmp_path, files) == ["a/b.txt", "run"]
    assert plant(tmp_path, files) == []
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
    (tmp_path / "run").chmod(0o700)
    (tmp_path / "a/b.txt").unlink()
    (tmp_path / "a/b.txt").symlink_to("/etc/passwd")
    assert plant(tmp_path, files) == ["a/b.txt", "run"]
    assert (tmp_path / "a/b.txt").read_bytes() == b"\x00\xff"
    assert not (tmp_path / "a/b.txt").is_symlink()
    assert parse_reply("noise") is None
    assert parse_reply("OCAPTAIN-TREE:{") is None


@pytest.mark.parametrize(
    "item",
    [
        {"path": "/etc/passwd", "content": ""},
        {"path": "a/../../b", "content": ""},
        {"path": "", "content": ""},
        {"path": "a"},
        {"path": "a", "content": "x", "src": "y"},
        {"path": "a", "content": "x", "mode": "rw"},
    ],
)
def test_a_wrong_tree_is_refused(item):
    with pytest.raises(UsageError, match=r"files\[0\]"):
        parse_files([item], None)


# -- invocation ---------------------------------------------------------------------------------


def test_the_whole_invocation(tmp_path):
    caller = {"PATH": "/usr/bin", "ANSIBLE_ROLES_PATH": "/mine", "SPRITES_TOKEN": "canary", "LANG": "C.UTF-8"}
    made = invocation.build_invocation("sail", {"plan": "/p", "repo": None}, caller, tmp_path, Path("/content"))
    assert made.playbook == Path("/content/playbooks/sail.yml")
    assert made.extravars == {"plan": "/p"}
    assert made.inventory == "localhost,"
    assert made.environment == {
        "ANSIBLE_CONFIG": "/content/ansible.cfg",
        "ANSIBLE_ROLES_PATH": "/mine:/content/roles",
        "ANSIBLE_INVENTORY_PLUGINS": "/content/inventory_plugins",
        "ANSIBLE_CONNECTION_PLUGINS": "/content/plugins/connection",
        "ANSIBLE_ACTION_PLUGINS": "/content/plugins/action",
        "ANSIBLE_LIBRARY": "/content/plugins/modules",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_FORKS": "25",
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
        "PYTHONPATH": str(REPO),
        "OCAPTAIN_DOTENV_DIR": str(tmp_path),
    }


# -- configuration --------------------------------------------------------------------------------


def test_environment_over_here_over_home(monkeypatch, tmp_path):
    config = Path("~/.config/ocaptain").expanduser()
    config.mkdir(parents=True)
    (config / ".env").write_text("OCAPTAIN_DEFAULT_SHIPS=1\nSPRITES_TOKEN=home\nGH_TOKEN=home\n")
    (tmp_path / ".env").write_text("SPRITES_TOKEN=here\nOCAPTAIN_DEFAULT_SHIPS=2\n")
    monkeypatch.chdir(tmp_path)
    found = load_settings()
    assert (found.default_ships, found.sprites_token.get_secret_value()) == (2, "here")
    assert found.gh_token.get_secret_value() == "home"
    monkeypatch.setenv("SPRITE_TOKEN", "environment")
    monkeypatch.setenv("OCAPTAIN_DEFAULT_SHIPS", "7")
    assert load_settings().default_ships == 7
    assert load_settings().sprites_token.get_secret_value() == "environment"
    monkeypatch.setenv("SPRITES_TOKEN", "first")
    assert load_settings().sprites_token.get_secret_value() == "first"
    assert "first" not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [("OCAPTAIN_DEFAULT_SHIPS", "many"), ("OCAPTAIN_DEFAULT_SHIPS", "0"), ("OCAPTAIN_PROVIDER", "aws")],
)
def test_a_wrong_value_names_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        load_settings()


def test_a_wrong_secret_is_never_shown(monkeypatch, tmp_path):
    (tmp_path / ".env").write_bytes(b"SPRITES_TOKEN=canary\xff\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert "canary" not in str(refused.value)


def test_which_provider_is_meant(monkeypatch):
    assert choose_provider(load_settings())[0] == "drydock"
    monkeypatch.setenv("OCAPTAIN_SPRITES_ORG", "o")
    assert choose_provider(load_settings())[0] == "sprites"
    assert choose_provider(load_settings(), "drydock") == ("drydock", "named")
    monkeypatch.setenv("OCAPTAIN_PROVIDER", "drydock")
    assert choose_provider(load_settings())[0] == "drydock"
    with pytest.raises(UsageError, match="unknown provider"):
        choose_provider(load_settings(), "cloud")


def test_the_token_may_come_from_the_sprite_cli(tmp_path):
    file = tmp_path / "sprites.json"
    org = {"name": "o", "api_token": "stored"}
    file.write_text(json.dumps({"current_selection": {"url": "u", "org": "o"}, "urls": {"u": {"orgs": {"o": org}}}}))
    assert sprites_token(load_settings(), file) == "stored"
    for content in ("", "{", "[]", '{"current_selection": 3}'):
        file.write_text(content)
        with pytest.raises(UsageError, match="no Sprites token"):
            sprites_token(load_settings(), file)


@pytest.mark.parametrize(("asked", "plan", "default", "size"), [(2, 5, 3, 2), (None, 5, 3, 5), (None, None, 3, 3)])
def test_how_many_ships(asked, plan, default, size):
    assert choose_fleet_size(asked, plan, default) == size


@pytest.mark.parametrize("asked", [0, -1, 100_000])
def test_an_absurd_fleet_is_refused(asked):
    with pytest.raises(UsageError):
        choose_fleet_size(asked, None, 3)


# -- repositories ------------------------------------------------------------------------------------


def test_what_a_repository_may_be(tmp_path):
    (tmp_path / "there").mkdir()
    assert parse_source(None, tmp_path) == Source("")
    assert parse_source("octocat/Hello-World", tmp_path) == Source("https://github.com/octocat/Hello-World.git")
    assert parse_source("there", tmp_path) == Source(str(tmp_path / "there"), local=True)
    assert parse_source("https://x.invalid/y.git", tmp_path) == Source("https://x.invalid/y.git")
    assert parse_source("git@x.invalid:y.git", tmp_path) == Source("git@x.invalid:y.git")


@pytest.mark.parametrize(
    "named", ["--upload-pack=evil", "nowhere", "./a/b", "https://me:secret@x.invalid/y", "a\nb", "ext::sh -c evil"]
)
def test_what_it_may_not_be(tmp_path, named):
    with pytest.raises(UsageError) as refused:
        parse_source(named, tmp_path)
    assert "secret" not in str(refused.value)


# -- agents ------------------------------------------------------------------------------------------


def test_which_agent_works_a_task(plan):
    tasks = load_plan(plan([run_task("true"), {}, {"metadata": {"agent": "claude", "run": "x"}}])).plan.tasks
    assert [choose_agent(task, None, None) for task in tasks.values()] == ["command", "claude", "claude"]
    assert choose_agent(tasks["2"], None, "true") == "command"
    assert choose_agent(tasks["2"], "command", None) == "command"


def test_a_task_that_nobody_can_work_is_named(plan):
    found = load_plan(plan([run_task("true"), {}, {"metadata": {"agent": "codex"}}, {"status": "completed"}])).plan
    with pytest.raises(UsageError) as refused:
        check_agents(found, None, None)
    assert [line.split(":")[0] for line in refused.value.details] == ["tasks/2.json", "tasks/3.json"]
    with pytest.raises(UsageError, match=r"tasks/2.json: agent command has nothing to run"):
        check_agents(found, "command", None)


def test_the_briefing_becomes_a_command():
    task = {"id": "3", "subject": "Do {{ it }}", "description": "now", "metadata": {"run": "make", "timeout": 5}}
    briefing = Briefing("v", "ship-1", 2, task, "the spec", "other", (("1", "First"),), "it failed: {% x %}")
    run = CommandAgent().build_run(briefing)
    assert run.argv == ("bash", "-c", "make")
    assert (run.timeout, run.stall) == (5.0, 1800.0)
    assert run.env["OCAPTAIN_TASK_SUBJECT"] == "Do {{ it }}"
    assert run.env["OCAPTAIN_ATTEMPT"] == "2"
    for part in ("Do {{ it }}", "now", "the spec", "- 1: First", "it failed: {% x %}"):
        assert part in run.prompt
    own = CommandAgent().build_run(Briefing("v", "s", 1, task, "", template="only {{ task.id }}"))
    assert own.prompt == "only 3"
    with pytest.raises(UsageError, match=r"prompt.md.j2"):
        CommandAgent().build_run(Briefing("v", "s", 1, task, "", template="{{ nope }}"))
    with pytest.raises(UsageError, match=r"prompt.md.j2"):
        CommandAgent().build_run(Briefing("v", "s", 1, task, "", template="{{ ''.__class__.__mro__ }}"))


# -- homes -------------------------------------------------------------------------------------------


def put_voyage(home, name, state="running"):
    (home / name).mkdir(parents=True)
    ledger = make(home / name / "ledger.db", {"1": frozenset()})
    ledger.set_state(state)
    ledger.close()


def test_a_voyage_is_found_by_any_unique_prefix(tmp_path):
    home = Home(tmp_path)
    with pytest.raises(UsageError, match="no active voyage"):
        home.find(None)
    put_voyage(tmp_path, "voyage-aaaaaaaaaaaa")
    put_voyage(tmp_path, "voyage-abbbbbbbbbbb", "sunk")
    (tmp_path / "voyage-zzz").mkdir()
    (tmp_path / "voyage-cccccccccccc").mkdir()
    assert home.find(None).id == "voyage-aaaaaaaaaaaa"
    assert home.find("ab").id == home.find("voyage-ab").id == "voyage-abbbbbbbbbbb"
    for wrong in ("a", "voyage-", "c", "../x", ""):
        with pytest.raises(UsageError):
            home.find(wrong)
    put_voyage(tmp_path, "voyage-dddddddddddd")
    with pytest.raises(UsageError, match="several voyages"):
        home.find(None)


def test_a_broken_voyage_hides_no_other(tmp_path):
    put_voyage(tmp_path, "voyage-aaaaaaaaaaaa")
    (tmp_path / "voyage-bbbbbbbbbbbb").mkdir()
    (tmp_path / "voyage-bbbbbbbbbbbb/ledger.db").write_text("garbage")
    assert [one.id for one in Home(tmp_path).active_voyages()] == ["voyage-aaaaaaaaaaaa"]


# -- the rest ----------------------------------------------------------------------------------------


def test_the_worker_is_the_same_bytes_each_time_and_runs_alone(tmp_path):
    data = worker_bytes()
    assert data == worker_bytes()
    path = tmp_path / "worker.pyz"
    path.write_bytes(data)
    done = subprocess.run(
        ["/usr/bin/python3", "-I", path],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path)},
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert "usage: worker.pyz serve" in done.stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("5.0s", 5), ("10", 10), ("1m30s", 90), ("500ms", 0.5), ("0", 0), ("1h", 3600)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "-1s", "1s2", "NaN"])
def test_what_is_no_duration(text):
    with pytest.raises(ApiError):
        parse_duration(text)


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
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "sail" in done.stdout


def test_who_waits_for_an_attempt_is_woken_by_its_end_and_by_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "RECHECK_SECONDS", 3600)

    async def wait():
        with contextlib.closing(attempts.AttemptEvents(tmp_path / "news")) as news:
            child = subprocess.Popen(["sleep", "0.2"])
            news.watch_process(child.pid)
            news.watch_process(os.getpid())  # one is watched already
            await news.wait_for_event()
            assert child.wait() == 0
            news.watch_process(child.pid)  # gone, which is no fault
            await news.wait_for_event()
            news.watch_process(os.getpid())
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as way:
                for _ in range(5):
                    way.sendto(b"", str(tmp_path / "news"))
                await news.wait_for_event()
                way.sendto(b"", str(tmp_path / "news"))  # within the moment: heard when that is over
                await news.wait_for_event()

    asyncio.run(asyncio.wait_for(wait(), 30))


def test_scratch_directories_go_with_their_process_or_are_cleared_up(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratches, "MIN_AGE_SECONDS", -1)
    dies = "import os, ocaptain.scratch as s; c = s.scratch_directory('run'); print(c.__enter__(), flush=True); "
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPO)}

    def start(line):
        argv = [sys.executable, "-c", dies + line]
        return subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("input()") as living, start("os.kill(os.getpid(), 9)") as killed:
        left, held = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.wait()
        assert (left.is_dir(), held.is_dir()) == (True, True)
        (tmp_path / "ocaptain-run-file").write_text("not a directory")
        (tmp_path / "ocaptain-mine").mkdir()
        scratches.remove_abandoned()
        with scratches.scratch_directory("check") as own:
            assert stat.S_IMODE(own.stat().st_mode) == 0o700
            assert sorted(tmp_path.iterdir()) == sorted(
                [held, own, tmp_path / "ocaptain-run-file", tmp_path / "ocaptain-mine"]
            )
        assert not own.exists()
        living.kill()
