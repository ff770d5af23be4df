"""Which programs the first line of a script names. Standard library only: it travels to the ship.

The kernel's rules are those of execve(2) and ``fs/binfmt_script.c``: after ``#!`` blanks are skipped, the interpreter
goes up to the next blank, and all of the rest is one argument. A carriage return is a part of either.
"""

from __future__ import annotations

import posixpath
import re
from typing import List, Sequence, Tuple

MAX_FIRST_LINE = 255  # bytes that the kernel reads, since Linux 5.1
_SPLIT = re.compile(r"(-v?S|--split-string(=|$))")
_PLAIN = re.compile(r"[^\\$'\"#]*")  # what env -S only splits at blanks
_ASSIGNMENT = re.compile(r"([^=]+)=")


def split_first_line(script: bytes) -> Tuple[str, str]:
    """Return the interpreter that the first line of a script names, and its one argument; "" for what is not there."""
    if not script.startswith(b"#!"):
        return "", ""
    line = script[2:].split(b"\n", 1)[0][: MAX_FIRST_LINE - 2].decode(errors="surrogateescape").strip(" \t")
    interpreter, _, argument = re.sub("[ \t]+", " ", line, count=1).partition(" ")
    return interpreter, argument


def is_env(interpreter: str) -> bool:
    """Whether an interpreter is the program that looks for another one by its name."""
    return posixpath.basename(interpreter) == "env"


def is_one_word_for_env(argument: str) -> bool:
    """Whether ``env`` takes a first line's argument for one word, though it has several or names no program."""
    return not _SPLIT.match(argument) and bool(re.search(r"^-|[=\s]", argument.rstrip("\r")))


def named_programs(script: bytes) -> Tuple[str, ...]:
    """Return the programs that must be there before a line of the script can run.

    The first is the interpreter. If that is ``env``, the second is the program that it looks for, unless only a run can
    tell: it is relative to the clone, or ``env`` changes where it looks.

    Args:
        script: content of the file; without ``#!`` it is run by bash, and names nothing.
    """
    interpreter, argument = split_first_line(script)
    if not interpreter:
        return ()
    if not is_env(interpreter):
        return (interpreter,)
    program = _program_of_env(argument)
    return (interpreter, program) if program and ("/" not in program or program.startswith("/")) else (interpreter,)


def _program_of_env(argument: str) -> str:
    """Return the program that ``env`` with this one argument looks for, "" if that is uncertain."""
    split = _SPLIT.match(argument)
    if split is None:  # all of it is one name, blanks and options included
        return "" if argument.startswith("-") or "=" in argument else argument
    rest = argument[split.end() :]
    return _first_program(rest.split()) if _PLAIN.fullmatch(rest) else ""


def _first_program(words: Sequence[str]) -> str:
    """Return the program in the words of ``env -S``, "" if that is uncertain."""
    left: List[str] = list(words)
    while left:
        word = left.pop(0)
        assignment = _ASSIGNMENT.match(word)
        if word.startswith("-") or (assignment and assignment[1] == "PATH"):
            return ""
        if not assignment:
            return word
    return ""
