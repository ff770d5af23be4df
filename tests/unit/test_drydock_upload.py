"""The file of an upload: as it was if there is no room, gone if it was new and stays half."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from ocaptain.drydock import upload
from ocaptain.drydock.upload import open_target, room_for


@pytest.fixture
def folder(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield SimpleNamespace(path=tmp_path, fd=fd)
    os.close(fd)


def begin(folder, name, mode=None, size=None):
    return open_target(
        lambda flags: os.open(name, flags, 0o644, dir_fd=folder.fd),
        lambda target: target.discard(folder.fd, name),
        mode,
        size,
    )


def test_a_file_is_opened_empty_with_its_mode(folder):
    (folder.path / "old").write_text("content")
    for name, is_new in (("old", False), ("new", True)):
        target = begin(folder, name, mode=0o600, size=10)
        assert target.is_new is is_new
        assert (os.fstat(target.fd).st_size, os.fstat(target.fd).st_mode & 0o777) == (0, 0o600)
        os.close(target.fd)


def test_without_room_a_file_is_as_it_was(folder):
    (folder.path / "old").write_text("content")
    for name in ("old", "new"):
        with pytest.raises(OSError, match="No space left") as raised:
            begin(folder, name, mode=0o600, size=10**18)
        assert raised.value.errno == errno.ENOSPC
    assert [(one.name, one.read_text()) for one in folder.path.iterdir()] == [("old", "content")]
    assert (folder.path / "old").stat().st_mode & 0o777 != 0o600


def test_what_is_no_file_is_refused(folder):
    os.mkfifo(folder.path / "pipe")
    reader = os.open(folder.path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="Not a regular file"):
        begin(folder, "pipe")
    os.close(reader)
    assert (folder.path / "pipe").exists()


@pytest.mark.parametrize(("old", "left"), [(False, []), (True, ["x"])])
def test_only_a_new_file_goes(folder, old, left):
    if old:
        (folder.path / "x").touch()
    target = begin(folder, "x")
    target.discard(folder.fd, "x")
    os.close(target.fd)
    assert os.listdir(folder.path) == left


def test_a_file_that_took_the_name_meanwhile_stays(folder):
    target = begin(folder, "x")
    (folder.path / "other").write_text("theirs")
    os.replace(folder.path / "other", folder.path / "x")
    target.discard(folder.fd, "x")
    os.close(target.fd)
    assert (folder.path / "x").read_text() == "theirs"


def test_what_a_file_has_already_counts_as_room(folder, monkeypatch):
    (folder.path / "x").touch()
    fd = os.open(folder.path / "x", os.O_WRONLY)
    monkeypatch.setattr(
        upload.os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=3, f_frsize=4096, f_blocks=9), raising=True
    )
    assert room_for(fd, SimpleNamespace(st_blocks=8)) == 3 * 4096 + 8 * 512
    os.close(fd)
