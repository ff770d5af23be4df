"""How everything looks: text that fits, records for pipes, symbols, times."""

from __future__ import annotations

import ast
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from ocaptain.cli import style
from ocaptain.cli.style import (
    cells,
    fit,
    format_clock,
    format_money,
    format_seconds,
    format_time,
    pad,
    symbol,
    tsv_line,
    with_symbol,
)

FAMILY = "👨‍👩‍👧‍👦"
#: Text as it may come: wide, combining, joined, reordering, escapes, bytes that were no UTF-8.
HOSTILE = (
    "修复登录页面",
    "デ\u3099ータ",
    "e\u0301" * 30,
    FAMILY * 5,
    "👍🏽 ❤️ 🇩🇪🇫🇷 1️⃣",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "\x9b31m",
    "a\u202eb\u2066c",
    "soft\u00adhyphen\u00ad" * 9,
    b"caf\xe9 \xff\xfe".decode(errors="surrogateescape"),
    "\u200b\u200d\u2060",
    "line\r\nbreaks\x0b\x0c\x85\u2028here",
    "\t",
    "\uff46\uff55\uff4c\uff4c\u3000 \uff57\uff49\uff44\uff45",
    "한국어 각 \u1100\u1161",
    "สวัสดี नमस्ते مرحبا",
    "x" * 500,
    "\U000e0041\ufe0f\u034f",
)
TEXTS = st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(HOSTILE), max_size=3).map("".join)


def naive(text):
    """Return the cells of a text that has nothing in it that joins: each character for itself."""
    return sum(cell_len(character) for character in text)


# -- cells ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(TEXTS, st.integers(-3, 90))
@example("修", 1)
@example("a修", 2)
@example("\u0301a", 1)
def test_text_fits_exactly(text, width):
    line = fit(text, width)
    assert cell_len(line) <= max(0, width)
    assert cells(pad(text, width)) == max(0, width)
    assert max(naive(line), cell_len(line)) <= cells(line), "some terminal takes more room for it"
    assert not set(line) & set("\x1b\x9b\x07\r\n\t\u202e\u200d\ufe0f")
    line.encode()


@settings(deadline=None)
@given(TEXTS, st.integers(1, 90))
def test_what_is_cut_says_so_and_nothing_else_is_cut(text, width):
    whole, line = fit(text, 10_000), fit(text, width)
    if cells(whole) <= width:
        assert line == whole
    else:
        assert line.endswith("…")
        assert whole.startswith(line[:-1])
    if cells(whole) > width and cells(whole) == cell_len(whole):  # all terminals agree on it
        rest = whole[len(line) - 1 :]
        spaces = len(rest) - len(rest.lstrip())
        following = next(character for character in rest.lstrip() if cell_len(character))
        assert cell_len(line) + spaces + cell_len(following) > width
    assert fit(line, width) == line


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("Add OAuth2 login", 20, "Add OAuth2 login"),
        ("Add OAuth2 login", 10, "Add OAuth…"),
        ("Add OAuth2 login", 5, "Add…"),  # no space before the sign
        ("修复登录页面", 12, "修复登录页面"),
        ("修复登录页面", 11, "修复登录页…"),
        ("修复登录页面", 10, "修复登录…"),  # 9 cells: half a character is none
        ("修复", 1, "…"),
        ("修复", 0, ""),
        ("修复", -1, ""),
        (f"{FAMILY}!", 9, "👨👩👧👦!"),
        ("👍🏽 ❤️", 4, "👍 ❤"),
        ("a\u200bb", 2, "ab"),
        ("co\u00adoperate", 9, "cooperate"),
        ("\x1b[31mred", 20, r"\x1b[31mred"),
        ("one\ntwo\tthree", 20, "one two three"),
        ("cafe\u0301", 4, "cafe\u0301"),
        ("cafe\u0301s", 4, "caf…"),
        ("caf\udce9", 4, "caf…"),
    ],
)
def test_fit(text, width, expected):
    assert fit(text, width) == expected


# -- records ---------------------------------------------------------------------------------------


def parse(line):
    """Return the fields of a record as a reader would: each is a string of Python without its quotes."""
    return [ast.literal_eval('"{}"'.format(field.replace('"', r"\""))) for field in line.split("\t")]


@settings(deadline=None)
@given(st.lists(st.text(st.characters()) | st.sampled_from(HOSTILE), min_size=1, max_size=5))
@example(["\\t", "\t", "\\\\n\\", '"', "\\u001b"])
def test_a_record_is_one_line_and_gives_its_fields_back(fields):
    line = tsv_line(*fields)
    assert parse(line) == fields
    assert line.count("\t") == len(fields) - 1
    assert len(line.splitlines() or [""]) == 1
    assert not set(line) & {chr(code) for code in (*range(9), *range(10, 32), *range(127, 160), 0x202E, 0x2066)}
    line.encode()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((), ""),
        ((None,), ""),
        (("a", None, 3, 1.5, ""), "a\t\t3\t1.5\t"),
        (("a\tb\nc\r\\d",), r"a\tb\nc\r\\d"),
        (("修复 é",), "修复 é"),
        (("\x1b[1m\u202e",), r"\x1b[1m\u202e"),
        ((True,), "True"),
    ],
)
def test_records(fields, expected):
    assert tsv_line(*fields) == expected


# -- times, money, symbols -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "clock", "words"),
    [
        (0, "0:00", "0 s"),
        (-5, "0:00", "0 s"),
        (4.4, "0:04", "4 s"),
        (59.9, "0:59", "60 s"),
        (99.4, "1:39", "99 s"),
        (252, "4:12", "4 min"),
        (3599, "59:59", "1 h"),
        (3600, "1:00:00", "1 h"),
        (7500, "2:05:00", "2 h 5 min"),
        (90_000, "25:00:00", "25 h"),
    ],
)
def test_spans(seconds, clock, words):
    assert (format_clock(seconds), format_seconds(seconds)) == (clock, words)


def test_no_span():
    assert [format_clock(one) for one in (None, math.inf, -math.inf, math.nan)] == [""] * 4


def test_times_of_day(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    style.time.tzset()
    noon = 1_700_000_000.0  # 2023-11-14 22:13:20
    assert format_time(noon) == "22:13:20"
    assert format_time(noon, now=noon + 60) == "22:13:20"
    assert format_time(noon, now=noon + 86_400) == "2023-11-14 22:13:20"
    assert [format_time(one) for one in (1e300, math.inf, math.nan)] == ["?"] * 3


def test_money():
    assert (format_money(1_840_000_000), format_money(0, unknown=True)) == ("$1.84", "$0.00+")


def test_red_is_for_failures_alone():
    red = {state for state in style.STATE_SYMBOLS if symbol(state).style == style.BAD}
    assert red == {"failed", "lost", "unreadable"}
    assert style.STATE_SYMBOLS["sunk"] == symbol("what nobody knows").plain == "○"


def test_a_state_with_its_symbol():
    assert (with_symbol("running").plain, with_symbol("a\x1b[1m").plain) == ("● running", r"○ a\x1b[1m")
