"""The shared base layer: what every ship needs, installed once, below each ship's own overlay.

The layer is the upper side of a sandbox in which ``apt-get install`` ran, plus the ship's
own user database. Its name holds a hash of everything that it was made from, so a changed host
gets a new one. An unfinished layer is never used: the last step renames it to its final name.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import signal
import struct
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import IO

from ocaptain.background import dying_with_us
from ocaptain.drydock.confine import ALLOWED_CAPABILITIES, give_back_open_files
from ocaptain.drydock.cover import REMOVED, SEARCHED, cover, covered_paths
from ocaptain.drydock.enter import SandboxCommand, spawn
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.ids import SHARED_SLOT, move_tree, range_of, shared_ids
from ocaptain.drydock.progress import say
from ocaptain.drydock.rootless import OVERLAID_DIRECTORIES, SPRITE_UID, SandboxMode, is_machine_root, sandbox_mode
from ocaptain.drydock.sandbox import BASE_ENVIRONMENT, Sandbox, remove_tree
from ocaptain.locks import Lock

PACKAGES = {
    "sudo": "sudo",
    "tmux": "tmux",
    "git": "git",
    "file": "file",
    "sshd": "openssh-server",
    "python3": "python3",
    "less": "less",
    "setfacl": "acl",  # with these three, roles that others published run (Ansible's become_user, synchronize, cron)
    "rsync": "rsync",
    "cron": "cron",
}
#: What is of no use to a ship with a single id.
ROOT_PACKAGES = frozenset({"sudo", "openssh-server", "acl", "rsync", "cron"})
EXTRA_PACKAGES = ("procps", "mount", "ca-certificates")  # what a bare Debian lacks
BUILD_SECONDS = 600.0
#: The lock of apt and dpkg (fcntl), and how long another program may hold it.
DPKG_LOCK = Path("/var/lib/dpkg/lock-frontend")
DPKG_SECONDS = 120.0
INSTALL_TRIES = 3
FLOCK = "hhqqi0q"  # struct flock of 64-bit Linux: type, whence, start, length, pid
# The user database of a ship: uid 1000 may be another name on the host, the host's password
# hashes and ssh host keys are none of the ship's business.
USERS_SCRIPT = f"""set -eu
root=${{1-}}
cd "$root/etc"
sed -i -e '/^sprite:/d' -e '/^[^:]*:[^:]*:{SPRITE_UID}:/d' passwd group
echo 'sprite:x:{SPRITE_UID}:{SPRITE_UID}:sprite:/home/sprite:/bin/bash' >> passwd
echo 'sprite:x:{SPRITE_UID}:' >> group
# What the host keeps to itself.
rm -rf ssl/private
for kept in {" ".join(REMOVED)}; do
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
FORBID_SERVICES_SCRIPT = """
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d
"""
# As in a container: nothing boots here, so `service` and Ansible's `service:` are to find what is in /etc/init.d; and
# the lists of packages are none, and as old as can be, so that Ansible's `cache_valid_time` fetches them.
CONTAINER_SCRIPT = """
case $(readlink /usr/sbin/init || :) in
*systemd) rm -f /usr/sbin/init ;;
esac
! getent group crontab >/dev/null || {
  mkdir -p /var/spool/cron
  install -d -m 1730 -g crontab /var/spool/cron/crontabs
}
# The host's databases stay with the host: where PostgreSQL is installed, its clusters are new and empty here.
for cluster in /etc/postgresql/*/*/; do
  [ -d "$cluster" ] || continue
  version=$(basename "$(dirname "$cluster")") name=$(basename "$cluster")
  rm -rf "$cluster"
  install -d -o postgres -g postgres /var/lib/postgresql
  pg_createcluster "$version" "$name" || rm -rf "$cluster"
done
rm -rf /var/lib/apt/periodic/*stamp /var/lib/apt/lists/*
[ ! -d /var/lib/apt/lists ] || touch -d @0 /var/lib/apt/lists
"""
INSTALL_SCRIPT = """set -eu
export DEBIAN_FRONTEND=noninteractive
missing=$*
[ -z "$missing" ] || {
  apt-get -q -o Dpkg::Use-Pty=0 update
  apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends $missing
  apt-get -q clean
}
"""
# A separate Debian (or the derivative that the host runs), made as root of a namespace: $1 = directory.
BOOTSTRAP_SCRIPT = """set -eu
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
chroot "$target" /bin/sh -c "$USERS$CONTAINER"
"""
# The host's programs below a copy of the world-readable part of /etc: $1 = directory.
COPY_SCRIPT = """set -eu
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


def base_layer_key(root: Path = Path("/")) -> str:
    """Return the hash in the name of the layer that fits this host: 16 hex digits."""
    digest = hashlib.sha256((USERS_SCRIPT + INSTALL_SCRIPT + repr(PACKAGES) + repr(ALLOWED_CAPABILITIES)).encode())
    digest.update((BOOTSTRAP_SCRIPT + COPY_SCRIPT + CONTAINER_SCRIPT + sandbox_mode()).encode())
    if sandbox_mode() is SandboxMode.MAPPED and is_machine_root():
        digest.update(str(shared_ids().first).encode())
    if sandbox_mode() is SandboxMode.HOST:
        digest.update((files("ocaptain.drydock") / "cover.py").read_bytes())
        digest.update(repr(covered_paths(("etc",), root)).encode())
    used = ("etc/os-release", "etc/passwd", "etc/group", "var/lib/dpkg/status")
    for name in used[:1] if sandbox_mode() is SandboxMode.MAPPED else used:
        path = root / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    return digest.hexdigest()[:16]


def missing_packages() -> list[str]:
    """Return the Debian packages of :data:`PACKAGES` whose programs are not in the ships' PATH."""
    return [
        package for program, package in PACKAGES.items() if shutil.which(program, path=BASE_ENVIRONMENT["PATH"]) is None
    ]


