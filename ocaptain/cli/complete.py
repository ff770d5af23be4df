"""What can stand at the end of a command line: the answer to a shell that completes it (:mod:`.shells`).

    words ──read_line──> Line ──answer_for──> Answer ──> one line: its kind; then a value a line

Runs at each TAB: it loads the commands' names and options, and reads ledgers only where a name of them may stand.
Whatever goes wrong, there is no answer, and no message.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocaptain.voyage.glance import Name

Kind = Literal["words", "files", "dirs", ""]
#: What the words after a command name: a voyage first, then these of it.
_OF_A_VOYAGE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("status", "tasks", "cost", "clone", "pause", "sink", "watch", "report", "events"), ()),
    **dict.fromkeys(("shell", "open", "proxy", "exec", "diff"), ("ship",)),
    "logs": ("ship", "task"),
    "why": ("task",),
    "artifacts": ("task",),
    "retry": ("failed",),
    "approve": ("held",),
}
#: How many names of a voyage such a command takes; any number if it does not stand here.
_ONE_NAME = frozenset({"shell", "open", "proxy", "exec", "why", "diff", "artifacts"})
#: Options whose value is a name, by their flag.
_BY_FLAG = {"--resume": "voyage", "--ship": "ship", "--task": "task"}
#: Options whose value is a file, though their type does not say so.
_FILE_FLAGS = frozenset({"--hosts"})
_DIRECTORY_WORDS = frozenset({"plan", "directory", "dest", "layer", "to"})


@dataclass(frozen=True)
class Line:
    """A command line up to the word that is to be completed.

    Attributes:
        path: the words of the command: ``("plan", "check")``.
        command: it, as typer has it.
        words: positional arguments before the word.
        option: whose value the word is; None if it is none's.
        used: flags that are given already.
        only_words: whether ``--`` was given: no option can follow.
        current: the beginning of the word.
        prefix: what stands before it in the same word (``--by=``).
    """

    path: tuple[str, ...]
    command: Any
    words: tuple[str, ...]
    option: Any
    used: frozenset[str]
    only_words: bool
    current: str
    prefix: str = ""


@dataclass(frozen=True)
class Answer:
    """What may stand there: values with what they are, or files or directories, which the shell knows itself."""

    kind: Kind
    values: tuple[tuple[str, str], ...] = ()


def answer_shell() -> None:
    """Print the answer to the shell that set our variable; nothing at all if anything goes wrong."""
    with contextlib.suppress(Exception), Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        out, sys.stderr = sys.stdout, nowhere
        from typer.main import get_command  # noqa: PLC0415

        from ocaptain.cli.app import app  # noqa: PLC0415 - an error of it is no answer, too
        from ocaptain.cli.shells import VARIABLE  # noqa: PLC0415

        words = sys.argv[1:] or [""]
        line = read_line(get_command(app), words, by_bash=os.environ.get(VARIABLE) == "bash")
        answer = answer_for(line)
        lines = [answer.kind, *(f"{value}\t{text}" if text else value for value, text in answer.values)]
        out.write("\n".join(lines) + "\n")
        out.flush()


def read_line(root: Any, words: Sequence[str], *, by_bash: bool = False) -> Line:
    """Return a command line as it is understood.

    Args:
        root: the program's command.
        words: after the program's name; the last one is to be completed.
        by_bash: whether the words are bash's: as they were typed, with quotes, and split at ``=``.
    """
    before = _joined(words) if by_bash else list(words)
    current = before.pop()
    is_cut = by_bash and len(words) > 1 and (words[-1] == "=" or words[-2] == "=")
    command = root
    path: list[str] = []
    positional: list[str] = []
    used: set[str] = set()
    option = None
    only_words = False
    for word in before:
        if option is not None:
            option = None
        elif word == "--" and not only_words:
            only_words = True
        elif word.startswith("-") and word != "-" and not only_words:
            flag, equals, _ = word.partition("=")
            used.add(flag)
            known = _option(command, flag)
            option = known if known and not known.is_flag and not equals else None
        elif inner := getattr(command, "commands", {}).get(word):
            command, path = inner, [*path, word]
        else:
            positional.append(word)
    prefix = ""
    if option is None and not only_words and current.startswith("--") and "=" in current:
        flag, _, current = current.partition("=")
        option, prefix = _option(command, flag), "" if is_cut else f"{flag}="
    return Line(tuple(path), command, tuple(positional), option, frozenset(used), only_words, current, prefix)


def _joined(words: Sequence[str]) -> list[str]:
    """Return bash's words as the program would get them: ``--by``, ``=``, ``task`` is one word."""
    found: list[str] = []
    for word in words:
        plain = _unquoted(word)
        after_equals = found and found[-1].endswith("=") and found[-1].startswith("--")
        if found and (word == "=" or after_equals) and found[-1].startswith("--"):
            found[-1] += plain
        else:
            found.append(plain)
    return found


def _unquoted(word: str) -> str:
    for end in ("", '"', "'"):  # a quote may be open still
        with contextlib.suppress(ValueError):
            return "".join(shlex.split(word + end)) if word else ""
    return word


def _option(command: Any, flag: str) -> Any:
    for one in command.params:
        if one.param_type_name == "option" and flag in (*one.opts, *one.secondary_opts):
            return one
    return None


