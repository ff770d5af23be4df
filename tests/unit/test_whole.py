"""The script that collects a command's output, in a real shell; and what is made of what arrives."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import time

import pytest

from ocaptain.sprites import ConnectionFailed, DeadlinePassed, ExecInterrupted, OutputLost, SpriteWedged, TooLarge
from ocaptain.sprites.client import Completed
from ocaptain.sprites.transfer import RemoteFile
from ocaptain.sprites.whole import COLLECT_SCRIPT, Saved, may_have_left_files, settle_output, show_output

MOST = 400  # blocks of 512 bytes
INLINE = 1000
MARK = "MARK"


@pytest.fixture
def script(tmp_path):
    """Start the script with a directory of its own in place of /tmp."""
    running = []

    def start(line, *, live=False, days=0, before=()):
        text = COLLECT_SCRIPT.replace("/tmp/", f"{tmp_path}/")
        words = [MARK, str(MOST), str(INLINE), str(days), "live" if live else "", "sh", "-c", line]
        process = subprocess.Popen(
            [*before, "sh", "-c", text, "sh", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def finish(process, *, live=False):
    stdout, stderr = process.communicate(timeout=240)
    return settle_output(Completed(process.returncode, stdout, stderr), MARK, live=live)


@pytest.mark.parametrize("live", [False, True])
def test_a_small_output_goes_over_the_stream_and_leaves_nothing(script, tmp_path, live):
    assert finish(script("echo out; echo err >&2; exit 3", live=live), live=live) == Completed(3, b"out\n", b"err\n")
    assert finish(script("exit 4", live=live), live=live) == Completed(4, b"", b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("live", [False, True])
def test_a_large_output_stays_in_files_that_only_their_owner_reads(script, tmp_path, live):
    found = finish(script("head -c 5000 /dev/zero; echo err >&2", live=live), live=live)
    digests = [hashlib.sha256(data).hexdigest() for data in (bytes(5000), b"err\n")]
    files = RemoteFile(f"/tmp/{MARK}/out", 5000, digests[0]), RemoteFile(f"/tmp/{MARK}/err", 4, digests[1])
    assert found == Saved(0, files)
    assert (tmp_path / MARK / "out").read_bytes() == bytes(5000)
    assert (tmp_path / MARK).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("live", [False, True])
def test_an_output_that_is_too_long_ends_the_command(script, live):
    found = finish(script("yes", live=live), live=live)
    assert isinstance(found, Saved)
    assert found.files[0].size == MOST * 512


@pytest.mark.parametrize(("live", "small"), [(False, True), (False, False), (True, True)])
def test_a_file_that_cannot_be_written_is_no_empty_output(script, tmp_path, live, small):
    """The directory and the pipes have room, the files have none."""
    fill = f"mount -t tmpfs -o size=4k none {tmp_path}; head -c 8192 /dev/zero >{tmp_path}/full"
    full = ("unshare", "--map-root-user", "--mount", "sh", "-c", f'{fill} 2>/dev/null; exec "$@"', "sh")
    process = script("echo out" if small else "head -c 5000 /dev/zero", live=live, before=full)
    with pytest.raises(OutputLost, match="has it any room"):
        finish(process, live=live)


def test_files_that_are_gone_are_no_empty_output(script, tmp_path):
    with pytest.raises(OutputLost, match="has it any room"):
        finish(script(f"echo out; rm -r {tmp_path}/{MARK}"))


def test_a_limit_of_the_ship_s_own_is_no_whole_output(script):
    limit = ("sh", "-c", 'ulimit -f 1; exec "$@"', "sh")
    if os.geteuid() == 0:  # which may raise it again
        limit = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all", *limit)
    with pytest.raises(OutputLost, match="has it any room"):
        finish(script("head -c 900 /dev/zero", before=limit))


def test_without_room_for_files_the_command_runs_and_says_so(script, tmp_path):
    (tmp_path / MARK).write_text("in the way of the directory")
    assert finish(script("echo out; echo err >&2; exit 3")) == Completed(3, b"out\n", b"err\n")
    assert (tmp_path / MARK).is_file()


def test_a_stream_that_stalls_cuts_nothing_of_a_dialogue(script, tmp_path):
    """A reader that pauses for longer than the script's second; the pipe of the test holds 64 KiB."""
    process = script("head -c 120000 /dev/zero", live=True)
    time.sleep(2)
    found = finish(process, live=True)
    assert isinstance(found, Saved)
    assert [file.size for file in found.files] == [120_000, 0]
    assert (tmp_path / MARK / "out").read_bytes() == bytes(120_000)


