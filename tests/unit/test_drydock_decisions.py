"""Drydock's decisions as data: pauses, policies, tasks, orders, events, names."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocaptain.drydock import checkpoints, server
from ocaptain.drydock.api.exec import EXIT_GAP_SECONDS, gap_before
from ocaptain.drydock.base import lock_holder, wait_for_dpkg
from ocaptain.drydock.errors import ApiError, DrydockError, FsError, InvalidRequest, refusal_of_failure
from ocaptain.drydock.gate import Gate
from ocaptain.drydock.life import Activity, IdlePolicy, State, next_state
from ocaptain.drydock.policy import NetworkPolicy, NetworkRule, allows_host
from ocaptain.drydock.progress import LogReader, said_in
from ocaptain.drydock.secluded import run_secluded
from ocaptain.drydock.services import sort_by_needs
from ocaptain.drydock.sessions import EXIT
from ocaptain.drydock.spoiling import LosingSender, keep_outside_holes
from ocaptain.drydock.tasks import MAX_EXPIRE_SECONDS, MAX_TASKS, Tasks
from ocaptain.drydock.watch import parse_watch_events

RUNNING, WARM, COLD = State.RUNNING, State.WARM, State.COLD


@pytest.mark.parametrize(
    ("state", "held", "quiet", "then"),
    [
        (RUNNING, False, 29.9, RUNNING),
        (RUNNING, False, 30.0, WARM),
        (RUNNING, True, 9999.0, RUNNING),
        (WARM, False, 89.9, WARM),
        (WARM, False, 90.0, COLD),
        (COLD, False, 9999.0, COLD),
        (COLD, True, 0.0, COLD),  # only a request wakes one, and does it itself
    ],
)
def test_when_a_sprite_pauses(state, held, quiet, then):
    assert next_state(Activity(state, held, quiet), IdlePolicy(idle=30, cold=60)) is then


def test_a_patience_of_nought_is_for_ever():
    assert next_state(Activity(RUNNING, is_held=False, quiet_seconds=1e9), IdlePolicy(idle=0, cold=1)) is RUNNING
    assert next_state(Activity(WARM, is_held=False, quiet_seconds=1e9), IdlePolicy(idle=1, cold=0)) is WARM


def rules(*pairs):
    return [
        NetworkRule(include="defaults") if pair == "defaults" else NetworkRule(domain=pair[0], action=pair[1])
        for pair in pairs
    ]


@pytest.mark.parametrize(
    ("given_rules", "host", "allowed"),
    [
        ([], "anything.example", True),
        ([("a.example", "allow")], "b.example", False),
        ([("a.example", "allow")], "A.example.", True),
        ([("*.example", "allow")], "a.b.example", True),
        ([("*.example", "allow")], "example", False),
        ([("*.example", "allow"), ("bad.example", "deny")], "bad.example", False),
        ([("bad.example", "deny"), ("*.example", "allow")], "bad.example", False),  # exact beats wildcard, in any order
        ([("*.b.example", "deny"), ("*.example", "allow")], "a.b.example", False),  # the longer wildcard
        ([("*", "deny"), ("*.example", "allow")], "a.example", True),
        ([("*", "allow")], "a.example", True),
        ([("*", "allow")], "localhost", False),  # private addresses need a rule of their own
        ([("*", "allow")], "127.0.0.1", False),
        ([("localhost", "allow")], "localhost", True),
        ([("a.example", "allow"), ("a.example", "deny")], "a.example", False),  # of two equal ones the later
        (["defaults"], "api.github.com", True),
        (["defaults"], "a.example", False),
        (["defaults", ("*.github.com", "deny")], "api.github.com", False),
    ],
)
def test_what_a_policy_lets_through(given_rules, host, allowed):
    assert allows_host(rules(*given_rules), host) is allowed


@pytest.mark.parametrize("domain", ["", "*.", "a b", "*x", "a*", ".a", "a\n", "x" * 300])
def test_what_is_no_domain(domain):
    with pytest.raises(ValueError, match="domain"):
        NetworkPolicy.model_validate({"rules": [{"domain": domain, "action": "allow"}]})


class Clock:
    now = 1000.0
    set_by = 0.0  # how much the machine's clock was set

    def monotonic(self):
        return self.now

    def wall(self):
        return self.now + self.set_by


@pytest.mark.parametrize("seconds", [-7200.0, 7200.0])
def test_a_clock_that_is_set_ends_no_task_and_lengthens_none(seconds):
    clock = Clock()
    tasks = Tasks(clock)
    tasks.create_or_refresh("a", 10)
    clock.set_by = seconds
    assert [task.name for task in tasks.live_tasks()] == ["a"]
    clock.now += 10
    assert tasks.live_tasks() == []


@pytest.mark.parametrize(
    ("frame", "since_last", "gap"),
    [
        (bytes([EXIT, 0]), None, 0.0),
        (bytes([EXIT, 0]), 0.0, EXIT_GAP_SECONDS),
        (bytes([EXIT, 0]), 10.0, 0.0),
        (b"\x01out", None, 0.0),
        (b"\x01out", 0.0, 0.0),
    ],
)
def test_an_exit_frame_stands_apart_from_output_alone(frame, since_last, gap):
    assert gap_before(frame, since_last) == gap


def test_tasks_expire_are_refreshed_and_have_limits():
    clock = Clock()
    tasks = Tasks(clock)
    made = tasks.create_or_refresh("a", 10, must_be_new=True)
    assert made.describe()["expires_at"] == "1970-01-01T00:16:50.000Z"
    clock.now += 9
    assert tasks.create_or_refresh("a", 10).started == 1000.0
    clock.now += 9
    assert [task.name for task in tasks.live_tasks()] == ["a"]
    clock.now += 1
    assert tasks.live_tasks() == []
    for name, expire, status in (
        ("", 1, 400),
        ("a/b", 1, 400),
        ("x", 0, 400),
        ("x", -1, 400),
        ("x", MAX_EXPIRE_SECONDS + 1, 400),
    ):
        with pytest.raises(ApiError) as raised:
            tasks.create_or_refresh(name, expire)
        assert raised.value.status == status
    for number in range(MAX_TASKS):
        tasks.create_or_refresh(f"t{number}", 10)
    with pytest.raises(ApiError) as raised:
        tasks.create_or_refresh("one-more", 10)
    assert raised.value.status == 429
    with pytest.raises(ApiError) as raised:
        tasks.create_or_refresh("t1", 10, must_be_new=True)
    assert raised.value.status == 409
    tasks.release("t1")
    for call in (tasks.get_or_404, tasks.release):
        with pytest.raises(ApiError) as raised:
            call("t1")
        assert raised.value.status == 404


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefx"), max_size=4)))
def test_services_come_after_what_they_need(needs):
    order = sort_by_needs(needs)
    assert sorted(order) == sorted(needs)
    reach = {name: set(wanted) & set(needs) for name, wanted in needs.items()}
    for _ in needs:
        reach = {name: wanted.union(*(reach[other] for other in wanted)) for name, wanted in reach.items()}
    if any(name in reach[name] for name in needs):
        return  # in a ring, and below one, there is no order
    for name in needs:
        assert all(order.index(other) < order.index(name) for other in reach[name])


def test_inotify_events_are_read():
    def event(watch, mask, name):
        padded = name.encode() + b"\0" * (16 - len(name) % 16) if name else b""
        return struct.pack("iIII", watch, mask, 0, len(padded)) + padded

    data = event(1, 2, "a") + event(2, 0x40000100, "dir") + event(3, 0x8000, "")
    assert parse_watch_events(data) == [(1, 2, "a"), (2, 0x40000100, "dir"), (3, 0x8000, "")]
    assert parse_watch_events(data[:-3]) == [(1, 2, "a"), (2, 0x40000100, "dir")]


def test_options_of_a_drydock_that_left_sprites_are_taken_up_or_asked_for(tmp_path):
    """Never guessed: an isolated network must not come back as the host's own."""
    assert server.read_options(tmp_path) is None
    options = server.Options(port=7, network="isolated", ports=(1, 2), layers=("/opt/x",), limit=3, faults="{}")
    server.write_options(tmp_path, options)
    assert server.read_options(tmp_path) == replace(options, faults="")
    for damaged in (b"", b"{", b"[]", b"{}", b'{"ports": [], "layers": [], "new": 1}', b"\xff"):
        (tmp_path / server.OPTIONS_FILE).write_bytes(damaged)
        with pytest.raises(DrydockError, match=r"cannot be read .*options\.json"):
            server.read_options(tmp_path)


