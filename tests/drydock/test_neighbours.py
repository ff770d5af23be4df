"""One bad ship costs only itself: memory, processes, disk, long work, slow readers, programs that do not end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from ocaptain.drydock import cgroups, oom
from tests.drydock.test_life import Dock
from tests.helpers import REPO, SECONDS, wait_for

pytestmark = pytest.mark.root
MIB = 2**20
#: Programs that touch 22 MiB each and stay, more than fit into the limit: none of them is as big as drydock.
EATERS, EATER_MIB, LIMIT_MIB = 40, 22, 512
EAT = f"held = bytearray({EATER_MIB} << 20); held[::4096] = b'x' * len(held[::4096]); import time; time.sleep(600)"
ROUNDS = 20 if os.environ.get("OCAPTAIN_STORM") else 2


@pytest.fixture(scope="module")
def memory_group():
    """A control group with a limit, for a drydock and its ships; what is in it is ended with it."""
    limits = cgroups.Limits(memory=LIMIT_MIB * MIB)
    group = cgroups.ShipGroups(limits, cgroups.find_places(limits), f"test{os.getpid()}")
    group.open()
    yield group
    group.close()


@pytest.fixture(scope="module")
def dock(tmp_path_factory, memory_group):
    made = Dock(tmp_path_factory.mktemp("neighbours"))
    for file in memory_group.process_files():
        file.write_text(str(made.record["pid"]))
    yield made
    made.end()


def score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_every_process_of_a_ship_is_to_end_before_drydock(dock):
    sprite = dock.make("scores")
    # It begins with the score of an init, until its program runs.
    line = f"while grep -q '^{oom.INIT}$' /proc/$$/oom_score_adj; do sleep 0.1; done"
    told = sprite.run("sh", "-c", f"{line}; cat /proc/$$/oom_score_adj /proc/1/oom_score_adj", capture_output=True)
    assert told.stdout.split() == [str(oom.COMMAND).encode(), str(oom.INIT).encode()]
    assert score(dock.record["pid"]) <= 0
    keeper, init = (one["pid"] for one in dock.stored("scores")["processes"])
    assert [score(keeper), score(init)] == [oom.INIT, oom.INIT]
    dock.sdk.delete_sprite("scores")


def count_killed(group):
    """Return how many processes of a group the kernel ended for want of memory (cgroups(7), both versions)."""
    folder = group.process_files()[0].parent
    events = next(file for name in ("memory.events", "memory.oom_control") if (file := folder / name).exists())
    return int(dict(line.split() for line in events.read_text().splitlines())["oom_kill"])


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_ship_that_eats_all_memory_ends_itself_alone(dock, memory_group, number):
    """Without scores the biggest process is ended, which is drydock: then every ship is gone."""
    good, bad = f"good-{number}", f"bad-{number}"
    sprite = dock.make(good)
    dock.make(bad)
    before = count_killed(memory_group)
    line = f'for n in $(seq {EATERS}); do python3 -c "$0" & done; wait; sleep 600'
    eating = f"/v1/sprites/{bad}/exec?cmd=sh&cmd=-c&cmd={quote(line)}&cmd={quote(EAT)}"
    with dock.socket(f"/v1/sprites/{good}/exec?cmd=sleep&cmd=600"), dock.socket(eating):
        wait_for(lambda: count_killed(memory_group) >= before + 5)
        assert sprite.run("echo", "here", capture_output=True).stdout == b"here\n"
        listed = dock.rest.get(f"/v1/sprites/{good}/exec").json()["sessions"]
        assert "sleep 600" in [one["command"] for one in listed]
    for name in (good, bad):
        dock.sdk.delete_sprite(name)
    assert dock.sailor.drydock().pid == dock.record["pid"]


# -- limits of its own --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A drydock whose ships may have 128 MiB and 64 processes each."""
    made = Dock(tmp_path_factory.mktemp("limited"), "--ship-memory", "128M", "--ship-pids", "64")
    yield made
    made.end()


#: Every process of it makes two more, for ever.
BOMB = "f() { f | f & }; f; sleep 600"


def test_a_fork_bomb_is_held_in_its_ship(limited):
    good, bad = limited.make("good"), limited.make("bomb")
    with limited.socket(f"/v1/sprites/bomb/exec?cmd=bash&cmd=-c&cmd={quote(BOMB)}"):
        init = limited.stored("bomb")["processes"][1]["pid"]
        group = next(line for line in Path(f"/proc/{init}/cgroup").read_text().splitlines() if "ocaptain-" in line)
        assert group
        wait_for(lambda: len(in_namespace_of(init)) >= 60)
        assert good.run("echo", "here", capture_output=True).stdout == b"here\n"
        assert len(in_namespace_of(init)) <= 64
        # A command that does not fork can still be run in it: it may be the one that ends the others.
        assert bad.run("sh", "-c", "echo in", capture_output=True).stdout == b"in\n"
    assert limited.rest.post("/v1/sprites/bomb/restart").status_code == 200
    assert bad.run("true").returncode == 0
    for name in ("good", "bomb"):
        limited.sdk.delete_sprite(name)


