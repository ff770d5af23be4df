"""Where ships come from: the Sprites service, or drydock on this machine."""

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
    """A reachable provider: what a client needs.

    Attributes:
        provider: which.
        url: base URL of its API.
        token: bearer token.
        seconds: deadline of a plain call.
    """

    provider: ProviderName
    url: str
    token: str = field(repr=False)
    seconds: float = field(default=60.0, compare=False)

    def client(self) -> SpritesClient:
        """Return a client of it."""
        from ocaptain.sprites import SpritesClient  # noqa: PLC0415 - a fifth of a second, and only here

        return SpritesClient(self.url, self.token, seconds=self.seconds)


def choose(settings: Settings, named: str | None = None) -> tuple[ProviderName, str]:
    """Decide which provider is meant, and why (one phrase).

    Raises:
        UsageError: ``named`` is none.
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
    """Return how to reach a provider; None for a drydock that does not run.

    Raises:
        UsageError: there is no token for Sprites.
    """
    if provider == "sprites":
        return Endpoint("sprites", settings.sprites_api_url, sprites_token(settings), settings.api_timeout)
    from ocaptain.drydock import server  # noqa: PLC0415 - Linux-only work

    found = server.running_server()
    return _drydock(found, settings) if found else None


def require_endpoint(provider: ProviderName, settings: Settings) -> Endpoint:
    """Return how to reach a provider, starting drydock if it does not run: the one that left sprites as it was.

    Raises:
        OcaptainError: there is no token, or drydock cannot run here.
    """
    found = endpoint(provider, settings)
    if found:
        return found
    from ocaptain.drydock import server  # noqa: PLC0415

    return _drydock(server.restart(server.Options(idle_exit=DRYDOCK_IDLE_EXIT)), settings)


def reach_if_any(provider: ProviderName, settings: Settings) -> Endpoint | None:
    """Return how to reach a provider; None for a drydock that does not run and has left no sprite.

    Raises:
        OcaptainError: there is no token, or drydock cannot run here.
    """
    from ocaptain.drydock import server  # noqa: PLC0415

    found = endpoint(provider, settings)
    return found or (require_endpoint(provider, settings) if server.has_sprites_on_disk() else None)


def _drydock(record: ServerRecord, settings: Settings) -> Endpoint:
    return Endpoint("drydock", record.url, record.token, settings.api_timeout)


def provider_id_of(reached: Endpoint) -> str:
    """Return which drydock, or which URL and organisation: where a voyage's ships can only be.

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
    """Return the state directory of the drydock that is meant here."""
    from ocaptain.drydock import server  # noqa: PLC0415

    return server.drydock_directory().resolve()


def require_same_provider(voyage: Voyage, reached: Endpoint | None) -> None:
    """Make sure that a voyage's ships are where we look: elsewhere it would look as if they were gone.

    Raises:
        UsageError: they are not.
        SpritesError: the service cannot be asked.
    """
    if not voyage.place:
        return
    here = provider_id_of(reached) if reached else f"the drydock of {drydock_directory()}"
    if here != voyage.place:
        remedy = "use the token, URL or XDG_STATE_HOME that it sailed with"
        raise UsageError(f"{voyage.id} sails on {voyage.place}, and this is {here}: {remedy}")


def sprites_token(settings: Settings, file: Path = SPRITES_FILE) -> str:
    """Return the Sprites token: from the configuration, else from the ``sprite`` CLI's own file.

    Raises:
        UsageError: there is none.
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
