"""Help, and the words that others have for what we call otherwise."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from typer.main import get_command

from ocaptain.cli.about import HELP_FLAGS, asked_help
from ocaptain.cli.app import app
from ocaptain.cli.examples import EXAMPLES, PANELS
from ocaptain.cli.former import COMMANDS, OPTIONS, instead_of
from ocaptain.cli.help import Page, Section, page_of, render
from ocaptain.cli.variables import variables_page
from ocaptain.config import Settings
from ocaptain.errors import UsageError
from tests.helpers import CLEARED, OCAPTAIN, REPO

ROOT = get_command(app)


def contexts():
    """Return each command's context by its path, hidden ones too."""
    found = {}

    def visit(command, parent, name):
        more = {} if parent else {"help_option_names": list(HELP_FLAGS)}
        at = command.context_class(command, parent=parent, info_name=name, resilient_parsing=True, **more)
        found[at.command_path.partition(" ")[2]] = at
        for inner_name, inner in getattr(command, "commands", {}).items():
            visit(inner, at, inner_name)

    visit(ROOT, None, "ocaptain")
    return found


ALL = contexts()
SHOWN = {path: at for path, at in ALL.items() if not at.command.hidden}


def run(*arguments, **env):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    return subprocess.run(
        [OCAPTAIN, *arguments], capture_output=True, text=True, check=False, env={**kept, "COLUMNS": "80", **env}
    )


def test_each_command_is_in_a_panel_and_has_examples():
    """A new one needs a line in each table of ``cli/examples.py``."""
    in_panels = [name for names in PANELS.values() for name in names]
    assert len(in_panels) == len(set(in_panels))
    assert {path for path in SHOWN if path and " " not in path} - set(in_panels) == set()
    assert set(SHOWN) - {""} - set(EXAMPLES) == set()
    assert set(EXAMPLES) - {"ocaptain"} - set(SHOWN) == set()


LINES = [line for rows in EXAMPLES.values() for line, _ in rows]


@pytest.mark.parametrize("line", LINES)
def test_each_example_is_a_line_that_we_take(line):
    words = shlex.split(next(part for part in line.split(" | ") if "ocaptain" in part))
    if words[0] == "ssh":
        words = shlex.split(words[2].partition("=")[2].replace("%h", "ship-0").replace("%p", "22"))
    words = words[1:] if "=" in words[0] else words
    assert words.pop(0) == "ocaptain"
    command = ROOT
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    # Raises an error if it is not. Below the program: a command keeps the names of its --help that it has first.
    command.make_context("x", words, parent=ALL[""])


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("path", SHOWN)
def test_a_help_fits(path, width):
    page = page_of(SHOWN[path].command, SHOWN[path])
    lines = render(page, width)
    assert [line for line in lines if len(line) > width] == []
    assert lines[0].startswith(f"Usage: ocaptain {path}".rstrip())
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_the_options_of_sail_are_grouped():
    titles = [one.title for one in page_of(SHOWN["sail"].command, SHOWN["sail"]).sections]
    assert titles[0] == "Arguments"
    assert titles[-2:] == ["Options", "Examples"]
    assert {"Voyage", "Fleet", "Repository", "Agents", "Network", "Ending"} <= set(titles)
    (flat,) = (one for one in page_of(SHOWN["sail"].command, SHOWN["sail"]).sections if one.title == "Options")
    assert [term.strip() for term, _ in flat.rows] == ["--json", "-h, --help"]


def test_colours_are_bold_and_cyan_alone():
    page = Page("x", "ocaptain x", "Do it.", (Section("Options", (("--y N", "how"),), "parameters"),))
    assert render(page, 80, colour=True)[0].startswith("\x1b[1mUsage:\x1b[0m ocaptain x")
    assert [re.sub(r"\x1b\[(0|1|36)m", "", line) for line in render(page, 80, colour=True)] == render(page, 80)


@pytest.mark.parametrize("path", ["", "sail", "plan check", "drydock base"])
def test_help_is_what_dashes_dashes_help_shows(path):
    by_word, by_flag, by_short = run("help", *path.split()), run(*path.split(), "--help"), run(*path.split(), "-h")
    assert by_word.stdout == by_flag.stdout == by_short.stdout
    assert (by_word.returncode, by_word.stderr) == (0, "")


