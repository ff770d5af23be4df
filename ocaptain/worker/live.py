"""The files of a running attempt as they are now, so that a lost ship costs seconds of work and not all of it.

::

    captain ──look(token, have)──> git status, in a git directory of its own ──nothing new──> seen()
        ──changed paths──> index ──> tree ──> commit on the base ──thin bundle against ``have``──> seen(snapshot)

The git directory is ``.ocaptain/live``: an index of its own with git's untracked cache, and objects of its own with
the worker's as alternates. So the agent's ``.git`` (index, locks, refs) is neither read nor written, an attempt's end
never waits for a lock of ours, and the next attempt begins with an empty directory. Where nothing has changed, one
``git status`` runs.

It is only a reference: nothing waits for it, line endings and sparse checkouts of the agent's are not looked into, and
what is too large or cannot be read is left out. What lands is :meth:`ocaptain.worker.workspace.Workspace.snapshot`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ocaptain.protocol import INLINE_BYTES
from ocaptain.protocol.envelope import Seen
from ocaptain.protocol.files import read_json
from ocaptain.protocol.limits import MEBIBYTE, Limits, NewFile, find_excesses, path_problem, printable_path
from ocaptain.protocol.messages import Bundle, Snapshot
from ocaptain.worker.bundling import Bundling
from ocaptain.worker.checkout import NO_STATUS
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.job import Job
from ocaptain.worker.places import Places, remove_path
from ocaptain.worker.repository import IGNORE_PATTERNS
from ocaptain.worker.state import State

MAX_LIVE_PACK = 50 * MEBIBYTE  # bytes of a bundle; a larger one is not sent
MAX_LIVE_FILES = 4 * MAX_LIVE_PACK  # bytes of files that are packed to find out
MAX_LIVE_OBJECTS = 512 * MEBIBYTE  # bytes of all versions of files that are kept; then it begins anew
LOOK_SECONDS = 60.0
#: ``status`` keeps its cache only for the way of listing that is configured.
_CONFIG = """[core]
\trepositoryformatversion = 0
\tbare = false
\tuntrackedCache = true
[status]
\tshowUntrackedFiles = all
"""
_STATUS = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", NO_STATUS)


class Abandoned(Exception):
    """The attempt has ended: what is under way for a look is of no use any more."""


class Choice(NamedTuple):
    """What of the changed paths is taken.

    Attributes:
        present: files and links that are staged.
        gone: paths at which there is nothing any more.
        problem: why not all, or none, are taken; "" if all are.
        size: bytes of ``present``.
    """

    present: Sequence[str] = ()
    gone: Sequence[str] = ()
    problem: str = ""
    size: int = 0


def choose(root: Path, paths: Sequence[str], limits: Limits) -> Choice:
    """Return which changed paths are taken: never one that git would block on, or that no other ship could take.

    Args:
        root: the workspace.
        paths: below it, as git lists them.
        limits: of what an attempt may bring.
    """
    files: List[NewFile] = []
    present: List[str] = []
    gone: List[str] = []
    left_out: List[str] = []
    links: Dict[str, bool] = {}
    for path in paths:
        name = os.fsencode(path)
        size = -1 if _is_below_link(root, path, links) else _size(root / path)
        if size == -1 and not path.endswith("/"):
            gone.append(path)
        elif path.endswith("/") or size is None or size > limits.file_bytes or path_problem(name, limits):
            left_out.append(path)
        else:
            present.append(path)
            files.append(NewFile(name, size, is_new=True))
    beyond = next(iter(find_excesses(files, limits)), None)
    total = sum(one.size for one in files)
    if beyond or total > MAX_LIVE_FILES:
        reason = beyond.reason if beyond else f"more than {MAX_LIVE_FILES // MEBIBYTE} MB of new and changed files"
        return Choice(problem=f"nothing of what is new is sent: {reason}")
    if not left_out:
        return Choice(present, gone, size=total)
    named = ", ".join(printable_path(os.fsencode(path), 80) for path in left_out[:3])
    more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return Choice(present, gone, f"left out, since no ship could take it: {named}{more}", total)


def _size(path: Path) -> Optional[int]:
    """Return the size of a file or link, -1 if there is nothing, None if git cannot or should not read what is there.

    A folder at the place of a file means that the file is gone.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return -1
    if stat.S_ISREG(found.st_mode):
        return found.st_size if os.access(path, os.R_OK) else None
    return 0 if stat.S_ISLNK(found.st_mode) else -1 if stat.S_ISDIR(found.st_mode) else None


