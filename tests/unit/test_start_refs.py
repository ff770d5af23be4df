"""Tags and the branch of the start are on every ship, whatever an agent did to them."""

from __future__ import annotations

import asyncio
import base64
import subprocess

import pytest

from ocaptain.captain.ship.bundle_store import BundleStore
from ocaptain.git import Git, pack_start_refs
from ocaptain.protocol.codec import from_dict, to_dict
from ocaptain.protocol.messages import Bundle, Trial
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import Places
from ocaptain.worker.state import State
from ocaptain.worker.trial import GateTrial
from ocaptain.worker.workspace import Workspace
from tests.sources import ODD_COMMITS, git, make, save, write_commit

BRANCH = "release/1.x"


class Fleet:
    """The captain's repository, and ships that it sends commits to."""

    def __init__(self, root):
        self.root = root
        source = make(root / "source")
        git(source, "branch", "-m", BRANCH)
        git(source, "tag", "v1.0", "HEAD~1")
        git(source, "tag", "-a", "-m", "x", "v1.1", "HEAD~1")
        git(source, "tag", "-a", "-m", "a tag of a tag", "nested", "v1.1")
        git(source, "tag", "-a", "-m", "x", "rel/ü\u2028x", "HEAD~2")
        git(source, "tag", "tree", "HEAD^{tree}")
        names = "".join(f"create refs/tags/old/{number} HEAD~2\n" for number in range(400))
        git(source, "update-ref", "--stdin", stdin=names.encode())
        write_commit(source, ODD_COMMITS["badDate"])  # whose date git takes for 1970
        self.base = save(source, {})
        git(source, "tag", "elsewhere", save(source, {"later": "1"}))
        git(source, "reset", "-q", "--hard", self.base)
        git(root, "clone", "-q", "--bare", source, "repo.git")
        self.git = Git(root / "repo.git")
        self.store = BundleStore(self.git, root / "sending", (self.base, BRANCH))

    def ship(self, name):
        (self.root / name).mkdir()
        return Workspace(Places(self.root / name), name)

    def send(self, ship, commit, have=None):
        async def bundle():
            async with self.store.open_bundle(commit, have) as made:
                data = base64.b64encode(made.path.read_bytes()).decode()
                return from_dict(Bundle, to_dict(Bundle((), made.ref, data, made.refs)))

        ship.import_commit(asyncio.run(bundle()), commit)
        ship.reset(commit, "voyage-1")

    def in_workspace(self, name, *arguments):
        return git(self.root / name / "voyage/workspace", *arguments)

    def check(self, name):
        assert self.in_workspace(name, "describe", "--tags", "--match", "v*") == "v1.1-3-g" + self.base[:7]
        assert self.in_workspace(name, "rev-parse", BRANCH, f"origin/{BRANCH}", "origin/HEAD") == "\n".join(
            [self.base] * 3
        )
        assert self.in_workspace(name, "rev-parse", "nested^{commit}", "v1.0") == "\n".join([self.parent()] * 2)
        tags = self.in_workspace(name, "tag", "--list").splitlines()
        assert ("elsewhere" in tags, "tree" in tags, len([one for one in tags if one.startswith("old/")])) == (
            False,
            False,
            400,
        )
        assert self.in_workspace(name, "for-each-ref", "--format=%(*objectname)", "refs/tags/v1.1") == self.parent()
        assert self.in_workspace(name, "branch", "--show-current") == "voyage-1"
        assert self.in_workspace(name, "rev-list", "--objects", "--quiet", "--all") == ""

    def parent(self):
        return self.git.text("rev-parse", f"{self.base}~3")


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path)


def test_a_ship_has_the_tags_and_the_branch_of_the_start(fleet):
    for name in ("ship-0", "its-replacement"):
        ship = fleet.ship(name)
        fleet.send(ship, fleet.base)
        fleet.check(name)
    tree = fleet.git.tree(fleet.base)
    landed = fleet.git.text("commit-tree", tree, "-p", fleet.base, "-m", "landed")
    fleet.send(ship, landed, fleet.base)
    assert fleet.in_workspace(name, "diff", "--stat", BRANCH) == ""
    assert fleet.in_workspace(name, "rev-list", "--count", f"{BRANCH}..") == "1"
    again = Workspace(Places(fleet.root / name), name)  # as a worker that was started anew has it
    again.reset(fleet.base, "voyage-1")
    fleet.check(name)


def test_an_agent_that_changes_tags_hurts_nobody(fleet):
    ship = fleet.ship("ship-0")
    fleet.send(ship, fleet.base)
    harm = "git tag | xargs git tag -d; git tag -f v1.1 HEAD; git branch -D release/1.x; rm -r .git/refs/remotes"
    subprocess.run(
        ["bash", "-c", f"{harm}; git gc -q --prune=now"],
        cwd=fleet.root / "ship-0/voyage/workspace",
        check=False,
        capture_output=True,
    )
    assert ship.snapshot(fleet.base, "a").empty
    ship.reset(fleet.base, "voyage-1")
    fleet.check("ship-0")


def test_a_ship_that_lost_its_objects_gets_the_refs_again(fleet):
    ship = fleet.ship("ship-0")
    with pytest.raises(WorkspaceError) as refused:
        ship.import_commit(None, fleet.base)
    assert refused.value.code == "need_full"
    fleet.send(ship, fleet.base)
    fleet.check("ship-0")


def test_the_trial_of_the_gate_has_them_too(fleet):
    fleet.send(fleet.ship("ship-0"), fleet.base)
    script = base64.b64encode(b"git describe --tags --match 'v*' && git diff --quiet release/1.x")
    trial = GateTrial(State(Places(fleet.root / "ship-0")))
    assert trial.run(Trial(fleet.base, "voyage-1", script.decode(), 60.0, "trial")).code == 0


def test_a_start_without_branch_and_tags_brings_none(fleet):
    assert pack_start_refs(fleet.git, fleet.parent(), "").objects[1:] != ()
    fleet.git.run(
        "update-ref", "--stdin", stdin="".join(f"delete {ref}\n" for ref in fleet.git.refs("refs/tags")).encode()
    )
    assert pack_start_refs(fleet.git, fleet.base, "").blob == ""
    ship = fleet.ship("ship-0")
    fleet.store = BundleStore(fleet.git, fleet.root / "sending", (fleet.base, ""))
    fleet.send(ship, fleet.base)
    assert fleet.in_workspace("ship-0", "for-each-ref", "--format=%(refname)") == "refs/heads/voyage-1"
