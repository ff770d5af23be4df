"""The first step: check everything, then make the voyage's directory. Nothing is created if a check fails.

::

    Request ──plan, agents, provider, repository (all at once)──> faults? exit 2
            ──one active voyage of this digest?──> resume it, or refuse
            ──directory under a temporary name: repo.git, workspace, ledger──rename──> Prepared
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ocaptain.environment import install_line
from ocaptain.errors import OcaptainError, UsageError
from ocaptain.locks import Lock
from ocaptain.names import new_voyage_id
from ocaptain.scratch import scratch_directory
from ocaptain.voyage.check import check_request, check_services
from ocaptain.voyage.home import Home
from ocaptain.voyage.make import describe_new_voyage, make_home, make_voyage
from ocaptain.voyage.proof import prove_source
from ocaptain.voyage.resume import find_active, resume

if TYPE_CHECKING:
    from ocaptain.config import Settings
    from ocaptain.plan import Report
    from ocaptain.voyage.request import Prepared, Request

LOCK_SECONDS = 600.0
#: How long the command line walks through a local source; `prepare` does it for longer, once more.
BRIEF_WALK_SECONDS = 2.0


def check_before(request: Request, settings: Settings, report: Report, *, on_hosts: bool = False) -> None:
    """Check what can be checked without Ansible and without a network, as :func:`prepare` will once more.

    Args:
        request: for a new voyage.
        settings: the configuration.
        report: of its plan.
        on_hosts: whether the ships are hosts of an inventory that is not read yet.

    Raises:
        UsageError: plan, configuration or surroundings are wrong.
    """
    checked = check_request(request, settings, report, on_hosts=on_hosts)
    if checked.source.path is not None or not checked.source.url:
        with scratch_directory("check") as scratch:
            partial = checked.allow_partial
            prove_source(checked.source, settings, scratch, allow_partial=partial, walk_seconds=BRIEF_WALK_SECONDS)
    if request.on_active == "refuse":
        find_active(Home(settings.voyages), request, checked)


def prepare(request: Request, settings: Settings, *, check: bool = False, forecast: bool = False) -> Prepared:
    """Check a request and make its voyage, or find the active one to resume.

    Args:
        request: the request.
        settings: the configuration.
        check: only return what would be made; create and start nothing.
        forecast: with ``check``: what an agent lacks on this machine is a note and refuses nothing.

    Raises:
        UsageError: plan, configuration or surroundings are wrong; nothing was created.
        OcaptainError: the directory could not be made.
    """
    home = Home(settings.voyages)
    if shutil.which("git") is None:
        raise UsageError(f"git is not installed: {install_line('git')}")
    if request.voyage:
        return resume(home.find(request.voyage), settings, request.options, check=check)
    checked = check_request(request, settings, forecast=check and forecast)
    if not check:
        make_home(home.path)
    services = check_services(checked, settings, start=not check)
    if check:
        if active := find_active(home, request, checked):
            return resume(active, settings, request.options, check=True)
        return describe_new_voyage(new_voyage_id(), home, checked)
    with Lock(home.path / ".lock") as lock:
        if not lock.acquire_within(LOCK_SECONDS):
            raise OcaptainError(f"another `ocaptain sail` is still preparing a voyage in {home.path}")
        if active := find_active(home, request, checked):
            return resume(active, settings, request.options)
        return make_voyage(home, request, checked, settings, services)
