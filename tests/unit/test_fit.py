"""Text of others takes the cells that it is given, as a real terminal counts them."""

from __future__ import annotations

import os
import re

import pytest

from ocaptain.cli.style import cells, fit, pad
from tests.terminal import Terminal, commands_in
from tests.texts import HOSTILE, OWNED, REORDER

WIDTH = 30
TEXTS = (*HOSTILE.values(), "Add OAuth2 login", "修复登录页面", "क्षि हिन्दी में विषय", "👍🏽" * 9, "❤️⚠️" * 9, "㊗️", "")


@pytest.mark.parametrize(("more", "wraps"), [("|", False), ("||", True)])
def test_a_terminal_agrees_on_the_width(tmp_path, more, wraps):
    """Each line has its border in the last column: one character more, and the terminal wraps it."""
    (tmp_path / "lines").write_text("".join(f"{pad(text, WIDTH)}{more}\n" for text in TEXTS))
    with Terminal(os.environ, tmp_path, WIDTH + 1, 60) as terminal:
        assert terminal.run("cat lines") == 0
        lines = terminal.said().split("\n")
        assert len(lines) == len(TEXTS) * (1 + wraps)
        assert len(terminal.wrapped()) == len(TEXTS) * wraps
        assert all(line.endswith("|") for line in lines)
        assert commands_in(terminal.sent()) == []


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_cut_ends_with_a_sign_and_takes_no_more_than_its_room(text):
    for width in (0, 1, 2, 7, 30, 200):
        line = fit(text, width)
        assert cells(line) <= width
        assert cells(pad(text, width)) == width
        assert line == fit(text, 100_000) or line.endswith("…"[:width])
        assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
        assert not any(one in line.encode() for one in (*OWNED, *REORDER))
