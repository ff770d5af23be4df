"""Agent ``claude`` over real workers: a told CLI in the real one's place, its streams as the real one writes them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import subprocess
from dataclasses import replace

import pytest

from ocaptain.agents.facts import AttemptVerdict
from ocaptain.captain import pool
from ocaptain.captain.decide import dispatch, outcome
from ocaptain.captain.decide.dispatch import ShipStatus
from ocaptain.captain.decide.outcome import Decision, decide_after_ending
from ocaptain.captain.life import Captain
from ocaptain.captain.ship import actor
from ocaptain.control.commands import Command, carry_out
from ocaptain.git import Git
from ocaptain.ledger import Ledger, overview, task_views
from ocaptain.protocol.envelope import LogBody, read_body
from tests.helpers import wait_for
from tests.voyage import claude
from tests.voyage.claude import MESSAGE_NANO, message, text, tool, tool_result
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail
from tests.voyage.test_captain import interrupted, saved, until

SLEEP = f"{600 + os.getpid() / 10**7:.7f}"  # known among all processes of the machine


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(outcome, "FIRST_PAUSE", 0.2)


def run(directory, ships, **more):
    return asyncio.run(sail(directory, ships, **more))


def rows(directory):
    with command(directory) as ledger:
        return {f"{row['task']}.{row['number']}": row for row in ledger.rows("attempts", "token")}


def voyage(tmp_path, fleet, plays, tasks=None, ships=1, **more):
    """Make a voyage whose ships are told ``plays``; every task in them is one of agent claude."""
    count = len({key.partition(".")[0] for key in plays})
    tasks = tasks or [{} for _ in range(count)]
    for ship in fleet:
        claude.install(ship.home, plays)
    return make_voyage(tmp_path, [{"agent": "claude", **task} for task in tasks], ships, **more)


def test_a_task_is_worked_drawn_and_billed(tmp_path, ships):
    (ship,) = ships()
    talk = [
        claude.init(),
        *message("m1", text("I look\x1b[31m first\x1b[0m."), tool("Read", file_path="/w/a.txt"), stop="tool_use"),
        tool_result("one\ntwo\nthree"),
        *message("m2", tool("Bash", command="env\n# all"), stop="tool_use"),
        tool_result("CLAUDE_CODE_OAUTH_TOKEN=TOKEN"),
        {"sh": "echo hello > a"},
        *message("m3", text("It is TOKEN.")),
        claude.result("All done.", messages=3),
    ]
    directory = voyage(tmp_path, [ship], {"1": {"steps": talk}}, spec="The whole.", model="claude-x", max_turns=7)
    assert run(directory, [ship]) == "complete"
    (call,) = claude.calls(ship.home)
    assert call["token"] == "canary-oauth-1"
    attempt = rows(directory)["1.1"]
    settings = str(ship.home / ".ocaptain/claude/attempt.json")
    option = {name: call["argv"][call["argv"].index(name) + 1] for name in call["argv"] if name.startswith("--s")}
    assert (option["--settings"], option["--session-id"]) == (settings, attempt["session"])
    for wanted in (["--model", "claude-x"], ["--max-turns", "7"]):
        assert wanted[1] == call["argv"][call["argv"].index(wanted[0]) + 1]
    assert "The whole." in call["prompt"]
    assert "NO CHANGE NEEDED" in call["prompt"]
    assert (attempt["cost_nano"], attempt["cost_mark"], attempt["model"]) == (
        3 * MESSAGE_NANO,
        "subscription",
        claude.MODEL,
    )
    assert (attempt["tokens_in"], attempt["tokens_out"], attempt["tokens_cached"]) == (3 * 3100, 150, 3 * 2000)
    log = (directory / "logs/ship-0/1.1.log").read_text()
    lines = [line.strip() for line in log.splitlines()]
    assert lines[1:6] == [
        "I look first.",
        "→ Read: a.txt",
        "$0.0068 so far",
        "← one (+2 lines)",
        "→ Bash: env (+1 lines)",
    ]
    assert "← CLAUDE_CODE_OAUTH_TOKEN=********" in lines
    assert lines[-1] == "══ success: 1 turns, $0.0204"
    everything = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())
    assert b"canary-oauth-1" not in everything
    kept = [path for path in (ship.home / ".ocaptain").rglob("*") if path.is_file() and path.name != "env.json"]
    assert not [path for path in kept if b"canary-oauth-1" in path.read_bytes()]


def test_what_failed_is_gone_on_with_in_its_session_and_with_its_reason(tmp_path, ships):
    fleet = ships(2)
    plays = {
        "1.1": {"steps": [claude.init(), *message("a", text("I was ab"), stop=None), claude.result("I was ab")]},
        "1.2": claude.turn("done", sh="echo bad > a"),
        "1.3": claude.turn("now it is good", sh="git show HEAD:a; echo good > a"),
    }
    directory = voyage(tmp_path, fleet, plays, [{"verify": "grep good a"}], 2)
    assert run(directory, fleet) == "complete"
    seen = rows(directory)
    assert {key: row["state"] for key, row in seen.items()} == {"1.1": "failed", "1.2": "failed", "1.3": "landed"}
    # On one ship, although another one had nothing to do; a session that failed twice is given up.
    assert len({row["ship"] for row in seen.values()}) == 1
    first, second, third = [call for ship in fleet for call in claude.calls(ship.home)]
    session = seen["1.1"]["session"]
    assert first["argv"][-2:] == ["--session-id", session]
    assert second["argv"][-2:] == ["--resume", session]
    assert seen["1.2"]["session"] == session
    assert third["argv"][-2:] == ["--session-id", seen["1.3"]["session"]]
    assert "its last message was cut" in second["prompt"]
    assert "the check `grep good a` ended with exit code 1" in third["prompt"]
    assert seen["1.2"]["work"] in third["prompt"]
    # What the resumed run cost is its own, not the session's.
    assert [row["cost_nano"] for row in seen.values()] == [MESSAGE_NANO, 2 * MESSAGE_NANO, 2 * MESSAGE_NANO]
    with command(directory) as ledger:
        (view,) = task_views(ledger)
        assert view.as_dict()["cost_usd"] == pytest.approx(5 * 0.0068)
        assert overview(ledger).as_dict()["cost"]["agents_usd"] == pytest.approx(5 * 0.0068)


def test_a_conflict_goes_back_to_its_session(tmp_path, ships):
    fleet = ships(2)
    wait = f"until test -e {tmp_path}/landed; do sleep 0.05; done"
    plays = {
        "1": claude.turn("one", sh="echo one >> list"),
        "2.1": claude.turn("two", sh=f"echo two >> list; {wait}"),
        "2.2": claude.turn("both", sh="echo two >> list"),
    }
    directory = voyage(tmp_path, fleet, plays, [{}, {}], 2)
    git = Git(directory / "repo.git")

    async def tell(captain):
        while "1" not in landed(directory):
            await asyncio.sleep(0.05)
        (tmp_path / "landed").touch()
        await asyncio.sleep(60)

    assert run(directory, fleet, meanwhile=tell) == "complete"
    seen = rows(directory)
    assert (seen["2.1"]["state"], seen["2.2"]["state"]) == ("conflict", "landed")
    assert (seen["2.1"]["ship"], seen["2.1"]["session"]) == (seen["2.2"]["ship"], seen["2.2"]["session"])
    again = next(call for ship in fleet for call in claude.calls(ship.home) if call["key"] == "2.2")
    assert "list was also changed by: Task 1" in again["prompt"]
    assert git.text("show", f"{VOYAGE}:list") == "one\ntwo"


def test_kinds_of_errors(tmp_path, ships):
    (ship,) = ships()
    killed = [claude.init(), *message("m", text("go"), stop="tool_use")]
    busy = [claude.init(), claude.retry(429, "rate_limit", 300), claude.api_error(429, "slow down", "rate_limit_error")]
    read = 'until grep -q message_delta "$(ls -td ~/.ocaptain/attempts/* | head -1)/stream.jsonl"; do sleep 0.1; done'
    plays = {
        "1.1": {"steps": busy, "exit": 1},
        "1.2": {"steps": [claude.init(), claude.api_error(529, "busy", "overloaded_error")], "exit": 1},
        "1.3": {"steps": [claude.init(), claude.api_error(500, "oops", "api_error")], "exit": 1},
        "1.4": claude.turn("fine", sh="echo 1 > one"),
        "2": {"steps": [claude.init(), claude.api_error(400, "prompt is too long")], "exit": 1},
        "3.1": claude.turn("I think it is fine."),
        "3.2": claude.turn("Looked.\n\n**NO CHANGE NEEDED:** it is all there"),
        "4.1": {
            "steps": [
                claude.init(),
                *message("m", text("no"), stop="refusal"),
                claude.result("no", stop_reason="refusal"),
            ]
        },
        "4.2": claude.turn("ok", sh="echo 4 > four"),
        # A killed run has told what it used.
        "5.1": {"steps": [*killed, {"sh": f"setsid sleep {SLEEP} & disown; kill -9 $PPID"}]},
        "5.2": claude.turn("ok", sh="echo 5 > five"),
        # So has one whose supervisor was killed, once it had read it.
        "6.1": {
            "steps": [
                *killed,
                {"sh": read},
                {"sh": f"setsid sleep {SLEEP} & kill -9 $(ps -o ppid= -p $PPID)"},
                {"sh": "sleep 60"},
            ]
        },
        "6.2": claude.turn("ok", sh="echo 6 > six"),
    }
    directory = voyage(tmp_path, [ship], plays)
    assert run(directory, [ship]) == "failed"
    seen = rows(directory)
    states = {key: row["state"] for key, row in seen.items()}
    assert [states[f"1.{n}"] for n in range(1, 5)] == ["waited", "waited", "failed", "landed"]
    assert {key: state for key, state in states.items() if key.startswith("2")} == {"2.1": "failed"}
    assert (states["3.1"], states["3.2"]) == ("failed", "landed")
    assert (states["4.1"], states["4.2"], states["5.1"], states["5.2"]) == ("failed", "landed", "failed", "landed")
    assert seen["4.2"]["session"] != seen["4.1"]["session"]
    assert seen["5.2"]["session"] == seen["5.1"]["session"]
    assert (seen["5.1"]["cost_nano"], seen["6.1"]["cost_nano"], seen["2.1"]["cost_nano"]) == (
        MESSAGE_NANO,
        MESSAGE_NANO,
        0,
    )
    assert (states["6.1"], states["6.2"]) == ("failed", "landed")
    assert "supervisor was killed" in seen["6.1"]["reason"]
    wait_for(
        lambda: subprocess.run(["pgrep", "-f", f"sleep {SLEEP}"], capture_output=True, check=False).returncode == 1
    )
    assert "NO CHANGE NEEDED: it is all there" in json.loads(seen["3.2"]["evidence"])["agent"]["said"].replace("**", "")
    with command(directory) as ledger:
        assert ledger.voyage().note == "failed for good: task 2"
    log = Git(directory / "repo.git").text("log", "--format=%B", VOYAGE)
    assert "it is all there" in log
    assert "fine" in log


def test_a_refused_credential_stops_the_fleet_with_one_message(tmp_path, ships):
    fleet = ships(2)
    denied = {"steps": [claude.init(), claude.api_error(401, "bad token", "authentication_error")], "exit": 1}
    plays = {str(n): denied for n in range(1, 6)}
    directory = voyage(tmp_path, fleet, plays, ships=2)
    assert run(directory, fleet) == "failed"
    seen = rows(directory)
    assert {row["state"] for row in seen.values()} == {"denied"}
    assert len(seen) <= 2
    with command(directory) as ledger:
        note = ledger.voyage().note
        assert "CLAUDE_CODE_OAUTH_TOKEN" in note
        assert f"ocaptain sail --resume {VOYAGE}" in note
        told = [row for row in ledger.rows("events", "n") if re.search("credential was refused", row["text"])]
        # One ship said so, another one confirmed it, and that stopped the fleet.
        assert [row["kind"] for row in told] == ["refused", "denied", "voyage"]
        assert ledger.count_tasks()["failed"] == 0
        ledger.set_state("running")
    # With a good one it goes on.
    for ship in fleet:
        claude.install(ship.home, {str(n): claude.turn("ok", sh=f"echo {n} > f{n}") for n in range(1, 6)})
    assert run(directory, fleet) == "complete"


def test_a_ship_for_the_final_verify_is_not_waited_for_to_confirm_a_refusal(tmp_path, ships):
    """It takes no tasks, so it can never tell: the only ship that does is believed."""
    fleet = ships(2)
    denied = {"steps": [claude.init(), claude.api_error(401, "bad token", "authentication_error")], "exit": 1}
    directory = voyage(tmp_path, fleet, {"1": denied}, ships=2)
    with contextlib.closing(sqlite3.connect(directory / "ledger.db")) as db:
        db.execute("UPDATE ships SET role = 'verify' WHERE id = 'ship-1'")
        db.commit()
    assert run(directory, fleet) == "failed"
    with command(directory) as ledger:
        assert "the agents' credential was refused" in ledger.voyage().note


@pytest.mark.parametrize("broken", ["path", "env.json"])
def test_a_ship_that_cannot_start_the_agent_is_benched_and_costs_no_task_its_tries(tmp_path, ships, broken):
    fleet = ships(2)
    wait = f"until test -e {tmp_path}/benched; do sleep 0.1; done"
    plays = {str(n): claude.turn("ok", sh=f"{wait}; echo {n} > f{n}") for n in range(1, 5)}
    directory = voyage(tmp_path, fleet, plays, ships=2)
    (fleet[0].home / ".ocaptain/claude" / broken).write_text("/none/claude\n")

    async def look(captain):
        await until(lambda: captain.ledger.ship_row("ship-0").state == "failed")
        (tmp_path / "benched").touch()

    assert run(directory, fleet, meanwhile=look) == "complete"
    with command(directory) as ledger:
        assert ledger.ships()[0].state == "failed"
        assert "could not be started" in ledger.ships()[0].reason
        assert all(row["tries"] == 0 for row in ledger.rows("tasks", "position"))


@pytest.mark.parametrize("how", ["sunk", "no snapshot"])
def test_the_last_seconds_of_a_run_are_billed_without_a_result_too(tmp_path, ships, how):
    fleet = ships(1 if how == "sunk" else 2)
    last = "touch ~/there; sleep 300" if how == "sunk" else "rm -r ~/.ocaptain/git; touch ~/.ocaptain/git"
    steps = [claude.init(), *message("a", text("x")), {"sh": "sleep 1.5"}, *message("b", text("y")), {"sh": last}]
    plays = {"1.1": {"steps": steps}, "1": claude.turn("ok", sh="echo ok > a")}
    directory = voyage(tmp_path, fleet, plays, ships=len(fleet))

    async def sunk():
        await interrupted(directory, fleet, (fleet[0].home / "there").exists)
        assert rows(directory)["1.1"]["cost_nano"] < 2 * MESSAGE_NANO
        return await saved(directory, fleet)

    if how == "sunk":
        assert [found.ok for found in asyncio.run(sunk())] == [True]
    else:
        assert run(directory, fleet) == "complete"
    assert rows(directory)["1.1"]["cost_nano"] == 2 * MESSAGE_NANO


class StillShip:
    """A ship that is at work, as the pool sees it."""

    def __init__(self, ship):
        self.now = ShipStatus(ship, connected=True)
        self.takes_tasks = True
        self.pause = 0.0

    @property
    def idle(self):
        return self.now.idle

    @property
    def gone(self):
        return self.now.gone

    def status(self):
        return self.now

    def pause_claiming(self, seconds):
        self.pause = seconds

    def change(self, **facts):
        self.now = replace(self.now, **facts)


def test_a_task_is_reserved_for_its_ship_but_never_for_long(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(dispatch, "RESERVE_SECONDS", 600.0)
    directory = voyage(tmp_path, [], {"1": {}, "2": {}}, ships=2)

    async def play():
        with command(directory) as ledger:
            pool = Captain(directory, ledger, lambda row: None).pool
            one, other = StillShip("ship-0"), StillShip("ship-1")
            pool.actors = {"ship-0": one, "ship-1": other}
            conflict = Decision("return", "x", "conflict", same_ship=True)

            def returned():
                claim = pool.next_job("ship-0")
                pool.apply_decision(claim, conflict)
                return claim.task

            assert returned() == "1"
            assert pool.next_job("ship-1").task == "2"
            assert pool.next_job("ship-1") is None
            assert returned() == "1"
            pool._reservations = {task: replace(found, until=0.0) for task, found in pool._reservations.items()}
            claim = pool.next_job("ship-1")  # its ship did not come for it
            pool.apply_decision(claim, conflict)
            assert pool.next_job("ship-0") is None
            other.change(connected=False)  # its ship does not answer, and there was no pause to sleep through
            claim = pool.next_job("ship-0")
            assert claim.task == "1"
            # The service is busy: that it sleeps meanwhile does not lose its session, that it is gone does.
            now = asyncio.get_running_loop().time()
            pool.apply_decision(claim, decide_after_ending(AttemptVerdict("busy", "529", wait=200.0), 0))
            assert one.pause == 200.0
            one.change(connected=False)
            assert pool.next_job("ship-1") is None
            (reservation,) = pool._reservations.values()
            later = asyncio.get_running_loop().time()
            assert now <= reservation.until - (200.0 + 600.0 + dispatch.WAKE_SECONDS) <= later
            one.change(gone=True)
            assert pool.next_job("ship-1").task == "1"

    asyncio.run(play())


def test_a_ship_that_slept_through_a_pause_goes_on_in_its_session(tmp_path, ships, monkeypatch):
    monkeypatch.setattr(outcome, "FIRST_PAUSE", 5.0)  # within which it has to fall asleep
    for module in (actor, pool):
        monkeypatch.setattr(module, "SLEEP_AFTER", 0.2)
    fleet = ships(2)
    busy = {"steps": [claude.init(), claude.api_error(529, "busy", "overloaded_error")], "exit": 1}
    plays = {"1.1": claude.turn("done", sh="echo bad > a"), "1.2": busy, "1.3": claude.turn("ok", sh="echo good > a")}
    directory = voyage(tmp_path, fleet, plays, [{"verify": "grep good a"}], 2)
    slept = []

    async def look(captain):
        while True:
            with Ledger(directory / "ledger.db") as ledger:
                slept.extend(row.id for row in ledger.ships() if row.state == "asleep")
            await asyncio.sleep(0.05)

    assert run(directory, fleet, meanwhile=look) == "complete"
    seen = rows(directory)
    assert [row["state"] for row in seen.values()] == ["failed", "waited", "landed"]
    (name,) = {row["ship"] for row in seen.values()}
    assert name in slept
    assert len({row["session"] for row in seen.values()}) == 1
    # What it had done and why that was not enough is told again after the pause.
    last = [call for ship in fleet for call in claude.calls(ship.home)][-1]
    assert "the check `grep good a` ended with exit code 1" in last["prompt"]
    assert seen["1.1"]["work"] in last["prompt"]


def test_a_ship_adds_to_its_own_logs_alone(tmp_path):
    directory = make_voyage(tmp_path, [{}], 2)
    with command(directory) as ledger:
        records = Captain(directory, ledger, lambda row: None).pool._records
        piece = LogBody(1, 0, "Zm9yZ2VkCg==")
        records.save("ship-0", piece)  # before there is such an attempt
        token = ledger.claim("ship-0").token
        for odd in (True, 0, -1, 2**53, 2**70, "1", None):
            assert read_body({"kind": "log", "token": odd, "offset": 0, "data": "Zm9yZ2VkCg=="}) is None
            assert read_body({"kind": "agent", "token": odd, "facts": {}}) is None
        records.save("ship-1", piece)
        assert not list(directory.glob("logs/*/*"))
        records.save("ship-0", LogBody(token, 0, "bWluZQo="))
        records.save("ship-1", replace(piece, offset=5))
        records.save("ship-1", piece)
        (log,) = directory.glob("logs/*/*.log")
        assert (log.parent.name, log.read_text()) == ("ship-0", "mine\n")


def test_an_agent_that_cannot_leave_a_repositorys_settings_aside_is_not_started(tmp_path, ships):
    """The task fails at once, by name, and for nothing; the word of a user who trusts them changes that."""
    (ship,) = ships()
    evil = """mkdir .claude; echo '{"env": {"ANTHROPIC_BASE_URL": "x"}}' > .claude/settings.json"""
    plays = {"1": claude.turn("landed it", sh=evil), "2": claude.turn("done", sh="echo 2 > b")}
    directory = voyage(tmp_path, [ship], plays, [{}, {"waits": ["1"]}])
    program = ship.home / ".ocaptain/claude/fake"
    older = "if sys.argv[1:] == ['--project-config-root']:\n    sys.exit('error: unknown option')\n"
    program.write_text(program.read_text().replace("home = ", f"{older}home = ", 1))
    assert run(directory, [ship]) == "failed"
    first, second = rows(directory)["1.1"], rows(directory)["2.1"]
    assert (first["state"], second["state"]) == ("landed", "failed")
    wanted = "`.claude/settings.json` sets env.ANTHROPIC_BASE_URL; remove it or use --repo-settings trust"
    assert second["reason"].startswith(wanted)
    assert "2.2" not in rows(directory)
    assert [call["key"] for call in claude.calls(ship.home)] == ["1.1"]
    assert not {"--project-config-root", "--setting-sources"} & set(claude.calls(ship.home)[0]["argv"])
    with command(directory) as ledger:
        ledger.set_option("repo_settings", "trust")
        assert ledger.voyage().repo_settings == "trust"
        carry_out(Command(name="retry"), ledger)
    assert run(directory, [ship]) == "complete"
    assert "--strict-mcp-config" not in claude.calls(ship.home)[-1]["argv"]


def at_screen(*events, sh="true"):
    """Return a play of a CLI with its own screen: what its hooks and its transcript say."""
    transcript = "$HOME/.claude/projects/-w/screen.jsonl"
    said = {"id": "m", "model": claude.MODEL, "stop_reason": "end_turn", "usage": claude.USAGE, "content": []}
    lines = [f"{sh}; echo '{json.dumps({'type': 'assistant', 'message': said})}' >> {transcript}"]
    for number, event in enumerate(events):
        told = json.dumps({**event, "transcript_path": "TRANSCRIPT"}).replace("TRANSCRIPT", f"'{transcript}'")
        place = f"~/.ocaptain/claude/events/{number}"
        lines.append(f"echo '{told}' > {place}; mv {place} {place}.json; sleep 0.01")
    return {"steps": [{"sh": "\n".join(lines)}]}


def test_a_task_that_people_give_back_counts_no_try_and_is_held_the_fifth_time(tmp_path, ships):
    (ship,) = ships()
    typed = {"hook_event_name": "UserPromptSubmit", "prompt": "stop that"}
    left = {"hook_event_name": "SessionEnd", "reason": "prompt_input_exit"}
    done = {"hook_event_name": "Stop", "last_assistant_message": "All done."}
    plays = {"1": at_screen(typed, left), "1.6": at_screen(done, sh="echo hi > a"), "2": at_screen(done)}
    plays["1.6"]["steps"].append({"sh": "sleep 60"})  # as the CLI, it stays
    plays["2"] = {"steps": [*at_screen(done, sh="echo b > b")["steps"], {"sh": "sleep 60"}]}
    directory = voyage(tmp_path, [ship], plays, [{}, {"waits": ["1"]}], options={"interactive": True})

    def held():
        with Ledger(directory / "ledger.db") as ledger:
            return ledger.given_back_tasks() == ["1"]

    asyncio.run(interrupted(directory, [ship], held))
    with command(directory) as ledger:
        assert ledger.count_tasks()["in_progress"] == 0, "what waits for it is held, too"
        assert [one.as_dict()["heldBy"] for one in task_views(ledger)] == ["person", "1"]
        assert carry_out(Command(name="retry", tasks=("1",)), ledger).said == "retried: task 1"
    assert run(directory, [ship]) == "complete"
    found = rows(directory)
    states = [found[f"1.{number}"]["state"] for number in range(1, 7)]
    assert states == [*["conflict"] * 5, "landed"]
    assert found["1.6"]["cost_nano"] == 100 * 4000 + 1 * 20000 + 2000 * 200 + 1000 * 5000
