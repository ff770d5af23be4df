"""Starting one of our own programs in the background, off any terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What ansible-runner tells the Ansible that it starts; a program that Ansible starts in the
# background is none of its run.
_RUNNERS = ("AWX_", "RUNNER_", "ANSIBLE_CALLBACK_PLUGINS", "ANSIBLE_STDOUT_CALLBACK", "ANSIBLE_RETRY_FILES_ENABLED")


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a background program, from our own.

    The same ocaptain is found, also where only this process knows its place.
    """
    kept = {name: value for name, value in own.items() if not name.startswith(_RUNNERS)}
    places = [entry for entry in own.get("PYTHONPATH", "").split(os.pathsep) if entry and "ansible_runner" not in entry]
    root = str(Path(__file__).resolve().parent.parent)
    return {**kept, "PYTHONPATH": os.pathsep.join(dict.fromkeys([root, *places]))}


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
            env=environment(os.environ),
        )