def in_namespace_of(init):
    """Return the processes of a ship, by the pid namespace of its init."""
    namespace, found = os.readlink(f"/proc/{init}/ns/pid"), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/pid") == namespace:
                found.append(process)
        except OSError:
            continue
    return found


def test_a_ship_has_its_own_memory_and_no_more(limited):
    sprite = limited.make("memory")
    eat = "held = bytearray(200 << 20); held[::4096] = b'x' * len(held[::4096]); print('got it')"
    done = sprite.run("sh", "-c", f'python3 -c "{eat}"; echo $?', capture_output=True)
    assert done.stdout == b"137\n"
    assert sprite.run("python3", "-c", eat.replace("200", "60"), capture_output=True).stdout == b"got it\n"
    groups = control_groups(limited.stored("memory")["processes"][1]["pid"])
    assert groups
    limited.sdk.delete_sprite("memory")
    wait_for(lambda: not any(group.exists() for group in groups))  # nothing of it is left


def control_groups(pid):
    """Return the groups of ours that a process is in, as directories."""
    places = cgroups.find_places(cgroups.Limits(memory=1, pids=1))
    text = Path(f"/proc/{pid}/cgroup").read_text()
    return [
        place.path / name for place in set(places.values()) for name in sorted(set(re.findall(r"ocaptain-\S+", text)))
    ]


# -- a full disk --------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A drydock whose disk has 48 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", disk], check=True)
    try:
        (disk / "home").mkdir()
        made = Dock(disk / "home")
        yield made
        made.end()
    finally:
        wait_for(lambda: subprocess.run(["umount", disk], check=False, capture_output=True).returncode == 0)


def test_a_full_disk_leaves_nothing_half_done(small):
    good, bad = small.make("good"), small.make("bad")
    folders = set((small.sailor.home / "state/ocaptain/drydock/sprites").iterdir())
    stored = small.stored("good")
    assert small.rest.put("/v1/sprites/good/fs/write?path=/tmp/old", content=b"old").status_code == 200
    # As root, who may use what is kept for root; small pieces, to the last page.
    bad.run("sudo", "sh", "-c", "cat /dev/zero > /home/sprite/all; while echo x >> /home/sprite/more; do :; done")
    assert good.run("echo", "here", capture_output=True).stdout == b"here\n"

    refused = small.rest.post("/v1/sprites", json={"name": "another"})
    assert (refused.status_code, refused.json()["error"]) == (507, "insufficient_storage")
    assert small.rest.get("/v1/sprites/another").status_code == 404
    told = [json.loads(line) for line in small.rest.post("/v1/sprites/good/checkpoint").text.splitlines()]
    assert told[-1]["type"] == "error"
    assert "No space left on device" in told[-1]["error"]
    assert small.rest.get("/v1/sprites/good/checkpoints").json() == []
    assert small.rest.put("/v1/sprites/good", json={"labels": ["new"]}).status_code == 507
    assert small.rest.get("/v1/sprites/good").json()["labels"] == []
    for name in ("new", "old"):
        reply = small.rest.put(f"/v1/sprites/good/fs/write?path=/tmp/{name}", content=b"x" * 100_000)
        assert (reply.status_code, reply.json()["code"]) == (507, "ENOSPC")
    # Without a length nobody knows ahead that there is no room.
    reply = small.rest.put("/v1/sprites/good/fs/write?path=/tmp/new", content=iter([b"x" * 100_000]))
    assert (reply.status_code, reply.json()["code"]) == (507, "ENOSPC")
    assert good.run("sh", "-c", "ls /tmp; cat /tmp/old", capture_output=True).stdout == b"old\nold"

    assert set((small.sailor.home / "state/ocaptain/drydock/sprites").iterdir()) == folders
    assert not list(small.folder("good").glob("checkpoints/*"))
    assert not list(small.folder("good").glob(".sprite.json*"))
    assert small.stored("good") == stored

    assert bad.run("sudo", "rm", "/home/sprite/all", "/home/sprite/more").returncode == 0
    small.make("another")
    assert small.rest.post("/v1/sprites/good/checkpoint").text.splitlines()[-1].count("Checkpoint v1 created")
    assert small.rest.put("/v1/sprites/good", json={"labels": ["new"]}).json()["labels"] == ["new"]


# -- what it costs ------------------------------------------------------------------------------------


def test_the_benchmark_runs_and_has_every_figure():
    """Small here, and not judged: its figures are for a machine that does nothing else."""
    small = ("--sprites", "2", "--rounds", "1", "--streams", "2", "--samples", "2", "--disk", "1")
    argv = [sys.executable, str(REPO / "benchmarks/drydock.py"), *small]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    cases = ("seven_checkpoints", "fork_bomb", "slow_reader", "term_ignored", "full_disk")
    assert {f"{case}_ratio" for case in cases} < figures.pop("neighbours").keys()
    assert all(value > 0 for name, value in figures.items() if name.endswith(("_ms", "_ratio", "_seconds")))
    assert "idle_sprite_mib" in figures
