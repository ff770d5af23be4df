"""What documents show of a voyage: one voyage on which all of it is typed, at a terminal, and the demo."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from ocaptain.ledger import Ledger
from tests.documents import blocks, shape_of, shown, table
from tests.helpers import REPO, Sailor, run_task, wait_for, write_plan
from tests.terminal import Terminal

pytestmark = pytest.mark.root
#: So wide that nothing is wrapped or left out, as the documents show it.
WIDTH = 300
ROWS = [row for row in table() if row.how == "voyage"]
#: What is another number or another ship each time, beside what ``shape_of`` leaves out.
FIGURES = re.compile(r"\bship-\d\b|\+\d+ -\d+|\d[\d,.]*")


def write_lights(directory):
    """Write the plan of docs/operating.md: two tasks name programs that no ship has, one is held."""
    tasks = [
        {"subject": "List the lights", **run_task("printf 'Skerryvore\\nEddystone\\n' > list")},
        {"subject": "Count the lights", **run_task("count-lights < list > count", "1")},
        {"subject": "Sort the lights", **run_task("sort-lights < list > sorted", "1")},
        {"subject": "Publish", **run_task("cp sorted published", "3", hold=True)},
    ]
    return write_plan(directory, tasks, verify="test -s count\ntest -s published")


def write_place(sailor):
    """Make all that the commands name, where they are typed."""
    place = sailor.home / "place"
    place.mkdir()
    for one in REPO.iterdir():
        if not one.name.startswith("."):
            (place / one.name).symlink_to(one)
    write_lights(place / "my-plan")
    line = "sort list | tee sorted > ~/voyage/artifacts/lights.txt"
    mended = {"id": "3", "subject": "Sort the lights", "blockedBy": ["1"], "metadata": {"run": line}}
    (place / "3.json").write_text(json.dumps(mended))
    (place / "plan.json").write_text("[]")
    (inventory,) = (
        "\n".join(block)
        for _, block in blocks((REPO / "docs/ansible.md").read_text("utf-8"))
        if block[0] == "# prod.sprites.yml"
    )
    inventory = inventory.partition("\n\nansible-inventory")[0]
    (place / "prod.sprites.yml").write_text(inventory.replace("/var/tmp", str(sailor.home)))
    project = sailor.home / "src/project"
    project.mkdir(parents=True)
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    for argv in (["init", "-q", "-b", "main"], [*identity, "commit", "-qm", "First", "--allow-empty"]):
        subprocess.run(["git", *argv], cwd=project, check=True)
    return place


def state_of(sailor):
    (directory,) = sailor.voyages.glob("voyage-*")
    with Ledger(directory / "ledger.db") as ledger:
        return ledger.voyage().state


def figures(lines):
    """Return lines whose figures count no more, without the spaces that align them."""
    plain = [re.sub(r" +", " ", FIGURES.sub("N", line)).strip() for line in lines]
    return [re.sub(r"N(, N)* (is|are) built", "N built", line) for line in plain]


def counted(lines):
    """Return the shape of what drydock says: its ships may be of any number, and its token anywhere."""
    found = figures(lines)
    found = [re.sub(r"^(token in ).*(/ocaptain/drydock/token)$", r"\1…\2", line) for line in found]
    found = [re.sub(r"^(sprites N) \(.*\)$", r"\1", line) for line in found]
    return list(dict.fromkeys(found))  # the same line once


def test_what_documents_show_of_a_voyage(lone):
    place = write_place(lone)
    with Terminal(lone.env, place, WIDTH, 50) as terminal:
        for row in ROWS:
            line = str(row.more.get("instead", row.line))
            if "VOYAGE" in line:
                line = line.replace("VOYAGE", next(lone.voyages.glob("voyage-*")).name)
            assert terminal.run(line) == row.more.get("code", 0), f"{line}\n{terminal.said()}"
            said = terminal.said()
            assert "Traceback" not in said
            for one in shown(row):
                real, told = shape_of(said), shape_of(one.output)
                if each := row.more.get("each"):
                    assert [text for text in (*real, *told) if not re.fullmatch(each, text)] == [], one.where
                elif row.line.startswith("ocaptain drydock status"):
                    assert counted(real) == counted(told), f"{one.where}: {said}"
                else:
                    assert figures(real) == figures(told), f"{one.where}: {said}"
            if state := row.more.get("then"):
                wait_for(lambda state=state: state_of(lone) == state)
    lone.stop_drydock()


def test_the_demo_prints_what_readme_shows(tmp_path):
    """Which ship does what is another each time; that every kind of line is there is not."""
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    (told,) = (
        "\n".join(block) for _, block in blocks((REPO / "README.md").read_text("utf-8")) if " is prepared: " in block[0]
    )
    sailor = Sailor(tmp_path)
    env = {name: value for name, value in sailor.env.items() if name != "OCAPTAIN_VERIFY_ON"}
    try:
        with Terminal({**env, "VIRTUAL_ENV": ""}, REPO, 80, 24) as terminal:
            assert terminal.run("make demo", 600) == 0, terminal.said()
            real = terminal._tmux("capture-pane", "-p", "-J", "-S", "-").replace(str(tmp_path), "~")
    finally:
        sailor.stop_drydock()
    lines = set(figures(shape_of(real)))
    # How much faster than one ship it was is said only where it was.
    wanted = [line for line in figures(shape_of(told)) if line != "…" and "one ship" not in line]
    assert len(wanted) > 30
    assert [line for line in wanted if line not in lines] == [], real
    assert sailor.leftovers() == []
