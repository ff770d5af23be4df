"""Our plays under anybody's configuration: what they rely on is named, in each."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml

from ocaptain.ansible.selection import check_selection
from ocaptain.errors import UsageError
from tests.configurations import FACTORS, link_collection, pairs_of, pairwise
from tests.helpers import CLEARED, PLAYBOOK, REPO

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


SELECTIONS = [
    (["all"], [], None, ""),
    (["all"], ["slow", "their-tools"], None, ""),
    (["all"], [], "ship_0", "--limit ship_0: "),
    (["tmux_agent_files"], [], None, "--tags tmux_agent_files: "),
    (["b", "a", "all"], [], None, "--tags a,b: "),
    (["all"], ["slow", "claude_install"], None, "--skip-tags claude_install: "),
    (["all"], ["untagged"], None, "--skip-tags untagged: "),
]


@pytest.mark.parametrize(("run", "skip", "limit", "refusal"), SELECTIONS)
def test_a_part_of_a_voyage_is_refused(run, skip, limit, refusal):
    if not refusal:
        check_selection(run, skip, limit)
        return
    with pytest.raises(UsageError) as refused:
        check_selection(run, skip, limit)
    assert str(refused.value).startswith(refusal)


@pytest.mark.parametrize(("playbook", "option"), [("sail", "--limit=one"), ("sink", "--tags=tmux_agent_files")])
def test_the_playbooks_say_what_to_give_instead(tmp_path, playbook, option):
    """Without our word Ansible would skip all plays, or all tasks, and call that a success."""
    (tmp_path / "hosts.yml").write_text("all: {hosts: {one: , two: }}\n")
    (tmp_path / "empty.cfg").touch()
    env = {"ANSIBLE_CONFIG": str(tmp_path / "empty.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(link_collection(tmp_path))}
    done = subprocess.run(
        [PLAYBOOK, "-i", tmp_path / "hosts.yml", f"ocaptain.fleet.{playbook}", option],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", *CLEARED))},
            **env,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{option.replace('=', ' ')}: a " in done.stdout, done.stdout
