"""``sweep``: find and destroy leftover ships, which belong to no active voyage of this machine."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table

from ocaptain.cli import render
from ocaptain.config import load_settings
from ocaptain.errors import PartialError, UsageError
from ocaptain.provider import choose_provider, require_endpoint_if_used
from ocaptain.text import clean_line
from ocaptain.voyage import sweep
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ocaptain.config import Settings
    from ocaptain.provider import Endpoint


def run_sweep(*, provider: str | None, dry_run: bool, force: bool, abandon: bool, as_json: bool) -> int:
    """Find leftover ships and destroy them; return the exit code."""
    settings = load_settings()
    name, _ = choose_provider(settings, provider)
    reached = require_endpoint_if_used(name, settings)
    found = _find(reached, settings)
    if found and not as_json:
        print_leftovers(found)
    if dry_run or not found or reached is None:
        if as_json:
            _print_as_json(name, found, destroyed=())
        elif not found:
            render.out().print(f"nothing is left over on {name}")
        return 0
    failed = destroy_leftovers(reached, found, force=force, abandon=abandon)
    if as_json:
        _print_as_json(name, found, destroyed=[one.sprite for one in found if one.sprite not in failed])
    return _raise_if_left(failed)


def _print_as_json(provider: str, found: Sequence[sweep.Leftover], *, destroyed: Collection[str]) -> None:
    ships = [{**asdict(one), "created_at": one.created or None, "destroyed": one.sprite in destroyed} for one in found]
    render.print_json("sweep", {"provider": provider, "ships": ships})


def _find(reached: Endpoint | None, settings: Settings) -> list[sweep.Leftover]:
    return sweep.find_leftovers(reached, Home(settings.voyages)) if reached else []


def sweep_after_sink(settings: Settings, providers: set[str], *, force: bool, abandon: bool) -> int:
    """Sweep the providers of the voyages that ``sink --all`` ended; return the exit code."""
    failed: dict[str, str] = {}
    for name in sorted({*providers, choose_provider(settings)[0]}):
        try:
            reached = require_endpoint_if_used(choose_provider(settings, name)[0], settings)
        except UsageError:
            if name in providers:
                raise
            continue  # its configuration is incomplete, and no voyage used it
        found = _find(reached, settings)
        if not found or reached is None:
            continue
        print_leftovers(found)
        # `--all --force` does not include ships that another machine may be sailing.
        chosen = [one for one in found if abandon or not force or one.why != sweep.UNKNOWN_VOYAGE]
        if len(chosen) < len(found):
            render.err().print(
                "ships of unknown voyages are kept, for another machine may sail them: see `ocaptain sweep`"
            )
        failed |= destroy_leftovers(reached, chosen, force=force, abandon=abandon)
    return _raise_if_left(failed)


def print_leftovers(found: Sequence[sweep.Leftover]) -> None:
    """Print the leftover ships as a table."""
    now = dt.datetime.now(dt.UTC)
    table = Table.grid(padding=(0, 2))
    for one in found:
        note = "; a captain elsewhere commands it" if one.commanded else ""
        table.add_row(f"  {clean_line(one.sprite)}", sweep.format_age(one.created, now), f"{one.why}{note}")
    render.err().print("left over:")
    render.err().print(table)


def destroy_leftovers(
    reached: Endpoint, found: Sequence[sweep.Leftover], *, force: bool, abandon: bool
) -> dict[str, str]:
    """Ask the user, then destroy; return the sprites that are left, with the reason."""
    kept = {one.sprite: "a captain elsewhere commands it" for one in found if one.commanded and not abandon}
    names = [one.sprite for one in found if one.sprite not in kept]
    if names and not force:
        if not sys.stdin.isatty():
            raise UsageError("sweep without a terminal needs --force (or --dry-run, to list only)")
        render.confirm(f"Destroy these {len(names)} ships? Their work will be lost.")
    failed = sweep.destroy_sprites(reached, names)
    gone = len(names) - len(failed)
    if gone:
        render.err().print(f"destroyed {gone}")
    return {**kept, **failed}


def _raise_if_left(failed: dict[str, str]) -> int:
    if failed:
        lines = [f"{name}: {reason}" for name, reason in failed.items()]
        raise PartialError("these ships are left (--abandon destroys also those that a captain commands):", lines)
    return 0
