"""Roles in the manner of the published ones, with services: twice on a ship. Packages are fetched: `make outside`.

They are written as for any Debian host: `service`, `become_user` without pipelining (which needs ACLs),
`cache_valid_time`, `cron`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.voyage.test_ansible import play

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif("OCAPTAIN_OUTSIDE" not in os.environ, reason="installs packages (make outside)"),
    pytest.mark.timeout(3600),
]
SYS_PTRACE = 1 << 19
ROLES = Path(__file__).parent / "roles"
OWNER = "SELECT datname || ' of ' || rolname FROM pg_database JOIN pg_roles r ON r.oid = datdba"
ASKED = {
    "redis": "redis-cli set light on; redis-cli get light",
    "nginx": """python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8088/").read().decode())'""",
    "postgresql": f'sudo -u postgres psql -tAc "{OWNER}"; sudo crontab -u postgres -l; pgrep -x cron && echo cron runs',
}
SAID = {
    "redis": ["OK", "on"],
    "nginx": ["Served by nginx"],
    "postgresql": ["lighthouse of keeper", "vacuumdb", "cron runs"],
}


@pytest.fixture(scope="module")
def ship(fleet):
    play(fleet, "- sprite: {names: [roles]}")
    yield "roles"
    play(fleet, "- sprite: {names: [roles], state: absent}")


def changed(said: str) -> int:
    found = re.search(r"changed=(\d+)", said.rpartition("PLAY RECAP")[2])
    assert found, said
    return int(found[1])


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("role", sorted(ASKED))
def test_a_published_role_runs_twice_and_changes_nothing_the_second_time(fleet, ship, role, pipelining):
    bounds = fleet.inside(ship, "grep CapBnd /proc/self/status").split()[1]
    if role == "redis" and not int(bounds, 16) & SYS_PTRACE:
        pytest.skip("its init script finds it by its program, which needs sys_ptrace here")
    tasks = f"- include_role: {{name: {ROLES / role}, apply: {{become: true}}}}"
    first = play(fleet, tasks, hosts=ship, ansible_pipelining=pipelining)
    again = play(fleet, tasks, hosts=ship, ansible_pipelining=pipelining)
    assert changed(again) == 0, again
    assert changed(first) > 0 or not pipelining
    said = fleet.inside(ship, ASKED[role])
    assert [word for word in SAID[role] if word not in said] == []
