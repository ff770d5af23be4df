"""Inventory hosts of sprites, as plain data (ansible-core refuses anything else)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypedDict

from ocaptain.names import split_sprite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.sprites import Sprite


class Host(TypedDict):
    """A host of the inventory."""

    name: str
    groups: list[str]
    vars: dict[str, Any]


def is_selected(
    sprite: Sprite,
    *,
    prefix: str = "",
    labels: Sequence[str] = (),
    voyage: str | None = None,
    status: Sequence[str] = (),
) -> bool:
    """Whether a sprite passes every filter that is set."""
    found = split_sprite(sprite.name)
    of_voyage = not voyage or (found is not None and found[0] == voyage)
    in_state = not status or sprite.status in status
    return sprite.name.startswith(prefix) and of_voyage and in_state and set(labels) <= set(sprite.labels)


def build_host(sprite: Sprite, provider: str, connection: str = "sprite", api_url: str | None = None) -> Host:
    """Return the host of a sprite.

    Args:
        sprite: the sprite, as the API lists it.
        provider: name of its provider.
        connection: name of the connection plugin, which differs in a collection.
        api_url: URL of the API, if the inventory sets one; the token never becomes a variable.
    """
    found = split_sprite(sprite.name)
    groups = ["ocaptain", *([f"status_{re.sub('[^a-z0-9_]', '_', sprite.status)}"] if sprite.status else [])]
    variables: dict[str, Any] = {
        "ansible_connection": connection,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ocaptain_provider": str(provider),
        "ocaptain_sprite": sprite.name,
        "ocaptain_status": sprite.status,
        "ocaptain_labels": list(sprite.labels),
        "ocaptain_organization": sprite.organization,
        "ocaptain_url": sprite.url,
        "ocaptain_created_at": sprite.created_at,
    }
    if api_url:
        variables["ocaptain_api_url"] = str(api_url)
    if found:
        groups += [found[0].replace("-", "_"), found[1].replace("-", "_")]
        variables |= {"ocaptain_voyage": found[0], "ocaptain_ship": found[1]}
    return {"name": sprite.name, "groups": groups, "vars": variables}
