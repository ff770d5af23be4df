"""Settings: where they come from, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocaptain.config import load_settings
from ocaptain.errors import UsageError


def test_environment_over_here_over_home(monkeypatch, tmp_path):
    config = Path("~/.config/ocaptain").expanduser()
    config.mkdir(parents=True)
    (config / ".env").write_text("OCAPTAIN_DEFAULT_SHIPS=1\nSPRITES_TOKEN=home\nGH_TOKEN=home\n")
    (tmp_path / ".env").write_text("SPRITES_TOKEN=here\nOCAPTAIN_DEFAULT_SHIPS=2\n")
    monkeypatch.chdir(tmp_path)
    found = load_settings()
    assert (found.default_ships, found.sprites_token.get_secret_value()) == (2, "here")
    assert found.gh_token.get_secret_value() == "home"
    monkeypatch.setenv("SPRITE_TOKEN", "environment")
    monkeypatch.setenv("OCAPTAIN_DEFAULT_SHIPS", "7")
    assert load_settings().default_ships == 7
    assert load_settings().sprites_token.get_secret_value() == "environment"
    monkeypatch.setenv("SPRITES_TOKEN", "first")
    assert load_settings().sprites_token.get_secret_value() == "first"
    assert "first" not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value"),
    [("OCAPTAIN_DEFAULT_SHIPS", "many"), ("OCAPTAIN_DEFAULT_SHIPS", "0"), ("OCAPTAIN_PROVIDER", "aws")],
)
def test_a_wrong_value_names_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        load_settings()


def test_a_wrong_secret_is_never_shown(monkeypatch, tmp_path):
    (tmp_path / ".env").write_bytes(b"SPRITES_TOKEN=canary\xff\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        load_settings()
    assert "canary" not in str(refused.value)
