"""The real Claude Code with its own screen (``--interactive``), in a repository that is after its credential.

One voyage: nobody is asked anything at its start; a person looks, types and leaves; a question and a plan that nobody
answers end as a stall; a killed one is judged; and the bill is the API's.
"""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from ocaptain.captain.decide.give_back import GIVEN_BACK
from ocaptain.voyage.home import VoyageDirectory
from tests.claude.api import Say, Turn, Use
from tests.claude.hostile import first_files, settings
from tests.claude.test_sail_claude import GREETINGS, KILL, OAUTH, bash, costs, multilingual, simple, translations, write
from tests.claude.test_settings import Waters, repository
from tests.helpers import wait_for, write_plan
from tests.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
#: What any of the CLI's dialogs has on its screen.
DIALOG = re.compile(
    r"Do you trust|trust the files|MCP server|API key|Choose the text style|Login method|Yes, I accept|hooks? found"
    r"|Enter to confirm|settings? (?:error|issue)",
    re.IGNORECASE,
)
CAPTURE = "tmux -L ocaptain capture-pane -p -t agent"
QUESTION = {
    "questions": [
        {
            "question": "Which colour?",
            "header": "Colour",
            "multiSelect": False,
            "options": [{"label": "Red", "description": "r"}, {"label": "Blue", "description": "b"}],
        }
    ]
}
HEARD = bash("until [ -e /tmp/heard ]; do sleep 0.2; done; echo h > heard.txt")


