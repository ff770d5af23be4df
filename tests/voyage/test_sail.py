"""Whole voyages on drydock, as a user sails them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocaptain import process
from ocaptain.ledger import Ledger
from tests.helpers import HELD, REPO, Sailor, run_task, wait_for

pytestmark = pytest.mark.root
TRAILERS = "|".join(f"%(trailers:key={key},valueonly,separator=%x2C)" for key in ("Task", "Ship", "Attempt"))


@pytest.fixture
def source(tmp_path):
    """A repository of the user's."""
    path = tmp_path / "source"
    path.mkdir()
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    for argv in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        (path / "README").write_text("hello\n")
        (path / "shared.txt").write_text("".join(f"{number}\n" for number in range(1, 10)))
        subprocess.run(["git", *argv], cwd=path, check=True)
    return path


def test_the_lighthouse_lands_whole(sailor):
    result = sailor.json("sail", REPO / "examples/plans/lighthouse", "--wait", "--json")
    voyage = result["voyage"]
    assert result["state"] == "complete"
    assert result["verify"]["ok"] is True
    assert result["tasks"] == {"total": 10, "completed": 10, "in_progress": 0, "pending": 0, "failed": 0}
    log = sailor.git(voyage, "log", "--reverse", f"--format=%P|{TRAILERS}", voyage).splitlines()
    rows = [line.split("|") for line in log[1:]]
    assert sorted(int(row[1]) for row in rows) == list(range(1, 11))
    assert all(len(row[0].split()) == 1 for row in rows)
    assert {row[3] for row in rows} == {"1"}
    assert len({row[2] for row in rows}) >= 2
    assert (sailor.voyage(voyage) / "workspace/site/index.html").is_file()
    tasks = {task["id"]: task for task in sailor.json("tasks", voyage, "--json")["tasks"]}
    assert tasks["9"]["check"]["ok"] is True
    assert tasks["9"]["blockedBy"] == ["5", "8"]
    assert tasks["9"]["commit"] == sailor.git(voyage, "log", "--format=%H", "--grep=^Task: 9$", voyage)
    file = json.loads((sailor.voyage(voyage) / "tasks/9.json").read_text())
    assert (file["status"], file["owner"]) == ("completed", tasks["9"]["owner"])
    # The same plan again is refused, and says how to go on; sinking leaves nothing.
    again = sailor.run("sail", REPO / "examples/plans/lighthouse")
    assert again.code == 2
    assert f"--resume {voyage}" in again.err
    assert "--new" in again.err
    sunk = sailor.json("sink", voyage, "--force", "--json")
    assert (sunk["state"], sunk["left"], sunk["rescued"]) == ("sunk", [], [])
    assert sailor.sprites() == 0
    assert sailor.json("status", voyage, "--json")["state"] == "sunk"
    assert sailor.run("sail", "--resume", voyage).code == 2


def test_what_an_agent_finds(sailor, plan):
    line = 'env | grep ^OCAPTAIN_ | sort; pwd; cat; echo "tmux=${TMUX:+yes}"; cat "$OCAPTAIN_TASK_FILE" > file.json'
    tasks = [{**run_task(line), "subject": "Look {{ around }} $HOME", "description": "A description.", "extra": [1]}]
    models = ("--model", "claude-opus-5-5[1m]", "--max-turns", "7")  # of other agents than this one
    voyage = sailor.json("sail", plan(tasks), "-n", "1", *models, "--wait", "--json")["voyage"]
    with Ledger(sailor.voyage(voyage) / "ledger.db") as ledger:
        assert (ledger.voyage().model, ledger.voyage().max_turns) == ("claude-opus-5-5[1m]", 7)
    assert sailor.run("sail", plan(tasks, name="other"), "--model", "--all").code == 2
    assert sailor.run("sail", plan(tasks, name="other"), "--max-turns", "0").code == 2
    log = sailor.run("logs", voyage).out
    for part in (
        "OCAPTAIN_ATTEMPT=1",
        "OCAPTAIN_SHIP=ship-0",
        "OCAPTAIN_TASK_ID=1",
        "OCAPTAIN_TASK_SUBJECT=Look {{ around }} $HOME",
        f"OCAPTAIN_VOYAGE={voyage}",
        "/home/sprite/voyage/workspace",
        "A description.",
        "# What is built",
        "tmux=yes",
    ):
        assert part in log, part
    assert json.loads(sailor.git(voyage, "show", f"{voyage}:file.json"))["extra"] == [1]
    assert sailor.run("logs", voyage, "-g", "^tmux=").out.split("\t")[1:] == ["ship-0", "1#1", "tmux=yes\n"]
    times = (sailor.voyage(voyage) / "logs/ship-0/1.1.times").read_bytes()
    assert times
    assert len(times) % 16 == 0
    assert sailor.run("logs", voyage, "-s", "ship-9").code == 2
    assert sailor.run("logs", voyage, "-g", "(").code == 2
    assert sailor.run("logs", voyage, "-f").out == log
    dest = sailor.home / f"clone-of-{voyage}"
    assert sailor.run("clone", voyage, "-d", dest).out.strip() == str(dest)
    assert (dest / "file.json").is_file()
    assert sailor.run("clone", voyage, "-d", dest).code == 2


