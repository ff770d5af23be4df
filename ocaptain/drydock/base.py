"""The shared base layer: what every ship needs, installed once and stacked below each.

The layer is the upper side of a sandbox in which ``apt-get install`` ran, plus the ship's
own user database. It is keyed by everything that it was made from, so a host that changed
gets a new one, and an unfinished one is never used (rename at the end).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

from ocaptain.drydock.enter import KEPT, UID, Inside, spawn
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.sandbox import BASE_ENVIRONMENT, OVERLAID, Sandbox, remove_tree

PACKAGES = {
    "sudo": "sudo",
    "tmux": "tmux",
    "git": "git",
    "file": "file",
    "sshd": "openssh-server",
    "python3": "python3",
    "less": "less",
}
BUILD_SECONDS = 600.0
# The user database of a ship: uid 1000 may be another name on the host, the host's password
# hashes and ssh host keys are none of the ship's business.
USERS = f"""set -eu
cd /etc
sed -i -e '/^sprite:/d' -e '/^[^:]*:[^:]*:{UID}:/d' passwd group
echo 'sprite:x:{UID}:{UID}:sprite:/home/sprite:/bin/bash' >> passwd
echo 'sprite:x:{UID}:' >> group
# What the host keeps to itself.
rm -rf ssl/private
for kept in lib/postgresql lib/mysql lib/docker lib/containerd mail spool/mail spool/cron backups \\
  cache/debconf/passwords.dat; do
  rm -rf "/var/$kept"
done
rm -f shadow- gshadow- passwd- group- ssh/ssh_host_*_key ssh/ssh_host_*_key.pub
cut -d: -f1 passwd | sed 's/$/:*:19000:0:99999:7:::/' > shadow
cut -d: -f1 group | sed 's/$/:*::/' > gshadow
chmod 0640 shadow gshadow
chgrp shadow shadow gshadow 2>/dev/null || :
if [ -d sudoers.d ]; then
  echo 'sprite ALL=(ALL:ALL) NOPASSWD: ALL' > sudoers.d/sprite
  chmod 0440 sudoers.d/sprite
fi
"""
INSTALL = """set -eu
export DEBIAN_FRONTEND=noninteractive
mkdir -p /usr/sbin
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
missing=$*
[ -z "$missing" ] || {
  apt-get -q -o Dpkg::Use-Pty=0 update
  apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends $missing
  apt-get -q clean
  rm -rf /var/lib/apt/lists/*
}
"""


def host_key(root: Path = Path("/")) -> str:
    """Return the key of the layer that fits this host: 16 hex digits."""
    digest = hashlib.sha256((USERS + INSTALL + repr(PACKAGES) + repr(KEPT)).encode())
    for name in ("etc/os-release", "etc/passwd", "etc/group", "var/lib/dpkg/status"):
        path = root / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    return digest.hexdigest()[:16]


def missing_packages() -> list[str]:
    """Return the Debian packages whose programs the ships' search path lacks."""
    return [
        package for program, package in PACKAGES.items() if shutil.which(program, path=BASE_ENVIRONMENT["PATH"]) is None
    ]


async def ensure_base(directory: Path) -> Path:
    """Return the base layer below ``directory``, making it if it is not there.

    Raises:
        DrydockError: a package could not be installed; says which and what apt said.
    """
    layer = directory / f"base-{host_key()}"
    if layer.is_dir():
        return layer
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=directory))
    box = await Sandbox.create("base", scratch / "box", None)
    try:
        await _inside(box, INSTALL, *missing_packages())
        await _inside(box, USERS)
        # Only now: the layers are the mounted upper sides until the sandbox ends.
        upper = scratch / "layer"
        await _stop_keeping(box, upper)
        try:
            upper.rename(layer)
        except OSError:
            if not layer.is_dir():  # somebody else may have made the same one meanwhile
                raise
    finally:
        await box.destroy()
        await asyncio.to_thread(remove_tree, scratch)
    return layer


async def _stop_keeping(box: Sandbox, upper: Path) -> None:
    """End the building sandbox but keep its upper side as ``upper``."""
    kept = box.directory / "upper"
    os.sync()
    upper.mkdir()
    for tree in OVERLAID:
        if any((kept / tree).iterdir()):
            (kept / tree).rename(upper / tree)


async def _inside(box: Sandbox, script: str, *arguments: str) -> None:
    command = Inside(
        box.init_pid, ["/bin/sh", "-c", script, "sh", *arguments], _apt_environment(), cwd="/", as_root=True
    )
    with tempfile.TemporaryFile() as said, open(os.devnull, "rb") as nothing:  # noqa: ASYNC230, PTH123
        running = await spawn(command, stdin=nothing.fileno(), stdout=said.fileno(), stderr=said.fileno())
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                code = await running.wait()
        except TimeoutError:
            running.signal(signal.SIGKILL)
            code = await running.wait()
        if code:
            said.seek(0)
            tail = "\n".join(said.read().decode(errors="replace").splitlines()[-12:])
            raise DrydockError(f"drydock's base layer could not be made (exit {code}):\n{tail}")


def _apt_environment() -> dict[str, str]:
    """Apt may need the proxy and certificate settings of the host, and nothing else of it."""
    names = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**BASE_ENVIRONMENT, "HOME": "/root", "USER": "root", "LOGNAME": "root", **kept}
