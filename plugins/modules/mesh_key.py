"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: mesh_key
short_description: The key by which one ship joins the mesh
description:
  - Mints a short-lived key for one ephemeral, tagged machine by Tailscale's API, and deletes it after use.
  - Runs on the controller and opens no connection. The secret of the API never leaves the controller;
    it is configured by C(OCAPTAIN_TAILSCALE_OAUTH_SECRET).
  - Every call with C(state=present) makes another key; look first whether the ship has joined.
  - Use C(no_log) with C(state=present), since the key is in the result.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  state:
    description: C(present) mints a key, C(absent) deletes it and notes the device that joined by it.
    type: str
    choices: [present, absent]
    default: present
  voyage:
    description: Id of the voyage, or any unique prefix.
    type: str
    required: true
  ship:
    description: Id of the ship; by default the host's variable C(ocaptain_ship), else the host.
    type: str
  sprite:
    description: Name of the ship on the tailnet; by default the host's variable C(ocaptain_sprite), else the host.
    type: str
  id:
    description: Of the key; needed with C(state=absent).
    type: str
  node:
    description: Id of the device that joined by it (C(Self.ID) of C(tailscale status --json)), so that it is
      deleted when the voyage is sunk.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Mint a key for this ship
  mesh_key:
    voyage: "{{ ocaptain_voyage }}"
  register: minted
  no_log: true

- name: Delete it
  mesh_key:
    state: absent
    voyage: "{{ ocaptain_voyage }}"
    id: "{{ minted.id }}"
"""

RETURN = r"""
id:
  description: Id of the key.
  returned: C(state=present)
  type: str
key:
  description: The key. Empty in check mode.
  returned: C(state=present)
  type: str
"""
