"""What of the machine's files the base layer covers: as data, and in an overlay."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from ocaptain.drydock.base import base_layer_key
from ocaptain.drydock.cover import cover, covered_paths, covers

FILE, DIRECTORY = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(
    ("path", "mode", "covered"),
    [
        ("/etc/wireguard", DIRECTORY | 0o700, True),
        ("/etc/letsencrypt/archive", DIRECTORY | 0o700, True),
        ("/etc/NetworkManager/system-connections/home.nmconnection", FILE | 0o600, True),
        ("/etc/krb5.keytab", FILE | 0o600, True),
        ("/etc/security/opasswd", FILE | 0o600, True),
        ("/opt/service/.env", FILE | 0o640, True),
        ("/var/lib/service/state", FILE | 0o660, True),
        ("/var/log/auth.log", FILE | 0o640, True),
        ("/var/lib/entered", DIRECTORY | 0o711, False),  # its files are judged one by one
        ("/usr/local/etc/token", FILE | 0o600, True),
        ("/usr/bin/tool", FILE | 0o4750, False),
        ("/opt/service/tool", FILE | 0o750, True),
        ("/etc/passwd", FILE | 0o644, False),
        ("/etc/link", stat.S_IFLNK | 0o777, False),
        ("/var/run.sock", stat.S_IFSOCK | 0o600, False),
        ("/etc/shadow", FILE | 0o640, False),
        ("/etc/shadow.old", FILE | 0o640, True),
        ("/etc/sudoers", FILE | 0o440, False),
        ("/etc/sudoers.d", DIRECTORY | 0o750, False),
        ("/etc/sudoers.d/admins", FILE | 0o440, False),
        ("/etc/apt/auth.conf.d/corp.conf", FILE | 0o600, False),
        ("/var/lib/dpkg/lock", FILE | 0o640, False),
        ("/var/cache/apt/archives/partial", DIRECTORY | 0o700, False),
    ],
)
def test_what_is_covered(path, mode, covered):
    assert covers(path, mode) is covered


def write(path: Path, mode: int, text="x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def machine(tmp_path):
    root = tmp_path / "machine"
    write(root / "etc/wireguard/wg0.conf", 0o644)
    (root / "etc/wireguard").chmod(0o700)
    write(root / "etc/open/secret", 0o600)
    write(root / "etc/open/public", 0o644)
    write(root / "etc/gone/secret", 0o600)
    write(root / "etc/changed/secret", 0o600)
    write(root / "etc/shadow", 0o640)
    write(root / "var/lib/docker/x/secret", 0o600)
    (root / "etc/out").symlink_to(tmp_path)
    write(tmp_path / "outside", 0o600)
    return root


FOUND = ["/etc/changed/secret", "/etc/gone/secret", "/etc/open/secret", "/etc/wireguard"]


def test_what_is_looked_for(machine):
    assert covered_paths(("etc", "var", "opt"), machine) == FOUND


@pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and mounts")
def test_a_layer_covers_the_machine_s_files_and_leaves_its_own(machine, tmp_path):
    layer = tmp_path / "layer"
    write(layer / "etc/changed/secret", 0o600, "of the layer")
    write(layer / "var/log/term.log", 0o640, "x and more")  # apt has added to it
    write(machine / "var/log/term.log", 0o640)
    os.mknod(layer / "etc/gone", stat.S_IFCHR, 0)  # which the layer has removed
    for _ in range(2):
        cover(layer, [*FOUND, "/etc/not-there-any-more", "/var/log/term.log"], machine)
    assert stat.S_ISCHR((layer / "var/log/term.log").lstat().st_mode)
    shown = tmp_path / "shown"
    shown.mkdir()
    write(machine / "etc/wireguard/later.conf", 0o600)
    look = "find $1 -mindepth 1 ! -type d | sort; stat -c %a $1/wireguard; cat $1/changed/secret"
    script = f'mount -t overlay x -o lowerdir="$2/etc:$3/etc" "$1" && {look}'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", shown, layer, machine]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    names = ["changed/secret", "open/public", "out", "shadow"]
    assert told.splitlines() == [*(f"{shown}/{name}" for name in names), "700", "of the layer"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's ships stand on the machine's system")
def test_a_new_secret_in_etc_asks_for_a_new_layer(machine):
    before = base_layer_key(machine)
    write(machine / "etc/open/readable", 0o644)
    assert base_layer_key(machine) == before
    write(machine / "etc/open/key", 0o600)
    assert base_layer_key(machine) != before
