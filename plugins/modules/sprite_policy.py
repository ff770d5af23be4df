"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: sprite_policy
short_description: Where a sprite may connect to
description:
  - Replaces the rules of a sprite's egress by the Sprites API.
  - With an entry in O(allow), or O(defaults), whatever no rule names is denied. Without any option
    nothing is restricted.
  - On drydock the rules are in force but with C(drydock start --network host).
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  sprite:
    description: Name of the sprite; by default the host.
    type: str
  allow:
    description: Domains that may be connected to; C(*.example.org) takes in every name below.
    type: list
    elements: str
    default: []
  deny:
    description: Domains that may not. An exact name beats a pattern; of two equal ones this wins.
    type: list
    elements: str
    default: []
  defaults:
    description: Allow the service's own list of package registries and the like, too.
    type: bool
    default: false
  # Made by scripts/document.
  provider:
    description: Where the sprite is; by default as configured.
    type: str
    choices:
    - sprites
    - drydock
  api_url:
    description: Base URL of the API.
    type: str
  api_token:
    description: Bearer token of the API.
    type: str
  # End of what scripts/document made.
"""

EXAMPLES = r"""
- name: Only a model's API and what package managers need
  sprite_policy:
    allow: [api.anthropic.com]
    defaults: true

- name: No restriction
  sprite_policy:
"""

RETURN = r"""
rules:
  description: The rules as the API has them now.
  returned: success
  type: list
  elements: dict
"""
