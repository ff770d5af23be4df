"""At a captain's start: what is on the branch and under our refs, and the ledger does not know of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.captain.decide.compare import compare, counters, parse_trailers
from ocaptain.captain.refs import ROOT
from ocaptain.ledger import Contradiction

if TYPE_CHECKING:
    from ocaptain.captain.decide.compare import OnBranch
    from ocaptain.git import Git
    from ocaptain.ledger import Ledger

_FORMAT = "%H%x00" + "%x00".join(
    f"%(trailers:key={key},valueonly,separator=%x2C)" for key in ("Task", "Ship", "Attempt")
)


def adopt(git: Git, ledger: Ledger, branch: str, *, may_refuse: bool = True) -> tuple[OnBranch, ...]:
    """Bring a ledger that went back in time up to what the repository tells; runs git and blocks.

    Args:
        git: the repository.
        ledger: opened for writing.
        branch: the ref on which work lands.
        may_refuse: whether a contradiction is an error; else nothing is adopted then.

    Returns:
        The landings that it did not know of.

    Raises:
        Contradiction: branch and ledger contradict each other.
        GitError: the repository cannot be read.
    """
    voyage = ledger.voyage()
    log = git.run("log", "--first-parent", "--reverse", f"--format={_FORMAT}", f"{voyage.root}..{branch}")
    commits, trailers = parse_trailers(log.stdout.decode(errors="replace").splitlines())
    found = compare(commits, trailers, ledger.landed_commits(), ledger.statuses())
    if found.refusal:
        if not may_refuse:
            return ()
        move = f"git -C {git.directory} update-ref {branch} COMMIT"
        raise Contradiction(f"{ledger.path}: {found.refusal}; put the branch back ({move}), or the ledger that fits")
    told = counters(git.refs(ROOT))
    ledger.raise_counters(told.attempts, told.token)
    if told.epoch > (ledger.epoch or 0):
        ledger.raise_fence(told.epoch + 1, 0)
    for one in found.adopt:
        ledger.adopt_landing(one.task, one.ship, one.number, one.commit)
    return found.adopt
