"""The keeper of a host's worker: started while others look, ended with all that it started."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from ocaptain.worker import keep
from ocaptain.worker.places import Places

#: A worker that ends its keeper.
ENDS = (
    "import os, pathlib, signal; pathlib.Path(__file__).with_name('ran').touch(); os.kill(os.getppid(), signal.SIGTERM)"
)


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path)
    found.own.mkdir(parents=True)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_keeper_that_starts_while_somebody_looks_keeps(places, tmp_path):
    """Who starts it looks for it again and again, and holds its lock for a moment each time."""
    program = tmp_path / "worker.py"
    program.write_text(ENDS)
    threading.Timer(0.3, os.close, [keep._take_keeper_lock(places)]).start()
    assert keep._run_keeper(places, program) == 0
    assert (tmp_path / "ran").exists()


def test_a_worker_whose_keeper_ended_before_it_began_ends_too():
    pid = os.fork()
    if pid == 0:
        try:
            keep._end_with_parent(os.getpid())  # which is not its parent
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
