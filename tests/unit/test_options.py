"""The options of a voyage are said once: what offers them elsewhere says the same."""

from __future__ import annotations

import ast

import pytest
import yaml

from ocaptain.options import SailOptions, argument_spec, documentation, sail_options
from tests.helpers import REPO


def test_the_modules_documentation_is_what_scripts_document_writes():
    tree = ast.parse((REPO / "plugins/modules/voyage.py").read_text())
    (text,) = (
        one.value.value for one in tree.body if isinstance(one, ast.Assign) and one.targets[0].id == "DOCUMENTATION"
    )
    documented = yaml.safe_load(text)["options"]
    assert {name: documented.get(name) for name in documentation()} == documentation()


def test_the_playbook_passes_every_option():
    (play,) = yaml.safe_load((REPO / "playbooks/provision.yml").read_text())
    (task,) = (one["voyage"] for one in play["tasks"] if "voyage" in one)
    assert {one.name for one in sail_options()} <= set(task)


def test_every_option_has_an_argument_of_its_type():
    assert {one.name: one.kind.__name__ for one in sail_options()} == {
        name: spec["type"] for name, spec in argument_spec().items()
    }


@pytest.mark.parametrize(
    ("given", "chosen", "refused"),
    [
        ({}, {}, []),
        ({"ships": None, "replace": False, "plan": "x"}, {}, []),
        ({"ships": 2, "replace": True}, {"ships": 2, "replace": True}, ["--ships"]),
        ({"agent_cmd": "x", "allow_partial": True}, {"agent_cmd": "x", "allow_partial": True}, ["--agent-cmd"]),
    ],
)
def test_what_was_chosen(given, chosen, refused):
    found = SailOptions.from_mapping(given)
    assert found.non_default() == chosen
    assert found.flags_refused_on_resume() == refused
