"""Inventory ``sprites``: the ships of an account, or of drydock, as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sprites
short_description: Sprites (https://sprites.dev) or drydock as an inventory
description:
  - Every sprite that matches is a host, reached by the connection plugin C(sprite).
  - Hosts are in group C(ocaptain) or the one that O(group) names, in C(voyage_<id>) and C(ship_<n>) where the name
    tells them, and in C(status_<status>).
  - A drydock that does not run is an empty inventory; an API that cannot be reached is an error.
  - With a cache the API is not asked, nor its token looked for, until the entry is old. An entry is of one
    file, provider, URL, O(api_token) and O(prefix); every other option counts at once.
notes:
  - Each host has the variables C(ansible_connection), C(ansible_python_interpreter), C(ocaptain_provider),
    C(ocaptain_sprite) (the sprite's name) and, where O(api_url) is set here, C(ocaptain_api_url); they are
    read by the connection and the actions, so that O(hostvars_prefix) and O(hostvars_suffix) do not change them.
  - What is known of the sprite is in C(ocaptain_status), C(ocaptain_labels) (a list), C(ocaptain_organization),
    C(ocaptain_url) (of the sprite's own web server) and C(ocaptain_created_at) (as the API writes times); for a ship
    also in C(ocaptain_voyage) (C(voyage-<12 hex digits>)) and C(ocaptain_ship) (C(ship-<n>)).
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Name of this plugin.
    type: str
    required: true
    choices: [sprites, ocaptain.fleet.sprites]
  provider:
    description: Where the sprites are; by default as ocaptain is configured.
    type: str
    choices: [sprites, drydock]
    env:
      - name: OCAPTAIN_PROVIDER
  api_url:
    description:
      - Base URL of the API; without it the configuration's. May be a template.
      - The environment's counts for Sprites alone; a drydock is found by itself.
    type: str
    env:
      - name: SPRITES_API_URL
  api_token:
    description:
      - Bearer token of the API; without it the configuration's (E(SPRITES_TOKEN)). May be a template
        or a value encrypted by ansible-vault. It never becomes a variable of a host.
    type: str
  prefix:
    description: Only sprites whose name starts with this.
    type: str
    default: ""
    env:
      - name: OCAPTAIN_INVENTORY_PREFIX
  labels:
    description: Only sprites that have all of these labels.
    type: list
    elements: str
    default: []
    env:
      - name: OCAPTAIN_INVENTORY_LABELS
  label_selector:
    description:
      - Only sprites whose labels are as this says. Requirements with commas between, all of which must be met, such as
        C(env=prod,tier!=db,zone in (a,b),!old).
      - A label with C(=) in it is a key with a value, any other a key whose value is empty. C(!=) and C(notin) also
        accept sprites without the key.
    type: str
    default: ""
    env:
      - name: OCAPTAIN_INVENTORY_LABEL_SELECTOR
  status:
    description: Only sprites in one of these states.
    type: list
    elements: str
    choices: [running, warm, cold]
    default: []
    env:
      - name: OCAPTAIN_INVENTORY_STATUS
  voyage:
    description: Only the ships of this voyage, C(voyage-<12 hex digits>).
    type: str
    env:
      - name: OCAPTAIN_INVENTORY_VOYAGE
  hostname:
    description:
      - Template of a host's name, over its variables; by default the sprite's name. Two sprites cannot be one host.
    type: str
    env:
      - name: OCAPTAIN_INVENTORY_HOSTNAME
  hostvars_prefix:
    description: How variables begin that tell what is known of the sprite.
    type: str
    default: ocaptain_
    env:
      - name: OCAPTAIN_INVENTORY_HOSTVARS_PREFIX
  hostvars_suffix:
    description: How these variables end.
    type: str
    default: ""
    env:
      - name: OCAPTAIN_INVENTORY_HOSTVARS_SUFFIX
  group:
    description: The group that every host is in.
    type: str
    default: ocaptain
    env:
      - name: OCAPTAIN_INVENTORY_GROUP
"""

EXAMPLES = r"""
# prod.sprites.yml: the ships of every voyage, grouped by status
plugin: sprites
labels: [ocaptain]
keyed_groups:
  - key: ocaptain_status
    prefix: is

# Sprites of a team, by names of its own; variables are sprite_status, sprite_labels and so on
plugin: sprites
label_selector: team=web,stage in (test,prod),!retired
hostname: "web-{{ ocaptain_sprite }}"
hostvars_prefix: sprite_
group: web

# The ships of one voyage that are awake, with a token from ansible-vault, asked at most once in five minutes
plugin: sprites
provider: sprites
api_token: "{{ lookup('ansible.builtin.file', '/etc/ocaptain/token') }}"
voyage: voyage-0123456789ab
status: [running]
compose:
  ansible_user: "'sprite'"
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /var/tmp/sprites-inventory
cache_timeout: 300
"""

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ocaptain.ansible.access import find_endpoint, find_source, name_provider
from ocaptain.ansible.hosts import HostNames, build_host, is_selected
from ocaptain.ansible.labels import parse_selector
from ocaptain.errors import OcaptainError
from ocaptain.names import VOYAGE_ID
from ocaptain.provider import explaining_errors
from ocaptain.sprites import Sprite

