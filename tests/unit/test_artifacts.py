"""Artifacts: which names may come, what a worker packs, what a captain unpacks, and a captain that is killed."""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.captain import artifacts as unpacking
from ocaptain.captain.artifacts import BadArchive, Store, unpack
from ocaptain.cli.artifacts import HEADER, artifact_lines, format_bytes, show_artifacts
from ocaptain.errors import UsageError
from ocaptain.git.trees import fold_name
from ocaptain.protocol import artifacts as rules
from ocaptain.query.artifacts import Shelf
from ocaptain.worker import artifacts as packing
from ocaptain.worker.places import Places
from tests.helpers import as_documented
from tests.unit.test_ledger import make

# -- names ---------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["a", "A", "b", "é", "e\u0301", "..", ".", "", ".git", "GIT~1", "HEAD", "\u202e", "x\ny", "-f", " "]
)
PATHS = st.one_of(st.lists(PIECES, min_size=1, max_size=4).map("/".join), st.text(max_size=20))


@given(st.lists(PATHS, max_size=12))
def test_names_that_are_taken_stay_inside_and_apart(paths):
    names = rules.Names()
    taken = [path for path in paths if not names.take(path)]
    for path in taken:
        assert path.isprintable()
        assert not PurePosixPath(path).is_absolute()
        assert PurePosixPath(path).as_posix() == path  # no "..", no ".", nothing empty
        assert ".." not in path.split("/")
        assert not {".git", "head"} & {name.casefold() for name in path.split("/")}
    folded = [fold_name(path.encode()) for path in taken]
    assert len(set(folded)) == len(folded)
    folders = {str(folder) for path in taken for folder in PurePosixPath(path).parents if str(folder) != "."}
    assert len({fold_name(folder.encode()) for folder in folders}) == len(folders)
    assert not set(folded) & {fold_name(folder.encode()) for folder in folders}


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "./a", "", ".git/config", "sub/.GIT/hooks/post-checkout",
        "bare/HEAD", "bell\a", "line\nend", "back\u202eward", "no-utf-8-\udcff", "spec.md", "verify.sh", "x" * 256,
    ],
)  # fmt: skip
def test_names_that_are_refused(path):
    assert rules.Names().take(path)


@pytest.mark.parametrize("path", ["a", "a b", "-rf", "deep/er/x.html", "über/naïve.txt", "sub/spec.md", "a" * 255])
def test_names_that_are_taken(path):
    assert rules.Names().take(path) == ""


# -- what a worker packs ---------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path / "ship")
    found.make()
    (found.artifacts / "spec.md").write_text("the plan's\n")
    return found


def archive_of(places, packed):
    """Return the archive that the parts make."""
    return io.BytesIO(b"".join((places.home / part.path).read_bytes() for part in packed.bundle.parts))


def names_in(archive):
    """Return the names in an archive, as any reader of tar sees them."""
    with tarfile.open(fileobj=archive) as opened:
        return opened.getnames()


def test_the_same_files_give_the_same_archive(places, tmp_path):
    for name in ("z", "sub/a", "sub/b"):
        path = places.artifacts / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name * 1000)
    first = packing.pack_artifacts(places, "one", 7)
    (places.artifacts / "z").touch()
    (places.artifacts / "sub/a").chmod(0o755)
    second = packing.pack_artifacts(places, "two", 7)
    assert [part.sha256 for part in first.bundle.parts] == [part.sha256 for part in second.bundle.parts]
    (tmp_path / "here").mkdir()
    assert unpack(archive_of(places, first), tmp_path / "here").files == 3
    assert (tmp_path / "here/sub/b").read_text() == "sub/b" * 1000
    assert names_in(archive_of(places, first)) == ["sub/a", "sub/b", "z"]


