"""The fence around the ships of a root-run drydock: what they cannot do, and whom their files belong to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shlex
import shutil
import signal
import stat
from pathlib import Path
from urllib.parse import quote

import pytest

from ocaptain.drydock import oom
from ocaptain.drydock.cover import SEARCHED, covered_paths
from ocaptain.drydock.ids import RANGE_SIZE, move_tree
from ocaptain.drydock.record import Process
from ocaptain.drydock.rootless import BASE_VARIABLE
from ocaptain.drydock.sandbox import DISK_FOLDERS
from tests.drydock.isolation import ATTEMPTS, ATTEMPTS_BY_NETWORK, attempts, lures, succeeded
from tests.drydock.test_life import Dock
from tests.helpers import in_a_ship, wait_for

pytestmark = pytest.mark.root


def outcome(ship, line):
    return ship.run("sh", "-c", line, capture_output=True).stdout.decode().split()


def nothing_gets_out(dock, *, own_network):
    """Try every way out in a ship that has a neighbour."""
    marker = f"9{os.getpid()}"
    dock.make("neighbour")
    ship = dock.make("prisoner")
    facts = {"pid": os.getpid(), "home": str(dock.sailor.home), "other": f"sleep.{marker}"}
    # Attached: a neighbour that fell asleep would have nothing left to reach.
    with dock.socket(f"/v1/sprites/neighbour/exec?cmd=sleep&cmd={marker}"):
        run = lambda *argv: ship.run(*argv, capture_output=True).stdout.decode()  # noqa: E731
        assert succeeded(run, sudo=True, own_network=own_network, **facts) == []
        assert dock.sdk.sprite("neighbour").run("pgrep", "-f", f"^sleep {marker}").returncode == 0


@pytest.mark.parametrize("network", ["isolated", "host"])
def test_no_ship_gets_out(own, network):
    dock = own("--network", network)
    nothing_gets_out(dock, own_network=network == "isolated")
    reach = outcome(dock.sdk.sprite("prisoner"), "readlink /proc/self/ns/cgroup; readlink /proc/self/ns/user")
    assert reach != [os.readlink(f"/proc/self/ns/{one}") for one in ("cgroup", "user")]


def test_the_ways_out_are_ways_for_the_host():
    """An attempt that fails for the host's own root proves nothing: those that can be tried without harm succeed."""
    harmless = {
        "see a process of the host",
        "read its environment",
        "read the tables of the kernel",
        "be root of a new user namespace",
        "be that by clone",
        "mount as root of new namespaces",
        "find a key of the host",
        "have keys of the kernel",
        "be somebody for a service of the host",
        "clone a mount",
        "mount the new way",
        "join a namespace by its number",
        *ATTEMPTS_BY_NETWORK,
    }
    assert harmless <= {*ATTEMPTS, *ATTEMPTS_BY_NETWORK}
    pid = os.getpid()
    with lures(pid) as port:
        lines = attempts(pid=pid, home="/root", other="none", port=port, own_network=True)
        assert [what for what in harmless if os.system(f"{{ {lines[what]}; }} >/dev/null 2>&1")] == []


def owner(path):
    return path.lstat().st_uid


def test_files_of_a_ship_belong_to_ids_of_its_own(own):
    dock = own()
    ship, folder = dock.make("one"), dock.folder
    other = dock.make("two")
    assert ship.run("sh", "-c", "cp /usr/bin/id ~/x; sudo chown root ~/x; sudo chmod 4755 ~/x").returncode == 0
    held = folder("one") / "home/sprite/x"
    first = owner(held)
    assert first >= RANGE_SIZE
    assert first % RANGE_SIZE == 0
    assert held.lstat().st_mode & stat.S_ISUID
    assert stat.S_IMODE((dock.sailor.home / "state/ocaptain/drydock").stat().st_mode) == 0o700
    assert outcome(ship, "~/x -u; sudo -n id -u; stat -c %u /etc/passwd") == ["0", "0", "0"]
    # What the machine keeps from its other users is covered; where a layer has a file of its own, it is another one.
    kept = [
        path for path in covered_paths(SEARCHED) if Path(path).is_file() and not path.startswith("/etc/postgresql/")
    ]
    sums = {hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in kept if Path(path).stat().st_size}
    shown = ship.run("sudo", "sh", "-c", f"sha256sum {shlex.join(kept)} /etc/passwd 2>/dev/null", capture_output=True)
    assert not sums & {line.split()[0] for line in shown.stdout.decode().splitlines()}
    assert b" /etc/passwd" in shown.stdout
    # Drydock's own limit of descriptors is higher than the one that it was started with, which its ships have.
    assert outcome(ship, "ulimit -n") == [str(resource.getrlimit(resource.RLIMIT_NOFILE)[0])]
    other.run("sudo", "touch", "/home/sprite/y")
    assert abs(owner(folder("two") / "home/sprite/y") - first) >= RANGE_SIZE
    # A checkpoint keeps the owners.
    assert '"complete"' in dock.rest.post("/v1/sprites/one/checkpoint").text
    ship.run("rm", "-f", "/home/sprite/x")
    assert '"complete"' in dock.rest.post("/v1/sprites/one/checkpoints/v1/restore").text
    assert outcome(ship, "~/x -u") == ["0"]
    # A disk of the machine's own ids, as earlier versions made them, is given to a range when it boots.
    os.kill(dock.record["pid"], signal.SIGKILL)
    home = dock.sailor.home
    wait_for(lambda: not [one for one in Path("/proc").glob("[0-9]*") if in_a_ship(one, home)])
    record = folder("one") / "sprite.json"
    for part in DISK_FOLDERS:
        move_tree(folder("one") / part, first, 0)
    assert (owner(held), bool(held.lstat().st_mode & stat.S_ISUID)) == (0, True)
    kept = json.loads(record.read_text())
    record.write_text(json.dumps({name: value for name, value in kept.items() if name not in {"first_id", "mode"}}))
    again = own()
    assert outcome(again.sdk.sprite("one"), "~/x -u; stat -c %u ~ /root /etc/hosts; touch ~/mine; sudo -n id -u") == [
        *("0", "1000", "0", "0", "0")
    ]
    assert owner(held) >= RANGE_SIZE
    assert (
        owner(folder("one") / "checkpoints/v1/home/sprite/x")
        == owner(held)
        == json.loads(record.read_text())["first_id"]
    )


