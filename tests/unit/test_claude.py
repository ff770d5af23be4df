"""Agent ``claude``: streams as data → what they told, what they are worth, what they cost, how they are drawn."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.agents import ADAPTERS, Briefing, check_agents
from ocaptain.agents.claude.ship.own import endpoint_environment
from ocaptain.agents.claude.stream import Stream
from ocaptain.agents.claude.verdict import judge
from ocaptain.agents.facts import AttemptEnd, parse_facts
from ocaptain.captain.spending import spent_of
from ocaptain.config import load_settings
from ocaptain.errors import UsageError
from ocaptain.plan import load_plan
from ocaptain.prices import load_prices
from ocaptain.protocol.codec import from_dict, to_dict
from ocaptain.protocol.usage import cost_of, find_price, has_long_prompt
from ocaptain.voyage.prepare import prepare as prepare_voyage
from ocaptain.voyage.request import Request
from ocaptain.worker.job import JobFile
from ocaptain.worker.keep import remove_everything
from ocaptain.worker.launch import prepare_run, secrets_in_variable
from ocaptain.worker.places import Places
from ocaptain.worker.show import LineMasker, Masker, strip_escapes
from ocaptain.worker.streams import own_variable_prefixes
from tests.helpers import run_task
from tests.voyage import claude
from tests.voyage.claude import MESSAGE_NANO, MODEL, api_error, init, message, result, retry, text, tool, tool_result
from tests.voyage.local import VOYAGE, command, make_voyage

PRICES = load_prices()


def read(*lines):
    """Return (what a stream told, as the captain takes it; what was drawn)."""
    stream = Stream(PRICES.models)
    drawn = [
        one for line in lines for one in stream.line(line if isinstance(line, bytes) else json.dumps(line).encode())
    ]
    facts = parse_facts(json.loads(json.dumps(stream.facts()).replace('"SESSION"', "null")))
    assert facts is not None
    return facts, drawn


def verdict(*lines, code=0, reason="exit", empty=False, checked=False, said=""):
    return judge(AttemptEnd(code, reason, read(*lines)[0], empty=empty, checked=checked, tail=said))


GOOD = [init(), *message("m", text("done"))]
REFUSED = {"stop_reason": "refusal"}
ENDINGS = {
    "done": ("done", "", [*GOOD, result()], {}),
    "a stop sequence is an end": ("done", "", [init(), *message("m", text("x"), stop="stop_sequence"), result()], {}),
    "success that is an error": ("failed", "the API answered 500", [*GOOD, api_error(500, "oops")], {"code": 1}),
    "an error even with exit 0": ("failed", "oops", [*GOOD, result("oops", is_error=True)], {}),
    "exit 1 after a success": ("failed", "exit code 1", [*GOOD, result()], {"code": 1}),
    "cut, partial text, success": ("failed", "was cut", [init(), *message("m", text("I wi"), stop=None), result()], {}),
    "cut, told by the result": ("failed", "was cut", [init(), result(stop_reason=None)], {}),
    "ended amid tools": ("failed", "was cut", [init(), *message("m", text("x"), stop="tool_use"), result()], {}),
    "out of tokens": ("failed", "was cut", [init(), *message("m", text("x"), stop="max_tokens"), result()], {}),
    "ended otherwise": ("failed", "was cut", [*GOOD, result(terminal_reason="aborted_streaming")], {}),
    "refused": ("failed", "refused", [init(), *message("m", text("no"), stop="refusal"), result(**REFUSED)], {}),
    "refused as an error": ("failed", "refused", [init(), api_error(None, "safeguards", **REFUSED)], {"code": 1}),
    "a refusal that was got over": (
        *("done", ""),
        [init(), *message("a", text("no"), stop="refusal"), *message("b", text("yes")), result()],
        {},
    ),
    "no result": ("failed", "without a result", GOOD, {}),
    "nothing at all": (
        "failed",
        "exit code 1; it said last:\nnot found",
        [b"not found"],
        {"code": 1, "said": "not found"},
    ),
    "killed": ("failed", "exit code 137", GOOD, {"code": 137}),
    "hung": ("failed", "silent", GOOD, {"code": 143, "reason": "stall"}),
    "too long": ("failed", "time limit", GOOD, {"code": 143, "reason": "timeout"}),
    "turns": (
        "failed",
        "limit of 7 turns",
        [*GOOD, result("", subtype="error_max_turns", num_turns=7, is_error=True)],
        {"code": 1},
    ),
    "too many requests": ("busy", "429", [init(), retry(429, "rate_limit", 1500), api_error(429, "slow")], {"code": 1}),
    "overloaded": ("busy", "529", [init(), api_error(529, "overloaded")], {"code": 1}),
    "overloaded until it was ended": (
        "busy",
        "529",
        [*GOOD, retry(529, "overloaded")],
        {"code": 143, "reason": "timeout"},
    ),
    "an older retry": ("failed", "time limit", [init(), retry(529, "o"), *GOOD], {"code": 143, "reason": "timeout"}),
    "bad credential": ("denied", "401", [init(), api_error(401, "invalid x-api-key")], {"code": 1}),
    "no permission": ("denied", "403", [init(), api_error(403, "no")], {"code": 1}),
    "no money": ("denied", "credit", [init(), api_error(400, "Your credit balance is too low")], {"code": 1}),
    "bad request": ("hopeless", "400", [init(), api_error(400, "prompt is too long")], {"code": 1}),
    "no such model": ("hopeless", "404", [init(), api_error(404, "model: claude-9")], {"code": 1}),
    "no answer": ("busy", "did not answer", [init(), api_error(None, "Connection error")], {"code": 1}),
    "refused connections": (
        *("busy", "did not answer: Connection error"),
        [init(), retry(None, None), api_error(None, "Connection error", terminal_reason=None)],
        {"code": 1},
    ),
    "no answer until it was ended": (
        *("busy", "did not answer: it was ended"),
        [*GOOD, retry(None, None)],
        {"code": 143, "reason": "timeout"},
    ),
    "a gateway's error": ("busy", "502", [init(), api_error(502, "Bad gateway")], {"code": 1}),
    "not available": ("busy", "503", [init(), api_error(503, "no")], {"code": 1}),
    "a gateway that waited": ("busy", "504", [init(), api_error(504, "late")], {"code": 1}),
    "not logged in": (
        *("denied", "/login"),
        [init(), api_error(None, "Not logged in · Please run /login")],
        {"code": 1},
    ),
    "an error of its own": (
        *("failed", "it ended with an error"),
        [init(), result("it broke", subtype="error_during_execution", is_error=True, terminal_reason=None)],
        {"code": 1},
    ),
    "no change, unsaid": ("failed", "without a change", [*GOOD, result("It is fine.")], {"empty": True}),
    "no change, no reason": ("failed", "without a change", [*GOOD, result("NO CHANGE NEEDED:")], {"empty": True}),
    "no change, but a check": ("done", "", [*GOOD, result("It is fine.")], {"empty": True, "checked": True}),
    "no change, said": ("done", "", [*GOOD, result("Looked.\nNO CHANGE NEEDED: it is there")], {"empty": True}),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_verdict(name):
    kind, words, lines, how = ENDINGS[name]
    ending = verdict(*lines, **how)
    assert ending.kind == kind, ending
    assert words in ending.reason
    assert ending.fresh == (words == "refused")


def test_a_busy_service_says_how_long():
    assert verdict(init(), retry(429, "rate_limit", 1500), api_error(429, "slow"), code=1).wait == 1.5


def test_the_agents_reason_for_no_change_is_kept():
    ending = verdict(*GOOD, result("So:\n\n**NO CHANGE NEEDED:** the file is there."), empty=True)
    assert "the file is there." in ending.summary


def test_usage_counts_once_a_message_and_even_if_the_run_is_killed():
    partly = [*message("a", text("x"), tool("Bash", command="x")), *message("b", text("y"), stop=None)]
    spent = spent_of(read(init(), *partly)[0], PRICES)
    # Message b was cut: of its output only the first token is known.
    assert (spent.tokens_in, spent.tokens_out, spent.cost_nano) == (6200, 51, 2 * MESSAGE_NANO - 49 * 20000)
    assert (spent.model, spent.mark) == (MODEL, "subscription")


def test_what_was_billed_counts_helpers_too_and_goes_on_after_a_result():
    helper = {"inputTokens": 5, "outputTokens": 6, "costUSD": 0.000035}
    first = result(messages=1)
    first["model_usage_since_last_result"]["claude-haiku-4-5"] = helper
    spent = spent_of(read(init("apiKeyHelper"), *message("a", text("x")), first, *message("b", text("y")))[0], PRICES)
    assert spent.cost_nano == 2 * MESSAGE_NANO + 35000
    assert spent.mark == "api"
    assert [one["model"] for one in spent.usage] == [MODEL, "claude-haiku-4-5"]
    assert sum(one["cost_nano"] for one in spent.usage) == spent.cost_nano


def test_a_price_that_nobody_knows_is_no_guess(tmp_path):
    unknown = [init(), *message("a", text("x"), model="other-1")]
    spent = spent_of(read(*unknown, *message("b", text("y")))[0], PRICES)
    # What is known counts all the same.
    assert (spent.cost_nano, [row["cost_nano"] for row in spent.usage]) == (MESSAGE_NANO, [None, MESSAGE_NANO])
    late = read(*GOOD, result(model_usage_since_last_result={"other-1": MANY}), *unknown[1:])[0]
    assert [row["cost_nano"] for row in spent_of(late, PRICES).usage] == [999 * 10**12, None]
    own = tmp_path / "prices.toml"
    own.write_text(
        "[models.other-1]\ninput = 1\noutput = 1\ncache_read = 1\ncache_write_5m = 1\ncache_write_1h = 1\n"
        f"[models.{MODEL}]\ninput = 0\noutput = 1\ncache_read = 0\ncache_write_5m = 0\ncache_write_1h = 0\n"
    )
    mine = load_prices(own)
    assert spent_of(read(*unknown)[0], mine).cost_nano == 3150 * 1000
    # What the CLI says does not count for a model that the user priced.
    assert spent_of(read(*GOOD, result())[0], mine).cost_nano == 50 * 1000
    # Whatever date or context size the CLI's name for it carries.
    dated = [init(), *message("a", text("x"), model=f"{MODEL}-20260101")]
    assert spent_of(read(*dated)[0], mine).cost_nano == 50 * 1000
    billed = {f"{MODEL}[1m]": {"outputTokens": 7, "costUSD": 1.0}}
    assert spent_of(read(*GOOD, result(model_usage_since_last_result=billed))[0], mine).cost_nano == 7 * 1000
    own.write_text("[models.x]\ninput = 0.0001\n")
    with pytest.raises(UsageError, match="prices are wrong") as caught:
        load_prices(own)
    assert "models.x.input" in str(caught.value.details)


def test_prices():
    assert find_price("claude-opus-4-20250514", PRICES.models) == find_price("claude-opus-4", PRICES.models)
    assert find_price("claude-opus-5-5[1m]", PRICES.models)["each"] == [4000, 20000, 200, 5000, 8000]
    haiku = find_price("claude-haiku-5-5", PRICES.models)
    assert not has_long_prompt(haiku, [100_000, 0, 0, 0, 0])
    assert has_long_prompt(haiku, [1, 0, 100_000, 0, 0])
    assert cost_of(haiku, [10, 1, 0, 0, 0], is_long_prompt=True) == 10 * 500 + 2500
    assert PRICES.machines["sprites"].cost(3600) == Decimal("0.735") * 10**9
    assert PRICES.machines["drydock"].cost(3600) == 0


def test_drawing():
    big = "\n".join(f"line {n}" for n in range(200_000))
    _, drawn = read(
        init(),
        *message(
            "a", text("Hel\x1b]0;title\x07lo\r\x1b[2J"), tool("Edit", file_path="/w/src/x.py", old_string="a"), stop="x"
        ),
        tool_result("The file was updated"),
        *message("b", tool("Bash", command="make\nmake test", description="d"), stop="tool_use"),
        tool_result([{"type": "text", "text": big}]),
        tool_result("Exit code 2\nbad", error=True),
        *message("c", text("I help."), parent="toolu_1", stop=None),
        retry(529, "overloaded", 1500),
        b"npm warn \x1b[33mold\x1b[0m",
        {"type": "unheard"},
        result("", subtype="error_max_turns", is_error=True, messages=3),
    )
    assert drawn == [
        f"── {MODEL}, session SESSION",
        *("Hello", "→ Edit: src/x.py", "  $0.0068 so far", "← The file was updated"),
        *("→ Bash: make (+1 lines)", "  $0.0136 so far", "← line 0 (+199999 lines)", "✗ Exit code 2 (+1 lines)"),
        "  I help.",
        *("… retry 1 of 4 in 1.5 s: 529 overloaded", "npm warn old"),
        "══ an error (error_max_turns): 1 turns, $0.0204",
    ]


NAMES = "type message event content usage id delta subtype result input_tokens text model_usage_since_last_result"
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4),
    max_leaves=12,
)


@given(ANYTHING, st.sampled_from(["system", "assistant", "user", "stream_event", "result", "x"]))
def test_no_stream_can_break_the_drawing(content, kind):
    lines = [content, {"type": kind, "subtype": "init", "message": content, "event": content, "result": content}]
    facts, drawn = read(
        *lines, b"\xff{", b"{", json.dumps({"type": kind, "message": {"id": "m", "usage": content}}).encode()
    )
    assert all(strip_escapes(line) == line for line in drawn)
    spent_of(facts, PRICES)


MANY = {"inputTokens": 2**36, "costUSD": 0.999 * 10**6}


@pytest.mark.parametrize(
    ("odd", "kind"),
    [
        ([result("a \ud800 b"), *message("m", text("\udfff"))], "done"),
        ([*message("m\ud800", text("x"), model="m\ud800"), result("x")], "done"),
        (
            ['{"type": "system", "subtype": "api_retry", "retry_delay_ms": 1e999}', api_error(429, "x", messages=1)],
            "busy",
        ),
        ([retry(429, "x", -5), api_error(429, "x", messages=1)], "busy"),
        ([retry(429, "x", float("nan")), api_error(429, "x", messages=1)], "busy"),
        ([retry(10**9, "x"), api_error(True, "x", messages=1)], "busy"),
        ([retry(429, "x", 10**400), api_error(429, "x", messages=1)], "busy"),
        ([init() | {"session_id": "odd"}, result("x", num_turns=True)], "done"),
        ([result("x", model_usage_since_last_result={f"m{n}": MANY for n in range(16)})] * 9, "done"),
    ],
)
def test_no_odd_line_costs_a_run_its_verdict_and_its_cost(odd, kind):
    odd = [line.encode() if isinstance(line, str) else line for line in odd]
    facts = read(init(), *message("a", text("x")), *odd)[0]
    spent = spent_of(facts, PRICES)
    assert spent.cost_nano >= MESSAGE_NANO
    assert spent.tokens_in < 2**63
    assert judge(AttemptEnd(int(kind != "done"), "exit", facts, empty=False, checked=True)).kind == kind


def test_a_wait_is_bounded_however_the_service_asks():
    assert verdict(init(), retry(429, "x", 10**400), api_error(429, "slow"), code=1).wait == 2**31 / 1000
    assert verdict(init(), retry(429, "x", -1500), api_error(429, "slow"), code=1).wait == 0


@pytest.mark.parametrize(
    "lie",
    [
        {"session": "../../x"},
        {"usage": [{"model": "m", "long": False, "tokens": [1]}]},
        {"billed": [{}] * 100},
        {"usage": [{"model": "m", "long": False, "tokens": [2**36 + 1] * 5}]},
        {"messages": 2**36 + 1},
        {"last_stop": "x" * 200},
        "x",
        None,
    ],
)
def test_what_a_ship_tells_is_looked_at(lie):
    good = read(*GOOD, result())[0].model_dump()
    assert parse_facts(good)
    assert parse_facts({**good, **lie} if isinstance(lie, dict) else lie) is None


def test_secrets_are_masked_however_a_stream_is_cut():
    secret = 'sk-"canary"-1234'
    mask = LineMasker(Masker([secret]))
    data = f"a {secret} b\nc {json.dumps(secret)[1:-1]}".encode()
    shown = b"".join(mask.feed(data[n : n + 3]) for n in range(0, len(data), 3)) + mask.close()
    assert shown == b"a ******** b\nc ********"


def test_what_the_ship_alone_knows(tmp_path):
    own = tmp_path / ".ocaptain/claude"
    own.mkdir(parents=True)
    (own / "env.json").write_text('{"CLAUDE_CODE_OAUTH_TOKEN": "canary-1", "CLAUDE_CODE_MAX_RETRIES": "2222222"}')
    (own / "key").write_text("canary-2\n")
    (own / "path").write_text("/opt/claude\n")
    (own / "settings.json").write_text("{}")
    sessions = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002")
    briefing = Briefing(
        "v",
        "ship-0",
        2,
        {"id": "1", "subject": "s", "description": ""},
        "spec",
        reason="why",
        session="new",
        sessions=sessions,
    )
    run = ADAPTERS["claude"].build_run(briefing)
    wire = json.loads(json.dumps(to_dict(run.as_args())))
    subprocess.run(["git", "init", "-q", tmp_path / "clone"], check=True)
    job = from_dict(JobFile, {**wire, "cwd": str(tmp_path / "clone"), "log": "", "marker": ""})
    start = prepare_run(job, tmp_path, tmp_path)
    assert (start.argv[0], start.argv[-2:], start.resumed) == ("/opt/claude", ["--session-id", "new"], None)
    assert f"{tmp_path}/.ocaptain/claude/attempt.json" in start.argv
    assert start.mask(b"canary-1 canary-2 2222222") == b"******** ******** 2222222"
    assert start.env["CLAUDE_CODE_OAUTH_TOKEN"] == "canary-1"
    transcript = tmp_path / f".claude/projects/-w/{sessions[1]}.jsonl"
    transcript.parent.mkdir(parents=True)
    transcript.touch()
    start = prepare_run(job, tmp_path, tmp_path)
    assert (start.argv[-2:], start.resumed, start.prompt.name) == (["--resume", sessions[1]], sessions[1], "resume.md")
    assert "why" in run.resume_prompt


def test_what_was_laid_down_comes_before_what_the_host_has_and_must_be_whole(tmp_path, monkeypatch):
    own = tmp_path / ".ocaptain/claude/env.json"
    own.parent.mkdir(parents=True)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CONFIG_DIR"):
        monkeypatch.setenv(name, "canary-host")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:canary-proxy@proxy:1")
    monkeypatch.setenv("SORT_KEY", "result")
    files, begins = (".ocaptain/claude/env.json",), own_variable_prefixes("ocaptain.agents.claude.stream")
    job = JobFile(("x",), {"A": "1"}, "", "", 1.0, 1.0, "", env_files=files, own_env=begins)
    own.write_text('{"CLAUDE_CODE_OAUTH_TOKEN": "canary-own"}')
    start = prepare_run(job, tmp_path, tmp_path)
    assert [name for name, value in start.env.items() if value == "canary-host"] == []
    assert (start.env["CLAUDE_CODE_OAUTH_TOKEN"], start.env["A"]) == ("canary-own", "1")
    assert start.mask(b"result via canary-proxy") == b"result via ********"
    # A plain command has no environment of its own.
    assert prepare_run(replace(job, env_files=()), tmp_path, tmp_path).env["ANTHROPIC_API_KEY"] == "canary-host"
    for torn in ('{"CLAUDE', "[]", ""):
        own.write_text(torn)
        with pytest.raises(OSError, match=r"not valid JSON|must be a JSON object"):
            prepare_run(job, tmp_path, tmp_path)
    own.unlink()
    with pytest.raises(OSError, match=r"env\.json"):
        prepare_run(job, tmp_path, tmp_path)


def test_an_agent_reports_to_its_ship_unless_the_role_has_it_report_elsewhere(tmp_path, monkeypatch):
    own = tmp_path / ".ocaptain/claude/env.json"
    own.parent.mkdir(parents=True)
    own.write_text('{"DISABLE_TELEMETRY": "1"}')
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "of-the-host")  # would go with what is ours
    ship = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4", "CLAUDE_CODE_ENABLE_TELEMETRY": "1"}
    begins = own_variable_prefixes("ocaptain.agents.claude.stream")
    files = (".ocaptain/claude/env.json",)
    job = JobFile(("x",), {}, "", "", 1.0, 1.0, "", env_files=files, own_env=begins, telemetry=ship)
    env = prepare_run(job, tmp_path, tmp_path).env
    assert {name: env.get(name) for name in ship} == ship
    assert "of-the-host" not in env.values()
    assert endpoint_environment(env).items() >= ship.items()  # which comes before any settings file
    elsewhere = {"CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector.example"}
    own.write_text(json.dumps(elsewhere))
    env = prepare_run(job, tmp_path, tmp_path).env
    assert {name: env.get(name) for name in elsewhere} == elsewhere
    assert "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" not in env
    briefing = Briefing("v", "ship-0", 1, {"id": "1", "subject": "s", "description": "d"}, "")
    assert ADAPTERS["claude"].build_run(briefing).telemetry["OTEL_TRACES_EXPORTER"] == "otlp"
    assert ADAPTERS["claude"].build_run(replace(briefing, telemetry=False)).telemetry == {}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("HTTPS_PROXY", "http://me:canary%2F1@proxy:8080/", "canary/1 canary%2F1 me:canary%2F1"),
        ("ANTHROPIC_BASE_URL", "https://canary-token@gateway/v1", "canary-token"),
        (
            "ANTHROPIC_CUSTOM_HEADERS",
            "X-Org: canary-org\nAuthorization: Bearer canary-bearer",
            "canary-org canary-bearer",
        ),
        ("MY_TOKEN", "canary", "canary"),
    ],
)
def test_secrets_inside_of_variables(name, value, shown):
    mask = Masker(secrets_in_variable(name, value))
    assert "canary" not in mask(shown.encode()).decode()
    assert secrets_in_variable("PAGER", "https://host/me@there less ssh://somebody@host") == []


def test_what_was_said_in_the_workspace_leaves_with_the_voyage(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    for folder in ("kurz", "l" * 220):
        places = Places(tmp_path / folder)
        places.make()
        said = re.sub("[^A-Za-z0-9]", "-", str(places.workspace))
        said = said if len(said) <= 200 else f"{said[:200]}-1a2b3c"
        projects = places.home / ".claude/projects"
        for name in (said, "-home-me-own"):
            (projects / name).mkdir(parents=True)
            (projects / name / "session.jsonl").touch()
        assert remove_everything(places) == 0
        assert [path.name for path in projects.iterdir()] == ["-home-me-own"]
        assert f".claude/projects/{said}" in json.loads(capsys.readouterr().out)["removed"]


def test_a_credential_must_be_there(plan, monkeypatch, tmp_path):
    found = load_plan(plan([{}, run_task("true")])).plan
    with pytest.raises(UsageError) as caught:
        check_agents(found, None, None)
    assert [one for one in caught.value.details if "CLAUDE_CODE_OAUTH_TOKEN" in one and "tasks/1.json" in one]
    monkeypatch.setenv("OCAPTAIN_CLAUDE_KEY_HELPER", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no configured agent"):
        check_agents(found, None, None)
    monkeypatch.delenv("OCAPTAIN_CLAUDE_KEY_HELPER")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-key-1")
    assert check_agents(found, None, None) == {"1": "claude", "2": "command"}


def test_the_configuration_is_read_once_for_an_agent_however_many_its_tasks(plan, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-key-1")
    asked = []
    monkeypatch.setattr(type(ADAPTERS["claude"]), "find_missing_requirement", lambda self: asked.append(1))
    check_agents(load_plan(plan([{} for _ in range(50)])).plan, None, None)
    assert asked == [1]


def test_a_voyage_goes_on_only_with_what_its_agents_need(tmp_path, monkeypatch):
    directory = make_voyage(tmp_path, [{"agent": "claude"}])
    request = Request(voyage=VOYAGE)
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="cannot go on") as caught:
        prepare_voyage(request, load_settings())
    assert "CLAUDE_CODE_OAUTH_TOKEN" in caught.value.details[0]
    with command(directory) as ledger:
        assert ledger.ships()[0].state == "bootstrapping"


def test_a_model_is_no_option(plan):
    report = load_plan(plan([{"metadata": {"model": "--help"}}]))
    assert report.plan is None
    assert claude.MODEL  # the one that tests bill
