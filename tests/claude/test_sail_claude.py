"""The real Claude Code on drydock ships, against a scripted API: each ship has a network with nothing
but its own loopback, and one port of it leads to the API.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from ocaptain.voyage.home import VoyageDirectory
from tests.claude.api import Api, Fault, Say, Turn, Use
from tests.claude.cli import layer
from tests.claude.reported import assert_reported
from tests.helpers import OCAPTAIN, REPO, SECONDS, Done, Sailor, in_a_ship, wait_for, write_plan

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
OAUTH, KEY, HELPED = "canary-oauth-token-61c1", "canary-api-key-72d2-abcdefghijkl", "canary-of-a-helper-83e3"
WORKSPACE = "/home/sprite/voyage/workspace"
SHARED = REPO.parent / "shared/plans/multilingual-readme"
GREETINGS = {
    "es": ("Spanish", "¡Hola Mundo!"),
    "fr": ("French", "Bonjour le Monde!"),
    "de": ("German", "Hallo Welt!"),
    "ja": ("Japanese", "こんにちは世界！"),  # noqa: RUF001
    "pt-BR": ("Brazilian Portuguese", "Olá Mundo!"),
}


class Harbour(Sailor):
    """A home whose drydock gives each ship the CLI, and no network but a way to the API."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        home.mkdir(exist_ok=True)
        self.anthropic = Api()
        self._traces = 0
        self.env |= {"ANTHROPIC_BASE_URL": self.anthropic.url, "OCAPTAIN_PROVIDER": "drydock"}
        self.traced("drydock", "start", *self.options())

    def options(self) -> tuple[str, ...]:
        """Return those of the drydock."""
        return ("--network", "isolated", "--allow-host-port", str(self.anthropic.port), "--layer", str(layer()))

    def traced(self, *arguments: object) -> Done:
        """Run a command with every execve of it, and of all that it starts, noted."""
        self._traces += 1
        trace = self.home.parent / f"execve-{self._traces}"
        argv = ["strace", "-D", "-f", "--seccomp-bpf", "-qq", "-s", "100000", "-e", "trace=execve", "-e", "signal=none"]
        out, err = trace.with_suffix(".out"), trace.with_suffix(".err")
        with out.open("wb") as stdout, err.open("wb") as stderr:  # files: strace holds what pipes it was given
            code = subprocess.run(
                [*argv, "-o", str(trace), str(OCAPTAIN), *map(str, arguments)],
                env=self.env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                check=False,
                timeout=SECONDS,
            ).returncode
        return Done(code, out.read_text(), err.read_text())

    def executed(self) -> str:
        """Return every argv since the drydock was started, on this machine and in the ships."""
        return "".join(file.read_text(errors="replace") for file in self.home.parent.glob("execve-*[0-9]"))

    def end(self) -> None:
        try:
            if self.sprites():
                self.run("sink", "--all", "--force", "--abandon")
        finally:
            self.anthropic.close()
            self.stop_drydock()
        wait_for(lambda: self.leftovers() == [])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    harbour = Harbour(tmp_path_factory.mktemp("harbour") / "home")
    yield harbour
    harbour.end()


@pytest.fixture
def harbour(made):
    yield made
    made.run("sink", "--all", "--force", "--abandon")


@pytest.fixture
def source(tmp_path):
    """A repository like octocat's Hello-World."""
    path = tmp_path / "hello-world"
    path.mkdir()
    (path / "README").write_text("Hello World!\n")
    (path / "log.txt").write_text("".join(f"line {number}\n" for number in range(1, 6)))
    identity = ("-c", "user.name=u", "-c", "user.email=u@x")
    for argv in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-qm", "first")):
        subprocess.run(["git", *argv], cwd=path, check=True)
    return path


