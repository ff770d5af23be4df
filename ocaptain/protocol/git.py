"""How git is called wherever others wrote what it reads. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO, List, Optional

#: Nothing that lies in a repository or in its user's configuration is run or changes what a command does.
SAFE_SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.quotePath=false", "gc.auto=0")
#: To look for what two large files have in common takes minutes, and rarely finds any. Only for commands that write
#: packs: git takes files above this size for binary ones when it merges.
NO_DELTAS = "core.bigFileThreshold=8m"

#: The command that writes a bundle's pack; it reads :func:`bundle_revisions`.
BUNDLE_PACK = ("pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
SIGNATURES = frozenset({b"# v2 git bundle", b"# v3 git bundle"})
MAX_HEADER_LINE = 4096
MAX_HEADER_LINES = 256


def git_argv(*settings: str) -> list[str]:
    """Return the beginning of a git command with the safe settings, and more of them."""
    return ["git", *(word for setting in (*SAFE_SETTINGS, *settings) for word in ("-c", setting))]


def make_bundle_header(commit: str, ref: str, prerequisite: str | None) -> bytes:
    """Return the header of a bundle of ``commit``; the pack is to follow it.

    Args:
        commit: that it offers.
        ref: what that is called in it.
        prerequisite: commit that its reader must have, None for none.
    """
    prerequisite_line = f"-{prerequisite} \n" if prerequisite else ""
    return f"# v2 git bundle\n{prerequisite_line}{commit} {ref}\n\n".encode()


def bundle_revisions(commit: str, prerequisite: str | None) -> bytes:
    """Return what :data:`BUNDLE_PACK` reads: what the pack is to hold."""
    return f"{commit}\n^{prerequisite}\n".encode() if prerequisite else f"{commit}\n".encode()


@dataclass(frozen=True)
class BundleHeader:
    """What a bundle says of itself.

    Attributes:
        prerequisites: commits that its reader must have.
        tips: commits that it offers.
    """

    prerequisites: List[str]
    tips: List[str]


def read_bundle_header(file: BinaryIO) -> Optional[BundleHeader]:
    """Return a bundle's header, None if it is no bundle; ``file`` then stands where the pack begins.

    The header is text, as gitformat-bundle says: a signature, capabilities (``@``, version 3), prerequisites
    (``-<id> <comment>``), tips (``<id> <ref>``), an empty line.
    """
    if file.readline(MAX_HEADER_LINE).rstrip(b"\n") not in SIGNATURES:
        return None
    header = BundleHeader([], [])
    for _ in range(MAX_HEADER_LINES):
        line = file.readline(MAX_HEADER_LINE)
        if line == b"\n":
            return header
        if found := re.match(rb"(-?)([0-9a-f]{40})[ \n]", line):
            (header.prerequisites if found[1] else header.tips).append(found[2].decode())
        elif line[:1] != b"@":
            return None
    return None
