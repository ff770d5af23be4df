"""Hostile agents, forged records, odd files in the voyage's directory: nothing runs here, nothing escapes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from ocaptain.git import Git
from ocaptain.ledger import task_views
from ocaptain.protocol import CLASSES, LineSplitter, class_of_record, decode_line, encode_line, make_record
from tests.helpers import HELD, run_task
from tests.voyage.local import VOYAGE, command, landed, make_voyage, sail

AGENTS = {
    "resets": """git reset -q --hard HEAD~0; git checkout -q --orphan other
git commit -qm x --allow-empty; echo ok > f""",
    "rewrites": "git commit -q --amend -m rewritten --allow-empty; echo ok > f",
    "deletes .git": "rm -rf .git; echo ok > f",
    "makes .git a file": "rm -rf .git; echo 'gitdir: /etc' > .git; echo ok > f",
    "makes .git a link": "rm -rf .git; ln -s / .git; echo ok > f",
    "breaks the index": "echo junk > .git/index; echo junk > .git/HEAD; echo ok > f",
    "merge driver": r"""printf '* merge=own filter=own diff=own\n' > .gitattributes
git config merge.own.driver 'touch {canary}'; git config filter.own.smudge 'touch {canary}'
git config filter.own.clean 'touch {canary}; cat'; git config core.fsmonitor 'touch {canary}'; echo ok > f""",
    "hooks": r"""mkdir -p .git/hooks; for h in pre-commit post-checkout post-merge reference-transaction; do