@pytest.fixture(scope="module")
def waters(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    made = Waters(tmp_path_factory.mktemp("waters") / "home")
    yield made
    made.end()


class Person:
    """A person whom the ships' agents are shown to, and who types."""

    def __init__(self, waters, tmp_path):
        self.waters, self.place = waters, tmp_path
        self.voyage = ""
        self.screens: dict[str, str] = {}

    def capture(self, ship: str, sign: str) -> str:
        """Return the screen of a ship's agent, once a sign is on it."""
        return wait_for(lambda: sign in (shown := self.waters.inside(f"{self.voyage}-{ship}", CAPTURE)) and shown, 60)

    def look(self) -> bool:
        """Look at the screen of ship-0 in two sizes, while its agent waits for the API."""
        if self.voyage and len(self.screens) < 2:
            self.screens["80x24"] = self.capture("ship-0", "bypass permissions")
            self.waters.inside(f"{self.voyage}-ship-0", "tmux -L ocaptain resize-window -t agent -x 200 -y 50")
            self.screens["200x50"] = wait_for(self._wide, 30)
            # From now on it is as large as the terminal of whoever looks on.
            self.waters.inside(f"{self.voyage}-ship-0", "tmux -L ocaptain set -w -u -t agent window-size")
        return len(self.screens) == 2

    def _wide(self) -> str:
        shown = self.capture("ship-0", "bypass permissions")
        return shown if any(len(line) > 100 for line in shown.splitlines()) else ""

    def at(self, ship: str) -> Terminal:
        """Sit down at a ship's agent."""
        terminal = Terminal(self.waters.env, self.place, 100, 30)
        terminal.start(f"ocaptain shell {self.voyage} {ship} --write")
        terminal.until("bypass permissions", 60)
        return terminal

    def is_under_way(self, subject: str) -> bool:
        """Whether a task's tool runs, which waits for this person."""
        return any(one.answered.startswith(subject) for one in self.waters.anthropic.seen)


def script(person):
    """Return what the tasks' agents do."""
    asks, plans = Turn((Use("AskUserQuestion", QUESTION),)), Turn((Use("EnterPlanMode", {}),))
    approval = Turn((Use("ExitPlanMode", {"plan": "I would write it."}),))
    return {
        "Show the screen": ((Turn((write("a"),), gate=person.look), Turn((Say("a is written."),), cached=5000)),),
        "Hear a person": ((Turn((HEARD,)), Turn((Say("Nobody spoke."),))), (Turn((Say("I heard it."),), output=77),)),
        "Is given back": (
            (Turn((bash("tail -f /dev/null"),), output=55),),
            (Turn((bash("tail -f /dev/full"),), output=66),),
            simple("b"),
        ),
        "Asks a person": ((asks, Turn((Say("NO CHANGE NEEDED: it was asked."),))), (plans, approval), simple("c")),
        "Is killed in a tool": ((Turn((KILL,), output=777),), simple("d")),
    }


def test_a_voyage_whose_agents_have_their_own_screens(waters, tmp_path):
    api, thief, person = waters.anthropic, waters.thief, Person(waters, tmp_path)
    found = settings(thief.url)
    hostile = {**found["endpoints"], **found["no hooks of ours"], "statusLine": {"type": "command", "command": "id"}}
    files = {**first_files(thief.url), ".claude/settings.json": json.dumps(hostile)}
    source = repository(tmp_path / "source", files)
    api.script, api.keys = script(person), {OAUTH}
    pins = dict(zip(api.script, ("ship-0", "ship-0", "ship-0", "ship-1", "ship-1"), strict=True))
    tasks = [
        {"subject": name, "metadata": {"pin": ship, "verify": "true", **({"stall": 15} if "Asks" in name else {})}}
        for name, ship in pins.items()
    ]
    waters.env["CLAUDE_CODE_OAUTH_TOKEN"] = OAUTH
    flags = ("--interactive", "-n", "2", "--repo", source, "--verify-on", "any", "--json")
    sailed = waters.run("sail", write_plan(tmp_path / "plan", tasks), *flags)
    del waters.env["CLAUDE_CODE_OAUTH_TOKEN"]
    assert sailed.code == 0, sailed.err
    person.voyage = voyage = sailed.json["voyage"]
    # Somebody types a line while the agent is at work: the model is told.
    wait_for(lambda: person.is_under_way("Hear a person"), 120)
    with person.at("ship-0") as terminal:
        terminal.type("The word is lighthouse.")
        terminal.press("Enter")
        terminal.until("lighthouse")
        waters.inside(f"{voyage}-ship-0", "touch /tmp/heard")
        wait_for(lambda: any("lighthouse" in json.dumps(one.body) for one in api.seen), 60)
    # Somebody ends the agent: its task goes back, and is tried again.
    wait_for(lambda: person.is_under_way("Is given back"), 120)
    with person.at("ship-0") as terminal:
        terminal.until("tail -f", 60)
        terminal.press("C-c")
        terminal.until("Interrupted|interrupted", 60)
        terminal.type("/exit")
        terminal.press("Enter")
        wait_for(lambda: waters.run("events", voyage).out.count(GIVEN_BACK) == 1, 60)
    # And once more: the first key interrupts the tool, and the others end the agent.
    with person.at("ship-0") as terminal:
        terminal.until("tail -f /dev/full", 120)
        terminal.press("C-c", "C-c", "C-c")
        wait_for(lambda: waters.run("events", voyage).out.count(GIVEN_BACK) == 2, 60)

    def over() -> bool:
        time.sleep(0.5)  # looking is not free
        return VoyageDirectory(waters.voyage(voyage)).voyage().state in {"complete", "failed"}

    wait_for(over, 240)
    ended = {task["subject"]: task for task in waters.json("tasks", voyage, "--json")["tasks"]}
    attempts = {name: (task["status"], task["attempt"]) for name, task in ended.items()}
    expected = {"Is given back": 3, "Asks a person": 3, "Is killed in a tool": 2}
    assert attempts == {name: ("completed", expected.get(name, 1)) for name in ended}
    # No dialog, in either size.
    for size, shown in person.screens.items():
        assert not DIALOG.search(shown), (size, shown)
        assert "bypass permissions on" in shown, (size, shown)
    events = waters.run("events", voyage).out
    assert "waits for a person (AskUserQuestion)" in events
    assert "it waited for a person" in events
    said = costs(waters, voyage)
    for name in api.script:
        assert said[name] == pytest.approx(api.dollars(name), abs=0.005), name
    assert "a person typed: The word is lighthouse." in waters.run("logs", voyage).out
    # The repository changed nothing.
    assert thief.got == []
    evil = [one for one in api.seen if "x-evil" in one.headers or one.headers.get("authorization") != f"Bearer {OAUTH}"]
    assert evil == []
    assert api.strange == []


def test_a_plan_lands_as_it_does_headless(waters, tmp_path):
    api = waters.anthropic
    api.script, api.keys = translations(), {OAUTH}
    source = repository(tmp_path / "source", {"README": "Hello World!\n"})
    waters.env["CLAUDE_CODE_OAUTH_TOKEN"] = OAUTH
    flags = ("--interactive", "-n", "3", "--repo", source, "--wait", "--json")
    sailed = waters.run("sail", multilingual(tmp_path / "plan"), *flags)
    del waters.env["CLAUDE_CODE_OAUTH_TOKEN"]
    assert sailed.code == 0, sailed.err
    voyage = sailed.json["voyage"]
    assert (sailed.json["tasks"]["completed"], sailed.json["verify"]["ok"]) == (6, True)
    ended = waters.json("tasks", voyage, "--json")["tasks"]
    assert [task["attempt"] for task in ended] == [1] * 6
    landed = waters.git(voyage, "ls-tree", "--name-only", voyage).split()
    assert {f"README.{language}.md" for language in GREETINGS} < set(landed)
    said = costs(waters, voyage)
    for part in api.script:
        (subject,) = (one for one in said if part in one)
        assert said[subject] == pytest.approx(api.dollars(part), abs=0.005), subject
    assert api.strange == []
