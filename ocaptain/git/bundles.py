"""Bundles: how objects travel, in parts with size and checksum."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ocaptain.git.run import Git, GitError
from ocaptain.protocol import PART_BYTES
from ocaptain.protocol.git import BUNDLE_PACK, bundle_revisions, make_bundle_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FSCK_SECONDS = 3600.0
BUNDLE_SECONDS = 3600.0
#: What git fsck reports for an object that is complete, but has an unusual format.
_ODD_OBJECT = re.compile(r"(error|warning) in (commit|tree|tag|blob) [0-9a-f]{40}: |Checking |notice: ")


class BadBundle(GitError):
    """A ship offered something that is not a valid bundle of the commit that it named."""


@dataclass(frozen=True)
class Part:
    """A piece of a bundle: its offset and size in bytes, and its SHA-256 in hex."""

    offset: int
    size: int
    sha256: str


def write_bundle(
    git: Git, commit: str, ref: str, have: str | None, path: Path, further: Iterable[str] = ()
) -> list[Part]:
    """Write a bundle as ``git bundle create`` does, without what ``have`` contains; return its parts.

    Args:
        git: the repository.
        commit: that it offers.
        ref: the commit's name in the bundle; it need not exist in the repository.
        have: a commit that the receiver has, None if it has nothing.
        path: of the file.
        further: ids of objects that its pack holds as well.

    Raises:
        GitError: git cannot make it.
        OSError: it cannot be read again.
    """
    with path.open("w+b") as file:
        file.write(make_bundle_header(commit, ref, have))
        file.flush()
        git.run(*BUNDLE_PACK, stdin=bundle_revisions(commit, have, further), output=file, seconds=BUNDLE_SECONDS)
        file.seek(0)
        return list(_parts(file))


def _parts(file: BinaryIO) -> Iterator[Part]:
    offset = 0
    while data := file.read(PART_BYTES):
        yield Part(offset, len(data), hashlib.sha256(data).hexdigest())
        offset += len(data)


def write_proven_bundle(git: Git, refs: Mapping[str, str], path: Path) -> None:
    """Write a complete bundle of ``refs``, and prove by a clone of it that nothing is missing.

    Args:
        git: the repository.
        refs: names, and the commits that they must hold.
        path: of the bundle; it is written only if the proof succeeded.

    Raises:
        GitError: the repository or the bundle is damaged.
    """
    with tempfile.TemporaryDirectory(prefix=".proof-", dir=path.parent) as proving:
        made, clone = Path(proving) / "bundle", Path(proving) / "clone.git"
        names = "\n".join(refs).encode()
        git.run("bundle", "create", "--quiet", str(made), "--stdin", stdin=names, seconds=FSCK_SECONDS)
        unchecked = ("-c", "transfer.fsckObjects=false", "-c", "fetch.fsckObjects=false")  # see fsck
        arguments = ("clone", "--quiet", "--mirror", "--template=", "--", str(made), str(clone))
        Git(Path(proving)).run(*unchecked, *arguments, seconds=FSCK_SECONDS)
        proof = Git(clone)
        fsck(proof)
        for ref, commit in refs.items():
            if (found := proof.resolve(ref)) != commit:
                raise GitError(
                    f"the rescue bundle of {git.directory} failed its proof: a clone has {found or 'nothing'} "
                    f"as {ref}, not {commit}; the repository or the bundle is damaged"
                )
        made.rename(path)


def fsck(git: Git) -> None:
    """Prove that all objects of a repository are complete and none is missing.

    Unusual formats of the user's own old commits (a missing space before an address) do not count as
    damage: objects from ships were checked strictly when they came.

    Raises:
        GitError: something is damaged or missing; says what git found.
    """
    done = git.run("fsck", "--full", "--no-dangling", "--no-progress", ok=tuple(range(64)), seconds=FSCK_SECONDS)
    lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
    damage = [line for line in lines if line and not _ODD_OBJECT.match(line)]
    if done.returncode and (damage or not lines):
        raise GitError(f"git fsck found damage in {git.directory}: {'; '.join(damage)[-2000:]}")