def test_the_files_api_acts_with_the_ships_ids_and_follows_no_link_out(own):
    dock = own()
    ship = dock.make("one")
    fs = "/v1/sprites/one/fs"

    def write(path, *, as_root=True):
        params = {"path": path, "workingDir": "/", **({"asRoot": "true"} if as_root else {})}
        return dock.rest.put(f"{fs}/write", params=params, content=b"evil").status_code

    name = f"ocaptain-fence-{os.getpid()}"
    assert write(f"/etc/{name}-root") == 200
    assert write(f"/etc/{name}-user", as_root=False) != 200
    ship.run("sh", "-c", "echo s > ~/s; chmod 600 ~/s; sudo ln -s / ~/out; sudo ln -s /proc/1/root ~/init")
    assert write("/home/sprite/s") == 200  # root may write what is the user's alone
    assert outcome(ship, f"stat -c %u:%a /etc/{name}-root ~/s") == ["0:644", "1000:600"]
    assert write(f"/home/sprite/out/etc/{name}-link") == 200  # the ship's own /etc
    assert write(f"/home/sprite/init/etc/{name}-init") != 200
    assert write(f"/proc/self/root/etc/{name}-self") != 200
    assert write("/proc/sys/kernel/core_pattern") != 200
    change = lambda **body: dock.rest.post(f"{fs}/chown", json={"path": f"/etc/{name}-root", "asRoot": True, **body})  # noqa: E731
    assert change(uid="sprite").json()["affected"][0]["uid"] == 1000
    assert change(uid=0, gid=5).json()["affected"][0] == {"path": f"/etc/{name}-root", "uid": 0, "gid": 5}
    assert change(uid=RANGE_SIZE).status_code == 400
    # A directory that becomes a link out of the ship, again and again.
    swap = "mkdir -p a /tmp/t; ln -sfn /proc/1/root/etc b; while :; do mv -T a c; mv -T b a; mv -T a b; mv -T c a; done"
    ship.run("sh", "-c", f"cd ~; setsid sh -c '{swap}' >/dev/null 2>&1 &")
    for number in range(60):
        write(f"/home/sprite/a/{name}-{number}")
    assert list(Path("/etc").glob(f"{name}*")) == []


@pytest.mark.slow
def test_where_the_machines_system_cannot_be_shown_ships_stand_on_a_debian(tmp_path):
    """As before Linux 5.19, or in a container whose own root is an overlay."""
    assert shutil.which("mmdebstrap"), "scripts/setup dev installs it"
    dock = Dock(tmp_path, env={BASE_VARIABLE: "own", "XDG_CACHE_HOME": str(tmp_path / "cache")})
    try:
        assert dock.record["mode"] == "mapped"
        nothing_gets_out(dock, own_network=False)
        ship = dock.sdk.sprite("prisoner")
        assert outcome(
            ship, "sudo -n id -u; stat -c %u /etc/passwd; sudo -n sh -c 'echo >> /etc/passwd' && echo w"
        ) == [*("0", "0", "w")]
        ship.run("touch", "/home/sprite/y")
        assert owner(dock.folder("prisoner") / "home/sprite/y") >= RANGE_SIZE
    finally:
        dock.end()


#: A ``/bin/sh`` that its ship's root has made: as init it does not end with its keeper, and forks twice at once.
OWN_INIT = """#!/usr/bin/python3
import ctypes, os, sys
if os.getpid() == 1:
    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
    if not os.fork():
        os.fork()
        os.execv("/usr/bin/sleep", ["sleep", "{marker}"])
os.execv("/usr/bin/dash", ["sh", *sys.argv[1:]])
"""


