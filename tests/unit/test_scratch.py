"""Scratch directories."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from ocaptain import scratch as scratches
from tests.helpers import REPO


def test_scratch_directories_go_with_their_process_or_are_cleared_up(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratches, "MIN_AGE_SECONDS", -1)
    dies = "import os, ocaptain.scratch as s; c = s.scratch_directory('run'); print(c.__enter__(), flush=True); "
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(REPO)}

    def start(line):
        argv = [sys.executable, "-c", dies + line]
        return subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("input()") as living, start("os.kill(os.getpid(), 9)") as killed:
        left, held = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.wait()
        assert (left.is_dir(), held.is_dir()) == (True, True)
        (tmp_path / "ocaptain-run-file").write_text("not a directory")
        (tmp_path / "ocaptain-mine").mkdir()
        scratches.remove_abandoned()
        with scratches.scratch_directory("check") as own:
            assert stat.S_IMODE(own.stat().st_mode) == 0o700
            assert sorted(tmp_path.iterdir()) == sorted(
                [held, own, tmp_path / "ocaptain-run-file", tmp_path / "ocaptain-mine"]
            )
        assert not own.exists()
        living.kill()
