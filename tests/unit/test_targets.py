"""From an inventory's host to ssh's command line, as data."""

from __future__ import annotations

import os
import shlex
import subprocess

import pytest
import yaml

from ocaptain.ansible.targets import DEFAULT_SSH_ARGS, build_target
from ocaptain.captain.transport.target import SshTarget, remote_command, ssh_argv, terminal_argv
from ocaptain.cli.sail import parse_hosts
from ocaptain.errors import UsageError
from ocaptain.voyage.check import select_hosts
from tests.helpers import PLAYBOOK, REPO

PLAIN = {"host": "web1", "port": None, "remote_user": None, "ssh_args": DEFAULT_SSH_ARGS, "host_key_checking": True}


def test_a_way_is_what_the_inventory_says():
    given = {
        **PLAIN,
        "port": 2022,
        "remote_user": "deck",
        "private_key_file": "/keys/id x",
        "ssh_common_args": "-o ProxyJump='gate way' -o ServerAliveInterval=3",
        "ssh_extra_args": "-4",
        "host_key_checking": False,
        "ssh_executable": "/opt/ssh",
    }
    way = build_target("web1", "ssh", given, "/srv/ship")
    assert way == SshTarget(
        host="web1",
        port=2022,
        user="deck",
        key="/keys/id x",
        executable="/opt/ssh",
        args=("-o", "StrictHostKeyChecking=no", "-o", "ProxyJump=gate way", "-o", "ServerAliveInterval=3", "-4"),
        home="/srv/ship",
    )
    assert SshTarget.model_validate_json(way.model_dump_json(exclude_defaults=True)) == way
    assert build_target("web1", "smart", PLAIN) == SshTarget(host="web1")
    # A later run that knows no inventory gives Ansible the same.
    variables = way.ansible_variables()
    assert shlex.split(str(variables.pop("ansible_ssh_common_args"))) == list(way.args)
    assert variables == {
        "ansible_host": "web1",
        "ansible_port": 2022,
        "ansible_user": "deck",
        "ansible_ssh_private_key_file": "/keys/id x",
        "ansible_ssh_executable": "/opt/ssh",
        "tmux_agent_home": "/srv/ship",
    }


def test_the_command_line():
    way = SshTarget(host="web1", port=2022, user="deck", key="/k", args=("-o", "ServerAliveInterval=3"))
    line = ssh_argv(way, ["-o", "ControlMaster=no"], remote_command(way, "echo it's"))
    at = line.index("--")
    assert line[0] == "ssh"
    assert line[at:] == ["--", "web1", "exec", "sh", "-c", shlex.quote("echo it's")]
    options = [line[n + 1] for n, word in enumerate(line[:at]) if word == "-o"]
    # ssh takes the first of two: nothing is forwarded whatever is said, and the inventory's sign of life counts.
    assert options[:5] == [
        "BatchMode=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
    ]
    assert options[5:9] == ["ControlMaster=no", "Port=2022", 'IdentityFile="/k"', 'User="deck"']
    assert options.index("ServerAliveInterval=3") < options.index("ServerAliveInterval=10")
    inside = remote_command(SshTarget(host="h", home="/a b"), "true")
    assert shlex.split(inside[-1]) == ["cd -- '/a b' && export OCAPTAIN_SHIP_HOME=\"$PWD\" && true"]
    person = terminal_argv(way, "tmux attach", is_terminal=True)
    assert person[:3] == ["ssh", "-o", "BatchMode=no"]
    assert person.index("-t") > person.index("-T")


@pytest.mark.parametrize(
    ("connection", "options", "message"),
    [
        ("local", {}, "not by ansible_connection 'local'"),
        ("sprite", {}, "not by ansible_connection 'sprite'"),
        ("ssh", {"password": "canary"}, "ansible_password"),
        ("ssh", {"private_key": "canary"}, "a key in a variable"),
        ("ssh", {"private_key_passphrase": "canary"}, "a passphrase"),
        ("ssh", {"host": "-oProxyCommand=x"}, "host:"),
        ("ssh", {"remote_user": "-l"}, "user:"),
        ("ssh", {"port": 70000}, "port:"),
    ],
)
def test_what_the_captain_cannot_use_is_refused_and_not_shown(connection, options, message):
    with pytest.raises(UsageError) as refused:
        build_target("web1", connection, {**PLAIN, **options})
    assert message in str(refused.value)
    assert "web1" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_a_ship_is_of_the_user_that_the_captain_logs_in_as():
    with pytest.raises(UsageError, match=r"web1: .*another user.*Remove ansible_become"):
        build_target("web1", "ssh", PLAIN, become=True)


def test_become_is_read_as_ansible_resolves_it(tmp_path):
    hosts = {"root": {"ansible_become": "{{ 1 == 1 }}"}, "crew": {"ansible_become": "no"}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    tasks = [{"voyage": {"state": "prepared", "hosts": [name]}, "ignore_errors": True} for name in hosts]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [PLAYBOOK, "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"],
        env={**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible.cfg"), "OCAPTAIN_HOME": str(tmp_path / "voyages")},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    root, crew = done.stdout.split("TASK [")[1:]
    assert "Remove ansible_become" in root
    assert "give either plan" in crew
    assert "Remove ansible_become" not in crew


def test_which_hosts_sail():
    hosts = [(name, SshTarget(host=name)) for name in "abc"]
    assert select_hosts(hosts, None) == hosts
    assert select_hosts(hosts, 2) == hosts[:2]
    with pytest.raises(UsageError, match="4 ships are requested, but the inventory has only 3 hosts: a, b, c"):
        select_hosts(hosts, 4)


def test_an_inventory_and_its_group(tmp_path):
    for name in ("hosts.yml", "odd:name"):
        (tmp_path / name).touch()
    assert parse_hosts(f"{tmp_path}/hosts.yml") == (f"{tmp_path}/hosts.yml", "all")
    assert parse_hosts(f"{tmp_path}/hosts.yml:web") == (f"{tmp_path}/hosts.yml", "web")
    assert parse_hosts(f"{tmp_path}/hosts.yml:web:!db") == (f"{tmp_path}/hosts.yml", "web:!db")
    assert parse_hosts(f"{tmp_path}/odd:name") == (f"{tmp_path}/odd:name", "all")
    with pytest.raises(UsageError, match=r"inventory .* does not exist"):
        parse_hosts(f"{tmp_path}/nowhere:web")
