"""The objects in the service's replies. Unknown fields are ignored, since the service adds some."""

from __future__ import annotations

from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class Sprite(BaseModel):
    """A VM of the account.

    ``organization`` is spelled ``org_slug`` on list pages of the documentation.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    id: str = ""
    organization: str = Field("", validation_alias=AliasChoices("organization", "org_slug"))
    status: str = ""
    url: str = ""
    labels: tuple[str, ...] = ()
    created_at: str = ""
    updated_at: str = ""
    last_running_at: str | None = None
    last_warming_at: str | None = None


class Change(BaseModel):
    """A line of the watch stream: a sprite's status, or a heartbeat (without a name).

    Source: the official JavaScript SDK, ``watchSprites``.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = ""
    status: str = ""
    last_running_at: str | None = None
    last_warming_at: str | None = None
    timestamp: str = ""


class SpritePage(BaseModel):
    """One page of the list."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    sprites: tuple[Sprite, ...] = ()
    has_more: bool = False
    next_continuation_token: str | None = None
    organisation: str = Field("", validation_alias="name")
    running: int | None = None
    running_limit: int | None = None


class Checkpoint(BaseModel):
    """A copy of a sprite's disk."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    comment: str = ""
    create_time: str = ""
