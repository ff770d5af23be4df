"""Packages whose names are imported when they are used first.

A command that reads a voyage needs one function of :mod:`ocaptain.plan` and one class of :mod:`ocaptain.git`; without
this each would load what checks plans and what reads repositories, which takes longer than the command itself.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def lazy_names(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``: it imports the module of a name, and keeps what it found.

    Args:
        package: its name.
        names: of what the package offers, by the module that has them. None may be called as a module of the package
            is: that would be found in its place.
    """
    homes = {name: module for module, offered in names.items() for name in offered}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
