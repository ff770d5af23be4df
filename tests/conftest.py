"""What every test finds: a home of its own, and helpers for plans."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers import CLEARED, Sailor, wait_for, write_plan

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory, monkeypatch):
    """No test reads or writes the developer's own configuration or voyages."""
    home = tmp_path_factory.mktemp("home")
    # The base layer is made once for all tests; everything else is theirs alone.
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    for name in list(os.environ):
        if name.startswith(CLEARED):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.chdir(home)
    # Programs that a test ran (ssh, node) may have left it otherwise, and Ansible refuses to start then.
    with contextlib.suppress(OSError):
        os.set_blocking(0, True)


@pytest.fixture
def plan(tmp_path):
    """Return a function that writes a plan: ``plan(tasks, verify=…, **voyage)``."""

    def make(tasks, name="plan", verify="exit 0", **voyage):
        return write_plan(tmp_path / name, tasks, verify=verify, **voyage)

    return make


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """A home with a drydock that lives as long as the session."""
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    sailor = Sailor(tmp_path_factory.mktemp("fleet"))
    sailor.json("drydock", "start", "--idle", "10m")  # what falls asleep by itself has tests of its own
    yield sailor
    sailor.stop_drydock()
    wait_for(lambda: sailor.leftovers() == [])


@pytest.fixture(scope="session")
def lone_home(tmp_path_factory):
    """A home that is one test's after the other; its drydock stays, unless a test did something to it."""
    home = tmp_path_factory.mktemp("lone")
    yield home
    last = Sailor(home)
    last.stop_drydock()
    wait_for(lambda: last.leftovers() == [])


@pytest.fixture
def lone(lone_home):
    """A home with a drydock of its own, to do harm to: as new at the beginning of each test."""
    if os.geteuid() != 0:
        pytest.skip("drydock needs root")
    found = Sailor(lone_home)
    if found.drydock() is None:
        found.json("drydock", "start")
    before = found.drydock()
    yield found
    found.scuttle()
    if found.drydock() != before:
        found.stop_drydock()
    # A drydock that goes on is no leftover; whatever else is there, is one.
    wait_for(lambda: [one for one in found.leftovers() if "ocaptain.drydock" not in one] == [])
    for place in (lone_home, lone_home / "state/ocaptain"):
        for one in place.iterdir() if place.is_dir() else ():
            if one not in {lone_home / "state", lone_home / "state/ocaptain", lone_home / "state/ocaptain/drydock"}:
                shutil.rmtree(one) if one.is_dir() and not one.is_symlink() else one.unlink()


@pytest.fixture
def sailor(fleet):
    """The session's home; whatever a test left sailing has its end after it."""
    yield fleet
    fleet.scuttle()


def pytest_collection_modifyitems(items):
    """Begin with what takes minutes, so that nobody waits for it alone in the end.

    xdist's ``worksteal`` deals the tests out in slices of the list, one a process: each slice begins
    with its share of them.
    """
    slices = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    rest = iter([item for item in items if not item.get_closest_marker("slow")])
    left, dealt = len(items), []
    for number in range(slices):
        size = left // (slices - number)
        left -= size
        first = slow[number::slices]
        dealt += [*first, *itertools.islice(rest, max(0, size - len(first)))]
    items[:] = dealt


def pytest_terminal_summary(terminalreporter):
    """Print the kill matrix, if cells of it ran."""
    from tests.voyage.matrix import PHASES, VICTIMS

    was, seeds = {}, set()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "matrix" and report.when == "call":
                    was[value[0], value[1]] = value[2]
                elif name == "matrix seed":
                    seeds.add(value)
    if not was:
        return
    terminalreporter.section("kill matrix")
    width = max(map(len, VICTIMS))
    terminalreporter.write_line(" " * width + "  " + "  ".join(f"{phase:<15}" for phase in PHASES))
    for victim, phases in {**VICTIMS, "provider dies": PHASES}.items():
        row = [was.get((victim, phase), "not run") if phase in phases else "-" for phase in PHASES]
        terminalreporter.write_line(f"{victim:<{width}}  " + "  ".join(f"{cell:<15}" for cell in row))
    for seed in seeds:
        terminalreporter.write_line(f"drawn where the provider dies by OCAPTAIN_MATRIX_SEED={seed}")
