"""What ``--check --diff`` says is what then happens: of nothing, of half a fleet, of all of it, and of its end."""

from __future__ import annotations

import re

import pytest

from tests.helpers import Sailor, run_task
from tests.voyage.test_ansible import play

pytestmark = pytest.mark.root
WAIT = "Wait for the voyage's end"


def changes(out):
    """Return what a run changed (would change), as task and ship, and the lines of its diffs that name ships."""
    found, task = set(), ""
    for line in out.splitlines():
        if named := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\] \*", line):
            task = named[1]
        elif named := re.match(r"changed: \[(?:voyage-[0-9a-f]{12}-)?([\w-]+)", line):
            found.add((task, named[1]))
    ships = sorted(re.findall(r"^([+-])voyage-[0-9a-f]{12}-(ship-\d+)$", out, re.MULTILINE))
    return found, ships


def test_what_check_mode_says_is_what_then_happens(tmp_path, plan):
    lone, directory = Sailor(tmp_path / "lone"), plan([run_task("echo 1 > a")])
    lone.home.mkdir()

    def run(name, *more):
        done = lone.playbook(f"playbooks/{name}.yml", "--diff", *more)
        assert done.code == 0, done.out + done.err
        return changes(done.out)

    def check_and_run(name, *more):
        said = run(name, *more, "--check")
        happened = run(name, *more)
        assert said == happened
        return said

    plan_options = ("-e", f"plan={directory}", "-e", "ships=2")
    try:
        # Of nothing: not even drydock is started for it.
        said = run("provision", *plan_options, "--check")
        assert lone.drydock() is None
        assert [path.name for path in lone.home.iterdir() if path.name != ".ansible"] == []
        assert said == run("provision", *plan_options)
        assert said[1] == [("+", "ship-0"), ("+", "ship-1")]
        # Of half: no ship is built, and one of them is no more.
        voyage = lone.json("status", "--json")["voyage"]
        lone.api("DELETE", f"/v1/sprites/{voyage}-ship-1")
        sail = ("sail", *plan_options, "-e", "wait=true")
        said, happened = run(*sail, "--check"), run(*sail)
        assert said[1] == happened[1] == [("+", "ship-1")]
        # A ship that is to be made has no tasks yet.
        assert said[0] == {(task, host) for task, host in happened[0] if host != "ship-1"}
        assert ("Create the sprites, all at once", "localhost") in said[0]
        assert {host for _, host in said[0]} == {"localhost", "ship-0"}
        # Of all.
        assert check_and_run(*sail) == (set(), [])
        # Of the end, and after it.
        _, gone = check_and_run("sink")
        assert gone == [("-", "ship-0"), ("-", "ship-1")]
        assert check_and_run("sink", "-e", f"voyage={voyage}") == (set(), [])
    finally:
        lone.run("sink", "--all", "--force", "--abandon")
        lone.stop_drydock()
    assert lone.leftovers() == []


EVERYTHING = """
- sprite: {names: [ghost], state: present}
- sprite: {names: [ghost], state: checkpointed, checkpoint: first}
- sprite: {names: [ghost], state: restored, checkpoint: first}
- sprite_policy: {allow: [api.example.org]}
- sprite_service: {name: napper, cmd: sleep, args: ["600"]}
- tree: {dest: /home/sprite, files: [{path: a, content: b}]}
- claude_settings: {home: /home/sprite, cli: claude, credential: none}
- sprite_service: {name: napper, state: absent}
  register: nothing
  failed_when: nothing is changed
- sprite: {names: [ghost], state: absent}
  register: nothing
  failed_when: nothing is changed
"""


@pytest.mark.parametrize("provider", ["runs", "does not run"])
def test_every_action_looks_at_what_does_not_exist_yet(fleet, tmp_path, provider):
    sailor = fleet if provider == "runs" else Sailor(tmp_path)
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {hosts: {ghost: {ansible_connection: sprite, ocaptain_provider: drydock}}}\n")
    said = play(sailor, EVERYTHING, "-i", hosts, "--check", "--diff", hosts="ghost")
    assert re.search(r"ghost +: ok=9 +changed=7 +unreachable=0 +failed=0", said), said
    # Not in check mode it is unreachable, or refused.
    if provider == "runs":
        real = play(sailor, "- tree: {dest: /x, files: [{path: a, content: b}]}", "-i", hosts, hosts="ghost", ok=False)
        assert "unreachable=1" in real
