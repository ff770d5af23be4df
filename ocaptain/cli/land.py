"""``land``: the user's own commits land on a voyage's branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.cli import render
from ocaptain.cli.views import find_voyage, print_next_of
from ocaptain.query import Query
from ocaptain.voyage.land import CommitRequest, land

if TYPE_CHECKING:
    from collections.abc import Sequence


def run_land(voyage: str | None, paths: Sequence[str], message: str | None, *, as_json: bool) -> int:
    """Land the commits in ``workspace/``, after a commit if there is a message; return the exit code.

    Raises:
        UsageError: nothing can land: the voyage is sunk, a commit is a merge, a path is wrong.
        OcaptainError: a commit conflicts with what landed meanwhile.
    """
    directory = find_voyage(voyage)
    answer = land(directory, CommitRequest(tuple(paths), message))
    if as_json:
        facts = {"state": Query(directory.path).state(), "said": answer.said}
        lists = {"commits": list(answer.commits), "uncommitted": list(answer.uncommitted)}
        render.print_json("land", {"voyage": directory.id, **facts, **lists})
    else:
        render.out().print(answer.said)
        print_next_of(directory)
    return 0
