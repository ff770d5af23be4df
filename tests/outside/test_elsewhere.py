"""Fifty ships are built by ansible-runner from what is another machine: `transmit | worker | process`.

The worker has mounts, processes, a network, an environment and an installation of its own; of this machine's it has
only what it is sent, and a way to the API. Only by `make outside`; OCAPTAIN_OUTSIDE_SHIPS says how many ships.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import REPO
from tests.versions import NEWEST, PAIRS, find_python, make_environment

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif("OCAPTAIN_OUTSIDE" not in os.environ, reason="builds fifty ships twice (make outside)"),
    pytest.mark.timeout(3600),
]
SHIPS = int(os.environ.get("OCAPTAIN_OUTSIDE_SHIPS", "50"))
PLAY = """
- name: Build the worker
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Build the worker once, not for each ship
      ansible.builtin.command: "{{ ansible_playbook_python }} -m ocaptain.worker.build"
      register: built
      changed_when: false

- name: Build the ships
  hosts: far
  gather_facts: false
  strategy: ansible.builtin.host_pinned
  roles:
    - role: ocaptain.fleet.tmux_agent
      vars:
        tmux_agent_worker: "{{ hostvars['localhost'].built.stdout }}"
"""
INVENTORY = "plugin: ocaptain.fleet.sprites\nprefix: far-\nlabel_selector: far\ngroup: far\n"
#: Joins what connects at one side (a port, or a socket's path) to the other.
FORWARD = """
import asyncio, sys
async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def join(reader, writer):
    is_socket = "/" in there
    to = await (asyncio.open_unix_connection(there) if is_socket else asyncio.open_connection("127.0.0.1", int(there)))
    await asyncio.gather(copy(reader, to[1]), copy(to[0], writer), return_exceptions=True)
async def main():
    start = asyncio.start_unix_server(join, here) if "/" in here else asyncio.start_server(join, "127.0.0.1", int(here))
    server = await start
    print("ready", flush=True)
    await server.serve_forever()
here, there = sys.argv[1:]
asyncio.run(main())
"""
#: What is this machine's is not there; the first argument after the hidden places is the forwarder's.
INSIDE = """
while [ "$1" != -- ]; do mount -t tmpfs none "$1" || exit 99; shift; done; shift
ip link set lo up || exit 98
mkfifo "$2.fifo"; python3 "$1" "$PORT" "$2" >"$2.fifo" & read -r _ <"$2.fifo"; shift 2
exec "$@"
"""


def run(argv, env, cwd, **more):
    """Run a program; return what it printed and the processor seconds of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(list(map(str, argv)), env=env, cwd=cwd, capture_output=True, check=False, **more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-8000:]
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_fleet_is_built_from_another_machine(lone, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for place in (here / "project", here / "inventory", here / "back", there / "home"):
        place.mkdir(parents=True)
    (here / "project/build.yml").write_text(f"---{PLAY}")
    (here / "inventory/far.sprites.yml").write_text(INVENTORY)
    pair, python = next((pair, found) for pair in (NEWEST, *PAIRS) if (found := find_python(pair.python)))
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", there], dict(os.environ), REPO)
    run([sys.executable, "scripts/collection", there], dict(os.environ), REPO)
    programs = make_environment(there / "env", python, pair.core, next(there.glob("*.whl")))
    path = f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"
    galaxy = ["collection", "install", "--offline", "-p", there / "collections", next(there.glob("*.tar.gz"))]
    run([programs / "ansible-galaxy", *galaxy], {"PATH": path, "HOME": str(there / "home")}, there)
    # Nobody pays for compiling: it would be the first of the two that are compared.
    run(
        [programs / "python", "-m", "compileall", "-q", there / "env/lib", there / "collections"], {"PATH": path}, there
    )
    record = lone.drydock()
    env = {  # all that the other machine has been told
        "PATH": path,
        "HOME": str(there / "home"),
        "LANG": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(there / "collections"),
        "ANSIBLE_FORKS": "25",
        "ANSIBLE_INTERNAL_POLL_INTERVAL": "0.01",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
        "OCAPTAIN_PROVIDER": "sprites",
        "SPRITES_API_URL": record.url,
        "SPRITES_TOKEN": Path(record.token_file).read_text(),
    }

    def make_ships():
        for number in range(SHIPS):
            lone.api("POST", "/v1/sprites", {"name": f"far-{number}", "labels": ["far"]})

    def sink_ships():
        for number in range(SHIPS):
            lone.api("DELETE", f"/v1/sprites/far-{number}")

    make_ships()
    playbook = [programs / "ansible-playbook", "-i", here / "inventory", here / "project/build.yml"]
    said, direct = run(playbook, env, there)
    assert said.decode().count("failed=0") == SHIPS + 1
    sink_ships()
    make_ships()
    runner = [programs / "python", "-m", "ansible_runner"]
    sent, transmit = run([*runner, "transmit", here, "-p", "build.yml"], env, here)
    port = record.url.rpartition(":")[2].strip("/")
    forward, socket = there / "forward.py", there / "api"
    forward.write_text(FORWARD)
    outside = subprocess.Popen([sys.executable, forward, socket, port], stdout=subprocess.PIPE)
    try:
        assert outside.stdout.readline() == b"ready\n"
        spaces = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--mount-proc", "--kill-child"]
        hidden = [here, lone.home, REPO]
        inside = [*spaces, "sh", "-c", INSIDE, "sh", *hidden, "--", forward, socket]
        worked, worker = run([*inside, *runner, "worker"], {**env, "PORT": port}, there, input=sent)
    finally:
        outside.kill()
        outside.communicate()
    said, process = run([*runner, "process", here / "back"], env, here, input=worked)
    assert said.decode().count("failed=0") == SHIPS + 1
    ships = {f"far-{number}" for number in range(SHIPS)}
    assert {name for name in ships if "worker.sock" in lone.inside(name, "ls .ocaptain")} == ships
    sink_ships()
    figures = {"direct": direct, "transmit": transmit, "worker": worker, "process": process}
    rounded = {name: round(value, 2) for name, value in figures.items()}
    sys.stdout.write(f"{json.dumps({'ships': SHIPS, **rounded})}\n")
    assert transmit + worker + process <= 1.2 * direct, figures
