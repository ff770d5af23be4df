"""``sweep``: find and destroy leftover ships, which belong to no active voyage of this machine."""

from __future__ import annotations

import datetime as dt
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.cli.next_step import after_command
from ocaptain.cli.style import format_money
from ocaptain.cli.tables import lay_out
from ocaptain.cli.views import machine_cost
from ocaptain.config import load_settings
from ocaptain.errors import PartialError, UsageError
from ocaptain.provider import choose_provider, require_endpoint_if_used
from ocaptain.voyage import sweep
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.text import Text

    from ocaptain.config import Settings
    from ocaptain.provider import Endpoint

COMMANDED = "a captain elsewhere commands it"


def run_sweep(*, provider: str | None, dry_run: bool, force: bool, abandon: bool, as_json: bool) -> int:
    """Find leftover ships and destroy them; return the exit code."""
    settings = load_settings()
    name, _ = choose_provider(settings, provider)
    reached = require_endpoint_if_used(name, settings)
    found = _find(reached, settings)
    if found and not as_json:
        print_leftovers(found, is_answer=dry_run)
    if dry_run or not found or reached is None:
        if as_json:
            _print_as_json(name, found, destroyed=())
        elif not found:
            render.out().print(f"nothing is left over on {name}")
        if not as_json:
            render.print_next(after_command("sweep", ok=not found))
        return 0
    failed = destroy_leftovers(reached, found, force=force, abandon=abandon)
    if as_json:
        _print_as_json(name, found, destroyed=[one.sprite for one in found if one.sprite not in failed])
    elif not failed:
        render.print_next(after_command("sweep"))
    return _raise_if_left(failed, [name])


def _print_as_json(provider: str, found: Sequence[sweep.Leftover], *, destroyed: Collection[str]) -> None:
    ships = [{**asdict(one), "created_at": one.created or None, "destroyed": one.sprite in destroyed} for one in found]
    render.print_json("sweep", {"provider": provider, "ships": ships})


def _find(reached: Endpoint | None, settings: Settings) -> list[sweep.Leftover]:
    return sweep.find_leftovers(reached, Home(settings.voyages)) if reached else []


def sweep_after_sink(settings: Settings, providers: set[str], *, force: bool, abandon: bool) -> int:
    """Sweep the providers of the voyages that ``sink --all`` ended; return the exit code."""
    failed: dict[str, str] = {}
    incomplete: list[str] = []  # providers on which ships are left
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
        left = destroy_leftovers(reached, chosen, force=force, abandon=abandon, kept="these ships were kept")
        failed |= left
        incomplete += [name] if left else []
    return _raise_if_left(failed, incomplete)


def print_leftovers(found: Sequence[sweep.Leftover], *, is_answer: bool = False) -> None:
    """Print the leftover ships as a table; on standard output if they are what was asked for."""
    now = dt.datetime.now(dt.UTC)
    console = render.out() if is_answer else render.err()
    if is_answer and console.is_plain:
        render.print_records(leftover_rows(found, now))
        return
    console.print("left over:")
    render.print_lines(console, leftover_lines(found, now, console.width))


def leftover_rows(found: Sequence[sweep.Leftover], now: dt.datetime) -> list[tuple[str, str, str]]:
    """Return of each leftover ship its sprite, its age, and why it is left over."""
    return [
        (one.sprite, sweep.format_age(one.created, now), f"{one.why}{f'; {COMMANDED}' if one.commanded else ''}")
        for one in found
    ]


def leftover_lines(found: Sequence[sweep.Leftover], now: dt.datetime, width: int) -> list[Text]:
    """Return the leftover ships as a table."""
    return lay_out(leftover_rows(found, now), width, flexible=[2], indent=2)


def destroy_leftovers(
    reached: Endpoint,
    found: Sequence[sweep.Leftover],
    *,
    force: bool,
    abandon: bool,
    kept: str = "nothing was changed",
) -> dict[str, str]:
    """Ask the user, then destroy; return the sprites that are left, with the reason.

    Args:
        reached: the provider.
        found: the leftover ships.
        force: do not ask.
        abandon: destroy also ships that a captain elsewhere commands.
        kept: what the error says if the user does not confirm.
    """
    commanded = {one.sprite: COMMANDED for one in found if one.commanded and not abandon}
    names = [one.sprite for one in found if one.sprite not in commanded]
    if names and not force:
        if not sys.stdin.isatty():
            raise UsageError("sweep without a terminal needs --force (or --dry-run, to list only)")
        render.confirm(sweep_question(len(names), machine_cost(reached.provider)(3600)), kept=kept)
    failed = sweep.destroy_sprites(reached, names)
    gone = len(names) - len(failed)
    if gone:
        render.err().print(f"destroyed {gone}")
    return {**commanded, **failed}


def sweep_question(ships: int, hour_nano: int) -> str:
    """Return the question before ships are destroyed.

    Args:
        ships: how many.
        hour_nano: what each of them costs in an hour, in nano-dollars.
    """
    saved = f" It saves up to {format_money(hour_nano * ships)} an hour." if hour_nano else ""
    what = "this ship? Its" if ships == 1 else f"these {ships} ships? Their"
    return f"Destroy {what} work will be lost.{saved}"


def _raise_if_left(failed: dict[str, str], providers: Sequence[str]) -> int:
    if failed:
        lines = [f"{name}: {reason}" for name, reason in failed.items()]
        commands = " and ".join(f"`ocaptain sweep --provider {name}`" for name in providers)
        remedy = f"run {commands} to try again"
        if COMMANDED in failed.values():
            remedy += ", with --abandon to destroy also those that a captain commands"
        raise PartialError(f"these ships are left ({remedy}):", lines)
    return 0
