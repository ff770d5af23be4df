"""The usage line of commands whose arguments have a grammar of their own (:mod:`.arguments`)."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand


class CommandOfWords(TyperCommand):
    """A command whose one argument stands for several words; its metavar is the whole usage."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line: ``[ID] [SHIP]``, which typer shows as ``[[ID] [SHIP]]...``."""
        found = super().collect_usage_pieces(ctx)
        return [re.sub(r"^[\[{](\[ID\].*)[\]}]\.\.\.$", r"\1", piece) for piece in found]
