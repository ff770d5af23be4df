"""Runs a repository's Stop hook and bounds its refusals: ``python3 stop_hook.py HOOK.json``, in place of it.

A refusal keeps the model at work, and each turn costs. The third one of an attempt ends it
(``terminal_reason: stop_hook_prevented``); those before are passed on, with a note that names file and hook,
by which the stream knows them. A program of its own, copied beside the hook: standard library only.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

MAX_REFUSALS = 3
REFUSED = 2  # the exit code by which a hook refuses
MAX_COMMAND = 200


def refusal_reason(code: int, out: str, err: str) -> Optional[str]:
    """Return why a hook refuses, None if it does not (the CLI: exit code 2 or a JSON decision)."""
    if code == REFUSED:
        return err.strip() or "no reason given"
    try:
        said = json.loads(out)
    except (ValueError, RecursionError):
        return None
    if isinstance(said, dict) and said.get("decision") == "block":
        return str(said.get("reason") or "no reason given")
    return None


def refusal_note(number: int, file: str, event: str, command: str) -> str:
    """Return the note that is added to a refusal."""
    line = " ".join(command.split())[:MAX_COMMAND]
    return f"(ocaptain: refusal {number} of {MAX_REFUSALS} by the {event} hook `{line}` of {file})"


def count_refusal(path: Path) -> int:
    """Count one more refusal of this attempt; return how many there are."""
    with open(path, "ab") as kept:
        kept.write(b"x")
    return os.path.getsize(path)


def main(argv: list[str]) -> int:
    """Run the hook; return the exit code."""
    about = json.loads(Path(argv[1]).read_bytes())
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-c", about["command"]],
        input=sys.stdin.buffer.read(),
        capture_output=True,
        check=False,
    )
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    why = refusal_reason(done.returncode, out, err)
    if why is None:
        sys.stdout.write(out)
        sys.stderr.write(err)
        return done.returncode
    number = count_refusal(Path(argv[1]).with_name("refusals"))
    told = refusal_note(number, about["file"], about["event"], about["command"])
    if number >= MAX_REFUSALS:
        print(json.dumps({"continue": False, "stopReason": told}))
    else:
        print(json.dumps({"decision": "block", "reason": f"{why}\n{told}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
