"""A person sails fifty tasks, at a terminal: what they type, and what they must be able to read.

One voyage for all of it. Its subjects, its logs, and its branch are of somebody who means no good.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from ocaptain.ledger import Ledger
from tests.helpers import wait_for
from tests.plans import BEHIND, BY_CHECK, BY_EXIT, BY_TIME, FAILURES, LANDED_FIRST, LONG, write_fifty
from tests.terminal import Terminal
from tests.texts import HOSTILE_BRANCH, HOSTILE_LOG, OWNED, REORDER

pytestmark = pytest.mark.root
SMALL, LARGE = (80, 24), (200, 50)


def of_fifty(count):
    """Return a pattern of a count of the tasks: ``43/50``, ``43 of 50``."""
    return rf"\b{count} ?(?:/|of) ?50\b"


def folded(pattern):
    """Return the pattern of words that may stand on several lines."""
    return pattern.replace(" ", r"\s+")


class Person:
    """Somebody at a terminal who looks at every screen twice: whether it tells, and whether it holds together."""

    def __init__(self, terminal):
        self.terminal = terminal

    def keeps_shape(self, *, in_full=False):
        """Nothing is wider than the terminal (unless all is shown in full); nothing of a stranger's has reached it."""
        wait_for(lambda: in_full or self.terminal.wrapped() == [])
        sent = self.terminal.sent()
        assert [one for one in (*OWNED, *REORDER) if one in sent] == []

    def sees(self, pattern):
        found = self.terminal.until(pattern)
        self.keeps_shape()
        return found

    def reads(self, line, *parts, code=0, sizes=(SMALL, LARGE), in_full=False):
        """Run a command line in each size: all parts are there to read."""
        for size in sizes:
            self.terminal.resize(*size)
            assert self.terminal.run(line) == code, self.terminal.screen()
            said = self.terminal.said()
            for part in parts:
                assert re.search(part, said, re.IGNORECASE), (line, part, said)
            assert "Traceback" not in said
            self.keeps_shape(in_full=in_full)


@pytest.fixture
def person(fleet):
    with Terminal(fleet.env, fleet.home, *SMALL) as terminal:
        yield Person(terminal)


@pytest.fixture
def source(tmp_path):
    """A repository with a branch of an odd name."""
    path = tmp_path / "source 修复"
    path.mkdir()
    (path / "README").write_text("hello\n")
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    for argv in (["init", "-q", "-b", HOSTILE_BRANCH], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *argv], cwd=path, check=True)
    return path


def state_of(sailor, voyage):
    """Return the state and what is at work, without a command line's half second."""
    with Ledger(sailor.voyage(voyage) / "ledger.db") as ledger:
        owners = {row["id"]: row["ship"] for row in ledger.rows("tasks", "position") if row["status"] == "in_progress"}
        return ledger.voyage().state, owners