def test_one_command_for_all_tasks_and_an_empty_diff(sailor, plan, source):
    tasks = [{"subject": f"Write file-{number}.txt"} for number in range(1, 6)]
    tasks.append({"subject": "Look at all of it", "blockedBy": ["1", "2", "3", "4", "5"]})
    directory = plan(tasks, verify="cd ~/voyage/workspace; for n in 1 2 3 4 5; do test -f file-$n.txt; done")
    command = 'f=$(grep -o "file-[0-9].txt" <<< "$OCAPTAIN_TASK_SUBJECT") || exit 0; echo "{{ $f }}" > "$f"'
    options = ["-n", "5", "--agent", "command", "--agent-cmd", command, "--repo", source]
    result = sailor.json("sail", directory, *options, "--wait", "--json")
    voyage = result["voyage"]
    assert len(result["ships"]) == 5
    landed = sailor.landed(voyage)
    assert sorted(landed) == ["1", "2", "3", "4", "5", "6"]
    assert landed[-1] == "6"
    assert sailor.git(voyage, "diff", "--stat", f"{voyage}~1", voyage) == ""
    assert sailor.git(voyage, "show", f"{voyage}:file-3.txt") == "{{ file-3.txt }}"
    assert sailor.git(voyage, "show", f"{voyage}:README") == "hello"


def test_by_ansible_playbook_and_again_without_a_second_fleet(sailor, plan):
    directory = plan([run_task("echo 1 > a"), run_task("echo 2 > b", "1")], verify="test -f a -a -f b")
    done = sailor.playbook("playbooks/sail.yml", "-e", f"plan={directory}", "-e", "wait=true", "-e", "ships=2")
    assert done.code == 0, done.out + done.err
    status = sailor.json("status", "--json")
    assert status["state"] == "complete"
    assert sailor.sprites() == 2
    before = sailor.metrics()["calls"]
    again = sailor.playbook("playbooks/sail.yml", "-e", f"plan={directory}", "-e", "wait=true", "-e", "ships=2")
    assert again.code == 0, again.out + again.err
    assert not re.search(r"changed=[1-9]", again.out), again.out
    assert sailor.json("status", "--json")["voyage"] == status["voyage"]
    assert sailor.sprites() == 2
    assert set(sailor.metrics()["calls"]) == set(before)
    assert sailor.landed(status["voyage"]) == ["1", "2"]
    sunk = sailor.playbook("playbooks/sink.yml", "-e", f"voyage={status['voyage']}")
    assert sunk.code == 0, sunk.out + sunk.err
    assert sailor.sprites() == 0


def test_calls_from_create_to_running_worker_are_few(sailor, plan):
    """Ours are five: create, look, tree, service (looked at only when it may be there), channel."""
    working = plan([run_task("sleep 20", pin="ship-3")])  # what a task costs is not part of it
    voyage = sailor.json("sail", working, "-n", "4", "--json")["voyage"]
    calls = sailor.metrics()["calls"]
    for number in range(3):
        of_ship = calls[f"{voyage}-ship-{number}"]
        assert sum(of_ship.values()) <= 8, of_ship
        assert of_ship["POST"] == 1


