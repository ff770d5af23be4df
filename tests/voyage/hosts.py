"""Machines of an inventory: namespaces with a network, a disk, users and a real sshd of their own.

Each stands on drydock's base layer, for its sshd, and nothing else of drydock: it is reached by ssh
alone, over a pair of interfaces that goes with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

import yaml

from ocaptain.drydock.base import ensure_base
from ocaptain.drydock.sandbox import BASE_ENVIRONMENT, remove_tree
from ocaptain.sources import cache_directory
from tests.raw_sandbox import make_folders, start

SSHD = """
Port {port}
ListenAddress {address}
ListenAddress 127.0.0.1
HostKey /etc/ssh/own_key
PidFile none
UsePAM no
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 50
Subsystem sftp internal-sftp
"""


_NUMBERS = itertools.count()


def run(*argv, data=None, check=True):
    done = subprocess.run(
        list(map(str, argv)), input=data, capture_output=True, text=True, timeout=240, check=False, env=BASE_ENVIRONMENT
    )
    assert not check or done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


@dataclass
class Machine:
    """A host: its login, and what only somebody who stands before it can do."""

    name: str
    user: str
    home: str
    port: int
    directory: Path
    keeper: subprocess.Popen
    init: int
    link: str
    near: str
    address: str

    def inside(self, line, *, user=None, check=True):
        """Run a shell line as root, or as a user."""
        become = ["runuser", "-u", user, "--"] if user else []
        enter = ["nsenter", "-t", self.init, "-m", "-p", "-u", "-i", "-n", "-r", "-w"]
        return run(*enter, *become, "sh", "-c", line, check=check)

    def processes(self):
        """Return the command lines of the login's user."""
        return self.inside(f"ps -u {self.user} -o args=", check=False).splitlines()

    def cut(self):
        """Pull the plug of the network."""
        run("ip", "link", "set", self.link, "down")

    def mend(self):
        run("ip", "link", "set", self.link, "up")

    def logins(self):
        """Return how many connections were let in so far."""
        return int(self.inside("grep -c 'Accepted publickey' /var/log/sshd.log || :"))

    def end_sessions(self):
        """Kill every sshd that serves a login; the one that listens stays."""
        self.inside(f"pkill -KILL -u {self.user} -x sshd", check=False)

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            self.keeper.send_signal(signal.SIGKILL)
        self.keeper.communicate(timeout=20)
        subprocess.run(["ip", "link", "del", self.link], capture_output=True, check=False)


class Machines:
    """Some machines, the key that opens them, and the inventory that names them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.all: list[Machine] = []
        self.key = root / "id"
        self.known = root / "known_hosts"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "crew", "-f", self.key)
        self.base = asyncio.run(ensure_base(cache_directory() / "drydock"))

    def add(self, name, user, home, port=22):
        """Bring up a machine with one user."""
        directory = self.root / name
        make_folders(directory)
        keeper = start(directory, self.base, name, isolated=True)
        said = keeper.stdout.readline()
        assert said == b"ready\n", keeper.stderr.read()
        (init,) = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
        link = f"oc{uuid.uuid4().hex[:8]}"
        # A range that is for tests of networks alone (RFC 2544).
        net, at = f"198.{18 + os.getpid() // 256 % 2}.{os.getpid() % 256}", 4 * (next(_NUMBERS) % 64)
        near, address = f"{net}.{at + 1}", f"{net}.{at + 2}"
        made = Machine(name, user, home, port, directory, keeper, int(init), link, near, address)
        self.all.append(made)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", init)
        run("ip", "address", "add", f"{near}/30", "dev", link)
        run("ip", "link", "set", link, "up")
        run("nsenter", "-t", init, "-n", "ip", "link", "set", "lo", "up")
        run("nsenter", "-t", init, "-n", "ip", "address", "add", f"{address}/30", "dev", "eth0")
        run("nsenter", "-t", init, "-n", "ip", "link", "set", "eth0", "up")
        public = self.key.with_suffix(".pub").read_text()
        made.inside(
            f"set -e; userdel sprite; rm -f /etc/sudoers.d/sprite; mkdir -p {Path(home).parent}\n"
            f"useradd -p '*' -m -d {home} -s /bin/bash {user}; chmod 755 {home}\n"
            f"install -d -m 700 -o {user} {home}/.ssh\n"
            f"echo '{public}' > {home}/.ssh/authorized_keys; chown {user} {home}/.ssh/authorized_keys\n"
            f"ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/own_key; mkdir -p /run/sshd\n"
            f"cat > /etc/ssh/own_config <<'E'{SSHD.format(port=port, address=address)}E\n"
            "/usr/sbin/sshd -f /etc/ssh/own_config -E /var/log/sshd.log"
        )
        place = f"[{address}]:{port}" if port != 22 else address
        with self.known.open("a") as known:
            known.write(f"{place} {made.inside('cat /etc/ssh/own_key.pub')}")
        return made

    def inventory(self, *names, **more):
        """Write an inventory of some machines (all), in a group."""
        chosen = [one for one in self.all if not names or one.name in names]
        options = "-o ServerAliveInterval=2 -o ServerAliveCountMax=4 -o ConnectTimeout=8"
        shared = {
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.known} -o StrictHostKeyChecking=yes {options}",
            **more,
        }
        hosts = {
            one.name: {
                "ansible_host": one.address,
                "ansible_user": one.user,
                **({"ansible_port": one.port} if one.port != 22 else {}),
            }
            for one in chosen
        }
        path = self.root / f"{uuid.uuid4().hex[:8]}.yml"
        path.write_text(yaml.safe_dump({"ocaptain_hosts": {"hosts": hosts, "vars": shared}}, sort_keys=False))
        return path

    def end(self):
        for machine in self.all:
            machine.end()
        remove_tree(self.root)
        assert not shutil.os.path.exists(self.root)
