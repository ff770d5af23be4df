"""A role in a repository of its own, with modules of the PyPI package ``ansible``, tried by the scenario to copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.configurations import link_collection
from tests.helpers import REPO, Sailor
from tests.tools import package_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif("OCAPTAIN_OUTSIDE" not in os.environ, reason="needs PyPI's package ansible (make outside)"),
    pytest.mark.timeout(3600),
]
BIN = Path(sys.executable).parent
ROLE = """---
- name: Make a directory
  ansible.builtin.file: {path: "{{ their_home }}/.config", state: directory, mode: "0755"}

- name: Configure the tool
  community.general.ini_file: {path: "{{ their_home }}/.config/t.ini", section: a, option: b, value: c, mode: "0600"}

- name: Let a key in
  ansible.posix.authorized_key: {user: sprite, key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA{{ 'A' * 42 }}"}

- name: Say whose it is
  community.general.git_config: {name: user.name, value: ü ☃, scope: global}
"""
DEFAULTS = "---\ntheir_home: /home/sprite\n"


def test_a_role_of_a_repository_of_its_own(tmp_path):
    project = tmp_path / "their_tools"
    for part, text in {"tasks": ROLE, "defaults": DEFAULTS}.items():
        (project / part).mkdir(parents=True)
        (project / part / "main.yml").write_text(text)
    shutil.copytree(REPO / "examples/molecule/default", project / "molecule/default")
    subprocess.run(["git", "init", "-q", project], check=True, timeout=60)
    (tmp_path / "home").mkdir()
    sailor = Sailor(tmp_path / "home")
    paths = [link_collection(tmp_path / "collections"), package_of("ansible==12.3.0")]
    env = {
        **{name: value for name, value in sailor.env.items() if not name.startswith("ANSIBLE_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(map(str, paths)),
    }
    try:
        done = subprocess.run(
            [BIN / "molecule", "test"], cwd=project, env=env, capture_output=True, text=True, check=False, timeout=1800
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "changed=4" in done.stdout + done.stderr, done.stdout + done.stderr
        assert sailor.names() in (None, [])
    finally:
        sailor.stop_drydock()
    assert sailor.leftovers() == []
