"""Completion: the answer to a shell as data, and what bash, zsh and fish make of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess

import pytest
from typer.main import get_command

from ocaptain.cli.app import app
from ocaptain.cli.complete import Answer, answer_for, read_line
from ocaptain.cli.shells import SHELLS, VARIABLE
from ocaptain.config import load_settings
from ocaptain.ledger import Ledger
from ocaptain.voyage import glance
from tests.helpers import CLEARED, OCAPTAIN
from tests.scenes import Scene, make_scene

OLD, NEW = "voyage-0123456789ab", "voyage-4f59aaaaaaaa"
ROOT = get_command(app)
SMALL = Scene(tasks=6, ships=2, landed=2, failed={"2": "exit 3"}, retrying={}, layers=0)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a voyage that sails, one that is sunk, and three that cannot be read."""
    root = tmp_path_factory.mktemp("home")
    make_scene(root, SMALL, OLD)
    newer = make_scene(root, Scene(tasks=2, ships=1, landed=0, failed={}, name="x\x1b[31m\t$(touch /tmp/no)"), NEW)
    with Ledger(newer.path / "ledger.db") as ledger:
        ledger.take_command()
        ledger.set_state("sunk")
        ledger._db.execute("UPDATE voyage SET created = created + 1000")
        ledger._db.execute("UPDATE tasks SET id = '$(touch no)' WHERE id = '2'")
    for number, content in enumerate((b"", b"no ledger", (newer.path / "ledger.db").read_bytes()[:5000])):
        broken = root / f"voyages/voyage-{number:012x}"
        broken.mkdir()
        (broken / "ledger.db").write_bytes(content)
    (root / "voyages/voyage-00000000000f/ledger.db").mkdir(parents=True)
    (root / "my plan").mkdir()
    (root / "hosts.yml").touch()
    return root


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(home / "voyages"))
    return home


def values(*words, by_bash=False):
    """Return what may stand for the last word."""
    answer = answer_for(read_line(ROOT, words, by_bash=by_bash))
    return [value for value, _ in answer.values] if answer.kind == "words" else answer.kind


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["status"]),
        (["plan", "c"], ["check"]),
        (["drydock", "base", ""], ["build"]),
        (["no-such", ""], ""),
        (["cost", "--b"], ["--by"]),
        (["cost", "--by", ""], ["ship", "task", "model"]),
        (["cost", "--by=t"], ["--by=task"]),
        (["cost", "--by", "ship", "--"], ["--json", "--help"]),
        (["logs", "--ship", "ship-0", "--s"], ["--ship", "--since"]),  # it may be given again
        (["sail", "--verify-on", "c"], ["clean"]),
        (["sail", "-n", "-"], []),  # a number, whatever it begins with
        (["sail", ""], "dirs"),
        (["sail", "-i", ""], "files"),
        (["sail", "--hosts=h"], "files"),
        (["plan", "check", "x"], "dirs"),
        (["clone", "-d", ""], "dirs"),
        (["retry", "--task-file", ""], "files"),
        (["drydock", "start", "--faults", ""], "files"),
        (["help", "plan", "s"], ["show", "simulate"]),
        (["help", "e"], ["events", "exec", "environment"]),
        (["--show-completion", ""], ["bash", "zsh", "fish"]),
        (["status", ""], [NEW, OLD]),  # newest first
        (["status", "voyage-0"], [OLD]),
        (["status", OLD, ""], []),
        (["sail", "--resume", ""], [NEW, OLD]),
        (["sail", "--resume=voyage-4"], [f"--resume={NEW}"]),
        (["logs", "s"], ["ship-0", "ship-1"]),  # of the only active voyage
        (["logs", "-s", ""], ["ship-0", "ship-1"]),
        (["logs", OLD, ""], ["ship-0", "ship-1", "1", "2", "3", "4", "5", "6"]),
        (["logs", OLD, "1", "4", ""], ["ship-0", "ship-1", "2", "3", "5", "6"]),
        (["why", OLD, ""], ["1", "2", "3", "4", "5", "6"]),
        (["why", OLD, "1", ""], []),
        (["artifacts", OLD, ""], ["1", "2", "3", "4", "5", "6"]),
        (["artifacts", OLD, "1", ""], []),
        (["artifacts", "--to", ""], "dirs"),
        (["retry", OLD, ""], ["2"]),
        (["approve", OLD, ""], []),
        (["why", NEW, ""], ["1"]),  # the other id is not of safe characters
        (["logs", "--", "-"], []),
    ],
)
def test_what_may_stand_at_the_end_of_a_line(here, words, found):
    assert values(*words) == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["cost", "--by", "=", "t"], ["task"]),  # bash replaces what stands behind the sign alone
        (["cost", "--by", "="], ["ship", "task", "model"]),
        (["cost", "--by", "=", "task", "--j"], ["--json"]),
        (["status", "'voyage-0"], [OLD]),
        (["sail", '"my pl'], "dirs"),
    ],
)
def test_the_words_of_bash_are_as_they_were_typed(here, words, found):
    assert values(*words, by_bash=True) == found


