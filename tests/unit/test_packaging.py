"""The wheel holds what the checkout holds, and finds it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from ocaptain.ansible.content import content_root
from tests.helpers import REPO


def names(root, *patterns):
    return {
        str(path.relative_to(root))
        for pattern in patterns
        for path in root.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_is_whole(tmp_path):
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(argv, cwd=REPO, check=True, capture_output=True, timeout=240)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    package = tmp_path / "wheel/ocaptain"
    # Every role of the checkout is shipped (an alias is a link to one that is).
    real = {path.name for path in (REPO / "roles").iterdir() if not path.is_symlink()}
    roles = (f"roles/{role}/**/*" for role in real)
    content = ("ansible.cfg", "playbooks/**/*", "examples/**/*", "inventory_plugins/*", *roles)
    plugins = ("plugins/action/*", "plugins/connection/*", "plugins/modules/*")
    assert names(package / "_ansible", "**/*") == names(REPO, *content, *plugins)
    sources = names(REPO / "ocaptain", "**/*")
    assert names(package, "**/*") - {f"_ansible/{name}" for name in names(package / "_ansible", "**/*")} == sources
    assert {path.name for path in (package / "_ansible/roles").iterdir()} == real
    found = subprocess.run(
        [sys.executable, "-c", "from ocaptain.ansible.content import content_root; print(content_root())"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "wheel")},
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert Path(found.stdout.strip()) == package / "_ansible"


def test_the_sdist_makes_the_same_wheel(tmp_path):
    """And it has nothing that git ignores."""
    build = [sys.executable, "-m", "hatchling", "build"]
    argv = [*build, "-t", "sdist", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(argv, cwd=REPO, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    argv = [*build, "-t", "wheel", "-d", str(tmp_path / "again")]
    subprocess.run(argv, cwd=source, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=REPO, capture_output=True, check=True, timeout=30).stdout
    assert names(source, "**/*") <= {*listed.decode().split("\0"), "PKG-INFO"}


def test_the_checkout_is_found():
    assert content_root() == REPO


def test_nothing_names_this_machine_or_a_registry():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True, timeout=240).stdout
    for name in filter(None, tracked.decode().split("\0")):
        path = REPO / name
        if path.is_file() and not path.is_symlink():
            text = path.read_text("utf-8", "replace")
            for word in (f"{REPO}/", "index" + "-url", "find" + "-links"):
                assert word not in text, f"{name}: {word}"


def test_the_reference_is_current():
    made = subprocess.run([sys.executable, "scripts/reference"], cwd=REPO, capture_output=True, check=True, timeout=240)
    current = (REPO / "docs/reference.md").read_bytes()
    assert made.stdout == current, "run: .venv/bin/python scripts/reference > docs/reference.md"
