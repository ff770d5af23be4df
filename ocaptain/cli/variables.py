"""``help environment``: the variables that configure the program, from the settings themselves."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

from pydantic import AliasChoices, BaseModel

from ocaptain.agents import FOLDER
from ocaptain.cli.help import Page, Section, terminal_text
from ocaptain.config import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_GENERAL = (
    ("NO_COLOR", "No colours, whatever its value."),
    ("XDG_STATE_HOME", "Where drydock keeps its state, if not ~/.local/state."),
    ("XDG_CACHE_HOME", "Where drydock keeps its base layer, if not ~/.cache."),
    ("OCAPTAIN_DRYDOCK_BASE", "own: root's ships stand on a Debian of their own, not on this machine's system."),
)
_FILES = (
    ("./.env", "Variables of this directory, unless the environment sets them."),
    ("~/.config/ocaptain/.env", "Variables of yours, unless one of the former sets them."),
)


def variables_page() -> Page:
    """Return the variables that are read, and where from."""
    of_agents = [row for model in _agent_models() for row in _rows(model)]
    return Page(
        path="environment",
        usage="NAME=VALUE ocaptain COMMAND",
        summary="What configures ocaptain outside its command line; a variable that is empty counts as not set.",
        sections=(
            Section("Variables", tuple(_rows(Settings)), "parameters"),
            Section("Variables of agents", tuple(of_agents), "parameters"),
            Section("Variables of other programs", _GENERAL, "parameters"),
            Section("Files", _FILES, "parameters"),
        ),
    )


def variables_text() -> str:
    """Return that for standard output as it is now."""
    return terminal_text(variables_page())


def _rows(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield each variable of some settings, with what it is; the first spelling of those that have two."""
    for field in model.model_fields.values():
        alias = field.validation_alias
        name = str(alias.choices[0]) if isinstance(alias, AliasChoices) else str(alias)
        has_default = isinstance(field.default, str | int | float) or field.default.__class__.__name__.endswith("Path")
        yield name, f"{field.description or ''}{f' (default: {field.default})' if has_default else ''}"


def _agent_models() -> Iterator[type[BaseModel]]:
    """Yield the settings of each agent that has some."""
    for path in sorted(FOLDER.glob("*/settings.py")):
        name = f"ocaptain.agents.{path.parent.name}.settings"
        for _, found in inspect.getmembers(import_module(name), inspect.isclass):
            if issubclass(found, BaseModel) and found.__module__ == name:
                yield found
