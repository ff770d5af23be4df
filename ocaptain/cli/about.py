"""What the program says of itself: ``help``, ``version``, ``--install-completion`` and ``--show-completion``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocaptain import __version__
from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

HELP_FLAGS = ("-h", "--help")


class Shell(StrEnum):
    """A shell that can complete our command."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def print_version(requested: bool) -> None:  # noqa: FBT001 - typer's callback
    """Print the version and end, if it is asked for."""
    if requested:
        typer.echo(f"ocaptain {__version__}")
        raise typer.Exit


def show_completion(shell: Shell | None) -> None:
    """Print the script of a shell and end, if it is asked for."""
    if shell is not None:
        from ocaptain.cli.shells import script_of  # noqa: PLC0415 - few ask for it

        typer.echo(script_of(shell.value), nl=False)
        raise typer.Exit


def install_completion(shell: Shell | None) -> None:
    """Make a shell complete our command, and end, if it is asked for."""
    if shell is not None:
        from ocaptain.cli.shells import install  # noqa: PLC0415 - likewise

        script, start = install(shell.value)
        typer.echo(str(script))
        typer.echo(f"{start} reads it" if start else f"{shell.value} finds it there", err=True)
        typer.echo(f"next: open a new {shell.value}, or: source {script}", err=True)
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    install: Annotated[
        Shell | None,
        typer.Option(
            "--install-completion",
            callback=install_completion,
            is_eager=True,
            metavar="[SHELL]",
            help="Have bash, zsh or fish complete words.",
        ),
    ] = None,
    show: Annotated[
        Shell | None,
        typer.Option(
            "--show-completion",
            callback=show_completion,
            is_eager=True,
            metavar="[SHELL]",
            help="Print the script that does; install nothing.",
        ),
    ] = None,
) -> None:
    """Sail fleets of autonomous coding agents."""
    del version, install, show


def version() -> None:
    """Print the version."""
    print_version(True)  # noqa: FBT003 - it is typer's callback


def help_(
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="A command, or `environment`.")] = None,
) -> None:
    """Show the help of a command (as --help), or the variables that configure it (`help environment`)."""
    if words == ["environment"]:
        from ocaptain.cli.variables import variables_text  # noqa: PLC0415 - it loads all settings

        typer.echo(variables_text(), nl=False)
        return
    typer.echo(help_of(ctx.find_root(), words or ()))


def help_of(at: Any, words: Sequence[str]) -> str:
    """Return the help of the command that words name.

    Args:
        at: the program's context.
        words: none for the program itself.

    Raises:
        UsageError: there is no such command.
    """
    for word in words:
        if not hasattr(at.command, "commands"):
            raise UsageError(f"`{at.command_path}` has no commands; see `{at.command_path} --help`")
        name, command, _ = at.command.resolve_command(at, [word])
        at = command.context_class(command, parent=at, info_name=name, resilient_parsing=True)
    text: str = at.command.get_help(at)
    return text


def asked_help(root: Any, arguments: Sequence[str]) -> str | None:
    """Return the help that ``COMMAND… --help`` asks for; None if the arguments are anything else.

    Typer would check all options of the commands on the way, and load what does that: three times as long.
    """
    *words, last = arguments or ("",)
    if last not in HELP_FLAGS or any(word.startswith("-") for word in words):
        return None
    command = root
    for word in words:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            return None  # an argument, or a wrong word: typer says which
    at = root.context_class(root, info_name="ocaptain", resilient_parsing=True, help_option_names=list(HELP_FLAGS))
    return help_of(at, words)