def multilingual(directory: Path) -> Path:
    """Return the plan: the shared one where it is, else one like it."""
    if SHARED.is_dir():
        return SHARED
    names = [f"README.{language}.md" for language in GREETINGS]
    tasks = [
        {"subject": f"Create {name} README (README.{language}.md)", "description": greeting, "blocks": ["6"]}
        for language, (name, greeting) in GREETINGS.items()
    ]
    tasks.append({"subject": "Verify all README files and run exit criteria"})
    verify = "cd ~/voyage/workspace; for f in " + " ".join(names) + "; do file $f | grep -qE '(UTF-8|ASCII)'; done"
    return write_plan(directory, tasks, verify=verify)


def translation(language: str, number: int):
    """Return how one translation is made: looked, written, improved, tried, said."""
    name, greeting = GREETINGS[language]
    path, end = f"{WORKSPACE}/README.{language}.md", greeting[-1]
    linked = {"file_path": path, "old_string": f"{end}\n", "new_string": f"{end}\n\n[English](README)\n"}
    return (
        Turn(
            (Say(f"I look at what is there. {number}"), Use("Read", {"file_path": f"{WORKSPACE}/README"})),
            input=10_000 + number,
            output=211 * number,
            written=5_000,
        ),
        Turn((Use("Write", {"file_path": path, "content": f"# {greeting}\n"}),), input=3_000, output=901, cached=9_000),
        Turn((Use("Edit", linked),), output=400, cached=12_000),
        Turn((Use("Bash", {"command": f"file {path}; env; cat /proc/$$/environ", "description": "look"}),), output=77),
        Turn((Say(f"{name} is there."),), output=13, cached=14_000),
    )


def translations():
    """Return what the agents of the plan do."""
    languages = [f"({name})" for name in (f"README.{language}.md" for language in GREETINGS)]
    script = {
        part: (translation(language, n),)
        for n, (part, language) in enumerate(zip(languages, GREETINGS, strict=True), 1)
    }
    script["Verify all README files"] = (
        (
            Turn(
                (Use("Bash", {"command": "bash ~/voyage/artifacts/verify.sh", "description": "verify"}),), input=20_000
            ),
            Turn((Say("NO CHANGE NEEDED: verify.sh passes, all five files are there."),)),
        ),
    )
    return script


#: The CLI in a terminal, as a user of `ocaptain shell` would start it; ends once it is ready, or after 200 s.
START = """import json, os
own = os.path.expanduser("~/.ocaptain/claude/")
argv = ["claude", "--settings", own + "settings.json", "--dangerously-skip-permissions"]
os.execvpe(argv[0], argv, {**os.environ, **json.load(open(own + "env.json"))})
"""
INTERACTIVE = f"""cd ~/voyage/workspace; tmux -L seen new-session -d -x 100 -y 30 python3 -c '{START}'
for n in $(seq 800); do tmux -L seen capture-pane -p | grep -q 'bypass permissions on' && break; sleep 0.25; done
tmux -L seen capture-pane -p; tmux -L seen kill-server
"""


def costs(harbour, voyage: str) -> dict[str, float]:
    """Return what ocaptain says that each task cost, by its subject."""
    return {task["subject"]: task["cost_usd"] for task in harbour.json("tasks", voyage, "--json")["tasks"]}


