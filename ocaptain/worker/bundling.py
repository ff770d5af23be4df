"""Write bundles of what the captain lacks, and check them as the captain will."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO, Mapping, Sequence

from ocaptain.protocol import INLINE_BYTES, PART_BYTES
from ocaptain.protocol.git import (
    BUNDLE_PACK,
    NO_DELTAS,
    bundle_revisions,
    make_bundle_header,
    odd_objects,
    read_bundle_header,
    strict_option,
)
from ocaptain.protocol.limits import Limits
from ocaptain.protocol.messages import Bundle, Part
from ocaptain.protocol.packs import BadPack, scan_pack
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import open_regular_file, remove_path
from ocaptain.worker.unchanged import Comparison

OUT_REF = "refs/ocaptain/out"
_NO_ALTERNATES = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": ""}


class Bundling(Comparison):
    """The workspace, with bundles of its commits."""

    def _write_pack(self, base: str, commit: str, name: str, further: Sequence[str] = ()) -> Path:
        """Write a bundle of a commit with all that ``base`` does not have; return its path.

        Args:
            base: a commit that its reader has.
            commit: that it offers.
            name: of the file.
            further: revisions; ``^<tree>`` leaves out what is in a tree of a commit that is not before ``commit``.
        """
        path = self._places.outbox / f"{name}.bundle"
        with open(path, "wb") as whole:
            whole.write(make_bundle_header(commit, OUT_REF, base))
            whole.flush()
            self._git("-c", NO_DELTAS, *BUNDLE_PACK, stdin=bundle_revisions(commit, base, further), output=whole)
        return path

    def _import_pack(self, path: Path) -> None:
        """Keep a bundle's objects here: the next attempt finds its commits by their ids."""
        with open(path, "rb") as file:
            read_bundle_header(file)
            os.lseek(file.fileno(), file.tell(), os.SEEK_SET)  # git reads the descriptor, not our buffer
            self._git("index-pack", "--stdin", "--fix-thin", file=file, extra=_NO_ALTERNATES)

    def _find_bundle_problem(self, path: Path, base: str, limits: Limits, *, strict: bool) -> str:
        """Return why the captain would refuse a bundle, "" if it is valid.

        Args:
            path: of the bundle.
            base: the commit whose odd objects are forgiven, as the captain does.
            limits: of what it has.
            strict: have git look into each object: of the agent's own commits, and of files that git itself reads.
        """
        with open(path, "rb") as file:
            read_bundle_header(file)
            start = file.tell()
            try:
                scan_pack(file, start, limits)
            except BadPack as error:
                return str(error)
            if not strict:
                return ""
            problem = self._index_strictly(file, start, "")
            if problem and (odd := odd_objects(problem)):
                forgiven = {
                    entry.split()[2] for entry in self._git("ls-tree", "-r", "-t", "-z", base).split(b"\0") if entry
                }
                if all(oid.encode() in forgiven for oid in odd):
                    problem = self._index_strictly(file, start, b"\n".join(forgiven).decode())
            return problem

    def _index_strictly(self, file: BinaryIO, start: int, forgiven: str) -> str:
        """Have git look into each object of a pack; return what it refuses, "" for nothing.

        Args:
            file: with the pack.
            start: where that begins.
            forgiven: ids of objects that may be odd, one a line.
        """
        os.lseek(file.fileno(), start, os.SEEK_SET)  # git reads the descriptor, not our buffer
        quarantine = self._places.own / "proving"
        remove_path(quarantine)
        (quarantine / "pack").mkdir(parents=True)
        (quarantine / "info").mkdir()
        (quarantine / "info/alternates").write_text(f"{self._places.git}/objects\n")
        extra = {**_NO_ALTERNATES, "GIT_OBJECT_DIRECTORY": str(quarantine)}
        skip = quarantine / "forgiven"
        skip.write_text(forgiven)
        strict = strict_option(os.path.relpath(skip, self._places.workspace) if forgiven else "")
        try:
            self._git("index-pack", "--stdin", "--fix-thin", strict, file=file, extra=extra)
        except WorkspaceError as error:
            return f"git refuses it: {error}"
        finally:
            remove_path(quarantine)
        return ""

    def _split_into_parts(self, path: Path) -> Bundle:
        """Split a bundle file into parts."""
        parts = []
        with open(path, "rb") as whole:
            for number, data in enumerate(iter(lambda: whole.read(PART_BYTES), b"")):
                part = path.with_suffix(f".{number}")
                part.write_bytes(data)
                relative_path = str(part.relative_to(self._places.home))
                parts.append(Part(relative_path, len(data), hashlib.sha256(data).hexdigest()))
        path.unlink()
        return Bundle(tuple(parts), OUT_REF)


def inline_small_bundle(home: Path, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a result with a small bundle's content inside; the stored result names only its part."""
    return {
        **data,
        **{name: _inline(home, data[name]) for name in ("snapshot", "other", "artifacts") if data.get(name)},
    }


def _inline(home: Path, work: Mapping[str, Any]) -> Mapping[str, Any]:
    parts: Sequence[Any] = work["bundle"]["parts"]
    if len(parts) != 1 or parts[0]["size"] > INLINE_BYTES:
        return work
    try:
        with open_regular_file(home / parts[0]["path"]) as file:
            content = file.read(INLINE_BYTES + 1)
    except OSError:  # a repeated result, after the next attempt began: the captain will ask for the part
        return work
    return {**work, "bundle": {**work["bundle"], "data": base64.b64encode(content).decode()}}
