"""``telemetry start|stop|export``, and what screens say of telemetry."""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.cli.reported import loss_text, reported_text
from ocaptain.cli.style import symbol
from ocaptain.cli.tables import lay_out
from ocaptain.cli.views import find_voyage
from ocaptain.config import load_settings
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.query import Query
from ocaptain.query.telemetry import telemetry_path
from ocaptain.telemetry import receiver
from ocaptain.telemetry.store import Reported, read_reported

if TYPE_CHECKING:
    from pathlib import Path

    from ocaptain.telemetry.spans import Course


def start(port: int | None, *, as_json: bool) -> None:
    """Start the receiver; print where it is.

    Raises:
        UsageError: the configuration is wrong.
    """
    load_settings()  # here, where the user sees what is wrong, and not in the receiver's log
    record = receiver.start(port)
    found = read_reported(receiver.store_path()) or Reported()
    if as_json:
        render.print_json("telemetry", {"running": True, **asdict(record), "reported": found.as_dict()})
        return
    console = render.out()
    facts = [("at", record.url), ("process", str(record.pid)), ("stores in", record.store), *_facts(found)]
    head = Text.assemble(symbol("running"), " the receiver is running")
    render.print_lines(console, [head, *lay_out(facts, console.width, indent=2)])
    render.print_next(after_command("telemetry start"))


def stop(*, as_json: bool) -> None:
    """Stop the receiver; print what it has stored."""
    stopped = receiver.stop()
    found = read_reported(receiver.store_path()) or Reported()
    if as_json:
        content: dict[str, Any] = {"running": False, "stopped": stopped, "store": str(receiver.store_path())}
        render.print_json("telemetry", {**content, "reported": found.as_dict()})
        return
    console = render.out()
    head = Text.assemble(symbol("gone"), f" the receiver is {'stopped' if stopped else 'not running'}")
    render.print_lines(console, [head, *lay_out(_facts(found), console.width, indent=2)] if _facts(found) else [head])
    render.print_next(after_command("telemetry stop"))


def _facts(found: Reported) -> list[tuple[str, str]]:
    facts = [("calls", f"{found.calls:,}"), ("reported", reported_text(found)), ("lost", loss_text(found))]
    return [(key, text) for key, text in facts if text and (found.calls or found.lost)]


def export(voyage: str | None, *, of_receiver: bool, form: str) -> None:
    """Print what is stored.

    Args:
        voyage: its id or a prefix; None = the only active one.
        of_receiver: print what the receiver stored instead.
        form: ``jsonl``.

    Raises:
        UsageError: both are named.
        OcaptainError: it cannot be read.
    """
    assert form == "jsonl"
    if of_receiver and voyage:
        raise UsageError("the receiver's telemetry is of no voyage; leave out --receiver or the voyage")
    course: Course | None = None
    path: Path = receiver.store_path()
    if not of_receiver:
        directory = find_voyage(voyage)
        path, course = telemetry_path(directory.path), Query(directory.path).course()
    from ocaptain.telemetry.export import export_lines  # noqa: PLC0415 - loads opentelemetry-proto

    render.print_no_other_json()
    try:
        for line in export_lines(path, course):
            sys.stdout.write(f"{line}\n")
    except sqlite3.Error as error:
        raise OcaptainError(f"{path} cannot be read: {error}; remove it, or restore it from a copy") from error