def test_each_value_says_what_it_is(here):
    shown = dict(answer_for(read_line(ROOT, ["status", ""])).values)
    assert shown[OLD] == "fifty running"
    assert shown[NEW] == "x\\x1b[31m $(touch /tmp/no) sunk"
    tasks = dict(answer_for(read_line(ROOT, ["why", OLD, ""])).values)
    assert tasks["2"].startswith("failed: 修复登录")
    assert answer_for(read_line(ROOT, ["co"])).values == (
        ("cost", "Show what a voyage's agents and machines cost so far"),
    )


def test_a_file_to_land_is_named_as_it_is_called_where_its_user_is(here, tmp_path, monkeypatch):
    workspace = tmp_path / "workspace"
    (workspace / "sub").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", workspace], check=True)
    (workspace / "sub/old").write_text("1")
    subprocess.run(["git", "-C", workspace, "add", "."], check=True)
    for name in ("sub/old", "new", ".hidden", "$(touch no)", "-m"):
        (workspace / name).write_text("2")
    (here / "voyages" / OLD / "workspace").symlink_to(workspace)
    try:
        assert sorted(values("land", "")) == [".hidden", "new", "sub/old", OLD, NEW]
        assert values("land", "n") == ["new"]
        assert values("land", OLD, "new", "") == ["sub/old", ".hidden"]
        assert values("land", "-m", "") == []
        monkeypatch.chdir(workspace / "sub")
        assert values("land", OLD, "o") == ["old"]
        assert values("land", OLD, "../n") == ["../new"]
    finally:
        (here / "voyages" / OLD / "workspace").unlink()
    assert values("land", "") == [NEW, OLD]


def test_every_command_and_option_is_completed():
    """Also those that are yet to come: none may raise an error."""

    def visit(command, path):
        for one in command.params:
            assert isinstance(answer_for(read_line(ROOT, [*path, one.opts[-1], ""])), Answer)
        assert "--help" in values(*path, "--h")
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, [*path, name])

    visit(ROOT, [])


@pytest.mark.parametrize("given", [None, "relative", "~/elsewhere", "dotenv"])
def test_the_voyages_are_looked_for_where_the_settings_say(tmp_path, monkeypatch, given):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OCAPTAIN_HOME", raising=False)
    if given == "dotenv":
        (tmp_path / ".env").write_text("OCAPTAIN_HOME='from dotenv'\n")
    elif given:
        monkeypatch.setenv("OCAPTAIN_HOME", given)
    make_scene(tmp_path, SMALL, OLD)
    (tmp_path / "voyages").rename(load_settings().voyages)
    assert [one.value for one in glance.voyages()] == [OLD]


def test_several_active_voyages_are_none(tmp_path, monkeypatch):
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path / "voyages"))
    assert glance.chosen(None) is None
    make_scene(tmp_path, SMALL, OLD)
    assert glance.chosen(None) == tmp_path / "voyages" / OLD
    make_scene(tmp_path, SMALL, NEW)
    assert (glance.chosen(None), glance.chosen("voyage-"), glance.chosen("no")) == (None, None, None)
    with contextlib.closing(sqlite3.connect(tmp_path / "voyages" / NEW / "ledger.db")) as database, database:
        database.execute("UPDATE voyage SET state = 'complete'")
    assert glance.chosen(None) == tmp_path / "voyages" / OLD  # the other one has ended
    assert glance.chosen("4f59") == tmp_path / "voyages" / NEW


def environment(home, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CLEARED)}
    path = f"{OCAPTAIN.parent}:{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "OCAPTAIN_HOME": str(home / "voyages"), "TERM": "dumb", **more}


def ask(home, argv, **more):
    return subprocess.run(
        argv,
        env=environment(home, **more),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=240,
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_the_protocol(home, shell):
    done = ask(home, [OCAPTAIN, "status", ""], **{VARIABLE: shell})
    lines = f"words\n{NEW}\tx\\x1b[31m $(touch /tmp/no) sunk\n{OLD}\tfifty running\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, lines, "")


@pytest.mark.parametrize(
    "more",
    [
        {"OCAPTAIN_HOME": "/dev/null/x"},
        {"OCAPTAIN_HOME": "~no-such-user"},
        {"OCAPTAIN_HOME": "x" * 5000},
        {"HOME": "", "OCAPTAIN_HOME": ""},
    ],
    ids=["no directory", "no user", "too long", "no home"],
)
def test_whatever_is_wrong_there_is_no_message(home, more):
    done = ask(home, [OCAPTAIN, "status", "\udc80\x1b"], **{VARIABLE: "bash", **more})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in {"", "words\n"}


def complete_by_bash(home, *words):
    """Return what bash would offer for the last word, by the printed script in an interactive shell."""
    quoted = " ".join(f"'{word}'" for word in words)
    line = (
        f'eval "$(ocaptain --show-completion bash)"; COMP_WORDS=(ocaptain {quoted}); COMP_CWORD={len(words)};'
        ' $(complete -p ocaptain | sed "s/.*-F \\([^ ]*\\).*/\\1/") ocaptain; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    return ask(home, ["bash", "--norc", "--noprofile", "-i", "-c", line]).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["stat"], ["status"]),
        (["status", "voyage-"], [NEW, OLD]),
        (["cost", "--by", "=", "m"], ["model"]),
        (["logs", OLD, "ship-"], ["ship-0", "ship-1"]),
        (["sail", ""], [""]),  # bash itself knows the directories
    ],
)
def test_bash(home, words, found):
    assert complete_by_bash(home, *words) == found


