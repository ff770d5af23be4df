"""The refs in ``repo.git`` that hold work beside the voyage branch. Only the captain names refs.

Written are ``refs/ocaptain/tasks/<task>/<attempt>/work`` (an attempt's files at its end), ``…/other/<k>`` (what it
committed elsewhere: branches, stash, worktrees; the ledger's ``saved_refs`` has the agent's own names),
``stale/<token>`` (work that came after the attempt had lost its task), ``saved/<ship>/<n>`` (work of a ship that was
lost or sunk), ``saved/<ship>/lost-<token>`` (the files of an attempt without an end, as they were seen last) and, while
an attempt runs, ``live/<ship>`` (its files as they are). ``local/<n>`` are the user's own commits as they were made;
what landed of them has other ids. The first version's ``attempts/``, ``late/`` and ``rescue/`` are only read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = "refs/ocaptain"
_KEPT = tuple(f"{ROOT}/{kind}/" for kind in ("tasks", "stale", "saved", "attempts", "late", "rescue"))


def work_ref(task: str, number: int) -> str:
    """Return the ref for an attempt's files."""
    return f"{ROOT}/tasks/{task}/{number}/work"


def other_ref(task: str, number: int, k: int) -> str:
    """Return the ref for the k-th commit that an attempt left elsewhere than in its files."""
    return f"{ROOT}/tasks/{task}/{number}/other/{k}"


def former_work_ref(task: str, number: int) -> str:
    """Return the first version's ref for an attempt's files."""
    return f"{ROOT}/attempts/{task}/{number}"


def stale_ref(token: int) -> str:
    """Return the ref for the work of an attempt that had lost its task."""
    return f"{ROOT}/stale/{token}"


def stale_other_ref(attempt: str, k: int) -> str:
    """Return the ref for the k-th other commit of an attempt (its token, as in :func:`stale_ref`) without a task."""
    return f"{ROOT}/stale/{attempt}-other-{k}"


def saved_other_ref(ship: str, number: int, k: int) -> str:
    """Return the ref for the k-th other commit of a ship that is given up, and is at no attempt."""
    return f"{ROOT}/saved/{ship}/{number}-other-{k}"


def saved_ref(ship: str, number: int) -> str:
    """Return the ref for the work in progress of a ship that is given up."""
    return f"{ROOT}/saved/{ship}/{number}"


def lost_ref(ship: str, token: int) -> str:
    """Return the ref for the files of an attempt that has no end, as they were seen last."""
    return f"{ROOT}/saved/{ship}/lost-{token}"


def live_ref(ship: str) -> str:
    """Return the ref for the files of a ship's running attempt as they are now."""
    return f"{ROOT}/live/{ship}"


def local_ref(number: int) -> str:
    """Return the ref for a chain of the user's own commits that landed, as the user made them."""
    return f"{ROOT}/local/{number}"


def unlanded_refs(refs: Mapping[str, str], attempts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the refs that hold work which is not on the branch.

    Args:
        refs: below :data:`ROOT`, with their commits.
        attempts: of the ledger.
    """
    landed = {
        name(row["task"], row["number"])
        for row in attempts
        if row["state"] == "landed"
        for name in (work_ref, former_work_ref)
    }
    return {ref: commit for ref, commit in refs.items() if ref.startswith(_KEPT) and ref not in landed}
