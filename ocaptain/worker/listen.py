"""The worker's life: it listens on its socket until a signal ends it."""

import asyncio
import os
import signal
from pathlib import Path

from ocaptain.worker.places import Places
from ocaptain.worker.serve import Worker


async def serve(places: Places, program: Path) -> None:
    """Serve on the unix socket until a signal ends the worker."""
    places.make()
    places.socket.unlink(missing_ok=True)
    worker = Worker(places, program)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    os.umask(0o077)
    server = await asyncio.start_unix_server(worker.serve_connection, str(places.socket))
    os.umask(0o022)
    await worker.telemetry.reopen()
    await worker.resume_attempt()
    clearing = asyncio.ensure_future(asyncio.to_thread(worker.trial.clear))
    await stopped.wait()
    worker.stop_script()
    worker.trial.stop()
    worker.telemetry.close()
    worker.live.stop()
    await clearing
    server.close()
