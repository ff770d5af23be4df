"""The environment of the programs that we start: what of the user's would change how they work is left out.

A shell may export settings for the user's own Ansible or Python (another callback, a strategy, warnings as errors), and
each of them may end a run that has nothing to do with them. So a run of ours gets a named few, and no other.
"""

from __future__ import annotations

import contextlib
import locale
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.paths import expand_home

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Settings of Ansible that a run of ours gets from the user: where a team's content is, and how hosts are reached.
KEPT_SETTINGS = frozenset(
    [
        *("ANSIBLE_ROLES_PATH", "ANSIBLE_COLLECTIONS_PATH", "ANSIBLE_MODULE_UTILS"),
        *("ANSIBLE_FILTER_PLUGINS", "ANSIBLE_LOOKUP_PLUGINS", "ANSIBLE_TEST_PLUGINS"),
        *("ANSIBLE_FORKS", "ANSIBLE_TIMEOUT", "ANSIBLE_REMOTE_USER", "ANSIBLE_REMOTE_PORT"),
        *("ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_PRIVATE_KEY_FILE", "ANSIBLE_CONNECTION_PASSWORD_FILE"),
        *("ANSIBLE_BECOME_METHOD", "ANSIBLE_BECOME_EXE", "ANSIBLE_BECOME_FLAGS", "ANSIBLE_BECOME_PASSWORD_FILE"),
        *("ANSIBLE_HOME", "ANSIBLE_LOCAL_TEMP"),
    ]
)
KEPT_PREFIXES = ("ANSIBLE_SSH_", "ANSIBLE_SFTP_", "ANSIBLE_SCP_", "ANSIBLE_HASHI_VAULT_")
#: Kept where there is content of the user's: it may be encrypted (otherwise a password would be asked for in vain), and
#: there may be hosts whose Python or temporary directory is elsewhere.
CONTENT_SETTINGS = frozenset(
    [
        *("ANSIBLE_VAULT_PASSWORD_FILE", "ANSIBLE_VAULT_IDENTITY_LIST"),
        *("ANSIBLE_PYTHON_INTERPRETER", "ANSIBLE_REMOTE_TMP", "ANSIBLE_REMOTE_TEMP", "ANSIBLE_PIPELINING"),
    ]
)
_NUMBERS = frozenset(["ANSIBLE_FORKS", "ANSIBLE_TIMEOUT", "ANSIBLE_REMOTE_PORT"])
_FILES = frozenset(
    [
        *("ANSIBLE_PRIVATE_KEY_FILE", "ANSIBLE_CONNECTION_PASSWORD_FILE", "ANSIBLE_BECOME_PASSWORD_FILE"),
        "ANSIBLE_VAULT_PASSWORD_FILE",
    ]
)
#: Variables of Python that a program of ours gets from the user.
KEPT_PYTHON = frozenset(
    [
        *("PYTHONPATH", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONUSERBASE", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED"),
    ]
)
#: Files that Ansible would read if we did not name ours.
CONFIGURATION_FILES = ("~/.ansible.cfg", "/etc/ansible/ansible.cfg")
#: The locales that we choose from where the user's does not do; the first two are also Python's choice.
COERCED_LOCALES = ("C.UTF-8", "C.utf8")
UTF8_LOCALES = (*COERCED_LOCALES, "en_US.UTF-8")


#: Packages that Homebrew calls otherwise than Debian.
_BREW = {"openssh-client": "openssh"}


def install_line(package: str, system: str = sys.platform) -> str:
    """Return the command that installs a package.

    Args:
        package: as Debian calls it.
        system: as ``sys.platform`` says it.
    """
    if system == "darwin":
        return f"brew install {_BREW.get(package, package)}"
    return f"apt-get install {package}"


