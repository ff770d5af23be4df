"""Quarantine: a ship's objects are unpacked and checked apart, and move into the repository only as a whole.

::

    bundle ──header──> pack ──scan: sizes, numbers──> index-pack --strict, bounded, into incoming/<n>/objects
           ──its tree beside the base's: names, paths, sizes, numbers──> rename into objects/pack
           ──anything else──> incoming/<n> is removed, and nothing was anywhere else

``incoming/<n>/objects`` is an object directory whose alternate is the repository's, as ``git receive-pack`` has it.
Every pack that was moved in had all its links (``--strict``), so every object that the repository refers to exists,
and a new commit needs no walk through the whole repository.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pygit2
from pygit2.enums import ObjectType

from ocaptain.git.bundles import BadBundle
from ocaptain.git.run import Bounds, Git, GitError, GitLimitExceeded, GitTimeout
from ocaptain.git.trees import FOLDER, BadTree, compare_trees, parse_tree
from ocaptain.protocol.git import odd_objects, read_bundle_header, strict_option
from ocaptain.protocol.limits import MAX_COMMIT, MAX_DELTA, MEBIBYTE, Limits
from ocaptain.protocol.packs import MAX_CHAIN, TREE, BadPack, Pack, PackedObject, scan_pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

INCOMING = "incoming"
INDEX_SECONDS = 120.0
INDEX_PROCESSOR_SECONDS = 60
SMALL_PROCESSOR_SECONDS = 1  # then it is treated as a large one
MEMORY = 208 * MEBIBYTE  # the largest delta, what it is made from, its result, and git's own
MAX_READ = 256 * MEBIBYTE  # bytes that are unpacked to read one tree, with the deltas that it is made of
MAX_READS = 32 * MAX_READ  # for all trees of a pack
MAX_FORGIVEN = 8  # odd objects of the user's own that a pack may hold; git names one at a time
ALTERNATE = "../../../objects\n"
#: Errors of git that this machine caused, not the pack.
_OURS = re.compile(r"No space left on device|Disk quota exceeded|Input/output error|Too many open files|Read-only file")
#: Errors of git that only the pack itself can cause; others may come from a damaged repository.
_PACKS_OWN = re.compile(r"fsck error in pack|fatal: invalid (commit|tree|tag)|SHA1 mismatch|fatal: pack has bad object")


class BundleRefused(BadBundle):
    """A ship's bundle is beyond the limits, or has files that not every ship can check out."""


class TooLarge(Exception):
    """A ship's bundle is larger than what is handled now as small, which is no fault."""


def admit_bundle(
    git: Git,
    file: BinaryIO,
    commit: str,
    base: str | None = None,
    limits: Limits | None = None,
    small: int | None = None,
) -> None:
    """Add the objects of a bundle to the repository if they pass all checks; no ref is changed.

    Args:
        git: the repository.
        file: of the bundle, unbuffered: git reads the pack from its descriptor.
        commit: the only commit that it may offer.
        base: the commit that the work started from, None if it has none.
        limits: for what is new against that.
        small: maximum size in bytes, unpacked, None for no maximum.

    Raises:
        TooLarge: it is larger than ``small``.
        BadBundle: it is not a bundle, or does not hold ``commit``; nothing of it is stored.
        BundleRefused: it is beyond the limits.
        GitError: our own repository or disk failed.
    """
    limits = limits or Limits()
    with os.fdopen(os.dup(file.fileno()), "rb") as header:
        header.seek(0)
        found = read_bundle_header(header)
        start = header.tell()
    if found is None:
        raise BadBundle("what was offered is not a git bundle")
    if found.tips != [commit]:
        raise BadBundle(f"the bundle contains {found.tips[:10]}, but commit {commit} was offered")
    try:
        pack = scan_pack(file, start, limits, small)
        if pack is None:
            raise TooLarge
        with _quarantine(git) as objects:
            _index(git, file, start, objects, limits, small=small is not None)
            _Inspector(objects, pack).check(commit, base, limits)
            _move_in(objects / "pack", git.directory / "objects" / "pack")
    except (BadPack, BadTree) as error:
        raise BundleRefused(f"the offered work is refused: {error}") from error


def clear_quarantine(git: Git) -> None:
    """Remove what a killed captain left in quarantine; the caller is in command of the voyage."""
    shutil.rmtree(git.directory / INCOMING, ignore_errors=True)


