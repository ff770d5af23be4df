"""Sprites as hosts of Ansible's inventory."""

from __future__ import annotations

import ast
import json

import pytest
import yaml

from ocaptain.ansible.hosts import FACTS, HostNames, build_host, is_selected
from ocaptain.ansible.labels import parse_selector
from ocaptain.errors import UsageError
from ocaptain.sprites import Sprite
from tests.helpers import REPO


def sprite(**fields):
    return Sprite.model_validate({"name": "voyage-0123456789ab-ship-2", "status": "running", **fields})


def test_a_ship_is_a_host_in_its_groups():
    host = build_host(sprite(labels=["ocaptain"], organization="o"), "drydock")
    assert host == {
        "name": "voyage-0123456789ab-ship-2",
        "groups": ["ocaptain", "status_running", "voyage_0123456789ab", "ship_2"],
        "vars": {
            "ansible_connection": "sprite",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ocaptain_provider": "drydock",
            "ocaptain_sprite": "voyage-0123456789ab-ship-2",
            "ocaptain_status": "running",
            "ocaptain_labels": ["ocaptain"],
            "ocaptain_organization": "o",
            "ocaptain_url": "",
            "ocaptain_created_at": "",
            "ocaptain_voyage": "voyage-0123456789ab",
            "ocaptain_ship": "ship-2",
        },
    }
    assert json.loads(json.dumps(host)) == host


def test_a_foreign_sprite_is_no_ship():
    for name in ("voyager-prod-db", "voyage-x", "voyage-0123456789ab-ship-2-copy"):
        host = build_host(sprite(name=name, status="odd state"), "sprites")
        assert host["groups"] == ["ocaptain", "status_odd_state"]
        assert "ocaptain_ship" not in host["vars"]
        assert not is_selected(sprite(name=name), labels=[], voyage="voyage-0123456789ab")
    assert is_selected(sprite(labels=["a", "b"]), labels=["a"], voyage="voyage-0123456789ab")
    assert not is_selected(sprite(labels=["a"]), labels=["a", "b"], voyage=None)
    assert is_selected(sprite(status="warm"), prefix="voyage-", status=["warm", "cold"])
    assert not is_selected(sprite(status="warm"), status=["running"])
    assert not is_selected(sprite(), prefix="lone-")


LABELS = ["env=prod", "zone=a", "zone=b", "mine", "note=x=y", "empty="]
SELECTED = {
    "": True,
    "  ": True,
    "mine": True,
    "env": True,
    "!other": True,
    "! mine": False,
    "other": False,
    "env=prod": True,
    "env == prod": True,
    "env=test": False,
    "env!=prod": False,
    "env!=test": True,
    "absent!=x": True,
    "zone=b": True,
    "zone!=b": False,
    "zone in (b,c)": True,
    "zone in ( c , a )": True,
    "zone in (c)": False,
    "zone notin (c, d)": True,
    "zone notin (b)": False,
    "absent notin (b)": True,
    "env=prod,tier!=db,zone in (a,c),!old": True,
    "env=prod,tier!=db,zone in (c,d),!old": False,
    "env=prod, mine": True,
    "note=x=y": True,
    "empty=": True,
    "mine=": True,  # a label without a value has the empty one
    "env=": False,
}


@pytest.mark.parametrize("selector", SELECTED)
def test_a_selector(selector):
    assert is_selected(sprite(labels=LABELS), selector=parse_selector(selector)) is SELECTED[selector]


@pytest.mark.parametrize(
    "selector",
    [
        "env=prod,", ",", "=prod", "env in", "env in ()", "env in (a", "env in (a,)", "in (a)", "env not in (a)", "!",
        "!env=prod", "a b", "a,b)", "zone in (a)b", "a=b c",
    ],
)  # fmt: skip
def test_a_selector_that_selects_nothing_is_refused(selector):
    with pytest.raises(UsageError, match=r"selects no labels: write key, !key, key=value"):
        parse_selector(selector)


def test_variables_are_called_as_the_user_says_but_for_what_connection_and_actions_read():
    host = build_host(sprite(labels=["a"]), "drydock", "sprite", "http://x", HostNames("my_", "_now", "fleet"))
    assert host == {
        "name": "voyage-0123456789ab-ship-2",
        "groups": ["fleet", "status_running", "voyage_0123456789ab", "ship_2"],
        "vars": {
            "ansible_connection": "sprite",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ocaptain_provider": "drydock",
            "ocaptain_sprite": "voyage-0123456789ab-ship-2",
            "ocaptain_api_url": "http://x",
            "my_status_now": "running",
            "my_labels_now": ["a"],
            "my_organization_now": "",
            "my_url_now": "",
            "my_created_at_now": "",
            "my_voyage_now": "voyage-0123456789ab",
            "my_ship_now": "ship-2",
        },
    }


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (HostNames(prefix="my-"), "'my-status' is no name of a variable"),
        (HostNames(prefix="9"), "no name of a variable"),
        (HostNames(suffix=" x"), "no name of a variable"),
        (HostNames(prefix="ansible_"), "ansible_status has a meaning already"),
        # A sprite's own URL would be taken for the API's, and be sent the token.
        (HostNames(prefix="ocaptain_api_"), "ocaptain_api_url has a meaning already"),
        (HostNames(group="my fleet"), "group: 'my fleet' cannot be one"),
        (HostNames(group="all"), "group: 'all' cannot be one"),
        (HostNames(group=""), "group: '' cannot be one"),
    ],
)
def test_names_that_cannot_be_are_refused(names, words):
    with pytest.raises(UsageError, match=words):
        names.check()


def test_names_that_can_be():
    for names in (HostNames(), HostNames("", "", "fleet"), HostNames("x_", "_1", "_")):
        names.check()


def test_every_variable_of_a_host_is_documented():
    tree = ast.parse((REPO / "inventory_plugins/sprites.py").read_text())
    texts = [
        one.value.value for one in tree.body if isinstance(one, ast.Assign) and one.targets[0].id == "DOCUMENTATION"
    ]
    said = " ".join(yaml.safe_load(texts[0])["notes"])
    names = build_host(sprite(), "sprites", "sprite", "http://x")["vars"].keys()
    assert {name for name in names if f"C({name})" not in said} == set()
    assert names >= {f"ocaptain_{fact}" for fact in FACTS}
