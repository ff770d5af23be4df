"""The worker's zipapp."""

from __future__ import annotations

import subprocess

from ocaptain.worker.build import worker_bytes


def test_the_worker_is_the_same_bytes_each_time_and_runs_alone(tmp_path):
    data = worker_bytes()
    assert data == worker_bytes()
    path = tmp_path / "worker.pyz"
    path.write_bytes(data)
    done = subprocess.run(
        ["/usr/bin/python3", "-I", path],
        capture_output=True,
        text=True,
        env={"HOME": str(tmp_path)},
        check=False,
        timeout=240,
    )
    assert done.returncode == 2
    assert "usage: worker.pyz serve" in done.stderr
