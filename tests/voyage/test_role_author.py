"""What the documentation promises the author of a role: docs/roles.md and docs/ansible.md."""

from __future__ import annotations

import uuid

import pytest

from tests.voyage.test_ansible import ansible

pytestmark = pytest.mark.root
PLAYS = """
- name: Make a machine
  hosts: localhost
  gather_facts: false
  tasks:
    - sprite: {names: [NAME]}
    - meta: refresh_inventory
- name: Use it
  hosts: NAME
  gather_facts: false
  tasks:
    - user: {name: fred}
      become: true
    - command: id -un
      become: true
      become_user: fred
      register: who
      failed_when: who.stdout != "fred"
    - tree: {dest: "~", files: [{path: .freds, content: x, mode: "0600"}]}
      become: true
      become_user: fred
    - stat: {path: /home/fred/.freds}
      become: true
      register: made
      failed_when: made.stat.pw_name != "fred"
"""


def test_a_play_finds_what_it_has_made_and_becomes_somebody_else(fleet, tmp_path):
    name = f"lone-{uuid.uuid4().hex[:8]}"
    (tmp_path / "play.yml").write_text(PLAYS.replace("NAME", name))
    (tmp_path / "mine.sprites.yml").write_text(f"plugin: sprites\nprefix: {name}\n")
    done = ansible(fleet, "ansible-playbook", "-i", tmp_path / "mine.sprites.yml", tmp_path / "play.yml")
    fleet.api("DELETE", f"/v1/sprites/{name}")
    assert done.returncode == 0, done.stdout + done.stderr
