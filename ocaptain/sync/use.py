"""Whether mirrors by Mutagen are used on this machine, in a line for ``doctor``.

OCAPTAIN_MUTAGEN, ``mutagen version`` ──describe_use (pure)──> what brings the files of running attempts
"""

from __future__ import annotations

import asyncio

from ocaptain.sync.mutagen import MutagenError, find_binary, read_said_version
from ocaptain.sync.spec import read_version
from ocaptain.text import clean_line

BY_GIT = "files of ships come each 15 s by git"


def describe_use(setting: str, output: str | None) -> str:
    """Return what brings the files of running attempts here, and why.

    Args:
        setting: ``OCAPTAIN_MUTAGEN``: ``auto`` or ``off``.
        output: of ``mutagen version``, None if it is not installed.
    """
    if setting == "off":
        return f"switched off by OCAPTAIN_MUTAGEN: {BY_GIT}"
    if output is None:
        return f"is not installed: {BY_GIT}"
    if (version := read_version(output)) is None:
        return f"{clean_line(output, 40) or 'this version'} is not used, only 0.18 is: {BY_GIT}"
    return f"{version}: live files"


def ask_version() -> str | None:
    """Return what ``mutagen version`` prints, None if there is no such program, "" if it fails or hangs."""
    found = find_binary()
    if found is None:
        return None
    try:
        return asyncio.run(read_said_version(found))
    except MutagenError:
        return ""
