"""Canaries of every credential through a whole voyage with failures: they are nowhere but where they belong."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers import OCAPTAIN, Done, run_task

pytestmark = pytest.mark.root
CANARIES = {
    "SPRITES_TOKEN": "canary-sprites/1",
    "GH_TOKEN": "canary-gh-2",
    "CLAUDE_CODE_OAUTH_TOKEN": "canary-claude-3",
    "ANTHROPIC_API_KEY": "canary-anthropic-4",
    "OCAPTAIN_TAILSCALE_OAUTH_SECRET": "canary-tailscale-5",
}


@pytest.mark.slow
def test_canaries(lone, plan):
    """execve traced on the host, every file that is left, git objects, tmux history, artefacts, errors."""
    lone.run("drydock", "stop")
    nobody = "http://127.0.0.1:9"  # `doctor` would ask the tailnet that the secret is for
    lone.env |= {**CANARIES, "TMPDIR": str(lone.home / "tmp"), "OCAPTAIN_TAILSCALE_API_URL": nobody}
    (lone.home / "tmp").mkdir()
    trace = lone.home / "trace.txt"
    tasks = [
        run_task("env; set; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'; false"),
        run_task("env > environment; echo 2 > b", verify="env"),
        run_task("echo 3 > c", verify="false"),
    ]
    sailed = traced_run(lone, trace, "sail", plan(tasks), "-n", "2", "--provider", "drydock", "--wait", "--json")
    assert sailed.code == 1, sailed.err
    voyage = sailed.json["voyage"]
    token = Path(json.loads((lone.home / "state/ocaptain/drydock/server.json").read_text())["token_file"]).read_text()
    secrets = {**CANARIES, "drydock's token": token}
    shown = sailed.out + sailed.err
    lone.faults({"call": "* /v1/*", "status": 500})
    for arguments in (["sweep", "--dry-run"], ["doctor"], ["doctor", "--provider", "sprites"]):
        done = lone.run(*arguments, env={"OCAPTAIN_API_TIMEOUT": "2"})
        shown += done.out + done.err
    lone.faults()
    for arguments in (["status"], ["tasks", "--json"], ["logs"], ["shell", "--raw", voyage, "ship-0"]):
        done = lone.run(*arguments)
        shown += done.out + done.err
    panes = lone.inside(f"{voyage}-ship-0", "tmux -L ocaptain capture-pane -p -S - -t agent 2>&1; env; ps axeww")
    shown += panes
    sunk = traced_run(lone, lone.home / "trace2.txt", "sink", voyage, "--force")
    assert sunk.code == 0, sunk.err
    shown += sunk.out + sunk.err
    traced = trace.read_text(errors="replace") + (lone.home / "trace2.txt").read_text(errors="replace")
    assert len(re.findall(r"ansible-playbook", traced)) >= 2
    assert "worker.pyz" in traced
    objects = subprocess.run(
        ["git", "-C", lone.voyage(voyage) / "repo.git", "cat-file", "--batch-all-objects", "--batch", "--unordered"],
        capture_output=True,
        check=True,
        timeout=240,
    ).stdout.decode(errors="replace")
    assert "OCAPTAIN_TASK_ID" in objects
    allowed = {lone.home / "state/ocaptain/drydock/token"}
    for name, secret in secrets.items():
        assert secret not in traced, f"{name} stands in an argv"
        assert secret not in shown, f"{name} was shown"
        assert secret not in objects, f"{name} is in a git object"
        found = subprocess.run(
            ["grep", "-rlF", "--", secret, str(lone.home)], capture_output=True, text=True, check=False, timeout=240
        )
        files = {Path(line) for line in found.stdout.splitlines()}
        assert files <= allowed, f"{name} is in {files - allowed}"


def traced_run(sailor, trace, *arguments):
    """Run a command with every execve of it and its children noted, those that outlive it too."""
    argv = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-s", "200000", "-e", "trace=execve", "-e", "signal=none"]
    out, err = trace.with_suffix(".out"), trace.with_suffix(".err")
    with out.open("wb") as stdout, err.open("wb") as stderr:  # files: strace holds what pipes it was given
        code = subprocess.run(
            [*argv, "-o", str(trace), str(OCAPTAIN), *map(str, arguments)],
            env=sailor.env,
            cwd=sailor.home,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            check=False,
            timeout=240,
        ).returncode
    return Done(code, out.read_text(), err.read_text())
