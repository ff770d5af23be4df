"""Hosts of an inventory as ships: ssh all the way, three machines, no sprite anywhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess

import pytest

from ocaptain import process
from ocaptain.captain.transport import FileFault, ShipGone, TransportError, run
from ocaptain.captain.transport.ssh import SshTransport
from ocaptain.captain.transport.target import SshTarget
from ocaptain.protocol import PROTOCOL, encode_line
from ocaptain.worker.build import worker_bytes
from tests.helpers import OCAPTAIN, REPO, Sailor, run_task, wait_for, write_plan
from tests.voyage import claude
from tests.voyage.hosts import Machines

pytestmark = pytest.mark.root
PLAN = REPO / "examples/plans/lighthouse"


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Three machines that have little in common."""
    found = Machines(tmp_path_factory.mktemp("machines"))
    try:
        found.add("alpha", "deck", "/srv/deck")
        found.add("beta", "mate", "/home/mate", port=2022)
        found.add("gamma", "cook", "/opt/crew/cook")
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def captain(tmp_path_factory):
    """A user without a drydock, and with voyages far away: sockets of ssh have to be near all the same."""
    found = Sailor(tmp_path_factory.mktemp("captain"))
    found.move_far()
    found.env["ANSIBLE_TIMEOUT"] = "8"  # a host that is cut off is not waited for as long as a user would
    return found


def recap(out):
    """Return the numbers of the play's recap by host."""
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", out, re.MULTILINE)
    return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", rest)} for host, rest in lines}


def nothing_left(machine):
    """Whether a machine is as it was before any voyage."""
    there = machine.inside(f"ls -A {machine.home}").split()
    ours = [line for line in machine.processes() if not line.startswith("sshd")]
    return ours == [] and not {".ocaptain", "voyage"} & set(there)


def test_the_lighthouse_lands_on_hosts_and_gives_them_back(machines, captain):
    inventory = machines.inventory()
    sail = ("-i", inventory, "playbooks/sail.yml", "-e", f"plan={PLAN}")
    first = captain.playbook(*sail)
    assert first.code == 0, first.out + first.err
    (directory,) = captain.voyages.glob("voyage-*")
    voyage = directory.name
    commander = process.captain_pid(directory)
    os.kill(commander, signal.SIGSTOP)  # so that it is still sailing when it is looked at again
    seen = captain.json("status", voyage, "--json")
    assert seen["provider"] == "hosts"
    assert [(ship["id"], ship["sprite"]) for ship in seen["ships"]] == [
        ("ship-0", "alpha"),
        ("ship-1", "beta"),
        ("ship-2", "gamma"),
    ]
    for number, machine in enumerate(machines.all):
        lock = machine.inside(f"cat {machine.home}/.ocaptain/voyage.lock")
        assert lock.startswith(f"{voyage} ship-{number} from ")
    # Again, while it sails: nothing is changed, and it goes on to the end.
    again = captain.playbook(*sail)
    os.kill(commander, signal.SIGCONT)
    assert again.code == 0, again.out + again.err
    assert {host: row["changed"] for host, row in recap(again.out).items()} == dict.fromkeys(
        ("localhost", "alpha", "beta", "gamma"), 0
    )
    waited = captain.playbook(*sail, "-e", "wait=true")
    assert waited.code == 0, waited.out + waited.err
    seen = captain.json("status", voyage, "--json")
    assert seen["state"] == "complete", seen
    assert seen["verify"]["ok"]
    assert sorted(captain.landed(voyage), key=int) == [str(number) for number in range(1, 11)]
    # Another voyage finds them taken, says by whom, and leaves them alone.
    other = captain.playbook(*sail, "-e", "on_active=new")
    assert other.code != 0
    assert f"alpha is held by {voyage} ship-0 from " in other.out
    for machine in machines.all:
        assert machine.inside(f"cat {machine.home}/.ocaptain/voyage.lock").startswith(voyage)
    assert captain.json("status", "--json")["voyage"] == voyage, "the other one is over"
    sunk = captain.run("sink", voyage, "--force")
    assert sunk.code == 0, sunk.err
    assert captain.json("status", voyage, "--json")["state"] == "sunk"
    wait_for(lambda: all(map(nothing_left, machines.all)))


def way(machines, machine, **more):
    options = (
        "-o",
        f"UserKnownHostsFile={machines.known}",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "ConnectTimeout=8",
    )
    alive = ("-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=3")
    known = {"host": machine.address, "port": machine.port, "user": machine.user, "key": str(machines.key)}
    return SshTarget(**{**known, "args": (*options, *alive), **more})


async def aboard(ship, voyage):
    """Open a channel and have the worker sail in a voyage."""
    stream = await ship.open()
    hello = {"type": "hello", "protocol": PROTOCOL, "voyage": voyage, "ship": "s", "epoch": 1, "generation": 1}
    await stream.send(encode_line({**hello, "journal": None, "after": 0}))
    async for piece in stream:
        if b"welcome" in piece:
            return stream
    raise AssertionError


