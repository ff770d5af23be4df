"""The action `tree`: files with modes, in one remote call."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from ocaptain.ansible.tree import PROGRAM, build_payload, parse_files, parse_reply
from ocaptain.errors import UsageError
from ocaptain.tree import TreeFile


def plant(directory, files, *, check=False):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=build_payload(str(directory), files, check=check),
        capture_output=True,
        check=True,
        timeout=240,
    )
    return parse_reply("motd\n" + done.stdout.decode())


def test_a_tree_is_written_once_and_repaired(tmp_path):
    files = [TreeFile("a/b.txt", b"\x00\xff", 0o640), TreeFile("run", b"#!", 0o755)]
    assert plant(tmp_path, files, check=True) == ["a/b.txt", "run"]
    assert not list(tmp_path.iterdir())
    assert plant(tmp_path, files) == ["a/b.txt", "run"]
    assert plant(tmp_path, files) == []
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
    (tmp_path / "run").chmod(0o700)
    (tmp_path / "a/b.txt").unlink()
    (tmp_path / "a/b.txt").symlink_to("/etc/passwd")
    assert plant(tmp_path, files) == ["a/b.txt", "run"]
    assert (tmp_path / "a/b.txt").read_bytes() == b"\x00\xff"
    assert not (tmp_path / "a/b.txt").is_symlink()
    assert parse_reply("noise") is None
    assert parse_reply("OCAPTAIN-TREE:{") is None


@pytest.mark.parametrize(
    "item",
    [
        {"path": "/etc/passwd", "content": ""},
        {"path": "a/../../b", "content": ""},
        {"path": "", "content": ""},
        {"path": "a"},
        {"path": "a", "content": "x", "src": "y"},
        {"path": "a", "content": "x", "mode": "rw"},
    ],
)
def test_a_wrong_tree_is_refused(item):
    with pytest.raises(UsageError, match=r"files\[0\]"):
        parse_files([item], None)
