"""``drydock start|status|stop``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx
from rich.text import Text

from ocaptain.background import background_environment
from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.cli.style import HEAD, format_clock, symbol
from ocaptain.cli.tables import lay_out
from ocaptain.drydock import server
from ocaptain.drydock.cgroups import find_places
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.progress import said_in
from ocaptain.drydock.rootless import describe_limitation
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.names import LABEL
from ocaptain.sprites import SpritesClient, SpritesError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocaptain.cli.next_step import Command
    from ocaptain.sprites import Sprite

NOT_RUNNING = Text.assemble(symbol("gone"), " drydock is not running")
ANSWER_SECONDS = 5.0  # a few tries of it are made


def start(options: server.Options, *, as_json: bool) -> None:
    """Start drydock; print where it is: words on a terminal, else JSON. Its progress goes to standard error.

    Raises:
        UsageError: an option is wrong, or drydock runs already with others.
        DrydockError: it did not start, or this machine cannot keep a limit that was given.
    """
    # Report a wrong option here, not in the log of a server that did not start.
    options.fault_plan()
    options.checked_layers()
    options.ship_network()
    find_places(options.ship_limits())
    if server.running_server() and options != server.Options(port=options.port):
        raise UsageError("drydock is already running with other options; stop it first (`ocaptain drydock stop`)")
    record = server.start(options, tell=lambda line: render.err().print(Text(line)))
    if _wants_json(as_json=as_json):
        render.print_json("drydock", {"running": True, **asdict(record)})
    else:
        console = render.out()
        render.print_lines(console, server_lines(record, {}, console.width))
    _print_next("drydock start", as_json=as_json)


def build_fault_plan(latency: float, jitter: float, seed: int, file: Path | None) -> str:
    """Return the fault plan as JSON: that of the file, overridden by the command line."""
    try:
        given = json.loads(file.read_text("utf-8")) if file else {}
    except OSError as error:
        raise UsageError(f"the fault plan {file} cannot be read: {error.strerror}; name a JSON file") from error
    except ValueError as error:
        raise UsageError(f"{file} is not a fault plan (docs/faults.md): {error}; correct it") from error
    overrides = {"latency": latency, "jitter": jitter, "seed": seed}
    plan = {**(given if isinstance(given, dict) else {"rules": given}), **{k: v for k, v in overrides.items() if v}}
    return json.dumps(plan) if plan else ""


def build_base() -> None:
    """Build the base layer in a process of its own: without root it needs a user namespace."""
    argv = [sys.executable, "-m", "ocaptain.drydock", "--build-base"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        environment = background_environment(os.environ)
        building = subprocess.Popen(
            argv, env=environment, stdout=printed, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        failure = ""
        with building:
            for line in building.stderr or ():
                if (said := said_in(line)) is None:
                    failure += line
                else:
                    render.err().print(Text(said))
        if building.returncode:
            reason = f"the base layer could not be built (exit {building.returncode})"
            raise DrydockError(failure.strip()[-2000:] or reason)
        printed.seek(0)
        layer = printed.read().strip()
    if short := describe_limitation():
        render.err().print(short)
    render.out().print(layer)
    render.print_next(after_command("drydock start"))


def _list_sprites(record: server.ServerRecord) -> list[Sprite]:
    async def ask() -> list[Sprite]:
        async with SpritesClient(record.url, record.token, seconds=ANSWER_SECONDS) as client:
            return await client.list()

    try:
        return asyncio.run(ask())
    except SpritesError as error:
        remedy = "if it hangs, stop it with --force: the work of its ships is lost"
        raise OcaptainError(f"drydock at {record.url} does not answer ({error.message}); {remedy}") from error


def status(*, as_json: bool) -> int:
    """Print whether drydock is running, where, and what it has done; return the exit code."""
    record = server.running_server()
    if record is None:
        if _wants_json(as_json=as_json):
            render.print_json("drydock", {"running": False})
        else:
            render.out().print(NOT_RUNNING)
        _print_next("drydock status", ok=False, as_json=as_json)
        return 1
    headers = {"Authorization": f"Bearer {record.token}"}
    try:
        answer = httpx.get(f"{record.url}/drydock/metrics", headers=headers, trust_env=False, timeout=30)
        metrics = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        why = str(error) or type(error).__name__
        remedy = f"if it hangs, end its process {record.pid}"
        raise OcaptainError(f"drydock at {record.url} does not answer ({why}); {remedy}") from error
    if _wants_json(as_json=as_json):
        render.print_json("drydock", {"running": True, **asdict(record), **metrics})
    else:
        console = render.out()
        render.print_lines(console, server_lines(record, metrics, console.width))
    _print_next("drydock status", as_json=as_json)
    return 0


def server_lines(record: server.ServerRecord, metrics: Mapping[str, Any], width: int) -> list[Text]:
    """Return where a drydock that runs is, and for each sprite its calls, bytes and time awake.

    Args:
        record: how it is reached.
        metrics: what it answers at ``/drydock/metrics``; {} if it was not asked.
        width: of the terminal, in cells.
    """
    states = ", ".join(f"{count} {name}" for name, count in metrics.get("states", {}).items() if count)
    facts = [
        ("at", record.url),
        ("process", str(record.pid)),
        ("token", f"in {record.token_file}"),
        *([("sprites", f"{metrics['sprites']}{f' ({states})' if states else ''}")] if "sprites" in metrics else []),
    ]
    lines = [Text.assemble(symbol("running"), " drydock is running"), *lay_out(facts, width, indent=2)]
    calls = metrics.get("calls", {})
    if not calls:
        return lines
    rows = [("SPRITE", "CALLS", "SENT", "RECEIVED", "AWAKE")]
    for name in sorted(calls):
        moved = metrics.get("bytes", {}).get(name, {})
        awake = format_clock(metrics.get("awake_seconds", {}).get(name, 0.0))
        made = sum(calls[name].values())
        rows.append((name, f"{made:,}", f"{moved.get('sent', 0):,}", f"{moved.get('received', 0):,}", awake))
    table = lay_out(rows, width, flexible=[0], right=[1, 2, 3, 4], indent=2)
    table[0].stylize(HEAD)
    return [*lines, *table]


def _wants_json(*, as_json: bool) -> bool:
    """Whether JSON is printed: it is asked for, or nobody looks."""
    return as_json or render.out().is_piped


def _print_next(command: Command, *, as_json: bool, ok: bool = True) -> None:
    if not as_json:
        render.print_next(after_command(command, ok=ok))


def stop(*, force: bool, as_json: bool) -> int:
    """Stop drydock, unless it has ships of a voyage; return the exit code."""
    record = server.running_server()
    if record is not None and not force:
        ships = [sprite.name for sprite in _list_sprites(record) if LABEL in sprite.labels]
        if ships:
            remedy = "sink their voyages first (`ocaptain sink --all`), or stop with --force and lose their work:"
            raise OcaptainError(f"{len(ships)} ships are on drydock; {remedy}", ships)
    stopped = server.stop()
    if _wants_json(as_json=as_json):
        render.print_json("drydock", {"running": False, "stopped": stopped})
    else:
        render.out().print(Text.assemble(symbol("gone"), " drydock is stopped") if stopped else NOT_RUNNING)
    _print_next("drydock stop", as_json=as_json)
    return 0