def test_two_edits_of_one_line_both_land(sailor, plan, source):
    edit = 'sleep 1; printf \'%s\\n\' "$(cat shared.txt | head -1) {}" "$(tail -n +2 shared.txt)" > shared.txt'
    tasks = [run_task(edit.format(word), pin=f"ship-{number}") for number, word in enumerate(("left", "right"))]
    result = sailor.json(
        "sail", plan(tasks, verify="grep left shared.txt | grep right"), "-n", "2", "--repo", source, "--wait", "--json"
    )
    assert result["state"] == "complete"
    attempts = [task["attempt"] for task in sailor.json("tasks", result["voyage"], "--json")["tasks"]]
    assert sorted(attempts) == [1, 2]
    assert len(sailor.landed(result["voyage"])) == 2
    events = sailor.git(result["voyage"], "for-each-ref", "--format=%(refname)", "refs/ocaptain/tasks")
    assert len(events.splitlines()) == 3


def test_a_task_whose_check_fails_never_lands_and_holds_what_waits(sailor, plan):
    tasks = [
        run_task("echo bad > a", verify="echo looked; grep good a"),
        run_task("echo b > b", "1"),
        run_task("echo c > c"),
    ]
    done = sailor.run("sail", plan(tasks), "-n", "2", "--wait", "--json")
    assert done.code == 1
    assert "failed for good: task 1" in done.err
    seen = {task["id"]: task for task in sailor.json("tasks", "--json")["tasks"]}
    assert (seen["1"]["status"], seen["1"]["attempt"], seen["1"]["check"]["exit_code"]) == ("failed", 3, 1)
    assert (seen["2"]["status"], seen["2"]["heldBy"]) == ("pending", "1")
    assert seen["3"]["status"] == "completed"
    status = sailor.json("status", "--json")
    assert status["state"] == "failed"
    assert status["verify"] is None
    assert sailor.landed(status["voyage"]) == ["3"]
    assert len(sailor.git(status["voyage"], "for-each-ref", "refs/ocaptain/tasks/1").splitlines()) == 3
    assert [task["id"] for task in sailor.json("tasks", "--json", "-s", "failed")["tasks"]] == ["1"]


def test_a_check_that_passes_is_evidence(sailor, plan):
    tasks = [run_task("echo x > a"), run_task("echo y > b", "1", verify="test -f a && test -f b && echo sound")]
    voyage = sailor.json("sail", plan(tasks), "-n", "2", "--wait", "--json")["voyage"]
    check = sailor.json("tasks", voyage, "--json")["tasks"][1]["check"]
    assert (check["ok"], check["exit_code"], check["tail"]) == (True, 0, "sound\n")


def test_the_final_verify_uses_the_captains_script_and_tree(sailor, plan):
    tasks = [run_task("echo 'exit 0' > ../artifacts/verify.sh; chmod 0555 ../artifacts/verify.sh; echo x > a")]
    done = sailor.run("sail", plan(tasks, verify="echo looking; test -f never"), "-n", "1", "--wait", "--json")
    assert done.code == 1
    verify = {"ok": False, "exit_code": 1, "stage": "verify", "clean": False, "commit": done.json["verify"]["commit"]}
    assert done.json["verify"] == verify
    assert "verify.sh ended with exit code 1" in done.err
    assert "\tverify\tlooking\n" in sailor.run("logs").out


def test_with_setup_the_final_verify_is_in_a_fresh_clone(sailor, plan):
    tasks = [run_task("echo '*.tmp' > .gitignore; echo x > left.tmp")]
    directory = plan(tasks, verify="test -f made-by-setup; test ! -e left.tmp", setup="touch made-by-setup")
    assert (
        sailor.json("sail", directory, "-n", "1", "--verify-on", "clean", "--wait", "--json")["verify"]["clean"] is True
    )


def test_verify_needs_no_run_bit_and_its_interpreter_counts(sailor, plan):
    directory = plan([run_task("echo x > a")])
    (directory / "verify.sh").write_text("#!/usr/bin/env python3\nimport os\nassert os.path.exists('a')\n")
    (directory / "verify.sh").chmod(0o600)
    assert sailor.json("sail", directory, "-n", "1", "--wait", "--json")["state"] == "complete"