if TYPE_CHECKING:
    from ansible.inventory.data import InventoryData
    from ansible.parsing.dataloader import DataLoader

    from ocaptain.ansible.hosts import Host
    from ocaptain.provider import Endpoint


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Orchestrates; :func:`ocaptain.ansible.hosts.build_host` decides."""

    NAME = "sprites"

    def verify_file(self, path: str) -> bool:
        """Take ``sprites.yml`` and ``*.sprites.yml``."""
        return bool(super().verify_file(path)) and path.endswith(("sprites.yml", "sprites.yaml"))

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:  # noqa: FBT001, FBT002
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._check(path, self._read_config_data(path))
        self.load_cache_plugin()
        try:
            names = self._names()
            filters = {name: self._option(name) for name in ("labels", "voyage", "status")}
            filters["selector"] = parse_selector(self._option("label_selector") or "")
            filters["prefix"] = self._option("prefix") or ""
            found = self._find(path, may_use_cache=cache)
        except OcaptainError as error:
            raise AnsibleParserError(f"{path}: {error}") from error
        self.inventory.add_group(names.group)
        connection = "ocaptain.fleet.sprite" if self.ansible_name.startswith("ocaptain.") else "sprite"
        api_url = self._api_url()
        sprites = [Sprite.model_validate(fields) for fields in found["sprites"]]
        hosts = [
            build_host(sprite, found["provider"], connection, api_url, names)
            for sprite in sprites
            if is_selected(sprite, **filters)
        ]
        self._rename(path, hosts)
        for host in hosts:
            self._add(host)

    def _check(self, path: str, config: dict[str, Any]) -> None:
        """A misspelt filter would list every sprite of the account; Ansible itself passes it over."""
        unknown = sorted(config.keys() - self.get_options().keys())
        if unknown:
            known = ", ".join(sorted(self.get_options()))
            raise AnsibleParserError(f"{path}: there is no option {', '.join(unknown)}; there are {known}")
        voyage = self._option("voyage")
        if voyage and not VOYAGE_ID.fullmatch(voyage):
            raise AnsibleParserError(f"{path}: voyage: {voyage!r} is none: write voyage-<12 hex digits>, all of it")

    def _names(self) -> HostNames:
        """Return what variables and group are called.

        Raises:
            UsageError: something cannot be called so.
        """
        names = HostNames(*(self._option(name) or "" for name in ("hostvars_prefix", "hostvars_suffix", "group")))
        names.check()
        return names

    def _find(self, path: str, *, may_use_cache: bool) -> dict[str, Any]:
        """Return provider and sprites, from the cache if it may be and has them.

        Raises:
            OcaptainError: the configuration is wrong, or the API cannot be asked.
        """
        if not self.get_option("cache"):
            return self._ask()
        key = self._cache_key(path)
        found = self._cached(key) if may_use_cache else None
        if found is None:
            found = self._cache[key] = self._ask()
        return found

    def _cache_key(self, path: str) -> str:
        """Return a key of all that decides what the API lists: a changed file never serves old hosts."""
        url, token = self._api_url(), self._option("api_token")
        source = find_source(name_provider(self._option("provider"), url, token), url)
        digest = hashlib.sha256(json.dumps([*source, str(token or ""), self._option("prefix")]).encode()).hexdigest()
        return f"{self.get_cache_key(path)}_{digest[:16]}"

    def _rename(self, path: str, hosts: list[Host]) -> None:
        """Give hosts the names that the option ``hostname`` says."""
        template = self.get_option("hostname")
        if not template:
            return
        taken: dict[str, str] = {}
        for host in hosts:
            self.templar.available_variables = host["vars"]
            try:
                name = self.templar.template(template)
            except AnsibleError as error:
                raise AnsibleParserError(f"{path}: hostname: for {host['name']}: {error}") from error
            if not isinstance(name, str) or not name.isprintable() or name != "".join(name.split()) or not name:
                raise AnsibleParserError(f"{path}: hostname: {name!r}, of {host['name']}, is no name of a host")
            if name in taken:
                both = f"{taken[name]} and {host['name']} would both be {name}"
                raise AnsibleParserError(f"{path}: hostname: {both}; use ocaptain_sprite in it")
            taken[name] = host["name"]
            host["name"] = name

    def _ask(self) -> dict[str, Any]:
        """Return provider and sprites as plain data, which is what the cache keeps.

        Raises:
            OcaptainError: the configuration is wrong, or the API cannot be asked.
        """
        provider, reached = find_endpoint(self._option("provider"), self._api_url(), self._option("api_token"))
        sprites: list[Sprite] = []
        if reached:
            with explaining_errors(reached):
                sprites = asyncio.run(_list(reached, self._option("prefix") or ""))
        return {"provider": str(provider), "sprites": [sprite.model_dump(mode="json") for sprite in sprites]}

    def _cached(self, key: str) -> dict[str, Any] | None:
        """Return what the cache has, None if it has nothing of use."""
        try:
            found = self._cache[key]
        except KeyError:  # not there, or too old
            return None
        return found if isinstance(found, dict) and {"provider", "sprites"} <= found.keys() else None

    def _option(self, name: str) -> Any:
        value = self.get_option(name)
        return self.templar.template(value) if isinstance(value, str) else value

    def _api_url(self) -> str | None:
        """Return the URL of the options; the environment's is the configuration's, which has its own rules."""
        origin = self.get_option_and_origin("api_url")[1]
        return None if str(origin).startswith("env") else self._option("api_url")

    def _add(self, host: Host) -> None:
        name = host["name"]
        self.inventory.add_host(name)
        for group in host["groups"]:
            self.inventory.add_group(group)
            self.inventory.add_child(group, name)
        for key, value in host["vars"].items():
            self.inventory.set_variable(name, key, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), host["vars"], name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), host["vars"], name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), host["vars"], name, strict=strict)


async def _list(reached: Endpoint, prefix: str) -> list[Sprite]:
    async with reached.client() as client:
        return await client.list(prefix)