async def ensure_base(directory: Path) -> Path:
    """Return the base layer below ``directory``; build it if it does not exist.

    Raises:
        DrydockError: a package could not be installed, or another process is building the layer.
    """
    layer = directory / f"base-{base_layer_key()}"
    if layer.is_dir():
        return layer
    directory.mkdir(parents=True, exist_ok=True)
    with Lock(directory / "lock") as lock:
        if not await asyncio.to_thread(lock.acquire_within, BUILD_SECONDS):
            raise DrydockError(
                f"another process still builds a base layer in {directory} after {BUILD_SECONDS:g} s; try again later"
            )
        if layer.is_dir():
            return layer
        for leftover in directory.glob("building-*"):  # of one that was killed
            await asyncio.to_thread(remove_tree, leftover)
        await _build_layer(directory, layer)
    return layer


def _describe_build() -> str:
    mode = sandbox_mode()
    if mode is SandboxMode.MAPPED:
        work = "a Debian of its own, about 300 MB"
    else:
        missing = missing_packages() if mode is SandboxMode.HOST else []
        work = f"installs {', '.join(missing)}" if missing else "from what this machine has"
    return f"builds the base layer of the ships ({work}), once; it may take a minute"


async def _build_layer(directory: Path, layer: Path) -> None:
    say(_describe_build())
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=directory))
    try:
        made = scratch / "layer"
        await {
            SandboxMode.HOST: _install_packages,
            SandboxMode.MAPPED: _bootstrap_debian,
            SandboxMode.SINGLE: _copy_host_programs,
        }[sandbox_mode()](made)
        made.rename(layer)
    finally:
        await asyncio.to_thread(remove_tree, scratch)


async def _bootstrap_debian(layer: Path) -> None:
    packages = ",".join([*PACKAGES.values(), *EXTRA_PACKAGES])
    # mmdebstrap mounts a procfs, which needs a pid namespace.
    prefix = ("unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc")
    await _run_on_host([*prefix, "/bin/sh", "-c", BOOTSTRAP_SCRIPT, "sh", str(layer), packages])
    if is_machine_root():
        await asyncio.to_thread(move_tree, layer, 0, shared_ids().first)


async def _copy_host_programs(layer: Path) -> None:
    if missing := [package for package in missing_packages() if package not in ROOT_PACKAGES]:
        raise DrydockError(f"drydock needs programs that are not installed: apt-get install {' '.join(missing)}")
    await _run_on_host(["/bin/sh", "-c", COPY_SCRIPT, "sh", str(layer)])


async def _run_on_host(argv: list[str]) -> None:
    environment = {**_apt_environment(), "USERS": USERS_SCRIPT, "CONTAINER": FORBID_SERVICES_SCRIPT + CONTAINER_SCRIPT}
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *dying_with_us(argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            preexec_fn=give_back_open_files,
        )
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                exit_code = await process.wait()
        except TimeoutError:
            process.kill()
            exit_code = await process.wait()
        _require_success(exit_code, output)