def test_a_failed_attempt_is_tried_again_with_the_reason(sailor, plan):
    line = 'cat > prompt-$OCAPTAIN_ATTEMPT; echo oops; test "$OCAPTAIN_ATTEMPT" = 2'
    voyage = sailor.json("sail", plan([run_task(line)]), "-n", "1", "--wait", "--json")["voyage"]
    prompt = sailor.git(voyage, "show", f"{voyage}:prompt-2")
    assert "exit code 1" in prompt
    assert "oops" in prompt
    assert sailor.git(voyage, "ls-tree", "--name-only", voyage) == "prompt-2"


def test_limits_hold_on_the_ship(sailor, plan):
    tasks = [run_task("sleep 30", timeout=1), run_task("sleep 30 & echo x; wait", stall=1)]
    done = sailor.run("sail", plan(tasks), "-n", "2", "--wait", "--json")
    assert done.code == 1
    reasons = [task["reason"] for task in sailor.json("tasks", "--json")["tasks"]]
    assert "time limit" in reasons[0]
    assert "silent" in reasons[1]


def test_no_process_of_an_attempt_outlives_it(sailor, plan):
    line = "setsid nohup sleep 307 >/dev/null 2>&1 & (sleep 308 &) ; echo x > a"
    after = "ps axww > seen; ! grep -q 'sleep 30[78]' seen; rm seen"
    result = sailor.json("sail", plan([run_task(line), run_task(after, "1")]), "-n", "1", "--wait", "--json")
    assert result["state"] == "complete"


def test_sink_in_mid_voyage_keeps_the_work(sailor, plan):
    tasks = [run_task(f"echo half-{number} > work-{number}; echo started; sleep 300") for number in range(2)]
    voyage = sailor.json("sail", plan(tasks), "-n", "2", "--json")["voyage"]
    wait_for(lambda: sailor.run("logs", voyage).out.count("started") == 2)
    sunk = sailor.json("sink", voyage, "--force", "--json")
    assert sunk["state"] == "sunk"
    assert sorted(one["ship"] for one in sunk["rescued"]) == ["ship-0", "ship-1"]
    work = "".join(
        sailor.git(voyage, "show", f"{one['ref']}:{name}")
        for one in sunk["rescued"]
        for name in sailor.git(voyage, "ls-tree", "--name-only", one["ref"]).splitlines()
    )
    assert sorted(re.findall("half-[01]", work)) == ["half-0", "half-1"]
    assert sailor.sprites() == 0
    assert not (sailor.voyage(voyage) / "captain.pid").exists()


def test_sink_of_a_ship_that_cannot_be_reached_needs_abandon(sailor, plan):
    voyage = sailor.json("sail", plan([run_task("echo x > a; sleep 300", pin="ship-0")]), "-n", "2", "--json")["voyage"]
    wait_for(lambda: sailor.json("tasks", voyage, "--json")["tasks"][0]["owner"])
    stopper = "for p in $(pgrep -f '[w]orker.pyz serve'); do kill -STOP $p; done; mv ~/.ocaptain/worker.pyz ~/away"
    sailor.inside(f"{voyage}-ship-0", stopper)
    done = sailor.run("sink", voyage, "--force", "--json")
    assert done.code == 3
    assert done.json["left"] == [f"{voyage}-ship-0"]
    assert "--abandon" in done.err
    assert sailor.sprites() == 1
    assert sailor.run("sink", voyage, "--force", "--abandon").code == 0
    assert sailor.sprites() == 0


def test_a_ship_destroyed_behind_our_back_gives_its_task_to_another(sailor, plan):
    tasks = [run_task(f"echo started; {HELD}; echo x > a"), run_task(f"{HELD}; echo y > b")]
    voyage = sailor.json("sail", plan(tasks, verify="test -f a"), "-n", "2", "--json")["voyage"]
    owner = wait_for(lambda: sailor.json("tasks", voyage, "--json")["tasks"][0]["owner"])
    sailor.api("DELETE", f"/v1/sprites/{voyage}-{owner}")
    sailor.go(f"{voyage}-{'ship-1' if owner == 'ship-0' else 'ship-0'}")
    # Before that is noticed, a resumed sail would make the ship again, and it would have its task again.
    wait_for(lambda: sailor.json("tasks", voyage, "--json")["tasks"][0]["owner"] != owner)
    done = sailor.run("sail", "--resume", voyage, "--wait", "--json")
    assert done.json["state"] == "complete", done.err
    assert sorted(sailor.landed(voyage)) == ["1", "2"]


