"""Drydock as an ordinary user, with a range of ids and without: whole voyages, and what a ship cannot reach.

The user is one of a mount namespace of the test's own, so that nothing of the machine is changed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import httpx
import pytest
import sprites as sdk

from tests.drydock.isolation import succeeded
from tests.drydock.ways_out import reached
from tests.helpers import REPO, in_a_ship, run_task, wait_for, write_plan

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
UID = 54321
SETUP = """set -eu
mount --make-rprivate /
for name in passwd group subuid subgid; do
  touch "/etc/$name" 2>/dev/null || :
  [ ! -e "$1/etc/$name" ] || mount --bind "$1/etc/$name" "/etc/$name"
done
mount --bind "$2" "$1/python"
mount --bind "$3" "$1/site"
mount --bind "$4" "$1/repo"
cd "$1/home"
shift 4
exec setpriv --reuid UID --regid UID --clear-groups --inh-caps=-all "$@"
""".replace("UID", str(UID))


class User:
    """An ordinary user with a home, ocaptain, and a range of ids or none."""

    def __init__(self, root: Path, shared: Path, *, range_of_ids: bool) -> None:
        self.root = root
        self.shared = shared  # by all tests of this run
        self.home = root / "home"
        for name in ("python", "site", "repo", "etc", "bin", "home/.cache"):
            (root / name).mkdir(parents=True)
        line = f"tester:x:{UID}:{UID}:tester:{self.home}:/bin/bash\n"
        (root / "etc/passwd").write_text(Path("/etc/passwd").read_text() + line)
        (root / "etc/group").write_text(Path("/etc/group").read_text() + f"tester:x:{UID}:\n")
        for name in ("subuid", "subgid"):
            (root / "etc" / name).write_text("tester:700000:65536\n" if range_of_ids else "")
        program = root / "bin/ansible-playbook"
        program.write_text(f"#!{root}/python/bin/python3\nfrom ansible.cli.playbook import main\nmain()\n")
        program.chmod(0o755)
        for path in (self.home, self.home / ".cache"):
            os.chown(path, UID, UID)
        self.env = {
            "OCAPTAIN_VERIFY_ON": "any",
            **{name: value for name, value in os.environ.items() if "proxy" in name.lower() or "SSL_CERT" in name},
            "HOME": str(self.home),
            "PATH": f"{root}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"{root}/repo:{root}/site",
            "PYTHONDONTWRITEBYTECODE": "1",
            "LD_LIBRARY_PATH": f"{root}/python/lib",  # an interpreter with a shared library of its own
            "USER": "tester",
            "COLUMNS": "120",
        }

    def do(self, *argv, seconds=500) -> subprocess.CompletedProcess:
        places = [self.root, sys.base_prefix, sysconfig.get_paths()["purelib"], REPO]
        return subprocess.run(
            ["unshare", "--mount", "/bin/sh", "-c", SETUP, "sh", *map(str, places), *map(str, argv)],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def ocaptain(self, *arguments) -> subprocess.CompletedProcess:
        done = self.do(f"{self.root}/python/bin/python3", "-m", "ocaptain", *arguments)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return done

    def processes(self) -> list[str]:
        found = []
        for status in Path("/proc").glob("[0-9]*/environ"):
            try:
                mine = f"HOME={self.home}".encode() in status.read_bytes()
                if mine or in_a_ship(status.parent, self.home):
                    found.append(status.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


@pytest.fixture
def user(request, tmp_path_factory):
    if not os.access(Path(sys.base_prefix) / "bin/python3", os.X_OK):
        pytest.fail("the base interpreter has no bin/python3")
    # Not below pytest's own folders, which nobody else may enter.
    root = Path(tempfile.mkdtemp(prefix="ocaptain-user-"))
    root.chmod(0o755)
    temporary = tmp_path_factory.getbasetemp()
    shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary
    found = User(root, shared, range_of_ids=request.param)
    yield found
    stopped = found.ocaptain("drydock", "stop", "--force")
    assert stopped.returncode == 0, stopped.stderr
    wait_for(lambda: found.processes() == [])  # a captain may be on its way out
    subprocess.run(["rm", "-rf", str(root)], check=True)


PROBE = """
id -u; id -un
test -e {home} && echo sees-home
kill -0 {pid} 2>/dev/null && echo signals
ls /proc | grep -qx {pid} && echo sees-processes
(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null && echo writes-kernel
test -w /usr/bin/env && echo writes-programs
cat /etc/shadow 2>/dev/null | grep -c '[$]' | grep -vx 0
git --version >/dev/null && tmux -V >/dev/null && echo tools
echo x > ~/mine && echo home
"""


def has_base(user: User) -> None:
    """Build the user's base; the second test to ask is given the first one's, as links."""
    assert shutil.which("mmdebstrap"), "scripts/setup dev installs it"
    theirs, kept = user.home / ".cache/ocaptain", user.shared / "base"
    with (user.shared / "base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            subprocess.run(["cp", "-al", kept, theirs], check=True)
        built = user.ocaptain("drydock", "base", "build")
        assert built.returncode == 0, built.stderr
        assert "reduced" not in built.stderr
        if not kept.exists():
            subprocess.run(["cp", "-al", theirs, kept], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("user", [False, True], ids=["one-id", "range"], indirect=True)
def test_a_voyage_of_an_ordinary_user(user, request):
    whole = request.node.callspec.params["user"]
    if whole:
        has_base(user)
    probe = PROBE.format(home=user.home, pid=os.getpid()).strip().replace("\n", "; ")
    tasks = [
        run_task(f"{{ {probe}; }} > seen 2>&1"),
        run_task("echo 1 > a; git add a; git commit -qm 'Add a'", verify="test -f a"),
        run_task("(sudo -n id -u; apt-get --version | head -1) > root 2>&1; true"),
    ]
    write_plan(user.root / "plan", tasks, verify="test -f a")
    sailed = user.ocaptain("sail", str(user.root / "plan"), "-n", "2", "--wait", "--json")
    assert sailed.returncode == 0, sailed.stderr
    assert ("reduced" in sailed.stderr) is not whole
    result = json.loads(sailed.stdout)
    assert (result["state"], result["provider"]) == ("complete", "drydock")
    seen = Path(result["directory"], "workspace/seen").read_text().split()
    assert seen == ["1000", "sprite", "tools", "home"]
    sudo = Path(result["directory"], "workspace/root").read_text()
    assert sudo.startswith("0\napt ") is whole
    mode = json.loads(user.ocaptain("drydock", "status").stdout)["mode"]
    assert mode == ("mapped" if whole else "single")
    sunk = user.ocaptain("sink", "--force", "--json")
    assert (sunk.returncode, json.loads(sunk.stdout)["left"]) == (0, [])


@pytest.mark.parametrize("user", [False, True], ids=["one-id", "range"], indirect=True)
def test_pauses_checkpoints_networks_and_walls_of_an_ordinary_user(user, request):
    whole = request.node.callspec.params["user"]
    if whole:
        has_base(user)
    started = user.ocaptain("drydock", "start", "--idle", "20", "--cold", "80")
    assert started.returncode == 0, started.stderr
    record = json.loads(started.stdout)
    token = Path(record["token_file"]).read_text()
    headers = {"Authorization": f"Bearer {token}"}
    with (
        sdk.SpritesClient(token, base_url=record["url"]) as client,
        httpx.Client(base_url=record["url"], headers=headers, timeout=60, trust_env=False) as rest,
    ):

        def until(status):
            """Put the clock forward until it is so: a busy machine may need some time between two calls."""

            def look():
                if rest.get("/v1/sprites/one").json()["status"] == status:
                    return True
                rest.post("/drydock/clock", json={"advance": 10})
                return False

            wait_for(look)

        one = client.create_sprite("one")
        other = client.create_sprite("other")
        other.run("sh", "-c", "setsid sleep 7531 >/dev/null 2>&1 &")
        facts = {"pid": os.getpid(), "home": str(user.home), "other": "sleep.7531"}
        run = lambda *argv: one.run(*argv, capture_output=True).stdout.decode()  # noqa: E731
        assert succeeded(run, sudo=whole, own_network=True, **facts) == []
        assert reached(run) == []
        one.run("sh", "-c", "echo before > ~/state; setsid sleep 7532 >/dev/null 2>&1 &")
        until("warm")
        assert one.run("pgrep", "-f", "^sleep 7532").returncode == 0
        told = rest.post("/v1/sprites/one/checkpoint").text.splitlines()
        assert json.loads(told[-1])["type"] == "complete", told
        one.run("sh", "-c", "echo after > ~/state")
        told = rest.post("/v1/sprites/one/checkpoints/v1/restore").text.splitlines()
        assert json.loads(told[-1])["type"] == "complete", told
        assert one.run("cat", "/home/sprite/state", capture_output=True).stdout == b"before\n"
        until("cold")
        done = one.run("sh", "-c", "cat ~/state; sprite-env curl /v1/tasks", capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (done.stdout.split(b"\n", 1)[0], json.loads(done.stdout.split(b"\n", 1)[1])) == (
            b"before",
            {"tasks": []},
        )


@pytest.mark.parametrize("user", [False], ids=["one-id"], indirect=True)
def test_a_killed_drydock_of_an_ordinary_user_leaves_nothing(user):
    started = user.ocaptain("drydock", "start")
    assert started.returncode == 0, started.stderr
    write_plan(user.root / "plan", [run_task("sleep 300")])
    assert user.ocaptain("sail", str(user.root / "plan"), "-n", "2").returncode == 0
    os.kill(json.loads(started.stdout)["pid"], 9)
    assert user.ocaptain("sink", "--all", "--force").returncode == 0
    assert user.ocaptain("drydock", "stop").returncode == 0  # the sink started it again, to ask for the ships
    wait_for(lambda: user.processes() == [])
    assert str(user.home) not in Path("/proc/mounts").read_text()
