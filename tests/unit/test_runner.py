"""The run of a playbook: what it gets, and what it leaves alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ocaptain.ansible.invocation import Invocation
from ocaptain.ansible.runner import run_invocation

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Say
      ansible.builtin.debug:
        msg: "{{ lookup('ansible.builtin.env', 'OCAPTAIN_TEST_WORD') }}{{ lookup('ansible.builtin.env', 'HOME') }}"
"""


def test_a_run_has_an_environment_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "say.yml").write_text(PLAYBOOK)
    before = dict(os.environ)
    during = []
    environment = {"OCAPTAIN_TEST_WORD": "42 = {{ x }} ", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    invocation = Invocation(tmp_path / "say.yml", {}, environment=environment)
    done = run_invocation(invocation, lambda _: during.append(dict(os.environ)), lambda: 0)
    assert done.ok, done.output
    assert done.results["Say"]["msg"] == f"42 = {{{{ x }}}} {tmp_path}"
    assert during
    assert all(seen == before for seen in [*during, dict(os.environ)])