def test_the_worker_is_killed_and_the_agent_goes_on(sailor, plan):
    line = f"echo started; {HELD}; echo x > a; echo attempt $OCAPTAIN_ATTEMPT"
    voyage = sailor.json("sail", plan([run_task(line)]), "-n", "1", "--json")["voyage"]
    wait_for(lambda: "started" in sailor.run("logs", voyage).out)
    sailor.inside(f"{voyage}-ship-0", "pkill -KILL -f '[w]orker.pyz serve'")
    sailor.go(f"{voyage}-ship-0")
    assert sailor.json("sail", "--resume", voyage, "--wait", "--json")["state"] == "complete"
    assert sailor.json("tasks", voyage, "--json")["tasks"][0]["attempt"] == 1
    assert sailor.run("logs", voyage, "ship-0", "-t", "1").out.count("started") == 1


def captain_pid(sailor, voyage):
    return process.captain_pid(sailor.voyage(voyage))


ROUNDS = 12
START = "import pathlib, sys; from ocaptain import process; process.start_captain(pathlib.Path(sys.argv[1]))"


def test_kill_the_captain_at_any_moment(sailor, plan):
    """kill -9 at moments drawn by a seed, another one each time: every task landed once."""
    import random

    draw = random.Random(0)
    total = 18
    tasks = [
        run_task(
            f"sleep {draw.choice([0, 0.2, 0.5])}; echo {number} > f{number}",
            *([str(draw.randint(1, number - 1))] if number > 2 and draw.random() < 0.6 else []),
            **({"verify": f"sleep 0.2; test -f f{number}"} if draw.random() < 0.4 else {}),
        )
        for number in range(1, total + 1)
    ]
    directory = plan(tasks, verify=f"for n in $(seq {total}); do grep -qx $n f$n; done")
    voyage = sailor.json("sail", directory, "-n", "3", "--json")["voyage"]
    for turn in range(ROUNDS):
        time.sleep(draw.uniform(0, 0.4))
        pid = captain_pid(sailor, voyage)
        if pid:
            with contextlib.suppress(ProcessLookupError):  # it had just come to its own end
                os.kill(pid, signal.SIGKILL)
        if turn < ROUNDS - 1:
            # As a waiting `sail` does; the kill matrix has `--resume` again and again.
            subprocess.run([sys.executable, "-c", START, sailor.voyage(voyage)], env=sailor.env, check=True)
    result = sailor.json("sail", "--resume", voyage, "--wait", "--json")
    assert result["state"] == "complete"
    assert sorted(sailor.landed(voyage), key=int) == [str(number) for number in range(1, total + 1)]
    assert sailor.git(voyage, "fsck", "--no-progress", "--no-dangling") == ""
    # A check's candidate that was stacked anew may lie in a workspace: of it, too, everything has landed.
    for one in sailor.json("sink", voyage, "--force", "--json")["rescued"]:
        kept = set(sailor.git(voyage, "ls-tree", "-r", one["ref"]).splitlines())
        assert kept <= set(sailor.git(voyage, "ls-tree", "-r", voyage).splitlines()), one


def new_captain(sailor, before):
    """Wait for the captain of a voyage that was not there before; return the voyage and its pid."""

    def look():
        fresh = set(sailor.voyages.glob("voyage-*")) - before
        return next(((voyage.name, pid) for voyage in fresh if (pid := captain_pid(sailor, voyage.name))), None)

    return wait_for(look)


def test_the_waiter_starts_a_captain_that_was_killed(sailor, plan):
    before = set(sailor.voyages.glob("voyage-*"))
    sailing = sailor.popen("sail", plan([run_task(f"{HELD}; echo x > a")]), "-n", "1", "--wait", "--json")
    voyage, pid = new_captain(sailor, before)
    os.kill(pid, signal.SIGKILL)
    sailor.go(f"{voyage}-ship-0")
    out, err = sailing.communicate(timeout=240)
    assert sailing.returncode == 0, err
    assert json.loads(out)["state"] == "complete"