def _is_below_link(root: Path, path: str, known: Dict[str, bool]) -> bool:
    """Return whether a folder of a path is a link: what is listed there is gone. ``known``: answers by folder."""
    folder = os.path.dirname(path.rstrip("/"))
    if not folder:
        return False
    if folder not in known:
        known[folder] = os.path.islink(root / folder) or _is_below_link(root, folder, known)
    return known[folder]


class LiveView(Bundling):
    """The workspace of one attempt as it is now. One look at a time, in a thread; :meth:`stop` from any other.

    Args:
        places: the ship's directories.
        ship: id of the ship, for commits.
        token: the attempt.
        base: the commit that the workspace was set to.
    """

    def __init__(self, places: Places, ship: str, token: int, base: str) -> None:
        super().__init__(places, ship)
        self.token = token
        self._base = base
        self._directory = places.own / "live"
        self._process: Optional["subprocess.Popen[bytes]"] = None
        self._stopped = False
        self._kept = 0  # bytes of all that was staged since the directory was made

    def stop(self) -> None:
        """Abandon the look that is under way, if there is one, and take no other."""
        self._stopped = True
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()

    def look(self, number: int, have: str, limits: Limits) -> Seen:
        """Return what has changed since ``have``.

        Args:
            number: of the question.
            have: the commit of an earlier answer, "" for none.
            limits: of what an attempt may bring.

        Raises:
            Abandoned: it was stopped.
            WorkspaceError: git failed.
            subprocess.TimeoutExpired: it takes longer than :data:`LOOK_SECONDS`.
            OSError: the ship's disk failed.
        """
        self._until = time.monotonic() + LOOK_SECONDS
        self._prepare()
        choice = choose(self._places.workspace, _parse_status(self._git(*_STATUS)), limits)
        head = self._head()
        for paths, how in ((choice.gone, ("--force-remove",)), (choice.present, ("--add", "--remove", "--replace"))):
            if paths:
                listed = b"".join(os.fsencode(path) + b"\0" for path in paths)
                self._git("update-index", *how, "-z", "--stdin", stdin=listed)
        if choice.gone or choice.present:
            self._kept += choice.size
            head = self._commit(head)
        if have and have != head and not self.has_commit(have):  # the directory was made anew
            have = ""
            if head == self._base:  # what was seen before is not so any more
                head = self._commit(head, is_new=True)
        if head == (have or self._base):
            return Seen(number, problem=choice.problem)
        return self._offer(number, head, have or self._base, choice.problem)

    def _offer(self, number: int, commit: str, have: str, problem: str) -> Seen:
        files, size = self._count(commit)
        for old in self._places.outbox.glob("live-*"):  # the captain has taken it, or asks for another one
            old.unlink()
        path = self._write_pack(have, commit, f"live-{self.token}-{number}", (f"^{have}^{{tree}}",))
        if path.stat().st_size > MAX_LIVE_PACK:
            path.unlink()
            reason = f"what is new is not sent: it is more than {MAX_LIVE_PACK // MEBIBYTE} MB"
            return Seen(number, None, files, size, reason)
        snapshot = Snapshot(empty=False, bundle=self._split_into_parts(path), commit=commit, base=have)
        return Seen(number, snapshot, files, size, problem)

    def _commit(self, head: str, *, is_new: bool = False) -> str:
        """Return the commit of the index: the last one if that has the same files, unless it is to be a new one."""
        tree = self._git("write-tree").decode().strip()
        if not is_new and tree == self._git("rev-parse", f"{head}^{{tree}}").decode().strip():
            return head
        text = f"files of attempt {self.token} as they were\n".encode()
        commit = self._git("commit-tree", tree, "-p", self._base, stdin=text).decode().strip()
        (self._directory / "HEAD").write_text(f"{commit}\n")
        return commit

    def _head(self) -> str:
        return (self._directory / "HEAD").read_text().strip()

    def _count(self, commit: str) -> Tuple[int, int]:
        """Return how many files differ from the base, and their bytes."""
        listed = self._git("diff-tree", "-r", "-z", "--name-only", "--no-renames", self._base, commit).split(b"\0")
        names = [os.fsdecode(name) for name in listed if name]
        return len(names), sum(max(0, _size(self._places.workspace / name) or 0) for name in names)

    def _prepare(self) -> None:
        """Make the git directory if it is not this attempt's, or has grown too large."""
        mark = self._directory / "attempt"
        wanted = f"{self.token} {self._base}"
        with contextlib.suppress(OSError):
            if mark.read_text() == wanted and self._kept <= MAX_LIVE_OBJECTS:
                (self._directory / "index.lock").unlink(missing_ok=True)  # of a look that was abandoned
                return
        remove_path(self._directory)
        self._kept = 0
        for name in ("objects/info", "objects/pack", "refs", "info"):
            (self._directory / name).mkdir(parents=True)
        for name, content in (
            ("HEAD", f"{self._base}\n"),
            ("config", _CONFIG),
            ("info/exclude", "\n".join(IGNORE_PATTERNS) + "\n"),
            ("objects/info/alternates", f"{self._places.git}/objects\n"),
        ):
            (self._directory / name).write_text(content)
        shutil.copyfile(self._places.git / "index", self._directory / "index")  # with the times of the files
        self._git("read-tree", self._base)  # whatever it was of
        mark.write_text(wanted)

    # -- git -------------------------------------------------------------------------------------

    def _git(self, *arguments: str, extra: Optional[Mapping[str, str]] = None, **more: Any) -> bytes:
        return super()._git(*arguments, extra={"GIT_DIR": str(self._directory), **(extra or {})}, **more)

    def _run(
        self, argv: Sequence[str], data: Optional[bytes], seconds: float, **more: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a process that :meth:`stop` kills."""
        if self._stopped:
            raise Abandoned
        source: Mapping[str, Any] = {} if data is None else {"stdin": subprocess.PIPE}
        with subprocess.Popen(argv, **source, **more) as process:
            self._process = process
            try:
                if self._stopped:
                    process.kill()
                output, errors = process.communicate(data, timeout=seconds)
            except BaseException:
                process.kill()
                raise
            finally:
                self._process = None
        if self._stopped:
            raise Abandoned
        return subprocess.CompletedProcess(argv, process.returncode, output, errors)


def _parse_status(output: bytes) -> List[str]:
    """Return the paths of ``git status --porcelain=v2 -z`` without renames; a nested repository ends with a slash.

    A submodule (``S`` in the third field) stays what it was: it does not travel.
    """
    found = []
    for line in output.split(b"\0"):
        kind = line[:2]
        if kind == b"? ":
            found.append(os.fsdecode(line[2:]))
        elif kind in {b"1 ", b"u "}:
            fields = line.split(b" ", 8 if kind == b"1 " else 10)
            if not fields[2].startswith(b"S"):
                found.append(os.fsdecode(fields[-1]))
    return found


class LiveFiles:
    """Answers the captain's looks at the running attempt.

    Args:
        state: the worker's.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._view: Optional[LiveView] = None
        self._over: Optional[Job] = None  # of the last attempt that has ended
        self._answering: Optional["asyncio.Task[None]"] = None

    def answer(self, token: int, number: int, have: str, send: Callable[[Seen], Awaitable[None]]) -> None:
        """Answer a look in the background; one that comes while another is under way gets no answer.

        Args:
            token: the attempt.
            number: of the question.
            have: the commit of an earlier answer that the captain has.
            send: sends the answer.
        """
        job = self._state.job
        if self._answering is None or self._answering.done():
            is_running = job is not None and job.token == token and job is not self._over
            self._answering = asyncio.ensure_future(
                self._answer(job, number, have, send)
                if job and is_running
                else _send(send, Seen(number, is_running=False))
            )

    def end(self, job: Job) -> None:
        """Abandon what is under way: the attempt has ended, and its files are taken as they are."""
        self._over = job
        self.stop()

    def stop(self) -> None:
        """Abandon what is under way."""
        if self._view is not None:
            self._view.stop()
            self._view = None

    async def _answer(self, job: Job, number: int, have: str, send: Callable[[Seen], Awaitable[None]]) -> None:
        if self._view is None or self._view.token != job.token:
            self._view = LiveView(self._state.places, self._state.ship, job.token, job.base)
        try:
            limits = Limits.from_mapping(read_json(Path(job.directory) / "limits.json") or {})
            seen = _inline(self._state.places.home, await asyncio.to_thread(self._view.look, number, have, limits))
        except Abandoned:
            return
        except (WorkspaceError, subprocess.TimeoutExpired, OSError, ValueError) as error:
            seen = Seen(number, problem=printable_path(os.fsencode(str(error)), 300))
        await _send(send, seen)


async def _send(send: Callable[[Seen], Awaitable[None]], seen: Seen) -> None:
    with contextlib.suppress(OSError, RuntimeError):  # the channel broke: the next look is on another one
        await send(seen)


def _inline(home: Path, seen: Seen) -> Seen:
    """Return an answer with a small bundle's content inside."""
    if seen.snapshot is None or sum(part.size for part in seen.snapshot.bundle.parts) > INLINE_BYTES:
        return seen
    content = b"".join((home / part.path).read_bytes() for part in seen.snapshot.bundle.parts)
    bundle = Bundle(seen.snapshot.bundle.parts, seen.snapshot.bundle.ref, base64.b64encode(content).decode())
    return replace(seen, snapshot=replace(seen.snapshot, bundle=bundle))
