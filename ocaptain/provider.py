"""The provider of ships: the Sprites service, or drydock on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError
from ocaptain.names import PROVIDERS, ProviderName
from ocaptain.paths import expand_home
from ocaptain.sources import find_origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocaptain.config import Settings
    from ocaptain.drydock.server import ServerRecord
    from ocaptain.ledger import Voyage
    from ocaptain.sprites import SpritesClient, SpritesError
    from ocaptain.sprites.models import SpritePage

DRYDOCK_IDLE_EXIT = 30.0
SERVICE_REMEDY = "the service is busy or at fault: try again later"
PAYMENT_REQUIRED, TOO_MANY_REQUESTS = 402, 429  # HTTP status
SPRITES_FILE = Path("~/.sprites/sprites.json")


@dataclass(frozen=True)
class Endpoint:
    """How a provider is reached: what a client needs.

    Attributes:
        provider: its name.
        url: base URL of its API.
        token: bearer token.
        seconds: time limit of a plain call.
        token_origin: where the token came from, for people.
    """

    provider: ProviderName
    url: str
    token: str = field(repr=False)
    seconds: float = field(default=60.0, compare=False)
    token_origin: str = field(default="", compare=False)

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
        token = sprites_token(settings)
        origin = find_origin(("SPRITES_TOKEN", "SPRITE_TOKEN")) if settings.sprites_token else str(SPRITES_FILE)
        return Endpoint("sprites", settings.sprites_api_url, token, settings.api_timeout, origin)
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

    return f"{reached.url} ({read_first_page(reached).organisation})"


def read_first_page(reached: Endpoint) -> SpritePage:
    """Ask the provider for the first page of its list, which also names the organisation and its limits.

    Raises:
        SpritesError: it refuses or does not answer; with a remedy.
    """

    async def ask() -> SpritePage:
        async with reached.client() as client:
            return await client.first_page()

    with explaining_errors(reached):
        return asyncio.run(ask())


@contextlib.contextmanager
def explaining_errors(reached: Endpoint) -> Iterator[None]:
    """Add to errors of a provider, raised inside the block, what the user can do."""
    from ocaptain.sprites import SpritesError  # noqa: PLC0415 - a fifth of a second

    try:
        yield
    except SpritesError as error:
        error.add_remedy(provider_remedy(error, reached))
        raise


def provider_remedy(error: SpritesError, reached: Endpoint) -> str:
    """Return what the user can do about an error of the provider."""
    from ocaptain.sprites import SPRITE_LIMIT_CODE, AuthenticationError, ConnectionFailed  # noqa: PLC0415 - as above

    if getattr(error, "code", "") == SPRITE_LIMIT_CODE:
        return "sink a voyage (`ocaptain sink`), or destroy leftover ships (`ocaptain sweep`)"
    if reached.provider == "drydock":
        return "see `ocaptain drydock status`"
    status = getattr(error, "status", None)
    if isinstance(error, AuthenticationError):
        origin = f" of {reached.token_origin}" if reached.token_origin else ""
        return f"the token{origin} was refused: set a valid one, or check SPRITES_API_URL"
    if status == PAYMENT_REQUIRED:
        return "add credit to the account at https://sprites.dev, then try again"
    if isinstance(error, ConnectionFailed) and error.sent:
        return SERVICE_REMEDY
    if isinstance(error, ConnectionFailed):
        return "check the network, the proxy variables and SPRITES_API_URL"
    if status is None or status < TOO_MANY_REQUESTS:
        return f"check that SPRITES_API_URL ({reached.url}) is one of the Sprites API"
    return SERVICE_REMEDY


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


def require_endpoint_of(voyage: Voyage, settings: Settings) -> Endpoint:
    """Return how to reach a voyage's provider; starts its drydock, and no other one, if it is not running.

    Raises:
        UsageError: the configured provider is another one.
        OcaptainError: there is no token, drydock cannot run here, or the service cannot be asked.
    """
    provider, _ = choose_provider(settings, voyage.provider)
    reached = endpoint(provider, settings)
    if reached is None:
        require_same_provider(voyage, None)
        reached = require_endpoint(provider, settings)
    require_same_provider(voyage, reached)
    return reached


def sprites_token(settings: Settings, file: Path = SPRITES_FILE) -> str:
    """Return the Sprites token: from the configuration, else from the ``sprite`` CLI's own file.

    Raises:
        UsageError: there is no token.
    """
    if settings.sprites_token:
        return settings.sprites_token.get_secret_value()
    try:
        stored = json.loads(expand_home(file).read_text("utf-8"))
        chosen = stored["current_selection"]
        org = settings.sprites_org or chosen["org"]
        token = stored["urls"][chosen["url"]]["orgs"][org]["api_token"]
    except (OSError, ValueError, KeyError, TypeError):
        token = None
    if isinstance(token, str) and token:
        return token
    message = "no Sprites token: set SPRITES_TOKEN, or run `sprite org keyring disable` and `sprite login`"
    raise UsageError(message + ", or sail locally with --provider drydock")