@contextmanager
def _quarantine(git: Git) -> Iterator[Path]:
    """Yield a new object directory, which is removed afterwards."""
    incoming = git.directory / INCOMING
    try:
        incoming.mkdir(mode=0o700, exist_ok=True)
        room = Path(tempfile.mkdtemp(dir=incoming))
    except OSError as error:
        raise GitError(f"{incoming}: a ship's bundle cannot be stored: {error.strerror}") from error
    try:
        objects = room / "objects"
        for part in ("pack", "info"):
            (objects / part).mkdir(parents=True)
        (objects / "info/alternates").write_text(ALTERNATE)
        yield objects
    except OSError as error:
        raise GitError(f"{room}: a ship's bundle cannot be checked: {error.strerror}") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _index(git: Git, file: BinaryIO, start: int, objects: Path, limits: Limits, *, small: bool) -> None:
    """Have git unpack, check and index a pack: objects, links, and file names that are not allowed.

    Odd objects that the repository has already are forgiven: they are the user's own, and a pack may hold them again,
    or a folder with them. What is new is checked strictly.

    Raises:
        TooLarge: a small one takes longer than is normal for its size.
        BadBundle: git found it damaged.
        GitError: this machine or the repository failed.
    """
    forgiven: list[str] = []
    while True:
        file.seek(start)
        try:
            _index_once(git, file, objects, limits, forgiven, small=small)
        except (GitTimeout, GitLimitExceeded) as error:
            if small:
                raise TooLarge from error
            raise BundleRefused(f"the bundle is refused: {error.message}") from error
        except GitError as error:
            if _OURS.search(error.message):
                raise
            odd = set(odd_objects(error.message)) - set(forgiven)
            if odd and len(forgiven) < MAX_FORGIVEN and _has_all(git, odd):
                forgiven += sorted(odd)
                for path in (objects / "pack").iterdir():  # what it had begun to write
                    path.unlink()
                continue
            kind = BundleRefused if _PACKS_OWN.search(error.message) else BadBundle
            raise kind(f"the bundle is refused: {error.message}") from error
        return


def _index_once(
    git: Git, file: BinaryIO, objects: Path, limits: Limits, forgiven: Sequence[str], *, small: bool
) -> None:
    max_bytes = limits.pack_bytes + MAX_DELTA
    # git adds the bases of deltas to the pack, so the file may be larger.
    bounds = Bounds(MEMORY, 2 * max_bytes, SMALL_PROCESSOR_SECONDS if small else INDEX_PROCESSOR_SECONDS)
    skip = objects.parent / "forgiven"
    skip.write_text("".join(f"{oid}\n" for oid in forgiven))
    strict = strict_option(str(skip.relative_to(git.directory)) if forgiven else "")
    git.run(
        *("index-pack", "--stdin", "--fix-thin", strict, f"--max-input-size={max_bytes}"),
        file=file,
        seconds=INDEX_SECONDS,
        extra={"GIT_OBJECT_DIRECTORY": str(objects)},
        bounds=bounds,
    )


def _has_all(git: Git, oids: Iterable[str]) -> bool:
    """Whether the repository has objects, apart from those in quarantine."""
    odb = pygit2.Odb(str(git.directory / "objects"))
    return all(pygit2.Oid(hex=oid) in odb for oid in oids)


def _move_in(source: Path, target: Path) -> None:
    """Move a pack; its index comes last, since git uses a pack once it has an index."""
    target.mkdir(exist_ok=True)
    for path in sorted(source.iterdir(), key=lambda path: path.suffix == ".idx"):
        path.replace(target / path.name)


