"""Programs of PyPI that tests run and nothing else needs: each is installed once for this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from ocaptain.locks import Lock

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "ocaptain/test-tools"


def tool_of(program: str, requirement: str) -> Path:
    """Return the path of a program, in an environment of its own; ``requirement`` is of pip, with the version."""
    CACHE.mkdir(parents=True, exist_ok=True)
    home = CACHE / requirement.replace("==", "-")
    with Lock(CACHE / f"{program}.lock") as lock:
        assert lock.acquire_within(200)
        if not (home / "made").is_file():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)
            pip = [home / "bin/python", "-m", "pip", "-q", "--disable-pip-version-check", "install", requirement]
            subprocess.run(pip, cwd=CACHE, check=True, timeout=200)
            (home / "made").touch()
    return home / "bin" / program


def package_of(requirement: str) -> Path:
    """Return a directory with a package of PyPI alone, without what it requires."""
    CACHE.mkdir(parents=True, exist_ok=True)
    home = CACHE / f"package-{requirement.replace('==', '-')}"
    with Lock(CACHE / f"{home.name}.lock") as lock:
        assert lock.acquire_within(900)
        if not (home / "made").is_file():
            shutil.rmtree(home, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps"]
            subprocess.run([*pip, "--no-compile", "--target", home, requirement], cwd=CACHE, check=True, timeout=900)
            (home / "made").touch()
    return home
