"""``drydock start|status|stop``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import httpx

from ocaptain.background import background_environment
from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.drydock import server
from ocaptain.drydock.errors import DrydockError
from ocaptain.drydock.rootless import describe_limitation
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.names import LABEL
from ocaptain.sprites import SpritesClient, SpritesError

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.sprites import Sprite

ANSWER_SECONDS = 5.0  # a few tries of it are made


def start(options: server.Options) -> None:
    """Start drydock; print its URL and token as JSON."""
    # Report a wrong option here, not in the log of a server that did not start.
    options.fault_plan()
    options.checked_layers()
    if server.running_server() and options != server.Options(port=options.port):
        raise UsageError("drydock is already running with other options; stop it first (`ocaptain drydock stop`)")
    render.print_json("drydock", {"running": True, **asdict(server.start(options))})
    render.print_next(after_command("drydock start"))


def build_fault_plan(latency: float, jitter: float, seed: int, file: Path | None) -> str:
    """Return the fault plan as JSON: that of the file, overridden by the command line."""
    try:
        given = json.loads(file.read_text("utf-8")) if file else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} is not a fault plan: {error}") from error
    overrides = {"latency": latency, "jitter": jitter, "seed": seed}
    plan = {**(given if isinstance(given, dict) else {"rules": given}), **{k: v for k, v in overrides.items() if v}}
    return json.dumps(plan) if plan else ""


def build_base() -> None:
    """Build the base layer in a process of its own: without root it needs a user namespace."""
    argv = [sys.executable, "-m", "ocaptain.drydock", "--build-base"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=background_environment(os.environ))
    if done.returncode:
        raise DrydockError(done.stderr.strip()[-2000:] or f"the base layer could not be built (exit {done.returncode})")
    if short := describe_limitation():
        render.err().print(short)
    render.out().print(done.stdout.strip())
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


def status() -> int:
    """Print whether drydock is running, where, and its calls by sprite and endpoint; return the exit code."""
    record = server.running_server()
    if record is None:
        render.print_json("drydock", {"running": False})
        render.print_next(after_command("drydock status", ok=False))
        return 1
    headers = {"Authorization": f"Bearer {record.token}"}
    try:
        answer = httpx.get(f"{record.url}/drydock/metrics", headers=headers, trust_env=False, timeout=30)
        metrics = answer.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        why = str(error) or type(error).__name__
        remedy = f"if it hangs, end its process {record.pid}"
        raise OcaptainError(f"drydock at {record.url} does not answer ({why}); {remedy}") from error
    render.print_json("drydock", {"running": True, **asdict(record), **metrics})
    render.print_next(after_command("drydock status"))
    return 0


def stop(*, force: bool, as_json: bool) -> int:
    """Stop drydock, unless it has ships of a voyage; return the exit code."""
    record = server.running_server()
    if record is not None and not force:
        ships = [sprite.name for sprite in _list_sprites(record) if LABEL in sprite.labels]
        if ships:
            remedy = "sink their voyages first (`ocaptain sink --all`), or stop with --force and lose their work:"
            raise OcaptainError(f"{len(ships)} ships are on drydock; {remedy}", ships)
    stopped = server.stop()
    if as_json:
        render.print_json("drydock", {"running": False, "stopped": stopped})
    else:
        render.out().print("drydock is stopped" if stopped else "drydock is not running")
        render.print_next(after_command("drydock stop"))
    return 0