def test_bash_lists_what_each_is(home):
    line = (
        'eval "$(ocaptain --show-completion bash)"; COMP_TYPE=63 COMP_WORDS=(ocaptain status v); COMP_CWORD=2;'
        ' _ocaptain_complete ocaptain; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = ask(home, ["bash", "--norc", "-i", "-c", line])
    assert done.stdout.splitlines()[1] == f"{OLD}  (fifty running)"


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish on this machine")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("stat", ["status\tShow the status of a voyage"]),
        ("logs " + OLD + " ship-", ["ship-0\tworking", "ship-1\tworking"]),
        ("sail ", ["my plan/", "voyages/"]),
        ("sail -i h", ["hosts.yml"]),
        ("cost --by=t", ["--by=task"]),
    ],
)
def test_fish(home, line, found):
    script = f"ocaptain --show-completion fish | source; complete -C 'ocaptain {line}'"
    assert ask(home, ["fish", "--no-config", "-c", script]).stdout.splitlines() == found


#: zsh completes only in its line editor; zpty gives it a terminal of its own. TAB shows what a TAB inserts.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; stty -echo; autoload -Uz compinit; compinit -u"
zpty -w shell "source <(ocaptain --show-completion zsh); echo READY"
while zpty -r shell line; do [[ $line == *READY* && $line != *echo* ]] && break; done
zpty -n -w shell "ocaptain $1"$'\t\C-a'"print -r -- '<' "$'\C-e'" '>'"$'\n'
while zpty -r shell line; do [[ $line == '< '* ]] && { print -r -- "$line"; break; }; done
zpty -d shell
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh on this machine")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("stat", "ocaptain status"),
        ("status voyage-0", f"ocaptain status {OLD}"),
        ("cost --by=t", "ocaptain cost --by=task"),
        ("sail my", "ocaptain sail my plan"),
        ("sail -i ho", "ocaptain sail -i hosts.yml"),
    ],
)
def test_zsh(home, line, found):
    done = ask(home, ["zsh", "-f", "-c", ZSH, "zsh", line], TERM="xterm")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stdout).strip()
    assert re.sub(r"\s+", " ", shown) == f"< {found} >", done


@pytest.mark.parametrize(
    ("shell", "files"),
    [
        ("bash", {".bashrc", ".local/share/ocaptain/completion.bash"}),
        ("zsh", {".zshrc", ".local/share/ocaptain/completion.zsh"}),
        ("fish", {".config/fish/completions/ocaptain.fish"}),
    ],
)
def test_it_is_installed_once(tmp_path, shell, files):
    (tmp_path / ".bashrc").write_text("# mine")
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        assert name not in os.environ
    for _ in range(2):
        done = ask(tmp_path, [OCAPTAIN, "--install-completion", shell])
        assert (done.returncode, "next: open a new" in done.stderr) == (0, True), done
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == files | {".bashrc"}
    start = (tmp_path / f".{shell}rc").read_text() if shell != "fish" else ""
    assert start.count("completion of ocaptain") == (shell != "fish")
    assert (tmp_path / ".bashrc").read_text().startswith("# mine" if shell != "bash" else "# mine\n[ -r ")
    if shutil.which(shell):
        assert ask(tmp_path, [shell, "-n", done.stdout.strip()]).stderr == ""


def test_it_is_installed_below_a_home_whose_name_is_no_utf_8(tmp_path):
    odd = tmp_path / os.fsdecode(b"h\xff")
    odd.mkdir()
    done = ask(odd, [OCAPTAIN, "--install-completion", "bash"])
    assert done.returncode == 0, done
    assert os.fsencode(odd / ".local") in (odd / ".bashrc").read_bytes()


def test_which_shell_it_is(tmp_path):
    """By the nearest above; where none is, as in CI, by SHELL; else it is asked for."""
    near = ask(tmp_path, ["bash", "-c", "ocaptain --show-completion; :"], SHELL="/bin/fish")
    assert near.stdout.startswith("# Completion of ocaptain for bash")
    refused = ask(tmp_path, [OCAPTAIN, "--install-completion"], HOME="/proc/nowhere", SHELL="/bin/bash")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is no home directory (/proc/nowhere); set HOME" in refused.stderr


def test_a_shell_that_cannot_be_told(monkeypatch):
    from ocaptain.cli import shells
    from ocaptain.errors import UsageError

    monkeypatch.setattr(shells, "_programs_above", lambda _: ["cron", "systemd"])
    monkeypatch.setenv("SHELL", "/usr/bin/nu")
    with pytest.raises(UsageError, match="name it: `--install-completion bash`, `zsh` or `fish`"):
        shells.this_shell()
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert shells.this_shell() == "zsh"
