"""An async client of the Sprites API (https://sprites.dev), and of drydock, which speaks it."""

from ocaptain.sprites.client import Completed, SpritesClient
from ocaptain.sprites.errors import (
    ApiError,
    AuthenticationError,
    BadReply,
    Conflict,
    ConnectionFailed,
    ExecInterrupted,
    NotFound,
    ProxyRefused,
    RateLimited,
    SpritesError,
    TooLarge,
    TransferFailed,
)
from ocaptain.sprites.models import Sprite, SpritePage
from ocaptain.sprites.sockets import Execution, Tunnel
from ocaptain.sprites.transfer import download, upload

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BadReply",
    "Completed",
    "Conflict",
    "ConnectionFailed",
    "ExecInterrupted",
    "Execution",
    "NotFound",
    "ProxyRefused",
    "RateLimited",
    "Sprite",
    "SpritePage",
    "SpritesClient",
    "SpritesError",
    "TooLarge",
    "TransferFailed",
    "Tunnel",
    "download",
    "upload",
]
