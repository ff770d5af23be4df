"""Why an attempt failed, in few words for one line of a screen. Pure."""

from __future__ import annotations

import re

#: How a reason says how an agent ended, and what it said last.
_EXIT = re.compile("^the agent ended with exit code ([0-9]+)")
#: How a reason says that an agent took too long.
_LIMIT = re.compile(r"^the agent took longer than its time limit(?: \(([0-9]+) s\))?")
_OUTPUT = "; the end of its output:"
#: How a reason says how a task's check ended; what the check said last follows on lines of their own.
_CHECK = re.compile("^the check (`.*?`) (?:ended with (exit) code ([0-9]+)|(took too long)):?(?=\\s|$)", re.DOTALL)


def brief_reason(reason: str) -> str:
    """Return why an attempt failed in fewer words, with the last line that its agent or check said.

    ``exit 3, said "boom"``, ``check exit 1, said "boom"``. A check that said nothing is named by its command.
    """
    if checked := _CHECK.match(reason):
        command, *words = checked.groups()
        said = _last_line(reason[checked.end() :])
        ended = " ".join(filter(None, words))
        return f'check {ended}, said "{said}"' if said else f"check {command}: {ended}"
    why, _, output = reason.partition(_OUTPUT)
    why = _LIMIT.sub(_say_limit, _EXIT.sub(r"exit \1", why))
    said = _last_line(output)
    return f'{why}, said "{said}"' if said else why


def _last_line(output: str) -> str:
    """Return the last line that says something, "" if none does."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")


def _say_limit(found: re.Match[str]) -> str:
    return f"took longer than {found[1]} s" if found[1] else "took longer than its time limit"
