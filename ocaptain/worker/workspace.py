"""The ship's trees: set the workspace to a commit, snapshot whatever an agent left in it.

The worker has a git directory of its own (``.ocaptain/git``), so whatever an agent did to
``workspace/.git`` does not matter: that one is made anew for each attempt and shares objects.
What the agent committed is carried along as a second parent of the snapshot, where it can be
read; what counts is the tree.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Sequence

from ocaptain.protocol import PART_BYTES
from ocaptain.protocol.git import NO_DELTAS, git_argv
from ocaptain.protocol.messages import Bundle, Part, Snapshot
from ocaptain.worker.errors import Unfit, WorkspaceError
from ocaptain.worker.places import Places, remove

MAX_BYTES = 50 * 1024 * 1024
MAX_FILES = 5000
MAX_MESSAGE = 8000
MAX_NAMES = 100
GIT_SECONDS = 600
HEAD_REF = "refs/ocaptain/head"
OUT_REF = "refs/ocaptain/out"
IGNORED = [
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

#: In the worker's git directory, before they are joined.
MAX_PACKS = 20
MAX_LOOSE = 2000


class Workspace:
    """The git side of a ship."""

    def __init__(self, places: Places, ship: str = "ship") -> None:
        self._places = places
        self._ship = ship

    def _git(
        self, *arguments: str, git_dir: Path | None = None, stdin: bytes | None = None, check: bool = True
    ) -> bytes:
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._places.own),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_DIR": str(git_dir or self._places.git),
            "GIT_WORK_TREE": str(self._places.workspace),
            "GIT_AUTHOR_NAME": self._ship,
            "GIT_AUTHOR_EMAIL": f"{self._ship}@ocaptain.invalid",
            "GIT_COMMITTER_NAME": self._ship,
            "GIT_COMMITTER_EMAIL": f"{self._ship}@ocaptain.invalid",
        }
        argv = git_argv("advice.addEmbeddedRepo=false", "safe.directory=*")
        done = subprocess.run(
            [*argv, *arguments],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            cwd=self._places.workspace,
            env=environment,
            timeout=GIT_SECONDS,
            check=False,
        )
        if check and done.returncode:
            stderr = done.stderr.decode(errors="replace").strip()[-1000:]
            raise WorkspaceError("git", f"git {arguments[0]} failed ({done.returncode}): {stderr}")
        return done.stdout

    def has(self, commit: str) -> bool:
        """Whether ``commit`` is in the git directory."""
        done = self._git("rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}", check=False)
        return done.strip().decode() == commit

    # -- from the captain -------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the worker's git directory if it is not there."""
        self._places.make()
        if not (self._places.git / "HEAD").exists():
            self._git("init", "--quiet")
        exclude = self._places.git / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        exclude.write_text("\n".join(IGNORED) + "\n")

    def take(self, bundle: Bundle | None, commit: str) -> None:
        """Have ``commit`` in the git directory, from ``bundle`` if it is not there.

        Raises:
            WorkspaceError: ``need_full``: the bundle does not fit what is here; ``damaged``:
                size or checksum of a part is not what the captain sent.
        """
        self.prepare()
        if bundle is None:
            if not self.has(commit):
                raise WorkspaceError("need_full", f"commit {commit} is not on this ship")
            return
        joined = self._places.inbox / f"{commit}.bundle"
        parts = [self._places.home / part.path for part in bundle.parts]
        if not self.has(commit):
            with open(joined, "wb") as out:
                for path, part in zip(parts, bundle.parts, strict=True):
                    try:
                        data = path.read_bytes()
                    except OSError as error:
                        raise WorkspaceError("need_full", f"{path.name}: {error.strerror}") from error
                    if len(data) != part.size or hashlib.sha256(data).hexdigest() != part.sha256:
                        raise WorkspaceError("damaged", f"{path.name} is not what was sent")
                    out.write(data)
            try:
                self._git("bundle", "verify", "--quiet", str(joined))
                self._git(
                    "fetch",
                    "--quiet",
                    "--no-tags",
                    "--no-write-fetch-head",
                    str(joined),
                    f"+{bundle.ref}:{HEAD_REF}",
                )
            except WorkspaceError as error:
                raise WorkspaceError("need_full", str(error)) from error
            finally:
                joined.unlink()
        for path in parts:
            with contextlib.suppress(OSError):
                path.unlink()
        if not self.has(commit):
            raise WorkspaceError("need_full", f"the bundle does not hold {commit}")
        self._git("update-ref", HEAD_REF, commit)

    def pack(self) -> None:
        """Join small packs and loose objects, so that an attempt costs the same after hundreds of others.

        Geometrically: what is large is not written again. A git older than 2.33 does without.
        """
        packs = sum(1 for _ in (self._places.git / "objects" / "pack").glob("*.pack"))
        loose = sum(1 for _ in (self._places.git / "objects").glob("[0-9a-f][0-9a-f]/*"))
        if packs > MAX_PACKS or loose > MAX_LOOSE:
            self._git("-c", NO_DELTAS, "repack", "--geometric=2", "-d", "--quiet", check=False)
            self._git("pack-refs", "--all", check=False)

    def reset(self, commit: str, branch: str) -> None:
        """Set the workspace exactly to ``commit``; untracked files go, ignored ones stay.

        The agent's own ``.git`` is made anew, on ``branch``.
        """
        root = self._places.workspace
        if root.is_symlink() or not root.is_dir():
            remove(root)
            root.mkdir(parents=True)
        remove(root / ".git")
        self._unlock()
        self._make_writable()
        # The index still knows what stood here, so files that did not change keep their times
        # (and builds their caches). What blocks the way is removed below.
        self._git("read-tree", "--reset", "-u", commit, check=False)
        self._git("read-tree", "--reset", commit)
        # Two -f: nested repositories of an agent go as well.
        self._git("clean", "-ffdq", check=False)
        left = self._git("ls-files", "--others", "--exclude-standard", "--directory", "-z")
        for name in filter(None, left.split(b"\0")):  # what git could not remove, perhaps root's
            remove(root / os.fsdecode(name.rstrip(b"/")))
        self._force(commit)
        own = root / ".git"
        self._git("init", "--quiet", f"--initial-branch={branch}", git_dir=own)
        (own / "objects" / "info").mkdir(exist_ok=True)
        (own / "objects" / "info" / "alternates").write_text(f"{self._places.git}/objects\n")
        self._git("update-ref", f"refs/heads/{branch}", commit, git_dir=own)
        for key, value in (
            ("user.name", self._ship),
            ("user.email", f"{self._ship}@ocaptain.invalid"),
            ("gc.auto", "0"),
        ):
            self._git("config", key, value, git_dir=own)
        (own / "info").mkdir(exist_ok=True)
        (own / "info" / "exclude").write_text("\n".join(IGNORED) + "\n")
        self._git("read-tree", commit, git_dir=own)
        self._git("update-index", "-q", "--refresh", check=False, git_dir=own)

    def _make_writable(self) -> None:
        """Undo an agent's read-only directories, which git could not clean."""
        with contextlib.suppress(OSError):
            os.chmod(self._places.workspace, 0o700)
        for path, directories, _ in os.walk(self._places.workspace):
            for name in directories:
                below = os.path.join(path, name)
                with contextlib.suppress(OSError):
                    if not os.path.islink(below):
                        os.chmod(below, stat.S_IMODE(os.lstat(below).st_mode) | 0o700)

    def _force(self, commit: str) -> None:
        """Write every tracked path that is not as ``commit`` has it, whatever stands there."""
        self._git("update-index", "-q", "--refresh", check=False)
        left = [name for name in self._git("diff-files", "--name-only", "-z").split(b"\0") if name]
        for name in left:
            remove(self._places.workspace / os.fsdecode(name))
        if left:
            self._git("checkout-index", "--all", "--force", "--quiet")
            self._git("read-tree", "--reset", commit)
            self._git("update-index", "-q", "--refresh", check=False)

    def _unlock(self) -> None:
        """Remove the locks of a git that was killed; nobody else uses this directory."""
        for lock in (self._places.git / "index.lock", *(self._places.git / "refs").rglob("*.lock")):
            lock.unlink(missing_ok=True)

    def clone(self, commit: str, branch: str) -> None:
        """Replace the workspace by a fresh one: nothing ignored or untracked survives."""
        for child in list(self._places.workspace.iterdir()):
            remove(child)
        self.reset(commit, branch)

    # -- to the captain ---------------------------------------------------------------------

    def snapshot(self, base: str, name: str, *, lenient: bool = False) -> Snapshot:
        """Commit the workspace as it is, on ``base``, and bundle what the captain lacks.

        Args:
            base: the commit that the workspace was set to.
            name: file name of the bundle, without suffix.
            lenient: take everything, whatever its size (for a rescue).

        Raises:
            Unfit: nested repositories, more than 50 MB or 5,000 new files.
        """
        self._unlock()
        left_out = self._inspect(base, lenient=lenient)
        tree = self._git("write-tree").decode().strip()
        empty = tree == self._git("rev-parse", f"{base}^{{tree}}").decode().strip()
        head, message = self._agent_commits(base)
        parents = ["-p", base, *(("-p", head) if head else ())]
        commit = self._git("commit-tree", tree, *parents, stdin=f"snapshot {name}\n".encode()).decode().strip()
        self._git("update-ref", OUT_REF, commit)
        bundle = self._bundle(base, name)
        return Snapshot(empty, bundle, commit=commit, base=base, message=message, left_out=tuple(left_out))

    def _inspect(self, base: str, *, lenient: bool) -> list[str]:
        """Stage the workspace, after a look at what is new in it."""
        self._git("read-tree", "--reset", base)
        self._git("update-index", "-q", "--refresh", check=False)
        nested = self._nested()
        if lenient:  # the last look at this ship: nested repositories come along as plain files
            for path in nested:
                (self._places.workspace / path / ".git").rename(self._places.workspace / path / "dot-git.rescued")
            nested = []
        new = self._git("ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
        changed = self._git("diff-files", "--name-only", "-z").split(b"\0")
        sizes = {}
        for name in filter(None, (*new, *changed)):
            with contextlib.suppress(OSError):
                sizes[os.fsdecode(name)] = os.lstat(self._places.workspace / os.fsdecode(name)).st_size
        files = [os.fsdecode(name) for name in filter(None, new)]
        too_large = sorted(sizes, key=lambda name: -sizes[name])
        problems: list[tuple[str, list[str]]] = []
        if nested:
            problems.append(("nested git repositories", nested))
        if sum(sizes.values()) > MAX_BYTES:
            problems.append((f"more than {MAX_BYTES // 2**20} MB of changed files", too_large[:10]))
        if len(files) > MAX_FILES:
            problems.append((f"more than {MAX_FILES} new files ({len(files)})", sorted(_tops(files))[:10]))
        if problems and not lenient:
            reasons = "; ".join(reason for reason, _ in problems)
            raise Unfit(reasons, _shown([path for _, paths in problems for path in paths][:MAX_NAMES]))
        unread = self._stage(base, [])
        if unread and not lenient:
            raise Unfit("files that git cannot read", _shown(unread[:MAX_NAMES]))
        return _shown(unread[:MAX_NAMES])

    def _stage(self, base: str, skipped: list[str]) -> list[str]:
        """Stage everything but ``skipped``; return what could not be read."""
        specs = [".", *(f":(exclude,literal){name}" for name in skipped)]
        listed = b"\0".join(map(os.fsencode, specs))
        arguments = ("add", "--all", "--ignore-errors", "--pathspec-from-file=-", "--pathspec-file-nul")
        self._git(*arguments, stdin=listed, check=False)
        # A gitlink is a pointer to what the captain will never have.
        staged = self._git("ls-files", "--stage", "-z").split(b"\0")
        links = {entry.partition(b"\t")[2] for entry in staged if entry.startswith(b"160000 ")}
        known = {
            entry.partition(b"\t")[2]: entry.split()[2]
            for entry in self._git("ls-tree", "-r", "-z", base).split(b"\0")
            if entry.startswith(b"160000 ")
        }
        if links - set(known):
            gone = b"\0".join(links - set(known)) + b"\0"
            self._git("update-index", "--force-remove", "-z", "--stdin", stdin=gone)
        if known:  # submodules do not travel: they stay what they were
            kept = b"".join(b"160000 %s\t%s\0" % (oid, name) for name, oid in known.items())
            self._git("update-index", "-z", "--index-info", stdin=kept)
        left = self._git("ls-files", "--others", "--modified", "--exclude-standard", "-z").split(b"\0")
        names = [os.fsdecode(name) for name in left if name and name.rstrip(b"/") not in known]
        return [name for name in names if name.rstrip("/") not in skipped]

    def _nested(self) -> list[str]:
        found = []
        root = self._places.workspace
        for path, directories, files in os.walk(root):
            if Path(path) != root and (".git" in directories or ".git" in files):
                found.append(os.path.relpath(path, root))
                directories.clear()
            directories[:] = [name for name in directories if name != ".git" and f"{name}/" not in IGNORED]
        listed = b"\0".join(map(os.fsencode, found))
        ignored = self._git("check-ignore", "--stdin", "-z", stdin=listed, check=False).split(b"\0") if found else []
        return [name for name in found if os.fsencode(name) not in ignored]

    def _agent_commits(self, base: str) -> tuple[str, str]:
        """Return the agent's own head and the bodies of its commits, ("", "") if there are none."""
        own = self._places.workspace / ".git"
        if not own.is_dir():
            return "", ""
        try:
            # One refspec, nothing else of that repository's configuration is used.
            self._git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(own), "+HEAD:refs/ocaptain/agent")
            head = self._git("rev-parse", "refs/ocaptain/agent").decode().strip()
            if head == base:
                return "", ""
            self._git("merge-base", "--is-ancestor", base, head)
            if int(self._git("rev-list", "--objects", "--disk-usage", head, f"^{base}")) > MAX_BYTES:
                return "", ""  # what counts is the tree; a history of that size stays behind
            text = self._git("log", "--reverse", "--no-merges", "--max-count=50", "--format=%B", f"{base}..{head}")
        except (WorkspaceError, subprocess.TimeoutExpired, ValueError):
            return "", ""
        return head, text.decode(errors="replace").strip()[:MAX_MESSAGE]

    def _bundle(self, base: str, name: str) -> Bundle:
        path = self._places.outbox / f"{name}.bundle"
        self._git("-c", NO_DELTAS, "bundle", "create", "--quiet", str(path), OUT_REF, f"^{base}")
        parts = []
        with open(path, "rb") as whole:
            for number, data in enumerate(iter(lambda: whole.read(PART_BYTES), b"")):
                part = path.with_suffix(f".{number}")
                part.write_bytes(data)
                place = str(part.relative_to(self._places.home))
                parts.append(Part(place, len(data), hashlib.sha256(data).hexdigest()))
        path.unlink()
        return Bundle(tuple(parts), OUT_REF)


def _shown(names: Sequence[str]) -> list[str]:
    """Return file names as text: a name is bytes, and what is no UTF-8 of it cannot be told to anybody."""
    return [os.fsencode(name).decode(errors="replace") for name in names]


def _tops(files: list[str]) -> set[str]:
    return {name.partition("/")[0] for name in files}
