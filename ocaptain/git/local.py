"""What lands of a commit of the user's: its author and message on another tree and parent. Bytes in, bytes out.

A commit object is read and written as git stores it (gitformat: header lines, an empty line, the message), so that
author, date and a message in any encoding stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ocaptain.git.landing import OWN_TRAILERS
from ocaptain.git.run import IDENTITY

_FORGED = re.compile(rb"\s*(" + "|".join(OWN_TRAILERS).encode() + rb")\s*:", re.IGNORECASE)
_TRAILER = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]*\s*:\s*\S")
OURS = b"Ship: local\n"


class BadCommit(ValueError):
    """It is no commit that can land."""


@dataclass(frozen=True)
class RawCommit:
    """A commit as the user made it.

    Attributes:
        tree: its id.
        parents: their ids.
        author: name, address, time and zone, as git stores them.
        encoding: of the message, empty if none is named.
        message: all of it.
    """

    tree: str
    parents: tuple[str, ...]
    author: bytes
    encoding: bytes
    message: bytes

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.lstrip(b"\n").partition(b"\n")[0].decode(errors="replace")


def parse_commit(data: bytes) -> RawCommit:
    """Parse a commit object.

    Raises:
        BadCommit: a header is missing.
    """
    header, _, message = data.partition(b"\n\n")
    found: dict[bytes, list[bytes]] = {}
    for line in header.split(b"\n"):
        name, _, value = line.partition(b" ")
        if name:  # a line that begins with a space belongs to the one before it, a signature
            found.setdefault(name, []).append(value)
    try:
        (tree,), (author,) = found[b"tree"], found[b"author"]
        parents = tuple(one.decode("ascii") for one in found.get(b"parent", ()))
        return RawCommit(tree.decode("ascii"), parents, author, b"".join(found.get(b"encoding", [])[:1]), message)
    except (KeyError, ValueError) as error:
        raise BadCommit("a commit cannot be read") from error


def landed_commit(made: RawCommit, tree: str, parent: str, at: int) -> bytes:
    """Return the commit object that lands.

    Args:
        made: as the user made it.
        tree: that lands.
        parent: the commit below it.
        at: the time of landing, Unix seconds.
    """
    committer = f"{IDENTITY[0]} <{IDENTITY[1]}> {at} +0000".encode()
    lines = [b"tree " + tree.encode(), b"parent " + parent.encode(), b"author " + made.author]
    lines.append(b"committer " + committer)
    if made.encoding:
        lines.append(b"encoding " + made.encoding)
    return b"\n".join(lines) + b"\n\n" + local_message(made.message)


def local_message(message: bytes) -> bytes:
    """Return a message with ``Ship: local`` as its last trailer, and without lines that look like trailers of ours."""
    subject, _, rest = message.lstrip(b"\n").partition(b"\n")
    body = b"\n".join(line for line in rest.split(b"\n") if not _FORGED.match(line)).strip(b"\n")
    if not body.strip():
        return subject + b"\n\n" + OURS
    last = body.rpartition(b"\n\n")[2].split(b"\n")
    joined = b"\n" if all(_TRAILER.match(line) for line in last) else b"\n\n"
    return subject + b"\n\n" + body + joined + OURS