def test_a_drydock_that_dies_under_a_waiting_sail_is_started_again(tmp_path, plan):
    """Its ships' disks are there: the tasks begin anew, and the voyage comes to its end."""
    lone = Sailor(tmp_path / "lone")
    lone.home.mkdir()
    sailing = lone.popen("sail", plan([run_task(f"echo started; {HELD}; echo 1 > a")]), "-n", "1", "--wait", "--json")
    wait_for(lambda: list(lone.voyages.glob("voyage-*/logs/ship-*/1.1.log")))
    killed = lone.drydock().pid
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: (found := lone.drydock()) is not None and found.pid != killed)
    (voyage,) = [path.name for path in lone.voyages.glob("voyage-*")]
    lone.go(f"{voyage}-ship-0")
    out, err = sailing.communicate(timeout=240)
    assert sailing.returncode == 0, err
    assert json.loads(out)["state"] == "complete"
    assert lone.run("sink", "--force").code == 0
    lone.stop_drydock()
    assert not [line for line in lone.leftovers() if not line.startswith("/")]


def test_only_one_captain(sailor, plan):
    voyage = sailor.json("sail", plan([run_task("sleep 60")]), "-n", "1", "--json")["voyage"]
    pid = captain_pid(sailor, voyage)
    sailor.json("sail", "--resume", voyage, "--json")
    assert captain_pid(sailor, voyage) == pid
    done = subprocess.run(
        [str(Path(os.sys.executable)), "-m", "ocaptain.captain", str(sailor.voyage(voyage))],
        env=sailor.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 1
    assert "another captain" in done.stderr


def test_changes_of_the_users_in_the_checkout_are_left_alone(sailor, plan, source):
    tasks = [run_task(f"{HELD}; echo x > a")]
    voyage = sailor.json("sail", plan(tasks), "-n", "1", "--repo", source, "--json")["voyage"]
    readme = sailor.voyage(voyage) / "workspace/README"
    readme.write_text("mine\n")
    sailor.go(f"{voyage}-ship-0")
    assert sailor.json("sail", "--resume", voyage, "--wait", "--json")["state"] == "complete"
    assert readme.read_text() == "mine\n"
    assert "it has changes of yours" in sailor.run("status", voyage).out


def test_interrupt_says_what_exists_and_how_to_go_on(sailor, plan):
    before = set(sailor.voyages.glob("voyage-*"))
    sailing = sailor.popen("sail", plan([run_task(f"{HELD}; echo x > a")]), "-n", "1", "--wait")
    made, _ = new_captain(sailor, before)
    sailing.send_signal(signal.SIGINT)
    _, err = sailing.communicate(timeout=240)
    assert sailing.returncode == 130, err
    voyage = re.search(r"ocaptain (?:watch|sail --resume) (voyage-[0-9a-f]{12})", err)
    assert voyage, err
    assert voyage[1] == made
    sailor.go(f"{made}-ship-0")
    assert sailor.json("sail", "--resume", voyage[1], "--wait", "--json")["state"] == "complete"


def test_secrets_stay_where_they_are(sailor, plan):
    canaries = {
        "SPRITES_TOKEN": "canary-sprites/x",
        "GH_TOKEN": "canary-gh",
        "CLAUDE_CODE_OAUTH_TOKEN": "canary-claude",
        "OCAPTAIN_TAILSCALE_OAUTH_SECRET": "canary-tailscale",
    }
    directory = plan([run_task("env; false")])
    done = sailor.run("sail", directory, "-n", "1", "--provider", "drydock", "--wait", "--json", env=canaries)
    assert done.code == 1
    logs = sailor.run("logs").out
    token = (sailor.home / "state/ocaptain/drydock/token").read_text()
    for secret in (*canaries.values(), token):
        assert secret not in done.out + done.err + logs
        found = subprocess.run(
            ["grep", "-rlF", secret, str(sailor.voyages)], capture_output=True, text=True, check=False
        )
        assert found.stdout == ""


FAULTS = [
    (["sail", "nowhere"], "does not exist"),
    (["sail"], "give a plan"),
    (["sail", "{plan}", "--resume", "x"], "give a plan"),
    (["sail", "--resume", "voyage-000000000000"], "there is no voyage"),
    (["sail", "{plan}", "-n", "0"], ""),
    (["sail", "{plan}", "-n", "many"], ""),
    (["sail", "{plan}", "-n", "100000"], "ships must be"),
    (["sail", "{plan}", "--provider", "aws"], ""),
    (["sail", "{plan}", "--repo", "nowhere/at/all"], "does not exist"),
    (["sail", "{plan}", "--repo", "file:///no/such/place"], "cannot be read"),
    (["sail", "{plan}", "--repo", "https://u:canary@x.invalid/y"], "password"),
    (["sail", "{plan}", "--agent", "codex"], 'agent "codex" does not exist in this version'),
    (["sail", "{bare}"], "agent claude has no credential"),
    (["sail", "{bare}", "--agent", "command"], "nothing to run"),
    (["sail", "{cycle}"], "wait for each other"),
    (["plan", "check", "{cycle}"], "wait for each other"),
    (["plan", "check", "nowhere"], "does not exist"),
    (["status", "nope"], "no voyage"),
    (["status", "../../etc"], "no voyage"),
    (["tasks", "-s", "odd"], ""),
    (["logs", "nope"], "voyage"),
    (["clone", "nope"], "no voyage"),
    (["sink", "nope"], "no voyage"),
    (["sink", "x", "--all"], "give either"),
    (["frobnicate"], ""),
    (["shell", "nope"], "voyage"),
    (["shell", "nope", "ship-0", "--raw"], "name one ship"),
    (["shell", "voyage-nope", "ship-0", "--raw"], "no voyage"),
    (["doctor", "--provider", "moon"], ""),
    (["sweep", "--provider", "moon"], ""),
    (["drydock", "start", "--latency", "-1"], ""),
    (["drydock", "start", "--faults", "nowhere.json"], "cannot be read: No such file"),
    (["drydock", "start", "--layer", "nowhere"], "must be an absolute path with a directory"),
    (["drydock", "start", "--faults", "{plan}/voyage.json", "--jitter", "x"], ""),
    (["drydock", "frob"], ""),
    (["drydock", "base"], ""),
    (["sail", "--resume", "x", "-n", "2"], "--resume continues"),
    (["sail", "{plan}/spec.md"], "is not a directory"),
    (["sail", "{plan}", "--repo", "-x"], "git repository"),
    (["logs", "-n", "-3"], ""),
    (["sink", "voyage-none"], "no voyage"),
    (["tasks", "\x1b[31m"], "no voyage"),
    (["status", "x" * 5000], "no voyage"),
]


@pytest.mark.parametrize(("arguments", "part"), FAULTS, ids=[" ".join(case[0])[:60] for case in FAULTS])
def test_wrong_input_is_exit_2_and_creates_nothing(fleet, plan, arguments, part):
    places = {
        "plan": plan([run_task("true")], "p"),
        "bare": plan([{}], "b"),
        "cycle": plan([run_task("true", "2"), run_task("true", "1")], "c"),
    }
    before = sorted(fleet.voyages.glob("*")) if fleet.voyages.exists() else []
    done = fleet.run(*[word.format(**places) for word in arguments])
    assert done.code == 2, done.out + done.err
    assert part in done.err
    assert "canary" not in done.out + done.err
    assert len(done.err.splitlines()) < 24
    assert "\x1b" not in done.out + done.err
    assert (sorted(fleet.voyages.glob("*")) if fleet.voyages.exists() else []) == before
    assert fleet.sprites() == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("OCAPTAIN_DEFAULT_SHIPS", "x"), ("OCAPTAIN_PROVIDER", "moon"), ("OCAPTAIN_HOME", "/proc/nope")],
)
def test_wrong_configuration_is_exit_2(fleet, plan, name, value):
    done = fleet.run("sail", plan([run_task("true")]), env={name: value})
    assert done.code == 2
    assert name in done.err


