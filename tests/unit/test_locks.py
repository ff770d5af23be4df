"""Locks of files, while others look at them."""

from __future__ import annotations

import fcntl
import os
import threading

from ocaptain import locks
from ocaptain.locks import Lock, is_locked


def test_a_lock_that_somebody_looks_at_is_free(tmp_path):
    """Whoever tests it shares it, and may be interrupted just then: a captain that starts was refused by a `status`."""
    path = tmp_path / "lock"
    looking = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.3, os.close, [looking]).start()
    with Lock(path) as lock:
        assert not is_locked(path)
        assert lock.acquire()
        assert is_locked(path)


def test_a_lock_that_is_held_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "TEST_SECONDS", 3600.0)
    with Lock(tmp_path / "lock") as first, Lock(tmp_path / "lock") as second:
        assert (first.acquire(), second.acquire(), second.is_held) == (True, False, False)
        first.release()
        assert second.acquire()


def test_who_looks_for_ever_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "TEST_SECONDS", 0.05)
    looking = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    try:
        assert not Lock(tmp_path / "lock").acquire()
    finally:
        os.close(looking)