def in_ships(harbour, word: str) -> set[str]:
    """Return the programs in ships that have a word in their environment or their arguments."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if in_a_ship(process, harbour.home):
                data = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                if word.encode() in data:
                    found.add((process / "comm").read_text().strip())
        except OSError:
            continue
    return found


def arguments(cmdline: Path) -> str:
    """Return a process' command line, "" if it is gone."""
    try:
        return cmdline.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def assert_secret(harbour, voyage: str, secret: str, ships: set[str], file: str) -> None:
    """Nowhere but in the one file of the ships that need it: disks, argv, repository, ledger, logs, prompts."""
    found = subprocess.run(
        ["grep", "-rlF", "--", secret, str(harbour.home)], capture_output=True, text=True, check=False, timeout=240
    )
    files = [Path(line) for line in found.stdout.splitlines()]
    sprites = harbour.home / "state/ocaptain/drydock/sprites"
    assert all(path.is_relative_to(sprites) for path in files), files
    parts = [path.relative_to(sprites).parts for path in files]
    names = {(sprites / one[0] / "upper/etc/hostname").read_text().strip() for one in parts}
    assert names == {f"{voyage}-{ship}" for ship in ships}, files
    assert {"/".join(one[-4:]) for one in parts} == {f"sprite/.ocaptain/claude/{file}"}, files
    assert len(files) == len(ships)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o700 if file == "key-helper" else 0o600}
    objects = subprocess.run(
        ["git", "-C", harbour.voyage(voyage) / "repo.git", "cat-file", "--batch-all-objects", "--batch", "--unordered"],
        capture_output=True,
        check=True,
        timeout=240,
    ).stdout
    assert secret.encode() not in objects
    assert secret not in harbour.executed(), "it stands in an argv"
    assert "--output-format" in harbour.executed()
    # What the agents' tools printed (`env` among it) is in what the model was sent.
    assert secret not in "".join(json.dumps(one.body) for one in harbour.anthropic.seen)


SIGNALS = {"metrics", "logs", "traces"}


def reported(harbour, voyage: str, ship: str) -> dict[str, bytes]:
    """Return what agents on a ship reported, as far as its worker still has it: all bodies of each signal."""
    found: dict[str, bytes] = {}
    pieces: dict[int, bytes] = {}
    for line in harbour.inside(f"{voyage}-{ship}", "cat ~/.ocaptain/journal/otlp-*.jsonl").splitlines():
        body = json.loads(line)["body"]
        pieces[body["call"]] = pieces.get(body["call"], b"") + base64.b64decode(body["data"])
        if body["piece"] + 1 == body["pieces"]:
            found[body["signal"]] = found.get(body["signal"], b"") + zlib.decompress(pieces[body["call"]], 47)
    return found


def test_a_plan_is_landed_and_its_bill_is_known(harbour, source, tmp_path):
    api = harbour.anthropic
    plan = multilingual(tmp_path / "plan")
    script = translations()
    api.script, api.keys = script, {OAUTH}
    harbour.env["CLAUDE_CODE_OAUTH_TOKEN"] = OAUTH
    sailed = harbour.traced("sail", plan, "-n", "3", "--repo", source, "--wait", "--json")
    del harbour.env["CLAUDE_CODE_OAUTH_TOKEN"]
    assert sailed.code == 0, sailed.err
    voyage = sailed.json["voyage"]
    assert sailed.json["tasks"]["completed"] == 6
    assert sailed.json["verify"]["ok"] is True
    assert harbour.git(voyage, "show", f"{voyage}:README.de.md") == "# Hallo Welt!\n\n[English](README)"
    said = costs(harbour, voyage)
    for part in script:
        (subject,) = (one for one in said if part in one)
        assert api.dollars(part) > 0.01
        assert said[subject] == pytest.approx(api.dollars(part), abs=1e-6)
    assert api.strange == []
    assert {signal for ship in range(3) for signal in reported(harbour, voyage, f"ship-{ship}")} == SIGNALS
    said_to_tools = ("Hallo Welt", "[English]", "/proc/$$", "I look at what is there")
    assert_reported(harbour, api, voyage, script, (OAUTH, *said_to_tools))
    assert_secret(harbour, voyage, OAUTH, {"ship-0", "ship-1", "ship-2"}, "env.json")
    assert harbour.inside(f"{voyage}-ship-0", "cat /proc/net/dev").count(":") == 1, "a ship has more than its loopback"
    assert "bypass permissions on" in harbour.inside(f"{voyage}-ship-0", INTERACTIVE), "a dialog came"


def write(name: str, text: str = "done\n") -> Use:
    return Use("Write", {"file_path": f"{WORKSPACE}/{name}", "content": text})


