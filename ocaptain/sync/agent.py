"""Mutagen's agent: the program that it runs on a ship, from the bundle that lies beside its own.

It goes to a ship once, before the first session: then Mutagen does not ask what the ship is, and sends nothing itself.
Source of its place and modes: Mutagen 0.18.1, ``~/.mutagen/agents/VERSION/mutagen-agent`` and its folders, mode 0700.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = "mutagen-agents.tar.gz"
MAX_AGENT = 64 * 1024 * 1024
#: What ``uname -m`` says on a ship, with the agent's name in the bundle.
_MACHINES = {"x86_64": "linux_amd64", "aarch64": "linux_arm64", "arm64": "linux_arm64"}


def find_bundle(binary: Path) -> Path | None:
    """Return the bundle of a Mutagen: beside it, or in ``../libexec`` if it is in a folder ``bin``; None if neither."""
    real = binary.resolve()
    places = [real.parent, *([real.parent.parent / "libexec"] if real.parent.name == "bin" else [])]
    return next((place / BUNDLE for place in places if (place / BUNDLE).is_file()), None)


def agent_path(version: str) -> str:
    """Return the agent's place, below a ship's home."""
    return f".mutagen/agents/{version}/mutagen-agent"


def probe_argv(version: str) -> list[str]:
    """Return the command that says whether a ship has the agent (``there``), or what machine it is.

    It makes the folders with the modes that Mutagen gives them.
    """
    path = agent_path(version)
    folder = path.rpartition("/")[0]
    script = 'if [ -x "$1" ]; then echo there; else umask 077; mkdir -p -- "$2" && uname -m; fi'
    return ["sh", "-c", script, "sh", path, folder]


def read_agent(bundle: Path, machine: str) -> bytes | None:
    """Return the agent for a machine, None if the bundle has none for it.

    Args:
        bundle: the user's own.
        machine: as ``uname -m`` says it.

    Raises:
        OSError: the bundle cannot be read, or is damaged.
    """
    name = _MACHINES.get(machine)
    try:
        with tarfile.open(bundle, "r:*") as archive:
            for member in archive if name else ():
                if member.name.removeprefix("./") == name and member.isfile() and member.size <= MAX_AGENT:
                    file = archive.extractfile(member)
                    return file.read() if file else None
    except (tarfile.TarError, EOFError) as error:
        raise OSError(f"{bundle} cannot be read: {error}") from error
    return None
