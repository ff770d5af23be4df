"""An agent with a screen of its own: what is made of its files, when it is done, when a person gives its task back."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

from ocaptain.agents.base import Briefing
from ocaptain.agents.claude.adapter import ADAPTER
from ocaptain.agents.claude.ship import screen
from ocaptain.agents.claude.ship.own import find_problems
from ocaptain.agents.claude.stream import Stream
from ocaptain.agents.facts import AttemptEnd, Facts, parse_facts
from ocaptain.captain.decide.give_back import GIVEN_BACK, MAX_GIVEN_BACK, decide_given_back
from ocaptain.captain.decide.outcome import Decision
from ocaptain.protocol.codec import to_dict
from ocaptain.protocol.files import read_json, write_json
from ocaptain.protocol.messages import Outcome
from ocaptain.worker import launcher
from ocaptain.worker.job import MAX_ARGUMENT, JobFile
from ocaptain.worker.places import Places
from ocaptain.worker.terminal import prompt_argument
from ocaptain.worker.windows import last_keys
from tests.helpers import REPO, wait_for
from tests.unit.test_ledger import land, make

SESSION = "0a5ad9b6-8c1d-4a3c-9f57-2f1a0d5c7e11"
PROMPT = "# Task 1: Write it\n"


class Cli:
    """A home in which events and a transcript are written as Claude Code would, and the screen that reads them."""

    def __init__(self, home, before=(), turns=200):
        self.home = home
        self.transcript = home / f".claude/projects/-w/{SESSION}.jsonl"
        self.transcript.parent.mkdir(parents=True)
        (home / screen.EVENTS).mkdir(parents=True)
        self.say(*before)
        self.screen = screen.Screen(home, PROMPT, {"HOME": str(home), "OCAPTAIN_MAX_TURNS": str(turns)})
        self.stream = Stream({})
        self.shown = []

    def hook(self, event, **more):
        """Run our hook as the CLI does, by a shell with the event on standard input."""
        about = {"session_id": SESSION, "transcript_path": str(self.transcript), "cwd": "/w"}
        (group,) = screen.hooks(self.home)[event]
        line = group["hooks"][0]["command"]
        content = json.dumps({**about, "hook_event_name": event, **more}).encode()
        subprocess.run(["sh", "-c", line], input=content, check=True)

    def say(self, *lines):
        with open(self.transcript, "a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def facts(self):
        self.feed(self.screen.read())
        return parse_facts(self.stream.facts())

    def end(self, *, has_keys=False):
        self.feed(self.screen.finish(has_keys=has_keys))
        return parse_facts(self.stream.facts())

    def feed(self, data):
        for line in data.splitlines():
            self.shown += self.stream.line(line)


def said(name, *blocks, stop="end_turn", tokens=(10, 20), **more):
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1]}
    message = {"id": name, "model": "claude-x", "content": list(blocks), "stop_reason": stop, "usage": usage}
    return {"type": "assistant", "message": message, **more}


def sums(tokens, dollars):
    used = {"inputTokens": tokens, "outputTokens": 0, "cacheReadInputTokens": 0, "cacheCreationInputTokens": 0}
    return {"type": "cost-state", "sessionId": SESSION, "modelUsage": {"claude-x": {**used, "costUSD": dollars}}}


ASKS = {"type": "tool_use", "id": "t1", "name": "AskUserQuestion", "input": {}}
ANSWER = {"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t1", "content": "A"}]}}


def test_a_run_is_told_as_if_it_had_been_headless(tmp_path):
    cli = Cli(tmp_path)
    cli.hook("SessionStart", model="claude-x")
    cli.hook("UserPromptSubmit", prompt=PROMPT)
    cli.say(
        {"type": "user", "message": {"content": PROMPT}}, said("m1", {"type": "text", "text": "I look."}, stop=None)
    )
    facts = cli.facts()
    assert (facts.session, facts.person, facts.result) == (SESSION, None, None)
    cli.say(said("m1", tokens=(10, 25)), said("m2", {"type": "text", "text": "Done."}))
    cli.say(said("s1", tokens=(1, 1), isSidechain=True))
    cli.hook("Stop", last_assistant_message="Done.", background_tasks=[])
    facts = cli.facts()
    assert cli.screen.is_done
    assert [one.tokens[:2] for one in facts.usage] == [[21, 46]]
    facts = cli.end()
    assert (facts.result.stop, facts.result.terminal, facts.result.turns) == ("end_turn", "completed", 2)
    assert ADAPTER.judge(AttemptEnd(0, "exit", facts, empty=False, checked=False)).kind == "done"
    assert cli.shown[:2] == [f"── claude-x, session {SESSION}", "I look."]


def test_a_session_that_goes_on_is_billed_from_where_it_was(tmp_path):
    cli = Cli(tmp_path, before=[said("old", tokens=(1000, 1000)), sums(1000, 0.5)])
    cli.hook("SessionStart")
    cli.say(said("m1", tokens=(7, 7)))
    assert [one.tokens[:2] for one in cli.facts().usage] == [[7, 7]]
    cli.hook("Stop", last_assistant_message="x")
    cli.facts()
    cli.say(sums(1700, 0.75))  # helper models' tokens are in the CLI's own sums
    facts = cli.end()
    assert (facts.usage, facts.billed[0].tokens[0], facts.billed[0].cost) == ([], 700, 250_000_000)


def test_a_wait_for_a_person_is_told_until_it_ends(tmp_path):
    cli = Cli(tmp_path)
    cli.hook("SessionStart")
    cli.say(said("m1", ASKS, stop="tool_use"))
    cli.hook("PreToolUse", tool_name="AskUserQuestion", tool_use_id="t1")
    assert cli.facts().waits == "AskUserQuestion"
    cli.say({"type": "user", "message": {"content": [{"type": "tool_result", "tool_use_id": "t0", "content": "late"}]}})
    assert cli.facts().waits == "AskUserQuestion", "another tool's result is no answer"
    cli.say(ANSWER)
    assert cli.facts().waits is None
    assert "… it waits for a person: AskUserQuestion" in cli.shown
    cli.hook("PermissionRequest", tool_name="Bash", tool_use_id="t2")
    assert cli.facts().waits == "permission for Bash"
    cli.hook("UserPromptSubmit", prompt=PROMPT)
    assert (cli.facts().waits, cli.facts().person) == (None, False)
    cli.hook("Notification", message="Claude is waiting for your input", notification_type="idle_prompt")
    assert cli.facts().waits == "Claude is waiting for your input"
    cli.hook("UserPromptSubmit", prompt="go on, please")
    facts = cli.facts()
    assert (facts.waits, facts.person) == (None, True)
    assert "… a person typed: go on, please" in cli.shown
    stalled = ADAPTER.judge(AttemptEnd(143, "stall", Facts(waits="AskUserQuestion"), empty=True, checked=True))
    assert stalled.reason == "the agent was silent for too long and was ended; it waited for a person (AskUserQuestion)"


def test_it_is_not_done_while_an_agent_of_its_own_works_but_by_its_api_and_by_its_turns(tmp_path):
    cli = Cli(tmp_path, turns=1)
    cli.hook("SessionStart")
    cli.hook("Stop", background_tasks=[{"id": "a", "type": "subagent", "status": "running"}])
    cli.facts()
    assert not cli.screen.is_done
    cli.say(said("m1", stop="tool_use"))
    cli.facts()
    assert not cli.screen.is_done
    cli.say(said("m2"))
    cli.facts()
    assert cli.screen.is_done
    assert cli.end().result.subtype == "error_max_turns"
    failed = Cli(tmp_path / "other")
    failed.hook("SessionStart")
    failed.hook("StopFailure", error="rate_limit", last_assistant_message="API Error: 429")
    failed.facts()
    assert failed.screen.is_done
    failed.say(said("x", isApiErrorMessage=True, apiErrorStatus=429, error="rate_limit"))  # comes a moment later
    facts = failed.end()
    assert (facts.result.is_error, facts.result.status, facts.result.error) == (True, 429, "rate_limit")


#: Events and lines as no CLI writes them, and as an agent can.
ODD = [
    "null",
    "[]",
    '{"hook_event_name": ["Stop"]}',
    '{"hook_event_name": "UserPromptSubmit", "prompt": "x", "source": []}',
    '{"hook_event_name": "Stop", "background_tasks": [{"type": "agent", "status": []}]}',
    '{"hook_event_name": "SessionStart", "session_id": {}, "transcript_path": "\\u0000.jsonl"}',
    '{"hook_event_name": "SessionStart", "transcript_path": "/\\ud800.jsonl"}',
    '{"hook_event_name": "SessionStart", "transcript_path": "/dev/zero.jsonl"}',
    '{"type": "cost-state", "modelUsage": {"claude-x": {"inputTokens": 1' + "0" * 400 + ', "costUSD": 0.5}}}',
    '{"type": "cost-state", "modelUsage": {"claude-x": {"costUSD": []}, "y": 7}}',
    *('{"type": "assistant", "message": {"a":' + "[" * depth + "]" * depth + "}}" for depth in range(850, 1000)),
    "[" * 100_000,
    "\0" * 100_000,
]


def test_what_an_agent_forges_ends_nothing(tmp_path):
    cli = Cli(tmp_path, before=[["cost-state"], sums(7, 0.5)])
    (tmp_path / screen.EVENTS / "first.json/inner").mkdir(parents=True)
    for number, content in enumerate(ODD):
        (tmp_path / screen.EVENTS / f"{number}.json").write_text(content)
    with open(cli.transcript, "a") as file:
        file.write("".join(f"{content}\n" for content in ODD))
    cli.facts()
    cli.hook("SessionStart")
    cli.say(said("m1"))
    cli.facts()
    assert not cli.screen.is_done
    cli.hook("Stop", last_assistant_message="Done.")
    cli.facts()
    assert cli.screen.is_done
    facts = cli.end()
    assert (facts.result.text, [one.tokens[:2] for one in facts.usage]) == ("Done.", [[10, 20]])
    assert list((tmp_path / screen.EVENTS).iterdir()) == []


def test_a_long_session_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(screen, "MAX_READ", 64 * 1024)
    cli = Cli(tmp_path, before=[sums(1000, 0.5), {"type": "user", "text": "x" * 3_000_000}])
    cli.hook("SessionStart")
    cli.facts()
    cli.say(*(said(f"m{number}", {"type": "text", "text": "y" * 30_000}) for number in range(12)))
    cli.say({"type": "user", "text": "no line of any use" * 10_000}, sums(1700, 0.75))
    facts = cli.end()
    assert (facts.messages, facts.billed[0].tokens[0], facts.billed[0].cost) == (12, 700, 250_000_000)


@pytest.mark.parametrize("order", ["the event first", "the transcript first", "all at once"])
def test_a_hook_of_the_repository_may_refuse_until_it_has_done_so_too_often(tmp_path, order):
    project = tmp_path / ".ocaptain/claude/project"
    project.mkdir(parents=True)
    (project / "hook-0.json").write_text('{"event": "Stop", "file": "f", "command": "c"}')
    cli = Cli(tmp_path)
    cli.hook("SessionStart")
    cli.say(said("m1"))
    note = "(ocaptain: refusal 1 of 3 by the Stop hook `c` of f)"
    summary = {"type": "system", "subtype": "stop_hook_summary", "hookErrors": [], "preventedContinuation": False}
    ends = [
        {**summary, "hookErrors": ["exit code 1", f"red\n{note}"], "failedHookErrorIndexes": [0]},
        {**summary, "hookAdditionalContext": ["look again"]},
        {**summary, "preventedContinuation": True, "stopReason": note.replace("1 of", "3 of")},
    ]
    cli.facts()
    cli.say({**summary, "hookLabel": "PreToolUse"}, {**summary, "isSidechain": True})
    for end in ends:
        assert not cli.screen.is_done
        if order != "the transcript first":
            cli.hook("Stop", last_assistant_message="Done.")
        if order == "the event first":
            cli.facts()
            assert not cli.screen.is_done, "the repository's hook still runs"
        cli.say(end)
        if order == "the transcript first":
            cli.facts()
            cli.hook("Stop", last_assistant_message="Done.")
        if order != "all at once":
            cli.facts()
    cli.facts()
    assert cli.screen.is_done
    facts = cli.end()
    assert (facts.result.terminal, facts.hook) == ("stop_hook_prevented", "the Stop hook `c` of f")
    verdict = ADAPTER.judge(AttemptEnd(0, "exit", facts, empty=False, checked=False))
    assert (verdict.kind, "refused too often" in verdict.reason) == ("failed", True)


def test_its_hooks_are_such_as_the_cli_takes(tmp_path):
    assert find_problems({"hooks": screen.hooks(tmp_path)}) == []


@pytest.mark.parametrize(
    ("facts", "code", "reason", "before", "decision"),
    [
        (Facts(left=True, person=True), 0, "exit", 0, "return"),
        (Facts(left=True, keys=True), 0, "exit", MAX_GIVEN_BACK - 2, "return"),
        (Facts(left=True, keys=True), 0, "exit", MAX_GIVEN_BACK - 1, "hold"),
        (Facts(left=True), 0, "exit", 0, None),  # no person was there
        (Facts(person=True, keys=True), 0, "exit", 0, None),  # it ended otherwise than at its prompt
        (Facts(left=True, person=True), 137, "exit", 0, None),
        (Facts(left=True, person=True), 143, "stall", 0, None),
        (None, 0, "exit", 0, None),
    ],
)
def test_only_a_person_gives_a_task_back(facts, code, reason, before, decision):
    found = decide_given_back(Outcome(code, reason, 1.0), facts, before)
    kind = found and ("hold" if found.hold else found.kind)
    assert kind == decision
    assert found is None or (isinstance(found, Decision) and found.reason.startswith(GIVEN_BACK))


def test_a_task_that_is_held_by_a_person_waits_for_retry(tmp_path):
    with make(tmp_path / "ledger.db", {"1": frozenset(), "2": frozenset({"1"})}) as ledger:
        for number in range(MAX_GIVEN_BACK):
            assert ledger.count_returns_for("1", GIVEN_BACK) == number
            held = ledger.claim("ship-0")
            ledger.return_task(held.token, "conflict", f"{GIVEN_BACK}; x", hold=number == MAX_GIVEN_BACK - 1)
        assert ledger.claim("ship-0") is None
        assert ledger.given_back_tasks() == ["1"]
        assert not ledger.has_open_tasks()
        assert [row["held_by"] for row in ledger.task_rows(["1", "2"])] == ["1", "1"]
        assert ledger.retry_failed([]) == ["1"]
        assert (ledger.given_back_tasks(), ledger.count_returns_for("1", GIVEN_BACK)) == ([], 0)
        land(ledger, ledger.claim("ship-0"))
        assert ledger.claim("ship-0").task == "2"


def test_keys_are_those_of_clients_that_may_type():
    assert last_keys("1 1700000000\n0 1700000009\nodd\n0 1700000003\n") == [1700000009, 1700000003]


def test_a_prompt_that_no_argument_holds_is_named_by_its_file(tmp_path):
    file = tmp_path / "prompt.md"
    file.write_text(f"{PROMPT}x\0y")
    assert prompt_argument(file) == f"{PROMPT}xy"
    file.write_text("- so")
    assert prompt_argument(file) == "\n- so", "it would be an option"
    file.write_text(PROMPT + "é" * MAX_ARGUMENT)
    told = prompt_argument(file)
    assert told.startswith("# Task 1: Write it\n")
    assert str(file) in told
    assert len(told) < MAX_ARGUMENT


def test_the_cli_is_told_its_task_without_what_only_a_headless_run_takes():
    task = {"id": "1", "subject": "s", "description": "", "metadata": {"max_turns": 7}}
    run = ADAPTER.build_run(Briefing("v", "ship-0", 1, task, "", session=SESSION, interactive=True))
    assert not {"-p", "--max-turns", "--output-format"} & {*run.argv}
    assert {"--strict-mcp-config", "--project-config-root", "--dangerously-skip-permissions"} < {*run.argv}
    assert (run.env["OCAPTAIN_MAX_TURNS"], run.screen) == ("7", "ocaptain.agents.claude.ship.screen")
    assert ADAPTER.build_run(Briefing("v", "ship-0", 1, task, "", session=SESSION)).screen is None


PROGRAM = """
import sys
from pathlib import Path
from ocaptain.worker.launcher import run_launcher
from ocaptain.worker.places import Places
home = Path(sys.argv[1])
run_launcher(Places(home), home / "worker.pyz")
"""
#: Draws something, reads a key in raw mode, tells by an event that it is done, and waits to be ended.
AGENT = """
stty raw -echo; printf 'my screen %s' "$(stty size)"; key=$(dd bs=1 count=1 2>/dev/null); stty sane
echo "$key $2" > "$OUT"; trap 'echo ended >> "$OUT"; exit 7' TERM
echo '{"hook_event_name": "Stop", "last_assistant_message": "Done."}' > "$1/x" && mv "$1/x" "$1/x.json"
while :; do sleep 0.1; done
"""


def test_an_agent_has_the_terminal_and_is_ended_when_it_is_done(tmp_path, monkeypatch):
    home = tmp_path / "h"
    places, out = Places(home), tmp_path / "out"
    places.make()
    (home / screen.EVENTS).mkdir(parents=True)
    (home / "worker.pyz").write_text("x")
    monkeypatch.setenv("OCAPTAIN_SHIP_HOME", str(home))
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(REPO)
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, str(home)])
    try:
        wait_for(places.launcher.exists)
        directory = places.attempts / "1"
        directory.mkdir()
        (directory / "prompt.md").write_text(PROMPT)
        argv = ("bash", "-c", AGENT, "agent", str(home / screen.EVENTS))
        job = JobFile(argv, {"OUT": str(out)}, str(places.workspace), str(directory / "log"), 30.0, 30.0, marker="m")
        modules = {"stream": "ocaptain.agents.claude.stream", "screen": "ocaptain.agents.claude.ship.screen"}
        write_json(directory / "job.json", {**to_dict(job), **modules})
        launcher.launch_supervisor(places, home / "worker.pyz", "task-1", directory)
        drawn = b""
        while b"my screen" not in drawn:
            drawn += os.read(fd, 4096)
        os.write(fd, b"k")
        wait_for(lambda: read_json(directory / "exit.json"))
        assert (ended := read_json(directory / "exit.json"))["reason"] == "exit"
        assert ended["code"] == 0
        assert out.read_text() == f"k {PROMPT}\nended\n"
        assert read_json(directory / "facts.json")["result"]["text"] == "Done."
        assert "my screen" not in (directory / "log").read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.close(fd)
        os.waitpid(pid, 0)