@pytest.mark.parametrize("live", [False, True])
def test_what_a_command_left_running_is_not_waited_for(script, live):
    process = script("echo there; sleep 600 & echo $! >&2", live=live)
    found = finish(process, live=live)
    os.kill(int(found.stderr), 9)
    assert found.stdout == b"there\n"


def test_a_dialogue_sees_the_output_as_it_comes(script):
    process = script('printf prompt:; read -r word; echo "$word"', live=True)
    assert process.stdout.read(7) == b"prompt:"
    process.stdin.write(b"word\n")
    process.stdin.flush()
    stdout, stderr = process.communicate(timeout=240)
    whole = b"prompt:word\n"
    assert settle_output(Completed(0, b"prompt:" + stdout, stderr), MARK, live=True) == Completed(0, whole, b"")
    assert show_output(b"prompt:" + stdout, MARK) == whole


def test_files_that_an_earlier_command_left_are_removed_after_a_day(script, tmp_path):
    old, new, other = (tmp_path / f"ocaptain-{name}" for name in ("output-0123", "output-1123", "clone-4567"))
    for directory in (old, new, other):
        directory.mkdir()
        (directory / "out").write_text("of a task with no_log")
    for directory in (old, other):
        os.utime(directory, (time.time() - 100_000,) * 2)
    finish(script("true", days=1))
    assert old.exists()
    finish(script("true"))
    assert sorted(tmp_path.iterdir()) == sorted([new, other])


ACCOUNT = b"MARK 3 5\n"
FILES = RemoteFile("/tmp/MARK/out", 3, "aa"), RemoteFile("/tmp/MARK/err", 5, "bb")


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "live", "settled"),
    [
        (0, b"out", b"words" + ACCOUNT, False, Completed(0, b"out", b"words")),
        (1, b"out", b"MARK\n" + ACCOUNT, False, Completed(1, b"out", b"MARK\n")),
        (0, b"ouMARKout", b"MARKwords" + ACCOUNT, True, Completed(0, b"out", b"words")),
        (0, b"", b"MARK 3 5 aa bb\n", False, Saved(0, FILES)),
        (0, b"o", b"MARKMARK 3 5 aa bb\n", True, Saved(0, FILES)),
        (5, b"out", b"MARK none\nwords", False, Completed(5, b"out", b"words")),
        (137, b"out", b"words", False, Completed(137, b"out", b"words")),
        (137, b"oMARKout", b"words", True, Completed(137, b"out", b"words")),
        (0, b"ot", b"words" + ACCOUNT, False, "2 of 3 bytes, and 5 of 5 of its errors"),
        (0, b"outs", b"words" + ACCOUNT, False, "4 of 3 bytes, and 5 of 5 of its errors"),
        (0, b"out", b"wods" + ACCOUNT, False, "3 of 3 bytes, and 4 of 5 of its errors"),
        (0, b"outMAout", b"MARKwords" + ACCOUNT, True, "8 of 3 bytes"),
        (0, b"out", b"words", False, "nothing tells how long it is"),
        (0, b"", b"", False, "nothing tells how long it is"),
        (0, b"out", b"MARK 3\n", False, "nothing tells how long it is"),
        (0, b"out", b"MARK 3 x\n", False, "nothing tells how long it is"),
        (0, b"out", b"wordsMARK lost\n", False, "has it any room"),
        (0, bytes(300_000), b"MARK none\n", False, "nothing tells how long it is"),
        (137, bytes(300_000), b"", False, "nothing tells how long it is"),
    ],
)
def test_only_what_is_known_to_be_whole_passes(code, stdout, stderr, live, settled):
    done = Completed(code, stdout, stderr)
    if isinstance(settled, str):
        with pytest.raises(OutputLost, match=settled):
            settle_output(done, MARK, live=live)
    else:
        assert settle_output(done, MARK, live=live) == settled


@pytest.mark.parametrize(
    ("stream", "shown"),
    [
        (b"prompt", b"prompt"),
        (b"pMARKprompt", b"prompt"),
        (b"promptMARKpr", b"prompt"),
        (b"MARK none\nprompt", b"prompt"),
    ],
)
def test_a_dialogue_sees_one_copy_of_the_output(stream, shown):
    assert show_output(stream, MARK) == shown


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (ExecInterrupted(""), True),
        (OutputLost(""), True),
        (DeadlinePassed(""), True),
        (TooLarge(""), True),
        (asyncio.CancelledError(), True),
        (RuntimeError("of a dialogue"), True),
        (SpriteWedged(""), False),  # it would not answer
        (ConnectionFailed(""), False),
    ],
)
def test_files_are_removed_after_what_may_have_left_them(error, left):
    assert may_have_left_files(error) is left
