"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: voyage
short_description: The steps of a voyage that happen on the controller
description:
  - Checks and prepares a voyage, launches it, waits for its end, and takes its fleet down in two steps.
  - Runs on the controller and opens no connection.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  state:
    description:
      - C(checked) looks at a plan. C(prepared) checks everything and makes the voyage, or finds the one to go
        on with. C(joined) makes a ship that was just built part of the fleet; the first one starts the captain.
        C(left_out) tells a captain that runs what could not be built. C(launched) records what did not join, and waits
        until the captain has reached the fleet. C(complete) waits for the end. C(rescued) stops the agents and
        fetches their work. C(sunk) proves that nothing is left.
    type: str
    required: true
    choices: [checked, prepared, joined, left_out, launched, complete, rescued, sunk]
  plan:
    description: The plan's directory.
    type: path
  voyage:
    description: Id of a voyage, or any unique prefix; without it the only active one.
    type: str
  on_active:
    description: What to do if the plan sails already.
    type: str
    choices: [resume, refuse, new]
    default: resume
  # Made by scripts/document.
  ships:
    description: How many ships sail; by default what the plan recommends.
    type: int
  provider:
    description: Where ships come from; by default as configured.
    type: str
    choices:
    - sprites
    - drydock
  mesh:
    description: Network that ships join; auto means tailscale on sprites if its secret is set.
    type: str
    choices:
    - auto
    - none
    - tailscale
  agent:
    description: Agent of tasks that name none.
    type: str
  agent_cmd:
    description: The line that agent C(command) runs for tasks without metadata.run.
    type: str
  model:
    description: Model of agents whose task names none.
    type: str
  max_turns:
    description: Turns that an attempt of a model may take (200).
    type: int
  task_list:
    description: Whether agents get the plan as their own task list, which the captain keeps right; auto, the default,
      means where a person can see their screen.
    type: str
    choices:
    - auto
    - 'on'
    - 'off'
  interactive:
    description: Give each agent its own screen in the ship's tmux, for people to watch and to type at (agent claude
      only).
    type: bool
    default: false
  repo:
    description: Repository to start from (owner/name on GitHub, a URL or a path); by default the plan's.
    type: str
  branch:
    description: Branch of the repository to start from; by default the plan's, else the one that its HEAD names.
    type: str
  repo_settings:
    description: 'What agents take from the repository''s own settings (.claude/settings.json, .mcp.json): nothing
      (ignore), its hooks and permission rules, or all of it (trust); by default ignore.'
    type: str
    choices:
    - ignore
    - hooks
    - trust
  allow_partial:
    description: Sail without the repository's submodules and LFS files.
    type: bool
    default: false
  no_telemetry:
    description: Have agents report no metrics, logs and traces (OpenTelemetry) to their ships.
    type: bool
    default: false
  verify_on:
    description: 'Where the final verify runs: where no agent was (clean), or on any ship; by default as configured.'
    type: str
    choices:
    - clean
    - any
  replace:
    description: Replace ships that are lost, for as long as the voyage sails.
    type: bool
    default: false
  take_over:
    description: Command the ships of a voyage whose ledger is older than its fleet.
    type: bool
    default: false
  # End of what scripts/document made.
  ship:
    description: The sprite or host of a ship that was built (C(joined)).
    type: str
  is_new:
    description: Whether it was created for this, so that its disk is empty (C(joined)).
    type: bool
    default: false
  joined:
    description: Those of O(ready) that have joined (C(launched)).
    type: list
    elements: str
    default: []
  ready:
    description: Sprites that were built (C(launched)).
    type: list
    elements: str
    default: []
  created:
    description: Sprites that are new (C(launched)).
    type: list
    elements: str
    default: []
  destroyed:
    description: Sprites whose destruction the provider has confirmed (C(launched), C(sunk)).
    type: list
    elements: str
    default: []
  failed:
    description: Sprites that were not built (C(left_out), C(launched)) or not destroyed (C(sunk)), with the reason.
    type: dict
    default: {}
  unfetched:
    description: Those of O(failed) that were kept because their work could not be fetched (C(sunk)).
    type: list
    elements: str
    default: []
  abandon:
    description:
      - Destroy ships even if their work cannot be fetched, which is lost then (C(rescued)).
      - Give up hosts that cannot be asked (C(sunk)).
    type: bool
    default: false
  hosts:
    description:
      - Hosts of the inventory that become the ships, in this order, in place of sprites (C(prepared)).
      - How each is reached is taken from its variables and Ansible's configuration, as data. Passwords are refused.
    type: list
    elements: str
  strict:
    description: Fail if fewer ships sailed than were asked for (C(complete)).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look at a plan
  voyage:
    state: checked
    plan: examples/plans/lighthouse
"""

RETURN = r"""
hosts:
  description: Hosts that are to be given back, with the connection's variables where the inventory lacks them.
  returned: C(rescued)
  type: list
voyage:
  description: Id, directory, provider, state and ships of the voyage.
  returned: C(prepared)
  type: dict
outcome:
  description: State, ships that sail and ships that were left out.
  returned: C(launched), C(complete)
  type: dict
"""
