"""Plans, homes and the command line as a user runs it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import jsonschema

from ocaptain.drydock import server
from ocaptain.ledger import Ledger, NewVoyage
from ocaptain.voyage.home import VoyageDirectory

REPO = Path(__file__).resolve().parent.parent
OCAPTAIN = Path(sys.executable).parent / "ocaptain"
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
SECONDS = 480
#: Seconds for what comes by itself.
PATIENCE = 240.0
#: No call here is encrypted, and to load the certificates for one takes 20 ms.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
#: What no test may have of a developer's: configuration and credentials, by how the variables begin.
CLEARED = ("SPRITE_", "SPRITES_", "OCAPTAIN_", "GH_", "ANTHROPIC_", "CLAUDE_")


def write_plan(directory: Path, tasks: list[dict], verify: str = "exit 0", **voyage) -> Path:
    """Write a plan; a task without id or subject gets one."""
    (directory / "tasks").mkdir(parents=True, exist_ok=True)
    (directory / "spec.md").write_text("# What is built\n")
    (directory / "verify.sh").write_text(f"set -e\n{verify}\n")
    (directory / "voyage.json").write_text(json.dumps(voyage))
    for number, task in enumerate(tasks, 1):
        whole = {"id": str(number), "subject": f"Task {number}", **task}
        (directory / "tasks" / f"{whole['id']}.json").write_text(json.dumps(whole))
    return directory


def run_task(line: str, *after: str, **metadata) -> dict:
    """Return a task that runs a shell line after other tasks."""
    return {"blockedBy": list(after), "metadata": {"run": line, **metadata}}


def new_voyage(**fields) -> NewVoyage:
    """Return a voyage of nothing, but for ``fields``."""
    nothing = {
        "id": "voyage-000000000000",
        "name": "n",
        "provider": "drydock",
        "digest": "d",
        "repo": "",
        "root": "0" * 40,
        "agent_cmd": None,
        "spec": "",
        "verify_script": b"",
        "verify_timeout": 1.0,
        "setup": None,
        "prompt": None,
        "tasks": [],
        "edges": {},
    }
    return NewVoyage(**{**nothing, **fields})


def make_directory(root: Path, voyage: str, provider: str, ships, targets=None) -> VoyageDirectory:
    """Return the directory of a voyage without tasks, which holds a ledger and nothing else."""
    directory = VoyageDirectory(root / "voyages" / voyage)
    directory.path.mkdir(parents=True)
    new = new_voyage(id=voyage, provider=provider, repo="/r", ships=ships, targets=targets or {})
    Ledger.create(directory.path / "ledger.db", new)
    return directory


#: A line that waits until :meth:`Sailor.go`: a test that counts seconds is a test of the machine.
HELD = "until [ -e ~/go ]; do sleep 0.1; done"


@functools.cache
def schema_of(kind: str) -> jsonschema.protocols.Validator:
    """Return what checks the JSON of a kind."""
    schema = json.loads((REPO / "docs/json" / f"{kind}.json").read_text())
    return jsonschema.Draft202012Validator(schema)


def as_documented(text: str):
    """Return the one JSON object that a command printed, checked against its schema."""
    found = json.loads(text)
    schema_of(found["kind"]).validate(found)
    return found


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return as_documented(self.out)


class Sailor:
    """A user with a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.voyages = home / "voyages"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(CLEARED)},
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser()),
            "COLUMNS": "120",
            "OCAPTAIN_VERIFY_ON": "any",  # a ship more each time would cost minutes; test_ship_verify.py has the rule
            "OCAPTAIN_API_TIMEOUT": "60",  # a busy machine's answer is late, which is no fault
        }

    def move_far(self) -> None:
        """Have the voyages in a directory whose path is as long as it may be."""
        parts = [str(self.home / "far"), *["x" * 200] * 5]
        self.voyages = Path("/".join(parts)[:1000])
        self.env["OCAPTAIN_HOME"] = str(self.voyages)

    def popen(self, *arguments, **more) -> subprocess.Popen:
        argv = [str(OCAPTAIN), *map(str, arguments)]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.home}
        return subprocess.Popen(argv, env=self.env, text=True, **{**options, **more})

    def run(self, *arguments, env=None, cwd=None, seconds=SECONDS) -> Done:
        done = subprocess.run(
            [str(OCAPTAIN), *map(str, arguments)],
            env={**self.env, **(env or {})},
            cwd=cwd or self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments, code=0):
        done = self.run(*arguments)
        assert code is None or done.code == code, (done.code, done.out, done.err)
        return done.json

    def playbook(self, *arguments) -> Done:
        done = subprocess.run(
            [str(PLAYBOOK), *map(str, arguments)],
            env=self.env,
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def voyage(self, voyage: str) -> Path:
        return self.voyages / voyage

    def git(self, voyage: str, *arguments) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.voyage(voyage) / "repo.git"), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=240,
        )
        return done.stdout.strip()

    def landed(self, voyage: str) -> list[str]:
        """Return the tasks that landed, oldest first, by the trailers on the branch."""
        log = self.git(voyage, "log", "--reverse", "--format=%(trailers:key=Task,valueonly,separator=%x2C)", voyage)
        return [line for line in log.splitlines() if line]

    def api(self, method: str, path: str, body=None) -> httpx.Response:
        """Call this home's drydock."""
        record = json.loads((self.home / "state/ocaptain/drydock/server.json").read_text())
        headers = {"Authorization": f"Bearer {Path(record['token_file']).read_text()}"}
        with httpx.Client(headers=headers, timeout=240, trust_env=False, verify=PLAIN) as client:
            return client.request(method, f"{record['url']}{path}", json=body)

    def inside(self, sprite: str, line: str) -> str:
        """Run a shell line on a ship, by the official SDK; return what it said."""
        import sprites as sdk

        record = json.loads((self.home / "state/ocaptain/drydock/server.json").read_text())
        with sdk.SpritesClient(Path(record["token_file"]).read_text(), base_url=record["url"]) as client:
            done = client.sprite(sprite).run("sh", "-c", line, capture_output=True)
        return (done.stdout or b"").decode(errors="replace")

    def go(self, *sprites: str) -> None:
        """Let what is :data:`HELD` on these ships go on."""
        for sprite in sprites:
            self.inside(sprite, "touch ~/go")

    def metrics(self) -> dict:
        return self.api("GET", "/drydock/metrics").json()

    def drydock(self) -> server.ServerRecord | None:
        """Return the drydock of this home if it runs; asks no command line, which costs half a second."""
        return server.running_server(self.home / "state/ocaptain/drydock")

    def stop_drydock(self) -> None:
        """End this home's drydock if it runs."""
        server.stop(self.home / "state/ocaptain/drydock")

    def faults(self, *rules: dict) -> None:
        """Have drydock spoil calls from now on; without a rule it behaves again."""
        reply = self.api("PUT", "/drydock/faults", {"rules": list(rules)})
        assert reply.status_code == 200, reply.text

    def injected(self) -> list[dict]:
        return self.api("GET", "/drydock/faults").json()["injected"]

    def sprites(self) -> int:
        return self.metrics()["sprites"]

    def names(self) -> list[str] | None:
        """Return the names of all sprites; None without a drydock: one that has none may end by itself at any time."""
        while found := self.drydock():
            try:
                return [one["name"] for one in self.api("GET", "/v1/sprites").json()["sprites"]]
            except (httpx.TransportError, OSError):
                if self.drydock() == found:
                    raise
        return None

    def scuttle(self) -> None:
        """End all that sails here, commands and captains as well: what a sink does, at a tenth of the time."""
        wait_for(self._kill_commands)  # before its directory goes: one that still ends may write
        if self.drydock():
            self.faults()
            wait_for(self._destroy_sprites)
        shutil.rmtree(self.voyages, ignore_errors=True)

    def _kill_commands(self) -> bool:
        """Kill what commands have started; return whether there was nothing left to kill."""
        found = [
            pid
            for pid, line in self._processes()
            if "ocaptain.drydock" not in line and not in_a_ship(Path(f"/proc/{pid}"), self.home)
        ]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    def _destroy_sprites(self) -> bool:
        """Destroy every sprite; return whether there was none: a call of a killed command may still make one."""
        found = self.api("GET", "/v1/sprites").json()["sprites"]
        for sprite in found:
            self.api("DELETE", f"/v1/sprites/{sprite['name']}")
        return not found

    def _processes(self) -> list[tuple[int, str]]:
        """Return the processes of this home, as they were called."""
        found = []
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = status.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environ = status.with_name("environ").read_bytes()
            except OSError:
                continue
            ours = str(self.home) in line or f"XDG_STATE_HOME={self.home}".encode() in environ
            if (ours and ("ocaptain" in line or "sandbox.sh" in line)) or in_a_ship(status.parent, self.home):
                found.append((int(status.parent.name), line))
        return found

    def leftovers(self) -> list[str]:
        """Return processes, mounts and files of this home's drydock and captains that are still there."""
        found = [line for _, line in self._processes()]
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.home) in line]
        sprites = self.home / "state/ocaptain/drydock/sprites"
        return found + [str(one) for one in (sprites.iterdir() if sprites.is_dir() else [])]


def in_a_ship(process: Path, home: Path) -> bool:
    """Whether a process is in a sandbox of a drydock of ``home``: its root is a ship's, and of files there."""
    try:
        mounts = (process / "mountinfo").read_text()
    except OSError:
        return False
    return " - tmpfs ship " in mounts and str(home) in mounts


def children(pid):
    """Return the processes that a process has started."""
    found = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            found += [int(child) for child in path.read_text().split()]
    return found


def wait_for(check, seconds=PATIENCE):
    """Return what ``check`` finds, as soon as it finds something.

    The limit is for what never comes: a busy machine may need minutes, and a test that passes waits no longer
    than it must. The last look is after it, since this process may have stood still meanwhile.
    """
    until = time.monotonic() + seconds
    while True:
        is_late = time.monotonic() > until
        if found := check():
            return found
        assert not is_late, f"it did not come to pass in {seconds:g} s"
        time.sleep(0.05)
