"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: sprite
short_description: Sprites present or absent, checkpointed or restored, many at once
description:
  - Creates, destroys, copies or puts back all named sprites concurrently, from the controller.
  - C(present) and C(checkpointed) leave alone what is there already; C(restored) is always a change.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  names:
    description: Names of the sprites.
    type: list
    elements: str
    required: true
    aliases: [name]
  state:
    description:
      - C(present) and C(absent) say whether they shall be there.
      - C(checkpointed) copies their disks, unless there is a checkpoint of that name.
      - C(restored) puts a checkpoint in the place of their disks; what runs there ends.
    type: str
    choices: [present, absent, checkpointed, restored]
    default: present
  checkpoint:
    description:
      - Name of the checkpoint, kept as its comment. For C(restored) an id will do, too; of several of
        that name the newest counts.
    type: str
  labels:
    description: Labels of those that are made.
    type: list
    elements: str
    default: []
  spare:
    description: Those of the names that make room for the others, where the account allows fewer than all.
    type: list
    elements: str
    default: []
  host_ports:
    description: Ports of the controller's loopback that they shall have as well, for C(present) on drydock.
    type: list
    elements: int
    default: []
  best_effort:
    description: Succeed if at least one of them is as it should be.
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
- name: Three sprites
  sprite:
    names: [one, two, three]
    labels: [mine]

- name: A copy of their disks, once
  sprite:
    names: [one, two, three]
    state: checkpointed
    checkpoint: before-upgrade

- name: Back to it
  sprite:
    names: [two]
    state: restored
    checkpoint: before-upgrade

- name: Nothing left
  sprite:
    names: [one, two, three]
    state: absent
"""

RETURN = r"""
present:
  description: Names that are there.
  returned: always
  type: list
changed_names:
  description: Names that were made, destroyed, copied or put back.
  returned: always
  type: list
failed_names:
  description: The others, with the reason.
  returned: always
  type: dict
"""
