"""A program that behaves like Mutagen 0.18.1 as it was observed: command line, daemon, one-way copying, and its traps.

It copies what there is through the ``ssh`` of MUTAGEN_SSH_PATH, which runs tests/sync/fake_agent.py. :func:`install`
puts it into a folder as ``mutagen``; ``traps.json`` there switches traps on, also while it runs::

    version       what ``version`` prints
    hang          verbs that never end, such as ["flush", "pause"]
    flush_lies    ``flush`` succeeds and does nothing
    conflicts     how many conflicts each session shows, ten of them in words, while its status stays ``watching``
    missing       fields that the JSON lacks
    dead          ``daemon run`` ends at once
    halt          status that a running session is halted with, once
    timeout       seconds after which a call without a daemon fails (10)

Always so, as the real one: names may be double; a missing parent of the local folder is no error; templates of fields
fail on paused sessions; with a long data directory the daemon runs and no call reaches it; caches stay.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

VERSION = "0.18.1"
AGENT = f".mutagen/agents/{VERSION}/mutagen-agent"
OPTIONS = ["-oConnectTimeout=5", "-oServerAliveInterval=10", "-oServerAliveCountMax=1"]
RETRY_SECONDS = 15
POLL_SECONDS = 0.2


def install(folder: Path, bundle: str = "linux_amd64") -> Path:
    """Put it into a folder, with the bundle of agents beside it; return the program."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "mutagen"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {Path(__file__).resolve()} {folder} "$@"\n')
    program.chmod(0o755)
    data = Path(__file__).with_name("fake_agent.py").read_bytes()
    with tarfile.open(folder / "mutagen-agents.tar.gz", "w:gz") as archive:
        for name in (bundle, "linux_arm64"):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return program


def set_traps(folder: Path, **traps) -> None:
    """Switch traps on, and all others off."""
    (folder / "traps.json.new").write_text(json.dumps(traps))
    (folder / "traps.json.new").rename(folder / "traps.json")


class Failed(Exception):
    """A call failed; the message is what the command line says."""


# -- the daemon ------------------------------------------------------------------------------


