"""Sink and sweep: what is fetched is proven, what is left over is found, what is foreign is left alone."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from ocaptain.git import Git
from ocaptain.sprites import Sprite
from ocaptain.voyage.sweep import select_leftovers
from tests.helpers import OCAPTAIN, run_task, wait_for

KNOWN, LOST = "voyage-00000000000a", "voyage-00000000000b"


def sprite(name, *labels):
    return Sprite(name=name, labels=("ocaptain", *labels))


@pytest.mark.parametrize(
    ("found", "is_left"),
    [
        (sprite(f"{LOST}-ship-0", LOST), True),
        (sprite(f"{LOST}-ship-12", LOST, "more"), True),
        (sprite(f"{KNOWN}-ship-0", KNOWN), False),
        (sprite(f"{LOST}-ship-0"), False),
        (sprite(f"{LOST}-ship-0", KNOWN), False),
        (Sprite(name=f"{LOST}-ship-0", labels=(LOST,)), False),
        (sprite(f"{LOST}-ship-00", LOST), False),
        (sprite(f"{LOST}-ship-0-db", LOST), False),
        (sprite(f"x{LOST}-ship-0", LOST), False),
        (sprite("voyage-x", "voyage-x"), False),
        (sprite("voyager-db", "voyager-db"), False),
        (sprite("voyage-0000000000zz-ship-0", "voyage-0000000000zz"), False),
        (sprite(f"{LOST}-ship-", LOST), False),
    ],
    ids=lambda case: case.name if isinstance(case, Sprite) else "",
)
def test_what_is_a_leftover(found, is_left):
    assert bool(select_leftovers([found], {KNOWN: "running"})) is is_left


def test_the_ships_of_a_sunk_voyage_are_leftovers_those_of_an_unreadable_one_are_not():
    ship = sprite(f"{KNOWN}-ship-0", KNOWN)
    assert select_leftovers([ship], {KNOWN: "sunk"})[0].why == "its voyage is sunk"
    assert not select_leftovers([ship], {KNOWN: "unreadable"})


pytest_root = pytest.mark.root
FOREIGN = [("voyage-x", ["ocaptain"]), ("voyager-db", ["ocaptain"]), (f"{LOST}-db", ["ocaptain", LOST])]


def names(sailor):
    return {one["name"] for one in sailor.api("GET", "/v1/sprites").json()["sprites"]}


@pytest_root
def test_sweep_takes_leftovers_and_nothing_else(lone, plan):
    for name, labels in (*FOREIGN, (f"{LOST}-ship-0", ["ocaptain", LOST]), (f"{LOST}-ship-1", ["ocaptain", LOST])):
        lone.api("POST", "/v1/sprites", {"name": name, "labels": labels})
    mine = lone.json("sail", plan([run_task("sleep 60")]), "-n", "1", "--json")["voyage"]
    foreign = {name for name, _ in FOREIGN} | {f"{mine}-ship-0"}
    looked = lone.run("sweep", "--dry-run")
    assert looked.code == 0
    assert re.search(rf"^{LOST}-ship-0\t[0-9]+ s\tno voyage here knows it", looked.out, re.MULTILINE)
    assert not any(name in looked.out + looked.err for name in foreign)
    assert len(lone.json("sweep", "--dry-run", "--json")["ships"]) == 2
    refused = lone.run("sweep")
    assert (refused.code, "--force" in refused.err) == (2, True)
    assert len(names(lone)) == 6
    assert lone.run("sweep", "--force").code == 0
    assert names(lone) == foreign
    assert "nothing is left over" in lone.run("sweep").out


@pytest_root
def test_sweep_asks_a_person(lone):
    lone.api("POST", "/v1/sprites", {"name": f"{LOST}-ship-0", "labels": ["ocaptain", LOST]})
    for answer, left in ((b"n\n", 1), (b"y\n", 0)):
        leader, follower = pty.openpty()
        with subprocess.Popen([OCAPTAIN, "sweep"], env=lone.env, stdin=follower, stdout=-1, stderr=-1) as asked:
            os.write(leader, answer)
            asked.communicate(timeout=240)
        os.close(leader)
        os.close(follower)
        assert lone.sprites() == left


@pytest_root
def test_sweep_leaves_what_a_captain_elsewhere_commands(lone, plan, tmp_path):
    voyage = lone.json("sail", plan([run_task("sleep 60")]), "-n", "1", "--json")["voyage"]
    elsewhere = {"OCAPTAIN_HOME": str(tmp_path / "other")}
    done = lone.run("sweep", "--force", env=elsewhere)
    assert done.code == 3
    assert "a captain elsewhere commands it" in done.err
    assert names(lone) == {f"{voyage}-ship-0"}
    assert lone.run("sweep", "--force", "--abandon", env=elsewhere).code == 0
    assert names(lone) == set()


@pytest_root
def test_sink_all_takes_leftovers_too(lone, plan):
    for name, labels in (*FOREIGN, (f"{LOST}-ship-0", ["ocaptain", LOST])):
        lone.api("POST", "/v1/sprites", {"name": name, "labels": labels})
    lone.json("sail", plan([run_task("echo 1 > a")]), "-n", "1", "--wait", "--json")
    foreign = {name for name, _ in FOREIGN}
    done = lone.run("sink", "--all", "--force")
    assert (done.code, "ocaptain sweep" in done.err) == (0, True)
    assert names(lone) == {*foreign, f"{LOST}-ship-0"}
    assert lone.run("sink", "--all", "--force", "--abandon").code == 0
    assert names(lone) == foreign


@pytest_root
def test_a_ship_that_cannot_be_asked_may_be_at_work(lone):
    lone.api("POST", "/v1/sprites", {"name": f"{LOST}-ship-0", "labels": ["ocaptain", LOST]})
    lone.faults({"call": "GET /v1/sprites/*/exec", "status": 400})
    assert lone.run("sweep", "--force").code == 3
    assert names(lone) == {f"{LOST}-ship-0"}


@pytest_root
def test_what_was_made_after_a_sink_is_sunk_by_the_next(lone, plan):
    voyage = lone.json("sail", plan([run_task("echo 1 > a")]), "-n", "1", "--wait", "--json")["voyage"]
    lone.json("sink", voyage, "--force", "--json")
    lone.api("POST", "/v1/sprites", {"name": f"{voyage}-ship-0", "labels": ["ocaptain", voyage]})
    # Its ship had tasks once, and this one cannot be asked: not without --abandon.
    assert lone.run("sink", voyage, "--force").code == 3
    assert lone.json("sink", voyage, "--force", "--abandon", "--json")["left"] == []
    assert names(lone) == set()


@pytest_root
def test_what_had_not_landed_is_in_a_bundle_that_clones(lone, plan, tmp_path):
    tasks = [run_task("echo 1 > a"), run_task("echo wip > wip; echo there; sleep 300", "1")]
    voyage = lone.json("sail", plan(tasks), "-n", "1", "--json")["voyage"]
    wait_for(lambda: "there" in lone.run("logs", voyage).out)
    sunk = lone.json("sink", voyage, "--force", "--json")
    assert sunk["left"] == []
    bundle = sunk["bundle"]
    assert bundle.startswith(str(lone.voyage(voyage) / "rescue"))
    subprocess.run(["git", "clone", "-q", "--mirror", bundle, tmp_path / "back.git"], check=True, timeout=240)
    back = Git(tmp_path / "back.git")
    assert back.text("show", f"{sunk['rescued'][0]['ref']}:wip") == "wip"
    assert back.text("show", f"{voyage}:a") == "1"


@pytest_root
def test_with_everything_landed_there_is_no_bundle(lone, plan):
    voyage = lone.json("sail", plan([run_task("echo 1 > a")]), "-n", "1", "--wait", "--json")["voyage"]
    assert lone.json("sink", voyage, "--force", "--json")["bundle"] is None
    assert not list((lone.voyage(voyage) / "rescue").iterdir())


@pytest_root
def test_a_repository_that_is_not_sound_keeps_the_ships(lone, plan):
    """git fsck comes before anything is destroyed."""
    voyage = lone.json("sail", plan([run_task("echo 1 > a")]), "-n", "1", "--wait", "--json")["voyage"]
    objects = lone.voyage(voyage) / "repo.git/objects"
    for found in objects.glob("pack/*.pack"):
        found.chmod(0o600)
        found.write_bytes(found.read_bytes()[:-30] + b"x" * 30)
    done = lone.run("sink", voyage, "--force")
    assert done.code == 3, done.err
    assert "fsck" in done.err
    assert lone.sprites() == 1
    assert lone.run("sink", voyage, "--force", "--abandon").code == 0
    assert lone.sprites() == 0


@pytest_root
def test_a_destroy_that_fails_is_exit_3_with_the_list(lone, plan):
    voyage = lone.json("sail", plan([run_task("echo 1 > a")]), "-n", "3", "--wait", "--json")["voyage"]
    lone.faults({"call": f"DELETE /v1/sprites/{voyage}-ship-1", "status": 400})
    done = lone.run("sink", voyage, "--force", "--json")
    assert done.code == 3
    assert json.loads(done.out)["left"] == [f"{voyage}-ship-1"]
    assert re.search(r"ship-1: .*HTTP 400", done.err)
    assert lone.sprites() == 1
    lone.faults()
    assert lone.json("sink", voyage, "--force", "--json")["left"] == []


@pytest_root
def test_odd_commits_of_the_users_own_are_no_damage(lone, plan, tmp_path):
    """A history that git fsck finds fault with sails, and can be sunk."""
    source = tmp_path / "old.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", source], check=True)
    git = Git(source)
    tree = git.text("mktree")
    odd = f"tree {tree}\nauthor A<a@b> 1 +0000\ncommitter A<a@b> 1 +0000\n\nx\n"
    commit = git.text("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=odd.encode())
    git.update_ref("refs/heads/main", commit)
    tasks = [run_task("echo 1 > a"), run_task("echo wip > wip; echo there; sleep 300", "1")]
    voyage = lone.json("sail", plan(tasks), "-n", "1", "--repo", source, "--json")["voyage"]
    wait_for(lambda: "there" in lone.run("logs", voyage).out)
    sunk = lone.json("sink", voyage, "--force", "--json")
    assert (sunk["left"], bool(sunk["bundle"])) == ([], True)