def put_own_init(dock, name, content):
    """Have a ship start with another ``/bin/sh``."""
    params = {"path": "/usr/local/own-init", "workingDir": "/", "asRoot": "true", "mode": "0755"}
    assert dock.rest.put(f"/v1/sprites/{name}/fs/write", params=params, content=content).status_code == 200
    assert dock.sdk.sprite(name).run("sudo", "ln", "-sf", "/usr/local/own-init", "/usr/bin/sh").returncode == 0
    assert dock.rest.post(f"/v1/sprites/{name}/restart").status_code == 200


def pids_of(*argv):
    """Return the processes of the machine that run a command."""
    wanted = "".join(f"{word}\0" for word in argv).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes() == wanted:
                found.append(int(process.name))
    return found


def test_an_init_of_the_ships_own_is_counted_with_what_it_forks_and_ends(own):
    marker = f"8{os.getpid()}"
    dock = own("--ship-pids", "64")
    ship = dock.make("one")
    try:
        put_own_init(dock, "one", OWN_INIT.format(marker=marker))
        wait_for(lambda: len(pids_of("sleep", marker)) == 2)
        for left in pids_of("sleep", marker):
            assert "/ocaptain-" in Path(f"/proc/{left}/cgroup").read_text()
            assert int(Path(f"/proc/{left}/oom_score_adj").read_text()) == oom.INIT
        # It outlives a drydock that is killed until the next one needs its disk.
        before = pids_of("sleep", marker)
        os.kill(dock.record["pid"], signal.SIGKILL)
        dock = own("--ship-pids", "64")
        ship = dock.sdk.sprite("one")
        assert ship.run("true").returncode == 0
        assert not {*before} & {*pids_of("sleep", marker)}
        # It ends when it is told to; and a ship whose root has ended its init boots at the next call.
        assert dock.rest.post("/v1/sprites/one/restart").status_code == 200
        wait_for(lambda: len(pids_of("sleep", marker)) == 2)
        init = dock.stored("one")["processes"][1]["pid"]
        os.kill(init, signal.SIGKILL)
        wait_for(lambda: Process.find(init) is None)
        assert ship.run("true").returncode == 0
        dock.sdk.delete_sprite("one")
        assert pids_of("sleep", marker) == []
    finally:
        for left in pids_of("sleep", marker):  # else nothing ends them
            os.kill(left, signal.SIGKILL)


#: A process that no SIGSTOP holds for long: it has timers that send SIGCONT for the next seconds, many, since a SIGSTOP
#: takes away those that wait. It makes a directory a link out of the ship and back, without end.
SWAPPING = """
import ctypes, os, signal, time
libc = ctypes.CDLL(None, use_errno=True)
os.chdir("/home/sprite")
signal.signal(signal.SIGCONT, lambda *_: None)
event = ctypes.create_string_buffer(bytes(8) + bytes([signal.SIGCONT]), 64)  # of struct sigevent, its sigev_signo
timers = [ctypes.c_void_p() for _ in range(300)]
for timer in timers:
    assert libc.timer_create(0, event, ctypes.byref(timer)) == 0
open("swapping", "w").close()
while True:
    for number, timer in enumerate(timers, 1):
        seconds, rest = divmod(number * 7, 1000)
        libc.timer_settime(timer, 0, (ctypes.c_long * 4)(0, 0, seconds, rest * 1000000), None)
    libc.renameat2(-100, b"a", -100, b"b", 2)  # exchange
    until = time.monotonic() + 0.02  # as long as a copy needs for many files
    while time.monotonic() < until:
        pass
"""
FILES_TO_COPY = 1500


def test_a_ship_that_does_not_stand_still_leads_no_copy_out(own, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    for number in range(FILES_TO_COPY):
        (outside / str(number)).write_text("secret")
    dock = own()
    ship = dock.make("one")
    fill = f"cd ~; mkdir a; for n in $(seq 0 {FILES_TO_COPY - 1}); do echo mine > a/$n; done; ln -s {outside} b"
    assert ship.run("sh", "-c", fill).returncode == 0
    with dock.socket(f"/v1/sprites/one/exec?cmd=python3&cmd=-c&cmd={quote(SWAPPING)}"):
        wait_for((dock.folder("one") / "home/sprite/swapping").exists)
        for _ in range(4):
            dock.rest.post("/v1/sprites/one/checkpoint")  # which may fail: the disk changes
    copied = [one for one in (dock.folder("one") / "checkpoints").rglob("*") if one.is_file() and not one.is_symlink()]
    assert [one for one in copied if one.read_bytes() == b"secret"] == []
    ship.run("pkill", "-KILL", "python3")
    assert '"complete"' in dock.rest.post("/v1/sprites/one/checkpoint").text
