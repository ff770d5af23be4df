"""Selectors of labels, as they are written for hcloud and Kubernetes: ``env=prod,tier!=db,zone in (a,b),!old``.

Labels of sprites are plain words. One with ``=`` in it is a key with a value; one without is a key whose value is
empty. A sprite may have several labels with one key: it has each of these values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD = r"[^\s=!,()]+"
_VALUE = r"[^\s!,()]*"
_SET = re.compile(rf"(?P<key>{_WORD})\s+(?P<not>not)?in\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(rf"(?P<key>{_WORD})\s*(?P<not>!)?==?\s*(?P<value>{_VALUE})")
_KEY = re.compile(rf"(?P<not>!)?\s*(?P<key>{_WORD})")
#: A comma that separates requirements, not the values of one.
_COMMA = re.compile(r",(?![^(]*\))")


@dataclass(frozen=True)
class Requirement:
    """What the labels of a sprite must be like.

    Attributes:
        key: of the labels that it is about.
        values: one of these is the value of such a label; None: any.
        is_met: whether such a label must be there, or must not.
    """

    key: str
    values: frozenset[str] | None
    is_met: bool

    def accepts(self, labels: Iterable[str]) -> bool:
        """Whether labels are as they must be; where no such label may be, a sprite without the key is right as well."""
        pairs = [label.partition("=")[::2] for label in labels]
        is_there = any(key == self.key and (self.values is None or value in self.values) for key, value in pairs)
        return is_there is self.is_met


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """Return the requirements of a selector, all of which must be met; none of an empty one.

    The grammar is Kubernetes' (Labels and Selectors), which hcloud's API takes as well: ``key``, ``!key``,
    ``key=value``, ``key==value``, ``key!=value``, ``key in (value, …)`` and ``key notin (value, …)``, with commas
    between.

    Raises:
        UsageError: a part is none of these.
    """
    return tuple(_parse_requirement(part.strip()) for part in _COMMA.split(text)) if text.strip() else ()


def _parse_requirement(part: str) -> Requirement:
    if found := _SET.fullmatch(part):
        values = [value.strip() for value in found["values"].split(",")]
        if all(re.fullmatch(_WORD, value) for value in values):
            return Requirement(found["key"], frozenset(values), not found["not"])
    elif found := _EQUAL.fullmatch(part):
        return Requirement(found["key"], frozenset({found["value"]}), not found["not"])
    elif found := _KEY.fullmatch(part):
        return Requirement(found["key"], None, not found["not"])
    raise UsageError(
        f"{part!r} selects no labels: write key, !key, key=value, key!=value, key in (value, value) or"
        " key notin (value, value), with commas between"
    )
