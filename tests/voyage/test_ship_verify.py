"""The final verify runs where no agent was."""

from __future__ import annotations

import asyncio
import json

import pytest

from ocaptain.captain import final
from ocaptain.captain.decide.verify import CreationStatus
from ocaptain.git import Git
from ocaptain.ledger import Ledger, overview
from tests.helpers import run_task, wait_for
from tests.voyage.local import VOYAGE, landed, make_voyage, sail
from tests.voyage.test_land import commit

#: Lands a file, and leaves one that git ignores.
LEAVES = {"run": "echo .venv > .gitignore; mkdir -p .venv; echo x > .venv/x; echo a > a"}


def seen(directory):
    with Ledger(directory / "ledger.db") as ledger:
        return overview(ledger), {row["ship"] for row in ledger.rows("attempts", "token")}


def test_it_has_a_ship_of_its_own_that_takes_no_task(tmp_path, ships):
    made = ships(2)
    verify = 'test -f a; test ! -e .venv; test -z "$(git status --porcelain)"; pwd; echo $OCAPTAIN_SHIP'
    tasks = [LEAVES, {"run": "echo b > b", "waits": ["1"]}, {"run": "echo c > c", "waits": ["1"]}]
    directory = make_voyage(tmp_path, tasks, verify=verify, verify_ship=True)

    async def watch(_captain):
        while len(landed(directory)) < 2:
            assert made[1].opened == 0  # it sleeps until it is needed
            await asyncio.sleep(0.02)

    assert asyncio.run(sail(directory, made, meanwhile=watch)) == "complete"
    after, worked = seen(directory)
    assert worked == {"ship-0"}
    assert (after.verify["clean"], after.is_less_proven) == (True, False)
    assert after.proves == "verify.sh passed in a fresh clone of the merged head on ship-verify, where no agent was"
    log = (directory / "logs/verify.log").read_text()
    assert log.splitlines() == [str(made[1].home / "voyage/workspace"), "ship-verify"]


def test_a_ship_that_had_no_task_is_as_good(tmp_path, ships):
    made = ships(3)
    directory = make_voyage(
        tmp_path, [{**LEAVES, "pin": "ship-0"}], ships=2, verify="test ! -e .venv", verify_ship=True
    )
    assert asyncio.run(sail(directory, made)) == "complete"
    assert made[2].opened == 0
    after, _ = seen(directory)
    assert after.verify["clean"] is True
    assert "on ship-1, where no agent was" in after.proves


def test_a_second_verify_is_in_a_clean_clone_again(tmp_path, ships):
    made = ships(2)
    verify = "test ! -e .venv/second; mkdir -p .venv; touch .venv/second; test -f ~/go"
    directory = make_voyage(tmp_path, [LEAVES], verify=verify, verify_ship=True)
    assert asyncio.run(sail(directory, made)) == "failed"
    (made[1].home / "go").touch()
    assert asyncio.run(sail(directory, made)) == "complete"
    assert seen(directory)[0].verify["clean"] is True


@pytest.mark.parametrize("verify_on", ["clean", "any"])
def test_what_only_agents_installed_is_said(tmp_path, ships, verify_on):
    made = ships(2 if verify_on == "clean" else 1)
    more = {"verify_ship": verify_on == "clean", "options": {"verify_on": verify_on}}
    directory = make_voyage(tmp_path, [LEAVES], verify="echo at $OCAPTAIN_SHIP; test -f .venv/x", **more)
    assert asyncio.run(sail(directory, made)) == "complete"
    after, _ = seen(directory)
    assert after.verify["clean"] is False
    assert after.is_less_proven == (verify_on == "clean")
    assert "where agents may have changed what it uses" in after.proves
    log = (directory / "logs/verify.log").read_text()
    if verify_on == "clean":
        assert "make that in voyage.json's `setup`" in after.note
        first, second = log.index("in a clean clone on ship-verify: exit code 1"), log.index("on ship-0: exit code 0")
        assert first < log.index("at ship-verify") < second < log.index("at ship-0")
    else:
        assert after.note is None
        assert log == "at ship-0\n"


def test_with_a_setup_a_clean_clone_counts(tmp_path, ships):
    made = ships(2)
    more = {"verify_ship": True, "setup": "true"}
    directory = make_voyage(tmp_path, [LEAVES], verify="test -f .venv/x", **more)
    assert asyncio.run(sail(directory, made)) == "failed"
    after, _ = seen(directory)
    assert (after.verify["ok"], after.verify["clean"], after.proves) == (False, True, None)


@pytest.mark.parametrize("how", ["down", "broken"])
def test_a_ship_verify_that_fails_fails_no_voyage(tmp_path, ships, monkeypatch, how):
    monkeypatch.setattr(final, "SILENT_SECONDS", 5.0)  # the ship that runs it then must answer within
    made = ships(2)
    directory = make_voyage(tmp_path, [LEAVES], verify="test -f a", verify_ship=True)
    if how == "down":
        made[1].down = True
    else:  # it answers, but there is no git
        path = made[1].env["PATH"]
        made[1].kill()
        made[1].env["PATH"] = "/nonexistent"
        made[1].start()
        made[1].env["PATH"] = path
    assert asyncio.run(sail(directory, made)) == "complete"
    after, _ = seen(directory)
    assert (after.verify["clean"], after.is_less_proven) == (False, True)
    assert "no ship without agents was available" in after.note


