"""The toolkit without the command line: inventory, connection, actions, role, by Ansible's own tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.helpers import REPO, Sailor

pytestmark = pytest.mark.root
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def sprite(fleet):
    """A sprite that no voyage knows."""
    made = f"lone-{uuid.uuid4().hex[:8]}"
    play(fleet, f"- sprite: {{names: [{made}], labels: [mine]}}")
    yield made
    play(fleet, f"- sprite: {{names: [{made}], state: absent}}")


def ansible(sailor, tool, *arguments, env=None):
    return subprocess.run(
        [str(BIN / tool), *map(str, arguments)],
        env={**sailor.env, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), **(env or {})},
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def play(sailor, tasks, *arguments, hosts="localhost", ok=True, **variables):
    """Run tasks (YAML) as a play; return its output."""
    path = sailor.home / f"play-{uuid.uuid4().hex}.yml"
    indented = "\n".join(f"    {line}" for line in tasks.strip().splitlines())
    path.write_text(f"- hosts: {hosts}\n  gather_facts: false\n  tasks:\n{indented}\n")
    done = ansible(sailor, "ansible-playbook", path, "-e", json.dumps(variables), *arguments)
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_inventory_lists_and_groups(fleet, sprite, tmp_path):
    done = ansible(fleet, "ansible-inventory", "--list")
    listed = json.loads(done.stdout)
    # What an API says is no template: ansible-core marks it so, also in this output.
    assert listed["_meta"]["hostvars"][sprite]["ansible_connection"] == {"__ansible_unsafe": "sprite"}
    assert sprite in listed["status_running"]["hosts"]
    other = tmp_path / "mine.sprites.yml"
    other.write_text("plugin: sprites\nlabels: [nobodys]\n")
    assert "lone-" not in ansible(fleet, "ansible-inventory", "-i", other, "--list").stdout
    other.write_text("plugin: sprites\nkeyed_groups: [{key: ocaptain_status, prefix: is}]\n")
    assert "@is_running" in ansible(fleet, "ansible-inventory", "-i", other, "--graph").stdout


def test_a_drydock_that_does_not_run_is_empty_and_an_api_that_cannot_be_reached_is_an_error(tmp_path):
    lone = Sailor(tmp_path)
    empty = ansible(lone, "ansible-inventory", "--list")
    assert empty.returncode == 0
    assert json.loads(empty.stdout)["_meta"]["hostvars"] == {}
    wrong = {"SPRITES_TOKEN": "canary-token", "SPRITES_API_URL": "http://127.0.0.1:9"}
    failed = ansible(lone, "ansible-inventory", "--list", env=wrong)
    assert failed.returncode != 0
    assert "cannot reach http://127.0.0.1:9" in failed.stderr
    assert "canary" not in failed.stdout + failed.stderr


def test_the_connection_runs_copies_fetches_and_becomes(fleet, sprite, tmp_path):
    before = fleet.metrics()["calls"][sprite]
    assert "pong" in ansible(fleet, "ansible", sprite, "-m", "ping").stdout
    after = fleet.metrics()["calls"][sprite]
    assert sum(after.values()) - sum(before.values()) == 1
    data = os.urandom(3_000_000)
    (tmp_path / "blob ü").write_bytes(data)
    tasks = f"""
- copy: {{src: "{tmp_path}/blob ü", dest: "/home/sprite/blob ü"}}
- fetch: {{src: "/home/sprite/blob ü", dest: "{tmp_path}/back", flat: true}}
- command: id -un
  become: true
  register: who
- command: sh -c "echo out; echo err >&2; exit 3"
  register: ended
  failed_when: ended.rc != 3 or ended.stdout != "out" or ended.stderr != "err"
- assert: {{that: who.stdout == "root"}}
- fetch: {{src: /nowhere, dest: "{tmp_path}/x", flat: true}}
  register: missing
  failed_when: not missing.failed
"""
    play(fleet, tasks, hosts=sprite)
    assert (tmp_path / "back").read_bytes() == data


def test_a_sprite_that_is_gone_is_unreachable(fleet):
    host = "{name: nobody, ansible_connection: sprite, ocaptain_provider: drydock}"
    tasks = f"- add_host: {host}\n- ping: {{}}\n  delegate_to: nobody"
    assert "UNREACHABLE" in play(fleet, tasks, ok=False)


def test_trees_and_services_are_idempotent_and_clean_in_check_mode(fleet, sprite):
    tasks = """
- tree:
    dest: /home/sprite/planted
    files:
      - {path: a/b, content: "{{ text }}", mode: "0600"}
- sprite_service: {name: napper, cmd: sleep, args: ["600"]}
"""
    first = play(fleet, tasks, "--check", hosts=sprite, text="x {{ 1 + 1 }}")
    assert "changed=2" in first
    assert "changed=2" in play(fleet, tasks, hosts=sprite, text="x")
    assert "changed=0" in play(fleet, tasks, hosts=sprite, text="x")
    assert "changed=1" in play(fleet, tasks, hosts=sprite, text="y")
    wrong = "- tree: {dest: /x, files: [{path: ../y, content: z}]}"
    assert "must be relative" in play(fleet, wrong, hosts=sprite, ok=False)


def test_the_role_alone_twice(fleet, sprite):
    tasks = "- include_role: {name: tmux-agent}"
    assert "changed=2" in play(fleet, tasks, hosts=sprite)
    assert "changed=0" in play(fleet, tasks, hosts=sprite)
    assert "changed=0" in play(fleet, tasks, "--check", hosts=sprite)


def test_sprites_in_check_mode_are_not_made(fleet):
    made = f"never-{uuid.uuid4().hex[:8]}"
    assert "changed=1" in play(fleet, f"- sprite: {{names: [{made}]}}", "--check")
    assert made not in fleet.metrics()["calls"] or "POST" not in fleet.metrics()["calls"][made]
    assert "changed=0" in play(fleet, f"- sprite: {{names: [{made}], state: absent}}")


def test_the_documentation_is_there():
    for kind, name in (("inventory", "sprites"), ("connection", "sprite"), ("module", "voyage"), ("module", "tree")):
        done = subprocess.run(
            [str(BIN / "ansible-doc"), "-t", kind, name],
            cwd=REPO,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg")},
        )
        assert done.returncode == 0, done.stderr
        assert "OPTIONS" in done.stdout
