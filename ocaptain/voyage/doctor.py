"""Checks of what a voyage needs of this machine and its provider; they change nothing.

Each check is a function that returns a :class:`Finding`; they run in parallel, and one that fails does
not end the others. The ``judge_*`` functions decide over plain values, the ``_check_*`` functions read them.
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
from ocaptain.config import load_settings
from ocaptain.environment import (
    CONFIGURATION_FILES,
    choose_locale,
    describe_locale,
    ignored_settings,
    install_line,
    is_usable_locale,
)
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.ledger import LedgerError
from ocaptain.ledger.file import require_short_path
from ocaptain.mesh import MeshError, choose_mesh, count_devices, tailnet_of
from ocaptain.names import new_voyage_id
from ocaptain.paths import expand_home
from ocaptain.provider import SPRITES_FILE, Endpoint, choose_provider, endpoint, read_first_page
from ocaptain.sources import cache_directory, dotenv_files, read_variables
from ocaptain.sync.use import ask_version, describe_use
from ocaptain.voyage.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocaptain.config import Settings

Status = Literal["ok", "warning", "fault"]
MIN_GIT_VERSION = (2, 38)  # git merge-tree --write-tree
MIN_FREE_BYTES = 256 * 2**20
RECOMMENDED_FREE_BYTES = 2 * 2**30
FILES_PER_SHIP = 8
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        name: name of the check.
        status: ``fault``: a voyage would fail; ``warning``: it would sail with less.
        detail: what was found.
        remedy: what to do, "" for nothing.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the documented JSON shape."""
        return asdict(self)


# -- decisions --------------------------------------------------------------------------------------


def judge_git(output: str | None) -> Finding:
    """Judge the output of ``git --version``, None if git is not installed."""
    if output is None:
        return Finding("git", "fault", "is not installed", install_line("git"))
    found = re.search(r"(\d+)\.(\d+)[.\d]*", output)
    if found is None or (int(found[1]), int(found[2])) < MIN_GIT_VERSION:
        needed = ".".join(map(str, MIN_GIT_VERSION))
        return Finding("git", "fault", output, f"install git {needed} or newer: landing merges without a work tree")
    return Finding("git", "ok", found[0])


def judge_disk_space(directory: str, free: int) -> Finding:
    """Judge the free bytes in the directory of all voyages."""
    shown = f"{free / 2**30:.1f} GiB free in {directory}"
    if free < MIN_FREE_BYTES:
        return Finding("room", "fault", shown, "free some space, or set OCAPTAIN_HOME to another disk")
    if free < RECOMMENDED_FREE_BYTES:
        return Finding("room", "warning", shown, "free some space: a voyage stores the work of every attempt")
    return Finding("room", "ok", shown)


def judge_limit(running: int | None, limit: int | None, ships: int) -> Finding:
    """Judge how many ships the account still allows."""
    if limit is None or running is None:
        return Finding("ship limit", "ok", "the provider reports none")
    room = max(0, limit - running)
    shown = f"{running} of {limit} sprites run"
    if room == 0:
        return Finding(
            "ship limit",
            "fault",
            shown,
            "sink a voyage (`ocaptain sink`), or destroy leftover ships (`ocaptain sweep`)",
        )
    if room < ships:
        return Finding(
            "ship limit",
            "warning",
            shown,
            f"only {room} more can run, a voyage has {ships} by default: use -n {room}, or `ocaptain sweep`",
        )
    return Finding("ship limit", "ok", shown)


def judge_open_files(allowed: int, ships: int) -> Finding:
    """Judge the limit of open files of a process."""
    needed = 128 + FILES_PER_SHIP * ships
    if allowed < needed:
        return Finding("open files", "warning", f"{allowed} allowed", f"ulimit -n {needed} for {ships} ships")
    return Finding("open files", "ok", f"{allowed} allowed")


def judge_file_modes(files: Sequence[tuple[str, int]]) -> Finding:
    """Judge the modes of files that may hold credentials."""
    wide = [name for name, mode in files if mode & 0o077]
    if wide:
        remedy = f"chmod 600 {' '.join(wide)}"
        return Finding("credential files", "warning", f"others may read {', '.join(wide)}", remedy)
    return Finding("credential files", "ok", ", ".join(name for name, _ in files) or "none")


def judge_locale(environment: Mapping[str, str], is_usable: Callable[[str], bool]) -> Finding:
    """Judge whether Ansible, which runs in no locale but one of UTF-8, can run on this machine."""
    user = describe_locale(environment)
    try:
        chosen = choose_locale(environment, is_usable)
    except UsageError as error:
        what, _, remedy = error.message.rpartition("; ")
        return Finding("locale", "fault", what, remedy)
    return Finding(
        "locale", "ok", f"Ansible runs with {chosen}, since {user} is not UTF-8 or not there" if chosen else user
    )


