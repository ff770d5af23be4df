"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: claude_settings
short_description: Credential, settings and environment of Claude Code, in one remote call
description:
  - Lays down what Claude Code needs to work without a dialog, below C(.ocaptain/claude) of a home, and says in
    C(.claude.json) that its first questions are answered; what else stands there is kept.
  - Exactly one credential goes to the host, on standard input, into a file of mode 0600. Without one in the task
    it is ocaptain's own configuration that counts (C(CLAUDE_CODE_OAUTH_TOKEN), C(ANTHROPIC_API_KEY) and
    C(OCAPTAIN_CLAUDE_KEY_HELPER) in the controller's environment or its C(.env) files), so that no secret has to
    be a variable of Ansible's.
  - Needs Python 3 on the host.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  home:
    description: Home that the agents work below, an absolute path.
    type: str
    required: true
  login_home:
    description: Where the CLI looks for C(.claude.json), its user's C($HOME), if that is not O(home).
    type: str
  cli:
    description: Path of the CLI on the host; written to C(.ocaptain/claude/path).
    type: str
    required: true
  credential:
    description:
      - Which one goes to the host. C(auto) takes the first there is of key helper, token and key.
      - C(none) is for hosts that have their own.
    type: str
    choices: [auto, key_helper, oauth_token, api_key, none]
    default: auto
  oauth_token:
    description: Token of a subscription; the CLI finds it in its environment.
    type: str
  api_key:
    description: Key of the API; the CLI reads it from a file, so that it is in no environment.
    type: str
  key_helper:
    description: Shell line on the host that prints a key.
    type: str
  key_helper_src:
    description: Program on the controller that is put on the host (mode 0700) and prints a key there.
    type: str
  base_url:
    description: URL of the API, if it is not the CLI's own; by default C(ANTHROPIC_BASE_URL) of the controller.
    type: str
  environment:
    description: More variables of the CLI's environment; one that is null is left out.
    type: dict
    default: {}
  settings:
    description: More of Claude Code's settings.
    type: dict
    default: {}
  workspaces:
    description:
      - Directories below O(home) that the CLI is to trust without asking.
      - Each by its own name, since a git repository does not inherit the trust in what it lies in.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: What Claude Code needs
  claude_settings:
    home: /home/sprite
    cli: /usr/local/bin/claude
    api_key: "{{ vaulted_key }}"
    environment:
      DISABLE_TELEMETRY: "1"
  no_log: true
"""

RETURN = r"""
paths:
  description: Paths that changed.
  returned: success
  type: list
credential:
  description: Which credential was chosen.
  returned: success
  type: str
"""
