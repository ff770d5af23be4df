"""Let through of a program's terminal output what draws, and nothing that acts on more than the screen.

A ship is not trusted: by escape sequences it could name the user's window, write their clipboard, have the
terminal report text as if it had been typed, print, resize. What passes is a list: text, the control characters
of a line, the sequences that :data:`_CSI` and :data:`_ESCAPES` name. Everything that carries a string (OSC,
DCS, SOS, PM, APC, a title of screen's) is dropped whole.

Source: ECMA-48 5th edition, 5.4 and 8.3; "XTerm Control Sequences" (ctlseqs) for what goes beyond it.
"""

from __future__ import annotations

import re
from enum import Enum, auto

#: Bytes that are copied as they are: text and what moves the cursor within a line or rings the bell.
_PLAIN = re.compile(rb"[\x07-\x0f\x20-\x7e]+")
#: The same with whole characters of UTF-8 (RFC 3629, 4), but for control characters.
_PLAIN_UTF8 = re.compile(
    rb"(?:[\x07-\x0f\x20-\x7e]|\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+"
)
_ESC, _CANCEL = 0x1B, frozenset(b"\x18\x1a")
#: Second bytes of sequences that carry a string: DCS, SOS, OSC, PM, APC, and the title of screen and tmux.
_STRINGS = frozenset(b"PX]^_k")
#: Final bytes of short sequences: save and restore the cursor, keypad, line feeds, tab stop, reset, shifts.
_ESCAPES = frozenset(b"78=>DEHMNOc")
#: Intermediate bytes that choose a character set or draw a line larger; `%` would leave UTF-8.
_INTERMEDIATES = frozenset(b"()*+#")
#: Private modes (DEC's and xterm's) of what is drawn, of the cursor, and of what keys and mouse send. Not 3, 40 and 95
#: (resize), 18 and 19 (printer), 46 (log to a file), 1042 and 1043 (the window asks for attention, or is raised).
_MODE = rb"(?:[14-9]|12|25|45|47|66|69|100[0-7]|1015|1016|1034|1045|104[789]|2004|2026|2027|2031)"
#: Other modes: insert, line feeds, cursor (tmux's own). Not 2, which locks the keyboard.
_ANSI_MODE = rb"(?:4|20|34)"
#: Of the control sequences: cursor, erase, insert, delete, scroll, colours, modes, tab stops, and the questions
#: to which programs need an answer (DA, DSR, kitty's keyboard). Not `t` (windows, titles), `i` (printer), …
_CSI = re.compile(
    rb"\x1b\[(?:[0-9:;]*[@A-HJKLMPSTXZ`abdefgrsu]|[0-9;]*I|[?>=<]?[0-9:;]*[cgmnu]|\?[0-9;]*[JK]|>[0-9]*q"
    rb"|[0-9;]* q|!p|\??[0-9;]*\$p|\?%(mode)b(?:;%(mode)b)*[hlrs]|%(ansi)b(?:;%(ansi)b)*[hl])"
    % {b"mode": _MODE, b"ansi": _ANSI_MODE}
)
_MAX_SEQUENCE = 256


class _State(Enum):
    GROUND = auto()
    CHARACTER = auto()  # inside of a character of several bytes
    ESCAPE = auto()
    CHARSET = auto()  # behind an intermediate byte
    CSI = auto()
    STRING = auto()


class EscapeFilter:
    """Filters a stream of bytes, however it is cut into pieces.

    Args:
        is_utf8: whether the terminal takes its input for UTF-8. Where it does not, a byte of a character
            could be a control character (0x9d: OSC).
    """

    def __init__(self, *, is_utf8: bool = True) -> None:
        self._is_utf8 = is_utf8
        self._plain = _PLAIN_UTF8 if is_utf8 else _PLAIN
        self._state = _State.GROUND
        self._held = bytearray()  # the beginning of a sequence or character
        self._missing = 0  # bytes of the character

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return what the terminal may have of them and of what was held back."""
        shown = bytearray()
        at = 0
        while at < len(data):
            if self._state is _State.GROUND and (run := self._plain.match(data, at)):
                shown += run[0]
                at = run.end()
            elif self._take(data[at], shown):
                at += 1
        return bytes(shown)

    def _take(self, byte: int, shown: bytearray) -> bool:
        """Take a byte; return whether it is done with. If not, it is to be taken again, in the new state."""
        match self._state:
            case _State.GROUND:
                self._begin(byte, shown)
                return True
            case _State.CHARACTER:
                return self._take_character(byte, shown)
            case _State.STRING:
                return self._take_string(byte)
            case _ if byte == _ESC:
                self._hold(_State.ESCAPE, byte)
                return True
            case _ if not 0x20 <= byte <= 0x7E:  # a control character or a character: this was no sequence
                self._state = _State.GROUND
                return byte in _CANCEL
        self._held.append(byte)
        if self._state is _State.ESCAPE:
            self._take_second(byte, shown)
        elif self._state is _State.CHARSET and byte >= 0x30:
            self._end(shown, is_allowed=len(self._held) == 3 and self._held[1] in _INTERMEDIATES)
        elif self._state is _State.CSI and byte >= 0x40:
            self._end(shown, is_allowed=_CSI.fullmatch(self._held) is not None)
        elif len(self._held) > _MAX_SEQUENCE:
            self._state = _State.GROUND
        return True

    def _take_second(self, byte: int, shown: bytearray) -> None:
        """Take the byte behind ESC."""
        if byte == ord("["):
            self._state = _State.CSI
        elif byte in _STRINGS:
            self._state = _State.STRING
        elif byte < 0x30:
            self._state = _State.CHARSET
        else:
            self._end(shown, is_allowed=byte in _ESCAPES)

    def _begin(self, byte: int, shown: bytearray) -> None:
        """Take a byte that is not plain, between two sequences."""
        if byte == _ESC:
            self._hold(_State.ESCAPE, byte)
        elif self._is_utf8 and 0xC2 <= byte <= 0xF4:
            self._hold(_State.CHARACTER, byte)
            self._missing = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
        elif 0x80 <= byte <= 0x9F:
            self._begin_c1(byte)
        elif byte >= 0xA0:
            shown += b"?" if self._is_utf8 else bytes([byte])

    def _begin_c1(self, code: int) -> None:
        """Take a control character that stands for ESC and another character (ECMA-48, 5.3)."""
        second = code - 0x40
        if second == ord("["):
            self._hold(_State.CSI, _ESC, second)
        elif second in _STRINGS:
            self._state = _State.STRING

    def _take_character(self, byte: int, shown: bytearray) -> bool:
        if not 0x80 <= byte <= 0xBF:
            self._state = _State.GROUND
            shown += b"?"
            return False
        self._held.append(byte)
        self._missing -= 1
        if not self._missing:
            self._state = _State.GROUND
            character = self._held.decode(errors="replace")
            if len(character) == 1 and 0x80 <= ord(character) <= 0x9F:
                self._begin_c1(ord(character))
            else:
                shown += bytes(self._held) if character != "\ufffd" and len(character) == 1 else b"?"
        return True

    def _take_string(self, byte: int) -> bool:
        if byte == _ESC:  # its end, or a sequence that ends it
            self._hold(_State.ESCAPE, byte)
        elif byte == 0x07 or byte in _CANCEL or (byte == 0x9C and not self._is_utf8):
            self._state = _State.GROUND
        return True

    def _hold(self, state: _State, *held: int) -> None:
        self._state = state
        self._held = bytearray(held)

    def _end(self, shown: bytearray, *, is_allowed: bool) -> None:
        self._state = _State.GROUND
        if is_allowed:
            shown += self._held