def bash(line: str) -> Use:
    return Use("Bash", {"command": line, "description": "a line"})


def simple(name: str, *faults: Fault, **tokens: int):
    """Return a play that writes a file, its end spoiled by faults."""
    return (Turn((write(name),), output=1234), Turn((Say(f"{name} is written."),), faults, input=4321, **tokens))


STAYS = "sleep 98765"
KILL = bash(f"setsid {STAYS} & echo half > half.txt; sleep 0.5; kill -9 $CLAUDE_PID; sleep 60")
#: What goes wrong: its plays, and how the task must end: state, and attempts that counted.
TRAPS = {
    "Told to wait twice": ((simple("a", Fault(429, 2, (("retry-after", "1"),))),), "completed", 1),
    "Meets a storm": ((simple("b", Fault(529, 4)),), "completed", 2),
    "Meets an error inside": ((simple("c", Fault(500, 2)),), "completed", 1),
    "Is cut for long": ((simple("d", Fault(times=50)), simple("d")), "completed", 2),
    "Asks what cannot be": ((simple("e", Fault(400, 99)),), "failed", 1),
    "Says done and did nothing": (((Turn((Say("All is done."),)),), simple("f")), "completed", 2),
    "Prints two megabytes": (
        (
            (
                Turn((bash("head -c 2000000 /dev/urandom | base64 -w 0; echo 2 > g"),)),
                Turn((Say("A lot."),), input=30_000),
            ),
        ),
        "completed",
        1,
    ),
    "Hangs": (((Turn((write("h"),), output=999), Turn((), (Fault(hang=True),))), simple("h")), "completed", 2),
    "Is killed in a tool": (((Turn((KILL,), output=777),), simple("i")), "completed", 2),
}


def side(name: str, gate) -> tuple:
    """Return how one of two agents changes line 3, and what it does when the other was faster."""
    path = f"{WORKSPACE}/log.txt"
    alone = {"file_path": path, "old_string": "line 3", "new_string": f"line 3 by {name}"}
    both = "line 1\\nline 2\\nline 3 by A and B\\nline 4\\nline 5"
    return (
        (
            Turn((Use("Read", {"file_path": path}),), input=5_000),
            Turn((Use("Edit", alone),), output=350),
            Turn((Say("Line 3 is mine."),), gate=gate),
        ),
        (
            Turn((Use("Read", {"file_path": path}),), cached=6_000),
            Turn((bash(f"printf '{both}\\n' > log.txt"),), output=450),
            Turn((Say("Both are in."),)),
        ),
    )


MEDDLER, VICTIM = "Meddles with the plan", "Told to wait twice"
#: What an agent does by its shell to the list of all tasks; it ends when the list has all of them again.
SPOIL = """cd ~/.claude/tasks/$CLAUDE_CODE_TASK_LIST_ID && rm -f *.json && echo '{"id": "99", "sub' > 99.json
for n in $(seq 300); do [ "$(ls [1-9]*.json | wc -l)" = COUNT ] && [ ! -e 99.json ] && break; sleep 0.1; done; ls"""


def meddling(victim: str, own: str, count: int, gate):
    """Return how an agent tries to change the plan of so many tasks by its task tools, and by its shell."""
    made = {"subject": "A task of mine", "description": "more"}
    return (
        Turn((Use("ToolSearch", {"query": "select:TaskCreate,TaskUpdate,TaskList", "max_results": 5}),)),
        Turn(
            (
                Use("TaskUpdate", {"taskId": victim, "status": "completed"}),
                Use("TaskCreate", made),
                Use("TaskUpdate", {"taskId": own, "status": "completed"}),
            )
        ),
        Turn((bash(SPOIL.replace("COUNT", str(count))),)),
        Turn((Use("TaskList", {}),)),
        Turn((write("m"),), gate=gate),
        Turn((Say("m is written."),)),
    )