def test_a_base_is_not_built_while_another_program_installs_packages(tmp_path, capsys):
    lock = tmp_path / "lock-frontend"
    assert lock_holder(lock) is None
    lock.touch()
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    argv = [sys.executable, "-c", script, str(lock)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline()
        assert lock_holder(lock) == holder.pid
        with pytest.raises(DrydockError, match=f"process {holder.pid} has been installing packages"):
            asyncio.run(wait_for_dpkg(lock, 0.0))
        said = said_in(capsys.readouterr().err)
        assert said == f"waits at most 0 s for process {holder.pid}, which installs packages on this machine"
        holder.stdin.close()
    assert lock_holder(lock) is None
    asyncio.run(wait_for_dpkg(lock, 0.0))


@pytest.mark.parametrize(
    ("pieces", "left"),
    [
        ([b"abcdefghij"], b"abcdfghi"),  # after each 4 the next is missing
        ([b"abc", b"de", b"f", b"ghij"], b"abcdfghi"),
        ([b"abcd"], b"abcd"),
        ([b""], b""),
    ],
)
def test_holes_are_where_they_are_however_output_comes(pieces, left):
    found, passed = b"", 0
    for piece in pieces:
        found += keep_outside_holes(piece, passed, 4, 1)
        passed += len(piece)
    assert found == left


def test_who_starts_drydock_hears_each_line_once(tmp_path):
    log = tmp_path / "drydock.log"
    reader = LogReader(log)
    assert reader.new_lines() == []
    log.write_text("drydock: builds\nTraceback\ndrydock: wai")
    assert reader.new_lines() == ["builds"]
    with log.open("a") as file:
        file.write("ts\n")
    assert [reader.new_lines(), reader.new_lines()] == [["waits"], []]


def make_disk(directory):
    for part in checkpoints.DISK_PARTS:
        (directory / part / "deep").mkdir(parents=True)
        (directory / part / "deep/file").write_text(part)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes mounts, as drydock does")
def test_a_copy_that_a_killed_drydock_left_is_in_nobodys_way(tmp_path):
    make_disk(tmp_path)
    for leftover in ("unfinished/upper", "v1/upper/old"):
        (tmp_path / "checkpoints" / leftover).mkdir(parents=True)
    checkpoints.save_checkpoint(tmp_path, "v1")
    assert [one.name for one in (tmp_path / "checkpoints").iterdir()] == ["v1"]
    copied = {str(file.relative_to(tmp_path / "checkpoints/v1")) for file in (tmp_path / "checkpoints").rglob("file")}
    assert copied == {f"{part}/deep/file" for part in checkpoints.DISK_PARTS}
    assert not (tmp_path / "checkpoints/v1/upper/old").exists()
    (tmp_path / "home/deep/file").write_text("changed")
    checkpoints.restore_checkpoint(tmp_path, "v1")
    assert (tmp_path / "home/deep/file").read_text() == "home"
    assert not (tmp_path / "restoring").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes mounts, as drydock does")
def test_a_copy_that_fails_leaves_nothing(tmp_path):
    make_disk(tmp_path)
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(DrydockError, match="could not be copied"):
        checkpoints.save_checkpoint(tmp_path, "v1")
    assert list((tmp_path / "checkpoints").iterdir()) == []
    with pytest.raises(DrydockError, match="could not be copied"):
        checkpoints.restore_checkpoint(tmp_path, "v1")
    assert not (tmp_path / "restoring").exists()
    assert (tmp_path / "home/deep/file").read_text() == "home"


@pytest.mark.skipif(os.geteuid() != 0, reason="makes mounts, as drydock does")
def test_a_secluded_program_sees_its_directories_alone_and_follows_no_link(tmp_path):
    for name in ("read", "written"):
        (tmp_path / name).mkdir()
    (tmp_path / "read/file").write_text("x")
    (tmp_path / "read/link").symlink_to("file")
    script = (
        f"ls /; cat /from/read/file; readlink /from/read/link; cat /from/read/link; test -e {tmp_path};"
        " echo $?; touch /from/read/no /usr/no; touch /to/yes"
    )
    done = run_secluded(["sh", "-c", script], [tmp_path / "read"], tmp_path / "written", 60)
    shown = {*done.stdout.splitlines()}
    assert shown - {"bin", "sbin", "lib", "lib32", "lib64", "libx32"} == {"usr", "from", "to", "xfile", "1"}
    assert "Too many levels of symbolic links" in done.stderr
    assert done.stderr.count("Read-only file system") == 2
    assert [one.name for one in (tmp_path / "written").iterdir()] == ["yes"]


def test_nothing_starts_in_a_ship_that_stands_still():
    async def play():
        gate, told = Gate(), []

        async def enter(name, leave):
            async with gate.passing():
                told.append(name)
                await leave.wait()
                told.append(f"{name} is in")

        leave, at_once = asyncio.Event(), asyncio.Event()
        at_once.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(enter("one", leave))
            while not told:
                await asyncio.sleep(0)
            closing = tasks.create_task(gate.close())
            await asyncio.sleep(0)
            tasks.create_task(enter("two", at_once))
            leave.set()
            await closing
            told.append("closed")
            await gate.close()
            await gate.open()
            for _ in range(9):
                await asyncio.sleep(0)
            told.append("open")
            await gate.open()
        return told

    assert asyncio.run(play()) == ["one", "one is in", "closed", "open", "two", "two is in"]


def test_a_disk_that_cannot_be_mounted_for_a_copy_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    make_disk(tmp_path)
    monkeypatch.setattr(checkpoints, "run_secluded", refuse)
    with pytest.raises(DrydockError, match="could not be made: Operation not permitted"):
        checkpoints.save_checkpoint(tmp_path, "v1")
    assert list((tmp_path / "checkpoints").iterdir()) == []
    with pytest.raises(DrydockError, match="could not be restored: Operation not permitted"):
        checkpoints.restore_checkpoint(tmp_path, "v1")
    assert not (tmp_path / "restoring").exists()


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ("cp: error writing 'x': No space left on device", 507, "insufficient_storage"),
        ("[Errno 122] Disk quota exceeded: 'x'", 507, "insufficient_storage"),
        ("cp: cannot stat 'x'", 500, "sandbox_failed"),
    ],
)
def test_a_full_disk_is_told_from_other_failures(message, status, code):
    refusal = refusal_of_failure(message)
    assert (refusal.status, refusal.code, refusal.message) == (status, code, message)


