"""A run of a playbook as data."""

from __future__ import annotations

import sys
from pathlib import Path

from ocaptain.ansible import invocation
from tests.helpers import REPO


def test_the_whole_invocation(tmp_path):
    caller = {"PATH": "/usr/bin", "ANSIBLE_ROLES_PATH": "/mine", "SPRITES_TOKEN": "canary", "LANG": "C.UTF-8"}
    made = invocation.build_invocation("sail", {"plan": "/p", "repo": None}, caller, tmp_path, Path("/content"))
    assert made.playbook == Path("/content/playbooks/sail.yml")
    assert made.extravars == {"plan": "/p"}
    assert made.inventory == "localhost,"
    assert made.environment == {
        "ANSIBLE_CONFIG": "/content/ansible.cfg",
        "ANSIBLE_ROLES_PATH": "/mine:/content/roles",
        "ANSIBLE_INVENTORY_PLUGINS": "/content/inventory_plugins",
        "ANSIBLE_CONNECTION_PLUGINS": "/content/plugins/connection",
        "ANSIBLE_ACTION_PLUGINS": "/content/plugins/action",
        "ANSIBLE_LIBRARY": "/content/plugins/modules",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_FORKS": "25",
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{Path(sys.executable).parent}:/usr/bin",
        "PYTHONPATH": str(REPO),
        "OCAPTAIN_DOTENV_DIR": str(tmp_path),
    }
