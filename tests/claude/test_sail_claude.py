"""The real Claude Code on drydock ships, against a scripted API: each ship has a network with nothing
but its own loopback, and one port of it leads to the API.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.claude.api import Api, Fault, Say, Turn, Use
from tests.claude.cli import layer
from tests.helpers import OCAPTAIN, REPO, SECONDS, Done, Sailor, in_a_ship, wait_for, write_plan

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
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
        self.api = Api()
        self._traces = 0
        self.env |= {"ANTHROPIC_BASE_URL": self.api.url, "OCAPTAIN_PROVIDER": "drydock"}
        options = ("--network", "isolated", "--allow-host-port", str(self.api.port), "--layer", str(layer()))
        self.traced("drydock", "start", *options)

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
        self.run("sink", "--all", "--force", "--abandon")
        self.api.close()
        self.stop_drydock()
        wait_for(lambda: self.leftovers() == [], 20)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    if shutil.which("npm") is None:
        pytest.fail("npm is missing: apt-get install npm")
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


def costs(harbour, voyage: str) -> dict[str, float]:
    """Return what ocaptain says that each task cost, by its subject."""
    return {task["subject"]: task["cost_usd"] for task in harbour.json("tasks", voyage, "--json")}


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


def assert_secret(harbour, voyage: str, secret: str, ships: set[str], file: str) -> None:
    """Nowhere but in the one file of the ships that need it: disks, argv, repository, ledger, logs, prompts."""
    found = subprocess.run(
        ["grep", "-rlF", "--", secret, str(harbour.home)], capture_output=True, text=True, check=False, timeout=60
    )
    sprites = harbour.home / "state/ocaptain/drydock/sprites"
    names = {path.relative_to(sprites).parts[-4:] for path in map(Path, found.stdout.splitlines())}
    assert len(found.stdout.splitlines()) == len(ships), found.stdout
    assert {"/".join(parts) for parts in names} == {f"sprite/.ocaptain/claude/{file}"}, found.stdout
    for path in map(Path, found.stdout.splitlines()):
        assert path.stat().st_mode & 0o777 == (0o700 if file == "key-helper" else 0o600)
    objects = subprocess.run(
        ["git", "-C", harbour.voyage(voyage) / "repo.git", "cat-file", "--batch-all-objects", "--batch", "--unordered"],
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout
    assert secret.encode() not in objects
    assert secret not in harbour.executed(), "it stands in an argv"
    assert "--output-format" in harbour.executed()
    # What the agents' tools printed (`env` among it) is in what the model was sent.
    assert secret not in "".join(json.dumps(one.body) for one in harbour.api.seen)


def test_a_plan_is_landed_and_its_bill_is_known(harbour, source, tmp_path):
    api = harbour.api
    plan = multilingual(tmp_path / "plan")
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
    assert_secret(harbour, voyage, OAUTH, {"ship-0", "ship-1", "ship-2"}, "env.json")
    assert harbour.inside(f"{voyage}-ship-0", "cat /proc/net/dev").count(":") == 1, "a ship has more than its loopback"


def write(name: str, text: str = "done\n") -> Use:
    return Use("Write", {"file_path": f"{WORKSPACE}/{name}", "content": text})


def bash(line: str) -> Use:
    return Use("Bash", {"command": line, "description": "a line"})


def simple(name: str, *faults: Fault, **tokens: int):
    """Return a play that writes a file, its end spoiled by faults."""
    return (Turn((write(name),), output=1234), Turn((Say(f"{name} is written."),), faults, input=4321, **tokens))


#: Subject, plays, and how it must end: state and attempts. Kills, cuts and hangs happen in the middle.
STAYS = "sleep 98765"
KILL = bash(f"setsid {STAYS} & echo half > half.txt; sleep 0.5; kill -9 $CLAUDE_PID; sleep 60")
TRAPS = {
    "Told to wait twice": (simple("a", Fault(429, 2, (("retry-after", "1"),))),),
    "Meets a storm": (simple("b", Fault(529, 7)),),
    "Meets an error inside": (simple("c", Fault(500, 2)),),
    "Is cut for ever": (simple("d", Fault(times=5)), simple("d")),
    "Asks what cannot be": (simple("e", Fault(400, 99)),),
    "Says done and did nothing": ((Turn((Say("All is done."),)),), simple("f")),
    "Prints two megabytes": (
        (Turn((bash("head -c 2000000 /dev/urandom | base64 -w 0; echo 2 > g"),)), Turn((Say("A lot."),), input=30_000)),
    ),
    "Hangs": ((Turn((write("h"),), output=999), Turn((), (Fault(hang=True),))), simple("h")),
    "Is killed in a tool": ((Turn((KILL,), output=777),), simple("i")),
}
