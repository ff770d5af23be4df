"""The provider of ships: the Sprites service, or drydock on this machine."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.names import PROVIDERS, ProviderName

if TYPE_CHECKING:
    from ocaptain.config import Settings
    from ocaptain.drydock.server import ServerRecord
    from ocaptain.ledger import Voyage
    from ocaptain.sprites import SpritesClient

DRYDOCK_IDLE_EXIT = 30.0
SPRITES_FILE = Path("~/.sprites/sprites.json")


@dataclass(frozen=True)
class Endpoint:
    """How a provider is reached: what a client needs.

    Attributes:
        provider: its name.
        url: base URL of its API.
        token: bearer token.
        seconds: time limit of a plain call.
    """

    provider: ProviderName
    url: str
    token: str = field(repr=False)
    seconds: float = field(default=60.0, compare=False)

    def client(self) -> SpritesClient:
        """Return a client of it."""
        from ocaptain.sprites import SpritesClient  # noqa: PLC0415 - a fifth of a second, and only here

        return SpritesClient(self.url, self.token, seconds=self.seconds)


def choose_provider(settings: Settings, named: str | None = None) -> tuple[ProviderName, str]:
    """Decide which provider to use; return its name, and why (one phrase).

    Args:
        settings: of the user.
        named: the provider that the user asked for, if any.

    Raises:
        UsageError: there is no provider of that name.
    """
    wanted = named or settings.provider
    if wanted:
        for name in PROVIDERS:
            if wanted == name:
                return name, "named"
        raise UsageError(f"unknown provider {wanted!r}: choose one of {', '.join(PROVIDERS)}")
    if settings.sprites_token or settings.sprites_org or "sprites_api_url" in settings.model_fields_set:
        return "sprites", "a Sprites token, organisation or URL is configured"
    return "drydock", "no Sprites token is configured"


def endpoint(provider: ProviderName, settings: Settings) -> Endpoint | None:
    """Return how to reach a provider; None for a drydock that is not running.

    Raises:
        UsageError: there is no token for Sprites.
    """
    if provider == "sprites":
        return Endpoint("sprites", settings.sprites_api_url, sprites_token(settings), settings.api_timeout)
    from ocaptain.drydock import server  # noqa: PLC0415 - Linux-only work

    found = server.running_server()
    return _drydock(found, settings) if found else None


def require_endpoint(provider: ProviderName, settings: Settings) -> Endpoint:
    """Return how to reach a provider; starts drydock if it is not running, with the options that it last ran with.

    Raises:
        OcaptainError: there is no token, or drydock cannot run here.
    """
    found = endpoint(provider, settings)
    if found:
        return found
    from ocaptain.drydock import server  # noqa: PLC0415

    return _drydock(server.restart(server.Options(idle_exit=DRYDOCK_IDLE_EXIT)), settings)


def require_endpoint_if_used(provider: ProviderName, settings: Settings) -> Endpoint | None:
    """Return how to reach a provider; None for a drydock that is not running and has no sprites.

    Raises:
        OcaptainError: there is no token, or drydock cannot run here.
    """
    from ocaptain.drydock import server  # noqa: PLC0415

    found = endpoint(provider, settings)
    return found or (require_endpoint(provider, settings) if server.has_sprites_on_disk() else None)


def _drydock(record: ServerRecord, settings: Settings) -> Endpoint:
    return Endpoint("drydock", record.url, record.token, settings.api_timeout)


def provider_id(reached: Endpoint) -> str:
    """Return which drydock, or which URL and organisation, a voyage's ships belong to, as text for people.

    Raises:
        SpritesError: the service cannot be asked.
    """
    if reached.provider == "drydock":
        return f"the drydock of {drydock_directory()}"

    async def ask() -> str:
        async with reached.client() as client:
            return (await client.first_page()).organisation

    return f"{reached.url} ({asyncio.run(ask())})"


def drydock_directory() -> Path:
    """Return the state directory of the user's drydock."""
    from ocaptain.drydock import server  # noqa: PLC0415

    return server.drydock_directory().resolve()


def require_same_provider(voyage: Voyage, reached: Endpoint | None) -> None:
    """Refuse another provider than the voyage's: there its ships would seem to be gone.

    Raises:
        UsageError: it is another provider.
        SpritesError: the service cannot be asked.
    """
    if not voyage.place:
        return
    here = provider_id(reached) if reached else f"the drydock of {drydock_directory()}"
    if here != voyage.place:
        remedy = "use the token, URL or XDG_STATE_HOME that it was started with"
        raise UsageError(f"{voyage.id} sails on {voyage.place}, but the configured provider is {here}: {remedy}")


def sprites_token(settings: Settings, file: Path = SPRITES_FILE) -> str:
    """Return the Sprites token: from the configuration, else from the ``sprite`` CLI's own file.

    Raises:
        UsageError: there is no token.
    """
    if settings.sprites_token:
        return settings.sprites_token.get_secret_value()
    try:
        stored = json.loads(file.expanduser().read_text("utf-8"))
        chosen = stored["current_selection"]
        org = settings.sprites_org or chosen["org"]
        token = stored["urls"][chosen["url"]]["orgs"][org]["api_token"]
    except (OSError, ValueError, KeyError, TypeError):
        token = None
    if isinstance(token, str) and token:
        return token
    message = "no Sprites token: set SPRITES_TOKEN, or run `sprite org keyring disable` and `sprite login`"
    raise UsageError(message + ", or sail locally with --provider drydock")