def ignored_settings(environment: Mapping[str, str], *, has_content: bool = False) -> list[str]:
    """Return the user's variables that a run of Ansible of ours does not get, sorted.

    Args:
        environment: the user's.
        has_content: whether an inventory of the user's is read.
    """
    has_content = has_content or bool(environment.get("ANSIBLE_ROLES_PATH"))
    return sorted(
        name
        for name, value in environment.items()
        if (name.startswith("ANSIBLE_") and not _is_kept(name, value, has_content=has_content))
        or name.startswith(("AWX_", "RUNNER_OMIT_", "RUNNER_ONLY_"))
        or _is_foreign_to_python(name)
    )


def _is_kept(name: str, value: str, *, has_content: bool) -> bool:
    if name in _NUMBERS and not (value.isascii() and value.isdigit() and int(value[:9]) > 0):
        return False
    if name in _FILES and not expand_home(value).is_file():
        return False
    return name in KEPT_SETTINGS or name.startswith(KEPT_PREFIXES) or (has_content and name in CONTENT_SETTINGS)


def without_python_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what changes how Python runs a program (``PYTHONWARNINGS=error``)."""
    return {name: value for name, value in environment.items() if not _is_foreign_to_python(name)}


def _is_foreign_to_python(name: str) -> bool:
    return name.startswith("PYTHON") and name[6:].isalnum() and name[6:].isupper() and name not in KEPT_PYTHON


def is_found_by(python_path: str) -> bool:
    """Whether our own package is found by this ``PYTHONPATH``: then its entries are how we were installed."""
    own = Path(__file__).resolve().parent.parent
    return any(Path(entry).resolve() == own for entry in python_path.split(os.pathsep) if entry)


def ignore_python_settings() -> None:
    """Undo in this process what the user set for other programs.

    Warnings end nothing, and the modules of ``PYTHONPATH`` come after those that we were installed with.
    """
    if os.environ.get("PYTHONWARNINGS"):
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
    python_path = os.environ.get("PYTHONPATH", "")
    if is_found_by(python_path):
        return
    callers = {Path(entry).absolute() for entry in python_path.split(os.pathsep) if entry}
    sys.path.sort(key=lambda entry: Path(entry).absolute() in callers)  # a stable sort: nothing else moves


# -- locale --------------------------------------------------------------------------------------------


def is_usable_locale(name: str) -> bool:
    """Whether this machine has a locale. Not for several threads: the process's own locale changes meanwhile."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
    except (locale.Error, ValueError):
        return False
    finally:
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, before)
    return True


def describe_locale(environment: Mapping[str, str]) -> str:
    """Return what the user's environment sets of the locale and counts, for people: ``LC_ALL=C``."""
    names = ["LANG", *sorted(name for name in environment if name.startswith("LC_"))]
    names = ["LC_ALL"] if environment.get("LC_ALL") else names
    return ", ".join(f"{name}={environment[name]}" for name in names if environment.get(name)) or "none is set"


def choose_locale(environment: Mapping[str, str], is_usable: Callable[[str], bool] = is_usable_locale) -> str | None:
    """Return the ``LC_ALL`` with which Ansible runs, None = the user's locale does: it is UTF-8, and is there.

    Ansible refuses to run in any other one (``ansible.cli.initialize_locale``).

    Raises:
        UsageError: the machine has no locale of UTF-8.
    """
    general = environment.get("LC_ALL")
    parts = {value for name, value in environment.items() if name.startswith("LC_") and value}
    names = {general} if general else {*parts, environment.get("LANG") or "C"}
    kind = general or environment.get("LC_CTYPE") or environment.get("LANG") or "C"
    if _is_utf8(kind) and all(is_usable(name) for name in sorted(names)):
        return None
    if names == {"C"} and not general and any(is_usable(name) for name in COERCED_LOCALES):
        return None  # Python takes one of these then (PEP 538)
    for name in UTF8_LOCALES:
        if is_usable(name):
            return name
    message = f"Ansible runs only in a locale of UTF-8 ({describe_locale(environment)}), and this machine has none"
    raise UsageError(f"{message}; install one (apt-get install locales && locale-gen en_US.UTF-8)")


def _is_utf8(name: str) -> bool:
    return name.partition("@")[0].upper().replace("-", "").endswith(".UTF8")