async def said(ship, line):
    """Return the standard output of a shell line on a ship."""
    return (await run(ship, ["sh", "-c", line], 240)).stdout


def test_the_transport_on_a_host_that_talks_and_a_link_that_breaks(machines, tmp_path):
    alpha = machines.all[0]
    # What a shell says at each login must not get into files.
    alpha.inside(f"sed -i '1i echo welcome aboard' {alpha.home}/.bashrc")
    data = os.urandom(3_000_000)

    async def work():
        ship = SshTransport(way(machines, alpha), "alpha", tmp_path / "ssh")
        await ship.put("new folder/it's", data)
        assert await ship.get("new folder/it's", len(data)) == data
        with pytest.raises(FileFault, match="larger than"):
            await ship.get("new folder/it's", len(data) - 1)
        with pytest.raises(FileFault, match="no file nowhere"):
            await ship.get("nowhere", 10)
        with pytest.raises(TransportError, match=r"Not a directory|File exists"):
            await ship.put("new folder/it's/below", b"x")
        # The worker, with nobody but its own keeper to run it.
        await ship.put(".ocaptain/worker.pyz", worker_bytes())
        keep = "python3 .ocaptain/worker.pyz keep"
        assert await said(ship, f"{keep} start") == b"started\n"
        assert await said(ship, f"{keep} start") == b"running\n"
        before = alpha.logins()
        stream = await aboard(ship, "voyage-0")
        await ship.put("shared", data)
        assert await ship.get("shared", len(data)) == data
        assert alpha.logins() == before + 1, "files did not go over the channel's connection"
        # Cut while a file is on its way: the host is not gone, and half a file is no file.
        sending = asyncio.create_task(ship.put("half", data * 10))
        await asyncio.sleep(0.05)
        alpha.inside(f"pkill -STOP -u {alpha.user} -x sshd")
        alpha.cut()
        with pytest.raises(TransportError) as cut:
            await sending
        assert not isinstance(cut.value, ShipGone)
        with pytest.raises(TransportError):
            async for _ in stream:
                pass
        await stream.close()
        with pytest.raises(TransportError, match=r"timed out|No route|unreachable"):
            await ship.get("shared", len(data))
        alpha.mend()
        assert await ship.get("shared", len(data)) == data
        alpha.end_sessions()  # what the cut left over there
        there = (await said(ship, "ls -A . 'new folder' .ocaptain")).decode()
        assert "half" not in there
        assert ".part" not in there
        # A keeper that is killed takes its worker along; another program is another worker.
        pid = int(re.search(rb'"pid": (\d+)', await ship.get(".ocaptain/keeper.lock", 1000))[1])
        await said(ship, f"kill -KILL {pid}")
        assert await said(ship, f"{keep} start") == b"started\n"
        await said(ship, "kill $(pgrep -f '[w]orker.pyz serve')")
        await ship.put(".ocaptain/worker.pyz", worker_bytes() + b"\0")
        assert await said(ship, f"{keep} start") == b"restarted\n"
        assert b"worker.pyz" in await said(ship, "python3 .ocaptain/worker.pyz leave")
        await said(ship, "rm -r shared 'new folder'")

    async def refused():
        wrong = SshTransport(
            way(machines, alpha, args=("-o", "UserKnownHostsFile=/dev/null")), "alpha", tmp_path / "ssh"
        )
        with pytest.raises(TransportError, match="Host key verification failed"):
            await wrong.read_holder()
        nobody = SshTransport(way(machines, alpha, executable="no-such-ssh"), "alpha", tmp_path / "ssh")
        with pytest.raises(TransportError, match="no-such-ssh cannot be run"):
            await nobody.open()

    try:
        asyncio.run(work())
        asyncio.run(refused())
    finally:
        alpha.mend()
        alpha.inside(f"sed -i 1d {alpha.home}/.bashrc")
    wait_for(lambda: nothing_left(alpha))
    assert list((tmp_path / "ssh").iterdir()) == []


