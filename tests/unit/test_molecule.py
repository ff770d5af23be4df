"""What every molecule scenario shares makes one that tested nothing red."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import REPO

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(("hosts", "green"), [("localhost", True), ("molecule", False)])
def test_a_scenario_without_a_host_is_red(tmp_path, hosts, green):
    """No drydock runs here: its inventory is empty, and no ship is called molecule."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True, timeout=240)  # what is shared is found by it
    for name in ("examples", "inventory_plugins", "plugins", "roles"):
        (tmp_path / name).symlink_to(REPO / name)
    shutil.copytree(REPO / ".config", tmp_path / ".config")
    scenario = tmp_path / "molecule/lone"
    scenario.mkdir(parents=True)
    (scenario / "molecule.yml").write_text("---\nshared_state: false\nscenario: {test_sequence: [converge]}\n")
    play = f"- hosts: {hosts}\n  gather_facts: false\n  tasks: [{{debug: {{msg: reached}}}}]\n"
    (scenario / "converge.yml").write_text(f"---\n{play}")
    done = subprocess.run(
        [str(BIN / "molecule"), "test", "--scenario-name", "lone"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is green, said
    assert ("reached" in said) is green, said
    assert green or "Could not match supplied host pattern" in said, said
