"""``scripts/setup`` on machines that lack something: what it says. It installs nothing here."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from ocaptain.environment import install_line
from tests.helpers import REPO

#: What the script may use on any machine before it knows what is missing.
TOOLS = ("bash", "env", "cat", "dirname", "id", "mount", "hostname", "unshare", "nsenter", "setpriv")
OLD_PYTHON = """#!/bin/sh
case "$*" in
*ensurepip*) ;;
--version) echo Python 3.9.6 ;;
*) exit 1 ;;
esac
"""


def setup_on(tmp_path, *programs, system="Linux", kind="runtime", python=None):
    """Run the script where only these programs are; return its exit code and what it said."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in (*TOOLS, *programs):
        (place / name).symlink_to(shutil.which(name))
    made = {"uname": f"#!/bin/sh\necho {system}\n", "python3": python or f'#!/bin/sh\nexec {sys.executable} "$@"\n'}
    for name, text in made.items():
        (place / name).write_text(text)
        (place / name).chmod(0o755)
    script = tmp_path / "scripts/setup"
    script.parent.mkdir()
    shutil.copy(REPO / "scripts/setup", script)
    done = subprocess.run(
        [place / "bash", script, kind], env={"PATH": str(place)}, capture_output=True, text=True, check=False
    )
    assert not (tmp_path / ".venv").exists()
    return done.returncode, done.stderr


@pytest.mark.parametrize(("kind", "words"), [("runtime", "brew install git"), ("dev", "brew install git tmux node")])
def test_a_mac_is_told_what_to_brew(tmp_path, kind, words):
    code, said = setup_on(tmp_path, system="Darwin", kind=kind)
    assert (code, said) == (2, f"setup: these programs are missing; run:  {words}\n")


def test_an_old_python_of_a_mac_is_named(tmp_path):
    code, said = setup_on(tmp_path, "git", system="Darwin", python=OLD_PYTHON)
    assert code == 2
    assert "Python 3.11 or newer is needed, this is Python 3.9.6; run:  brew install python@3.13" in said


def test_a_linux_without_apt_is_told_what_is_missing(tmp_path):
    code, said = setup_on(tmp_path)
    assert code == 2
    assert "these packages are missing" in said
    assert said.rstrip().endswith("apt-get install -y git")


def test_nothing_that_only_linux_has_is_used_on_a_mac():
    """The part of the script that a Mac runs names no program of GNU's or of Debian's alone."""
    text = (REPO / "scripts/setup").read_text() + (REPO / "Makefile").read_text() + (REPO / "scripts/demo").read_text()
    assert "sha256sum" not in text
    assert "readlink -f" not in text


@pytest.mark.parametrize(
    ("package", "system", "line"),
    [
        ("git", "linux", "apt-get install git"),
        ("openssh-client", "linux", "apt-get install openssh-client"),
        ("git", "darwin", "brew install git"),
        ("openssh-client", "darwin", "brew install openssh"),
    ],
)
def test_what_is_missing_is_named_as_the_system_calls_it(package, system, line):
    assert install_line(package, system) == line
