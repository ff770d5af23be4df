"""What of Claude Code goes to which ship: decided as data, written by the program that ships run."""

from __future__ import annotations

import json
import stat
import subprocess
import sys

import pytest

from ocaptain.agents.claude.files import (
    CREDENTIAL_KINDS,
    Credentials,
    build_files,
    choose_credential,
    configured_credentials,
)
from ocaptain.agents.claude.settings import ClaudeSettings
from ocaptain.ansible.tree import PROGRAM, build_payload, parse_files, parse_reply, python_interpreter
from ocaptain.config import load_part
from ocaptain.errors import UsageError
from ocaptain.tree import TreeFile
from ocaptain.voyage.roles import ship_roles

HOME = "/home/sprite"
ALL = Credentials(key_helper_program=b"#!/bin/sh\necho helped\n", oauth_token="a-token", api_key="a-key")


@pytest.mark.parametrize(
    ("tasks", "with_it"),
    [
        ([("claude", None), ("command", "ship-0")], {"ship-0", "ship-1", "ship-2"}),
        ([("claude", "ship-1"), ("claude", "ship-1"), ("command", None)], {"ship-1"}),
        ([("claude", "ship-0"), ("claude", "ship-2")], {"ship-0", "ship-2"}),
        ([("command", None)], set()),
        ([], set()),
    ],
)
def test_only_ships_whose_tasks_need_it_get_the_role(tasks, with_it):
    ships = [f"ship-{number}" for number in range(3)]
    assert {ship for ship in ships if "claude" in ship_roles(tasks, ship)} == with_it
    assert all(ship_roles(tasks, ship)[-1] == "tmux-agent" for ship in ships)


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("auto", ALL, "key_helper"),
        ("auto", Credentials(oauth_token="t", api_key="k"), "oauth_token"),
        ("auto", Credentials(api_key="k"), "api_key"),
        ("api_key", ALL, "api_key"),
        ("none", Credentials(), "none"),
        ("key_helper", Credentials(key_helper="pass show key"), "key_helper"),
    ],
)
def test_one_credential_is_chosen(wanted, there, chosen):
    assert choose_credential(wanted, there) == chosen


@pytest.mark.parametrize(("wanted", "there"), [("auto", Credentials()), ("api_key", Credentials(oauth_token="t"))])
def test_none_that_fits_is_said_with_the_remedy_and_no_secret(wanted, there):
    with pytest.raises(UsageError, match="CLAUDE_CODE_OAUTH_TOKEN") as told:
        choose_credential(wanted, there)
    assert "'t'" not in str(told.value)
    assert "a-token" not in repr(ALL)


