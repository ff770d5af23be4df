"""Start programs in the background, without a terminal; tune their garbage collection."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.environment import without_python_settings

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

# Variables that ansible-runner sets for its Ansible process. A program that Ansible starts in the
# background must not inherit them.
_RUNNER_PREFIXES = (
    "AWX_",
    "RUNNER_",
    "ANSIBLE_CALLBACK_PLUGINS",
    "ANSIBLE_STDOUT_CALLBACK",
    "ANSIBLE_RETRY_FILES_ENABLED",
)


def reduce_garbage_collection() -> None:
    """Exclude all current objects from garbage collection, and collect fifty times less often.

    Imported modules live until the end; without this the collector would scan them again and again.
    """
    gc.freeze()
    gc.set_threshold(35_000, 10, 10)


def background_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a background program, made from ``environ``.

    It imports the same ocaptain, even if only this process knows where that is.
    """
    kept = {
        name: value for name, value in without_python_settings(environ).items() if not name.startswith(_RUNNER_PREFIXES)
    }
    python_path = [
        entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry and "ansible_runner" not in entry
    ]
    root = str(Path(__file__).resolve().parent.parent)
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys([root, *python_path]))}


def dying_with_us(argv: Sequence[str], parent: int | None = None) -> list[str]:
    """Return a command that is killed when this process ends, however that ends. Linux only.

    The signal alone (``PR_SET_PDEATHSIG``, prctl(2)) would not do: a parent that is killed before the command has
    asked for it is missed, for ever. So the command looks once more, after it has asked, whose child it is.

    Args:
        argv: the command.
        parent: process that will start it, None = this one.
    """
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("/bin/sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(parent or os.getpid())),
        *argv,
    ]


def start_module(
    module: str, arguments: Sequence[str], log: Path, *, keep: int | None = None
) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` in a new session; append its output to ``log``.

    Args:
        module: its name.
        arguments: of the module.
        log: a file.
        keep: a file descriptor that it inherits, for the lock that comes with it.
    """
    import subprocess  # noqa: PLC0415 - each command imports this module, few start anything

    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            pass_fds=() if keep is None else (keep,),
            env=background_environment(os.environ),
        )
