"""When the service of a sprite is put again."""

from __future__ import annotations

import pytest

from ocaptain.voyage.sprites import ServiceSpec, service_differs


@pytest.mark.parametrize(
    ("found", "differs"),
    [
        (None, True),
        ({"cmd": "a", "args": ["b"], "dir": "/", "state": {"status": "running"}}, False),
        ({"cmd": "a", "args": ["b"], "dir": "/", "state": {"status": "failed"}}, True),
        ({"cmd": "a", "args": [], "dir": "/", "state": {"status": "running"}}, True),
        ({"cmd": "a", "args": ["b"], "dir": "/"}, True),
    ],
)
def test_when_a_service_is_put_again(found, differs):
    assert service_differs(found, ServiceSpec("s", "a", ("b",), "/")) is differs
