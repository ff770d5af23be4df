"""Errors, and the exit code of a command for each.

::

    OcaptainError                 1  the work failed; the message says where and what to do
    ├─ UsageError                 2  wrong input, plan or configuration; nothing was created
    ├─ PartialError               3  done, but less than was asked for
    ├─ Paused                     4  paused, and can go on
    └─ Interrupted              130  the user stopped it; says what exists and how to resume

Errors of the Sprites API are a tree of their own below :class:`OcaptainError`
(:mod:`ocaptain.sprites.errors`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class OcaptainError(Exception):
    """The work failed.

    Args:
        message: what happened, where, and what to do; one that ends in a colon announces the details.
        details: further lines, one for each fault or ship.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)
        self.message = message if self.details or not message.endswith(":") else f"{message} no reason was given"

    def __str__(self) -> str:
        return "\n".join((self.message, *self.details))

    @property
    def remedy(self) -> str | None:
        """What to do, where the message says so: it is written "what happened; what to do"."""
        return self.message.rpartition("; ")[2] if "; " in self.message else None


class UsageError(OcaptainError):
    """Wrong input, plan or configuration."""

    exit_code = 2


class PartialError(OcaptainError):
    """Done, but less than was asked for."""

    exit_code = 3


class Paused(OcaptainError):
    """Paused, and can go on."""

    exit_code = 4


class Interrupted(OcaptainError):
    """The user stopped it."""

    exit_code = 130


BY_EXIT_CODE = {kind.exit_code: kind for kind in (OcaptainError, UsageError, PartialError, Paused, Interrupted)}
