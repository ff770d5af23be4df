"""Start at once: build of the command line what its words name, and check no word that needs no check.

Typer builds every parameter of every command at each start, and loads pydantic to tell that a word is one. Completion
starts the program at each TAB.
"""

from __future__ import annotations

import contextlib
from copy import copy
from typing import TYPE_CHECKING, Any

import typer
from typer.main import get_command

if TYPE_CHECKING:
    from collections.abc import Iterator


def build_program(app: typer.Typer) -> Any:
    """Return the program's command. Each command below it has its name and help, and gets the rest when looked up."""
    whole = {id(one): {_name(info): copy(info) for info in one.registered_commands} for one in _with_groups(app)}
    with _without_parameters(app):
        program: Any = get_command(app)
    pairs = [(app, program)]
    for group, command in pairs:  # grows
        below = [(info.typer_instance, command.commands[str(info.name)]) for info in group.registered_groups]
        pairs += [(one, found) for one, found in below if one is not None]
        command.commands = _Commands(command.commands, whole[id(group)])
        _check_late(command)
    return program


class _Commands(dict[str, Any]):
    """Commands by name; one is built whole when it is looked up by its name.

    Args:
        light: all of them, without parameters.
        whole: what typer knows of those that have to be built.
    """

    def __init__(self, light: dict[str, Any], whole: dict[str, Any]) -> None:
        super().__init__(light)
        self._whole = whole

    def __getitem__(self, name: str) -> Any:
        if info := self._whole.pop(name, None):
            alone = typer.Typer(add_completion=False)
            alone.registered_commands.append(info)
            self[name] = command = get_command(alone)
            _check_late(command)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a command, built whole."""
        with contextlib.suppress(KeyError):
            return self[name]
        return default


class _Late:
    """Turns a word of the command line into a value, in place of what typer makes at the first word.

    Args:
        parameter: the option or argument.
    """

    def __init__(self, parameter: Any) -> None:
        self._parameter = parameter

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the value of what was given, as typer does."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if param.type_descriptor.annotation is str and type(value) is str:
            return value
        self._parameter._runtime_param = None  # noqa: SLF001 - typer makes its own now
        return self._parameter.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _check_late(command: Any) -> None:
    """Have a command's parameters load typer's checks only for what needs one; of other versions they load nothing."""
    parse = command.parse_args

    def parse_args(ctx: Any, args: list[str]) -> Any:
        for parameter in command.get_params(ctx):
            if getattr(parameter, "_runtime_param", ...) is None:
                has_parser = parameter.type_descriptor.parameter_info.parser is not None
                parameter._runtime_param = None if has_parser else _Late(parameter)  # noqa: SLF001 - no public way
        return parse(ctx, args)

    command.parse_args = parse_args


@contextlib.contextmanager
def _without_parameters(app: typer.Typer) -> Iterator[None]:
    """Have commands no parameters for a while."""
    infos = [info for one in _with_groups(app) for info in one.registered_commands]
    callbacks = [info.callback for info in infos]
    try:
        for info in infos:
            info.callback = _stand_in(info.callback)
        yield
    finally:
        for info, callback in zip(infos, callbacks, strict=True):
            info.callback = callback


def _stand_in(callback: Any) -> Any:
    def run() -> None:
        raise AssertionError(f"{callback.__name__} is to be looked up by its name before it is called")

    run.__name__, run.__doc__ = callback.__name__, callback.__doc__
    return run


def _name(info: Any) -> str:
    return str(info.name or info.callback.__name__.lower().replace("_", "-"))


def _with_groups(app: typer.Typer) -> Iterator[typer.Typer]:
    yield app
    for info in app.registered_groups:
        if info.typer_instance is not None:
            yield from _with_groups(info.typer_instance)
