"""What all of our programs do alike: start in the background, off any terminal; seldom look for garbage."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What ansible-runner tells the Ansible that it starts; a program that Ansible starts in the
# background is none of its run.
_RUNNER_PREFIXES = (
    "AWX_",
    "RUNNER_",
    "ANSIBLE_CALLBACK_PLUGINS",
    "ANSIBLE_STDOUT_CALLBACK",
    "ANSIBLE_RETRY_FILES_ENABLED",
)


def reduce_garbage_collection() -> None:
    """Let this process's collector leave alone what is there now, and look for garbage a fiftieth as often.

    What is imported stays until the end; Python's collector walks over it again and again meanwhile.
    """
    gc.freeze()
    gc.set_threshold(35_000, 10, 10)


def background_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a background program, from our own.

    The same ocaptain is found, also where only this process knows its place.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith(_RUNNER_PREFIXES)}
    python_path = [
        entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry and "ansible_runner" not in entry
    ]
    root = str(Path(__file__).resolve().parent.parent)
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys([root, *python_path]))}


def start_module(module: str, arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start ``python -m module`` in a session of its own; what it says goes to the end of ``log``."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            env=background_environment(os.environ),
        )
