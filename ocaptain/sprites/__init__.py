"""An async client of the Sprites API (https://sprites.dev), and of drydock, which speaks it."""

from ocaptain.sprites.client import Completed, Execution, SpritesClient
from ocaptain.sprites.errors import (
    ApiError,
    AuthenticationError,
    BadReply,
    Conflict,
    ConnectionFailed,
    ExecInterrupted,
    NotFound,
    RateLimited,
    SpritesError,
    TooLarge,
)
from ocaptain.sprites.models import Sprite, SpritePage

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
    "RateLimited",
    "Sprite",
    "SpritePage",
    "SpritesClient",
    "SpritesError",
    "TooLarge",
]
