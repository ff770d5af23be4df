"""Inventory hosts of sprites, as plain data (ansible-core refuses anything else)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from ocaptain.errors import UsageError
from ocaptain.names import split_sprite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocaptain.ansible.labels import Requirement
    from ocaptain.sprites import Sprite

#: Facts of a sprite, which become variables with a prefix and a suffix of the user's.
FACTS = ("status", "labels", "organization", "url", "created_at", "voyage", "ship")
#: Variables that connection and actions read: where a host's commands, and with them its token, go.
READ = ("sprite", "provider", "api_url", "api_token", "command_timeout")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Host(TypedDict):
    """A host of the inventory."""

    name: str
    groups: list[str]
    vars: dict[str, Any]


@dataclass(frozen=True)
class HostNames:
    """What the variables and the group of all hosts are called.

    Attributes:
        prefix: before the name of each fact.
        suffix: after it.
        group: the group that every host is in.
    """

    prefix: str = "ocaptain_"
    suffix: str = ""
    group: str = "ocaptain"

    def check(self) -> None:
        """Refuse what makes no variables, no group, or variables that something reads already.

        Raises:
            UsageError: which option, and what to write.
        """
        if not _WORD.fullmatch(self.group) or self.group in {"all", "ungrouped"}:
            raise UsageError(f"group: {self.group!r} cannot be one: write letters, digits and _, no digit first")
        for fact in FACTS:
            name = self.variable(fact)
            if not _WORD.fullmatch(name):
                raise UsageError(
                    f"hostvars_prefix, hostvars_suffix: {name!r} is no name of a variable: write letters, digits and _"
                )
            # A sprite's own URL as ocaptain_api_url, say: whoever serves there would be sent the token.
            if name.startswith("ansible_") or name in {f"ocaptain_{read}" for read in READ}:
                raise UsageError(f"hostvars_prefix, hostvars_suffix: {name} has a meaning already: choose others")

    def variable(self, fact: str) -> str:
        """Return the variable of a fact."""
        return f"{self.prefix}{fact}{self.suffix}"


def is_selected(
    sprite: Sprite,
    *,
    prefix: str = "",
    labels: Sequence[str] = (),
    selector: Sequence[Requirement] = (),
    voyage: str | None = None,
    status: Sequence[str] = (),
) -> bool:
    """Whether a sprite passes every filter that is set."""
    found = split_sprite(sprite.name)
    of_voyage = not voyage or (found is not None and found[0] == voyage)
    in_state = not status or sprite.status in status
    has_labels = set(labels) <= set(sprite.labels) and all(one.accepts(sprite.labels) for one in selector)
    return sprite.name.startswith(prefix) and of_voyage and in_state and has_labels


def build_host(
    sprite: Sprite,
    provider: str,
    connection: str = "sprite",
    api_url: str | None = None,
    names: HostNames = HostNames(),
) -> Host:
    """Return the host of a sprite.

    Args:
        sprite: the sprite, as the API lists it.
        provider: name of its provider.
        connection: name of the connection plugin, which differs in a collection.
        api_url: URL of the API, if the inventory sets one; the token never becomes a variable.
        names: what variables and group are called.
    """
    found = split_sprite(sprite.name)
    groups = [names.group, *([f"status_{re.sub('[^a-z0-9_]', '_', sprite.status)}"] if sprite.status else [])]
    variables: dict[str, Any] = {
        "ansible_connection": connection,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ocaptain_provider": str(provider),
        "ocaptain_sprite": sprite.name,
    }
    facts: dict[str, Any] = {
        "status": sprite.status,
        "labels": list(sprite.labels),
        "organization": sprite.organization,
        "url": sprite.url,
        "created_at": sprite.created_at,
    }
    if api_url:
        variables["ocaptain_api_url"] = str(api_url)
    if found:
        groups += [found[0].replace("-", "_"), found[1].replace("-", "_")]
        facts |= {"voyage": found[0], "ship": found[1]}
    variables |= {names.variable(fact): value for fact, value in facts.items()}
    return {"name": sprite.name, "groups": groups, "vars": variables}
