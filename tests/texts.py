"""Texts of others that would spoil a screen: in subjects, logs, titles of windows and names of branches."""

from __future__ import annotations

#: By what they try. Each begins with a word that a screen shows, so that a test finds its line.
HOSTILE = {
    "escapes": "escapes \x1b[31mred\x1b[0m\x1b[2J\x1b[H \x1b[?1049h \x1bc end",
    "strings": "strings \x1b]0;owned\x07 \x1b]52;c;b3duZWQ=\x07 \x1bP+q544e\x1b\\ \x1b_owned\x1b\\ \x1bkowned\x1b\\ ",
    "8 bits": "eight \x9b31m \x9d0;owned\x9c \x90q\x9c \x85next \u2028line\u2029 end",
    "bidi": "bidi \u202eesrever\u202c \u2066isolated\u2069 \u200fmark\u200e \u061c end",
    "wide": "wide " + "界面" * 150,
    "joined": "joined 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇨🇭 ❤️ 1️⃣ \u3164 \ufeff e\u0301\u0300 क्षि தமிழ் end",
    "long": "long " + "x" * 900,
    "stacked": "stacked " + "z\u0301\u0323\u0316" * 20 + "\u0301" * 300,
    "control": "control\ttab\r\nline\x0b\x0c\x08\x08\x08\x7f\x00 end",
    "markup": "markup [red]red[/red] [/] [link=file:///x]y[/link] {{ 1 + 1 }} %s $(id) `id` end",
}
#: What no terminal may be sent of these.
OWNED = (b"\x1b]0;owned", b"\x1b]52;", b"\x1bP+q", b"\x1b_owned", b"\x1bkowned", b"\x1bc", b"\x1b[2J\x1b[H \x1b[?1049h")
#: Those that reorder what is shown (Unicode 16, annex 9), in UTF-8.
REORDER = tuple(chr(one).encode() for one in (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
#: Lines of a log, bytes that are no UTF-8 among them.
HOSTILE_LOG = b"".join(text.encode().replace(b"\n", b"\r") + b"\n" for text in HOSTILE.values()) + (
    b"broken \xff\xfe\xc3( \xe2\x82 \xf0\x9f \xc0\xaf \xed\xa0\x80 end\n"
)
#: Names of a branch that git takes.
HOSTILE_BRANCH = "分支-\u202ehcnarb\u202c-🚀-" + "n" * 60
