"""An agent that is laid into one folder, with no other file touched: it sails, costs, refuses and resumes."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from ocaptain.ledger import Ledger
from tests.helpers import REPO, write_plan

pytestmark = [pytest.mark.root, pytest.mark.slow]

ADAPTER = '''
"""Agent ``parrot``."""

from ocaptain.agents.base import RunSpec, Resume, common_environment
from ocaptain.agents.facts import AttemptVerdict
from ocaptain.sources import read_variables

OWN = ".ocaptain/parrot"


class Parrot:
    is_model = True
    credentials = ("PARROT_TOKEN",)
    remedy = "set PARROT_TOKEN to a good one"
    roles = ()
    task_list = None

    def is_settings_file(self, path):
        return path == ".parrot.json"

    def names_of_settings(self, path, data):
        return ["voice"] if b"voice" in data else []

    def find_missing_requirement(self):
        return None if read_variables(self.credentials) else f"agent parrot has no credential; {self.remedy}"

    def find_task_problem(self, task, agent_cmd):
        return self.find_missing_requirement()

    def judge(self, ended):
        if ended.facts and ended.facts.result and ended.facts.result.subtype == "refused":
            return AttemptVerdict("denied", "the parrot does not know this token")
        return AttemptVerdict("done", summary="Polly") if ended.code == 0 else AttemptVerdict("failed", "it flew away")

    def build_run(self, briefing):
        common = ("bash", f"~/{OWN}/program")
        return RunSpec(
            argv=(*common, briefing.session),
            env=common_environment(briefing),
            prompt=f"Say {briefing.task['subject']}",
            env_files=(f"{OWN}/env.json",),
            stream="ocaptain.agents.parrot.stream",
            resume=tuple(Resume(one, (*common, one), f".parrot/{one}") for one in briefing.sessions),
            resume_prompt="Again",
        )


ADAPTER = Parrot()
'''
STREAM = '''
"""Lines of words: ``said TEXT``, ``used TOKENS NANO``, ``ended HOW``."""


class Stream:
    def __init__(self, prices):
        self.changed = False
        self._facts = {"session": None, "billed": [], "result": None}

    def line(self, data):
        word, _, rest = data.decode().strip().partition(" ")
        self.changed = True
        if word == "said":
            return [f"parrot: {rest}"]
        if word == "session":
            self._facts["session"] = rest
        if word == "used":
            tokens, nano = map(int, rest.split())
            self._facts["billed"] = [{"model": "parrot-1", "tokens": [tokens, 0, 0, 0, 0], "cost": nano}]
        if word == "ended":
            self._facts["result"] = {"subtype": rest, "is_error": rest != "success"}
        return []

    def facts(self):
        return dict(self._facts)


def transcripts(home, workspaces):
    return [home / ".parrot"]
'''
PROGRAM = r"""
session=$1
echo "session $session"
if [ "$PARROT_TOKEN" != canary-good ]; then echo "ended refused"; exit 1; fi
word=first
[ ! -e ~/.parrot/$session ] || word=again
mkdir -p ~/.parrot && touch ~/.parrot/$session
echo "said $word $(cat) by $PARROT_TOKEN"
echo $word > said
echo "used 7 2000000"
echo "ended success"
"""
ROLE = """
- name: Put the parrot on its perch
  tree:
    dest: .ocaptain/parrot
    files:
      - {path: program, content: "{{ lookup('file', role_path ~ '/files/program') }}", mode: '0755'}
      - {path: env.json, content: "{{ {'PARROT_TOKEN': lookup('env', 'PARROT_TOKEN')} | to_json }}", mode: '0600'}
  no_log: true
"""


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of ours with one folder more."""
    listed = subprocess.run(
        ["git", "-C", REPO, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if name.split("/")[0] in {
            "ocaptain",
            "roles",
            "playbooks",
            "plugins",
            "inventory_plugins",
            "examples",
            "ansible.cfg",
        }:
            target = tmp_path / "checkout" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (REPO / name).exists():
                shutil.copy2(REPO / name, target, follow_symlinks=False)
    folder = tmp_path / "checkout/ocaptain/agents/parrot"
    for name, text in {
        "__init__.py": "",
        "adapter.py": ADAPTER,
        "stream.py": STREAM,
        "role/tasks/main.yml": f"---{ROLE}",
        "role/files/program": PROGRAM,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return tmp_path / "checkout"


def test_an_agent_is_a_folder(lone, tmp_path, checkout):
    lone.env["PYTHONPATH"] = str(checkout)
    check = "cat said; [ $(cat said) = again ]"
    plan = write_plan(tmp_path / "plan", [{"metadata": {"agent": "parrot", "verify": check}}], verify="grep again said")
    refused = lone.run("sail", plan, "-n", "1", "--wait")
    assert refused.code == 2
    assert "agent parrot has no credential; set PARROT_TOKEN to a good one" in refused.err
    lone.env["PARROT_TOKEN"] = "canary-bad"
    failed = lone.run("sail", plan, "-n", "1", "--wait", "--json")
    assert failed.code == 1, failed.err
    voyage = failed.json["voyage"]
    assert "the parrot does not know this token" in failed.json["note"]
    assert f"set PARROT_TOKEN to a good one, then go on with: ocaptain sail --resume {voyage}" in failed.json["note"]
    lone.env["PARROT_TOKEN"] = "canary-good"
    done = lone.run("sail", "--resume", voyage, "--wait", "--json")
    assert done.code == 0, done.err
    with Ledger(lone.voyage(voyage) / "ledger.db") as ledger:
        attempts = ledger.rows("attempts", "token")
    assert [one["state"] for one in attempts] == ["denied", "failed", "landed"]
    assert attempts[1]["session"] == attempts[2]["session"]
    assert [one["cost_nano"] for one in attempts] == [0, 2_000_000, 2_000_000]
    log = (lone.voyage(voyage) / "logs/ship-0/1.3.log").read_text()
    assert log == "parrot: again Again by ********\n"
    found = json.loads(lone.run("doctor", "--json").out)
    assert "PARROT_TOKEN" in json.dumps(found)
    assert lone.json("sink", voyage, "--force", "--json")["state"] == "sunk"
