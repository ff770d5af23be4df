"""The roles on a sprite and on a plain host: looked at first, applied, applied again, taken away."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.helpers import OCAPTAIN, REPO, Sailor
from tests.voyage.hosts import Machines
from tests.voyage.test_ansible import play

pytestmark = pytest.mark.root
VERSION = "0.18.1"


@pytest.fixture(scope="module")
def sprite(fleet):
    play(fleet, "- sprite: {names: [endpoint]}")
    yield "endpoint"
    play(fleet, "- sprite: {names: [endpoint], state: absent}")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    machines = Machines(tmp_path_factory.mktemp("plain"))
    try:
        yield machines, machines.add("plain", "deck", "/srv/deck")
    finally:
        machines.end()


@pytest.fixture
def keys(tmp_path):
    for name in ("right", "wrong"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True, timeout=240)
    return tmp_path


@pytest.fixture
def bundle(tmp_path):
    """What lies beside Mutagen's own binary, with agents that say who they are."""
    path = tmp_path / "mutagen-agents.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("linux_amd64", "linux_arm64", "darwin_arm64"):
            data = f"#!/bin/sh\necho agent of {name} for $1 in $(pwd)\n".encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return path


def role(name, *, check=False, **variables):
    apply = ", apply: {check_mode: true}" if check else ""
    return f"- include_role: {{name: {name}{apply}}}\n  vars: {json.dumps(variables)}"


def both(sailor, host, *steps, options=()):
    """Run steps on the sprite and the host in one play; return what each changed in each step."""
    machines, _ = host
    crew = yaml.safe_load(machines.inventory().read_text())["ocaptain_hosts"]
    path = sailor.home / "both.yml"
    path.write_text(
        yaml.safe_dump({"all": {"hosts": {"endpoint": {"ansible_connection": "sprite"}}, "children": {"crew": crew}}})
    )
    mark = "- debug: {msg: STEP}\n"
    out = play(sailor, mark + f"\n{mark}".join(steps), "-i", path, *options, hosts="endpoint:plain")
    parts = re.split(r"(?:ok: \[\w+\] => \n +msg: STEP\n)+", out)[1:]
    assert len(parts) == len(steps), out
    return [
        {name: len(re.findall(rf"^changed: \[{name}\]", part, re.MULTILINE)) for name in ("endpoint", "plain")}
        for part in parts
    ]


NOTHING = {"endpoint": 0, "plain": 0}