printf '#!/bin/sh\ntouch {canary}\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done
git config core.hooksPath .git/hooks; mkdir hooks; cp .git/hooks/* hooks/; echo ok > f""",
    "links out": """ln -s /etc/passwd passwd; ln -s / root; ln -s ../../../../../.. up
ln -s root/tmp/x deep; echo ok > f""",
    "odd names": r"""printf x > ./--; printf x > './--upload-pack=touch owned'; printf x > "$(printf 'new\nline')"
printf x > "$(printf '\033[31mred')"; printf x > '[bold]'; printf x > ' lead'; echo ok > f""",
    "many small files": "mkdir m; for n in $(seq 4900); do echo $n > m/$n; done; echo ok > f",
    "message": r"""echo ok > f; git add -A
git commit -qm "$(printf -- '--amend\n\nTask: 99\nShip: evil\n\033]0;title\007')" """,
}
UNFIT = {
    "6,000 files": ("mkdir m; for n in $(seq 6000); do : > m/$n; done", "5000 new files"),
    "200 MB": ("head -c 200000000 /dev/zero > big", "50 MB"),
    "hostile submodule": (
        "printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = --upload-pack=touch owned\\n' > .gitmodules",
        "disallowed submodule url",
    ),
    "nested repository": ("git init -q sub; echo x > sub/x", "nested git"),
}


def test_agents_that_do_all_they_can_with_git(tmp_path, ships):
    """One after the other in one workspace: each lands its file, and nothing of theirs is executed here."""
    canary = tmp_path / "owned"
    tasks = [
        {"run": f"{line.replace('{canary}', str(canary))}\nmv f f{number}"}
        for number, line in enumerate(AGENTS.values(), 1)
    ]
    for number, task in enumerate(tasks[1:], 1):
        task["waits"] = [str(number)]
    directory = make_voyage(tmp_path, tasks)
    asyncio.run(sail(directory, ships()))
    with command(directory) as ledger:
        failed = {view.id: view.reason for view in task_views(ledger) if view.status != "completed"}
    assert not failed, failed
    canary.unlink(missing_ok=True)  # what ran until here ran as the agent
    git = Git(directory / "repo.git")
    assert git.text("fsck", "--no-dangling", "--no-progress") == ""
    for number in range(1, len(tasks) + 1):
        assert git.text("show", f"{VOYAGE}:f{number}") == "ok", number
    # What the captain does with these trees executes nothing: checkout, merge, rescue's proof, clone.
    workspace = directory / "workspace"
    git.run("clone", "-q", "--template=", "--branch", VOYAGE, str(directory / "repo.git"), str(tmp_path / "clone"))
    assert not canary.exists()
    assert (workspace / "passwd").is_symlink()
    message = git.text("log", "-1", "--format=%B", f"--grep=^Task: {list(AGENTS).index('message') + 1}$", VOYAGE)
    assert "Task: 99" not in message
    assert "\x1b" not in message


@pytest.mark.parametrize("kind", UNFIT)
def test_what_cannot_be_taken_is_handed_back_by_name(tmp_path, ships, kind):
    line, part = UNFIT[kind]
    directory = make_voyage(tmp_path, [{"run": f"{line}; echo x > a"}])
    assert asyncio.run(sail(directory, ships())) == "failed"
    with command(directory) as ledger:
        (view,) = task_views(ledger)
    assert part in view.reason
    assert landed(directory) == []


# -- forged records --------------------------------------------------------------------------------------


class Forger:
    """A ship that says whatever it likes, and records what it is told."""

    def __init__(self, answer):
        self.answer = answer
        self.got: list[str] = []
        self.files: dict[str, bytes] = {}

    async def open(self):
        return ForgedStream(self)

    async def put(self, path, data):
        self.files[path] = data

    async def get(self, path, limit):
        self.got.append(path)
        from ocaptain.captain.transport import FileFault

        raise FileFault(path)


class ForgedStream:
    def __init__(self, forger):
        self.forger = forger
        self.out: asyncio.Queue[bytes] = asyncio.Queue()
        self.lines = LineSplitter()
        self.numbers = dict.fromkeys(CLASSES, 0)
        self.journal = os.urandom(16).hex()

    def say(self, message):
        self.out.put_nowait(encode_line(message))

    def tell(self, body):
        name = class_of_record(body)
        self.numbers[name] += 1
        self.say(make_record(self.numbers[name], body))

    async def send(self, data):
        for line in self.lines.feed(data):
            message = decode_line(line)
            if message["type"] == "hello":
                numbers = {"first": dict.fromkeys(CLASSES, 1), "last": dict.fromkeys(CLASSES, 0)}
                self.say({"type": "welcome", "protocol": 2, "journal": self.journal, **numbers, "busy": None})
            elif message["type"] == "rest":
                self.say({"type": "resting", "last": self.numbers})
            elif message["type"] == "command" and message["name"] == "start":
                for body in self.forger.answer(message["args"]["token"], message["id"]):
                    self.tell(body)

    async def __aiter__(self):
        while True:
            yield await self.out.get()

    async def close(self):
        pass


OID = "a" * 40


def outcome(**more):
    snapshot = {"commit": OID, "base": OID, "empty": False, "message": "", "left_out": [], "bundle": {"parts": []}}
    return {"code": 0, "reason": "exit", "seconds": 1.0, "tail": "", "snapshot": {**snapshot, **more}}


def part(**more):
    return {"path": ".ocaptain/out/a.0", "size": 1, "sha256": "0" * 64, **more}


FORGERIES = {
    "a path that climbs": {"bundle": {"parts": [part(path=".ocaptain/out/../../.ssh/id_rsa")]}},
    "an absolute path": {"bundle": {"parts": [part(path="/etc/shadow")]}},
    "a huge size": {"bundle": {"parts": [part(size=2**60)]}},
    "many parts": {"bundle": {"parts": [part()] * 1000}},
    "a negative size": {"bundle": {"parts": [part(size=-1)]}},
    "a ref for a commit": {"commit": "refs/heads/main"},
    "an option for a commit": {"commit": "--upload-pack=touch /tmp/owned"},
    "a commit that is not there": {},
    "text for a number": {"bundle": {"parts": [part(size="1")]}},
    "a huge message": {"message": "x" * 3_000_000},
    "nothing": None,
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_result_lands_nothing_and_reads_nothing_else(tmp_path, kind):
    directory = make_voyage(tmp_path, [{"run": "true"}])
    forged = FORGERIES[kind]

    def answer(token, name):
        data = outcome(**forged) if forged is not None else {"code": 0}
        return [{"kind": "result", "id": name, "ok": True, "data": data}]

    forger = Forger(answer)
    assert asyncio.run(sail(directory, [forger])) == "failed"
    assert landed(directory) == []
    assert set(forger.got) <= {".ocaptain/out/a.0"}
    refs = Git(directory / "repo.git").refs("refs")
    assert set(refs) == {f"refs/heads/{VOYAGE}"}


def test_a_ship_speaks_for_its_own_attempt_alone(tmp_path, ships):
    """Results and logs of somebody else's task change nothing."""
    directory = make_voyage(
        tmp_path, [{"run": "sleep 2; echo 1 > a", "pin": "ship-1"}, {"run": "true", "pin": "ship-0"}], 2
    )
    evil = base64.b64encode(b"forged\n").decode()

    def answer(token, name):
        for other in range(1, 6):
            if other != token:
                yield {"kind": "log", "token": other, "offset": 0, "data": evil}
                yield {"kind": "result", "id": f"start:{other}", "ok": True, "data": outcome()}
        yield {"kind": "log", "token": "../../x", "offset": 0, "data": evil}
        yield {"kind": "log", "token": token, "offset": 2**60, "data": evil}
        yield {"kind": "odd", "x": [1]}
        yield {"kind": "result", "id": name, "ok": True, "data": {"code": 1, "reason": "exit", "seconds": 1.0}}

    (real,) = ships()
    state = asyncio.run(sail(directory, [Forger(answer), real]))
    assert state == "failed"
    assert landed(directory) == ["1"]
    assert b"forged" not in b"".join(path.read_bytes() for path in (directory / "logs/ship-1").glob("*"))
    assert not list((directory / "logs").rglob("*x*"))


# -- a directory that somebody played with --------------------------------------------------------------


@pytest.mark.root
def test_odd_files_in_the_voyages_directory(lone, plan):
    """`status` and `tasks` always answer; the voyage goes on."""
    voyage = lone.json(
        "sail", plan([run_task("echo 1 > a"), run_task(f"{HELD}; echo 2 > b", "1")]), "-n", "1", "--json"
    )
    directory = Path(voyage["directory"])
    name = voyage["voyage"]
    odd = {
        "tasks/1.json": b"[/x] not JSON \xff",
        "tasks/99.json": b"{}",
        "tasks/.2.json.tmp": b"",
        "logs/ship-0/\x1b[31mred.log": b"\x1b[31m",
        "captain.pid": b"1\n",
        "voyage-0000000000ff": b"",
    }
    for path, data in odd.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    (directory / "tasks/dangling.json").symlink_to("/nowhere")
    (directory / "rescue").rmdir()
    (lone.voyages / "voyage-00000000000a").mkdir()
    (lone.voyages / "voyage-00000000000b").write_text("a file")
    (lone.voyages / "voyage-00000000000c").mkdir()
    (lone.voyages / "voyage-00000000000c/ledger.db").write_text("not a database at all, whatever it looks like")
    os.mkfifo(lone.voyages / "fifo")
    for arguments in (["status", name], ["tasks", name], ["logs", name], ["status", name, "--json"]):
        done = lone.run(*arguments)
        assert done.code == 0, done.err
        assert "\x1b" not in done.out + done.err
    assert lone.run("status", "voyage-00000000000c").code == 1
    lone.go(f"{name}-ship-0")
    assert lone.json("sail", "--resume", name, "--wait", "--json")["state"] == "complete"
    assert json.loads((directory / "tasks/2.json").read_text())["status"] == "completed"
    assert lone.json("sink", name, "--force", "--json")["state"] == "sunk"


@pytest.mark.root
def test_a_ledger_that_is_broken_is_one_clear_line(lone, plan):
    voyage = lone.json("sail", plan([run_task("echo 1 > a")]), "-n", "1", "--wait", "--json")["voyage"]
    ledger = lone.voyage(voyage) / "ledger.db"
    for aside in ("ledger.db-wal", "ledger.db-shm"):
        (lone.voyage(voyage) / aside).unlink(missing_ok=True)
    ledger.write_bytes(b"garbage" * 1000)
    for command_ in ("status", "tasks", "logs", "sink", "shell"):
        done = lone.run(command_, voyage, *(["--force"] if command_ == "sink" else []))
        assert done.code in {1, 2}, (command_, done.err)
        assert len(done.err.splitlines()) <= 4, done.err
    # What it had is still billed, and found: by its name and labels, once the directory is put away.
    assert lone.run("sweep", "--dry-run").out.startswith("nothing")
    ledger.unlink()
    assert f"{voyage}-ship-0" in lone.run("sweep", "--dry-run").out
    assert lone.run("sweep", "--force").code == 0


def test_nothing_of_a_tree_is_executed_by_a_checkout(tmp_path):
    """The captain's git, on a tree that asks for every helper there is."""
    canary = tmp_path / "owned"
    work = tmp_path / "work"
    subprocess.run(["git", "init", "-q", work], check=True)
    (work / ".gitattributes").write_text("* filter=x merge=x diff=x\n")
    (work / ".gitconfig").write_text(f'[filter "x"]\n\tsmudge = touch {canary}\n')
    (work / ".lfsconfig").write_text(f"[lfs]\n\turl = ext::touch {canary}\n")
    (work / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = ext::touch {canary}\n')
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    subprocess.run(["git", "-C", work, "add", "-A"], check=True)
    subprocess.run(["git", "-C", work, *identity, "commit", "-qm", "x"], check=True)
    Git(tmp_path).run("clone", "-q", "--template=", "--", str(work), str(tmp_path / "clone"))
    Git(tmp_path / "clone").run("checkout", "-q", "--force", "HEAD")
    assert not canary.exists()