def lock_holder(file: Path) -> int | None:
    """Return the process that has locked a file by ``fcntl``, 0 for one that is not seen from here, None for none.

    Nothing is locked for the test.
    """
    try:
        with file.open("rb") as opened:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(opened, fcntl.F_GETLK, asked))
    except OSError:  # no dpkg, or not ours to read
        return None
    return None if kind == fcntl.F_UNLCK else pid


def _name_process(pid: int) -> str:
    return f"process {pid}" if pid else "a program"


async def wait_for_dpkg(lock: Path = DPKG_LOCK, seconds: float = DPKG_SECONDS) -> None:
    """Wait until no other program installs packages on this machine: the layer would see half of what it writes.

    Raises:
        DrydockError: one still does after ``seconds``.
    """
    until = time.monotonic() + seconds
    told = False
    while (holder := lock_holder(lock)) is not None:
        if not told:
            say(f"waits at most {seconds:g} s for {_name_process(holder)}, which installs packages on this machine")
            told = True
        if time.monotonic() >= until:
            raise DrydockError(
                f"drydock's base layer cannot be built: {_name_process(holder)} has been installing packages on"
                f" this machine for {seconds:g} s; try again when it has ended (`ocaptain drydock base build`)"
            )
        await asyncio.sleep(0.5)


async def _install_packages(layer: Path) -> None:
    for tries_left in reversed(range(INSTALL_TRIES)):
        await wait_for_dpkg()
        before = base_layer_key()
        try:
            await _install_once(layer)
        except DrydockError:
            changed = base_layer_key() != before or lock_holder(DPKG_LOCK) is not None
            if not (changed and tries_left):
                raise
            say("another program installed packages on this machine meanwhile: the base layer is built again")
        else:
            return


async def _install_once(layer: Path) -> None:
    box = Sandbox("base", layer.parent / "box", None, range_of(SHARED_SLOT))
    await box.create()
    try:
        await _run_in_sandbox(box, FORBID_SERVICES_SCRIPT + INSTALL_SCRIPT, *missing_packages())
        await _run_in_sandbox(box, USERS_SCRIPT + CONTAINER_SCRIPT)
        # Only now: the layers are the mounted upper sides until the sandbox ends.
        await _save_upper_side(box, layer)
    finally:
        await box.destroy()
    # A view shows it under the ids of each ship: on the disk it is the machine's root's, as /usr is.
    await asyncio.to_thread(move_tree, layer, box.ids.first, 0)
    await asyncio.to_thread(lambda: cover(layer, covered_paths(SEARCHED)))


async def _save_upper_side(box: Sandbox, upper: Path) -> None:
    """Move the upper side of the building sandbox to ``upper``."""
    built = box.directory / "upper"
    os.sync()
    upper.mkdir()
    for tree in OVERLAID_DIRECTORIES:
        if any((built / tree).iterdir()):
            (built / tree).rename(upper / tree)


async def _run_in_sandbox(box: Sandbox, script: str, *arguments: str) -> None:
    command = SandboxCommand(
        box.init_pid, ["/bin/sh", "-c", script, "sh", *arguments], _apt_environment(), cwd="/", as_root=True
    )
    with tempfile.TemporaryFile() as output, open(os.devnull, "rb") as nothing:  # noqa: ASYNC230, PTH123
        running = await spawn(command, stdin=nothing.fileno(), stdout=output.fileno(), stderr=output.fileno())
        try:
            async with asyncio.timeout(BUILD_SECONDS):
                exit_code = await running.wait()
        except TimeoutError:
            running.signal(signal.SIGKILL)
            exit_code = await running.wait()
        _require_success(exit_code, output)


def _require_success(exit_code: int, output: IO[bytes]) -> None:
    if exit_code:
        output.seek(0)
        tail = "\n".join(output.read().decode(errors="replace").splitlines()[-12:])
        raise DrydockError(f"drydock's base layer could not be built (exit code {exit_code}):\n{tail}")


def _apt_environment() -> dict[str, str]:
    """Return the environment for apt: of the host's, only the proxy and certificate settings."""
    names = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**BASE_ENVIRONMENT, "HOME": "/root", "USER": "root", "LOGNAME": "root", **kept}
