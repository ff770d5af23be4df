"""What a voyage needs of this machine and its provider, looked at without changing anything.

Each check is a function that returns a :class:`Finding`; they run in parallel, and none of them
can end the others. What is *judged* is in small functions of plain values.
"""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ocaptain.agents import ADAPTERS
from ocaptain.config import cache_directory, dotenv_files, load_settings, variables
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.ledger import LedgerError
from ocaptain.ledger.file import require_short_path
from ocaptain.mesh import MeshError, check_access, choose_mesh, tailnet_of
from ocaptain.names import new_voyage_id
from ocaptain.provider import SPRITES_FILE, Endpoint, choose_provider, endpoint
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocaptain.config import Settings
    from ocaptain.sprites import SpritePage

Status = Literal["ok", "warning", "fault"]
GIT_NEEDED = (2, 38)  # git merge-tree --write-tree
ROOM_NEEDED = 256 * 2**20
ROOM_WANTED = 2 * 2**30
FILES_A_SHIP = 8
SECONDS = 30.0


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: of the check.
        status: ``fault``: a voyage would fail; ``warning``: it would sail with less.
        detail: what is there.
        remedy: what to do, "" if there is nothing to do.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the documented JSON shape."""
        return asdict(self)


# -- judging --------------------------------------------------------------------------------------


def judge_git(said: str | None) -> Finding:
    """Judge what ``git --version`` said, None if there is no git."""
    if said is None:
        return Finding("git", "fault", "is not installed", "apt-get install git")
    found = re.search(r"(\d+)\.(\d+)[.\d]*", said)
    if found is None or (int(found[1]), int(found[2])) < GIT_NEEDED:
        needed = ".".join(map(str, GIT_NEEDED))
        return Finding("git", "fault", said, f"install git {needed} or newer: landing merges without a work tree")
    return Finding("git", "ok", found[0])


def judge_room(place: str, free: int) -> Finding:
    """Judge the free bytes where voyages are."""
    shown = f"{free / 2**30:.1f} GiB free in {place}"
    if free < ROOM_NEEDED:
        return Finding("room", "fault", shown, "make room, or set OCAPTAIN_HOME to another disk")
    if free < ROOM_WANTED:
        return Finding("room", "warning", shown, "a voyage keeps every attempt's work: make room")
    return Finding("room", "ok", shown)


def judge_limit(running: int | None, limit: int | None, ships: int) -> Finding:
    """Judge how many ships the account still allows."""
    if limit is None or running is None:
        return Finding("ship limit", "ok", "the provider names none")
    room = max(0, limit - running)
    shown = f"{running} of {limit} sprites run"
    if room == 0:
        return Finding("ship limit", "fault", shown, "sink a voyage (`ocaptain sink`), or look for leftovers (`sweep`)")
    if room < ships:
        return Finding("ship limit", "warning", shown, f"{room} more fit; by default {ships} sail (-n, or `sweep`)")
    return Finding("ship limit", "ok", shown)


def judge_files(allowed: int, ships: int) -> Finding:
    """Judge the number of open files that a process may have."""
    needed = 128 + FILES_A_SHIP * ships
    if allowed < needed:
        return Finding("open files", "warning", f"{allowed} allowed", f"ulimit -n {needed} for {ships} ships")
    return Finding("open files", "ok", f"{allowed} allowed")


def judge_privacy(files: Sequence[tuple[str, int]]) -> Finding:
    """Judge the modes of files that may hold credentials."""
    wide = [name for name, mode in files if mode & 0o077]
    if wide:
        remedy = f"chmod 600 {' '.join(wide)}"
        return Finding("credential files", "warning", f"others may read {', '.join(wide)}", remedy)
    return Finding("credential files", "ok", ", ".join(name for name, _ in files) or "none")


# -- looking ----------------------------------------------------------------------------------------


def _git() -> Finding:
    if shutil.which("git") is None:
        return judge_git(None)
    done = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False, timeout=SECONDS)
    return judge_git(done.stdout.strip())


def _ssh() -> Finding:
    found = shutil.which("ssh")
    if found is None:
        return Finding(
            "ssh", "warning", "is not installed", "apt-get install openssh-client, to sail on hosts (--hosts)"
        )
    return Finding("ssh", "ok", found)


def _python() -> Finding:
    return Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))


def _ansible() -> Finding:
    remedy = "install ocaptain with its dependencies (make setup)"
    try:
        found = f"ansible-core {metadata.version('ansible-core')}, ansible-runner {metadata.version('ansible-runner')}"
    except metadata.PackageNotFoundError as error:
        return Finding("ansible", "fault", f"{error.name} is not installed", remedy)
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if shutil.which("ansible-playbook", path=places) is None:
        return Finding("ansible", "fault", f"{found}, but no ansible-playbook on PATH", remedy)
    return Finding("ansible", "ok", found)


def _home(settings: Settings) -> Finding:
    try:
        place = settings.voyages
        require_short_path(place / new_voyage_id() / "ledger.db")
    except UsageError as error:
        what, _, remedy = error.message.rpartition("; ")
        return Finding("home", "fault", what, remedy)
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        remedy = "set OCAPTAIN_HOME to a directory that can be written"
        return Finding("home", "fault", f"{settings.voyages} cannot be written", remedy)
    broken = []
    voyages = Home(settings.voyages).voyages()
    for voyage in voyages:
        try:
            voyage.voyage()
        except LedgerError:
            broken.append(voyage.id)
    if broken:
        return Finding("home", "warning", f"{', '.join(broken)} cannot be read", f"look into {settings.voyages}")
    return Finding("home", "ok", f"{settings.voyages}, {len(voyages)} voyages")


def _room(settings: Settings) -> Finding | list[Finding]:
    try:
        place = settings.voyages
    except UsageError:
        return []  # what is wrong with it is said once
    while not place.exists():
        place = place.parent
    return judge_room(str(place), shutil.disk_usage(place).free)


def _files(settings: Settings) -> Finding:
    return judge_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0], settings.default_ships)


def _privacy() -> Finding:
    files = [file for file in (*dotenv_files(), SPRITES_FILE.expanduser()) if file.is_file()]
    return judge_privacy([(str(file), file.stat().st_mode) for file in files])


def _credentials(settings: Settings) -> Finding:
    known: dict[str, object] = {
        "SPRITES_TOKEN": settings.sprites_token,
        "GH_TOKEN": settings.gh_token,
        "OCAPTAIN_TAILSCALE_OAUTH_SECRET": settings.tailscale_oauth_secret,
    }
    of_agents = variables(name for adapter in ADAPTERS.values() for name in adapter.credentials)
    there = [name for name, value in {**known, **of_agents}.items() if value]
    return Finding("credentials", "ok", f"set: {', '.join(there)}" if there else "none are set")


def _drydock() -> list[Finding]:
    from ocaptain.drydock import base, rootless, server  # noqa: PLC0415 - only where it is meant

    try:
        server.require_sandbox_support(server.drydock_directory())
    except OcaptainError as error:
        return [Finding("drydock", "fault", error.message, "mend it, or sail on sprites (--provider sprites)")]
    short = rootless.describe_limitation()
    found = server.running_server()
    shown = f"serves at {found.url}" if found else "does not run; `sail` starts it"
    kind = Finding("drydock", "warning", shown, short) if short else Finding("drydock", "ok", shown)
    layers = list((cache_directory() / "drydock").glob(f"base-{'*' if os.geteuid() else base.base_layer_key()}"))
    missing = [] if short or os.geteuid() else base.missing_packages()
    needs = f" (installs {', '.join(missing)})" if missing else ""
    built = "is built" if layers else f"is made at the first start{needs}"
    return [kind, Finding("base layer", "ok", built)]


def _reach(reached: Endpoint, settings: Settings) -> list[Finding]:
    try:
        page = asyncio.run(_first_page(reached))
    except OcaptainError as error:
        remedy = "check SPRITES_TOKEN and SPRITES_API_URL" if reached.provider == "sprites" else "ocaptain drydock stop"
        return [Finding("provider", "fault", error.message, remedy)]
    known = f"{reached.url} answers" + (f" for {page.organisation}" if page.organisation else "")
    return [Finding("provider", "ok", known), judge_limit(page.running, page.running_limit, settings.default_ships)]


async def _first_page(reached: Endpoint) -> SpritePage:
    async with reached.client() as client:
        return await client.first_page()


def _provider(settings: Settings, named: str | None) -> list[Finding]:
    name, _ = choose_provider(settings, named)
    found = _drydock() if name == "drydock" else []
    if any(one.status == "fault" for one in found):
        return found
    reached = endpoint(name, settings)
    return [*found, *(_reach(reached, settings) if reached else [])]


def _mesh(settings: Settings, named: str | None) -> Finding:
    try:
        mesh = choose_mesh(settings, choose_provider(settings, named)[0])
    except UsageError as error:
        what, _, remedy = error.message.partition(": ")
        return Finding("mesh", "fault", what, remedy)
    if mesh == "none":
        return Finding("mesh", "ok", "none: all goes over the provider's API")
    tailnet = tailnet_of(settings)
    try:
        devices = asyncio.run(check_access(tailnet))
    except MeshError as error:
        remedy = "check OCAPTAIN_TAILSCALE_OAUTH_SECRET and OCAPTAIN_TAILSCALE_API_URL, or sail with --mesh none"
        return Finding("mesh", "fault", error.message, remedy)
    return Finding("mesh", "ok", f"tailscale: {tailnet.url} answers, {devices} devices, ships are {tailnet.tag}")


def examine(named: str | None = None) -> list[Finding]:
    """Look at everything that a voyage needs.

    Args:
        named: the provider; None = as configured.
    """
    try:
        settings = load_settings()
        name, why = choose_provider(settings, named)
    except OcaptainError as error:
        return [_python(), _git(), _ansible(), Finding("configuration", "fault", str(error), "mend it, then again")]
    first = Finding("configuration", "ok", f"ships come from {name}: {why}")
    work: list[Callable[[], Finding | list[Finding]]] = [
        _python,
        _git,
        _ansible,
        _ssh,
        lambda: _home(settings),
        lambda: _room(settings),
        lambda: _files(settings),
        _privacy,
        lambda: _credentials(settings),
        lambda: _provider(settings, named),
        lambda: _mesh(settings, named),
    ]
    found = [first]
    with ThreadPoolExecutor(len(work)) as pool:
        for result in pool.map(_guarded, work):
            found += result
    return found


def _guarded(work: Callable[[], Finding | list[Finding]]) -> list[Finding]:
    try:
        found = work()
    except OcaptainError as error:
        # Our messages say what is wrong, a colon, and what to do.
        what, _, remedy = str(error).partition(": ")
        return [Finding("provider", "fault", what, remedy)]
    except (OSError, subprocess.SubprocessError) as error:
        return [Finding("machine", "fault", str(error))]
    return found if isinstance(found, list) else [found]