class Session:
    """A session: what was asked for, and a thread that copies."""

    def __init__(self, daemon, kept):
        self.daemon = daemon
        self.kept = kept
        self.paused = kept["paused"]
        self.status = "disconnected"
        self.error = ""
        self.cycles = 0
        self.seen = None  # what was at alpha in the last cycle: the ancestor
        self.sizes = (0, 0)
        self.alpha_problems, self.beta_problems = [], []
        self.agent = None
        self.ended = False
        self.asked, self.done = 0, 0  # flushes
        self.news = threading.Condition()
        self.copying = threading.RLock()

    def start(self):
        threading.Thread(target=self.work, daemon=True).start()

    # -- the connection

    def call(self, tool, *argv, **more):
        self.daemon.note("dials", [tool, *argv])
        ssh = Path(os.environ["MUTAGEN_SSH_PATH"]) / tool
        return subprocess.Popen([ssh, *argv], start_new_session=True, **more)

    def ssh(self, command):
        pipe = subprocess.PIPE
        return self.call("ssh", *OPTIONS, self.kept["host"], command, stdin=pipe, stdout=pipe, stderr=pipe)

    def connect(self):
        for attempt in range(2):
            process = self.ssh(f"{AGENT} synchronizer --log-level=info")
            if process.stdout.readline() == f"agent {VERSION}\n".encode():
                self.agent, self.error = process, ""
                return
            process.stdin.close()
            said = process.stderr.read().decode(errors="replace").strip()
            code = process.wait()
            if code not in {126, 127} or attempt:
                raise Failed(f"unable to connect to alpha: unable to dial agent endpoint: {said or code}")
            self.install()

    def install(self):
        uname = self.ssh("uname -s -m")
        system, _, machine = uname.communicate()[0].decode().strip().partition(" ")
        name = f"{system.lower()}_{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"
        place = f".mutagen-agent{secrets.token_hex(16)}"
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(self.daemon.folder / "mutagen-agents.tar.gz") as archive:
                Path(folder, "mutagen-agent.1").write_bytes(archive.extractfile(name).read())
            argv = ["-C", *OPTIONS, "mutagen-agent.1", f"{self.kept['host']}:{place}"]
            if self.call("scp", *argv, cwd=folder, stdin=subprocess.DEVNULL).wait():
                raise Failed("unable to install agent: unable to copy agent binary to remote")
        done = self.ssh(f"./{place} install")
        done.communicate()
        if done.returncode:
            raise Failed("unable to install agent: unable to invoke agent installation")

    def disconnect(self):
        agent, self.agent = self.agent, None
        if agent:
            with contextlib.suppress(OSError, ValueError):
                agent.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.wait(2)
            if agent.poll() is None:
                os.killpg(agent.pid, signal.SIGKILL)
                agent.wait()
            for stream in (agent.stdout, agent.stderr):
                stream.close()

    def ask(self, **question):
        agent = self.agent
        agent.stdin.write(json.dumps(question).encode() + b"\n")
        agent.stdin.flush()
        line = agent.stdout.readline()
        if not line:
            raise OSError("unable to receive poll response: unable to read message length: unexpected EOF")
        return agent.stdout.read(int(line)) if "get" in question else json.loads(line)

    # -- the work

    def work(self):
        retry = 0.0
        while not self.ended:
            with self.news:
                self.news.wait(POLL_SECONDS)
            if self.paused or self.ended or self.status.startswith("halted"):
                continue
            try:
                with self.copying:
                    if self.paused or self.ended:
                        continue
                    if self.agent is None:
                        if time.monotonic() < retry:
                            continue
                        self.status = "connecting-alpha"
                        retry = time.monotonic() + RETRY_SECONDS
                        self.connect()
                        retry = 0.0
                    asked = self.asked
                    self.cycle()
                    self.done = asked
            except (OSError, ValueError, Failed) as error:
                self.error = str(error)
                self.disconnect()
                self.status = "connecting-alpha"
            with self.news:
                self.news.notify_all()

    def cycle(self):
        if halt := self.daemon.take_trap("halt"):
            self.status = halt
            return
        found = self.ask(scan=self.kept["source"], ignores=self.kept["ignores"])
        before = self.seen or {}
        if found is None:
            if self.seen is None:
                found = {"entries": {}, "problems": []}
            else:
                self.status = "halted-on-root-deletion"
                return
        entries, self.alpha_problems = found["entries"], found["problems"]
        files = [one for one in entries.values() if one[0] == "file"]
        self.sizes = (len(files), sum(one[3] for one in files))
        if not entries and len(before) >= 2:
            self.status = "halted-on-root-emptied"
            return
        changed = self.seen != entries or not self.matches(entries)
        if changed:
            self.status = "transitioning"
            self.transition(entries)
        self.seen = entries
        if changed or self.asked > self.done or self.cycles == 0:
            self.cycles += 1  # a real one counts none while nothing changes
        self.status = "watching"

    def matches(self, entries):
        """Whether the local folder is as it was left: a user's own file there is found, too."""
        root = Path(self.kept["target"])
        return root.is_dir() and {str(one.relative_to(root)) for one in root.rglob("*")} == set(entries)

    def transition(self, entries):
        root = Path(self.kept["target"])
        self.beta_problems = []
        if not root.parent.is_dir():
            error = "unable to open synchronization root parent directory: no such file or directory"
            self.beta_problems = [{"path": "", "error": error}]
            return
        root.mkdir(mode=0o755, exist_ok=True)
        here = sorted((str(one.relative_to(root)) for one in root.rglob("*")), reverse=True)
        for path in here:
            local, wanted = root / path, entries.get(path)
            is_folder = local.is_dir() and not local.is_symlink()
            if wanted is None or (wanted[0] == "folder") != is_folder:
                shutil.rmtree(local, ignore_errors=True) if is_folder else local.unlink(missing_ok=True)
        old = self.seen or {}
        for path, entry in sorted(entries.items()):
            local = root / path
            if entry[0] == "folder":
                local.mkdir(exist_ok=True)
                local.chmod(0o755)
            elif entry[0] == "link":
                local.unlink(missing_ok=True)
                local.symlink_to(entry[1])
            elif old.get(path) != entry or not local.is_file():
                scratch = root / f".mutagen-temporary-{secrets.token_hex(4)}"
                scratch.write_bytes(self.ask(get=path, root=self.kept["source"]))
                scratch.chmod(0o555 if entry[2] else 0o444)
                scratch.rename(local)

    # -- what is asked of it

    def flush(self):
        with self.news:
            self.asked += 1
            mine = self.asked
            while self.done < mine:
                if self.agent is None or self.paused or self.status.startswith("halted"):
                    raise Failed("unable to flush session: session is not currently able to synchronize")
                self.news.notify_all()
                self.news.wait(0.05)

    def pause(self):
        self.paused = self.kept["paused"] = True
        self.disconnect()
        with self.copying:
            self.disconnect()

    def resume(self, *, forget=False):
        with self.copying:
            self.paused = self.kept["paused"] = False
            if forget:
                self.seen = None
            self.cycles, self.done = 0, self.asked
            self.status = "connecting-alpha"
            if self.agent is None:
                self.connect()
        with self.news:
            self.news.notify_all()

    def end(self):
        self.ended = True
        self.disconnect()

    def as_json(self, missing, conflicts):
        alive = self.agent is not None and self.agent.poll() is None
        end = {"ignore": {}, "symlink": {}, "watch": {}, "permissions": {}, "compression": {}, "scanned": True}
        alpha = {**end, "protocol": "ssh", "host": self.kept["host"], "path": self.kept["source"], "connected": alive}
        beta = {**end, "protocol": "local", "path": self.kept["target"], "connected": not self.paused}
        alpha |= {"files": self.sizes[0], "totalFileSize": self.sizes[1]}
        beta |= {"files": self.sizes[0], "totalFileSize": self.sizes[1]}
        for one, problems, kind in ((alpha, self.alpha_problems, "scan"), (beta, self.beta_problems, "transition")):
            if problems:
                one[f"{kind}Problems"] = problems[:10]
            if len(problems) > 10:
                one[f"excluded{kind.title()}Problems"] = len(problems) - 10
        found = {
            "identifier": self.kept["id"],
            "version": 1,
            "creationTime": self.kept["at"],
            "creatingVersion": VERSION,
            "alpha": alpha,
            "beta": beta,
            "mode": self.kept["mode"],
            "name": self.kept["name"],
            "labels": self.kept["labels"],
            "paused": self.paused,
            "status": self.status,
            "successfulCycles": self.cycles,
        }
        if self.paused:
            found["status"] = "disconnected"
        if self.error:
            found["lastError"] = self.error
        if conflicts:
            found["conflicts"] = [{"root": f"file-{n}"} for n in range(min(10, conflicts))]
            found["excludedConflicts"] = max(0, conflicts - 10)
        return {name: value for name, value in found.items() if name not in missing}