class Shipyard:
    """Makes ship-verify again as a launch does: another captain knows it."""

    def __init__(self, *looks):
        self.looks, self.asked = list(looks), []

    async def check_status(self):
        return self.looks.pop(0) if self.looks else CreationStatus()

    async def make(self, instead_of):
        self.asked.append(instead_of)


def test_where_there_is_no_room_a_ship_gives_its_place(tmp_path, ships):
    made = ships(3)
    tasks = [{**LEAVES, "pin": "ship-0"}, {"run": "echo b > b; echo w > .venv-x", "pin": "ship-1", "waits": ["1"]}]
    directory = make_voyage(tmp_path, tasks, ships=2, verify="test -f a", verify_ship=True)
    made[2].down = True
    yard = Shipyard(CreationStatus(possible=True, is_account_full=True), CreationStatus(possible=True, times_made=1))
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_ship("ship-verify", "gone", "no room")
    assert asyncio.run(sail(directory, made, maker=yard)) == "complete"
    assert yard.asked == ["ship-0", None]  # not the one that landed last
    after, _ = seen(directory)
    assert "on ship-1" in after.proves


def test_a_commit_that_lands_while_a_ship_is_made_does_not_have_it_made_twice(tmp_path, ships):
    """What makes it is a process of its own: it goes on, and would find its ship destroyed."""
    made = ships(2)
    directory = make_voyage(tmp_path, [LEAVES], verify="test -f a", verify_ship=True)
    with Ledger(directory / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_ship("ship-verify", "gone", "no room")
    captains, ends = [], []

    class SlowYard(Shipyard):
        async def make(self, instead_of):
            await super().make(instead_of)
            commit(directory, mine="x\n")
            while not captains[0].local.landings:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            ends.append("failed")

    async def meanwhile(captain):
        captains.append(captain)

    yard = SlowYard(CreationStatus(possible=True))
    assert asyncio.run(sail(directory, made, maker=yard, meanwhile=meanwhile)) == "complete"
    assert (yard.asked, ends) == ([None], ["failed"])
    assert seen(directory)[0].verify["commit"] == Git(directory / "repo.git").resolve(VOYAGE)


# -- on drydock ---------------------------------------------------------------------------------------


@pytest.mark.root
def test_by_default_it_is_announced_made_with_the_fleet_and_given_nothing_of_ours(sailor, plan):
    line = "echo a > a; echo 'exit 1' > ~/voyage/artifacts/verify.sh; touch ~/was-here"
    directory = plan([run_task(line)], verify="set -e; cd ~/voyage/workspace; test -f a; test ! -e ~/was-here")
    done = sailor.run("sail", directory, "-n", "1", "--verify-on", "clean", "--wait", "--json")
    assert done.code == 0, done.err
    assert "1 + 1 for verify" in done.err
    result = done.json
    voyage = result["voyage"]
    assert [(ship["id"], ship["role"]) for ship in result["ships"]] == [("ship-0", "work"), ("ship-verify", "verify")]
    assert result["verify"]["clean"] is True
    assert "on ship-verify, where no agent was" in result["proves"]
    assert "on ship-verify, where no agent was" in sailor.run("status", voyage).out
    assert sailor.sprites() == 2
    assert sailor.inside(f"{voyage}-ship-verify", "ls -A ~/voyage/workspace").split() == [".git", "a"]
    shell = sailor.run("shell", voyage, "ship-verify", "--raw")
    assert shell.code == 0, shell.err
    assert sailor.run("logs", voyage, "ship-verify").code == 0
    sunk = sailor.json("sink", voyage, "--force", "--json")
    assert (sunk["left"], sunk["rescued"]) == ([], [])
    assert sailor.sprites() == 0


@pytest.mark.root
def test_one_that_is_gone_is_made_again(sailor, plan):
    directory = plan([run_task("echo a > a; until test -e ~/go; do sleep 0.05; done")], verify="test -f a")
    waiting = sailor.popen("sail", directory, "-n", "1", "--verify-on", "clean", "--wait", "--json")
    voyage = wait_for(lambda: next((one.name for one in sailor.voyages.glob("voyage-*")), None))
    wait_for(lambda: sailor.sprites() == 2 and sailor.json("tasks", voyage, "--json")["tasks"][0]["owner"])
    assert sailor.api("DELETE", f"/v1/sprites/{voyage}-ship-verify").status_code == 204
    sailor.inside(f"{voyage}-ship-0", "touch ~/go")
    out, err = waiting.communicate(timeout=240)
    assert waiting.returncode == 0, err
    assert json.loads(out)["verify"]["clean"] is True
    assert "ship-verify is replaced: it is made again" in err


@pytest.mark.root
def test_at_the_accounts_limit_a_ship_makes_room_for_it(lone, plan):
    lone.stop_drydock()
    lone.json("drydock", "start", "--limit", "1")
    directory = plan([run_task("echo a > a; echo left > left.log; echo '*.log' > .gitignore")], verify="test -f a")
    done = lone.run("sail", directory, "-n", "1", "--verify-on", "clean", "--wait", "--json")
    assert done.code == 0, done.err
    result = done.json
    assert result["verify"]["clean"] is True
    assert [(ship["id"], ship["state"] == "gone", ship["replaced_by"]) for ship in result["ships"]] == [
        ("ship-0", True, "ship-verify"),
        ("ship-verify", False, None),
    ]
    assert lone.sprites() == 1