def test_nothing_is_nothing_and_what_cannot_come_is_named(places):
    assert packing.pack_artifacts(places, "one", 7) is None
    (places.artifacts / "link").symlink_to("/etc/passwd")
    (places.artifacts / "folder-link").symlink_to("/etc")
    os.mkfifo(places.artifacts / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.path.relpath(places.artifacts / "socket"))
    listener.close()
    (places.artifacts / "Name").write_text("")
    (places.artifacts / "name").write_text("")
    (places.artifacts / "bell\a").write_text("")
    (places.artifacts / ("x" * 120)).write_text("")
    packed = packing.pack_artifacts(places, "one", 7)
    assert names_in(archive_of(places, packed)) == ["Name"]
    reasons = {one.partition(": ")[0]: one.partition(": ")[2] for one in packed.left_out}
    assert set(reasons) == {"link", "folder-link", "pipe", "socket", "name", "bell\a", "x" * 120}
    assert reasons["name"] == "macOS takes its name for another one"


def test_a_directory_that_is_a_link_is_not_followed(places):
    packing.remove_path(places.artifacts)
    places.artifacts.symlink_to("/etc")
    packed = packing.pack_artifacts(places, "one", 7)
    assert (packed.bundle.parts, packed.left_out) == ((), ("all of it: the directory is a link",))


def test_what_fits_comes_and_the_rest_is_named(places, monkeypatch, tmp_path):
    monkeypatch.setattr(packing, "MAX_BYTES", 1000)
    monkeypatch.setattr(packing, "PART_BYTES", 700)
    for name, size in (("a", 600), ("b", 600), ("c", 400), ("d", 1)):
        (places.artifacts / name).write_bytes(b"x" * size)
    packed = packing.pack_artifacts(places, "one", 7)
    assert len(packed.bundle.parts) > 1
    assert [one.partition(":")[0] for one in packed.left_out] == ["b", "d"]
    (tmp_path / "here").mkdir()
    assert unpack(archive_of(places, packed), tmp_path / "here").size == 1000


def test_a_full_disk_leaves_no_parts(places, monkeypatch):
    (places.artifacts / "a").write_bytes(b"x" * 3000)
    monkeypatch.setattr(packing, "PART_BYTES", 1000)
    (places.outbox / "one.2").mkdir()  # cannot be written
    packed = packing.pack_artifacts(places, "one", 7)
    assert packed.bundle.parts == ()
    assert packed.left_out[0].startswith("all of it: ")
    assert list(places.outbox.iterdir()) == []


def test_only_the_plans_documents_stay_for_the_next_attempt(places):
    (places.artifacts / "sub/deep").mkdir(parents=True)
    (places.artifacts / "sub/deep/spec.md").write_text("an agent's\n")
    (places.artifacts / "verify.sh").symlink_to("/bin/true")
    packing.empty_artifacts(places)
    assert os.listdir(places.artifacts) == ["spec.md"]


# -- what a captain takes ----------------------------------------------------------------------------


def member(name, data=b"x", **more):
    header = tarfile.TarInfo(name)
    header.size = len(data)
    for key, value in more.items():
        setattr(header, key, value)
    return header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape") + data + bytes(-len(data) % rules.BLOCK)


def with_field(block, at, data):
    """Return a header with other bytes at a place, and a checksum that fits."""
    changed = block[:at] + data + block[at + len(data) :]
    total = 256 + sum(changed[:148]) + sum(changed[156:512])
    return changed[:148] + b"%06o\0 " % total + changed[156:]


