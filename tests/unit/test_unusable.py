"""What a drydock answers about sprites on its disk that it cannot serve."""

from __future__ import annotations

import asyncio
import json

import pytest

from ocaptain.drydock import store as module
from ocaptain.drydock.errors import ApiError
from ocaptain.drydock.record import CreateBody, SpriteRecord
from ocaptain.drydock.rootless import SandboxMode
from ocaptain.drydock.store import SpriteDefaults, Store
from ocaptain.drydock.unusable import why_unusable


@pytest.fixture
def of_other_base(tmp_path, monkeypatch):
    """A store whose drydock's ships stand on the machine's system; one on disk was made of a Debian of its own."""
    monkeypatch.setattr(module, "sandbox_mode", lambda: SandboxMode.HOST)
    folder = tmp_path / "sprites/0123"
    folder.mkdir(parents=True)
    record = SpriteRecord(
        body=CreateBody(name="other"), id="sprite-1", created_at="", updated_at="", mode=str(SandboxMode.MAPPED)
    )
    (folder / "sprite.json").write_text(json.dumps(record.model_dump(mode="json")))
    return Store(tmp_path / "sprites", tmp_path / "base", SpriteDefaults())


def answer(store, name):
    with pytest.raises(ApiError) as found:
        store.get(name)
    return found.value.status, found.value.message


def test_a_sprite_of_the_other_base_concerns_its_own_name_alone(of_other_base):
    asyncio.run(of_other_base.load_sprites_from_disk())
    status, told = answer(of_other_base, "other")
    assert (status, "the sprite other in " in told, "a Debian of their own" in told) == (423, True, True)
    assert answer(of_other_base, "unknown") == (404, "sprite not found: unknown")
    with pytest.raises(ApiError) as taken:
        asyncio.run(of_other_base.create(CreateBody(name="other")))
    assert (taken.value.status, "Debian" in taken.value.message) == (409, True)
    assert of_other_base.unusable  # so that an end of this drydock leaves the folders


def test_a_record_that_cannot_be_read_may_be_anybody_s(of_other_base, tmp_path):
    damaged = tmp_path / "sprites/4567"
    damaged.mkdir()
    (damaged / "sprite.json").write_text("{")
    asyncio.run(of_other_base.load_sprites_from_disk())
    assert answer(of_other_base, "unknown") == (
        423,
        f"the sprite in {damaged} has a record that cannot be read; repair or remove the folder",
    )
    assert "Debian" in answer(of_other_base, "other")[1]


def test_what_cannot_stand_on_what():
    assert why_unusable("host", "host") is None
    assert "this machine's programs under one id" in why_unusable("single", "mapped")
    assert "does not know" in why_unusable("of tomorrow", "host")
