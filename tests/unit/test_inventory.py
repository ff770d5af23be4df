"""Sprites as hosts of Ansible's inventory."""

from __future__ import annotations

import json

from ocaptain.ansible.hosts import build_host, is_selected
from ocaptain.sprites import Sprite


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
