"""What the live service was reported to do: output is lost in mid-stream, a sprite is wedged for ever.

Both at once, on drydock, with the command line: a fleet of three whose every stream of output has holes, and of which
one ship is wedged while it is built, another when the voyage has ended.
"""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from tests.helpers import run_task, wait_for
from tests.voyage.test_ansible import play

pytestmark = pytest.mark.root
LOSE = {"call": "* /v1/sprites/*/exec", "kind": "lose"}  # after each 512 KiB, 64 KiB
MEBIBYTE = 2**20
#: Bytes that no packing makes small, the same each time.
MAKE = (
    "import hashlib, pathlib, sys\n"
    "def data(seed, size):\n"
    "    return b''.join(hashlib.sha256(b'%d %d' % (seed, n)).digest() for n in range(size // 32))\n"
)
LINES = 40_000


def expected(seed: int, size: int) -> bytes:
    return b"".join(hashlib.sha256(b"%d %d" % (seed, number)).digest() for number in range(size // 32))


def make_large(seed: int) -> str:
    """Return a task's command: a large file, a large artifact and a long log."""
    script = (
        f"{MAKE}pathlib.Path('file{seed}').write_bytes(data({seed}, 2 * {MEBIBYTE}))\n"
        f"pathlib.Path(sys.argv[1], 'left{seed}').write_bytes(data({seed + 10}, 2 * {MEBIBYTE}))\n"
        f"for n in range({LINES}): print('line', n, 'of task {seed}')\n"
    )
    return f'python3 -c "{script}" "$OCAPTAIN_ARTIFACTS"'


def read_log(sailor, voyage, seed):
    (file,) = (sailor.voyage(voyage) / "logs").glob(f"*/{seed}.1.log")
    return file.read_bytes()


def test_lost_output_and_wedged_ships_cost_only_themselves(lone, plan, tmp_path):
    # The holes come in every stream; ship-2 is wedged as soon as it is to run its first command.
    quick = {"OCAPTAIN_API_TIMEOUT": "3"}
    lone.faults({"call": "WS /v1/sprites/*-ship-2/exec", "kind": "wedge", "times": 1}, LOSE)
    pinned = [run_task(make_large(number), pin=f"ship-{number - 1}") for number in (1, 2)]
    tasks = [*pinned, run_task(make_large(3), "1", "2")]
    done = lone.run("sail", plan(tasks), "-n", "3", "--wait", "--json", env=quick)
    assert done.code == 3, done.err
    voyage = done.json["voyage"]
    assert done.json["state"] == "complete"
    left = {ship["id"]: (ship["state"], ship["reason"]) for ship in done.json["ships"] if ship["id"] == "ship-2"}
    assert left["ship-2"][0] in {"failed", "gone"}, left
    assert left["ship-2"][1]
    assert re.search(r"is complete, but sailed with fewer ships than asked for:\n *ship-2: ", done.err), done.err
    for seed in (1, 2, 3):
        assert (lone.voyage(voyage) / f"workspace/file{seed}").read_bytes() == expected(seed, 2 * MEBIBYTE)
        assert (lone.voyage(voyage) / f"artifacts/{seed}/left{seed}").read_bytes() == expected(seed + 10, 2 * MEBIBYTE)
        wait_for(lambda seed=seed: read_log(lone, voyage, seed).count(b"\n") == LINES)  # it may come after the end
        assert read_log(lone, voyage, seed) == b"".join(b"line %d of task %d\n" % (n, seed) for n in range(LINES))
    # Modules' output, `fetch` and `slurp`, by the connection plugin.
    ship = f"{voyage}-ship-0"
    play(
        lone,
        f"- slurp: {{src: /home/sprite/voyage/workspace/file1}}\n  register: read\n  no_log: true\n"
        f"- copy: {{content: '{{{{ read.content }}}}', dest: {tmp_path}/slurped, mode: '0600'}}\n"
        f"  delegate_to: localhost\n  connection: local\n  no_log: true\n"
        f"- fetch: {{src: /home/sprite/voyage/workspace/file1, dest: {tmp_path}/fetched, flat: true}}\n",
        hosts=ship,
    )
    assert (tmp_path / "fetched").read_bytes() == expected(1, 2 * MEBIBYTE)
    assert base64.b64decode((tmp_path / "slurped").read_bytes()) == expected(1, 2 * MEBIBYTE)
    # ship-0 has worked, and is wedged now: its work cannot be fetched, so it stays, and is named.
    lone.faults({"call": f"* /v1/sprites/{ship}/*", "kind": "wedge"}, LOSE)
    sunk = lone.run("sink", voyage, "--force", "--json", env=quick)
    assert sunk.code == 3, sunk.err
    assert sunk.json["left"] == [ship]
    assert ship in sunk.err
    assert lone.names() == [ship]
    assert ship in str(lone.json("status", voyage, "--json")["ships"])
