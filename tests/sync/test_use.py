"""Whether mirrors are used here, as ``doctor`` says it; the program that is asked is a real one."""

from __future__ import annotations

import pytest

from ocaptain.sync import mutagen
from ocaptain.sync.use import ask_version, describe_use

BY_GIT = "files of ships come each 15 s by git"


@pytest.mark.parametrize(
    ("setting", "output", "said"),
    [
        ("auto", "0.18.1", "0.18.1: live files"),
        ("auto", None, f"is not installed: {BY_GIT}"),
        ("auto", "0.19.0", f"0.19.0 is not used, only 0.18 is: {BY_GIT}"),
        ("auto", "a\x1b[31m\nb", f"a\\x1b[31m b is not used, only 0.18 is: {BY_GIT}"),
        ("auto", "", f"this version is not used, only 0.18 is: {BY_GIT}"),
        ("off", "0.18.1", f"switched off by OCAPTAIN_MUTAGEN: {BY_GIT}"),
    ],
)
def test_what_brings_live_files(setting, output, said):
    assert describe_use(setting, output) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [("echo 0.18.1", "0.18.1"), ('echo "${SPRITES_TOKEN-none}$MUTAGEN_DISABLE_AUTOSTART"', "none1"), ("sleep 60", "")],
)
def test_the_program_is_asked_without_our_secrets_and_not_for_ever(tmp_path, monkeypatch, line, said):
    program = tmp_path / "mutagen"
    program.write_text(f"#!/bin/sh\ntest $1 = version && exec /bin/sh -c '{line}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SPRITES_TOKEN", "secret")
    monkeypatch.setattr(mutagen, "VERSION_SECONDS", 2.0)
    assert ask_version() == said


def test_where_there_is_none_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_version() is None