def results(body) -> list[str]:
    """Return what the tools of a conversation answered, in order; an error begins with ``!``."""
    blocks = [
        block for message in body["messages"] if isinstance(message["content"], list) for block in message["content"]
    ]
    return [
        ("!" if block.get("is_error") else "") + json.dumps(block["content"], ensure_ascii=False)
        for block in blocks
        if block["type"] == "tool_result"
    ]


def test_what_goes_wrong_is_judged_and_its_cost_counted(harbour, source, tmp_path):
    """All traps, two agents at the same lines, and one that spoils the list of all tasks, in one voyage.

    The API key is in a file, not in an environment.
    """
    api = harbour.anthropic
    tasks = [
        {"subject": "Change line 3 as A", "metadata": {"pin": "ship-0"}},
        {"subject": "Change line 3 as B", "metadata": {"pin": "ship-1"}},
        *({"subject": subject, "metadata": {"stall": 20} if subject == "Hangs" else {}} for subject in TRAPS),
        {"subject": MEDDLER},
    ]
    meddler, victim = (
        next(str(n) for n, one in enumerate(tasks, 1) if one["subject"] == name) for name in (MEDDLER, VICTIM)
    )
    tasks[int(victim) - 1]["blockedBy"] = [meddler]
    untouched: list[dict] = []

    def ledger_is_seen() -> bool:
        if not untouched:
            untouched.extend(harbour.json("tasks", landing[0], "--json")["tasks"])
        return True

    landing: list[str] = []
    landed: list[str] = []
    seen: list[object] = []

    def a_is_there() -> bool:
        if not seen and landing:  # B's CLI waits for this answer
            pane = harbour.inside(f"{landing[0]}-ship-1", "tmux -L ocaptain capture-pane -p -t agent")
            seen.extend([in_ships(harbour, KEY), in_ships(harbour, "stream-json"), pane])
        return "1" in landed

    survivors: list[list[str]] = []

    def look() -> bool:  # when the next attempt asks for the first time
        lines = map(arguments, Path("/proc").glob("[0-9]*/cmdline"))
        survivors.append([line for line in lines if line.startswith(STAYS)])
        return True

    api.keys = {KEY}
    api.script = {
        "Change line 3 as A": side("A", lambda: bool(api.prompts("Change line 3 as B"))),
        "Change line 3 as B": side("B", a_is_there),
        **{subject: plays for subject, (plays, _, _) in TRAPS.items()},
        MEDDLER: (meddling(victim, meddler, len(tasks), lambda: bool(landing) and ledger_is_seen()),),
    }
    killed, (again, *rest) = api.script["Is killed in a tool"]
    api.script["Is killed in a tool"] = (killed, (replace(again, gate=look), *rest))
    harbour.env["ANTHROPIC_API_KEY"] = KEY
    plan = write_plan(tmp_path / "plan", tasks)
    sailed = harbour.traced("sail", plan, "-n", "3", "--repo", source, "--task-list", "on", "--json")
    del harbour.env["ANTHROPIC_API_KEY"]
    assert sailed.code == 0, sailed.err
    voyage = sailed.json["voyage"]
    landing.append(voyage)

    def over() -> bool:
        time.sleep(0.5)  # looking is not free
        landed[:] = harbour.landed(voyage)
        return VoyageDirectory(harbour.voyage(voyage)).voyage().state == "failed"

    wait_for(over, 1200)
    ended = {task["subject"]: task for task in harbour.json("tasks", voyage, "--json")["tasks"]}
    for subject, (_, state, attempts) in TRAPS.items():
        task = ended[subject]
        assert (task["status"], task["attempt"]) == (state, attempts), (subject, task)
        assert task["cost_usd"] == pytest.approx(api.dollars(subject), abs=0.005), subject
    # The plan is the captain's: refused with the reason, right again at the next look, and the ledger as it was.
    said = results(next(one for one in reversed(api.seen) if one.answered.startswith(f"{MEDDLER}:")).body)
    assert len(said) == 7, said
    _, others, new, own, spoiled, listed, _ = said
    assert (others[0], f"Task {victim} is not yours" in others) == ("!", True), others
    assert (new[0], "no agent adds to" in new) == ("!", True), new
    assert f"Updated task #{meddler}" in own
    assert (
        "\\n99.json\\n" not in spoiled
    )  # nor does it stand last: `ls` may have missed one that was there a moment ago
    assert all(f"#{number} " in listed for number in range(1, len(tasks) + 1)), listed
    assert f"#{victim} [pending]" in listed
    assert "_ocaptain" not in listed
    told = {task["id"]: task["status"] for task in untouched}
    assert (len(told), told[victim], told[meddler]) == (len(tasks), "pending", "in_progress")
    assert (ended[MEDDLER]["status"], ended[MEDDLER]["attempt"]) == ("completed", 1)
    # B was told of the conflict in the session that it had, and brought both.
    first, second = api.prompts("Change line 3 as B")
    assert first[0] == second[0]
    assert "line 3 by A and B" in harbour.git(voyage, "show", f"{voyage}:log.txt")
    assert ended["Change line 3 as B"]["cost_usd"] == pytest.approx(api.dollars("Change line 3 as B"), abs=1e-6)
    with_the_key, working, pane = seen
    assert working >= {"claude"}
    assert with_the_key == set(), "a process of a ship has the key in its environment or arguments"
    assert "→ Edit: log.txt" in pane
    assert "$0.0" in pane
    assert survivors == [[]], "a child of a killed agent outlived its attempt"
    log = harbour.run("logs", voyage, "-g", "retry|NO CHANGE|killed")
    assert "429" in log.out
    assert "529" in log.out
    assert_secret(harbour, voyage, KEY, {"ship-0", "ship-1", "ship-2"}, "key")