class Daemon:
    """All sessions of a data directory."""

    def __init__(self, folder, data):
        self.folder, self.data = folder, data
        self.sessions = {}
        self.lock = threading.Lock()

    def note(self, kind, what):
        with (self.folder / f"{kind}.log").open("a") as log:
            log.write(json.dumps(what) + "\n")

    def take_trap(self, name):
        with self.lock:
            traps = read_traps(self.folder)
            found = traps.pop(name, None)
            if found:
                set_traps(self.folder, **traps)
            return found

    def run(self):
        traps = read_traps(self.folder)
        if traps.get("dead"):
            raise Failed("unable to start daemon: it is dead")
        place = self.data / "daemon"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (place / "daemon.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed("unable to acquire daemon lock: resource temporarily unavailable") from None
        (self.data / "caches").mkdir(exist_ok=True)
        with contextlib.suppress(OSError, ValueError):
            for kept in json.loads((self.data / "sessions.json").read_text()):
                self.sessions[kept["id"]] = Session(self, kept)
        for one in self.sessions.values():
            one.start()
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        listening = socket.socket(socket.AF_UNIX)
        try:
            (place / "daemon.sock").unlink(missing_ok=True)
            listening.bind(str(place / "daemon.sock"))
        except OSError:  # too long a path: it runs, and no call reaches it
            signal.pause()
        listening.listen(64)
        while True:
            client, _ = listening.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def stop(self):
        (self.data / "daemon" / "daemon.sock").unlink(missing_ok=True)
        for one in self.sessions.values():
            if agent := one.agent:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(agent.pid, signal.SIGKILL)
        os._exit(0)

    def serve(self, client):
        with client, client.makefile("rw") as stream:
            try:
                answer = {"out": self.carry_out(json.loads(stream.readline()))}
            except Failed as error:
                answer = {"error": str(error)}
            with contextlib.suppress(OSError):
                stream.write(json.dumps(answer) + "\n")
                stream.flush()

    def carry_out(self, asked):
        verb = asked["verb"]
        traps = read_traps(self.folder)
        if verb == "create":
            return self.create(asked)
        with self.lock:
            chosen = [one for one in self.sessions.values() if matches(one, asked)]
        if verb == "list":
            if asked["template"] != "{{json .}}" and any(one.paused for one in chosen):
                raise Failed("unable to execute formatting template: nil pointer evaluating")
            missing, conflicts = traps.get("missing", ()), traps.get("conflicts", 0)
            return json.dumps([one.as_json(missing, conflicts) for one in chosen])
        if not chosen:
            raise Failed("unable to locate requested sessions: specification did not match any sessions")
        for one in chosen:
            if verb == "terminate":
                with self.lock:
                    self.sessions.pop(one.kept["id"], None)
                one.end()
            elif verb == "reset":
                one.resume(forget=True)
            elif verb != "flush" or not traps.get("flush_lies"):
                getattr(one, verb)()
        self.keep()
        return ""

    def create(self, asked):
        kept = {**asked, "id": f"sync_{secrets.token_hex(20)}", "paused": False}
        kept["at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        one = Session(self, kept)
        one.connect()
        with self.lock:
            self.sessions[kept["id"]] = one
        one.start()
        self.keep()
        (self.data / "caches" / kept["id"]).write_text("")
        return f"Created session {kept['id']}\n"

    def keep(self):
        with self.lock:
            scratch = self.data / f"sessions.json.{threading.get_ident()}"
            scratch.write_text(json.dumps([one.kept for one in self.sessions.values()]))
            scratch.rename(self.data / "sessions.json")


def matches(session, asked):
    if asked["selector"]:
        name, _, value = asked["selector"].partition("=")
        return session.kept["labels"].get(name) == value
    return not asked["names"] or {session.kept["id"], session.kept["name"]} & set(asked["names"])


def read_traps(folder):
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / "traps.json").read_text())
    return {}


