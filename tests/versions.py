"""The versions of Python and ansible-core that are supported, and environments of them.

pyproject.toml, meta/runtime.yml, constraints and documents say what :data:`PAIRS` says (tests/unit/test_versions.py);
every pair is tried by ``make outside``, the newest one by every run of the suite, which itself runs on the oldest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import starmap
from pathlib import Path
from typing import NamedTuple

from tests.helpers import REPO
from tests.tools import CACHE, tool_of

UV = "uv==0.13.8"


class Pair(NamedTuple):
    """Minor versions that go together."""

    python: str
    core: str


#: ansible-core 2.20 and later do not run on Python 3.11.
PAIRS = list(
    starmap(
        Pair,
        [
            ("3.11", "2.19"),
            *(("3.12", core) for core in ("2.19", "2.20", "2.21")),
            *(("3.13", core) for core in ("2.19", "2.20", "2.21")),
        ],
    )
)
NEWEST = PAIRS[-1]
#: What a ship may have for the worker; oldest first.
SHIP_PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def find_python(version: str) -> Path | None:
    """Return the interpreter of a minor version that this machine has; None without one."""
    mine = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}"))
    pyenv = sorted(Path(os.environ.get("PYENV_ROOT", "/root/.pyenv")).glob(f"versions/{version}.*/bin/python{version}"))
    found = [*map(str, mine + pyenv), shutil.which(f"python{version}")]
    for one in filter(None, found):  # a shim of pyenv's is there for versions that are not in force
        if subprocess.run([one, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(one)
    return None


def make_environment(place: Path, python: Path, core: str, wheel: Path) -> Path:
    """Make an environment of the constraints, a core and our wheel, all but the core as users get it.

    Args:
        place: where; does not exist.
        python: the interpreter.
        core: minor version of ansible-core.
        wheel: the wheel of ocaptain.

    Returns:
        Its directory of programs.
    """
    uv = tool_of("uv", UV)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    env = {**kept, "UV_CACHE_DIR": str(CACHE / "uv-cache"), "UV_PYTHON_DOWNLOADS": "never", "VIRTUAL_ENV": str(place)}
    for argv in (
        ["venv", "--python", python, place],
        ["pip", "install", "--require-hashes", "-r", REPO / "constraints/runtime.txt"],
        ["pip", "install", f"ansible-core=={core}.*"],
        ["pip", "install", "--no-deps", wheel],
    ):
        done = subprocess.run([uv, "-q", *argv], env=env, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
    return place / "bin"
