"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: tree
short_description: A tree of small files with modes, in one remote call
description:
  - Sends all files on standard input, so that nothing of them stands in an argv; each is compared by content
    and mode and replaced as a whole if it differs.
  - Needs Python 3 on the host.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  dest:
    description: Directory that the paths are relative to; C(~) is the remote user's home.
    type: str
    required: true
  files:
    description:
      - "The files: each C(path), C(mode) (octal, 0644 by default), one of C(content) or C(src), and C(state)."
      - C(state) is C(present), C(absent), or C(merged), which puts a JSON object into the one that is there.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Two files
  tree:
    dest: /home/sprite
    files:
      - path: .profile
        src: profile
      - path: .token
        content: "{{ vaulted_token }}"
        mode: "0600"
  no_log: true
"""

RETURN = r"""
paths:
  description: Paths that changed.
  returned: always
  type: list
"""
