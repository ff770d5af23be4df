"""What a command loads before it does its work, and that what is loaded late is there when it is asked for."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from typing import Annotated

import pytest
import typer
from typer.core import TyperOption
from typer.main import get_command

from ocaptain.cli.app import app
from ocaptain.cli.startup import build_program
from ocaptain.errors import UsageError
from ocaptain.lazy import lazy_names
from ocaptain.sources import voyages_directory
from tests.scenes import VOYAGE, Scene, make_scene

#: What checks plans and settings, what reads repositories, and what builds ships.
HEAVY = {"pydantic", "pygit2", "jsonschema", "ansible", "ansible_runner", "httpx", "jinja2", "textual", "markdown_it"}
HEAVY |= {"google.protobuf", "opentelemetry"}
#: What a command loads that only reads a voyage's ledger.
LEDGER = {"sqlite3", "ocaptain.ledger"}


def loaded(*words, **variables):
    """Run a command in a Python of its own; return the modules that it has loaded at its end."""
    code = (
        "import json, sys\n"
        "sys.argv = ['ocaptain', *json.loads(sys.argv[1])]\n"
        "from ocaptain.cli import main\n"
        "try: main()\n"
        "finally: print('MODULES' + json.dumps(list(sys.modules)), file=sys.stderr)\n"
    )
    argv = [sys.executable, "-c", code, json.dumps(words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.partition("MODULES")[2])), done


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home")
    make_scene(root, Scene(tasks=20, landed=5))
    return str(root / "voyages")


def test_the_version_loads_next_to_nothing():
    modules, done = loaded("--version")
    assert done.stdout.startswith("ocaptain ")
    assert modules & (HEAVY | LEDGER | {"rich.console", "secrets"}) == set()


@pytest.mark.parametrize("words", [("--help",), ("status", "--help"), ("plan", "--help")])
def test_help_loads_no_ledger_and_nothing_heavy(words):
    modules, done = loaded(*words)
    assert "sage: " in done.stdout
    assert modules & (HEAVY | LEDGER) <= {"markdown_it"}  # rich's own, as typer loads it


@pytest.mark.parametrize("words", [("status",), ("status", VOYAGE), ("status", "--json"), ("ls",), ("tasks",)])
def test_to_look_at_voyages_loads_nothing_heavy(words, home):
    modules, done = loaded(*words, OCAPTAIN_HOME=home)
    assert "fifty" in done.stdout or VOYAGE in done.stdout or "OAuth2" in done.stdout
    assert modules & HEAVY == set()
    assert modules >= LEDGER


def test_to_look_at_voyages_needs_no_other_setting(home):
    _, done = loaded("status", OCAPTAIN_HOME=home, OCAPTAIN_DEFAULT_SHIPS="x", OCAPTAIN_PROVIDER="moon")
    assert VOYAGE in done.stdout


@pytest.mark.parametrize("value", ["~no-such-user/v", "/" + "x" * 1001])
def test_where_voyages_are_is_checked(monkeypatch, value):
    monkeypatch.setenv("OCAPTAIN_HOME", value)
    with pytest.raises(UsageError, match="OCAPTAIN_HOME is"):
        voyages_directory()


def test_where_voyages_are_comes_from_files_too(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OCAPTAIN_HOME", raising=False)
    (tmp_path / ".env").write_text("OCAPTAIN_HOME=here\n")
    assert voyages_directory() == tmp_path / "here"


# -- packages that load late -------------------------------------------------------------------


@pytest.mark.parametrize("package", ["ocaptain.git", "ocaptain.plan", "ocaptain.query"])
def test_a_package_has_all_that_it_offers(package):
    module = importlib.import_module(package)
    code = f"import sys; sys.path[:0] = {sys.path!r}; from {package} import *; print(*sorted(globals()))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(module.__all__) <= set(names)
    kinds = {name: type(getattr(module, name)).__name__ for name in module.__all__}
    assert [name for name, kind in kinds.items() if kind == "module"] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = module.nothing


def test_what_was_found_late_is_kept():
    find = lazy_names("json", {"json.decoder": ("scanstring",)})
    assert find("scanstring") is json.decoder.scanstring
    assert vars(json).pop("scanstring") is json.decoder.scanstring


# -- the program ---------------------------------------------------------------------------------


def below(command, path=()):
    """Yield every command with its path, as :class:`_Commands` builds it."""
    yield path, command
    for name in list(getattr(command, "commands", {})):
        yield from below(command.commands[name], (*path, name))


def facts(command):
    """Return what makes a command what it is."""
    return [
        type(command),
        command.name,
        command.help,
        command.hidden,
        [(one.name, one.opts, one.secondary_opts, one.nargs, one.default, one.required) for one in command.params],
    ]


def test_the_program_is_what_typer_builds():
    ours, whole = dict(below(build_program(app))), dict(below(get_command(app)))
    assert list(ours) == list(whole)
    assert {path: facts(one) for path, one in ours.items()} == {path: facts(one) for path, one in whole.items()}
    again = dict(below(build_program(app)))
    assert {path: facts(one) for path, one in again.items()} == {path: facts(one) for path, one in ours.items()}


def test_a_command_has_its_help_before_it_is_built():
    program = build_program(app)
    light = dict(program.commands.items())
    assert light["status"].help == get_command(app).commands["status"].help
    assert light["status"].params == []
    assert program.commands.get("status").params
    assert program.commands.get("no-such-command") is None


def made():
    """Return a program of which a word of each kind may be asked, and where the values go."""
    small, given = typer.Typer(add_completion=False), {}

    @small.command()
    def one(
        word: str | None = None,
        count: int = 1,
        more: Annotated[list[str] | None, typer.Option()] = None,
        flag: bool = False,
        parsed: Annotated[float, typer.Option(parser=lambda text: float(str(text).removesuffix("s")))] = "2s",
    ) -> None:
        given.update(word=word, count=count, more=more, flag=flag, parsed=parsed)

    @small.command()
    def two() -> None:
        given["two"] = True

    return small, given


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--word", "x"],
        ["--word", ""],
        ["--count", "3"],
        ["--more", "a", "--more", "b"],
        ["--flag", "--word", "--count"],
        ["--parsed", "7s"],
        ["--word", "\udce9"],
    ],
)
def test_words_mean_what_they_mean_to_typer(words):
    ours, got = made()
    typers, expected = made()
    build_program(ours)(["one", *words], standalone_mode=False)
    get_command(typers)(["one", *words], standalone_mode=False)
    assert got == expected
    assert got


def test_a_word_that_is_no_number_is_refused():
    small, _ = made()
    with pytest.raises(Exception, match=r"valid integer|not a valid int"):
        build_program(small)(["one", "--count", "x"], standalone_mode=False)


def test_typer_has_what_the_start_relies_on():
    """Without it all works, but each command loads pydantic."""
    option = next(one for one in get_command(made()[0]).commands["one"].params if one.name == "word")
    assert isinstance(option, TyperOption)
    assert option._runtime_param is None
    assert option.type_descriptor.annotation is str