def test_mutagen_target_lets_one_key_in(fleet, sprite, host, keys, bundle):
    _, plain = host
    cache = str(keys / "cache")
    given = {"mutagen_target_version": VERSION, "mutagen_target_agent": str(bundle), "mutagen_target_cache": cache}
    given["mutagen_target_authorized_key"] = (keys / "right.pub").read_text()
    before = plain.inside(f"cat {plain.home}/.ssh/authorized_keys")
    listed = """
- shell: find . -name '*mutagen*'; grep mutagen .ssh/authorized_keys || true
  register: found
  changed_when: found.stdout != ""
"""
    looked, unchanged, first, again = both(
        fleet,
        host,
        role("mutagen-target", check=True, **given),
        listed,
        role("mutagen-target", **given),
        role("mutagen-target", **given),
    )
    assert min(looked.values()) > 0
    assert unchanged == NOTHING, "check mode changed something"
    assert min(first.values()) > 0
    assert again == NOTHING

    proxy = f"ProxyCommand={OCAPTAIN} proxy %h %p"
    options = [
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
    ]

    def ssh(key, where, *command, program="ssh"):
        on = {"sprite": ["-o", proxy, "-o", "Port=2222", "-o", "User=sprite"], "plain": ["-o", "User=deck"]}[where]
        argv = [program, *options, "-i", keys / key, *on, *command]
        return subprocess.run(argv, env=fleet.env, capture_output=True, text=True, check=False, timeout=240)

    agent = f".mutagen/agents/{VERSION}/mutagen-agent"
    machine = {"x86_64": "linux_amd64"}.get(platform.machine(), "linux_arm64")
    data = b"\0\xff" * 50_000
    (keys / "file").write_bytes(data)
    for where, name, home in (("sprite", sprite, "/home/sprite"), ("plain", plain.address, plain.home)):
        # As Mutagen calls: files by scp, the agent by its place below the home.
        brought = ssh("right", where, "-C", keys / "file", f"{name}:.brought", program="scp")
        assert brought.returncode == 0, brought.stderr
        line = f"{agent} synchronizer; stat -c %a .mutagen .mutagen/agents {agent}; sha256sum < .brought; rm .brought"
        said = ssh("right", where, name, line)
        digest = hashlib.sha256(data).hexdigest()
        assert said.stdout == f"agent of {machine} for synchronizer in {home}\n700\n700\n700\n{digest}  -\n", (
            said.stderr
        )
        forwarding = ssh("right", where, "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1", name, "true")
        assert forwarding.returncode != 0
        assert "Permission denied (publickey)" in ssh("wrong", where, name, "true").stderr
    keyed = fleet.inside(
        sprite, "pgrep -u sprite -f '[s]shd.*mutagen-target' >&2; cat /home/sprite/.mutagen-target/authorized_keys"
    )
    assert keyed.count("ssh-") == 1
    # Another key takes the place of the one that was; then all goes.
    given["mutagen_target_authorized_key"] = (keys / "wrong.pub").read_text()
    (other,) = both(fleet, host, role("mutagen-target", **given))
    assert other == {"endpoint": 1, "plain": 1}
    for where, name in (("sprite", sprite), ("plain", plain.address)):
        assert ssh("wrong", where, name, "true").returncode == 0
    gone = role("mutagen-target", mutagen_target_state="absent", mutagen_target_version=VERSION)
    went, nothing = both(fleet, host, gone, gone)
    assert min(went.values()) > 0
    assert nothing == NOTHING
    assert ssh("wrong", "sprite", sprite, "true").returncode != 0
    assert fleet.inside(sprite, "pgrep -f '[s]shd.*mutagen-target'; ls -A /home/sprite | grep mutagen-target") == ""
    assert plain.inside(f"cat {plain.home}/.ssh/authorized_keys") == before


def test_tmux_agent_on_a_plain_host_and_a_sprite(fleet, sprite, host):
    _, plain = host
    given = {"tmux_agent_spec": "# A spec", "tmux_agent_home": "~"}
    listed = """
- shell: ls -d .ocaptain voyage || true
  register: found
  changed_when: found.stdout != ""
"""
    # A fresh host lacks programs, and may not be changed to find out what would be done.
    plain.inside("mv /usr/bin/tmux /usr/bin/tmux.away")
    (looked,) = both(fleet, host, role("tmux-agent", **given), options=["--check"])
    plain.inside("mv /usr/bin/tmux.away /usr/bin/tmux")
    assert min(looked.values()) > 0
    gone = role("tmux-agent", tmux_agent_state="absent")
    unchanged, first, again, went, nothing, left = both(
        fleet, host, listed, role("tmux-agent", **given), role("tmux-agent", **given), gone, gone, listed
    )
    assert unchanged == NOTHING
    assert min(first.values()) > 0
    assert again == NOTHING
    assert min(went.values()) > 0
    assert nothing == NOTHING
    assert left == NOTHING
    for found in (plain.inside("pgrep -f '[w]orker.pyz' || :"), fleet.inside(sprite, "pgrep -f '[w]orker.pyz'")):
        assert found == ""


@pytest.fixture
def short():
    """A home whose path leaves room for the names of ssh's sockets."""
    with tempfile.TemporaryDirectory(prefix="oc-") as path:
        yield Path(path)


