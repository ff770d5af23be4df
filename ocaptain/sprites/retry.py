"""Decide whether and when a failed call is repeated (pure functions).

The service's SDKs retry nothing, so the rules are ours:

- 429: after ``Retry-After`` (else growing waits), for every call, since a refused one did nothing;
- connect errors: for every call, since nothing was sent;
- 500, 502, 503, 504, broken replies and replies that cannot be understood: for idempotent calls
  only; a create becomes idempotent by looking whether the sprite exists;
- no answer within the time limit: once more only, since a wedged sprite answers never;
- a command's handshake: as above, until the 101; never after it, since the command may have run.
"""

from __future__ import annotations

import random

from ocaptain.sprites.errors import (
    SPRITE_LIMIT_CODE,
    ApiError,
    BadReply,
    ConnectionFailed,
    RateLimited,
    SpritesError,
)

MAX_ATTEMPTS = 5
MAX_SILENT_ATTEMPTS = 3
MAX_WAIT_SECONDS = 60.0
_TRANSIENT_STATUSES = frozenset({500, 502, 503, 504})


def retry_wait(error: SpritesError, attempt: int, *, idempotent: bool) -> float | None:
    """Return the seconds to wait before the next try, None if there must be no other try.

    Args:
        error: error of the last try.
        attempt: number of tries so far, from 1.
        idempotent: whether the call may be carried out twice.
    """
    if attempt >= MAX_ATTEMPTS:
        return None
    match error:
        case RateLimited() if error.code == SPRITE_LIMIT_CODE:
            return None
        case ConnectionFailed(silent=True) if attempt >= MAX_SILENT_ATTEMPTS:
            return None
        case RateLimited(retry_after=float(after)):
            return after + random.uniform(0, 0.25) if after <= MAX_WAIT_SECONDS else None  # noqa: S311
        case RateLimited() | ConnectionFailed(sent=False):
            return backoff_seconds(attempt)
    return backoff_seconds(attempt) if idempotent and may_have_succeeded(error) else None


def may_have_succeeded(error: SpritesError) -> bool:
    """Return whether a call that ended with ``error`` may have been carried out nevertheless."""
    match error:
        case ConnectionFailed(sent=sent):
            return sent
        case BadReply():
            return True
        case ApiError(status=status):
            return status in _TRANSIENT_STATUSES
    return False


def backoff_seconds(attempt: int) -> float:
    """Return the wait after the n-th try: half a second, doubled each time, spread by a quarter."""
    return min(MAX_WAIT_SECONDS, 0.25 * 2.0**attempt) * random.uniform(0.75, 1.25)  # noqa: S311 - no secret
