"""Programs that must not outlive the one that started them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ocaptain.background import dying_with_us
from tests.helpers import REPO, wait_for

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of a parent's death")


def test_it_runs_as_the_child_of_its_parent(tmp_path):
    done = subprocess.run(dying_with_us(["/bin/sh", "-c", 'echo "$1"', "sh", "a  b"]), capture_output=True, check=True)
    assert done.stdout == b"a  b\n"


def test_it_does_not_begin_when_its_parent_was_killed_before_it_could_ask_for_the_signal(tmp_path):
    mark = tmp_path / "mark"
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = subprocess.run(dying_with_us(["touch", str(mark)], parent=gone.pid), check=False)
    assert (done.returncode != 0, mark.exists()) == (True, False)


def test_it_dies_with_its_parent(tmp_path):
    said = tmp_path / "pid"
    code = "import subprocess, sys; from ocaptain.background import dying_with_us;"
    code += "subprocess.run(dying_with_us(['/bin/sh', '-c', 'echo $$ > $1; exec sleep 600', 'sh', sys.argv[1]]))"
    parent = subprocess.Popen([sys.executable, "-c", code, str(said)], cwd=REPO)
    pid = int(wait_for(lambda: said.exists() and said.read_text()))
    parent.kill()
    parent.wait()
    wait_for(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
