"""Waiting for an attempt, on a ship."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess

from ocaptain.worker import attempts
from tests.helpers import PATIENCE


def test_who_waits_for_an_attempt_is_woken_by_its_end_and_by_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts, "RECHECK_SECONDS", 3600)

    async def wait():
        with contextlib.closing(attempts.AttemptEvents(tmp_path / "news")) as news:
            child = subprocess.Popen(["sleep", "0.2"])
            news.watch_process(child.pid)
            news.watch_process(os.getpid())  # one is watched already
            await news.wait_for_event()
            assert child.wait() == 0
            news.watch_process(child.pid)  # gone, which is no fault
            await news.wait_for_event()
            news.watch_process(os.getpid())
            with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as way:
                for _ in range(5):
                    way.sendto(b"", str(tmp_path / "news"))
                await news.wait_for_event()
                way.sendto(b"", str(tmp_path / "news"))  # within the moment: heard when that is over
                await news.wait_for_event()

    asyncio.run(asyncio.wait_for(wait(), PATIENCE))
