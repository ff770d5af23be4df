"""Which differences from the base are none of the agent's: conversions of line endings, and hidden files.

An attempt's work is what the agent changed. Three things differ without that: a file that git would store otherwise
now (.gitattributes says ``text``, the base holds CR LF), a file's mode where the agent's git does not heed modes,
and files that a sparse checkout or ``skip-worktree`` took out of the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from ocaptain.worker.checkout import AGENT_GIT_CONFIG, NO_STATUS, Checkout
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import find_git_directory, is_regular_file, open_regular_file, remove_path

REGULAR_MODES = frozenset({"100644", "100755"})
_TRUE = dict.fromkeys(("true", "yes", "on", "1"), "true")
_FALSE = dict.fromkeys(("false", "no", "off", "0", ""), "false")
#: Settings of the agent's git that decide how files are stored, with their values; none of them runs anything.
_SETTINGS = {
    "core.autocrlf": {**_TRUE, **_FALSE, "input": "input"},
    "core.eol": {"lf": "lf", "crlf": "crlf", "native": "native"},
    "core.filemode": _TRUE,
}
_OTHERWISE = {"core.filemode": "false"}
CHUNK_BYTES = 1 << 20


class Entry(NamedTuple):
    """A file in git: its mode, and the id of its content."""

    mode: str
    oid: str


class Changes(NamedTuple):
    """The differences from a commit.

    Attributes:
        before: changed paths that the commit has, with what it has there.
        new: paths that it does not have; a nested repository ends with a slash.
        has_links: whether a repository or a submodule is among them.
        deleted: those of ``before`` that are no files now.
    """

    before: Dict[str, Entry]
    new: List[str]
    has_links: bool
    deleted: Sequence[str]

    def __bool__(self) -> bool:
        return bool(self.before or self.new)

    @property
    def changed(self) -> List[str]:
        """The changed paths that the commit has."""
        return list(self.before)

    def without(self, paths: Dict[str, Entry]) -> Changes:
        """Return the differences except those at some paths."""
        left = {path: entry for path, entry in self.before.items() if path not in paths}
        return self._replace(before=left, deleted=[path for path in self.deleted if path not in paths])


class Comparison(Checkout):
    """The workspace, compared with the commit that it was set to."""

    #: The agent's own settings, as words of git's command line.
    _agent_settings: Tuple[str, ...] = ()

    def _changes(self) -> Changes:
        """Return the differences from the index.

        ``diff-files`` sees a tracked folder that is a link now, through which ``ls-files --modified`` looks.
        """
        fields = iter(self._git(*self._agent_settings, "diff-files", NO_STATUS, "--raw", "-z").split(b"\0"))
        found = [(about.decode().lstrip(":").split(), os.fsdecode(next(fields))) for about in fields if about]
        listed = self._git("ls-files", "--others", "--exclude-standard", "-z").split(b"\0")
        new = [os.fsdecode(name) for name in listed if name]
        links = any("160000" in about[:2] for about, _ in found) or any(name.endswith("/") for name in new)
        before = {name: Entry(about[0], about[2]) for about, name in found}
        return Changes(before, new, links, [name for about, name in found if about[4] == "D"])

    def _read_agent_settings(self) -> Tuple[str, ...]:
        """Return what the agent's git is set to about line endings and modes."""
        home = self._places.home
        own = find_git_directory(self._places.workspace)
        usual = AGENT_GIT_CONFIG.format(ship=self._ship).encode()
        values: Dict[str, str] = {}
        for path in (home / ".config/git/config", home / ".gitconfig", *([own / "config"] if own else [])):
            if not is_regular_file(path) or path.read_bytes() == usual:
                continue
            names = "|".join(name.partition(".")[2] for name in _SETTINGS)
            pattern = rf"^core\.({names})$"
            with contextlib.suppress(WorkspaceError):  # nothing is set there, or it is no configuration
                for line in self._git("config", "--file", str(path), "-z", "--get-regexp", pattern).split(b"\0"):
                    name, is_set, value = line.decode(errors="replace").partition("\n")
                    word = value.lower() if is_set else "true"  # a name alone
                    known = _SETTINGS.get(name, {}).get(word, _OTHERWISE.get(name))
                    if known:
                        values[name] = known
        return tuple(word for name, value in values.items() for word in ("-c", f"{name}={value}"))

    # -- files as the base has them -----------------------------------------------------------

    def _find_untouched(self, changes: Changes, rules: Sequence[str]) -> Dict[str, Entry]:
        """Return the changed paths whose content is the base's, or what a checkout of that writes.

        The mode is that of now.

        Args:
            changes: from the base, which the index is.
            rules: the ``.gitignore`` and ``.gitattributes`` files of now.
        """
        has_rules = any(path.rpartition("/")[2] == ".gitattributes" for path in (*rules, *changes.before))
        if not has_rules and not self._agent_settings:
            return {}  # nothing is converted
        regular = {path: entry for path, entry in changes.before.items() if entry.mode in REGULAR_MODES}
        found: Dict[str, Entry] = {}
        rest: Dict[str, Entry] = {}
        for path, entry in regular.items():
            with contextlib.suppress(OSError), open_regular_file(self._places.workspace / path) as file:
                mode = entry.mode if "core.filemode=false" in self._agent_settings else _mode_of(file.fileno())
                same = _blob_id(file.fileno()) == entry.oid
                (found if same else rest)[path] = Entry(mode, entry.oid)
        for settings in ((), self._agent_settings) if self._agent_settings else ((),):
            with self._checked_out(rest, settings) as copies:
                written = {path for path in rest if _is_same(copies / path, self._places.workspace / path)}
            found.update({path: rest[path] for path in written})
            rest = {path: entry for path, entry in rest.items() if path not in written}
        return found

    @contextlib.contextmanager
    def _checked_out(self, paths: Dict[str, Entry], settings: Sequence[str]) -> Iterator[Path]:
        """Yield a folder with some files as a checkout of the index writes them."""
        scratch = self._places.own / "compared"
        remove_path(scratch)
        scratch.mkdir()
        index = self._places.own / "compared-index"
        try:
            shutil.copyfile(self._places.git / "index", index)
            extra = {"GIT_WORK_TREE": str(scratch), "GIT_INDEX_FILE": str(index)}
            listed = b"".join(os.fsencode(path) + b"\0" for path in paths)
            self._git(*settings, "checkout-index", "-f", "-q", "-z", "--stdin", stdin=listed, extra=extra, check=False)
            yield scratch
        finally:
            index.unlink(missing_ok=True)
            remove_path(scratch)

    # -- files that are hidden ----------------------------------------------------------------

    def _find_hidden(self, changes: Changes, *, moved: bool) -> Dict[str, Entry]:
        """Return the paths that the agent's git hides and that are no files, with what it has there.

        Args:
            changes: from the base.
            moved: whether the agent committed.
        """
        own = find_git_directory(self._places.workspace)
        if own is None or not is_regular_file(own / "index"):
            return {}
        if not changes.deleted and not moved and not (own / "info/sparse-checkout").exists():
            return {}
        hidden = {path: entry for path, (flag, entry) in self._agent_index(own).items() if flag == "S"}
        gone = {path: entry for path, entry in hidden.items() if _is_gone(self._places.workspace, path)}
        same = {path: entry for path, entry in gone.items() if changes.before.get(path) == entry}
        return {**same, **self._with_content(own, {path: gone[path] for path in gone if path not in same})}

    def _agent_index(self, own: Path) -> Dict[str, Tuple[str, Entry]]:
        """Return the entries of the agent's index with their flags, as ``ls-files -t`` has them."""
        extra = {"GIT_INDEX_FILE": str(own / "index"), "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(own / "objects")}
        with contextlib.suppress(WorkspaceError), self._shared_indexes(own):
            listed = self._git("ls-files", "-t", "--stage", "-z", extra=extra).split(b"\0")
            parts = (entry.partition(b"\t") for entry in listed if entry)
            read = ((os.fsdecode(path), about.decode().split()) for about, _, path in parts)
            return {path: (about[0], Entry(about[1], about[2])) for path, about in read if about[3] == "0"}
        return {}

    @contextlib.contextmanager
    def _shared_indexes(self, own: Path) -> Iterator[None]:
        """Let git find the files over which an agent's index may be split; it looks for them in its git directory."""
        links = []
        try:
            for path in filter(is_regular_file, own.glob("sharedindex.*")):
                link = self._places.git / path.name
                link.unlink(missing_ok=True)
                link.symlink_to(path)
                links.append(link)
            yield
        finally:
            for link in links:
                link.unlink(missing_ok=True)

    def _with_content(self, own: Path, entries: Dict[str, Entry]) -> Dict[str, Entry]:
        """Return the entries whose content is here, or could be copied from the agent's repository."""
        extra = {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(own / "objects")}
        found: Dict[str, Entry] = {}
        for path, entry in entries.items():
            with contextlib.suppress(WorkspaceError):
                if not self._succeeds("cat-file", "-e", entry.oid):
                    content = self._git("cat-file", "blob", entry.oid, extra=extra)
                    self._git("hash-object", "-w", "--stdin", stdin=content)
                found[path] = entry
        return found

    def _restore(self, entries: Dict[str, Entry]) -> None:
        """Put entries into the index."""
        lines = (f"{one.mode} {one.oid}\t".encode() + os.fsencode(path) + b"\0" for path, one in entries.items())
        self._git("update-index", "-z", "--index-info", stdin=b"".join(lines))


def _mode_of(fd: int) -> str:
    return "100755" if os.fstat(fd).st_mode & stat.S_IXUSR else "100644"


def _blob_id(fd: int) -> str:
    """Return the id that git gives to a file's content, unconverted."""
    digest = hashlib.sha1(b"blob %d\0" % os.fstat(fd).st_size, usedforsecurity=False)
    while data := os.read(fd, CHUNK_BYTES):
        digest.update(data)
    return digest.hexdigest()


def _is_same(one: Path, other: Path) -> bool:
    """Return whether two regular files have the same content."""
    try:
        with open_regular_file(one) as first, open_regular_file(other) as second:
            if os.fstat(first.fileno()).st_size != os.fstat(second.fileno()).st_size:
                return False
            return all(data == second.read(CHUNK_BYTES) for data in iter(lambda: first.read(CHUNK_BYTES), b""))
    except OSError:
        return False


def _is_gone(root: Path, path: str) -> bool:
    """Return whether there is nothing at a path, and nothing else in its way."""
    if os.path.lexists(root / path):
        return False
    for parent in (root / path).parents:
        if parent == root:
            return True
        if os.path.lexists(parent) and (parent.is_symlink() or not parent.is_dir()):
            return False
    return False