def test_the_short_way_to_help_is_for_help_alone():
    assert asked_help(ROOT, ["sail", "--help"]).startswith("Usage: ocaptain sail ")
    for words in ([], ["sail"], ["sail", "my-plan", "--help"], ["logs", "-g", "--help"], ["no", "-h"], ["--", "-h"]):
        assert asked_help(ROOT, words) is None
    assert run("status", "voyage-1", "--help").stdout.startswith("Usage: ocaptain status")


def test_help_loads_neither_checks_nor_what_draws():
    code = (
        "import sys; from ocaptain.cli import main; sys.argv[:] = ['ocaptain', *sys.argv[1:]]\ntry: main()\n"
        "except SystemExit: pass\nprint(sorted({'pydantic', 'rich', 'typer.rich_utils'} & set(sys.modules)))"
    )
    for words in (["--help"], ["sail", "--help"], ["plan", "-h"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_every_variable_has_a_line():
    rows = dict(row for section in variables_page().sections for row in section.rows)
    for field in Settings.model_fields.values():
        alias = field.validation_alias
        name = alias if isinstance(alias, str) else alias.choices[0]
        assert len(rows[name]) > 10, name
    assert {"CLAUDE_CODE_OAUTH_TOKEN", "OCAPTAIN_CLAUDE_KEY_HELPER", "NO_COLOR", "./.env"} <= set(rows)
    assert max(map(len, render(variables_page(), 80))) <= 80
    assert run("help", "environment").stdout.startswith("Usage: NAME=VALUE ocaptain COMMAND")


def test_version_and_list():
    assert run("version").stdout == run("--version").stdout
    assert re.fullmatch(r"ocaptain \d+\.\d+\.\d+\S*\n", run("version").stdout)
    assert (
        run("list", "--json", OCAPTAIN_HOME="/nowhere").stdout == run("ls", "--json", OCAPTAIN_HOME="/nowhere").stdout
    )


def test_what_others_call_otherwise_is_no_command_of_ours_and_names_ones_that_are():
    assert set(COMMANDS) & set(ALL) == set()
    for path, flag in OPTIONS:
        flags = {one for parameter in SHOWN[path].command.params for one in parameter.opts}
        assert flag not in flags
    for said in (*COMMANDS.values(), *OPTIONS.values()):
        named = re.findall(r"`ocaptain ([a-z]+(?: (?:check|new|simulate|start))?)", said)
        assert named
        assert set(named) <= set(ALL)
    assert instead_of("no-such-word") is None


def test_words_of_the_predecessor_are_answered():
    """Whatever ``docs/coming-from-0.0.md`` names either works or is told what does."""
    document = (REPO / "docs/coming-from-0.0.md").read_text("utf-8")
    for word in ("telemetry-start", "telemetry-stop"):
        assert word in document
        assert word in ALL
    assert "--no-telemetry" in {one for parameter in ALL["sail"].command.params for one in parameter.opts}
    assert "voyage-plan" in document
    done = run("voyage-plan", "--json")
    assert (done.returncode, "there is no command 'voyage-plan'; " in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stauts"], "No such command 'stauts', did you mean 'status'? See `ocaptain --help`"),
        (["help", "sial"], "No such command 'sial', did you mean 'sail'? See `ocaptain --help`"),
        (["status", "--jsno"], "No such option: --jsno, did you mean --json? See `ocaptain status --help`"),
        (["plan", "chek"], "No such command 'chek', did you mean 'check'? See `ocaptain plan --help`"),
        (["help", "ls", "x"], "`ocaptain ls` has no commands; see `ocaptain ls --help`"),
        (["sail", "-n", "3", "--ships=5"], "--ships is given 2 times ('3' and '5'); give it once"),
    ],
)
def test_the_nearest_word_is_suggested(words, said):
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{said}\n")


def test_an_option_given_twice_alike_is_given_once():
    ROOT.commands["sail"].make_context("sail", ["-n", "3", "--ships", "3"])
    ROOT.commands["logs"].make_context("logs", ["-s", "ship-0", "-s", "ship-1", "--", "-n", "1", "-n", "2"])
    with pytest.raises(UsageError, match="--by is given 2 times"):
        ROOT.commands["cost"].make_context("cost", ["--by=ship", "--by=task"])
