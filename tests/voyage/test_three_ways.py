"""Checkout, wheel and collection: each lands a plan, from what is built; and where they may run.

The checkout's way is in :mod:`tests.voyage.test_sail`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.helpers import REPO, run_task
from tests.tools import tool_of

pytestmark = pytest.mark.root
BIN = Path(sys.executable).parent
BUILDER = "ansible-builder==3.1.1"


def run(argv, env, cwd, ok=True, **more):
    done = subprocess.run(list(map(str, argv)), env=env, cwd=cwd, capture_output=True, check=False, timeout=600, **more)
    assert (done.returncode == 0) is ok, (done.stdout or b"").decode() + (done.stderr or b"").decode()
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and collection, as ``dist/`` of a release; pip makes the wheel of the sdist, without the checkout."""
    place = tmp_path_factory.mktemp("built")
    dist, env = place / "dist", dict(os.environ)
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", place / "source"], env, REPO)
    (sdist,) = place.glob("source/*.tar.gz")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "wheel", "--no-deps", "--no-index"]
    run([*pip, "--no-build-isolation", "-w", dist, sdist], env, place)
    run([sys.executable, "scripts/collection", dist], env, REPO)
    return dist


@pytest.fixture
def small(plan):
    """A plan of two tasks, one after the other."""
    return plan([run_task("echo 1 > a"), run_task("echo 2 > b", "1")], verify="test -f a -a -f b")


def away(sailor, **more):
    """An environment in which nothing points to the checkout."""
    env = {name: value for name, value in sailor.env.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    return {**env, **more}


def test_the_wheel_of_the_sdist_sails(sailor, small, built, tmp_path):
    """Installed into an environment of its own, whose other packages are this one's."""
    fresh = tmp_path / "fresh"
    venv.create(fresh, with_pip=False, symlinks=True)
    (wheel,) = built.glob("*.whl")
    env = away(sailor, PATH=f"{fresh}/bin{os.pathsep}/usr/sbin:/usr/bin:/sbin:/bin")
    pip = [sys.executable, "-m", "pip", "--python", fresh / "bin/python", "-q", "--disable-pip-version-check"]
    run([*pip, "install", "--no-deps", "--no-index", wheel], env, tmp_path)
    (packages,) = fresh.glob("lib/python3*/site-packages")
    ours = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    (packages / "others.pth").write_text(f"{ours}\n")  # as a path only: its own .pth, to the checkout, is not read
    playbook = fresh / "bin/ansible-playbook"
    playbook.write_text(f"#!{fresh}/bin/python\nfrom ansible.cli.playbook import main\nmain()\n")
    playbook.chmod(0o755)
    where = run([fresh / "bin/python", "-c", "import ocaptain; print(ocaptain.__file__)"], env, tmp_path)
    assert where.decode().startswith(str(fresh))
    done = json.loads(run([fresh / "bin/ocaptain", "sail", small, "-n", "2", "--wait", "--json"], env, tmp_path))
    assert done["state"] == "complete"
    assert sailor.landed(done["voyage"]) == ["1", "2"]
    assert run([fresh / "bin/ocaptain", "sink", done["voyage"], "--force"], env, tmp_path)


def test_the_collection_sails(sailor, small, built, tmp_path):
    """By its full names, with no configuration of ours in force."""
    (tarball,) = built.glob("ocaptain-fleet-*.tar.gz")
    env = away(sailor, ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "collections"), OCAPTAIN_PROVIDER="drydock")
    run(
        [BIN / "ansible-galaxy", "collection", "install", "--offline", "-p", tmp_path / "collections", tarball],
        env,
        tmp_path,
    )
    shipped = {path.name for path in (tmp_path / "collections/ansible_collections/ocaptain/fleet").iterdir()}
    assert shipped == {
        "MANIFEST.json", "FILES.json", "README.md", "LICENSE", "CHANGELOG.md",
        "changelogs", "examples", "meta", "playbooks", "plugins", "roles", "tests",
    }  # fmt: skip
    sail = [BIN / "ansible-playbook", "ocaptain.fleet.sail", "-e", f"plan={small}", "-e", "ships=2", "-e", "wait=true"]
    said = run(sail, env, tmp_path).decode()
    voyage = sailor.json("status", "--json")["voyage"]
    assert sailor.landed(voyage) == ["1", "2"], said
    inventory = tmp_path / "mine.sprites.yml"
    inventory.write_text(f"plugin: ocaptain.fleet.sprites\nvoyage: {voyage}\n")
    listed = run([BIN / "ansible-inventory", "-i", inventory, "--graph"], env, tmp_path).decode()
    assert f"@{voyage.replace('-', '_')}:" in listed
    assert f"{voyage}-ship-1" in listed
    before = sailor.metrics()["calls"][f"{voyage}-ship-1"]
    (tmp_path / "play.yml").write_text("""
- hosts: ship_1
  gather_facts: false
  tasks:
    - ansible.builtin.command: id -un
      changed_when: false
    - ocaptain.fleet.tree: {dest: /home/sprite, files: [{path: mine, content: x}]}
    - ansible.builtin.include_role: {name: ocaptain.fleet.tmux_agent}
""")
    play = [BIN / "ansible-playbook", "-i", inventory, tmp_path / "play.yml"]
    assert "changed=2" in run(play, env, tmp_path).decode()
    after = sailor.metrics()["calls"][f"{voyage}-ship-1"]
    # Command, tree, then the role's look, tree and service: no call for a temporary directory among them.
    assert sum(after.values()) - sum(before.values()) <= 7, (before, after)
    sink = [BIN / "ansible-playbook", "ocaptain.fleet.sink", "-e", f"voyage={voyage}"]
    run(sink, env, tmp_path)
    assert sailor.sprites() == 0


