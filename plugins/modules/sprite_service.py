"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: sprite_service
short_description: A service of a sprite
description:
  - Defines and starts a service by the Sprites API; sprites have no systemd.
  - A service that is as described and runs is left alone.
author: The ocaptain authors
version_added: 0.1.0
options:
  name:
    description: Name of the service.
    type: str
    required: true
  sprite:
    description: Name of the sprite; by default the host.
    type: str
  state:
    description: V(absent) stops and removes it.
    type: str
    choices: [present, absent]
    default: present
  cmd:
    description: Program; needed where it is to be V(present).
    type: str
  args:
    description: Its arguments. Never put a secret here.
    type: list
    elements: str
    default: []
  chdir:
    description: Working directory.
    type: str
    default: /home/sprite
  restarted:
    description: Start it anew even if it is as described.
    type: bool
    default: false
  provider:
    description: Where the sprite is; by default as configured.
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
- name: A web server
  sprite_service:
    name: web
    cmd: python3
    args: ["-m", http.server, "8080"]
"""

RETURN = "# nothing beyond the usual"
