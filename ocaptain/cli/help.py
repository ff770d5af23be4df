"""The help of a command: its usage, options by what they are for, and examples.

command ──page_of──> Page ──render──> lines      pure; what --help shows, and docs/reference.md
"""

from __future__ import annotations

import enum
import os
import re
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ocaptain.cli.examples import EXAMPLES, LEARN_MORE, PANELS

MAX_WIDTH = 100
_MAX_TERM = 27
_BELOW = 6
_OTHER_OPTIONS, _OTHER_COMMANDS = "Options", "Other commands"
_BOLD, _CYAN, _END = "\x1b[1m", "\x1b[36m", "\x1b[0m"


@dataclass(frozen=True)
class Section:
    """A part of a help.

    Attributes:
        title: ``Options``.
        rows: what is told of, and what there is to say.
        kind: those alike have their texts in one column; of ``lines``, below where there is no room beside.
    """

    title: str
    rows: tuple[tuple[str, str], ...]
    kind: Literal["commands", "parameters", "lines"]


@dataclass(frozen=True)
class Page:
    """The help of a command.

    Attributes:
        path: its words without the program's: ``plan check``; "" of the program.
        usage: ``ocaptain plan check [OPTIONS] PLAN``.
        summary: what it does.
        sections: in order.
    """

    path: str
    usage: str
    summary: str
    sections: tuple[Section, ...]


def help_text(command: Any, ctx: Any) -> str:
    """Return the help of a command for standard output as it is now."""
    return terminal_text(page_of(command, ctx))


def terminal_text(page: Page) -> str:
    """Return a help for standard output as it is now: its width, and whether it shows colours."""
    width = min(shutil.get_terminal_size((80, 24)).columns, MAX_WIDTH)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return "\n".join(render(page, width, colour=colour)) + "\n"


def page_of(command: Any, ctx: Any) -> Page:
    """Return what the help of a command shows."""
    program, _, path = ctx.command_path.partition(" ")
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    sections = [*_command_sections(command, path), *_parameter_sections(command, ctx)]
    if examples := EXAMPLES.get(path or program):
        sections.append(Section("Examples", examples, "lines"))
    if not path:
        sections.append(Section("Learn more", LEARN_MORE, "lines"))
    return Page(path, usage, " ".join((command.help or "").split()), tuple(sections))


def _command_sections(command: Any, path: str) -> list[Section]:
    commands = {name: one for name, one in getattr(command, "commands", {}).items() if not one.hidden}
    panels = {title: [name for name in names if name in commands] for title, names in PANELS.items() if not path}
    shown = {name for names in panels.values() for name in names}
    panels["Commands" if path else _OTHER_COMMANDS] = [name for name in commands if name not in shown]
    return [
        Section(title, tuple((name, _first_line(commands[name])) for name in names), "commands")
        for title, names in panels.items()
        if names
    ]


def _first_line(command: Any) -> str:
    """Return what a command does, in the words before the first detail."""
    return re.split(r"[.:;] | \(", " ".join((command.help or "").split()), maxsplit=1)[0].rstrip(".")


def _parameter_sections(command: Any, ctx: Any) -> list[Section]:
    panels: dict[str, list[tuple[str, str]]] = {}
    others: list[tuple[str, str]] = []
    for one in command.get_params(ctx):
        if getattr(one, "hidden", False):
            continue
        if one.param_type_name == "argument":
            panels.setdefault("Arguments", []).append((_argument(one), one.help or ""))
        else:
            title = getattr(one, "rich_help_panel", None)
            rows = panels.setdefault(title, []) if title else others
            rows.append((_flags(one), f"{one.help or ''}{_default(one)}"))
    panels[_OTHER_OPTIONS] = others  # last: --help is among them
    return [Section(title, tuple(rows), "parameters") for title, rows in panels.items() if rows]


def _argument(one: Any) -> str:
    return str(one.metavar or one.name.upper())


def _flags(one: Any) -> str:
    """Return an option as it is typed: ``-n, --ships N``."""
    long = "/".join([*(flag for flag in one.opts if flag.startswith("--")), *one.secondary_opts])
    short = next((flag for flag in one.opts if not flag.startswith("--")), None)
    value = "" if one.is_flag else f" {one.metavar or value_name(one)}"
    return f"{f'{short}, ' if short else '    '}{long}{value}"


def _annotation(one: Any) -> Any:
    """Return the type of a parameter's values: a class."""
    annotation = getattr(getattr(one, "type_descriptor", None), "annotation", None)
    return next(iter(get_args(annotation)), annotation)


def choices_of(one: Any) -> tuple[str, ...]:
    """Return the only values that a parameter takes, () if it takes any."""
    kind = _annotation(one)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return tuple(str(choice.value) for choice in kind)
    return tuple(map(str, getattr(getattr(one, "type", None), "choices", ())))  # of typer before 0.29


def takes_path(one: Any) -> bool:
    """Whether the values of a parameter are paths."""
    kind = _annotation(one)
    return (isinstance(kind, type) and issubclass(kind, Path)) or getattr(
        getattr(one, "type", None), "name", ""
    ) == "path"


def value_name(one: Any) -> str:
    """Return how the value of an option is called."""
    if choices := choices_of(one):
        return "|".join(choices)
    kind = _annotation(one)
    is_number = kind in {int, float} or getattr(getattr(one, "type", None), "name", "").startswith(("int", "float"))
    return "PATH" if takes_path(one) else "N" if is_number else "TEXT"


def _default(one: Any) -> str:
    default = getattr(one.default, "value", one.default)
    shown = one.show_default and not one.is_flag and isinstance(default, str | int | float) and default != ""
    return (
        f" (default: {default:g})"
        if shown and isinstance(default, float)
        else f" (default: {default})"
        if shown
        else ""
    )


def render(page: Page, width: int, *, colour: bool = False) -> list[str]:
    """Return a help as lines of at most ``width`` columns, but for what cannot be broken."""
    lines = _usage(page.usage, width, colour=colour)
    lines += ["", *textwrap.wrap(page.summary, width, break_long_words=False)]
    for section in page.sections:
        alike = [term for one in page.sections if one.kind == section.kind for term, _ in one.rows]
        column = max((len(term) for term in alike if len(term) <= _MAX_TERM), default=0) + 4
        if section.kind == "lines":
            column = max(len(term) for term, _ in section.rows) + 4
            column = column if column + max(len(text) for _, text in section.rows) <= width else _BELOW
        lines += ["", f"{_BOLD}{section.title}:{_END}" if colour else f"{section.title}:"]
        for term, text in section.rows:
            lines += _row(term, text, column, width, colour=colour)
    return lines


def _usage(usage: str, width: int, *, colour: bool) -> list[str]:
    lines = textwrap.wrap(
        f"Usage: {usage}", width, subsequent_indent="       ", break_long_words=False, break_on_hyphens=False
    )
    return [lines[0].replace("Usage:", f"{_BOLD}Usage:{_END}"), *lines[1:]] if colour else lines


def _row(term: str, text: str, column: int, width: int, *, colour: bool) -> list[str]:
    body = textwrap.wrap(text, max(width - column, 20), break_long_words=False, break_on_hyphens=False) or [""]
    shown = f"{_CYAN}{term}{_END}" if colour else term
    below = [f"{'':{column}}{line}" for line in body]
    if len(term) + 4 > column:  # it reaches into the column of the texts
        return [f"  {shown}", *below]
    return [f"  {shown}{'':{column - len(term) - 2}}{body[0]}".rstrip(), *below[1:]]
