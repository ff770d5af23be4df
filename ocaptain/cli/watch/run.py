"""Run the application on this terminal, and leave it as it was."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys

from ocaptain.cli import render
from ocaptain.cli.views import find_voyage, machine_cost
from ocaptain.cli.watch.app import WatchApp
from ocaptain.cli.watch.seen import farewell
from ocaptain.errors import UsageError
from ocaptain.query import Query


def run_watch(voyage: str | None) -> None:
    """Watch a voyage until the user leaves.

    Raises:
        UsageError: no voyage or several match, or this is no terminal for a full screen.
        LedgerError: the voyage cannot be read.
    """
    directory = find_voyage(voyage)
    if why := unfit_terminal():
        name = directory.id
        raise UsageError(
            f"watch needs a terminal for a full screen, and {why};"
            f" see: ocaptain status {name}, ocaptain logs {name} -f, ocaptain events {name} -f"
        )
    if isinstance(sys.__stderr__, io.TextIOWrapper):  # Textual draws there: symbols that its encoding lacks
        sys.__stderr__.reconfigure(errors=sys.stderr.errors)
    environ = dict(os.environ)  # Textual takes NO_COLOR out of the process's own
    about = Query(directory.path).overview()
    app = WatchApp(directory, machine_cost(about.provider), environ)
    asyncio.run(_run(app))
    if fault := app.fault:
        raise fault
    render.print_next(farewell(app.seen, directory.id))


def unfit_terminal() -> str | None:
    """Return why this process has no terminal for a full screen, None if it has."""
    for stream, name in ((sys.__stdin__, "input"), (sys.__stdout__, "output"), (sys.__stderr__, "error")):
        if stream is None or stream.closed or not stream.isatty():
            return f"standard {name} is none"
    if os.environ.get("TERM", "dumb") in {"dumb", "unknown"}:
        return f"TERM is {os.environ.get('TERM', 'not set')}"
    return None


async def _run(app: WatchApp) -> None:
    """Run the application; a signal that ends other programs ends it in order, so that the terminal is restored."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, app.exit)
    await app.run_async(mouse=False)
