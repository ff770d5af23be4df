"""Where Mutagen's files are: private, and with short paths; and the agent that goes to ships."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from ocaptain.sync.agent import agent_path, find_bundle, probe_argv, read_agent
from ocaptain.sync.place import MAX_DATA, POINTER, find_place, make_place, remove_place


@pytest.fixture
def short():
    with tempfile.TemporaryDirectory(prefix="oc", dir="/tmp") as path:
        yield Path(path)


def test_a_short_path_is_in_the_voyages_folder(short):
    place = make_place(short)
    assert place.path == short / "mutagen"
    assert [one.stat().st_mode & 0o777 for one in (place.path, place.data)] == [0o700, 0o700]
    assert make_place(short) == place
    remove_place(short)
    assert list(short.iterdir()) == []


def test_a_long_path_is_elsewhere_and_named(short, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    directory = short / ("x" * 90)
    directory.mkdir()
    place = make_place(directory)
    assert place.path.parent == short
    assert len(os.fsencode(place.data)) <= MAX_DATA
    assert find_place(directory) == place.path == make_place(directory).path
    remove_place(directory)
    assert list(directory.iterdir()) == []
    assert list(short.iterdir()) == [directory]


def test_only_a_folder_of_ours_is_used(short, monkeypatch):
    directory = short / ("x" * 90)
    directory.mkdir()
    (short / "ocaptain-mutagen-1").mkdir(mode=0o755)
    for named in (short / "ocaptain-mutagen-1", short / "other", Path("/")):
        (directory / POINTER).write_bytes(os.fsencode(named))
        assert find_place(directory) is None
        remove_place(directory)
    assert (short / "ocaptain-mutagen-1").is_dir()
    (short / "mutagen").mkdir(mode=0o755)
    with pytest.raises(OSError, match="is not this user's alone"):
        make_place(short)


def test_no_short_folder_is_said(short, monkeypatch):
    long = short / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr("ocaptain.sync.place.MAX_DATA", 20)
    with pytest.raises(OSError, match="set XDG_RUNTIME_DIR"):
        make_place(long)


def test_programs_name_this_python_and_the_socket(short):
    place = make_place(short)
    place.write_programs()
    for tool in ("ssh", "scp"):
        done = subprocess.run([place.programs / tool, "host", "uname -s -m"], check=False)
        assert done.returncode == 255  # nobody listens


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bin/mutagen-agents.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name in ("linux_amd64", "linux_arm64"):
            member = tarfile.TarInfo(name)
            member.size = len(name)
            archive.addfile(member, io.BytesIO(name.encode()))
    return path


@pytest.mark.parametrize(
    ("machine", "agent"), [("x86_64", b"linux_amd64"), ("aarch64", b"linux_arm64"), ("riscv64", None)]
)
def test_the_agent_that_fits(bundle, machine, agent):
    assert read_agent(bundle, machine) == agent


def test_a_damaged_bundle_is_said(bundle):
    bundle.write_bytes(bundle.read_bytes()[:40])
    with pytest.raises(OSError, match="cannot be read"):
        read_agent(bundle, "x86_64")


def test_where_the_bundle_is(bundle, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "bin/mutagen")
    assert find_bundle(tmp_path / "bin/mutagen") == find_bundle(tmp_path / "link") == bundle
    (tmp_path / "libexec").mkdir()
    moved = bundle.rename(tmp_path / "libexec/mutagen-agents.tar.gz")
    assert find_bundle(tmp_path / "bin/mutagen") == moved
    assert find_bundle(tmp_path / "other/mutagen") is None


def test_the_probe_says_the_machine_until_the_agent_is_there(tmp_path):
    def ask():
        return subprocess.run(
            probe_argv("0.18.1"), cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert ask() == os.uname().machine
    agent = tmp_path / agent_path("0.18.1")
    assert [one.stat().st_mode & 0o777 for one in (agent.parent, agent.parent.parent)] == [0o700, 0o700]
    agent.write_text("")
    assert ask() == os.uname().machine
    agent.chmod(0o700)
    assert ask() == "there"


def test_a_folder_that_cannot_be_named_is_not_left(short, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    before = sorted(Path("/tmp").glob("ocaptain-mutagen-*"))
    with pytest.raises(OSError, match="too long a path for Mutagen"):
        make_place(short / ("x" * 90))  # it is not there, so that nothing can be written in it
    assert list(short.iterdir()) == []
    assert sorted(Path("/tmp").glob("ocaptain-mutagen-*")) == before
