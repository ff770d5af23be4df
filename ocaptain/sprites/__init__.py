"""An async client of the Sprites API (https://sprites.dev), and of drydock, which implements it."""

from ocaptain.sprites.client import Completed, SpritesClient
from ocaptain.sprites.errors import (
    SPRITE_LIMIT_CODE,
    ApiError,
    AuthenticationError,
    BadReply,
    Conflict,
    ConnectionFailed,
    DeadlinePassed,
    ExecInterrupted,
    FileMissing,
    NotFound,
    OutputLost,
    ProxyFailed,
    RateLimited,
    SpritesError,
    SpriteWedged,
    TooLarge,
    TransferFailed,
)
from ocaptain.sprites.models import Checkpoint, Sprite, SpritePage
from ocaptain.sprites.sockets import Execution, Tunnel
from ocaptain.sprites.transfer import download, upload
from ocaptain.sprites.whole import run_whole

__all__ = [
    "SPRITE_LIMIT_CODE",
    "ApiError",
    "AuthenticationError",
    "BadReply",
    "Checkpoint",
    "Completed",
    "Conflict",
    "ConnectionFailed",
    "DeadlinePassed",
    "ExecInterrupted",
    "Execution",
    "FileMissing",
    "NotFound",
    "OutputLost",
    "ProxyFailed",
    "RateLimited",
    "Sprite",
    "SpritePage",
    "SpriteWedged",
    "SpritesClient",
    "SpritesError",
    "TooLarge",
    "TransferFailed",
    "Tunnel",
    "download",
    "run_whole",
    "upload",
]
