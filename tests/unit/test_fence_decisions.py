"""The fence's decisions as data: ranges of ids, owners of files, what is mounted, what is forbidden."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import struct
import subprocess

import pytest

from ocaptain.drydock import confine, idmap, ids, kernel, rootless, seccomp
from ocaptain.drydock.build import Plan, hidden_mounts, overlays, root_mounts
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.hide import HIDDEN_FILES
from ocaptain.drydock.ids import FIRST_SLOT, LAST_SLOT, RANGE_SIZE, IdClaims, Ids, move_capability, move_id, range_of
from ocaptain.drydock.record import Process
from ocaptain.drydock.rootless import SandboxMode
from ocaptain.drydock.sandbox import MAX_STDERR, read_some

ONE = range_of(FIRST_SLOT)
_pair = (ctypes.c_int * 2)()
PAIR = ctypes.addressof(_pair)  # where socketpair(2) puts two descriptors


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [(1024, 4096, 4096), (1024, 2**20, 65536), (1024, -1, 65536), (2**20, 2**20, 2**20), (-1, -1, -1), (256, 256, 256)],
)
def test_how_many_descriptors_a_server_has(soft, hard, wanted):
    assert confine.wanted_open_files(soft, hard) == wanted


@pytest.mark.parametrize("raised", [False, True])
def test_what_drydock_starts_has_the_descriptors_that_drydock_was_given(raised):
    def work():
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        if raised:
            confine.raise_open_files()
        during = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        confine.give_back_open_files()
        return (during > 300) is (raised and hard > 300) and resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)

    assert forked(work) == "True"


def test_a_range_translates_both_ways():
    assert (ONE.outside(0), ONE.outside(1000), ONE.outside(-1)) == (ONE.first, ONE.sprite, -1)
    assert (ONE.inside(ONE.first), ONE.inside(ONE.sprite), ONE.inside(0), ONE.inside(ONE.first + RANGE_SIZE)) == (
        *(0, 1000, 65534, 65534),
    )
    with pytest.raises(OSError, match="Invalid"):
        ONE.outside(RANGE_SIZE)
    shared = Ids(0, 1000)
    assert (shared.outside(70000), shared.inside(70000), shared.is_own) == (70000, 70000, False)


def test_ranges_lie_apart_and_below_the_sign():
    assert range_of(LAST_SLOT).first + RANGE_SIZE <= ids.SHARED_SLOT * RANGE_SIZE < 2**31
    assert range_of(FIRST_SLOT + 1).first == ONE.first + ONE.size


ALL_IDS, OF_A_CONTAINER = "         0          0 4294967295\n", "0 100000 65536\n"


@pytest.mark.parametrize(
    ("id_map", "first", "end", "holds"),
    [
        (ALL_IDS, idmap.FIRST_ID, idmap.END_ID, True),
        (OF_A_CONTAINER, idmap.FIRST_ID, idmap.END_ID, False),  # LXC, Podman, Docker with userns-remap
        ("0 1000 1\n1 100000 65536\n", idmap.FIRST_ID, idmap.END_ID, False),
        ("0 0 1\n", idmap.FIRST_ID, idmap.END_ID, False),
        ("", 0, 1, False),
        (OF_A_CONTAINER, 1000, 1001, True),
        ("0 0 1\n", 1000, 1001, False),
        ("1 100000 65536\n0 1000 1\n", 0, 65537, True),  # in any order
        ("0 1000 10\n11 100000 65536\n", 0, 1001, False),  # with a hole
        ("0 1000 20\n", 5, 21, False),
    ],
)
def test_which_ids_a_map_holds(id_map, first, end, holds):
    assert idmap.maps_ids(id_map, first, end) is holds


def test_what_is_asked_of_a_map_are_the_ships_ranges_and_the_trial():
    assert ONE.first == idmap.FIRST_ID
    assert range_of(ids.SHARED_SLOT).first + RANGE_SIZE < idmap.END_ID


def in_namespace(ranges, work):
    """Return what ``work`` returns as root of a user namespace with the ids of this machine below ``ranges``."""
    users = idmap.make_user_namespace(0, ranges)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            kernel.join(users)
            confine.become_root_of_namespace()
            os.write(writing, str(work()).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    for fd in (users, writing):
        os.close(fd)
    with os.fdopen(reading) as file:
        told = file.read()
    os.waitpid(child, 0)
    return told


def describe_root():
    for cached in (rootless.sandbox_mode, rootless.why_no_view):
        cached.cache_clear()
    return rootless.is_machine_root(), str(rootless.sandbox_mode()), ids.shared_ids().first


def require_without_mounts():
    """Ask for namespaces without sys_admin, as in a container that was not given it."""
    kernel.prctl(kernel.PR_CAPBSET_DROP, 21)
    kernel.set_capabilities(0, 0)
    try:
        rootless.require_namespaces()
    except DrydockError as error:
        return error


@pytest.mark.skipif(os.geteuid() != 0, reason="gives ids to a namespace")
@pytest.mark.parametrize(("ranges", "mode"), [(65536, "mapped"), (1, "single")])
def test_root_of_a_container_with_few_ids_is_not_the_machine_s_root(ranges, mode):
    assert in_namespace(ranges, describe_root) == str((False, mode, 0))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives ids to a namespace")
def test_where_no_namespaces_are_allowed_it_is_said_and_no_package_is_named():
    told = in_namespace(65536, require_without_mounts)
    assert "allows no mount namespaces" in told
    assert "CAP_SYS_ADMIN" in told
    assert "apt-get" not in told


@pytest.mark.parametrize(
    ("lines", "taken"),
    [
        ("", set()),
        ("tester:100000:65536\n", set()),
        (f"tester:{FIRST_SLOT * RANGE_SIZE}:65536\n", {FIRST_SLOT}),
        (f"tester:{FIRST_SLOT * RANGE_SIZE + 1}:65536\n", {FIRST_SLOT, FIRST_SLOT + 1}),
        (f"tester:{LAST_SLOT * RANGE_SIZE}:999999999999\n", {LAST_SLOT}),
        ("no line\nx:y:z\n#:1\nx:1:0\n", set()),
    ],
)
def test_ranges_of_subuid_are_left_alone(lines, taken):
    assert ids.taken_slots(lines) == taken


def test_every_free_slot_is_tried_once():
    tried = list(ids.slots_from(5, frozenset({FIRST_SLOT + 6})))
    assert tried[:2] == [FIRST_SLOT + 5, FIRST_SLOT + 7]
    assert len(tried) == len({*tried}) == LAST_SLOT - FIRST_SLOT


def test_two_drydocks_never_hold_the_same_range(tmp_path, monkeypatch):
    monkeypatch.setattr(ids, "sandbox_mode", lambda: SandboxMode.HOST)
    one, two = IdClaims(tmp_path / "ids"), IdClaims(tmp_path / "ids")
    held = one.claim()
    assert two.claim(held.first) != held
    assert one.claim(held.first) != held  # nor twice by one of them
    one.release(held)
    assert two.claim(held.first) == held


@pytest.mark.parametrize(
    ("owner", "source", "target", "then"),
    [
        (0, 0, ONE.first, ONE.first),
        (1000, 0, ONE.first, ONE.sprite),
        (ONE.first, 0, ONE.first, ONE.first),  # the second try of a call that was interrupted
        (ONE.sprite, ONE.first, 0, 1000),
        (1000, ONE.first, 0, 1000),
    ],
)
def test_an_owner_moves_with_its_range(owner, source, target, then):
    assert move_id(owner, source, target) == then


def test_capabilities_of_a_file_name_the_root_of_their_range():
    bits = struct.pack("<4I", 0x2000, 0, 0, 0)
    of_machine = struct.pack("<I", 0x02000001) + bits
    of_range = struct.pack("<I", 0x03000001) + bits + struct.pack("<I", ONE.first)
    assert move_capability(of_machine, 0, ONE.first) == of_range
    assert move_capability(of_range, ONE.first, 0) == of_machine
    assert move_capability(of_range, 0, 7 * RANGE_SIZE) == of_range
    assert move_capability(b"odd", 0, ONE.first) == b"odd"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_moved_tree_keeps_modes_and_follows_no_link(tmp_path):
    outside = tmp_path / "outside"
    outside.touch()
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    program = tree / "deep/program"
    program.write_text("x")
    program.chmod(0o4755)
    (tree / "link").symlink_to(outside)
    os.link(program, tree / "again")
    for _ in range(2):
        ids.move_tree(tree, 0, ONE.first)
        assert {path.lstat().st_uid for path in [tree, *tree.rglob("*")]} == {ONE.first}
    assert program.stat().st_mode & 0o7777 == 0o4755
    assert outside.stat().st_uid == 0


def plan(mode, base, *layers):
    return Plan("n", "/ship", mode, base, layers, ONE, own_network=False, program=b"")


def test_what_lies_over_what(tmp_path):
    (tmp_path / "base/usr").mkdir(parents=True)
    (tmp_path / "base/etc").mkdir()
    (tmp_path / "layer/usr").mkdir(parents=True)
    base, layer = str(tmp_path / "base"), str(tmp_path / "layer")
    assert overlays(plan(SandboxMode.HOST, base, layer)) == {
        "usr": [f"{layer}/usr", f"{base}/usr", "/usr"],
        "etc": [f"{base}/etc", "/etc"],
        "var": ["/var"],
        "opt": ["/opt"],
    }
    assert overlays(plan(SandboxMode.MAPPED, base, layer))["usr"] == [f"{layer}/usr", f"{base}/usr"]
    assert overlays(plan(SandboxMode.HOST, None))["usr"] == ["/usr"]


def test_of_proc_only_what_is_there_is_covered_and_dev_is_never_the_hosts():
    targets = [one.target for one in hidden_mounts(["sys", "slabinfo", "bus", "self", "meminfo"])]
    assert targets == ["proc/sys", "proc/slabinfo", "proc/bus"]
    assert {"slabinfo", "kpageflags", "sysrq-trigger", "keys"} < {*HIDDEN_FILES}
    dev = [one for one in root_mounts(single=True) if one.target == "dev"]
    assert [one.kind for one in dev] == ["tmpfs"]
    for one in root_mounts(single=True):
        assert one.kind or one.flags & kernel.MS_NODEV or one.target.startswith("dev/"), one
    (terminals,) = [one for one in root_mounts(single=True) if one.target == "dev/pts"]
    assert "gid=5" not in terminals.options


def forked(work):
    """Return what ``work`` returns in a forked child that is under the filter."""
    program = seccomp.filter_program()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load_filter(program)
            os.write(writing, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        told = file.read()
    os.waitpid(child, 0)
    return told


def refused(number, *arguments):
    ctypes.set_errno(0)
    result = kernel.libc.syscall(number, *arguments)
    return os.strerror(ctypes.get_errno()) if result < 0 else "made"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ((39,), "made"),  # getpid
        ((41, 1, 1, 0), "made"),  # a socket of the machine
        ((41, 2, 1, 0), "made"),
        ((41, 40, 1, 0), "Address family not supported by protocol"),  # vsock
        ((41, 3, 1, 0), "Address family not supported by protocol"),
        ((41, 2**32 + 40, 1, 0), "Address family not supported by protocol"),  # the kernel sees 40
        ((53, 30, 1, 0, PAIR), "Address family not supported by protocol"),  # a pair of TIPC
        ((53, 2, 1, 0, PAIR), "Address family not supported by protocol"),
        ((53, 0, 1, 0, PAIR), "Address family not supported by protocol"),
        ((53, 2**32 + 30, 1, 0, PAIR), "Address family not supported by protocol"),
        ((53, 1, 1, 0, PAIR), "made"),
        ((250, 0, -3, 0), "Operation not permitted"),  # keyctl
        ((272, 0), "Operation not permitted"),  # unshare
        ((56, 0x10000000 | 17, 0, 0, 0, 0), "Operation not permitted"),  # clone with a user namespace
        ((435, 0, 0), "Function not implemented"),  # clone3
        ((0x40000000 + 272, 0x10000000), "Operation not permitted"),  # unshare by the other table (x32)
    ],
)
def test_which_calls_the_filter_refuses(call, answer):
    assert forked(lambda: refused(*map(ctypes.c_long, call))) == answer


def test_of_what_a_ship_says_that_cannot_be_built_only_so_much_is_read():
    async def said():
        reader = asyncio.StreamReader()
        reader.feed_data(b"x" * (MAX_STDERR + 1))  # and no end
        return await read_some(reader)

    assert asyncio.run(said()) == b"x" * MAX_STDERR


def test_a_recorded_process_is_ended_and_another_of_its_pid_is_not():
    with subprocess.Popen(["sleep", "600"]) as child:
        recorded = Process.find(child.pid)
        recorded.model_copy(update={"started": "0"}).kill()
        assert recorded.is_alive
        recorded.kill()
        assert child.wait() == -9
    recorded.kill()
