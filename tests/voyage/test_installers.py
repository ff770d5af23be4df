"""The ways in that README names beside `make setup`: `uv tool install .`, `pipx install .` and `uv sync`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers import REPO
from tests.tools import CACHE, tool_of

UV, PIPX = "uv==0.13.8", "pipx==1.18.4"


@pytest.fixture
def checkout(tmp_path):
    """A checkout of its own, with all that git does not ignore."""
    place = tmp_path / "checkout"
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=REPO, capture_output=True, check=True, timeout=30).stdout.decode()
    for name in filter(None, listed.split("\0")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPO / name, place / name, follow_symlinks=False)
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    for git in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *git], cwd=place, check=True, timeout=30)
    return place


def run(argv, checkout, **more):
    """Run a program as a new user would, who has nothing of ours; return what it prints."""
    home = checkout.parent / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    env = {**kept, "HOME": str(home), "UV_CACHE_DIR": str(CACHE / "uv-cache"), "UV_PYTHON_DOWNLOADS": "never", **more}
    done = subprocess.run(
        list(map(str, argv)), cwd=checkout, env=env, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require_installed(ocaptain, checkout):
    """Require that a program works without the checkout, and has its own copy of what Ansible runs."""
    checkout.rename(checkout.parent / "moved")
    elsewhere = checkout.parent / "elsewhere/of-a-user"
    elsewhere.mkdir(parents=True)
    assert run([ocaptain, "version"], elsewhere).startswith("ocaptain ")
    run([ocaptain, "plan", "new", elsewhere / "plan"], elsewhere)
    run([ocaptain, "plan", "check", elsewhere / "plan"], elsewhere)
    code = "from ocaptain.ansible.content import content_root; print(content_root())"
    with ocaptain.open() as script:
        python = script.readline().removeprefix("#!").split()[0]
    assert "/checkout/" not in run([python, "-c", code], elsewhere)


def test_uv_tool_install(checkout):
    places = {name: str(checkout.parent / name) for name in ("UV_TOOL_DIR", "UV_TOOL_BIN_DIR")}
    constraints = checkout / "constraints/runtime.txt"
    argv = [tool_of("uv", UV), "tool", "install", "--python", sys.executable, "-c", constraints, "."]
    run(argv, checkout, **places)
    require_installed(checkout.parent / "UV_TOOL_BIN_DIR/ocaptain", checkout)


def test_pipx_install(checkout):
    places = {name: str(checkout.parent / name) for name in ("PIPX_HOME", "PIPX_BIN_DIR")}
    path = f"{tool_of('uv', UV).parent}{os.pathsep}{os.environ['PATH']}"  # it takes uv for pip if there is one: faster
    run([tool_of("pipx", PIPX), "install", "--python", sys.executable, "."], checkout, PATH=path, **places)
    require_installed(checkout.parent / "PIPX_BIN_DIR/ocaptain", checkout)


def test_uv_sync_leaves_nothing_that_git_would_show(checkout):
    run([tool_of("uv", UV), "sync", "--python", sys.executable], checkout)
    assert run([checkout / ".venv/bin/ocaptain", "version"], checkout).startswith("ocaptain ")
    assert run(["git", "status", "--porcelain"], checkout) == ""
