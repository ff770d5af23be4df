"""The picture in README."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers import REPO


def test_the_picture_is_what_the_code_draws():
    drawn = subprocess.run(
        [sys.executable, REPO / "scripts/picture"], capture_output=True, text=True, check=True, timeout=240
    )
    kept = (REPO / "docs/sail.svg").read_text("utf-8")
    assert drawn.stdout == kept, "make it anew: .venv/bin/python scripts/picture > docs/sail.svg"
    assert "font-face" not in kept
