"""The real Claude Code, had from npm once and laid below every ship as a layer.

``python -m tests.claude.cli`` prints where the layer is. The program is run nowhere but in ships
that have no network but their own loopback (``--version`` opens no socket, which was traced).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ocaptain.locks import Lock
from ocaptain.sources import cache_directory

#: Another one by `make agents`.
VERSION = os.environ.get("OCAPTAIN_TEST_CLAUDE") or "2.1.330"
INSTALL_SECONDS = 600.0


def layer() -> Path:
    """Return a directory with ``usr/local/bin/claude``, installing it if it is not there."""
    cache = cache_directory() / "test-tools"
    found = cache / f"claude-code-{VERSION}"
    program = found / "usr/local/bin/claude"
    cache.mkdir(parents=True, exist_ok=True)
    with Lock(cache / "claude-code.lock") as lock:
        assert lock.acquire_within(INSTALL_SECONDS), "somebody else is still installing Claude Code"
        if program.is_file():
            return found
        shutil.rmtree(found, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="claude-code-", dir=cache) as scratch:
            _install(Path(scratch))
            made = Path(scratch) / "made"
            made.chmod(0o755)
            made.rename(found)
    return found


def _install(scratch: Path) -> None:
    argv = ["npm", "install", "--prefix", str(scratch), "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
    done = subprocess.run(
        # The exact version: npm would choose another one by this machine's Node.
        [*argv, f"@anthropic-ai/claude-code@{VERSION}"],
        env={**os.environ, "npm_config_update_notifier": "false", "npm_config_cache": str(scratch / "cache")},
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    programs = scratch.glob("node_modules/@anthropic-ai/claude-code-linux-*/claude")
    (found,) = (one for one in programs if "musl" not in one.parent.name)
    target = scratch / "made/usr/local/bin/claude"
    target.parent.mkdir(parents=True)
    found.rename(target)
    target.chmod(0o755)


if __name__ == "__main__":
    sys.stdout.write(f"{layer()}\n")