def test_a_channel_that_is_cut_heals_and_no_work_is_lost(machines, captain, tmp_path):
    beta = machines.all[1]
    wait = "touch ~/begun; while [ ! -e ~/go ]; do sleep 0.1; done; echo one > one"
    tasks = [run_task(wait), run_task("echo half > half; touch ~/second; sleep 600", "1")]
    plan = write_plan(tmp_path / "plan", tasks)
    voyage = captain.json("sail", plan, "--hosts", f"{machines.inventory()}:beta", "--json")["voyage"]

    def ship():
        return captain.json("status", voyage, "--json")["ships"][0]

    def exists(name):
        return beta.inside(f"ls {beta.home}/{name}", check=False)

    wait_for(lambda: exists("begun"))
    before = beta.logins()
    beta.end_sessions()
    wait_for(lambda: beta.logins() > before)
    wait_for(lambda: ship()["reason"] is None)
    beta.cut()
    wait_for(lambda: ship()["reason"] is not None)
    beta.mend()
    wait_for(lambda: ship()["reason"] is None)
    # The captain dies, and its ssh with it; a run that knows no inventory goes on by what the ledger has.
    pid, _, _ = (captain.voyage(voyage) / "captain.pid").read_text().partition(" ")
    os.kill(int(pid), signal.SIGKILL)
    assert captain.run("sail", "--resume", voyage).code == 0
    beta.inside(f"touch {beta.home}/go")
    wait_for(lambda: exists("second"))
    one, two = captain.json("tasks", voyage, "--json")["tasks"]
    assert (one["status"], one["attempt"], two["attempt"]) == ("completed", 1, 1)
    # A person on the ship, and a port of it.
    raw = subprocess.run(
        [OCAPTAIN, "shell", voyage, "--raw"],
        input="pwd; cat half\n",
        env=captain.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert raw.stdout == f"{beta.home}/voyage/workspace\nhalf\n"
    tunnel = subprocess.run(
        [OCAPTAIN, "proxy", "ship-0", "2022"], input="x\n", env=captain.env, capture_output=True, text=True, check=False
    )
    assert tunnel.stdout.startswith("SSH-2.0-OpenSSH")
    # Out of reach its work cannot be fetched, so it is not given up; within reach both happens.
    beta.cut()
    kept = captain.run("sink", voyage, "--force")
    assert kept.code == 3, kept.err
    assert re.search(r"beta: .*(timed out|No route|unreachable)", kept.err), kept.err
    beta.mend()
    sunk = captain.json("sink", voyage, "--force", "--json")
    assert sunk["state"] == "sunk"
    (rescued,) = sunk["rescued"]
    assert captain.git(voyage, "show", f"{rescued['ref']}:half") == "half"
    wait_for(lambda: nothing_left(beta))


def test_what_is_not_free_is_left_out_and_what_was_given_up_is_cleared(machines, captain, tmp_path):
    alpha, _, gamma = machines.all
    # A person's own directory is never taken for a voyage's; an abandoned voyage's worker may run for ever.
    alpha.inside(f"mkdir {alpha.home}/voyage; touch {alpha.home}/voyage/mine", user="root")

    async def abandoned():
        ship = SshTransport(way(machines, gamma), "gamma", tmp_path / "ssh")
        await ship.put(".ocaptain/worker.pyz", worker_bytes())
        await said(ship, "python3 .ocaptain/worker.pyz keep start && touch voyage/workspace/stale")
        await (await aboard(ship, "voyage-0")).close()

    asyncio.run(abandoned())
    plan = write_plan(tmp_path / "plan", [run_task("ls -A > listed")], verify="! grep stale listed")
    try:
        sailed = captain.run("sail", plan, "--hosts", machines.inventory("alpha", "gamma"), "--wait", "--json")
        assert sailed.code == 3, sailed.err
        assert "has a directory ~/voyage that is not of ocaptain" in sailed.err
        assert sailed.json["state"] == "complete"
        voyage = sailed.json["voyage"]
        assert alpha.inside(f"ls -A {alpha.home}/voyage") == "mine\n"
        assert alpha.inside(f"find {alpha.home} -name '.ocaptain*'") == ""
    finally:
        alpha.inside(f"rm -r {alpha.home}/voyage")
    gamma.cut()
    given_up = captain.json("sink", voyage, "--force", "--abandon", "--json", code=None)
    gamma.mend()
    assert given_up["state"] == "sunk"
    # Nobody could tell the host: it says so until a person does.
    assert gamma.inside(f"cat {gamma.home}/.ocaptain/voyage.lock").startswith(voyage)
    gamma.inside(f"rm {gamma.home}/.ocaptain/voyage.lock; python3 {gamma.home}/.ocaptain/worker.pyz leave", user="cook")
    wait_for(lambda: nothing_left(gamma))


CLI = """#!/usr/bin/python3
import os, pathlib, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("2.1.330 (Claude Code)"))
"""
CANARY = "canary-oauth-token-of-hosts"
OWN = ["tailscale_login_server == 'https://own.example'", "tailscale_voyage | default('') == ''"]
#: A package manager that has Python, and no lists at first.
APT = """#!/bin/sh
[ "$1" != update ] || exec touch /lists
[ -e /lists ] && [ "$1 $4" = "install python3" ] && exec mv /usr/bin/python3.away /usr/bin/python3
exit 100
"""


def test_claude_on_a_host_and_what_a_half_built_ship_is_given_back_as(machines, captain, tmp_path):
    """Its home is not its user's; python3 is missing at first, and no worker comes aboard."""
    gamma, home = machines.all[2], "/opt/crew/cook/a ship"
    gamma.inside(f"install -d -o cook '{home}'; echo 'cook ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/cook")
    gamma.inside(f"cat > /usr/local/bin/apt-get <<'E'\n{APT}E\nchmod 755 /usr/local/bin/apt-get")
    cli = tmp_path / "claude-cli"
    cli.write_text(CLI + claude.PROGRAM.partition("\n")[2])
    told = tmp_path / "play.json"
    told.write_text(json.dumps({"1": claude.turn("done", sh="echo hello > a")}))
    gamma.inside(f"cat > /opt/crew/cook/play.json <<'E'\n{told.read_text()}\nE\nchown cook /opt/crew/cook/play.json")
    plan = write_plan(tmp_path / "plan", [{"subject": "Say", "description": "Say hello."}], verify="grep hello a")
    variables = {"ansible_python_interpreter": "auto_silent", "tailscale_login_server": "https://own.example"}
    inventory = machines.inventory("gamma", tmux_agent_home=home, **variables)
    captain.env |= {"CLAUDE_CODE_OAUTH_TOKEN": CANARY, "ANSIBLE_ROLES_PATH": f"{tmp_path}:{REPO / 'roles'}"}
    (tmp_path / "own/tasks").mkdir(parents=True)
    (tmp_path / "own/tasks/main.yml").write_text(json.dumps([{"assert": {"that": OWN}}]))
    given = ("playbooks/sail.yml", "-e", f"plan={plan}", "-e", "agent=claude", "-e", f"claude_src={cli}")
    sail = ("-i", inventory, *given, "-e", "wait=true")
    try:
        # Looked at first: nothing is changed, and nothing fails that would not.
        looked = captain.playbook(*sail, "--check")
        assert looked.code == 0, looked.out + looked.err
        assert gamma.inside(f"ls -A '{home}'") == ""
        gamma.inside("mv /usr/bin/python3 /usr/bin/python3.away")
        failed = captain.playbook(*sail, "-e", "tmux_agent_worker=/nowhere")
        assert failed.code != 0
        assert "no ship could be built" in failed.out, failed.out
        voyage = captain.json("status", "--json")["voyage"]
        credential = f"{home}/.ocaptain/claude/env.json"
        assert CANARY in gamma.inside(f"cat '{credential}'; [ ! -e '{home}/.ocaptain/worker.pyz' ]")
        # What cannot be removed keeps its lock, and the sink says so.
        gamma.inside(f"chown -R root '{home}/.ocaptain/claude'")
        kept = captain.run("sink", voyage, "--force")
        assert kept.code == 3, kept.out + kept.err
        assert re.search(r"gamma: task Remove the rest, and the lock: rc 1: rm: ", kept.err), kept.err
        assert CANARY in gamma.inside(f"cat '{credential}'")
        assert gamma.inside(f"cat '{home}/.ocaptain/voyage.lock'").startswith(f"{voyage} ship-0 from ")
        gamma.inside(f"chown -R cook '{home}/.ocaptain/claude'")
        assert captain.json("sink", voyage, "--force", "--json")["state"] == "sunk"
        assert gamma.inside(f"ls -A '{home}'") == ""
        # A team's own headscale and key are its own, on a voyage without a mesh.
        sailed = captain.playbook(*sail, "-e", '{"ocaptain_pre_roles": ["own"]}')
        assert sailed.code == 0, sailed.out + sailed.err
        (call,) = map(json.loads, gamma.inside("cat /opt/crew/cook/calls.jsonl").splitlines())
        assert call["token"] == CANARY
        assert f"{home}/.ocaptain/claude/attempt.json" in call["argv"]
        remembered = json.loads(gamma.inside("cat /opt/crew/cook/.claude.json"))
        assert list(remembered["projects"]) == [f"{home}/voyage/workspace"]
        # A user has one ship: another home of theirs is none.
        second = captain.playbook("-i", machines.inventory("gamma"), *given, "-e", "on_active=new")
        assert f"gamma has a ship of the same user in {home}" in second.out, second.out
        assert gamma.inside("ls -A /opt/crew/cook/.ocaptain", check=False) == ""
        assert captain.run("sink", "--all", "--force").code == 0
        assert gamma.inside(f"ls -A '{home}'") == ""
    finally:
        del captain.env["CLAUDE_CODE_OAUTH_TOKEN"], captain.env["ANSIBLE_ROLES_PATH"]
        gamma.inside("[ ! -e /usr/bin/python3.away ] || mv /usr/bin/python3.away /usr/bin/python3")
        gamma.inside(
            "rm -rf /etc/sudoers.d/cook /usr/local/bin/apt-get /lists /opt/crew/cook/.claude* /opt/crew/cook/*"
        )