# -- the command line ------------------------------------------------------------------------

#: Flags that take a value, of those that were seen; any other is an error, as the real one's.
VALUES = {
    "create": {
        *("--name", "--label", "--mode", "-i", "--ignore", "--symlink-mode", "--probe-mode"),
        *("--watch-polling-interval", "--default-file-mode-beta", "--default-directory-mode-beta"),
        *("--max-entry-count", "--max-staging-file-size"),
    },
    "list": {"--label-selector", "--template"},
}
PLAIN = {"create": {"--no-global-configuration", "--ignore-vcs"}}


def parse(verb, argv):
    """Return flags (each with all of its values) and the rest."""
    flags, rest, words = {}, [], list(argv)
    while words:
        word = words.pop(0)
        if word in VALUES.get(verb, {"--label-selector"}):
            flags.setdefault(word, []).append(words.pop(0))
        elif word in PLAIN.get(verb, ()):
            flags[word] = [True]
        elif word.startswith("-"):
            raise Failed(f"unknown flag: {word}")
        else:
            rest.append(word)
    return flags, rest


def request(verb, argv):
    flags, rest = parse(verb, argv)
    if verb != "create":
        one = (flags.get("--label-selector") or [""])[0]
        return {"verb": verb, "selector": one, "names": rest, "template": (flags.get("--template") or [""])[0]}
    name = flags["--name"][0]
    if not name.replace("-", "").isalnum():
        raise Failed("invalid session name: invalid character")
    if flags["--mode"] != ["one-way-replica"] or not flags.get("--ignore-vcs"):
        raise Failed("this program knows replicas without version control alone")
    host, _, source = rest[0].partition(":")
    return {
        "verb": verb,
        "name": name,
        "mode": "one-way-replica",
        "host": host,
        "source": source,
        "target": rest[1],
        "labels": dict(one.split("=", 1) for one in flags["--label"]),
        "ignores": flags.get("-i", []) + flags.get("--ignore", []),
    }


def call_daemon(folder, data, asked):
    until = time.monotonic() + read_traps(folder).get("timeout", 10)
    while True:
        with socket.socket(socket.AF_UNIX) as daemon:
            try:
                daemon.connect(str(data / "daemon" / "daemon.sock"))
            except OSError:
                if time.monotonic() > until:
                    raise Failed("unable to connect to daemon: connection timed out (is the daemon running?)") from None
                time.sleep(0.1)
                continue
            with daemon.makefile("rw") as stream:
                stream.write(json.dumps(asked) + "\n")
                stream.flush()
                answer = json.loads(stream.readline() or '{"error": "the daemon has ended"}')
            if "error" in answer:
                raise Failed(answer["error"])
            return answer["out"]


def main(folder, *argv):
    traps = read_traps(folder)
    data = Path(os.environ.get("MUTAGEN_DATA_DIRECTORY") or Path.home() / ".mutagen")
    with (folder / "calls.log").open("a") as log:
        log.write(json.dumps({"argv": argv, "env": sorted(os.environ)}) + "\n")
    try:
        match argv:
            case ("version",):
                while "version" in read_traps(folder).get("hang", ()):
                    time.sleep(1)
                sys.stdout.write(f"{traps.get('version', VERSION)}\n")
            case ("daemon", "run"):
                Daemon(folder, data).run()
            case ("sync", verb, *rest) if verb in {"create", "list", "flush", "pause", "resume", "reset", "terminate"}:
                asked = request(verb, rest)
                while verb in traps.get("hang", ()):
                    time.sleep(1)
                sys.stdout.write(f"{call_daemon(folder, data, asked)}\n")
            case _:
                raise Failed("unknown command")
    except Failed as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
