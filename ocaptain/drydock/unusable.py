"""Sprites that an ended drydock has left on disk, and that this one cannot serve.

Absent is not gone: whoever asks for one of them must not be told that it does not exist. Where a record says its
name, only that name is concerned; one that cannot be read may be any.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ocaptain.drydock.errors import ApiError
from ocaptain.drydock.rootless import SandboxMode

if TYPE_CHECKING:
    from pathlib import Path

_STANDS_ON: dict[str, str] = {
    SandboxMode.HOST: "this machine's system",
    SandboxMode.MAPPED: "a Debian of their own",
    SandboxMode.SINGLE: "this machine's programs under one id",
}


def why_unusable(made: str, now: str) -> str | None:
    """Return why a sprite cannot run as this drydock runs; None if it can.

    Args:
        made: mode in which it was made (:class:`.rootless.SandboxMode`).
        now: mode of this drydock.
    """
    if made == now:
        return None
    before = _STANDS_ON.get(made, "what this version does not know")
    reason = f"was made of {before}, and ships stand on {_STANDS_ON[now]} now"
    return f"{reason}; `ocaptain doctor` says why; go back to that, or remove the folder"


@dataclass
class Unusable:
    """The folders of such sprites.

    Attributes:
        named: by the sprite's name, what is the matter.
        nameless: the same for folders whose record cannot be read.
    """

    named: dict[str, str] = field(default_factory=dict)
    nameless: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.named or self.nameless)

    def add(self, directory: Path, reason: str, name: str | None = None) -> None:
        """Remember a folder.

        Args:
            directory: of the sprite.
            reason: why it cannot be served.
            name: of the sprite; None = nobody knows.
        """
        told = f"the sprite {f'{name} ' if name else ''}in {directory} {reason}"
        if name:
            self.named[name] = told
        else:
            self.nameless.append(told)

    def error_for(self, name: str) -> ApiError:
        """Return what is the answer about a sprite that is not served: 423 if it may be one of these, else 404."""
        if told := [*([self.named[name]] if name in self.named else []), *self.nameless]:
            return ApiError(423, "unreadable", told[0])
        return ApiError(404, "not_found", f"sprite not found: {name}")
