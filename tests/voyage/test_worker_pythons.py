"""Ships have an older or a newer Python than the captain: the worker runs on 3.9 to 3.13, by real interpreters."""

from __future__ import annotations

import ast
import asyncio
import os
import subprocess
import zipfile

import pytest

from ocaptain.worker.build import worker_bytes
from tests.helpers import REPO
from tests.tools import tool_of
from tests.versions import SHIP_PYTHONS, find_python
from tests.voyage.local import LocalShip, landed, make_voyage, sail

VERMIN = "vermin==1.9.2"
#: The others, between these, only by ``make outside``.
ALWAYS = SHIP_PYTHONS if "OCAPTAIN_OUTSIDE" in os.environ else (SHIP_PYTHONS[0], SHIP_PYTHONS[-1])
IMPORT_ALL = """
import importlib, sys, zipfile
sys.path.insert(0, sys.argv[1])
for name in zipfile.ZipFile(sys.argv[1]).namelist():
    if name.endswith(".py") and not name.endswith("__main__.py"):
        importlib.import_module(name[:-3].replace("/", ".").replace(".__init__", ""))
print(*sys.version_info[:2], sep=".")
"""


def test_no_grammar_is_newer_than_the_oldest(tmp_path):
    """Also where no such interpreter is."""
    oldest = tuple(map(int, SHIP_PYTHONS[0].split(".")))
    (tmp_path / "worker.pyz").write_bytes(worker_bytes())
    with zipfile.ZipFile(tmp_path / "worker.pyz") as packed:
        names = [name for name in packed.namelist() if name.endswith(".py")]
        assert len(names) > 30
        for name in names:
            ast.parse(packed.read(name), name, feature_version=oldest)


@pytest.mark.skipif("OCAPTAIN_OUTSIDE" not in os.environ, reason="only by make outside")
def test_nothing_newer_of_the_library_is_used():
    """By what vermin knows of the library; annotations are only read by the codec, which has a way for the oldest."""
    packed = [REPO / "ocaptain/worker", REPO / "ocaptain/protocol", *REPO.glob("ocaptain/agents/*/stream.py")]
    packed += REPO.glob("ocaptain/agents/*/ship")
    argv = [tool_of("vermin", VERMIN), "--no-tips", "--no-eval-annotations", f"--target={SHIP_PYTHONS[0]}-", *packed]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", ALWAYS)
def test_a_worker_lands_tasks(version, tmp_path):
    if (python := find_python(version)) is None:
        pytest.skip(f"there is no Python {version} on this machine")
    packed = tmp_path / "worker.pyz"
    packed.write_bytes(worker_bytes())
    argv = [python, "-I", "-W", "error", "-c", IMPORT_ALL, packed]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (version, "")
    tasks = [
        {"run": "python3 -c 'import sys; print(*sys.version_info[:2], sep=\".\")' > a"},
        {"run": "cp a b", "waits": ["1"], "verify": "cmp a b"},
    ]
    directory = make_voyage(tmp_path, tasks, verify=f"test $(cat b) = {version}")
    ship = LocalShip(tmp_path / "ship", python).start()
    try:
        assert asyncio.run(sail(directory, [ship])) == "complete"
    finally:
        ship.end()
    assert landed(directory) == ["1", "2"]
    assert "Warning" not in (ship.home / "worker.log").read_text()
