"""Call git safely on untrusted repositories, and read and write bundle headers. Standard library only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO, Iterable, List, Optional

#: Settings with which nothing in a repository or a user's configuration is executed or changes a command.
SAFE_SETTINGS = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.quotePath=false", "gc.auto=0")
#: Computing deltas of large files takes minutes and rarely helps. Only for commands that write packs: in merges
#: git treats files above this size as binary.
NO_DELTAS = "core.bigFileThreshold=8m"

#: The command that writes a bundle's pack; it reads :func:`bundle_revisions`.
BUNDLE_PACK = ("pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
SIGNATURES = frozenset({b"# v2 git bundle", b"# v3 git bundle"})
MAX_HEADER_LINE = 4096
MAX_HEADER_LINES = 256


#: How git index-pack names an object that it finds odd.
_ODD_OBJECT = re.compile(r"(?:error|warning): object ([0-9a-f]{40}): ")


def odd_objects(errors: str) -> list[str]:
    """Return the ids of the objects that ``git index-pack --strict`` refused, by its error output."""
    return _ODD_OBJECT.findall(errors)


def strict_option(forgiven: str = "") -> str:
    """Return the option of ``git index-pack`` that has it look into each object.

    Args:
        forgiven: path of a file with the ids of objects that may be odd, "" for none; without spaces and commas.
    """
    return f"--strict=skiplist={forgiven}" if forgiven else "--strict"


def git_argv(*settings: str) -> list[str]:
    """Return the start of a git command line: ``git`` with the safe settings and further ``settings``."""
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


def bundle_revisions(commit: str, prerequisite: str | None, further: Iterable[str] = ()) -> bytes:
    """Return the input of :data:`BUNDLE_PACK`: the revisions, and further objects, that the pack must contain."""
    lines = [commit, *([f"^{prerequisite}"] if prerequisite else []), *further]
    return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True)
class BundleHeader:
    """The header of a bundle.

    Attributes:
        prerequisites: commits that its reader must have.
        tips: commits that it offers.
    """

    prerequisites: List[str]
    tips: List[str]


def read_bundle_header(file: BinaryIO) -> Optional[BundleHeader]:
    """Read a bundle's header and leave ``file`` at the start of the pack; return None if it is no bundle.

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
