"""The documents are true: their commands run, their links lead somewhere, their options are the program's."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from typer.main import get_command

from ocaptain.cli.app import app
from ocaptain.cli.former import OPTIONS as FORMER
from tests.documents import (
    anchors_of,
    commands,
    commands_of,
    documents,
    links_of,
    row_of,
    shape_of,
    shown,
    spans_of,
    table,
)
from tests.helpers import CLEARED, REPO

ROWS = table()
ALONE = [row for row in ROWS if row.how == "alone"]
#: Options in the documents that are another program's.
OTHERS = {
    "ansible-playbook": {"--check", "--diff"},
    "ansible-inventory": {"--graph"},
    "my-agent": {"--stdin"},
    "git": {"--tags", "--renormalize", "--prune"},
}


def name_of(path):
    return str(path.relative_to(REPO))


# -- how a document is read -------------------------------------------------------------------------

DOCUMENT = """# A page

Words, `ocaptain ls`, and

    $ ocaptain why 2  # a comment
    task 2

      failed
    $ ocaptain ls

    ocaptain sail \\\\
      my-plan
    ocaptain drydock start [--idle 30]
    spec.md   what is built

1. A list

       make demo

   goes on with ocaptain ls

```sh
$ git log
one
```
[there](#a-page)
"""


def test_commands_of_a_document():
    found = [(one.line, one.output, one.where) for one in commands_of(DOCUMENT.replace("\\\\", "\\"), "a.md")]
    assert found == [
        ("ocaptain why 2", "task 2\n\n  failed", "a.md:5"),
        (
            "ocaptain ls",
            "\nocaptain sail \\\n  my-plan".strip("\n")
            + "\nocaptain drydock start [--idle 30]\nspec.md   what is built",
            "a.md:9",
        ),
        ("make demo", "", "a.md:18"),
        ("git log", "one", "a.md:23"),
    ]
    typed = (
        "x\n\n    ocaptain sail \\\n      my-plan  # a comment\n    ocaptain drydock start [--idle 30]\n    spec.md\n"
    )
    assert [one.line for one in commands_of(typed, "a.md")] == ["ocaptain sail my-plan"]
    assert links_of(DOCUMENT) == ["#a-page"]
    assert anchors_of("# What `complete` proves, and why\n") == {"what-complete-proves-and-why"}


def test_shapes_leave_out_what_differs():
    one = "voyage-4f59aa00bb11  14:02:09 took 4:12, 10.0 s at 1a2b3c4 in ~/voyages/x"
    other = "voyage-000000000000  00:00:00 took 1:02:03, 3 s at abcdef0 in /tmp/a/voyages/x"
    assert shape_of(one) == shape_of(other)
    assert shape_of("task 2 failed") != shape_of("task 2 landed")


# -- the table --------------------------------------------------------------------------------------


def test_every_command_is_in_the_table_and_nothing_else():
    found = commands()
    assert len(found) > 60
    assert [f"{one.where}: {one.line}" for one in found if row_of(one, ROWS) is None] == []
    used = [row_of(one, ROWS) for one in found]
    assert [row.line for row in ROWS if row not in used] == []
    keys = [(row.line, row.document) for row in ROWS]
    assert len(set(keys)) == len(keys)


def test_rows_say_what_they_must():
    known = {
        "alone": {"needs", "code"},
        "voyage": {"instead", "code", "then", "each"},
        "elsewhere": {"test", "but"},
        "never": {"reason"},
    }
    for row in ROWS:
        assert set(row.more) <= known[row.how], row.line
        if row.how == "elsewhere":
            module, _, name = row.more["test"].partition("::")
            tree = ast.parse((REPO / module).read_text("utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, row.line
        if row.how == "never":
            assert len(row.more["reason"]) > 20, row.line


@pytest.fixture
def place(tmp_path):
    """A directory with the checkout's files, in which more may be made."""
    where = tmp_path / "place"
    where.mkdir()
    for one in REPO.iterdir():
        if not one.name.startswith("."):
            (where / one.name).symlink_to(one)
    return where


@pytest.mark.parametrize("row", ALONE, ids=[row.line for row in ALONE])
def test_it_runs_and_prints_what_is_shown(place, row):
    env = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "COLUMNS": "120"}
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "stdin": subprocess.DEVNULL}

    def run(line):
        done = subprocess.run(["bash", "-c", line], cwd=place, env=env, check=False, timeout=240, **said)
        assert "Traceback" not in done.stdout
        return done

    if "credential" in row.more.get("needs", ()):
        env["ANTHROPIC_API_KEY"] = "of-nothing"  # nobody is asked whether it is good
    if "my-plan" in row.more.get("needs", ()):
        assert run("ocaptain plan new my-plan").returncode == 0
    done = run(row.line)
    assert done.returncode == row.more.get("code", 0), done.stdout
    for one in shown(row):
        assert shape_of(done.stdout) == shape_of(one.output), one.where


# -- links and options ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_links_lead_somewhere(path):
    wrong = []
    for link in links_of(path.read_text("utf-8")):
        target, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in anchors_of(file.read_text("utf-8"))):
            wrong.append(link)
    assert wrong == []


def options_by_command():
    """Return the options of each command by its path, ``plan check``."""
    found = {}

    def visit(command, path):
        found[path] = {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, f"{path} {name}".strip())

    visit(get_command(app), "")
    return found


def called(words, known):
    """Return the command that words begin with, and its options among the others."""
    path = ""
    while words and f"{path} {words[0]}".strip() in known and words[0]:
        path = f"{path} {words.pop(0)}".strip()
    words = words[: words.index("--")] if "--" in words else words
    return path, [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]


def test_commands_and_options_are_the_programs():
    known = options_by_command()
    every = set().union(*known.values()) | {flag for flags in OTHERS.values() for flag in flags}
    former = {flag for _, flag in FORMER}
    wrong = []
    for path in documents():
        text = path.read_text("utf-8")
        typed = [one.line for one in commands_of(text, name_of(path))]
        for said in [*typed, *spans_of(text)]:
            words = [word for word in re.split(r"[\s|\[\]\\]+", said) if word]
            if words[:1] == ["ocaptain"] and said in typed:
                at, given = called(shlex.split(said, comments=True)[1:], known)
            elif words and (words[0] in known or words[0] == "ocaptain"):
                at, given = called(words[words[0] == "ocaptain" :], known)
            else:
                at, given = None, [word for word in words if word.startswith("--") and said.startswith("--")]
            if (
                at == ""
                and len(words) > 1
                and not words[1].startswith("-")
                and words[0] == "ocaptain"
                and words[1].isalpha()
            ):
                wrong.append(f"{name_of(path)}: {said}")
            takes = every if at is None else known[at]
            takes |= former if path.name == "coming-from-0.0.md" else set()
            wrong += [f"{name_of(path)}: {said}: {flag}" for flag in given if flag not in takes]
    assert wrong == []