def test_sprites_without_a_token_is_exit_2(fleet, plan):
    done = fleet.run("sail", plan([run_task("true")]), "--provider", "sprites")
    assert done.code == 2
    assert "SPRITES_TOKEN" in done.err


def test_a_source_that_does_not_travel_is_refused(fleet, plan, source):
    shallow = source.parent / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{source}", shallow], check=True)
    done = fleet.run("sail", plan([run_task("true")]), "--repo", shallow)
    assert (done.code, "shallow" in done.err) == (2, True)
    identity = ["-c", "user.name=u", "-c", "user.email=u@x", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *identity, "submodule", "--quiet", "add", str(source), "sub"], cwd=source, check=True)
    subprocess.run(["git", *identity, "commit", "-qam", "sub"], cwd=source, check=True)
    done = fleet.run("sail", plan([run_task("true")]), "--repo", source)
    assert (done.code, "--allow-partial" in done.err) == (2, True)
    assert fleet.sprites() == 0


def test_plan_check(fleet, plan):
    good = fleet.run("plan", "check", plan([run_task("true", verify="true")]))
    assert (good.code, good.out) == (0, "plan: 1 tasks, 1 with a check of their own: ok\n")
    bad = plan([{"status": "odd\x1b[31m"}], "bad")
    found = fleet.json("plan", "check", bad, "--json", code=2)
    assert found["faults"][0]["file"] == "tasks/1.json"
    assert "\x1b" not in fleet.run("plan", "check", bad).err


