"""Where the configuration comes from, and the directories on this machine: nothing here is checked or costly to import.

    the environment, ./.env, ~/.config/ocaptain/.env ──> variables ──> :mod:`ocaptain.config` checks them all

A command that only shows a voyage reads no more than where voyages are: it loads no checks for what it does not use.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.paths import expand_home

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: The directory whose ``.env`` counts; the runner changes directory, so the CLI names it here.
DOTENV_DIRECTORY = "OCAPTAIN_DOTENV_DIR"
#: Maximum length of the path of all voyages, so that the system accepts the paths of the files below it.
MAX_HOME_LENGTH = 1000
DEFAULT_HOME = "~/voyages"


def _caller_directory() -> Path:
    return Path(os.environ.get(DOTENV_DIRECTORY) or ".").absolute()


def relative_to_caller(path: Path) -> Path:
    """Make a path absolute, relative to the caller's directory; the runner changes the current one."""
    return (_caller_directory() / expand_home(path)).absolute()


def dotenv_files() -> tuple[Path, Path]:
    """Return the files that settings are read from, in the order of precedence."""
    return _caller_directory() / ".env", expand_home("~/.config/ocaptain/.env")


def first_set(given: Sequence[Mapping[str, str | None]], names: Sequence[str]) -> dict[str, str]:
    """Return the spelling that the first source sets, with its value; {} if none is set."""
    found = ((name, value) for source in given for name in names if (value := source.get(name)))
    return dict(itertools.islice(found, 1))


def _dotenv(file: Path) -> Mapping[str, str | None]:
    from dotenv import dotenv_values  # noqa: PLC0415 - most have no such file

    return dotenv_values(file, encoding="utf-8")


def sources() -> list[Mapping[str, str | None]]:
    """Return what variables are read from, in the order of precedence.

    Raises:
        UsageError: a ``.env`` file cannot be read.
    """
    try:
        return [os.environ, *(_dotenv(file) for file in dotenv_files() if file.is_file())]
    except (OSError, UnicodeDecodeError) as error:
        message = f"a .env file cannot be read ({', '.join(str(file) for file in dotenv_files())}): {error}"
        raise UsageError(message) from None


def read_variables(names: Iterable[str]) -> dict[str, str]:
    """Return the configured variables among ``names``; those not set are left out.

    Raises:
        UsageError: a ``.env`` file cannot be read.
    """
    found = sources()
    return {name: value for one in names for name, value in first_set(found, [one]).items()}


def find_origin(names: Sequence[str]) -> str:
    """Return which of ``names`` is set, and where: ``SPRITES_TOKEN in …/.env``; the first name if none is."""
    places = ["the environment", *(str(file) for file in dotenv_files() if file.is_file())]
    for place, source in zip(places, sources(), strict=True):
        if found := first_set([source], names):
            return f"{next(iter(found))} in {place}"
    return names[0]


def place_of_voyages(home: Path) -> Path:
    """Return the directory of all voyages, as an absolute path.

    Args:
        home: as it is configured; relative to the caller's directory.

    Raises:
        UsageError: its path is too long, or below the home of a user who does not exist.
    """
    if str(expand_home(home)).startswith("~"):
        raise UsageError(f"OCAPTAIN_HOME is {home}, but there is no such user; give the whole path")
    path = relative_to_caller(home)
    most = os.pathconf("/", "PC_PATH_MAX") * 3 // 4
    size = len(os.fsencode(path))
    if len(str(path)) > MAX_HOME_LENGTH or size > most:
        raise UsageError(
            f"OCAPTAIN_HOME is a path of {len(str(path))} characters ({size} bytes), which is more than"
            f" {MAX_HOME_LENGTH} ({most} bytes); choose a shorter one"
        )
    return path


def voyages_directory() -> Path:
    """Return the directory that contains one directory for each voyage, without a look at other settings.

    Raises:
        UsageError: as :func:`place_of_voyages` and :func:`read_variables`.
    """
    return place_of_voyages(Path(read_variables(["OCAPTAIN_HOME"]).get("OCAPTAIN_HOME", DEFAULT_HOME)))


def _xdg(variable: str, fallback: str) -> Path:
    given = os.environ.get(variable, "")
    return (Path(given) if given.startswith("/") else expand_home(fallback)) / "ocaptain"


def state_directory() -> Path:
    """``$XDG_STATE_HOME/ocaptain``: drydock's server record, token and sandboxes."""
    return _xdg("XDG_STATE_HOME", "~/.local/state")


def cache_directory() -> Path:
    """``$XDG_CACHE_HOME/ocaptain``: what can be made again, as drydock's base layer."""
    return _xdg("XDG_CACHE_HOME", "~/.cache")
