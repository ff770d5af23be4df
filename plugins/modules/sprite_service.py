"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: sprite_service
short_description: A service of a sprite
description:
  - Defines and starts a service by the Sprites API; sprites have no systemd.
  - A service that is as described and runs is left alone.
  - With C(state=absent) it is stopped and forgotten.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  name:
    description: Name of the service.
    type: str
    required: true
  state:
    description: Whether there shall be such a service.
    type: str
    choices: [present, absent]
    default: present
  sprite:
    description: Name of the sprite; by default the host.
    type: str
  cmd:
    description: Program; needed with C(state=present).
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
- name: A web server
  sprite_service:
    name: web
    cmd: python3
    args: ["-m", http.server, "8080"]

- name: No web server any more
  sprite_service:
    name: web
    state: absent
"""

RETURN = r"""
service:
  description: Name, cmd, args, dir and state of the service as it is now (would be, in check mode).
  returned: success
  type: dict
  sample: {name: web, cmd: python3, args: ["-m", http.server, "8080"], dir: /home/sprite, state: running}
"""