def test_ocaptains_own_configuration(monkeypatch, tmp_path):
    helper = tmp_path / "helper"
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "a-token")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    monkeypatch.setenv("OCAPTAIN_CLAUDE_KEY_HELPER", "helper")  # the caller's, wherever the runner is
    monkeypatch.setenv("OCAPTAIN_DOTENV_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="OCAPTAIN_CLAUDE_KEY_HELPER"):
        configured_credentials(load_part(ClaudeSettings))
    helper.write_bytes(ALL.key_helper_program)
    assert configured_credentials(load_part(ClaudeSettings)) == ALL
    monkeypatch.setenv("ANTHROPIC_API_KEY", "two words")
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY") as told:
        load_part(ClaudeSettings)
    assert "two words" not in str(told.value)


@pytest.mark.parametrize("kind", [*CREDENTIAL_KINDS, "none"])
def test_a_credential_stands_in_its_file_alone(kind):
    files = {
        file.path: file for file in build_files(HOME, "/usr/bin/claude", kind, ALL, base_url="http://h", environment={})
    }
    where = {"key_helper": "key-helper", "oauth_token": "env.json", "api_key": "key", "none": ""}[kind]
    secrets = (b"helped", b"a-token", b"a-key")
    holds = {path for path, file in files.items() if any(secret in file.data for secret in secrets)}
    assert holds == ({f".ocaptain/claude/{where}"} if where else set())
    assert all(files[path].mode & 0o077 == 0 for path in holds)
    settings = json.loads(files[".ocaptain/claude/settings.json"].data)
    assert settings.get("apiKeyHelper") == {
        "key_helper": f"{HOME}/.ocaptain/claude/key-helper",
        "api_key": f"cat {HOME}/.ocaptain/claude/key",
    }.get(kind)
    gone = {path for path, file in files.items() if file.state == "absent"}
    assert gone == {f".ocaptain/claude/{name}" for name in ("key", "key-helper") if name != where}
    assert json.loads(files[".ocaptain/claude/env.json"].data)["ANTHROPIC_BASE_URL"] == "http://h"


def test_the_users_words_win_over_the_roles():
    mine = {"A": 1, "B": None}
    files = {
        file.path: file
        for file in build_files(
            HOME, "c", "oauth_token", ALL, environment=mine, settings={"model": "m", "attribution": {}}
        )
    }
    assert json.loads(files[".ocaptain/claude/env.json"].data) == {"A": "1", "CLAUDE_CODE_OAUTH_TOKEN": "a-token"}
    settings = json.loads(files[".ocaptain/claude/settings.json"].data)
    assert settings == {"skipDangerousModePermissionPrompt": True, "attribution": {}, "model": "m"}


def apply(home, files, *, check=False):
    """Run the ship's side of it here."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=build_payload(str(home), files, check=check),
        capture_output=True,
        check=True,
        timeout=240,
    )
    return parse_reply(done.stdout.decode())


def test_the_tree_is_written_once_merged_and_cleared(tmp_path):
    state = tmp_path / ".claude.json"
    state.write_text(json.dumps({"userID": "u", "projects": {"/x": {"y": 1}, f"{HOME}/w": {"z": 2}}}))
    files = build_files(HOME, "c", "api_key", ALL, workspaces=["w"])
    first = apply(tmp_path, files, check=True)
    assert not (tmp_path / ".ocaptain").exists()
    assert apply(tmp_path, files) == first
    assert ".claude.json" in first
    assert apply(tmp_path, files) == []
    assert json.loads(state.read_text()) == {
        "userID": "u",
        "projects": {"/x": {"y": 1}, f"{HOME}/w": {"z": 2, "hasTrustDialogAccepted": True}},
        "hasCompletedOnboarding": True,
    }
    assert stat.S_IMODE((tmp_path / ".ocaptain/claude/key").stat().st_mode) == 0o600
    other = build_files(HOME, "c", "oauth_token", ALL)
    changed = [f".ocaptain/claude/{name}" for name in ("env.json", "key", "settings.json")]
    assert sorted(apply(tmp_path, other)) == changed
    assert not (tmp_path / ".ocaptain/claude/key").exists()
    state.write_text("{broken")
    assert apply(tmp_path, other) == [".claude.json"]
    assert json.loads(state.read_text())["hasCompletedOnboarding"] is True


@pytest.mark.parametrize(
    "item",
    [
        {"path": "a", "state": "odd", "content": ""},
        {"path": "a", "state": "merged", "content": "[]"},
        {"path": "a", "state": "merged", "content": "{"},
        {"path": "a"},
        {"path": "../a", "state": "absent"},
    ],
)
def test_a_wrong_item_is_named(item):
    with pytest.raises(UsageError, match=r"files\[0\]"):
        parse_files([item], lambda _: b"")


def test_an_absent_item_needs_nothing_else():
    assert parse_files([{"path": "a", "state": "absent"}], lambda _: b"") == [TreeFile("a", state="absent")]


def test_what_the_cli_remembers_is_in_its_users_home(tmp_path):
    ship, login = tmp_path / "ship", tmp_path / "login"
    for home in (ship, login):
        home.mkdir()
    apply(ship, build_files(str(ship), "c", "api_key", ALL, workspaces=["w"], login_home=str(login)))
    assert [path.name for path in ship.iterdir()] == [".ocaptain"]
    assert list(json.loads((login / ".claude.json").read_text())["projects"]) == [f"{ship}/w"]
    assert build_files(HOME, "c", "none", ALL, login_home=f"{HOME}/") == build_files(HOME, "c", "none", ALL)


@pytest.mark.parametrize(
    ("known", "python"),
    [
        ({}, "/usr/bin/python3"),
        ({"ansible_python_interpreter": "{{ place }}"}, "/opt/{{ place }}"),
        ({"ansible_python_interpreter": "auto_silent"}, "/usr/bin/python3"),
        ({"ansible_python_interpreter": "auto", "ansible_facts": {"discovered_interpreter_python": "/p"}}, "/p"),
    ],
)
def test_which_python_writes_a_tree(known, python):
    def template(value):
        return f"/opt/{value}" if value and "{{" in value else value

    assert python_interpreter(known, template) == python
