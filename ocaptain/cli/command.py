"""What the commands have in common: their help, their names of old, and usage lines with a grammar of their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ocaptain.cli.former import instead_of, instead_of_option
from ocaptain.cli.shells import COMPLETION_FLAGS, this_shell
from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Function = TypeVar("_Function", bound="Callable[..., Any]")


class Command(TyperCommand):
    """A command whose help is :mod:`ocaptain.cli.help`'s, which loads a tenth of what typer's own does."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from ocaptain.cli.help import help_text  # noqa: PLC0415 - few commands are asked for it

        formatter.write(help_text(self, ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; an option that takes one value is given once.

        Raises:
            UsageError: an option is given twice with different values: one of them would count, silently; or a path is
                empty, as of a shell variable that is not set: it would mean this directory.
        """
        if not ctx.resilient_parsing:
            _refuse_contradictions(self, ctx, args)
        before = list(args)
        rest: list[str] = super().parse_args(ctx, args)
        if "" in before and "." not in before and Path() in ctx.params.values():
            raise UsageError("a path is empty; give one, or `.` for this directory")
        return rest


class CommandOfWords(Command):
    """A command whose one argument stands for several words (:mod:`.arguments`); its metavar is the whole usage."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: ``[ID] [SHIP]``, which typer shows as ``[[ID] [SHIP]]...``."""
        found = super().collect_usage_pieces(ctx)
        return [re.sub(r"^[\[{](\[ID\].*)[\]}]\.\.\.$", r"\1", piece) for piece in found]


class Group(TyperGroup):
    """A command that has commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from ocaptain.cli.help import help_text  # noqa: PLC0415 - likewise

        formatter.write(help_text(self, ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; an option about completion that names no shell means the one it is typed in."""
        if args and args[-1] in COMPLETION_FLAGS and ctx.parent is None:
            args = [*args, this_shell()]
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the arguments name.

        Raises:
            UsageError: it is a name that others, or earlier versions, have for what we call otherwise.
        """
        if args and ctx.parent is None and args[0] not in self.commands and (said := instead_of(args[0])):
            raise UsageError(said)
        return super().resolve_command(ctx, args)


class Commands(typer.Typer):
    """Typer, with our classes of commands."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{"cls": Group, "add_completion": False, "pretty_exceptions_enable": False, **more})

    def command(self, name: str | None = None, **more: Any) -> Callable[[_Function], _Function]:
        """Register a function as a command, as :meth:`typer.Typer.command` does."""
        return super().command(name, **{"cls": Command, **more})


def _refuse_contradictions(command: Any, ctx: Any, args: list[str]) -> None:
    """Refuse an option that is given several times and takes one value."""
    single = {
        flag: one
        for one in command.get_params(ctx)
        if one.param_type_name == "option" and not one.multiple and not one.is_flag and not one.count
        for flag in one.opts
    }
    given: dict[str, list[str]] = {}
    words = iter(args)
    for word in words:
        if word == "--":
            break
        flag, equals, value = word.partition("=")
        if flag in single:
            given.setdefault(single[flag].name, []).append(value if equals else next(words, ""))
    for name, values in given.items():
        if len(set(values)) > 1:
            flag = next(one for one in single if single[one].name == name and one.startswith("--"))
            shown = " and ".join(repr(value[:40]) for value in values[:2])
            raise UsageError(f"{flag} is given {len(values)} times ({shown}); give it once")


def explain(error: Any, root: Any, arguments: Sequence[str]) -> str:
    """Return what to say of an error in options or arguments: what it is, and where to read more.

    Args:
        error: typer's.
        root: the program's command.
        arguments: of the command line; some errors do not say which command they are about.
    """
    from ocaptain.text import clean_line, plain_reason  # noqa: PLC0415 - few lines are wrong

    path = error.ctx.command_path if error.ctx else _command_path(root, arguments)
    flag = getattr(error, "option_name", None)
    if type(error).__name__ == "NoSuchOption" and flag:
        if said := instead_of_option(path.partition(" ")[2], flag):
            return said
        if path == "ocaptain" and flag == "--json":
            return "--json comes after the command: `ocaptain status --json`"
    message = plain_reason(error.format_message()).rstrip(".")
    message = re.sub(r" \(Possible options: (.+)\)$", r", did you mean \1", message)
    message = re.sub(r"\. Did you mean (.+)\?$", r", did you mean \1", message)
    message = re.sub(r"^Got unexpected extra arguments?(?:\(s\))? \((.*)\)$", r"too many arguments: \1", message)
    message = re.sub(r"[^\s']{61,}", lambda long: clean_line(long[0], 60), message)
    end = "? See" if ", did you mean " in message else "; see"
    return f"{message}{end} `{path} --help`"


def _command_path(root: Any, arguments: Sequence[str]) -> str:
    path, command = ["ocaptain"], root
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        path.append(word)
    return " ".join(path)
