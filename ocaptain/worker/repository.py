"""The worker's own git directory: how git is called there, and how commits come into it.

It is separate from the workspace (``.ocaptain/git``), so nothing that an agent does to ``workspace/.git`` matters.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, BinaryIO, Mapping, Sequence

from ocaptain.protocol.files import write_atomic
from ocaptain.protocol.git import NO_DELTAS, git_argv, read_bundle_header
from ocaptain.protocol.messages import Bundle, Part, SavedWork
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import Places

GIT_SECONDS = 600
UNPACK_LIMIT = 100  # objects; git's own limit for a fetch
HEAD_REF = "refs/ocaptain/head"
START_REFS = "ocaptain-start-refs"  # in the format of packed-refs
GIVEN = "ocaptain-given"  # commit and ref of a lost attempt's work that the agent has as a reference
IGNORE_PATTERNS = [
    "node_modules/",
    ".venv/",
    "venv/",
    "__pycache__/",
    "*.pyc",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".tox/",
    ".nox/",
    ".cache/",
    ".npm/",
    ".gradle/",
    "target/debug/",
    "target/release/",
    ".DS_Store",
    "*.swp",
    ".ansible/",
    ".hypothesis/",
]

#: More packs or loose objects than this are repacked.
MAX_PACKS = 20
MAX_LOOSE = 2000


class Repository:
    """The worker's git directory.

    Args:
        places: the ship's directories.
        ship: id of the ship, for commits.
    """

    def __init__(self, places: Places, ship: str = "ship") -> None:
        self._places = places
        self._ship = ship

    #: Object directories of an agent's that are read as well, and until when git may take (monotonic seconds).
    _alternates = ""
    _until: float | None = None

    def _git(
        self,
        *arguments: str,
        stdin: bytes = b"",
        file: BinaryIO | None = None,
        output: BinaryIO | None = None,
        check: bool = True,
        extra: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run git; its input is ``stdin``, or ``file`` from the position of its descriptor.

        Returns:
            Its output; b"" if that went to ``output``.

        Raises:
            WorkspaceError: ``git``: it failed, and ``check`` is true.
        """
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._places.own),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_DIR": str(self._places.git),
            "GIT_WORK_TREE": str(self._places.workspace),
            "GIT_AUTHOR_NAME": self._ship,
            "GIT_AUTHOR_EMAIL": f"{self._ship}@ocaptain.invalid",
            "GIT_COMMITTER_NAME": self._ship,
            "GIT_COMMITTER_EMAIL": f"{self._ship}@ocaptain.invalid",
            **(self._reading_agents_objects() if self._alternates else {}),
            **(extra or {}),
        }
        seconds = GIT_SECONDS if self._until is None else max(0.1, self._until - time.monotonic())
        argv = git_argv("advice.addEmbeddedRepo=false", "safe.directory=*")
        done = self._run(
            [*argv, *arguments],
            None if file else stdin,
            seconds,
            **({"stdin": file} if file else {}),
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._places.workspace,
            env=environment,
        )
        if check and done.returncode:
            stderr = done.stderr.decode(errors="replace").strip()[-1000:]
            raise WorkspaceError("git", f"git {arguments[0]} failed ({done.returncode}): {stderr}")
        return done.stdout or b""

    def _run(
        self, argv: Sequence[str], data: bytes | None, seconds: float, **more: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a process to its end.

        Args:
            argv: its command line.
            data: its input; None = ``more`` names a file.
            seconds: that it may take.
            more: for :func:`subprocess.run`.
        """
        source: Mapping[str, Any] = {} if data is None else {"input": data}
        done: "subprocess.CompletedProcess[bytes]" = subprocess.run(
            argv, **source, **more, timeout=seconds, check=False
        )
        return done

    def _reading_agents_objects(self) -> Mapping[str, str]:
        return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": self._alternates, "GIT_NO_REPLACE_OBJECTS": "1"}

    def _succeeds(self, *arguments: str) -> bool:
        """Run git; return whether it succeeded."""
        try:
            self._git(*arguments)
        except WorkspaceError:
            return False
        return True

    def has_commit(self, commit: str) -> bool:
        """Return whether ``commit`` is in the git directory."""
        done = self._git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}", check=False)
        return done.strip().decode() == commit

    def initialize(self) -> None:
        """Make the worker's git directory if it is missing."""
        self._places.make()
        if not (self._places.git / "HEAD").exists():
            self._git("init", "--quiet")
        exclude = self._places.git / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text("\n".join(IGNORE_PATTERNS) + "\n")

    def import_commit(self, bundle: Bundle | None, commit: str) -> None:
        """Import ``commit`` from ``bundle``; without a bundle the commit must be present.

        Raises:
            WorkspaceError: ``need_full``: commits are missing on this ship; ``damaged``: size or
                checksum of a part is wrong.
        """
        self.initialize()
        if bundle is None:
            if not self._is_head(commit) and not self.has_commit(commit):
                raise WorkspaceError("need_full", f"commit {commit} is not on this ship")
            return
        self._import_bundle(bundle, commit)
        self._write_ref(HEAD_REF, commit)

    def import_saved(self, saved: SavedWork | None) -> None:
        """Import the work of a lost attempt, if there is any, as a reference; the one before is forgotten.

        Raises:
            WorkspaceError: ``saved``: it cannot be taken.
        """
        given = self._places.git / GIVEN
        given.unlink(missing_ok=True)
        if saved is None:
            return
        try:
            if not self.has_commit(saved.commit):
                self._import_bundle(saved.bundle, saved.commit)
            self._write_ref(saved.ref, saved.commit)
        except (WorkspaceError, ValueError) as error:
            raise WorkspaceError("saved", f"what a lost attempt left cannot be taken: {error}") from error
        given.write_text(f"{saved.commit} {saved.ref}\n")

    def _read_given(self) -> tuple[str, str]:
        """Return the commit of a lost attempt that the agent has as a reference, and its ref; ("", "") for none."""
        try:
            commit, _, ref = (self._places.git / GIVEN).read_text().strip().partition(" ")
        except OSError:
            return "", ""
        return commit, ref

    def _import_bundle(self, bundle: Bundle, commit: str) -> None:
        """Import ``commit`` from ``bundle``, then remove its parts. Raises as :meth:`import_commit`."""
        parts = [self._places.home / part.path for part in bundle.parts]
        joined = self._places.inbox / f"{commit}.bundle"
        try:
            with open(joined, "wb") as out:
                out.write(bundle.content() or b"")
                out.writelines(_read_part(path, part) for path, part in zip(parts, bundle.parts))
            self._import_objects(joined, commit)
            if bundle.refs:
                write_atomic(self._places.git / START_REFS, self._git("cat-file", "blob", bundle.refs))
        finally:
            with contextlib.suppress(OSError):
                joined.unlink()
        for path in parts:
            with contextlib.suppress(OSError):
                path.unlink()

    def _import_objects(self, path: Path, commit: str) -> None:
        """Import the objects of a bundle, which must offer exactly ``commit``."""
        with open(path, "rb") as file:
            header = read_bundle_header(file)
            start = file.read(12)
            if not header or header.tips != [commit] or start[:4] != b"PACK":
                raise WorkspaceError("need_full", f"the bundle does not hold {commit}")
            for prerequisite in header.prerequisites:
                if not self._is_head(prerequisite) and not self.has_commit(prerequisite):
                    raise WorkspaceError("need_full", f"commit {prerequisite} is not on this ship")
            file.seek(-len(start), os.SEEK_CUR)
            # Few objects lie loose, as git has it by default: a pack each would be joined again and again.
            is_small = int.from_bytes(start[8:12], "big") < UNPACK_LIMIT
            arguments = ("unpack-objects", "-q") if is_small else ("index-pack", "--stdin", "--fix-thin")
            os.lseek(file.fileno(), file.tell(), os.SEEK_SET)  # git reads the descriptor, not our buffer
            try:
                self._git(*arguments, file=file)
            except WorkspaceError as error:
                raise WorkspaceError("need_full", str(error)) from error

    def _is_head(self, commit: str) -> bool:
        """Return whether ``commit`` is the last imported one, which is present."""
        try:
            return (self._places.git / HEAD_REF).read_text().strip() == commit
        except OSError:
            return False

    def _write_ref(self, ref: str, commit: str) -> None:
        """Set one of the worker's refs; nothing else writes them, and the commit exists."""
        path = self._places.git / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, f"{commit}\n".encode())

    def repack(self) -> None:
        """Repack small packs and loose objects, so that git stays fast after hundreds of attempts.

        Geometric: large packs are not rewritten. Does nothing with a git older than 2.33.
        """
        packs = sum(1 for _ in (self._places.git / "objects" / "pack").glob("*.pack"))
        loose = sum(1 for _ in (self._places.git / "objects").glob("[0-9a-f][0-9a-f]/*"))
        if packs > MAX_PACKS or loose > MAX_LOOSE:
            self._git("-c", NO_DELTAS, "repack", "--geometric=2", "-d", "--quiet", check=False)
            self._git("pack-refs", "--all", check=False)


def read_arguments(home: Path, parts: Sequence[Part]) -> Any:
    """Return the arguments of a command that were sent as files, and remove these.

    Raises:
        WorkspaceError: ``need_full``: a file is missing; ``damaged``: size or checksum of one is wrong.
    """
    paths = [home / part.path for part in parts]
    data = b"".join(_read_part(path, part) for path, part in zip(paths, parts))
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
    return json.loads(data)


def _read_part(path: Path, part: Part) -> bytes:
    """Return a part's bytes after a check of size and checksum."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WorkspaceError("need_full", f"{path.name}: {error.strerror}") from error
    if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
        raise WorkspaceError("damaged", f"size or checksum of {path.name} is wrong")
    return data
