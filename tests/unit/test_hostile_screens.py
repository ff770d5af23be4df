"""Every screen of a voyage whose texts mean no good, on a real terminal: it keeps its shape, and obeys none of them."""

from __future__ import annotations

import pytest

from tests.helpers import Sailor, wait_for
from tests.scenes import VOYAGE, Scene, make_scene
from tests.terminal import Terminal, commands_in
from tests.texts import HOSTILE, OWNED, REORDER

SIZES = [(80, 24), (200, 50)]
TEXTS = tuple(HOSTILE.values())
SCENE = Scene(
    subjects=TEXTS,
    logs=tuple(text.replace("\n", "\r") for text in (*TEXTS, "broken \udcff\udcfe\udcc3( end")),
    failed={"7": HOSTILE["escapes"], "8": HOSTILE["wide"]},
    retrying={"43": HOSTILE["joined"]},
    lost={"ship-4": HOSTILE["strings"]},
    name=HOSTILE["bidi"],
)
#: What is typed, its exit code, and a word that must be there.
LINES = [
    ("status", 0, "ship-4"),
    ("tasks", 0, "escapes"),
    ("tasks --all", 0, "markup"),
    ("ls", 0, VOYAGE[:9]),
    ("cost", 0, ""),
    ("why 7", 0, "escapes"),
    ("events", 0, "escapes"),
    ("logs -n 200", 0, "broken"),
    ("shell", 2, "ship-0"),
    ("why nonsense-\u202e-\u009b31m-界", 2, "nonsense"),
]
#: Keys of the full screen, and what each must bring; after Escape a terminal waits for what may follow.
BACK = ("Escape", r"ships \d/\d up")
KEYS = [
    ("Down", "ship-1"),
    ("Tab", "▸ *tasks"),
    ("w", "why #"),
    BACK,
    ("l", "log of #"),
    BACK,
    ("c", "machines:"),
    BACK,
]
#: Show all that was said: the terminal may wrap it.
IN_FULL = ("logs", "events")


@pytest.fixture(scope="module")
def sailor(tmp_path_factory):
    """A home with one voyage, which nobody sails."""
    found = Sailor(tmp_path_factory.mktemp("home"))
    make_scene(found.home, SCENE)
    return found


def obeys_nothing(terminal):
    sent = terminal.sent()
    assert [one for one in (*OWNED, *REORDER) if one in sent] == []


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_what_is_printed(sailor, size):
    with Terminal(sailor.env, sailor.home, *size) as terminal:
        terminal.run("bind 'set enable-bracketed-paste off'")
        for line, code, word in LINES:
            (sailor.home / "line").write_text(f"ocaptain {line}\n")
            assert terminal.run("source line") == code, (line, terminal.screen())
            assert word in terminal.said(), line
            assert "Traceback" not in terminal.said(), line
            assert line.split()[0] in IN_FULL or terminal.wrapped() == [], line
        assert commands_in(terminal.sent()) == []
        obeys_nothing(terminal)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_what_is_live(sailor, size):
    with Terminal(sailor.env, sailor.home, *size) as terminal:
        terminal.start("ocaptain watch")
        terminal.until(r"ship-0\b")
        terminal.until("escapes|strings|joined|markup")
        terminal.has_borders()
        for key, shown in KEYS:
            terminal.press(key)
            terminal.until(shown)
            terminal.has_borders()
            wait_for(lambda: terminal.wrapped() == [])
        terminal.press("q")
        assert terminal.ended() == 0
        obeys_nothing(terminal)
        assert "Traceback" not in terminal.whole()
