"""Adopt, when a captain starts, the landings on the branch and the numbers in our refs that the ledger lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.captain.decide.compare import compare_branch_and_ledger, highest_numbers, parse_trailers
from ocaptain.captain.refs import ROOT
from ocaptain.ledger import Contradiction

if TYPE_CHECKING:
    from ocaptain.captain.decide.compare import BranchLanding
    from ocaptain.git import Git
    from ocaptain.ledger import Ledger

_FORMAT = "%H%x00" + "%x00".join(
    f"%(trailers:key={key},valueonly,separator=%x2C)" for key in ("Task", "Ship", "Attempt")
)


def adopt_landings(git: Git, ledger: Ledger, branch: str, *, is_strict: bool = True) -> tuple[BranchLanding, ...]:
    """Bring a ledger that went back in time up to date with the repository; runs git and blocks.

    Args:
        git: the repository.
        ledger: opened for writing.
        branch: the ref on which work lands.
        is_strict: whether a contradiction is an error; if not, nothing is adopted in that case.

    Returns:
        The landings that were adopted.

    Raises:
        Contradiction: branch and ledger contradict each other.
        GitError: the repository cannot be read.
    """
    voyage = ledger.voyage()
    log = git.run("log", "--first-parent", "--reverse", f"--format={_FORMAT}", f"{voyage.root}..{branch}")
    commits, trailers = parse_trailers(log.stdout.decode(errors="replace").splitlines())
    found = compare_branch_and_ledger(commits, trailers, ledger.landed_commits(), ledger.task_statuses())
    if found.contradiction:
        if not is_strict:
            return ()
        move = f"git -C {git.directory} update-ref {branch} COMMIT"
        raise Contradiction(
            f"{ledger.path}: {found.contradiction}; restore the branch ({move}), or a ledger that matches it"
        )
    highest = highest_numbers(git.refs(ROOT))
    ledger.raise_counters(highest.attempts, highest.token)
    if highest.epoch > (ledger.epoch or 0):
        ledger.raise_fence(highest.epoch + 1, 0)
    for one in found.adopt:
        ledger.adopt_landing(one.task, one.ship, one.number, one.commit)
    return found.adopt
