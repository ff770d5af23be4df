"""What is declared is what is tried: wheel, collection, constraints, image, roles and documents."""

from __future__ import annotations

import re
import runpy
import tomllib

import yaml

from tests.helpers import REPO
from tests.versions import PAIRS, SHIP_PYTHONS

PYTHONS = sorted({pair.python for pair in PAIRS})
CORES = sorted({pair.core for pair in PAIRS})
NEXT = f"2.{int(CORES[-1].split('.')[1]) + 1}"


def test_the_wheel():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert f"ansible-core>={CORES[0]},<{NEXT}" in project["dependencies"]
    assert project["requires-python"] == f">={PYTHONS[0]}"
    kind = "Programming Language :: Python :: "
    assert [f"{kind}{one}" for one in PYTHONS] == [one for one in project["classifiers"] if "Python :: 3." in one]


def test_the_collection_and_its_roles():
    assert yaml.safe_load((REPO / "meta/runtime.yml").read_text())["requires_ansible"] == f">={CORES[0]}.0,<{NEXT}.0"
    for path in REPO.glob("roles/*/meta/main.yml"):
        assert yaml.safe_load(path.read_text())["galaxy_info"]["min_ansible_version"] == CORES[0], path


def test_what_the_artefact_tells_ansible_test():
    """A list for each core, of the Pythons that it has."""
    cores = runpy.run_path(str(REPO / "scripts/collection"))["CORES"]
    assert sorted(cores) == CORES
    for pair in PAIRS:
        assert pair.python in cores[pair.core]


def test_the_execution_environment():
    image = yaml.safe_load((REPO / "execution-environment.yml").read_text())
    assert image["dependencies"]["ansible_core"]["package_pip"] == f"ansible-core>={CORES[0]},<{NEXT}"


def test_the_constraints_hold_for_each_python():
    """The oldest pair for the oldest Python, the newest core for all others; pip checks hashes of either."""
    for kind in ("runtime", "dev"):
        text = (REPO / f"constraints/{kind}.txt").read_text()
        found = re.findall(
            r"^ansible-core==(\d+\.\d+)\.\d+ ; python_full_version (<|>=) '(3\.\d+)'", text, re.MULTILINE
        )
        assert found == [(PAIRS[0].core, "<", PYTHONS[1]), (CORES[-1], ">=", PYTHONS[1])], kind


def test_the_documents():
    said = " ".join((REPO / "docs/ansible.md").read_text().split())
    for python in PYTHONS:
        cores = ", ".join(pair.core for pair in PAIRS if pair.python == python)
        assert f"| {python} | {cores} |" in said
    assert f"Python {SHIP_PYTHONS[0]} to {SHIP_PYTHONS[-1]} on the ships" in said