def test_plan_simulate(fleet, plan):
    one, two = ({**run_task("true"), "metadata": {"run": "true", "estimate": {"seconds": n}}} for n in (90, 30))
    made = plan([one, two, {**run_task("true"), "blockedBy": ["1"]}])
    found = fleet.json("plan", "simulate", made, "-n", "1..3", "--overhead", "5", "--json")
    assert [(run["ships"], run["makespan_seconds"], run["speed_up"]) for run in found["fleets"]] == [
        (1, 195.0, 1.0),
        (2, 160.0, 1.22),
        (3, 160.0, 1.22),
    ]
    assert (found["enough_ships"], found["work_seconds"], found["estimated_tasks"]) == (2, 195.0, 2)
    shown = fleet.run("plan", "simulate", made, "-n", "2")
    assert shown.out.splitlines() == [
        "plan: 3 tasks, 2 with an estimate; 3 m 00 s of work",
        "ships   makespan  speed-up   idle",
        "    1   3 m 00 s      1.00     0%",
        "    2   2 m 30 s      1.20    40%",
        "more than 2 ships bring no further gain",
    ]
    for wrong in ("0", "3..2", "x", "9999"):
        refused = fleet.run("plan", "simulate", made, "-n", wrong)
        assert (refused.code, "1 to 500" in refused.err) == (2, True)
    assert fleet.run("plan", "simulate", "nowhere").code == 2


def test_hostile_text_reaches_no_terminal(sailor, plan):
    subject = "[/red] \x1b[31m --help\nTask: 99"
    line = "printf '\\033]0;owned\\007\\033[31mred\\r[bold]x[/bold] \\302\\233\\n'; echo x > a"
    voyage = sailor.json("sail", plan([{**run_task(line), "subject": subject}]), "-n", "1", "--wait", "--json")[
        "voyage"
    ]
    for arguments in (["status"], ["tasks"], ["logs"], ["logs", "-f"]):
        done = sailor.run(*arguments, voyage)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err
        assert "\x07" not in done.out
        assert "\x9b" not in done.out
    assert "[/red]" in sailor.run("tasks", voyage).out
    assert sailor.landed(voyage) == ["1"]


def test_a_ship_that_cannot_be_built_is_left_out_and_said(sailor, plan):
    """The voyage goes on with the others; exit 3 names the ship; its work, if any, is not destroyed."""
    task = run_task(f"{HELD}; echo x > a", pin="ship-0")
    voyage = sailor.json("sail", plan([task]), "-n", "2", "--json")["voyage"]
    sailor.inside(f"{voyage}-ship-1", "sudo mv /usr/bin/python3 /usr/bin/away; sudo mv /usr/bin/python3.11 /usr/bin/x")
    os.kill(captain_pid(sailor, voyage), signal.SIGKILL)
    sailor.go(f"{voyage}-ship-0")
    done = sailor.run("sail", "--resume", voyage, "--wait", "--json")
    assert done.code == 3, done.err
    assert done.json["state"] == "complete"
    assert {ship["id"]: ship["state"] for ship in done.json["ships"]}["ship-1"] == "failed"
    assert "ship-1" in done.err
    assert sailor.sprites() == 2
