"""A machine of its own with a real systemd, made of namespaces: for roles that work on hosts, not on sprites.

Its root is a copy-on-write view of this machine's, its network has nothing but ``lo``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
SYSTEMD = Path("/lib/systemd/systemd")
BOOT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs machine "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay machine -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --bind -o ro proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
for place in run tmp var/tmp dev; do mount -t tmpfs -o mode=0755 machine "$place"; done
chmod 1777 tmp var/tmp
mkdir -p ".$2"  # the checkout, which may lie below one of these
mount --rbind "$2" ".$2"
for device in null zero full random urandom tty; do
  touch "dev/$device"; mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  mount -t cgroup2 cgroup2 sys/fs/cgroup
else
  mount -t tmpfs -o mode=0755 machine sys/fs/cgroup
  mkdir sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
fi
rm -rf etc/systemd/system etc/machine-id
mkdir etc/systemd/system .before
: > etc/machine-id
pivot_root . .before
umount -l /.before
ip link set lo up 2>/dev/null || python3 -c '
import fcntl, socket, struct
with socket.socket() as s: fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 1))'
export container=ocaptain
exec setpriv --bounding-set -sys_module,-sys_time,-sys_boot /lib/systemd/systemd --system --unit=basic.target
"""


class Machine:
    """A machine that runs; ``pid`` is that of its init."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def enter(self):
        """Return what stands before a program that is to run on it."""
        return ["nsenter", "-t", str(self.pid), "-a", "--"]

    def run(self, *argv, seconds=120, **more):
        """Run a program on it."""
        options = {"capture_output": True, "text": True, **more}
        if "input" not in more:
            options["stdin"] = subprocess.DEVNULL
        return subprocess.run([*self.enter(), *map(str, argv)], timeout=seconds, check=False, **options)


@contextlib.contextmanager
def machine():
    """Boot one, and end it with everything on it."""
    groups = Path("/sys/fs/cgroup/systemd" if Path("/sys/fs/cgroup/systemd").is_dir() else "/sys/fs/cgroup")
    group = groups / f"ocaptain-machine-{os.getpid()}"
    group.mkdir()
    with tempfile.TemporaryDirectory(prefix="ocaptain-machine-") as root:
        enter = f'echo $$ > {group}/cgroup.procs; exec unshare -fpmnuiC --kill-child bash -c "$1" boot {root} {REPO}'
        with (Path(root).with_suffix(".log")).open("wb") as log:
            parent = subprocess.Popen(
                ["bash", "-c", enter, "enter", BOOT], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            yield Machine(_booted(parent, Path(log.name)))
        finally:
            parent.kill()  # its child, the init, is killed with it, and everything with that
            parent.wait(240)
            Path(log.name).unlink()
            _remove(group)


def _booted(parent, log):
    until = time.monotonic() + 240
    while time.monotonic() < until and parent.poll() is None:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        if children:
            found = Machine(int(children[0]))
            said = found.run("systemctl", "is-system-running").stdout.strip() if _is_systemd(children[0]) else ""
            if said in {"running", "degraded"}:
                return found.pid
        time.sleep(0.1)
    raise AssertionError(f"it did not boot: {log.read_text(errors='replace')[-2000:]}")


def _is_systemd(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"
    except OSError:
        return False


def _remove(group):
    until = time.monotonic() + 240
    while group.exists() and time.monotonic() < until:
        for one in (*sorted(group.rglob("*"), key=lambda path: -len(path.parts)), group):
            if one.is_dir():
                with contextlib.suppress(OSError):
                    one.rmdir()
        time.sleep(0.05)
