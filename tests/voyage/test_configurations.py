"""Sail, sail again, sink: under configurations of Ansible that are others', and of which nothing is ours.

The whole table, in which each line meets each, is in :mod:`tests.outside.test_configurations`.
"""

from __future__ import annotations

import json

import pytest

from tests.configurations import Stranger, sail_and_sink
from tests.helpers import run_task

pytestmark = pytest.mark.root

#: What each of these did when nothing of ours named what it relies on.
RED = {
    # add_host is refused, with the sprites made.
    "free": {"strategy": "free", "callback": "minimal", "transfer": "diff", "become": "option"},
    # No play begins at all; and a fact that a play relies on is no variable.
    "not installed": {
        "strategy": "not installed",
        "gathering": "smart",
        "variables": "not injected",
        "vault": "encrypted",
    },
}
#: A debugger asked whoever was there, and roles became nobody where they were to become root.
FATAL = {"strategy": "debug", "errors": "fatal", "become": "lines", "facts": "jsonfile"}
ROLE = """
- name: Look who becomes root
  ansible.builtin.command: id -un
  become: true
  register: who
  changed_when: false
  failed_when: who.stdout != "root"

- name: Install the linter
  ansible.builtin.shell: printf 'reading\\n'; printf 'gamma\\r\\nno such option - --frob\\r\\n' >&2; exit 3
  when: ocaptain_ship == 'ship-1'
"""
REASON = "role their-tools, task Install the linter: rc 3: gamma / no such option - --frob / reading"


@pytest.mark.parametrize("row", RED.values(), ids=RED)
def test_a_voyage_under_somebody_elses_configuration(sailor, plan, tmp_path, row):
    sail_and_sink(sailor, plan, tmp_path, row)


def test_why_a_ship_failed_is_in_the_record(sailor, plan, tmp_path):
    """Ship, role, task and what the program said: in the play's last lines, in status, in the ledger, in left_out."""
    (tmp_path / "roles/their-tools/tasks").mkdir(parents=True)
    (tmp_path / "roles/their-tools/tasks/main.yml").write_text(f"---{ROLE}")
    stranger = Stranger(sailor, tmp_path, FATAL)
    stranger.env["ANSIBLE_ROLES_PATH"] = str(tmp_path / "roles")
    more = json.dumps({"ships": 2, "wait": True, "ocaptain_post_roles": ["their-tools"]})
    done = stranger.run("ocaptain.fleet.sail", "-e", f"plan={plan([run_task('echo 1 > a')])}", "-e", more)
    assert done.code == 2, done
    seen = sailor.json("status", "--json")
    voyage = seen["voyage"]
    assert {ship["id"]: ship["reason"] for ship in seen["ships"]} == {"ship-0": None, "ship-1": REASON}
    assert sailor.landed(voyage) == ["1"]
    # What this run made and could not build is no more.
    assert [name for name in sailor.names() if name.startswith(voyage)] == [f"{voyage}-ship-0"]
    assert REASON in " ".join(sailor.run("status", voyage).out.split())
    said = done.out[done.out.index("Say what sails") :]
    assert f'"ship-1": "{REASON}"' in said, said
    assert f'"msg": "{REASON}"' in done.out.replace("\\r", ""), done.out
    assert stranger.run("ocaptain.fleet.sink", "-e", f"voyage={voyage}").code == 0
