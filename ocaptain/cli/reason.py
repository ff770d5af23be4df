"""Why an attempt failed, in few words for one line of a screen. Pure."""

from __future__ import annotations

import re

#: How a reason says how an agent ended, and what it said last.
_EXIT = re.compile("^the agent ended with exit code ([0-9]+)")
_OUTPUT = "; the end of its output:"


def brief_reason(reason: str) -> str:
    """Return why an attempt failed in fewer words, with the last line that its agent said: ``exit 3, said "boom"``."""
    why, _, output = reason.partition(_OUTPUT)
    why = _EXIT.sub(r"exit \1", why)
    said = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
    return f'{why}, said "{said}"' if said else why
