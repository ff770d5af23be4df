"""What a plan's texts and the user's surroundings would do on a ship is said before anything is made."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ocaptain.ansible.invocation import build_invocation
from ocaptain.captain.ship.link import Link, _is_long, _split_arguments
from ocaptain.captain.transport.base import ShipFault
from ocaptain.config import load_settings
from ocaptain.environment import CONTENT_SETTINGS, choose_locale, ignored_settings, without_python_settings
from ocaptain.errors import UsageError
from ocaptain.options import SailOptions
from ocaptain.plan import load_plan
from ocaptain.plan.keys import METADATA_KEYS, TASK_KEYS, find_order_keys
from ocaptain.plan.texts import MAX_TEXT_BYTES
from ocaptain.protocol import MAX_LINE, encode_line
from ocaptain.protocol.envelope import Call, ResultBody, pack
from ocaptain.protocol.messages import Check, Part
from ocaptain.voyage.check import check_request
from ocaptain.voyage.doctor import judge_ansible_settings, judge_locale
from ocaptain.voyage.plan_check import check_whole_plan
from ocaptain.voyage.request import Request
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.job import MAX_ARGUMENT, shell_argv
from ocaptain.worker.repository import read_arguments
from tests.helpers import run_task

BOM = b"\xef\xbb\xbf"


def lines(found) -> list[str]:
    return [str(one) for one in found]


# -- files ---------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_text(plan):
    directory = plan([run_task("true")], verify="true")
    before = load_plan(directory).plan
    for file in (directory / "spec.md", directory / "verify.sh", directory / "voyage.json", directory / "tasks/1.json"):
        file.write_bytes(BOM + file.read_bytes())
    report = load_plan(directory)
    assert report.plan, report.faults
    assert (report.plan.spec, report.plan.verify) == (before.spec, before.verify)
    assert report.plan.digest() == before.digest()


FILES = [
    ("verify.sh", b"#!/bin/bash\r\ntrue\r\n", "its first line ends in a CR"),
    ("verify.sh", b"#!/usr/bin/env python3\r\nprint()\n", "its first line ends in a CR"),
    ("verify.sh", b"true\nif true; then\r\n  true\r\nfi\n", "CR LF line ends (line 2), and bash takes the CR"),
    ("verify.sh", "true\n".encode("utf-16"), "is UTF-16"),
    ("verify.sh", "true\n".encode("utf-16-le"), "is UTF-16"),
    ("verify.sh", b"\x7fELF\x02\x01\x00\x00\n", "is not a script"),
    ("verify.sh", b"#!bash\ntrue\n", "names bash without its directory"),
    ("verify.sh", b"#!\ntrue\n", "names no program"),
    ("verify.sh", b"#!\r\ntrue\r\n", "names no program"),
    ("verify.sh", b"#!/usr/bin/env\ntrue\n", "names no program"),
    (
        "verify.sh",
        b"#!/usr/bin/env python3 -u\n1\n",
        "as one word, which is the name of no program; begin it with #!/us",
    ),
    ("verify.sh", b"#!/usr/bin/env LC_ALL=C bash\ntrue\n", "begin it with #!/usr/bin/env -S LC_ALL=C bash"),
    ("verify.sh", b"#!/usr/bin/env -i bash\ntrue\n", "begin it with #!/usr/bin/env -S -i bash"),
    ("verify.sh", b"#!/usr/bin/env bash\r\ntrue\r\n", "its first line ends in a CR"),
    ("verify.sh", b"#!/usr/bin/env -S bash -e\ntrue\r\n", "CR LF line ends (line 2), and bash takes the CR"),
    ("verify.sh", b"#!/opt/homebrew/bin/bash\ntrue\n", "ships are Linux machines"),
    ("verify.sh", b"#!/bin/sh " + b"x" * 300 + b"\ntrue\n", "longer than 255 bytes"),
    ("verify.sh", BOM + b" \n", "is empty"),
    ("spec.md", "spec".encode("utf-16"), "not valid UTF-8, but UTF-16; save it as UTF-8 (iconv"),
    ("voyage.json", "{}".encode("utf-16"), "UTF-16"),
    ("voyage.json", b'{"name": "a", "name": "b"}', "voyage.json: name: stands twice"),
    ("voyage.json", b'{"x": 1e999}', "too large for a number"),
    ("voyage.json", b'{"x": "\\ud83d"}', "voyage.json: x: has half of a character"),
    ("voyage.json", b'{"x": ' + b"[" * 80 + b"]" * 80 + b"}", "nested deeper than 64 levels"),
    ("voyage.json", b'{"setup": "a\\r\\nb"}', "voyage.json: setup: has CR LF line ends, and bash"),
    ("tasks/1.json", b'{"id": "1", "subject": "s", "metadata": {"run": "a\\r\\n"}}', "metadata.run: has CR LF"),
    ("tasks/1.json", b'{"id": "1", "subject": "s", "metadata": {"verify": "#!/usr/bin/python3\\n1"}}', "run by bash"),
    ("tasks/1.json", b'{"id": "1", "subject": "s", "metadata": {"run": "/Users/me/x"}}', "ships are Linux machines"),
    ("tasks/1.json", json.dumps({"id": "1", "subject": "s" * 10_001}).encode(), "subject: "),
    (
        "tasks/1.json",
        json.dumps({"id": "1", "subject": "s", "metadata": {"pin": "ship-" + "9" * 5000}}).encode(),
        "pin",
    ),
    ("voyage.json", b'{"repository": "o/n"}', "repository: is not a key, and means what here is `repo`; did you mean"),
    ("tasks/1.json", b'{"id": "1", "subject": "s", "metadata": null}', "metadata: must be an object {"),
    (
        "tasks/1.json",
        b'{"id": "1", "subject": "s", "metadata": {"paths": "a"}}',
        "metadata.paths: must be a list (it is",
    ),
    ("tasks/1.json", b'{"id": 1, "subject": "s"}', "id: must be a text (it is 1); write text in quotes"),
    ("tasks/1.json", b'{"id": "1", "subject": ""}', "subject: is empty (it is ''); write something"),
    ("tasks/1.json", b'{"id": "1", "subject": "s", "needs": ["2"]}', "needs: orders tasks in other tools"),
    ("tasks/1.json", b'{"id": "1", "subject": "s", "metadata": {"blockedBy": ["2"]}}', "metadata.blockedBy: orders"),
]


@pytest.mark.parametrize(("name", "data", "part"), FILES, ids=[f"{case[0]} {case[2]}"[:60] for case in FILES])
def test_what_would_fail_on_a_ship_is_a_fault_with_its_file_and_remedy(plan, name, data, part):
    directory = plan([run_task("true")])
    (directory / name).write_bytes(data)
    report = load_plan(directory)
    assert report.plan is None
    assert [line for line in lines(report.faults) if line.startswith(f"{name}: ") and part in line]
    assert all(fault.problem and fault.remedy for fault in report.faults)


SCRIPTS = [
    (b"#!/bin/sh\ntrue\n", None),
    (b"#!/usr/bin/env -S python3 -u\nprint()\r\n", None),
    (b"#!/usr/bin/env -S LC_ALL=C bash\ntrue\n", None),
    (b"#!/usr/bin/env -Sbash\ntrue\n", None),
    (b"#!/usr/bin/env -S 'bash' -e\ntrue\n", None),  # only a run can tell
    (b"#! /bin/bash -e\ntrue\n", None),
    (b"#!/usr/bin/env -S node -r x\n1\n", "is run by node, which a ship may lack; install it by `setup`"),
    (b"# caf\xe9\nprintf 'a\\r\\n'\n", None),
    (b"#!/usr/bin/env node\n1\n", "is run by node, which a ship may lack; install it by `setup`"),
    (b"#!/usr/local/bin/bash\ntrue\n", "use #!/usr/bin/env bash"),
]


@pytest.mark.parametrize(("script", "warning"), SCRIPTS)
def test_an_interpreter_that_a_ship_may_lack_is_a_warning_unless_setup_may_bring_it(plan, script, warning):
    directory = plan([run_task("true")])
    (directory / "verify.sh").write_bytes(script)
    report = load_plan(directory)
    assert report.plan, report.faults
    assert [warning in line for line in lines(report.warnings)] == ([True] if warning else [])
    (directory / "voyage.json").write_text('{"setup": "apt-get install -y nodejs"}')
    assert not load_plan(directory).warnings


def test_a_text_may_have_four_mebibytes_and_not_a_byte_more(plan):
    text = "é\n" * (MAX_TEXT_BYTES // 3) + "x" * (MAX_TEXT_BYTES % 3)
    assert len(text.encode()) == MAX_TEXT_BYTES
    directory = plan([{"description": text, "metadata": {"run": text, "verify": text}}], setup=text)
    (directory / "spec.md").write_text(text)
    report = load_plan(directory)
    assert report.plan, lines(report.faults)
    assert report.plan.tasks["1"].description == text
    directory = plan([{"description": f"{text}x", "metadata": {"run": f"{text}x"}}], "more", setup=f"{text}x")
    (directory / "spec.md").write_text(f"{text}x")
    fields = {(fault.file, fault.field) for fault in load_plan(directory).faults}
    assert fields == {
        ("spec.md", ""),
        ("voyage.json", "setup"),
        ("tasks/1.json", "description"),
        ("tasks/1.json", "metadata.run"),
    }


def test_a_link_to_nothing_is_no_missing_manifest(plan):
    directory = plan([run_task("true")])
    (directory / "voyage.json").unlink()
    (directory / "voyage.json").symlink_to("nowhere")
    assert [fault.file for fault in load_plan(directory).faults] == ["voyage.json"]


def test_a_directory_whose_name_is_no_text_is_refused(plan, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/p\xff"))
    plan([run_task("true")]).rename(odd)
    (fault,) = load_plan(odd).faults
    assert "not valid UTF-8; rename" in str(fault)
    str(fault).encode()


@pytest.mark.parametrize("key", ["depends_on", "dependsOn", "dependencies", "deps", "requires", "after", "needs"])
@pytest.mark.parametrize("value", [["1"], "1", {"1": True}])
def test_how_other_tools_order_tasks_is_refused_where_it_orders(key, value):
    assert find_order_keys({key: value}, TASK_KEYS) == [(key, "blockedBy")]
    assert find_order_keys({key: value, f"x_{key}": value}, METADATA_KEYS) == [(key, "blockedBy")]
    assert find_order_keys({key: []}, TASK_KEYS) == []


def test_more_names_of_an_order():
    found = {"blocked_by": ["1"], "parents": ["1"], "prerequisites": ["1"], "successors": ["1"], "priority": 1}
    assert find_order_keys(found, TASK_KEYS) == [
        ("blocked_by", "blockedBy"),
        ("parents", "blockedBy"),
        ("prerequisites", "blockedBy"),
        ("successors", "blocks"),
    ]
    assert find_order_keys({"blockedBy": ["1"], "blocks": ["1"]}, TASK_KEYS) == []


# -- the check before Ansible ------------------------------------------------------------------------


def test_what_its_agents_know_of_a_plan(plan):
    directory = plan([{"description": " "}, {"metadata": {"agent": "parrot"}}, run_task("true"), {"description": "x"}])
    (directory / "prompt.md.j2").write_text("{{ nothing }}")
    found = check_whole_plan(load_plan(directory), directory)
    assert [(fault.file, fault.field) for fault in found.faults] == [
        ("tasks/2.json", "metadata.agent"),
        ("prompt.md.j2", ""),
    ]
    assert all(fault.problem and fault.remedy for fault in found.faults)
    assert [(one.file, one.field) for one in found.warnings] == [("tasks/1.json", "description")]


def test_one_kind_of_fault_hides_no_other(plan):
    directory = plan([{"metadata": {"agent": "parrot"}}, run_task("a\r\n"), run_task("true", "9")])
    (directory / "tasks/2.json").write_text('{"id": "2", "subject": "s", "deps": ["1"]}')
    (directory / "verify.sh").write_bytes(b"true\r\n")
    found = {(fault.file, fault.field) for fault in check_whole_plan(load_plan(directory), directory).faults}
    assert found == {
        ("verify.sh", ""),
        ("tasks/1.json", "metadata.agent"),
        ("tasks/2.json", "deps"),
        ("tasks/3.json", "blockedBy[0]"),
    }


def test_all_that_is_wrong_is_named_at_once(plan, monkeypatch, tmp_path):
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.20.1\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    directory = plan([run_task("true", pin="ship-7")], repo="/no/such/place")
    request = Request(plan=directory, options=SailOptions(ships=1, model="-x"))
    with pytest.raises(UsageError) as refused:
        check_request(request, load_settings())
    for part in ("2.38 or newer", "--model", "ship-7 does not sail", "/no/such/place"):
        assert part in str(refused.value)
    too_long = Request(plan=plan([run_task("true")], "long", repo="/x" + "y" * 300))
    with pytest.raises(UsageError, match="cannot be found"):
        check_request(too_long, load_settings())


# -- surroundings --------------------------------------------------------------------------------------


def test_settings_of_the_users_ansible_and_python_stay_behind(tmp_path):
    (tmp_path / "key").write_text("")
    gone = {
        **dict.fromkeys(("ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_CALLBACKS_ENABLED", "ANSIBLE_CONFIG"), "x"),
        **dict.fromkeys(("ANSIBLE_STRATEGY", "ANSIBLE_FORCE_COLOR", "ANSIBLE_KEEP_REMOTE_FILES"), "x"),
        **dict.fromkeys(("ANSIBLE_FORKS", "ANSIBLE_TIMEOUT", "ANSIBLE_PRIVATE_KEY_FILE"), "none of that kind"),
        **dict.fromkeys(("PYTHONWARNINGS", "PYTHONIOENCODING", "PYTHONUTF8", "RUNNER_OMIT_EVENTS"), "x"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "key"),
        "ANSIBLE_PYTHON_INTERPRETER": "/opt/python/bin/python3",
        "ANSIBLE_REMOTE_TMP": "/var/tmp/ansible",
        "ANSIBLE_PIPELINING": "1",
    }
    kept = {
        "ANSIBLE_SSH_ARGS": "-v",
        "ANSIBLE_BECOME_PASSWORD_FILE": str(tmp_path / "key"),
        "ANSIBLE_COLLECTIONS_PATH": "/c",
        "PYTHON_VERSION": "3",
        "RUNNER_OS": "Linux",
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin",
    }
    assert ignored_settings({**gone, **kept}) == sorted(gone)
    with_content = ignored_settings({**gone, **kept}, has_content=True)
    assert with_content == sorted(set(gone) - CONTENT_SETTINGS)
    assert ignored_settings({"ANSIBLE_VAULT_PASSWORD_FILE": "/no/such/file"}, has_content=True)
    made = build_invocation("sail", {}, {**gone, **kept, "PYTHONPATH": "/theirs"}, tmp_path)
    assert made.ignored == tuple(sorted(gone))
    assert "ANSIBLE_STDOUT_CALLBACK" not in made.environment
    assert Path(made.environment["ANSIBLE_CONFIG"]).is_file()
    assert made.environment["ANSIBLE_FORKS"] == "25"
    assert made.environment["PYTHONPATH"].split(":")[-1] == "/theirs"
    assert without_python_settings({"PYTHONWARNINGS": "error", "PYTHONPATH": "/p"}) == {"PYTHONPATH": "/p"}


LOCALES = [
    ({"LC_ALL": "C"}, "C.UTF-8"),
    ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, "C.UTF-8"),
    ({"LC_ALL": "xx_XX.missing"}, "C.UTF-8"),
    ({"LANG": "en_US.UTF-8", "LC_TIME": "missing"}, "C.UTF-8"),
    ({"LANG": "de_DE"}, "C.UTF-8"),
    ({"LANG": "en_US.UTF-8"}, None),
    ({"LANG": "de_DE.utf8@euro"}, None),
    ({"LC_ALL": "en_US.UTF-8", "LANG": "missing"}, None),
    ({"LANG": "C"}, None),  # Python makes C.UTF-8 of it
    ({}, None),
]


@pytest.mark.parametrize(("environment", "chosen"), LOCALES)
def test_ansible_gets_a_locale_in_which_it_runs(environment, chosen):
    there = {"C", "POSIX", "C.UTF-8", "en_US.UTF-8", "de_DE", "de_DE.utf8@euro"}
    assert choose_locale(environment, there.__contains__) == chosen
    assert judge_locale(environment, there.__contains__).status == "ok"
    if "LC_ALL" in environment:
        nowhere = judge_locale(environment, {"C", "POSIX"}.__contains__)
        assert (nowhere.status, f"LC_ALL={environment['LC_ALL']}" in nowhere.detail) == ("fault", True)
        assert nowhere.remedy.startswith("install one")


def test_doctor_names_what_is_not_used():
    found = judge_ansible_settings({"ANSIBLE_STRATEGY": "x"}, ["~/.ansible.cfg"])
    assert (found.status, found.remedy) == ("ok", "")
    assert "ANSIBLE_STRATEGY, ~/.ansible.cfg" in found.detail
    of_hosts = judge_ansible_settings({"ANSIBLE_STRATEGY": "x", "ANSIBLE_REMOTE_TMP": "/tmp"}, [])
    assert of_hosts.detail == (
        "not used when ocaptain runs Ansible: ANSIBLE_STRATEGY; used with --hosts alone: ANSIBLE_REMOTE_TMP"
    )


# -- on the ship ---------------------------------------------------------------------------------------


def test_a_shell_line_of_any_length_runs(tmp_path):
    file = tmp_path / "line.sh"
    fits = f": {'x' * (MAX_ARGUMENT - 8)}; exit"[:MAX_ARGUMENT]
    assert shell_argv(["bash", "-c", fits], file) == ["bash", "-c", fits]
    assert (
        subprocess.run(shell_argv(["bash", "-c", f"# {'x' * (MAX_ARGUMENT - 2)}"], file), check=False).returncode == 0
    )
    assert not file.exists()
    line = f"printf '%s' {'é' * MAX_ARGUMENT} | wc -c; exit 7"
    done = subprocess.run(shell_argv(["bash", "-c", line], file), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (7, str(2 * MAX_ARGUMENT))
    with pytest.raises(OSError, match="too long"):
        subprocess.run(["bash", "-c", line], check=False)


def test_arguments_in_files_arrive_whole_or_not_at_all(tmp_path):
    args = {"prompt": "é\x1b\n" * 2_000_000, "task": {"id": "1"}, "none": None}
    assert _is_long(args)
    assert not _is_long({"prompt": "é" * 1000, "argv": ["a"] * 1000})
    pieces = _split_arguments(args)
    assert len(pieces) > 1
    (tmp_path / ".ocaptain/in").mkdir(parents=True)
    parts = [Part(f".ocaptain/in/arguments-1.{n}", len(data), digest) for n, (data, digest) in enumerate(pieces)]
    with pytest.raises(WorkspaceError, match="No such file"):
        read_arguments(tmp_path, parts)
    for part, (data, _) in zip(parts, pieces, strict=True):
        (tmp_path / part.path).write_bytes(data)
    assert read_arguments(tmp_path, parts) == args
    assert list((tmp_path / ".ocaptain/in").iterdir()) == []
    (tmp_path / parts[0].path).write_bytes(b"x" * parts[0].size)
    with pytest.raises(WorkspaceError, match="checksum"):
        read_arguments(tmp_path, parts[:1])


def test_a_worker_of_an_earlier_version_gets_a_line_or_a_reason(tmp_path):
    sent: list[Call] = []

    async def call(command: Call, *, seconds: float | None = None) -> tuple[int, ResultBody]:
        sent.append(command)
        return 1, ResultBody(command.id, ok=True)

    async def put(path: str, data: bytes) -> None:
        (tmp_path / path.rpartition("/")[2]).write_bytes(data)

    channel = SimpleNamespace(takes_parts=False, call=call)
    context = SimpleNamespace(voyage=SimpleNamespace(id="voyage-1"))
    link = Link("ship-0", context, SimpleNamespace(put=put), channel, [])  # type: ignore[arg-type]
    check = Check("0" * 40, "b", "x" * 10**6, 1.0, "l")
    asyncio.run(link.call("check:1", check))
    assert (sent[-1].args["command"], sent[-1].parts) == (check.command, None)
    with pytest.raises(ShipFault, match="ocaptain sail --resume voyage-1"):
        asyncio.run(link.call("check:2", replace(check, command="x" * MAX_LINE)))
    channel.takes_parts = True
    asyncio.run(link.call("check:3", check))
    assert (sent[-1].args, len(sent[-1].parts or ())) == ({}, 1)
    assert len(encode_line(pack(sent[-1]))) < 1000
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_bytes())["command"] == check.command
