"""Limits of a ship as data: sizes, control groups of both versions, scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocaptain.drydock import cgroups, oom
from ocaptain.drydock.cgroups import Limits, Place, find_candidates, parse_size, settings

OLD = """\
9:name=systemd:/
8:pids:/
4:memory,hugetlb:/jobs/one
0::/
"""
OLD_MOUNTS = """\
24 23 0:20 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755
25 24 0:21 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory,hugetlb
26 24 0:22 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
27 24 0:23 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
NEW = "0::/user.slice/user-1000.slice/app.slice/run-7.scope\n"
NEW_MOUNTS = "24 23 0:20 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("controller", "groups", "mounts", "found"),
    [
        ("memory", OLD, OLD_MOUNTS, ["1 /sys/fs/cgroup/memory/jobs/one", "2 /sys/fs/cgroup/unified"]),
        ("pids", OLD, OLD_MOUNTS, ["1 /sys/fs/cgroup/pids", "2 /sys/fs/cgroup/unified"]),
        (
            "memory",
            NEW,
            NEW_MOUNTS,
            [
                "2 /sys/fs/cgroup/user.slice/user-1000.slice/app.slice/run-7.scope",
                "2 /sys/fs/cgroup/user.slice/user-1000.slice/app.slice",
                "2 /sys/fs/cgroup/user.slice/user-1000.slice",
                "2 /sys/fs/cgroup/user.slice",
                "2 /sys/fs/cgroup",
            ],
        ),
        # A container that sees its own part of the hierarchy alone.
        ("pids", "3:pids:/docker/x/y", "9 8 0:2 /docker/x /c rw - cgroup cgroup rw,pids", ["1 /c/y"]),
        ("pids", "3:pids:/docker/x", "9 8 0:2 /docker/x /c rw - cgroup cgroup rw,pids", ["1 /c"]),
        ("pids", "3:pids:/docker/xy", "9 8 0:2 /docker/x /c rw - cgroup cgroup rw,pids", []),  # not shown here
        ("pids", "3:pids:/", "", []),
        ("memory", "", OLD_MOUNTS, []),
    ],
)
def test_where_a_controllers_groups_might_be_made(controller, groups, mounts, found):
    assert [f"{one.version} {one.path}" for one in find_candidates(controller, groups, mounts)] == found


@pytest.mark.parametrize(
    ("controller", "version", "written"),
    [
        ("pids", 1, [("pids.max", "64")]),
        ("pids", 2, [("pids.max", "64")]),
        ("memory", 1, [("memory.limit_in_bytes", "4096"), ("memory.memsw.limit_in_bytes?", "4096")]),
        ("memory", 2, [("memory.max", "4096"), ("memory.swap.max?", "0")]),
    ],
)
def test_what_is_written_to_a_group(controller, version, written):
    assert settings(Limits(memory=4096, pids=64), controller, version) == written


def test_limits_need_only_their_own_controllers():
    assert Limits().controllers() == []
    assert Limits(pids=1).controllers() == ["pids"]
    assert Limits(memory=1, pids=1).controllers() == ["memory", "pids"]


def test_a_ship_of_version_2_is_one_group(tmp_path):
    place = Place(tmp_path, 2)
    group = cgroups.ShipGroups(Limits(memory=1, pids=1), {"memory": place, "pids": place}, "x")
    assert len(group.process_files()) == 1
    assert cgroups.ShipGroups(Limits(), {}, "x").process_files() == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("2K", 2048), ("512m", 512 << 20), ("3GiB", 3 << 30), (" 1TB ", 1 << 40)],
)
def test_a_size_is_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0G", "-1", "1.5G", "G", "1X", "1 G", "ten", "9" * 13])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(("current", "level", "then"), [(0, 700, 700), (-500, 300, 300), (900, 700, 900)])
def test_a_score_is_only_raised(current, level, then):
    assert oom.raised(current, level) == then


def test_a_place_without_the_controller_is_refused_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    monkeypatch.setattr(cgroups, "find_candidates", lambda *_: [Place(tmp_path, 2), Place(Path("/proc"), 1)])
    with pytest.raises(cgroups.DrydockError, match=r"--ship-pids cannot be kept on this machine: .*/proc"):
        cgroups.find_places(Limits(pids=5))
