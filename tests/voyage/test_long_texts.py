"""Texts of four mebibytes sail, past a shell whose settings would end Ansible; a model's prompt may be as long."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from ocaptain.ledger import Ledger
from tests.helpers import run_task, write_plan
from tests.voyage import claude
from tests.voyage.claude import message, text
from tests.voyage.local import landed, make_voyage, sail

MEBIBYTES = 4 * 1024 * 1024
#: What shells export for other programs, each of which ended a run of ours or printed into it.
HOSTILE = {
    "LC_ALL": "C",
    "LC_TIME": "xx_XX.missing",
    "TZ": "Nowhere/At:All",
    **dict.fromkeys(
        ("ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_CALLBACKS_ENABLED", "ANSIBLE_STRATEGY"), "community.none.such"
    ),
    **dict.fromkeys(("ANSIBLE_FORKS", "ANSIBLE_TIMEOUT", "ANSIBLE_VAULT_PASSWORD_FILE"), "/no/such"),
    **dict.fromkeys(("ANSIBLE_FORCE_COLOR", "ANSIBLE_KEEP_REMOTE_FILES", "ANSIBLE_BECOME", "RUNNER_OMIT_EVENTS"), "1"),
    "PYTHONWARNINGS": "error",
    "PYTHONIOENCODING": "ascii",
}


@pytest.mark.root
def test_long_texts_sail_whatever_the_shell_exports(sailor, tmp_path):
    spec = ("ä line of a specification\n" * (MEBIBYTES // 26)).encode()[:MEBIBYTES].decode(errors="ignore")
    line = f": {'x' * MEBIBYTES}"[: MEBIBYTES - 200]
    look = 'wc -c < "$OCAPTAIN_TASK_FILE" > file; wc -c > prompt; cat ~/voyage/artifacts/spec.md | sha256sum > spec'
    task = run_task(f"{line}; {look}", verify=f": {'y' * 200_000}; test -s prompt && test -s file")
    # Escaped as most programs write JSON, the file is three times as long.
    directory = write_plan(tmp_path / "long", [{**task, "description": "é\n" * (MEBIBYTES // 3)}])
    (directory / "spec.md").write_text(spec)
    (directory / "verify.sh").write_text(
        f"#!/bin/bash\n# {'v' * 98}\n" + "# a comment\n" * 300_000 + "test -s prompt\n"
    )
    (directory / "voyage.json").write_text(json.dumps({"setup": f": {'s' * 200_000}; true"}))
    (sailor.home / ".ansible.cfg").write_text("[defaults]\nstrategy = none\nvault_password_file = /no/such\n")
    sailor.env |= HOSTILE
    try:
        checks = {check["name"]: check for check in sailor.json("doctor", "--json")["checks"]}
        assert "LC_ALL=C" in checks["locale"]["detail"]
        assert "ANSIBLE_STRATEGY" in checks["ansible settings"]["detail"]
        assert "~/.ansible.cfg" in checks["ansible settings"]["detail"]
        done = sailor.run("sail", directory, "-n", "1", "--wait", "--json")
    finally:
        for name in HOSTILE:
            sailor.env.pop(name)
        (sailor.home / ".ansible.cfg").unlink()
    assert done.code == 0, done.err
    voyage = done.json["voyage"]
    assert int(sailor.git(voyage, "show", "HEAD:prompt")) > len(spec.encode()) + MEBIBYTES - 3
    assert int(sailor.git(voyage, "show", "HEAD:file")) > 2 * MEBIBYTES
    assert sailor.git(voyage, "show", "HEAD:spec").split()[0] == hashlib.sha256(spec.encode()).hexdigest()
    documents = sailor.voyage(voyage) / "plan"
    assert (documents / "spec.md").read_text() == spec
    assert (documents / "verify.sh").read_bytes() == (directory / "verify.sh").read_bytes()
    refused = sailor.run("sail", directory)
    assert (refused.code, f"--resume {voyage}" in refused.err, "Provision" in refused.err) == (2, True, False)


def test_a_model_gets_a_long_prompt_whole(tmp_path, ships):
    (ship,) = ships()
    talk = [claude.init(), {"sh": "echo hello > a"}, *message("m1", text("Done.")), claude.result("All done.")]
    claude.install(ship.home, {"1": {"steps": talk}})
    spec = "ä line of a specification\n" * (MEBIBYTES // 26)
    directory = make_voyage(tmp_path, [{"agent": "claude"}], 1, spec=spec)
    assert asyncio.run(sail(directory, [ship])) == "complete"
    with Ledger(directory / "ledger.db") as ledger:
        assert [row["state"] for row in ledger.rows("attempts", "token")] == ["landed"]
    (call,) = claude.calls(ship.home)
    assert spec in call["prompt"]
    assert sum(map(len, call["argv"])) < 10_000
    assert not list((ship.home / ".ocaptain/in").iterdir())
    assert len(landed(directory)) == 1