HOSTILE = {
    "a link": member("a", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a hard link": member("a", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "a device": member("a", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "a folder": member("a/", b"", type=tarfile.DIRTYPE),
    "a header of pax": member("a", b"30 path=../../x\n", type=tarfile.XHDTYPE),
    "a long name of GNU": member("a", b"../../x", type=tarfile.GNUTYPE_LONGNAME),
    "a sparse file": member("a", b"", type=tarfile.GNUTYPE_SPARSE),
    "a negative size": with_field(member("a", b""), 124, b"\xff" * 12),
    "a size beyond all": with_field(member("a", b""), 124, b"\x80" + b"\x7f" * 11),
    "a size beyond its end": with_field(member("a", b""), 124, b"00000100000\0"),
    "a wrong checksum": member("a").replace(b"ustar", b"ustat", 1),
    "no archive": b"\0" * 100 + b"x" * 1000,
    "half a header": member("a")[:200],
    "no end": member("a"),
    "more after its end": member("a") + rules.END + b"x",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_changes_nothing(tmp_path, kind):
    store = Store(tmp_path)
    store.keep("1", 1, "ship-0", io.BytesIO(member("old") + rules.END))
    end = b"" if kind in {"no end", "half a header", "nothing", "more after its end"} else rules.END
    with pytest.raises(BadArchive):
        store.keep("1", 2, "ship-0", io.BytesIO(member("new") * (kind != "nothing") + HOSTILE[kind] + end))
    assert sorted(os.listdir(tmp_path / "artifacts")) == [".1.json", "1"]
    assert os.listdir(tmp_path / "artifacts/1") == ["old"]


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", ".git/config", "b\x1b[2J", "A/x"])
def test_a_bad_name_is_left_out_and_the_others_come(tmp_path, name):
    data = member("a/x") + member(name, b"y" * 700) + member("z") + rules.END
    found = Store(tmp_path).keep("1", 1, "ship-0", io.BytesIO(data))
    (one,) = Shelf(tmp_path).read()
    assert (found.files, found.size) == (2, 2)
    assert [file.path for file in one.files] == ["a/x", "z"]
    assert len(one.record.left_out) == 1
    assert one.record.left_out[0].isprintable()
    assert sorted(os.listdir(tmp_path)) == ["artifacts"]


def test_an_archive_beyond_the_limits_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_FILES", 3)
    monkeypatch.setattr(unpacking, "MAX_BYTES", 1000)
    for data in (b"".join(member(f"f{n}") for n in range(4)), member("a", b"x" * 900) + member("b", b"x" * 101)):
        with pytest.raises(BadArchive, match="more than"):
            Store(tmp_path).keep("1", 1, "ship-0", io.BytesIO(data + rules.END))
    assert Shelf(tmp_path).read() == []


def test_what_comes_late_of_an_earlier_attempt_replaces_nothing(tmp_path):
    store = Store(tmp_path)
    for attempt in (3, 2):
        store.keep("1", attempt, "ship-0", io.BytesIO(member(f"of-{attempt}") + rules.END))
    (one,) = store.read()
    assert ([file.path for file in one.files], one.record.attempt) == (["of-3"], 3)


# -- a captain that is killed --------------------------------------------------------------------------

#: Audit events of Python for what changes a directory, and for files that are opened.
STEPS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})


def replaced_and_killed(store, step):
    """Let a child process replace a task's artifacts, and kill itself before its ``step``-th step; whether it was."""
    pid = os.fork()
    if not pid:
        steps = iter(range(step))

        def on_event(event, args):
            if event in STEPS and next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(on_event)
        store.keep("1", 2, "ship-1", io.BytesIO(member("new/1") + member("new/2") + rules.END))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_captain_killed_at_any_step_leaves_the_old_files_or_the_new(tmp_path):
    seen = []
    for step in range(60):
        voyage = tmp_path / str(step)
        voyage.mkdir()
        store = Store(voyage)
        store.keep("1", 1, "ship-0", io.BytesIO(member("old") + rules.END))
        was_killed = replaced_and_killed(store, step)
        before = [file.path for file in Shelf(voyage).read()[0].files]
        Store(voyage).settle()  # as the next captain does
        (after,) = Shelf(voyage).read()
        assert before == [file.path for file in after.files]
        assert after.folder == voyage / "artifacts/1"
        assert sorted(os.listdir(voyage / "artifacts")) == [".1.json", "1"]
        seen.append(before)
        if not was_killed:
            break
    assert not was_killed
    assert seen == sorted(seen, reverse=True)  # the old ones up to one step, the new ones from then on
    assert seen[0] == ["old"]
    assert seen[-1] == ["new/1", "new/2"]
    assert len(seen) > 8


def test_tasks_are_listed_by_number(tmp_path):
    store = Store(tmp_path)
    for task in ("10", "2", "docs"):
        store.keep(task, 1, "ship-0", io.BytesIO(member("x") + rules.END))
    assert [one.task for one in Shelf(tmp_path).read()] == ["2", "10", "docs"]
    assert [one.task for one in Shelf(tmp_path).read(["10", "7"])] == ["10"]
    assert Path(store.read()[0].as_dict()["directory"]).is_dir()


# -- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def voyage(tmp_path, monkeypatch):
    """A voyage with the tasks 1, 2 and 3, of which two have left something."""
    monkeypatch.setenv("OCAPTAIN_HOME", str(tmp_path / "voyages"))
    directory = tmp_path / "voyages/voyage-000000000000"
    directory.mkdir(parents=True)
    with make(directory / "ledger.db", {task: frozenset() for task in ("1", "2", "3")}):
        pass
    store = Store(directory)
    two = member("deep/report.html", b"r" * 2048) + member("a\u0301", b"") + rules.END
    store.keep("2", 3, "ship-1", io.BytesIO(two), ("link: it is neither a file nor a folder",))
    store.keep("1", 1, "ship-0", io.BytesIO(member("notes") + rules.END))
    return directory


def test_the_list_on_a_pipe_and_as_json(voyage, capsys):
    show_artifacts(None, None, to=None, as_json=False)
    said = capsys.readouterr()
    assert said.out == "1\t1\tship-0\t1\tnotes\n2\t3\tship-1\t0\ta\u0301\n2\t3\tship-1\t2048\tdeep/report.html\n"
    assert "task 2: left out: link: it is neither a file nor a folder" in said.err
    show_artifacts(None, "2", to=None, as_json=True)
    shown = as_documented(capsys.readouterr().out)
    (task,) = shown["tasks"]
    assert (task["task"], task["attempt"], task["size_bytes"], shown["copied_to"]) == ("2", 3, 2048, None)
    assert [file["path"] for file in task["files"]] == ["a\u0301", "deep/report.html"]


def test_the_table_fits_the_terminal(voyage):
    lines = [line.plain for line in artifact_lines(Shelf(voyage).read(), 40)]
    assert lines[0].split() == list(HEADER)
    assert lines[3].split() == ["2", "3", "ship-1", "2.0", "KiB", "deep/report…"]
    assert max(map(len, lines[:-1])) <= 40
    assert lines[-1] == f"2.0 KiB in {voyage}/artifacts"


def test_they_are_copied_whole_and_never_over_something(voyage, tmp_path, capsys):
    show_artifacts(None, None, to=tmp_path / "there/deep", as_json=True)
    assert as_documented(capsys.readouterr().out)["copied_to"] == str(tmp_path / "there/deep")
    assert (tmp_path / "there/deep/2/deep/report.html").read_text() == "r" * 2048
    assert sorted(os.listdir(tmp_path / "there/deep")) == ["1", "2"]
    with pytest.raises(UsageError, match=r"/1 exists; choose another directory with --to"):
        show_artifacts(None, None, to=tmp_path / "there/deep", as_json=False)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        show_artifacts(None, None, to=tmp_path / "file", as_json=False)


def test_a_task_that_left_nothing_and_one_that_is_none(voyage, capsys):
    show_artifacts(None, "3", to=None, as_json=False)
    assert "no attempt of task 3 of voyage-000000000000 has left anything" in capsys.readouterr().err
    with pytest.raises(UsageError, match="has no task '4'"):
        show_artifacts(None, "4", to=None, as_json=False)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (150_000, "146 KiB"),
        (1_500_000, "1.4 MiB"),
        (2**30, "1024 MiB"),
    ],
)
def test_bytes_for_people(size, said):
    assert format_bytes(size) == said
