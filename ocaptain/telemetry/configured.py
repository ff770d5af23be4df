"""What the configuration says of telemetry: where it is forwarded to, and which secrets must not be in it."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pydantic import SecretStr

from ocaptain.errors import OcaptainError
from ocaptain.sources import sources
from ocaptain.telemetry.forward import make_collector

if TYPE_CHECKING:
    from ocaptain.config import Settings
    from ocaptain.telemetry.forward import Collector

_SECRET_NAME = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASS|KEY|CREDENTIALS?)$")
log = logging.getLogger("ocaptain.telemetry")


def configured_collector(settings: Settings) -> Collector | None:
    """Return where telemetry is forwarded to, None if nowhere, or if what is configured is wrong, which is logged."""
    if not settings.otlp_endpoint:
        return None
    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers else ""
    try:
        return make_collector(settings.otlp_endpoint, headers)
    except OcaptainError as error:
        log.warning("telemetry is not forwarded: %s", error.message)
        return None


def known_secrets(settings: Settings) -> list[str]:
    """Return all secrets that are configured on this machine: ours, and whatever a variable calls one."""
    ours = [value.get_secret_value() for value in vars(settings).values() if isinstance(value, SecretStr)]
    headers = [one.partition("=")[2] for text in ours for one in text.split(",")]  # of the collector: name=value,…
    sent = [unquote(one.strip()) for one in headers]
    headers += [*sent, *(one.rpartition(" ")[2] for one in sent)]  # as they are sent, and without ``Bearer``
    named = [value for source in sources() for name, value in source.items() if value and _SECRET_NAME.search(name)]
    return [*ours, *headers, *named]
