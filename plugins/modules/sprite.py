"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: sprite
short_description: Sprites present or absent, many at once
description:
  - Creates or destroys all named sprites concurrently, from the controller.
author: The ocaptain authors
version_added: 0.1.0
options:
  names:
    description: Names of the sprites.
    type: list
    elements: str
    required: true
    aliases: [name]
  state:
    description: Whether they shall be there.
    type: str
    choices: [present, absent]
    default: present
  labels:
    description: Labels of those that are made.
    type: list
    elements: str
    default: []
  best_effort:
    description: Succeed if at least one of them is as it should be.
    type: bool
    default: false
  provider:
    description: Where they are; by default as configured.
    type: str
    choices: [sprites, drydock]
  api_url:
    description: Base URL of the API.
    type: str
  api_token:
    description: Bearer token of the API.
    type: str
"""

EXAMPLES = r"""
- name: Three sprites
  sprite:
    names: [one, two, three]
    labels: [mine]
"""

RETURN = r"""
present:
  description: Names that are there.
  returned: always
  type: list
changed_names:
  description: Names that were made or destroyed.
  returned: always
  type: list
failed_names:
  description: The others, with the reason.
  returned: always
  type: dict
"""
