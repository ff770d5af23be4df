"""A Claude Code that is told what to do: its stream's shapes were seen in the real one (2.1.330)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

#: Runs on the ship in place of the CLI: notes how it was called, keeps transcripts as the CLI does,
#: and plays ``$HOME/play.json``: by "task.attempt" a shell line, lines of stream, an exit code.
PROGRAM = r"""#!{python}
import json, os, pathlib, subprocess, sys
home = pathlib.Path(os.environ["HOME"])
argv = sys.argv[1:]
prompt = sys.stdin.read() if "-p" in argv else argv[-1]  # with a screen of its own, standard input is a terminal
option = lambda name: argv[argv.index(name) + 1] if name in argv else None
session = option("--resume") or option("--session-id")
kept = home / ".claude/projects/-w" / (session + ".jsonl")
if option("--resume") and not kept.exists():
    sys.exit("No conversation found")
kept.parent.mkdir(parents=True, exist_ok=True)
kept.touch()
key = os.environ["OCAPTAIN_TASK_ID"] + "." + os.environ["OCAPTAIN_ATTEMPT"]
plays = json.loads((home / "play.json").read_text())
play = plays.get(key) or plays[os.environ["OCAPTAIN_TASK_ID"]]
with open(home / "calls.jsonl", "a") as calls:
    token = os.environ.get("CLAUDE_CODE_OAUTH_TOKEN", "")
    calls.write(json.dumps(dict(key=key, argv=argv, prompt=prompt, token=token)) + "\n")
for step in play["steps"]:
    if "sh" in step:
        subprocess.run(["bash", "-c", step["sh"]], check=False)
    else:
        line = json.dumps(step).replace("SESSION", session)
        print(line.replace("=TOKEN", "=" + token).replace("is TOKEN", "is " + token), flush=True)
sys.exit(play.get("exit", 0))
"""
MODEL = "claude-opus-5-5"
#: One message: 100 in, 50 out, 2000 read from the cache, 1000 written to it, at 4/20/0.2/5 dollars a million.
USAGE = {"input_tokens": 100, "cache_creation_input_tokens": 1000, "cache_read_input_tokens": 2000, "output_tokens": 1}
MESSAGE_NANO = 100 * 4000 + 50 * 20000 + 2000 * 200 + 1000 * 5000


def init(auth="none"):
    return {
        "type": "system",
        "subtype": "init",
        "session_id": "SESSION",
        "model": MODEL,
        "apiKeySource": auth,
        "cwd": "/w",
    }


def message(name, *blocks, stop="end_turn", model=MODEL, parent=None, output=50):
    """Return the lines of an assistant's message; ``stop`` None = its stream was cut."""
    about = {"parent_tool_use_id": parent, "session_id": "SESSION"}
    start = {"id": name, "role": "assistant", "model": model, "content": [], "stop_reason": None, "usage": USAGE}
    lines = [{"type": "stream_event", "event": {"type": "message_start", "message": start}, **about}]
    lines += [{"type": "assistant", "message": {**start, "content": [block]}, **about} for block in blocks]
    if stop:
        event = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": output}}
        lines.append({"type": "stream_event", "event": event, **about})
    return [*lines, {"type": "stream_event", "event": {"type": "message_stop"}, **about}]


def text(said):
    return {"type": "text", "text": said}


def tool(name, **given):
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": given}


def tool_result(content, *, error=False):
    block = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, "is_error": error}
    return {"type": "user", "message": {"role": "user", "content": [block]}, "session_id": "SESSION"}


def retry(status, error, delay_ms=500):
    about = {"attempt": 1, "max_retries": 4, "retry_delay_ms": delay_ms, "error_status": status, "error": error}
    return {"type": "system", "subtype": "api_retry", **about}


def result(said="done", *, messages=1, **more):
    nano = messages * MESSAGE_NANO
    counted = {
        "inputTokens": 100 * messages,
        "outputTokens": 50 * messages,
        "cacheReadInputTokens": 2000 * messages,
        "cacheCreationInputTokens": 1000 * messages,
        "costUSD": nano / 10**9,
    }
    return {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "api_error_status": None,
        "stop_reason": "end_turn",
        "terminal_reason": "completed",
        "num_turns": 1,
        "result": said,
        "total_cost_usd": 99.0,  # of the whole session, as after a --resume
        "model_usage_since_last_result": {MODEL: counted} if messages else {},
        **more,
    }


def api_error(status, said, kind=None, **more):
    """Return the result of a request that the API would not answer."""
    about = {"is_error": True, "api_error_status": status, "api_error_type": kind, "stop_reason": "stop_sequence"}
    return result(said, **{"messages": 0, "terminal_reason": "api_error", **about, **more})


def turn(said, *, name="msg_1", sh=None, **more):
    """Return a whole play: a tool that runs ``sh``, and the end."""
    steps = [init()]
    if sh:
        steps += [*message(f"{name}_0", tool("Bash", command=sh), stop="tool_use"), {"sh": sh}, tool_result("ok")]
    return {"steps": [*steps, *message(name, text(said)), result(said, messages=2 if sh else 1, **more)]}


def install(home: Path, plays: dict, environment: dict | None = None, key: str | None = None) -> None:
    """Lay down what role ``claude`` does, with the program above."""
    own = home / ".ocaptain/claude"
    own.mkdir(parents=True, exist_ok=True)
    program = own / "fake"
    program.write_text(PROGRAM.replace("{python}", sys.executable))
    program.chmod(0o755)
    (own / "path").write_text(f"{program}\n")
    (own / "settings.json").write_text("{}")
    (own / "env.json").write_text(json.dumps(environment or {"CLAUDE_CODE_OAUTH_TOKEN": "canary-oauth-1"}))
    if key:
        (own / "key").write_text(key)
    (home / "play.json").write_text(json.dumps(plays))


def calls(home: Path) -> list[dict]:
    """Return how it was called."""
    path = home / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
