"""Save the commits of an agent that its files do not hold: branches, stash, worktrees, nested repositories.

::

    .git, linked worktrees, nested repositories ──names and ids──> tips ahead of the base
         ──at most 50 and 200 MiB──> one commit with all of them as parents ──bundle──> the captain

The agent's objects are read as alternates, so no git runs in its repositories. What cannot be sent with its history
(shallow, damaged, too large) is sent as a commit of its files alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ocaptain.protocol.limits import MAX_OTHER_BYTES, MAX_OTHER_TIPS, MEBIBYTE, Limits, printable_path
from ocaptain.protocol.messages import OtherTip, OtherWork
from ocaptain.worker.bundling import Bundling
from ocaptain.worker.errors import WorkspaceError
from ocaptain.worker.places import find_git_directory, walk
from ocaptain.worker.tips import Tip, head_commit, linked_worktrees, read_tips, shared_directory

SALVAGE_SECONDS = 45.0  # within the captain's grace for an attempt's end
CHOOSE_SECONDS = 25.0  # of these
MAX_LEFT_OUT = 20  # that are named
MAX_NAME = 300


class _Source(NamedTuple):
    """A repository of the agent's.

    Attributes:
        label: before its names; "" for the workspace's own.
        git: its git directory.
        folder: of its files, None if they are the workspace's.
    """

    label: str
    git: Path
    folder: Optional[Path]


class _Chosen(NamedTuple):
    """A tip that is saved, with the bytes that it adds."""

    tip: Tip
    size: int


class Salvage(Bundling):
    """The workspace, with the commits that its files do not hold."""

    #: Nested repositories of the last snapshot.
    _nested: Sequence[str] = ()

    def find_other_work(self, base: str, name: str, known: str | None, *, with_files: bool = False) -> OtherWork | None:
        """Bundle what the agent committed or stashed elsewhere; None if there is nothing.

        Args:
            base: the commit that the workspace was set to.
            name: file name of the bundle, without suffix.
            known: the snapshot's commit; what that contains is not saved again.
            with_files: whether to save the workspace's files, too: no snapshot could be made of them.
        """
        left_out: List[str] = []
        began = time.monotonic()
        self._until = began + CHOOSE_SECONDS
        try:
            chosen = self._choose(base, known, left_out, with_files=with_files)
            self._until = began + SALVAGE_SECONDS
            if chosen and (work := self._bundle_tips(base, name, chosen, left_out)):
                return work
        except (WorkspaceError, subprocess.TimeoutExpired, OSError, ValueError) as error:
            left_out.append(f"all of it: {printable_path(os.fsencode(str(error)))}")
        finally:
            self._alternates, self._until = "", None
        if not left_out:
            return None
        return OtherWork(base=base, commit=base, left_out=_shorten(left_out))

    def _choose(self, base: str, known: str | None, left_out: List[str], *, with_files: bool) -> List[_Chosen]:
        """Return the tips to be saved; names of others are added to ``left_out``."""
        sources = self._sources()
        found: List[Tuple[_Source, List[Tip]]] = [(source, read_tips(source.git)) for source in sources]
        tips = [one._replace(name=source.label + one.name) for source, tips in found for one in tips]
        worktrees = [(one.git, one.folder) for source in sources for one in linked_worktrees(source.git) if one.folder]
        here = {base, self._read_given()[0]}
        if not with_files and not worktrees and len(sources) == 1 and all(one.oid in here for one in tips):
            return []
        objects = [str(shared_directory(source.git) / "objects") for source in sources]
        self._alternates = ":".join(path for path in objects if os.path.isdir(path) and ":" not in path)
        folders = [(source.label, source.folder, head_commit(source.git, tips)) for source, tips in found]
        folders += [(f"worktree {git.name}: ", folder, head_commit(git, found[0][1])) for git, folder in worktrees]
        if with_files:
            folders.append(("", self._places.workspace, base))
        files = [self._commit_files(label, folder, head, left_out) for label, folder, head in folders if folder]
        tips = self._resolve([*filter(None, files), *tips], left_out)
        return self._within_limits(base, self._ahead(base, known, tips, left_out), left_out)

    def _sources(self) -> List[_Source]:
        """Return the agent's repositories: the workspace's own, its submodules' and nested ones."""
        root = self._places.workspace
        own = find_git_directory(root)
        sources = [_Source("", shared_directory(own), None)] if own else []
        for path in self._nested:
            git = find_git_directory(root / path)
            if git and not (own and shared_directory(git).resolve() == shared_directory(own).resolve()):
                sources.append(_Source(f"{printable_path(os.fsencode(path))}: ", git, root / path))
        seen = {source.git.resolve() for source in sources}
        for module in _submodules(sources[0].git / "modules") if own else []:
            if module.resolve() not in seen:
                name = printable_path(os.fsencode(module.relative_to(sources[0].git / "modules")))
                sources.append(_Source(f"submodule {name}: ", module, None))
        return sources

    def _commit_files(self, label: str, folder: Path, head: str | None, left_out: List[str]) -> Tip | None:
        """Commit the files of another folder than the workspace, if they differ from its head."""
        index = self._places.own / "salvage-index"
        extra = {"GIT_WORK_TREE": str(folder), "GIT_INDEX_FILE": str(index)}
        name = f"{label}files"
        try:
            index.unlink(missing_ok=True)
            self._git("read-tree", *([head] if head else ["--empty"]), extra=extra)
            listed = self._git("ls-files", "-o", "-m", "--exclude-standard", "-z", extra=extra).split(b"\0")
            sizes = [_size(folder / os.fsdecode(path)) for path in listed if path]
            if sum(sizes) > MAX_OTHER_BYTES:
                left_out.append(f"{name}: more than {MAX_OTHER_BYTES // MEBIBYTE} MB")
                return None
            known = self._remove_links(extra)  # else git runs its status there, with what an agent has set
            self._git("add", "--all", "--ignore-errors", "--", ".", extra=extra, check=False)
            self._remove_links(extra)  # the repositories that they point to are saved by themselves
            self._restore_links(known, extra)
            tree = self._git("write-tree", extra=extra).decode().strip()
            before = self._git("rev-parse", f"{head}^{{tree}}").decode().strip() if head else None
            if not listed[0] or tree == before:
                return None
            parents = ["-p", head] if head else []
            commit = self._git("commit-tree", tree, *parents, stdin=f"{name}\n".encode()).decode().strip()
        except WorkspaceError as error:
            left_out.append(f"{name}: {error}")
            return None
        finally:
            index.unlink(missing_ok=True)
        return Tip(name, commit, is_work=bool(label))

    def _remove_links(self, extra: Mapping[str, str]) -> List[bytes]:
        """Remove all links to other repositories from an index; return them as ``ls-files --stage`` has them."""
        listed = self._git("ls-files", "-s", "-z", extra=extra).split(b"\0")
        links = [one for one in listed if one.startswith(b"160000 ")]
        paths = b"".join(one.partition(b"\t")[2] + b"\0" for one in links)
        self._git("update-index", "--force-remove", "-z", "--stdin", stdin=paths, extra=extra)
        return links

    def _restore_links(self, links: Sequence[bytes], extra: Mapping[str, str]) -> None:
        """Put links into an index again, but those in whose places there are files now."""
        names = self._git("ls-files", "-z", extra=extra).split(b"\0") if links else []
        wanted = {one.partition(b"\t")[2]: one for one in links}
        kept = [one for path, one in wanted.items() if not any((name + b"/").startswith(path + b"/") for name in names)]
        self._git("update-index", "-z", "--index-info", stdin=b"".join(one + b"\0" for one in kept), extra=extra)

    def _resolve(self, tips: Sequence[Tip], left_out: List[str]) -> List[Tip]:
        """Return the tips with their commits; those that are none are left out."""
        try:
            answers = self._peel(tips)
        except WorkspaceError:  # one of them is damaged, which ends git
            answers = [self._peel_alone(one) for one in tips]
        found = []
        for tip, answer in zip(tips, answers):
            oid, _, kind = answer.partition(" ")
            if kind == "commit":
                found.append(tip._replace(oid=oid))
            elif tip.is_ref:
                left_out.append(f"{tip.name}: it is no commit, or not there")
        return found

    def _peel(self, tips: Sequence[Tip]) -> List[str]:
        """Return for each tip what it points to in the end: the id and the kind of an object."""
        asked = "".join(f"{one.oid}^{{commit}}\n" for one in tips).encode()
        return self._git("cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked).decode().splitlines()

    def _peel_alone(self, tip: Tip) -> str:
        try:
            return self._peel([tip])[0]
        except WorkspaceError:
            return ""

    def _ahead(self, base: str, known: str | None, tips: Sequence[Tip], left_out: List[str]) -> List[Tip]:
        """Return the tips ahead of the base, first those that no other one contains.

        A tip whose history is not complete becomes a commit of its files.
        """
        given, _ = self._read_given()  # the captain has it
        tips = [one for one in tips if one.oid not in {base, known, given}]
        excluded = [f"^{one}" for one in (base, known, given) if one]
        try:
            listed = self._rev_list([one.oid for one in tips], excluded)
        except WorkspaceError:
            whole: List[Tip] = []
            for tip in tips:
                if self._succeeds("rev-list", "--quiet", "--objects", tip.oid, *excluded):
                    whole.append(tip)
                elif tip.is_ref and (files := self._only_files(tip, base)):
                    whole.append(files)
                elif tip.is_ref:
                    left_out.append(f"{tip.name}: objects are missing")
            tips = whole
            listed = self._rev_list([one.oid for one in tips], excluded)
        contained = {parent for parents in listed.values() for parent in parents}
        ahead = [one for one in tips if one.oid in listed]
        first: Dict[str, Tip] = {}
        for one in ahead:
            if one.oid not in contained:
                first.setdefault(one.oid, one)
        rest = [one for one in ahead if one.is_ref and first.get(one.oid) is not one]
        return [*first.values(), *rest]

    def _rev_list(self, tips: Sequence[str], excluded: Sequence[str]) -> Dict[str, List[str]]:
        """Return the commits that some tips reach, with their parents."""
        asked = "".join(f"{one}\n" for one in (*tips, *excluded)).encode()
        lines = self._git("rev-list", "--parents", "--stdin", stdin=asked).decode().splitlines() if tips else []
        return {oid: parents for oid, *parents in map(str.split, lines)}

    def _only_files(self, tip: Tip, base: str) -> Tip | None:
        """Return a commit of a tip's files without its history, None if they are not complete."""
        with contextlib.suppress(WorkspaceError):
            tree = self._git("rev-parse", f"{tip.oid}^{{tree}}").decode().strip()
            self._git("rev-list", "--quiet", "--objects", tree)
            text = f"the files of {tip.oid}, without its history\n".encode()
            commit = self._git("commit-tree", tree, "-p", base, stdin=text).decode().strip()
            return tip._replace(oid=commit)
        return None

    def _within_limits(self, base: str, tips: Sequence[Tip], left_out: List[str]) -> List[_Chosen]:
        """Return the tips that fit into the limits, with what each adds."""
        chosen: List[_Chosen] = []
        total, too_many = 0, 0
        saved: Set[str] = set()
        for tip in tips:
            if len(chosen) >= MAX_OTHER_TIPS:
                too_many += tip.oid not in saved
                continue
            excluded = [f"^{one}" for one in (base, *saved)]
            try:
                fitting = self._fit(tip, base, excluded, MAX_OTHER_BYTES - total)
            except subprocess.TimeoutExpired:
                left_out.append(f"{tip.name} and what comes after it: it takes too long")
                break
            if isinstance(fitting, str):
                left_out.append(f"{tip.name}: {fitting}")
                continue
            chosen.append(fitting)
            total += fitting.size
            saved.add(fitting.tip.oid)
        if too_many:
            left_out.append(f"{too_many} more refs: more than {MAX_OTHER_TIPS} in all")
        return chosen

    def _fit(self, tip: Tip, base: str, excluded: Sequence[str], room: int) -> _Chosen | str:
        """Return a tip, or its files alone if they fit and its history does not; else why not."""
        whole = self._fit_as_it_is(tip, excluded, room)
        if isinstance(whole, _Chosen) or (files := self._only_files(tip, base)) is None:
            return whole
        return self._fit_as_it_is(files, excluded, room)

    def _fit_as_it_is(self, tip: Tip, excluded: Sequence[str], room: int) -> _Chosen | str:
        try:
            size = self._size_of(tip.oid, excluded)
        except WorkspaceError as error:  # of a clone without all files, say
            return str(error)
        return _Chosen(tip, size) if size <= room else f"more than {MAX_OTHER_BYTES // MEBIBYTE} MB in all"

    def _size_of(self, oid: str, excluded: Sequence[str]) -> int:
        """Return the unpacked bytes that a commit adds.

        Raises:
            WorkspaceError: objects are missing, or its folders are too deep for the captain.
        """
        listed = self._git("rev-list", "--objects", oid, *excluded).split(b"\n")
        if any(line.count(b"/") >= Limits().depth for line in listed):
            raise WorkspaceError("unfit", f"it has folders of more than {Limits().depth} levels (depth)")
        ids = b"\n".join(line[:40] for line in listed if line)
        return sum(map(int, self._git("cat-file", "--batch-check=%(objectsize)", stdin=ids).split()))

    def _bundle_tips(self, base: str, name: str, chosen: Sequence[_Chosen], left_out: List[str]) -> OtherWork | None:
        """Write the bundle of some tips; those that the captain would refuse are left out."""
        limits = Limits.for_other_work()
        path, commit = self._write_tips(base, name, chosen)
        if problem := self._find_bundle_problem(path, base, limits, strict=True):
            sound = []
            for one in chosen:
                path, commit = self._write_tips(base, name, [one])
                problem = self._find_bundle_problem(path, base, limits, strict=True)
                if problem:
                    left_out.append(f"{one.tip.name}: {problem}")
                else:
                    sound.append(one)
            chosen = sound
            if not chosen:
                path.unlink()
                return None
            path, commit = self._write_tips(base, name, chosen)
        self._import_pack(path)
        tips = tuple(OtherTip(_short(one.tip.name), one.tip.oid, one.size, one.tip.is_work) for one in chosen)
        return OtherWork(base, commit, self._split_into_parts(path), tips, _shorten(left_out))

    def _write_tips(self, base: str, name: str, chosen: Sequence[_Chosen]) -> Tuple[Path, str]:
        parents = [word for oid in dict.fromkeys(one.tip.oid for one in chosen) for word in ("-p", oid)]
        text = f"other work {name}\n".encode()
        commit = self._git("commit-tree", f"{base}^{{tree}}", *parents, stdin=text).decode().strip()
        return self._write_pack(base, commit, name), commit


def _submodules(folder: Path) -> List[Path]:
    """Return the git directories of submodules; their names, and so their folders, may have several parts."""
    found = []
    for path, directories, files in walk(str(folder)):
        if "HEAD" in files and "objects" in directories:
            found.append(Path(path))
            directories[:] = [name for name in directories if name == "modules"]
    return sorted(found)


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _short(name: str) -> str:
    return printable_path(os.fsencode(name), MAX_NAME)


def _shorten(names: Sequence[str]) -> Tuple[str, ...]:
    """Return names as text, only the first ones of many."""
    more = [f"and {len(names) - MAX_LEFT_OUT} more"] if len(names) > MAX_LEFT_OUT else []
    return (*map(_short, names[:MAX_LEFT_OUT]), *more)