class _Inspector:
    """Checks the objects in quarantine, with the repository's own objects behind them.

    The scan has listed the pack's objects. Of these only trees and one commit are read, and only if unpacking them
    is within limits.
    """

    def __init__(self, objects: Path, pack: Pack) -> None:
        self._objects = objects
        self._odb = pygit2.Odb(str(objects))
        self._by_offset = {one.offset: one for one in pack.objects}
        self._read = 0

    @cached_property
    def _packed(self) -> dict[str, PackedObject]:
        """The pack's objects by id, without those that git added to it from the repository."""
        (index,) = (self._objects / "pack").glob("*.idx")
        return {oid: self._by_offset[at] for oid, at in _offsets(index.read_bytes()) if at in self._by_offset}

    def check(self, commit: str, base: str | None, limits: Limits) -> None:
        """Check a commit against its base and the limits.

        Raises:
            BadTree, BadBundle: it may not land.
        """
        new = self._tree_of(commit)
        old = self._tree_of(base) if base else None
        compare_trees(self, new, old, limits)
        self._check_depths(limits)

    def _check_depths(self, limits: Limits) -> None:
        """Limit the depth of folders in all commits of the pack, which include the agent's own history."""
        trees = [oid for oid, one in self._packed.items() if self._kind(one) == TREE]
        if len(trees) <= limits.depth:
            return
        below = {
            oid: [one.oid for one in parse_tree(self.tree_bytes(oid)).values() if one.mode == FOLDER] for oid in trees
        }
        waits = {oid: sum(one in below for one in children) for oid, children in below.items()}
        above: dict[str, list[str]] = {}
        for oid, children in below.items():
            for one in children:
                above.setdefault(one, []).append(oid)
        heights = dict.fromkeys(below, 1)
        ready = [oid for oid, count in waits.items() if not count]
        while ready:
            oid = ready.pop()
            if heights[oid] > limits.depth:
                raise BadTree(f"its history has folders of more than {limits.depth} levels (depth)")
            for one in above.get(oid, ()):
                heights[one] = max(heights[one], heights[oid] + 1)
                waits[one] -= 1
                if not waits[one]:
                    ready.append(one)

    # -- objects ------------------------------------------------------------------------------

    def tree_bytes(self, oid: str) -> bytes:
        """Return a tree's bytes."""
        return self._bytes(oid, ObjectType.TREE)

    def file_size(self, oid: str) -> int:
        """Return a file's size in bytes."""
        if one := self._packed.get(oid):
            return one.size
        try:
            return int(self._odb.read_header(pygit2.Oid(hex=oid))[1])
        except KeyError as error:
            raise BadTree(f"its file {oid} is missing") from error

    def _tree_of(self, commit: str) -> str:
        text = self._bytes(commit, ObjectType.COMMIT)
        found = re.match(rb"tree ([0-9a-f]{40})\n", text)
        if not found:
            raise BadBundle(f"the bundle does not hold commit {commit}")
        return found[1].decode()

    def _bytes(self, oid: str, kind: ObjectType) -> bytes:
        one = self._packed.get(oid)
        if one:
            cost = self._cost(one)
            self._read += cost
            if cost > MAX_READ or self._read > MAX_READS or (kind == ObjectType.COMMIT and one.size > MAX_COMMIT):
                raise BadTree("its folders are too large to be read, once unpacked")
        try:
            found, data = self._odb.read(pygit2.Oid(hex=oid))
        except KeyError as error:
            raise BadBundle(f"the bundle does not hold {oid}") from error
        except (pygit2.GitError, ValueError) as error:
            raise GitError(f"{self._objects}: {oid}: {error}") from error
        if found != kind:
            raise BadBundle(f"the bundle does not hold {oid} as a {kind.name.lower()}")
        return bytes(data)

    def _chain(self, one: PackedObject) -> list[PackedObject]:
        """Return an object and its chain of delta bases in the pack."""
        found = [one]
        while one.base is not None:
            below = self._by_offset.get(one.base) if isinstance(one.base, int) else self._packed.get(one.base)
            if below is None:
                break
            found.append(one := below)
            if len(found) > MAX_CHAIN:
                raise BadTree(f"it has a chain of more than {MAX_CHAIN} deltas")
        return found

    def _cost(self, one: PackedObject) -> int:
        """Return how many bytes must be unpacked to read an object."""
        return sum(each.size + each.base_size for each in self._chain(one))

    def _kind(self, one: PackedObject) -> int:
        """Return an object's type."""
        last = self._chain(one)[-1]
        if last.base is None:
            return last.kind
        try:
            kind, _ = self._odb.read_header(pygit2.Oid(hex=str(last.base)))
        except KeyError as error:
            raise BadTree(f"the base of a delta is missing: {last.base}") from error
        return int(kind)


def _offsets(index: bytes) -> Iterator[tuple[str, int]]:
    """Yield the ids and offsets of the objects in a pack's index (version 2)."""
    count = int.from_bytes(index[8 + 255 * 4 : 8 + 256 * 4], "big")
    names = 8 + 256 * 4
    offsets = names + count * 24
    for number in range(count):
        at = int.from_bytes(index[offsets + 4 * number : offsets + 4 * number + 4], "big")
        if at < 2**31:  # no pack of ours is larger
            yield index[names + 20 * number : names + 20 * number + 20].hex(), at