def answer_for(line: Line) -> Answer:
    """Return what may stand at the end of a line."""
    if line.option is not None:
        return _with_prefix(line, _values_of(line.option, line))
    if line.current.startswith("-") and not line.only_words:
        return _begun(line, _options(line))
    inner = getattr(line.command, "commands", None)
    if inner is not None:
        return Answer("") if line.words else _begun(line, _commands(line, inner))
    if line.path and line.path[0] == "help":
        return _begun(line, _help_topics(line))
    if line.path == ("land",):
        return _begun(line, _to_land(line))
    if len(line.path) == 1 and line.path[0] in _OF_A_VOYAGE:
        return _begun(line, _names(line))
    arguments = [one for one in line.command.params if one.param_type_name == "argument"]
    argument = next(iter(arguments[len(line.words) :]), None) or next(
        (one for one in arguments if one.nargs == -1), None
    )
    return _begun(line, _values_of(argument, line)) if argument else Answer("words")


def _with_prefix(line: Line, answer: Answer) -> Answer:
    begun = _begun(line, answer)
    return Answer(begun.kind, tuple((f"{line.prefix}{value}", text) for value, text in begun.values))


def _begun(line: Line, answer: Answer) -> Answer:
    """Return the values that begin as the word does."""
    return Answer(answer.kind, tuple(one for one in answer.values if one[0].startswith(line.current)))


def _values_of(parameter: Any, line: Line) -> Answer:
    """Return the values of an option or an argument."""
    from ocaptain.cli.help import choices_of, takes_path  # noqa: PLC0415 - not for a command's name

    flags = set(parameter.opts)
    if choices := choices_of(parameter):
        return Answer("words", tuple((choice, "") for choice in choices))
    if flags & _FILE_FLAGS:
        return Answer("files")
    if takes_path(parameter):
        return Answer("dirs" if parameter.name in _DIRECTORY_WORDS else "files")
    wanted = next((_BY_FLAG[flag] for flag in flags if flag in _BY_FLAG), None)
    if wanted == "voyage":
        return _voyages()
    if wanted:
        return _of_voyage(line, (wanted,), frozenset())
    return Answer("words")


def _options(line: Line) -> Answer:
    found = []
    for one in line.command.params:
        if one.param_type_name != "option" or getattr(one, "hidden", False):
            continue
        given = line.used & {*one.opts, *one.secondary_opts}
        if not given or one.multiple:
            flags = [flag for flag in (*one.opts, *one.secondary_opts) if flag.startswith("--")]
            found += [(flag, _first_sentence(one.help)) for flag in flags]
    return Answer("words", (*found, ("--help", "Show this message and exit")))


def _commands(line: Line, inner: dict[str, Any]) -> Answer:
    from ocaptain.cli.examples import PANELS  # noqa: PLC0415

    order = [name for names in PANELS.values() for name in names if name in inner and not line.path]
    names = [*order, *(name for name in inner if name not in order)]
    return Answer("words", tuple((name, _first_sentence(inner[name].help)) for name in names if not inner[name].hidden))


def _help_topics(line: Line) -> Answer:
    from typer.main import get_command  # noqa: PLC0415

    from ocaptain.cli.app import app  # noqa: PLC0415 - it is there already

    command: Any = get_command(app)
    for word in line.words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return Answer("words")
    topics = () if line.words else (("environment", "the variables that configure it"),)
    return Answer("words", (*_commands(line, getattr(command, "commands", {})).values, *topics))


def _names(line: Line) -> Answer:
    """Return voyages, and ships or tasks of the voyage that the line names, or of the only active one."""
    wanted = _OF_A_VOYAGE[line.path[0]]
    named = bool(line.words) and (line.words[0].startswith("voyage-") or not wanted)
    rest = line.words[1:] if named else line.words
    found = () if line.words else _voyages().values
    if wanted and not (rest and line.path[0] in _ONE_NAME):
        found = (*_of_voyage(line, wanted, frozenset(rest)).values, *found)
    return Answer("words", found)


def _to_land(line: Line) -> Answer:
    """Return voyages, and the files in ``workspace/`` that are not committed, as ``land`` takes their names."""
    from ocaptain.voyage import glance  # noqa: PLC0415 - most lines need no ledger

    first = line.words[0] if line.words else ""
    directory = glance.chosen(first if first.startswith("voyage-") else None)
    found = glance.uncommitted(directory / "workspace", Path.cwd()) if directory else []
    names = tuple((name, "not committed") for name in found if name not in line.words)
    return Answer("words", (*names, *(() if line.words else _voyages().values)))


def _voyages() -> Answer:
    from ocaptain.voyage import glance  # noqa: PLC0415 - most lines need no ledger

    return Answer("words", tuple((one.value, one.text) for one in glance.voyages()))


def _of_voyage(line: Line, wanted: Sequence[str], given: frozenset[str]) -> Answer:
    from ocaptain.voyage import glance  # noqa: PLC0415 - likewise

    first = line.words[0] if line.words else ""
    directory = glance.chosen(first if first.startswith("voyage-") else None)
    if directory is None:
        return Answer("words")
    readers: dict[str, Callable[[Path], list[Name]]] = {
        "ship": glance.ships,
        "task": glance.tasks,
        "failed": lambda path: [one for one in glance.tasks(path) if one.state == "failed"],
        "held": glance.held,
    }
    names = [one for kind in wanted for one in readers[kind](directory)]
    return Answer("words", tuple((one.value, one.text) for one in names if one.value not in given))


def _first_sentence(text: str | None) -> str:
    from ocaptain.text import clean_line  # noqa: PLC0415 - a few lines further up

    return clean_line((text or "").partition(". ")[0].partition(";")[0].rstrip("."), 60)