def judge_ansible_settings(environment: Mapping[str, str], files: Sequence[str]) -> Finding:
    """Judge which of the user's own settings our runs of Ansible do without.

    Args:
        environment: the user's.
        files: the user's configuration files of Ansible that exist.
    """
    of_hosts = ignored_settings(environment, has_content=True)
    found = [*of_hosts, *files]
    with_hosts = [name for name in ignored_settings(environment) if name not in of_hosts]
    told = [f"not used when ocaptain runs Ansible: {', '.join(found)}"] if found else []
    if with_hosts:
        told.append(f"used with --hosts alone: {', '.join(with_hosts)}")
    return Finding("ansible settings", "ok", "; ".join(told) or "none of yours is in the way")


# -- checks ------------------------------------------------------------------------------------------


def check_git() -> Finding:
    """Check that git is installed, and new enough."""
    if shutil.which("git") is None:
        return judge_git(None)
    done = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    return judge_git(done.stdout.strip())


def _check_ssh() -> Finding:
    found = shutil.which("ssh")
    if found is None:
        return Finding(
            "ssh", "warning", "is not installed", f"{install_line('openssh-client')}, to sail on hosts (--hosts)"
        )
    return Finding("ssh", "ok", found)


def _check_mutagen(settings: Settings) -> Finding:
    return Finding(
        "mutagen", "ok", describe_use(settings.mutagen, None if settings.mutagen == "off" else ask_version())
    )


def _check_python() -> Finding:
    return Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))


def _check_ansible() -> Finding:
    remedy = "install ocaptain with its dependencies (make setup)"
    try:
        found = f"ansible-core {metadata.version('ansible-core')}, ansible-runner {metadata.version('ansible-runner')}"
    except metadata.PackageNotFoundError as error:
        return Finding("ansible", "fault", f"{error.name} is not installed", remedy)
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if shutil.which("ansible-playbook", path=places) is None:
        return Finding("ansible", "fault", f"{found}, but no ansible-playbook on PATH", remedy)
    return Finding("ansible", "ok", found)


def _check_locale() -> Finding:
    return judge_locale(os.environ, is_usable_locale)


def _check_ansible_settings() -> Finding:
    files = [name for name in CONFIGURATION_FILES if expand_home(name).is_file()]
    return judge_ansible_settings(os.environ, files)


def _check_home(settings: Settings) -> Finding:
    try:
        directory = settings.voyages
        require_short_path(directory / new_voyage_id() / "ledger.db")
    except UsageError as error:
        what, _, remedy = error.message.rpartition("; ")
        return Finding("home", "fault", what, remedy)
    while not directory.exists():
        directory = directory.parent
    if not directory.is_dir() or not os.access(directory, os.W_OK | os.X_OK):
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


def _check_disk_space(settings: Settings) -> Finding | list[Finding]:
    try:
        directory = settings.voyages
    except UsageError:
        return []  # the check of the home reports it
    while not directory.exists():
        directory = directory.parent
    return judge_disk_space(str(directory), shutil.disk_usage(directory).free)


def _check_open_files(settings: Settings) -> Finding:
    return judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0], settings.default_ships)


def _check_file_modes() -> Finding:
    files = [file for file in (*dotenv_files(), expand_home(SPRITES_FILE)) if file.is_file()]
    return judge_file_modes([(str(file), file.stat().st_mode) for file in files])


def _check_credentials(settings: Settings) -> Finding:
    known: dict[str, object] = {
        "SPRITES_TOKEN": settings.sprites_token,
        "GH_TOKEN": settings.gh_token,
        "OCAPTAIN_TAILSCALE_OAUTH_SECRET": settings.tailscale_oauth_secret,
    }
    of_agents = read_variables(name for adapter in ADAPTERS.values() for name in adapter.credentials)
    set_names = [name for name, value in {**known, **of_agents}.items() if value]
    return Finding("credentials", "ok", f"set: {', '.join(set_names)}" if set_names else "none are set")


def _check_drydock() -> list[Finding]:
    from ocaptain.drydock import base, rootless, server  # noqa: PLC0415 - only where drydock is used

    try:
        server.require_sandbox_support(server.drydock_directory())
    except OcaptainError as error:
        return [Finding("drydock", "fault", error.message, "fix it, or use --provider sprites")]
    short = rootless.describe_limitation()
    found = server.running_server()
    shown = f"serves at {found.url}" if found else "does not run; `sail` starts it"
    kind = Finding("drydock", "warning", shown, short) if short else Finding("drydock", "ok", shown)
    layers = list((cache_directory() / "drydock").glob(f"base-{'*' if os.geteuid() else base.base_layer_key()}"))
    missing = [] if short or os.geteuid() else base.missing_packages()
    needs = f" (installs {', '.join(missing)})" if missing else ""
    built = "is built" if layers else f"is made at the first start{needs}"
    remedy = "stop drydock, and start it without --network host"
    shared = [Finding("network", "warning", server.SHARED_NETWORK, remedy)] if server.next_network() == "host" else []
    ids = Finding("ship ids", "ok", rootless.describe_ids())
    return [kind, Finding("base layer", "ok", built), ids, _check_ship_limits(), *shared]