def test_somewhere_else_by_ansible_runner(sailor, small, tmp_path):
    """``transmit | worker | process``: the plays and roles travel, and build ships from where they arrive."""
    there, back = tmp_path / "there", tmp_path / "back"
    for folder in ("playbooks", "roles", "plugins", "inventory_plugins"):
        shutil.copytree(REPO / folder, there / "project" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "ansible.cfg", there / "project")
    (there / "env").mkdir()
    (there / "env/extravars").write_text(json.dumps({"plan": str(small), "ships": 1, "provider": "drydock"}))
    (there / "inventory").write_text("localhost\n")
    back.mkdir()
    runner, env = [sys.executable, "-m", "ansible_runner"], {**sailor.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
    sent = run([*runner, "transmit", there, "-p", "playbooks/sail.yml"], env, tmp_path)
    worked = run([*runner, "worker"], env, tmp_path, input=sent)
    said = run([*runner, "process", back], env, tmp_path, input=worked).decode()
    seen = sailor.json("status", "--json")
    assert f"{seen['voyage']}-ship-0" in said
    assert "failed=0" in said
    assert seen["state"] in {"running", "verifying", "complete"}


@pytest.fixture(scope="module")
def builder():
    """ansible-builder, made once for this machine."""
    return tool_of("ansible-builder", BUILDER)


def test_the_execution_environment_is_sound(builder, built, tmp_path):
    """Everything up to the container engine."""
    shutil.copy(REPO / "execution-environment.yml", tmp_path)
    shutil.copytree(built, tmp_path / "dist")
    env = {**os.environ, "PATH": f"{builder.parent}:{os.environ['PATH']}"}
    create = [builder, "create", "-f", tmp_path / "execution-environment.yml", "-c", tmp_path / "context"]
    run([*create, "--output-filename", "Containerfile"], env, tmp_path)
    recipe = (tmp_path / "context/Containerfile").read_text()
    (wheel,) = built.glob("*.whl")
    (tarball,) = built.glob("*.tar.gz")
    for artefact in (wheel, tarball):
        assert (tmp_path / "context/_build/dist" / artefact.name).read_bytes() == artefact.read_bytes()
    assert wheel.name in recipe
    assert tarball.name in (tmp_path / "context/_build/requirements.yml").read_text()
