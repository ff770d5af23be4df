"""Documentation of the action plugin of the same name."""

DOCUMENTATION = r"""
module: ship_failure
short_description: Why a task failed, in one line for the record
description:
  - For the C(rescue) of a block. Returns role, task and reason of the task that failed, for the ledger.
  - Of a command the reason has C(rc) and the last lines of its error output and its output; of a host that could
    not be reached it is what Ansible said. Of a task with C(no_log) there is nothing but that.
  - Runs on the controller and opens no connection.
author: The ocaptain authors (!UNKNOWN)
version_added: 0.1.0
options:
  result:
    description:
      - A registered result that failed or was unreachable; by default that of the task which began the rescue.
    type: dict
  roles:
    description: Roles whose name is a tag of their tasks; the one that the failed task has is named.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Apply the role
  block:
    - name: Apply the role
      ansible.builtin.include_role:
        name: our-tools
        apply:
          tags: [our-tools]
  rescue:
    - name: Note why it failed
      ship_failure:
        roles: [our-tools]
      register: noted
"""

RETURN = r"""
reason:
  description: Role, task and reason, one line without control characters and without the host's name.
  returned: always
  type: str
  sample: "role our-tools, task Install the linter: rc 1: no such option: --frob"
"""