def test_a_refused_credential_stops_the_fleet_and_a_good_one_goes_on(harbour, source, tmp_path):
    """By a key helper, on the one ship whose tasks need it."""
    api, helper = harbour.anthropic, tmp_path / "helper"
    helper.write_text(f"#!/bin/sh\n# of a test\necho {HELPED}\n")
    tasks = [
        {"subject": "By a command", "metadata": {"run": "env > plain.txt", "pin": "ship-0"}},
        {"subject": "By the agent first", "metadata": {"pin": "ship-1", "model": "claude-sonnet-4-5"}},
        {"subject": "By the agent then", "metadata": {"pin": "ship-1"}},
    ]
    api.keys, api.script = {"another-key"}, {"By the agent first": (simple("x"),), "By the agent then": (simple("y"),)}
    harbour.env["OCAPTAIN_CLAUDE_KEY_HELPER"] = str(helper)
    plan = write_plan(tmp_path / "plan", tasks)
    refused = harbour.traced("sail", plan, "-n", "2", "--repo", source, "--wait", "--json")
    assert refused.code == 1
    voyage = refused.json["voyage"]
    assert refused.err.count("credential was refused") == 1
    assert refused.err.count(f"--resume {voyage}") == 1
    assert "2" not in harbour.landed(voyage)
    before = {task["id"]: task for task in harbour.json("tasks", voyage, "--json")["tasks"]}
    assert (before["2"]["status"], before["3"]["status"], before["3"]["attempt"]) == ("pending", "pending", 0)
    api.keys = {HELPED}
    resumed = harbour.traced("sail", "--resume", voyage, "--wait", "--json")
    assert resumed.code == 0, resumed.err
    assert sorted(harbour.landed(voyage)) == ["1", "2", "3"]
    assert costs(harbour, voyage)["By the agent first"] == pytest.approx(api.dollars("By the agent first"), abs=1e-6)
    assert {one.model for one in api.billed("By the agent first")} == {"claude-sonnet-4-5"}
    assert_secret(harbour, voyage, HELPED, {"ship-1"}, "key-helper")
