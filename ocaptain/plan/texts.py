"""What the texts and scripts of a plan must be, so that they reach a ship and work there. Pure functions."""

from __future__ import annotations

import codecs
import json
import math
import posixpath
import re
from typing import TYPE_CHECKING, Any

from ocaptain.protocol.shebang import MAX_FIRST_LINE, is_env, is_one_word_for_env, named_programs, split_first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Bytes of one text: spec.md, verify.sh, a description, a shell line.
MAX_TEXT_BYTES = 4 * 1024 * 1024
#: Bytes of a JSON file, in which a character may take six.
MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_NESTING = 64  # levels; what prints and checks JSON ends at some hundreds
SAVE_AS_UTF8 = "save it as UTF-8"
BY_BASH = "begin it with #!/usr/bin/env bash"
#: Words that do on Linux, macOS and BSD alike.
SAVE_WITH_LF = "save it with LF alone (perl -pi -e 's/\\r$//' verify.sh, or dos2unix)"

#: Programs by which a ship works, so that each has them.
ON_EVERY_SHIP = frozenset(["sh", "bash", "dash", "python3", "perl"])
#: Programs that take a carriage return for a part of a word.
SHELLS = frozenset(["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "yash", "fish"])
#: Programs that a shell line may begin with, and that are on few ships.
_RARE_SHELLS = frozenset(["zsh", "fish", "ksh", "csh", "tcsh", "pwsh", "powershell", "nu", "xonsh"])
#: Where programs are on macOS and Windows, and on no ship, which is a Linux machine.
_NOT_LINUX = re.compile(r"/Users/|/opt/homebrew/|/Applications/|/System/|[A-Za-z]:[\\/]")

#: A problem and its remedy.
Problem = tuple[str, str]


class Unreadable(ValueError):
    """A file's content cannot be read as what it should be.

    Attributes:
        field: place within the file, "" for none.
        problem, remedy: what is wrong, and what to do.
    """

    def __init__(self, problem: str, remedy: str, field: str = "") -> None:
        super().__init__(problem)
        self.field, self.problem, self.remedy = field, problem, remedy


def decode_text(data: bytes) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        Unreadable: it is of another encoding.
    """
    if is_utf16(data):
        raise Unreadable("is not valid UTF-8, but UTF-16", f"{SAVE_AS_UTF8} (iconv -f UTF-16 -t UTF-8)")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not valid UTF-8 (byte {error.start})", SAVE_AS_UTF8) from None


def is_utf16(data: bytes) -> bool:
    """Whether a file seems to be text in UTF-16, with or without a byte order mark."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return len(data) % 2 == 0
    start = data[: min(len(data), 64) // 2 * 2]
    return len(start) >= 4 and (not any(start[1::2]) or not any(start[::2]))


# -- JSON ----------------------------------------------------------------------------------------------


def parse_json(text: str) -> Any:
    """Parse JSON as its standard has it: no key twice, no NaN, no number beyond a float.

    Raises:
        Unreadable: it is not valid.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=_finite_float
        )
    except Unreadable:
        raise
    except json.JSONDecodeError as error:
        raise Unreadable(f"is not valid JSON: {error}", "correct it", f"line {error.lineno}") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not valid JSON: {error}", "correct it") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Unreadable("stands twice in one object", "remove one of them", twice[:100])
    return found


def _refuse_constant(name: str) -> object:
    raise Unreadable(f"is not valid JSON: {name} is no number of JSON", "write a number, or null")


def _finite_float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise Unreadable(f"is not valid JSON: {digits[:40]} is too large for a number", "write a smaller one")
    return number


def find_odd_values(value: Any) -> Iterator[tuple[str, Problem]]:
    """Yield the field of each value that a ship would not get as it is, with problem and remedy."""
    rest: list[tuple[str, int, Any]] = [("", 1, value)]
    while rest:
        where, depth, one = rest.pop()
        if isinstance(one, str):
            if has_half_character(one):
                yield where, ("has half of a character (a surrogate such as \\ud83d)", "write both halves, or none")
        elif isinstance(one, dict | list):
            if depth > MAX_NESTING:
                yield where[:200], (f"is nested deeper than {MAX_NESTING} levels", "nest it less")
                continue
            items = one.items() if isinstance(one, dict) else enumerate(one)
            for key, below in items:
                if isinstance(key, str) and has_half_character(key):
                    yield where[:200], ("has a key with half of a character", "write both halves, or none")
                    continue
                rest.append((f"{where}.{key}" if where else str(key), depth + 1, below))


def has_half_character(text: str) -> bool:
    """Whether a text cannot be written as UTF-8; so is a path, in Python, that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# -- shell ---------------------------------------------------------------------------------------------


def judge_line(text: str) -> Problem | None:
    """Return why a shell line cannot work, None if it may. It is run by bash, whatever it begins with."""
    if "\0" in text:
        return "a shell line cannot contain a NUL byte", "remove it"
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        return f"is larger than {MAX_TEXT_BYTES} bytes", "put the script into the repository and run it"
    if "\r\n" in text or text.endswith("\r"):
        return "has CR LF line ends, and bash takes the CR for a part of each word", "write \\n alone"
    if text.startswith("#!"):
        program = _program_of(text.encode("utf-8", "replace"))
        name = posixpath.basename(program)
        if name not in {"sh", "bash", "dash", ""}:
            return f"is run by bash, but its first line names {program[:100]}", f"hand it the script: {name} - <<'END'"
    if found := _NOT_LINUX.match(text.lstrip()):
        return f"begins with {found[0]}, which no ship has: ships are Linux machines", "name the program alone"
    return None


def rare_program(text: str) -> str | None:
    """Return the shell that a shell line begins with, if few ships have it."""
    first = posixpath.basename((text.split(maxsplit=1) or [""])[0])
    return first if first in _RARE_SHELLS else None


def judge_script(data: bytes, *, is_prepared: bool) -> tuple[list[Problem], list[Problem]]:
    """Return the faults and the warnings of a script that ships run: by its first line, else by bash.

    Args:
        data: the script.
        is_prepared: whether something of the plan's runs before it, which may install what it needs.
    """
    if is_utf16(data):
        return [("is UTF-16, which no shell reads", f"{SAVE_AS_UTF8} (iconv -f UTF-16 -t UTF-8)")], []
    first = data.partition(b"\n")[0]
    if b"\0" in first:
        return [("is not a script: its first line has a NUL byte", "write the script that proves the work")], []
    line = first.decode("utf-8", "replace")
    faults: list[Problem] = []
    warnings: list[Problem] = []
    interpreter = "bash"
    if line.startswith("#!"):
        interpreter = posixpath.basename(_program_of(data))
        if fault := _judge_first_line(data, line):
            faults.append(fault)
        elif not is_prepared:
            warnings = _doubt_interpreter(data)
    if line.startswith("#!") and line.endswith("\r"):
        faults.append(("its first line ends in a CR, which becomes a part of the program's name", SAVE_WITH_LF))
    elif interpreter in SHELLS and b"\r" in data and (at := re.search(rb"\r(\n|\Z)", data)):
        where = data.count(b"\n", 0, at.start()) + 1
        faults.append((f"has CR LF line ends (line {where}), and {interpreter} takes the CR for text", SAVE_WITH_LF))
    return faults, warnings


def _program_of(script: bytes) -> str:
    """Return the program that a script with ``#!`` is run by in the end, "" if only a run can tell."""
    interpreter, argument = split_first_line(script)
    if not is_env(interpreter):
        return interpreter.rstrip("\r")
    words = named_programs(script)[1:] if not is_one_word_for_env(argument) else (argument,)
    return " ".join(words).split()[0] if words else ""


def _judge_first_line(script: bytes, line: str) -> Problem | None:
    """Return why a first line with ``#!`` works on no ship, None if it may."""
    interpreter, argument = split_first_line(script)
    if not interpreter.rstrip("\r"):
        return "its first line names no program", BY_BASH
    if len(line.encode()) > MAX_FIRST_LINE:
        return f"its first line is longer than {MAX_FIRST_LINE} bytes", BY_BASH
    if _NOT_LINUX.match(interpreter):
        problem = f"is run by {interpreter[:100]}, which no ship has: ships are Linux machines"
        return problem, "begin it with #!/usr/bin/env and the program's name"
    if not interpreter.startswith("/"):
        return f"its first line names {interpreter[:100]} without its directory", "begin it with #!/usr/bin/env"
    if is_env(interpreter) and is_one_word_for_env(argument):
        shown = argument.rstrip("\r")[:100]
        problem = f"its first line gives env `{shown}` as one word, which is the name of no program"
        return problem, f"begin it with #!{interpreter} -S {shown}"
    if is_env(interpreter) and not argument.strip():
        return "its first line names no program", BY_BASH
    return None


def _doubt_interpreter(script: bytes) -> list[Problem]:
    """Return a warning if few ships may have the program that a script is run by."""
    interpreter, _ = split_first_line(script)
    program = _program_of(script)
    name = posixpath.basename(program)
    found_by_path = is_env(interpreter) and "/" not in program
    usual = found_by_path or posixpath.dirname(program) in {"/bin", "/usr/bin"}
    if not program or (usual and name in ON_EVERY_SHIP):
        return []
    remedy = "install it by `setup` of voyage.json, or write it for bash" if usual else f"use #!/usr/bin/env {name}"
    return [(f"is run by {program[:100]}, which a ship may lack", remedy)]