def test_the_forms_of_a_refusal():
    assert InvalidRequest(["a: b", "c"]).body() == {"errors": ["a: b", "c"]}
    assert ApiError(404, "not_found", "gone").body() == {"error": "not_found", "message": "gone"}
    full = FsError.from_os(OSError(errno.EDQUOT, "Disk quota exceeded"), "/x")
    assert (full.status, full.body()) == (507, {"error": "Disk quota exceeded: /x", "code": "ENOSPC", "path": "/x"})
    assert FsError.from_os(OSError(errno.ELOOP, "Loop"), "/x").code == "EINVAL"


@pytest.mark.parametrize(
    ("stream", "arrived"),
    [("stdout", [b"\1ad", b"\2abcd"]), ("stderr", [b"\1abcd", b"\2ad"]), ("both", [b"\1ad", b"\2ad"])],
)
def test_holes_are_in_the_streams_that_the_rule_names(stream, arrived):
    sent = []

    async def send(message):
        sent.append(message["bytes"])

    async def work():
        losing = LosingSender(send, 1, 2, stream=stream, tty=False)
        for frame in (b"\1ab", b"\2abc", b"\1cd", b"\2d", b"\3\0"):
            await losing({"type": "websocket.send", "bytes": frame})

    asyncio.run(work())
    joined = [b"".join(frame[1:] for frame in sent if frame[0] == number) for number in (1, 2)]
    assert [bytes([number]) + data for number, data in enumerate(joined, 1)] == arrived
    assert sent[-1] == b"\3\0"
