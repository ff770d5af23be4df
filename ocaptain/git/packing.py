"""Keep a repository as fast after hundreds of landings as at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocaptain.git.run import Git

MAX_PACKS = 20
MAX_LOOSE = 400


def pack(git: Git) -> bool:
    """Join small packs, loose objects and loose refs if there are many; return whether it did.

    It repacks geometrically: a large pack is not written again. Concurrent readers find the objects in
    the new pack. git does not do this by itself in a repository that is only written by plumbing.

    Raises:
        GitError: git failed; nothing is lost.
    """
    objects = git.directory / "objects"
    packs = sum(1 for _ in (objects / "pack").glob("*.pack"))
    loose = sum(1 for _ in objects.glob("[0-9a-f][0-9a-f]/*"))
    if packs <= MAX_PACKS and loose <= MAX_LOOSE:
        return False
    git.run("repack", "--quiet", "--geometric=2", "-d")
    git.run("pack-refs", "--all")
    return True
