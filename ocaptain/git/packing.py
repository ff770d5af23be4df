"""Keep a repository as fast after hundreds of landings as at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocaptain.git.run import Git

MIN_WASTE = 32 * 2**20  # bytes of objects that no ref reaches; less is left
PRUNE_SECONDS = 3600.0
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


def drop_unreachable(git: Git) -> bool:
    """Remove the objects that no ref reaches, if they take much room; return whether it did.

    The files of running attempts leave them: each version that was fetched is replaced by the next one. :func:`pack`
    keeps them, since an object may be on its way to its ref. So nobody else may write into the repository meanwhile.

    Raises:
        GitError: git failed; nothing that a ref reaches is lost.
    """
    if any((git.directory / "objects/pack").glob("*.promisor")):
        return False  # a partial clone: to walk it would fetch what it lacks
    lines = (line.split(": ") for line in git.text("count-objects", "-v").splitlines())
    counted = {name: int(value) for name, value in lines if value.isdigit()}
    used = (counted["size"] + counted["size-pack"]) * 1024
    if used < MIN_WASTE:
        return False
    walk = git.run("rev-list", "--disk-usage", "--objects", "--all", seconds=PRUNE_SECONDS)
    reached = int(walk.stdout)
    if used - reached < max(MIN_WASTE, reached // 4):
        return False
    git.run("repack", "--quiet", "-a", "-d", "-l", seconds=PRUNE_SECONDS)
    git.run("prune", "--expire=now", seconds=PRUNE_SECONDS)
    return True
