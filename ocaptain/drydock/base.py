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
from typing import IO

from ocaptain.drydock.enter import KEPT, Inside, spawn
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.rootless import UID, Mode, mode
from ocaptain.drydock.sandbox import BASE_ENVIRONMENT, OVERLAID, Sandbox, remove_tree
from ocaptain.locks import Lock

PACKAGES = {
    "sudo": "sudo",
    "tmux": "tmux",
    "git": "git",
    "file": "file",
    "sshd": "openssh-server",
    "python3": "python3",
    "less": "less",
}
OWN_PACKAGES = ("procps", "mount", "ca-certificates")  # what a bare Debian lacks
BUILD_SECONDS = 600.0
# The user database of a ship: uid 1000 may be another name on the host, the host's password
# hashes and ssh host keys are none of the ship's business.
USERS = f"""set -eu
root=${{1-}}
cd "$root/etc"
sed -i -e '/^sprite:/d' -e '/^[^:]*:[^:]*:{UID}:/d' passwd group
echo 'sprite:x:{UID}:{UID}:sprite:/home/sprite:/bin/bash' >> passwd
echo 'sprite:x:{UID}:' >> group
# What the host keeps to itself.
rm -rf ssl/private
for kept in lib/postgresql lib/mysql lib/docker lib/containerd mail spool/mail spool/cron backups \\
  cache/debconf/passwords.dat; do
  rm -rf "$root/var/$kept"
done
# To index the manuals costs more than most packages that a ship installs.
rm -f "$root/var/lib/man-db/auto-update"
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
NO_SERVICES = """
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
"""
INSTALL = """set -eu
export DEBIAN_FRONTEND=noninteractive
missing=$*
[ -z "$missing" ] || {
  apt-get -q -o Dpkg::Use-Pty=0 update
  apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends $missing
  apt-get -q clean
  rm -rf /var/lib/apt/lists/*
}
"""
# A Debian (or what the host is of its kind) of our own, as root of a namespace: $1 = directory.
BOOTSTRAP = """set -eu
target=$1 packages=$2
. /etc/os-release
apt-config dump Acquire > "$target.acquire"
set --
for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  [ ! -s "$list" ] || set -- "$@" "$list"
done
[ $# -gt 0 ] || VERSION_CODENAME=stable
TMPDIR=${target%/*} mmdebstrap --mode=root --variant=apt --aptopt="$target.acquire" --include="$packages" \\
  "$VERSION_CODENAME" "$target" "$@"
for own in etc/apt/keyrings etc/apt/trusted.gpg.d usr/share/keyrings usr/local/share/ca-certificates; do
  [ ! -d "/$own" ] || { mkdir -p "$target/$own"; cp -rn --preserve=mode "/$own/." "$target/$own/"; }
done
chroot "$target" update-ca-certificates
# The host may trust more than its packages say.
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$target/etc/ssl/certs/"
chroot "$target" /bin/sh -c "$USERS$NO_SERVICES"
"""
# The host's programs below an /etc of our own, of what is anybody's to read: $1 = directory.
COPY = """set -eu
target=$1
mkdir -p "$target/etc" "$target/opt" "$target/var/cache" "$target/var/lib" "$target/var/log" "$target/var/spool"
ln -s /usr "$target/usr"
for link in bin sbin lib lib32 lib64 libx32; do
  [ ! -L "/$link" ] || cp -P "/$link" "$target/$link"
done
ln -s /run "$target/var/run"
ln -s /run/lock "$target/var/lock"
mkdir -m 1777 "$target/var/tmp"
cp -dR --preserve=mode,timestamps /etc/. "$target/etc/" 2>/dev/null || :
find "$target/etc" -mindepth 1 ! -type l ! -perm -o+r -prune -exec rm -rf {} +
/bin/sh -c "$USERS" sh "$target"
"""


def host_key(root: Path = Path("/")) -> str:
    """Return the key of the layer that fits this host: 16 hex digits."""
    digest = hashlib.sha256((USERS + INSTALL + repr(PACKAGES) + repr(KEPT)).encode())
    digest.update((BOOTSTRAP + COPY + mode()).encode())
    used = ("etc/os-release", "etc/passwd", "etc/group", "var/lib/dpkg/status")
    for name in used[:1] if mode() is Mode.MAPPED else used:
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
    with Lock(directory / "lock") as lock:
        if not await asyncio.to_thread(lock.wait, BUILD_SECONDS):
            raise DrydockError(f"somebody else is making a base layer in {directory}")
        if layer.is_dir():
            return layer
        for left in directory.glob("building-*"):  # of one that was killed
            await asyncio.to_thread(remove_tree, left)
        await _build_layer(directory, layer)
    return layer


async def _build_layer(directory: Path, layer: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=directory))
    try:
        made = scratch / "layer"
        await {Mode.HOST: _install, Mode.MAPPED: _bootstrap, Mode.SINGLE: _copy}[mode()](made)
        made.rename(layer)
    finally:
        await asyncio.to_thread(remove_tree, scratch)


async def _bootstrap(layer: Path) -> None:
    packages = ",".join([*PACKAGES.values(), *OWN_PACKAGES])
    # mmdebstrap mounts a procfs, which needs a pid namespace.
    prefix = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")
    await _outside([*prefix, "/bin/sh", "-c", BOOTSTRAP, "sh", str(layer), packages])


async def _copy(layer: Path) -> None:
    if missing := [package for package in missing_packages() if package not in {"sudo", "openssh-server"}]:
        raise DrydockError(f"drydock needs programs that are not installed: apt-get install {' '.join(missing)}")
    await _outside(["/bin/sh", "-c", COPY, "sh", str(layer)])


async def _outside(argv: list[str]) -> None:
    environment = {**_apt_environment(), "USERS": USERS, "NO_SERVICES": NO_SERVICES}
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", *argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
        )
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        _check(code, said)


async def _install(layer: Path) -> None:
    box = await Sandbox.create("base", layer.parent / "box", None)
    try:
        await _inside(box, NO_SERVICES + INSTALL, *missing_packages())
        await _inside(box, USERS)
        # Only now: the layers are the mounted upper sides until the sandbox ends.
        await _stop_keeping(box, layer)
    finally:
        await box.destroy()


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
        _check(code, said)


def _check(code: int, said: IO[bytes]) -> None:
    if code:
        said.seek(0)
        tail = "\n".join(said.read().decode(errors="replace").splitlines()[-12:])
        raise DrydockError(f"drydock's base layer could not be made (exit {code}):\n{tail}")


def _apt_environment() -> dict[str, str]:
    """Apt may need the proxy and certificate settings of the host, and nothing else of it."""
    names = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**BASE_ENVIRONMENT, "HOME": "/root", "USER": "root", "LOGNAME": "root", **kept}