def test_the_unit_of_a_host_with_systemd(tmp_path, host, short):
    machines, plain = host
    sailor = Sailor(short)
    plain.inside("echo 'deck ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/deck")
    given = {"tmux_agent_service_manager": "systemd"}
    # No systemd runs in a namespace: what is looked at must need none.
    out = play(sailor, role("tmux-agent", **given), "-i", machines.inventory(), "--check", "--diff", hosts="plain")
    unit = "".join(
        line[1:] + "\n" for line in re.findall(r"^(\+(?!\+).*)$", out, re.MULTILINE) if "(differs)" not in line
    )
    assert f"User=deck\nWorkingDirectory={plain.home}\n" in unit
    assert f'ExecStart=/usr/bin/env python3 "{plain.home}/.ocaptain/worker.pyz" serve\n' in unit
    assert "Restart=always\n" in unit
    assert "KillMode=process\n" in unit
    assert plain.inside("ls /etc/systemd/system | grep ocaptain || :") == ""
    if shutil.which("systemd-analyze"):
        path = tmp_path / "ocaptain-worker-deck.service"
        path.write_text(unit)
        done = subprocess.run(
            ["systemd-analyze", "verify", path], capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, done.stderr
        assert path.name not in done.stderr, done.stderr


def test_what_role_tailscale_makes_of_a_host(tmp_path):
    """The connection tells a sprite, whatever a ship's variables are; a login's greeting is no answer of the probe."""
    hosts = {name: {"ansible_connection": name, "ocaptain_sprite": name} for name in ("ssh", "sprite")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    said = json.dumps({"machine": "aarch64", "cli": "", "daemon": "", "installed": "", "joined": None, "status": None})
    tasks = f"""
- include_vars: {REPO}/roles/tailscale/{{{{ item }}}}/main.yml
  loop: [defaults, vars]
- assert:
    that:
      - tailscale_service_manager == ('sprite' if inventory_hostname == 'sprite' else 'systemd')
      - tailscale_arch == 'arm64'
      - not tailscale_is_ours
"""
    noisy = {"stdout": "sudo: {unable} to resolve\n" + said.replace('{"', '{ "', 1)}
    play(Sailor(tmp_path), tasks, "-i", tmp_path / "hosts.yml", hosts="all", tailscale_probe=noisy)


def test_a_tailscale_that_is_a_persons_own_is_not_taken_away(short, host):
    machines, plain = host
    status = json.dumps({"BackendState": "Running"})
    plain.inside(
        f"mkdir -p {plain.home}/bin {plain.home}/state; touch {plain.home}/state/tailscaled.state\n"
        f"cat > {plain.home}/bin/tailscale <<'E'\n#!/bin/sh\n"
        f"case \"$*\" in *status*) echo '{status}' ;; *logout*) touch {plain.home}/out ;; esac\nE\n"
        f"cp {plain.home}/bin/tailscale {plain.home}/bin/tailscaled\n"
        f"chmod 755 {plain.home}/bin/*; chown -R deck {plain.home}/bin {plain.home}/state\n"
        "echo '# a person' > /etc/systemd/system/tailscaled.service"
    )
    given = {
        "tailscale_state": "absent",
        "tailscale_become": False,
        "tailscale_bin_dir": f"{plain.home}/bin",
        "tailscale_state_dir": f"{plain.home}/state",
    }
    try:
        sailor = Sailor(short)
        gone = role("tailscale", **given)
        out = play(sailor, gone, "-i", machines.inventory(), hosts="plain")
        assert "changed: [plain]" not in out
        assert plain.inside(f"ls {plain.home}/out {plain.home}/state", check=False).endswith("tailscaled.state\n")
        assert plain.inside(f"[ ! -e {plain.home}/out ]; cat /etc/systemd/system/tailscaled.service") == "# a person\n"
        # One that the role joined is left, and its state goes.
        plain.inside(f"echo '{{}}' > {plain.home}/state/joined.json")
        assert "changed: [plain]" in play(sailor, gone, "-i", machines.inventory(), hosts="plain")
        assert plain.inside(f"ls -d {plain.home}/out {plain.home}/state", check=False) == f"{plain.home}/out\n"
        assert plain.inside("cat /etc/systemd/system/tailscaled.service") == "# a person\n"
    finally:
        plain.inside(
            f"rm -rf {plain.home}/bin {plain.home}/state {plain.home}/out /etc/systemd/system/tailscaled.service"
        )