def _check_ship_limits() -> Finding:
    """Say whether the memory and the processes of drydock's ships can be limited; nobody has to."""
    from ocaptain.drydock import cgroups  # noqa: PLC0415 - only where drydock is used

    told = []
    for limits in (cgroups.Limits(memory=1), cgroups.Limits(pids=1)):
        option = cgroups.OPTIONS[limits.controllers()[0]]
        try:
            cgroups.find_places(limits)
        except OcaptainError as error:
            told.append(error.message.removesuffix("; start drydock without it"))
        else:
            told.append(f"{option} can be used")
    return Finding("ship limits", "ok", "; ".join(told))


def _check_endpoint(reached: Endpoint, settings: Settings) -> list[Finding]:
    try:
        page = read_first_page(reached)
    except OcaptainError as error:
        remedy = error.remedy or ""
        return [Finding("provider", "fault", error.message.removesuffix(f"; {remedy}"), remedy)]
    known = f"{reached.url} answers" + (f" for {page.organisation}" if page.organisation else "")
    return [Finding("provider", "ok", known), judge_limit(page.running, page.running_limit, settings.default_ships)]


def _check_provider(settings: Settings, provider: str | None) -> list[Finding]:
    name, _ = choose_provider(settings, provider)
    found = _check_drydock() if name == "drydock" else []
    if any(one.status == "fault" for one in found):
        return found
    reached = endpoint(name, settings)
    return [*found, *(_check_endpoint(reached, settings) if reached else [])]


def _check_mesh(settings: Settings, provider: str | None) -> Finding:
    try:
        mesh = choose_mesh(settings, choose_provider(settings, provider)[0])
    except UsageError as error:
        what, _, remedy = error.message.partition(": ")
        return Finding("mesh", "fault", what, remedy)
    if mesh == "none":
        return Finding("mesh", "ok", "none: all goes over the provider's API")
    tailnet = tailnet_of(settings)
    try:
        devices = asyncio.run(count_devices(tailnet))
    except MeshError as error:
        remedy = "check OCAPTAIN_TAILSCALE_OAUTH_SECRET and OCAPTAIN_TAILSCALE_API_URL, or sail with --mesh none"
        return Finding("mesh", "fault", error.message, remedy)
    return Finding("mesh", "ok", f"tailscale: {tailnet.url} answers, {devices} devices, ships are {tailnet.tag}")


def run_checks(provider: str | None = None) -> list[Finding]:
    """Run all checks, in parallel.

    Args:
        provider: name of the provider; None = as configured.
    """
    try:
        settings = load_settings()
        name, why = choose_provider(settings, provider)
    except OcaptainError as error:
        return [
            _check_python(),
            check_git(),
            _check_ansible(),
            _check_locale(),
            Finding("configuration", "fault", str(error), "correct it and run doctor again"),
        ]
    first = Finding("configuration", "ok", f"ships come from {name}: {why}")
    here = [_check_locale()]  # in this thread, since to look at a locale is to set it for a moment
    work: list[Callable[[], Finding | list[Finding]]] = [
        _check_python,
        check_git,
        _check_ansible,
        _check_ansible_settings,
        _check_ssh,
        lambda: _check_mutagen(settings),
        lambda: _check_home(settings),
        lambda: _check_disk_space(settings),
        lambda: _check_open_files(settings),
        _check_file_modes,
        lambda: _check_credentials(settings),
        lambda: _check_provider(settings, provider),
        lambda: _check_mesh(settings, provider),
    ]
    found = [first, *here]
    with ThreadPoolExecutor(len(work)) as pool:
        for result in pool.map(_run_guarded, work):
            found += result
    return found


def _run_guarded(work: Callable[[], Finding | list[Finding]]) -> list[Finding]:
    try:
        found = work()
    except OcaptainError as error:
        # Our messages have the form "what is wrong: what to do".
        what, _, remedy = str(error).partition(": ")
        return [Finding("provider", "fault", what, remedy)]
    except (OSError, subprocess.SubprocessError) as error:
        return [Finding("machine", "fault", str(error))]
    return found if isinstance(found, list) else [found]
