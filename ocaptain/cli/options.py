"""Turn the options of a voyage into options of a command."""

from __future__ import annotations

import inspect
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocaptain.options import SailOptions, sail_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocaptain.options import Option


def _build_parameter(option: Option) -> inspect.Parameter:
    more: dict[str, Any] = {"help": option.help, "rich_help_panel": option.about}
    if option.minimum is not None:
        more["min"] = option.minimum
    flags = [option.short, option.flag] if option.short else [option.flag]
    word: Any = StrEnum(option.name, {choice: choice for choice in option.choices}) if option.choices else option.kind
    kind: Any = bool if option.kind is bool else word | None
    default = False if option.kind is bool else None
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, typer.Option(*flags, **more)],
    )


def with_sail_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every option of :class:`SailOptions`; it takes them as one argument ``options``."""
    own = inspect.signature(command, eval_str=True)
    added = [_build_parameter(option) for option in sail_options()]

    def run(**given: Any) -> None:
        chosen = {one.name: given.pop(one.name) for one in added}
        words = {name: value.value if isinstance(value, StrEnum) else value for name, value in chosen.items()}
        command(options=SailOptions.from_mapping(words), **given)

    before = [one for one in own.parameters.values() if one.name == "plan"]
    after = [one for one in own.parameters.values() if one.name not in {"plan", "options"}]
    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*before, *after, *added)]
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run