def test_fifty_tasks_at_a_terminal(sailor, person, source, tmp_path):
    terminal = person.terminal
    # A ship sees nothing of this machine, so the odd lines come with the repository.
    (source / "odd.log").write_bytes(HOSTILE_LOG)
    subprocess.run(["git", "add", "-A"], cwd=source, check=True)
    subprocess.run(["git", "-c", "user.name=u", "-c", "user.email=u@x", "commit", "-qm", "x"], cwd=source, check=True)
    (sailor.home / "fifty").mkdir()
    write_fifty(sailor.home / "fifty", "odd.log")
    (sailor.home / "source").symlink_to(source)

    # It is sailed and watched; Ctrl-C ends the watching alone.
    terminal.start("ocaptain sail fifty --repo source -n 5 --wait")
    person.sees(r"voyage-\w+")
    person.sees(rf"#?{BY_EXIT}\b.*\n?.*boom")
    for task in FAILURES:
        person.sees(rf"✗.*\b{task}\b")
    voyage = person.sees(r"voyage-\w+")[0]
    person.sees(of_fifty(LANDED_FIRST))
    wait_for(lambda: sorted(state_of(sailor, voyage)[1]) == sorted(LONG))
    terminal.press("C-c")
    assert terminal.ended() == 130
    terminal.until(r"sails on")
    state, owners = state_of(sailor, voyage)
    assert (state, sorted(owners)) == ("running", sorted(LONG))
    ship = owners[LONG[0]]

    # Every screen tells what it is for, in each size.
    failed = [rf"\b{task}\b" for task in FAILURES]
    person.reads(
        "ocaptain status", of_fifty(LANDED_FIRST), r"✗ ?3\b|\b3 failed", rf"{ship}\b.*\b{LONG[0]}\b", "ocaptain"
    )
    person.reads(
        "ocaptain tasks", *failed, *[rf"\b{task}\b" for task in (*LONG, BEHIND)], *map(folded, FAILURES.values())
    )
    person.reads("ocaptain tasks --all", "修复登录页面", "OAuth2")
    person.reads("ocaptain ls", voyage, "fifty", "running", rf"\b{LANDED_FIRST}\b")
    person.reads("ocaptain cost", r"task|agent|ship")
    person.reads(
        f"ocaptain why {BY_EXIT}", folded("boom: no such table: users"), r"exit(?: code)? 3", rf"retry.* {BY_EXIT}\b"
    )
    person.reads(f"ocaptain why {BEHIND}", rf"{BY_EXIT}\b")
    person.reads("ocaptain events", r"\d\d:\d\d:\d\d", "boom", "longer than|time limit", "landed", in_full=True)
    person.reads(f"ocaptain logs {LONG[0]}", rf"I am task {LONG[0]}", "broken", in_full=True)
    person.reads("ocaptain shell", r"which ship", *owners.values(), code=2)

    # The live screen follows the terminal's size, and leaves it as it was.
    terminal.resize(*SMALL)
    terminal.start("ocaptain watch")
    person.sees(rf"{ship}\b.*\b{LONG[0]}\b")
    terminal.has_borders()
    terminal.resize(*LARGE)
    person.sees(rf"{ship}\b.*\b{LONG[0]}\b")
    terminal.has_borders()
    terminal.press("?")
    person.sees("Esc closes")
    terminal.press("Escape")
    wait_for(lambda: "Esc closes" not in terminal.screen())  # a key that comes with an Escape is another key
    person.sees(rf"{ship}\b.*\b{LONG[0]}\b")
    terminal.press("q")
    assert terminal.ended() == 0
    person.keeps_shape()

    # The agent's own terminal, and back.
    terminal.start(f"ocaptain shell {ship}")
    person.sees(rf"I am task {LONG[0]}")
    terminal.press("C-b", "d")
    assert terminal.ended() == 0
    person.sees("detached")
    person.keeps_shape()

    # What failed is tried again; what waited for it lands as well.
    terminal.resize(*SMALL)
    mended = "mkdir -p app && echo 17 > app/17.txt"
    assert terminal.run(f"ocaptain retry {BY_EXIT} --agent-cmd '{mended}'") == 0
    assert re.search(rf"retried.*\b{BY_EXIT}\b", terminal.said())
    wait_for(lambda: {BY_EXIT, BEHIND} <= set(sailor.landed(voyage)))

    # It pauses: what is at work lands first; then it goes on, and its end says all.
    assert terminal.run("ocaptain pause") == 0
    person.sees(r"(?i)paus")
    sailor.go(*[f"{voyage}-{one}" for one in owners.values()])
    wait_for(lambda: state_of(sailor, voyage)[0] == "paused")
    person.reads("ocaptain status", "paused", of_fifty(LANDED_FIRST + 4), f"--resume {voyage}", sizes=[SMALL])
    terminal.resize(*LARGE)
    assert terminal.run(f"ocaptain sail --resume {voyage} --wait") == 1
    said = terminal.said()
    for part in (of_fifty(48), rf"retry.*{BY_CHECK} {BY_TIME}", *[rf"✗.*\b{one}\b" for one in (BY_CHECK, BY_TIME)]):
        assert re.search(part, said), (part, said)
    for task in (BY_CHECK, BY_TIME):
        assert re.search(folded(FAILURES[task]), said), said
    person.keeps_shape()

    # It is sunk: it asks, and says what is kept.
    terminal.resize(*SMALL)
    terminal.start("ocaptain sink")
    person.sees(r"\[y/N\]")
    terminal.type("y\n")
    assert terminal.ended() == 0
    person.sees(r"sunk|destroyed")
    person.reads("ocaptain ls", voyage, "sunk", sizes=[SMALL])
    assert sailor.sprites() == 0
