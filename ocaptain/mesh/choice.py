"""Whether a voyage's ships join a tailnet: decisions over settings, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ocaptain.errors import UsageError
from ocaptain.mesh.api import TailscaleClient

if TYPE_CHECKING:
    from pydantic import SecretStr

    from ocaptain.config import Settings
    from ocaptain.names import ProviderName

Mesh = Literal["none", "tailscale"]


@dataclass(frozen=True)
class Tailnet:
    """A tailnet and the right to make keys for it.

    Attributes:
        url: of the API.
        secret: of the OAuth client.
        client_id: of it.
        tailnet: ``-`` = the one that the secret belongs to.
        tag: that every ship carries.
        login_server: of the machines, "" = Tailscale's.
    """

    url: str
    secret: SecretStr
    client_id: str
    tailnet: str
    tag: str
    login_server: str

    def client(self) -> TailscaleClient:
        """Return a client of its API."""
        return TailscaleClient(self.url, self.secret, client_id=self.client_id, tailnet=self.tailnet)


def choose_mesh(settings: Settings, provider: ProviderName, named: str | None = None) -> Mesh:
    """Decide which mesh ships join: as named, else as configured; ``auto`` = tailscale if it can be used.

    Raises:
        UsageError: ``tailscale`` is named and its secret is not set, or ``named`` is no mesh.
    """
    wanted = named or settings.mesh
    match wanted:
        case "none":
            return "none"
        case "tailscale":
            tailnet_of(settings)
            return "tailscale"
        case "auto":
            # Drydock's ships are on this machine: nothing is gained, and they would enter the user's tailnet.
            return "tailscale" if provider != "drydock" and settings.tailscale_oauth_secret else "none"
    raise UsageError(f"unknown mesh {wanted!r}: choose one of auto, none, tailscale")


def tailnet_of(settings: Settings) -> Tailnet:
    """Return the tailnet that is configured.

    Raises:
        UsageError: its secret is not set.
    """
    if settings.tailscale_oauth_secret is None:
        raise UsageError(
            "the mesh is tailscale, but OCAPTAIN_TAILSCALE_OAUTH_SECRET is not set: make an OAuth client with the"
            " scopes auth_keys and devices:core in Tailscale's admin console, or sail with --mesh none"
        )
    return Tailnet(
        settings.tailscale_api_url,
        settings.tailscale_oauth_secret,
        settings.tailscale_oauth_client_id,
        settings.tailscale_tailnet,
        settings.tailscale_tag,
        settings.tailscale_login_server or "",
    )
