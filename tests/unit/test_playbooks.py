"""Our plays under anybody's configuration: what they rely on is named, in each."""

from __future__ import annotations

import pytest
import yaml

from tests.configurations import FACTORS, pairs_of, pairwise
from tests.helpers import REPO

#: What a configuration, an environment or an option decides where a play does not.
NAMED = {
    "strategy",
    "gather_facts",
    "any_errors_fatal",
    "force_handlers",
    "debugger",
    "become",
    "become_user",
}
PLAYS = [
    (path.name, play)
    for path in sorted((REPO / "playbooks").glob("*.yml"))
    for play in yaml.safe_load(path.read_text())
    if "ansible.builtin.import_playbook" not in play
]


@pytest.mark.parametrize(("file", "play"), PLAYS, ids=[f"{file}: {play['name']}" for file, play in PLAYS])
def test_each_play_names_what_it_relies_on(file, play):
    assert set(play) >= NAMED, f"playbooks/{file} leaves to others: {', '.join(sorted(NAMED - set(play)))}"
    assert play["strategy"].startswith("ansible.builtin.")
    # Only one strategy lets add_host be (https://docs.ansible.com/projects/ansible/latest/collections/ansible/builtin/add_host_module.html).
    adds = "add_host" in yaml.safe_dump(play) or "tasks/hosts.yml" in yaml.safe_dump(play)
    assert not adds or play["strategy"] == "ansible.builtin.linear"


def test_the_table_of_configurations_has_every_pair():
    rows = pairwise(FACTORS)
    met = set().union(*map(pairs_of, rows))
    for name, levels in FACTORS.items():
        for other, others in FACTORS.items():
            if name < other:
                assert all({(name, one), (other, two)} in met for one in levels for two in others)
    assert rows == pairwise(FACTORS)
