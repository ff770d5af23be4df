"""What of a ship's terminal output reaches the user's terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ocaptain.escapes import EscapeFilter


def filtered(data, **more):
    return EscapeFilter(**more).feed(data)


@pytest.mark.parametrize(
    "drawn",
    [
        b"plain text\r\n\ttab \x08 bell \x07",
        "Réécrire 修复 🎉 é".encode(),
        b"\x1b[31mred\x1b[0m \x1b[38;5;9m \x1b[38:2::1:2:3m \x1b[4:3m",
        b"\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[1;24r\x1b[3L\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1000;1006h",
        b"\x1b[?12;25h\x1b[34h\x1b[4l\x1b[?1l\x1b[?7h\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1004h\x1b[?69h",
        b"\x1b7\x1b8\x1b(B\x1b)0\x1b=\x1b>\x1bM\x1bc\x1b[!p\x1b[2 q\x1b[c\x1b[>c\x1b[6n\x1b[>q\x1b[?2026$p\x1b[>1u",
    ],
)
def test_what_draws_passes_unchanged(drawn):
    assert filtered(drawn) == drawn


HOSTILE = {
    "title": b"\x1b]0;owned\x07",
    "icon": b"\x1b]1;owned\x1b\\",
    "window": b"\x1b]2;owned\x1b\\",
    "clipboard": b"\x1b]52;c;cm0gLXJm\x07",
    "read the clipboard": b"\x1b]52;c;?\x1b\\",
    "directory": b"\x1b]7;file://host/x\x07",
    "notification": b"\x1b]9;hello\x07\x1b]777;notify;a;b\x07",
    "iterm": b"\x1b]1337;File=name=eA==;inline=1:eA==\x07",
    "palette": b"\x1b]4;1;rgb:00/00/00\x1b\\\x1b]10;#000000\x07",
    "DCS": b"\x1bP$q q\x1b\\",
    "tmux passthrough": b"\x1bPtmux;\x1b\x1b]52;c;cm0=\x07\x1b\\",
    "sixel": b'\x1bPq"1;1;9;9#0~~\x1b\\',
    "APC": b"\x1b_Ga=T;eA==\x1b\\",
    "PM": b"\x1b^x\x1b\\",
    "SOS": b"\x1bXx\x1b\\",
    "title of screen": b"\x1bkowned\x1b\\",
    "C1 in UTF-8": "\x9d0;owned\x07\x90q\x1b\\".encode(),
    "C1": b"\x9d0;owned\x07\x9b21t",
    "report the title": b"\x1b[21t",
    "stack of titles": b"\x1b[22;0t\x1b[23t",
    "resize": b"\x1b[8;1;1t",
    "resize by modes": b"\x1b[?40h\x1b[?3h\x1b[?95l\x1b[?25;3h\x1b[?3r",
    "lock the keyboard": b"\x1b[2h\x1b[4;2h",
    "log to a file": b"\x1b[?46h",
    "raise the window": b"\x1b[?1043h\x1b[?1042h",
    "printer": b"\x1b[5i\x1b[?5i",
    "leave UTF-8": b"\x1b%@",
    "8-bit answers": b"\x1b G",
    "answer back": b"\x05",
    "checksum of the screen": b"\x1b[1;1;1;1;1;1*y",
    "conformance": b'\x1b[61"p',
}


@pytest.mark.parametrize("sequence", HOSTILE.values(), ids=HOSTILE)
def test_what_acts_on_the_terminal_is_dropped(sequence):
    assert filtered(b"a" + sequence + b"b") == b"ab"
    alone = EscapeFilter()
    assert b"".join(alone.feed(bytes([byte])) for byte in b"a" + sequence + b"b") == b"ab"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\x1b\x1b]0;x\x07y", b"y"),
        (b"\x1b[\x1b]0;x\x07y", b"y"),
        (b"\x1b]0;a\x1b[31mred", b"\x1b[31mred"),  # a sequence ends the string, as on a terminal
        (b"\x1b]0;a\x18b", b"b"),
        (b"\x1b[3\n1m", b"\n1m"),
        (b"\x1b[" + b"1;" * 300 + b"mx", b"1;" * 171 + b"1;mx"),
        ("\x1b[3é".encode(), "é".encode()),
        (b"\xc3\x1b[m\xc3(\xed\xa0\x80\xff", b"?\x1b[m?(??"),
    ],
)
def test_what_is_broken_off_does_no_harm(data, shown):
    found = filtered(data)
    assert found == shown or (len(data) > 300 and re.fullmatch(rb"(?:1?;)?(?:1;)*mx", found))


def test_a_byte_of_a_character_is_no_control_character_of_another_encoding():
    assert filtered("Ý\x9d0;x\x07".encode(), is_utf8=True) == "Ý".encode()
    assert filtered("Ý0;x\x07é".encode(), is_utf8=False) == b"\xc3\xc3\xa9"  # C3 9D would begin an OSC there
    assert filtered(b"\x9d0;x\x9cy\xe9", is_utf8=False) == b"y\xe9"


#: What sequences begin with, go on with and end with.
PARTS = [
    *(
        b"\x1b",
        b"]",
        b"P",
        b"k",
        b"_",
        b"[",
        b"0;",
        b"52;c;",
        b"21t",
        b"31m",
        b"?",
        b"\x07",
        b"\\",
        b"\x18",
        b"%",
        b"(",
    ),
    *(
        b"\x9d",
        b"\x9b",
        b"\x90",
        b"\x9c",
        b"\xc2",
        b"\xc3",
        b"\xe4\xbf",
        b"\xae",
        "é🎉".encode(),
        b"text",
        b"\n",
        b"\x05",
    ),
]
PIECES = st.lists(st.sampled_from(PARTS) | st.binary(max_size=3), max_size=40)
#: What a terminal may get, said again in another way: none of it begins a string or a C1 control character.
HARMLESS = re.compile(
    "(?:[\x07-\x0f\x20-\x7e\xa0-\U0010ffff]|\x1b[78=>DEHMNOc]|\x1b[()*+#][0-~]|\x1b\\[[0-?]*[ !$]?[@-hl-su`])*"
)


@given(PIECES, st.data())
@example([b"\x1b]0;", b"x\x07"], None)
def test_however_it_is_cut_the_same_passes_and_no_harm(pieces, data):
    whole = b"".join(pieces)
    shown = filtered(whole)
    assert HARMLESS.fullmatch(shown.decode()), shown
    assert not re.search(rb"\x1b\[[0-?]*[ -/]*[tiy]|\x1b[\]PX^_k%]", shown)
    if data is not None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
        pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    alone = EscapeFilter()
    assert b"".join(map(alone.feed, pieces)) == shown


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_text_passes(text):
    assert filtered(text.encode()) == text.encode()


@given(st.binary())
def test_where_the_terminal_is_not_of_utf_8_no_c1_passes(data):
    assert not re.search(rb"[\x80-\x9f\x05]|\x1b[\]PX^_k%]", filtered(data, is_utf8=False))
