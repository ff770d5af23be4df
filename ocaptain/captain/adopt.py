"""Adopt, when a captain starts, the landings on the branch and the numbers in our refs that the ledger lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocaptain.captain.decide.compare import compare_branch_and_ledger, highest_numbers, parse_trailers
from ocaptain.captain.decide.local import MAX_COMMITS
from ocaptain.captain.refs import ROOT
from ocaptain.git import GitError
from ocaptain.git.local import BadCommit, RawCommit, local_message, parse_commit
from ocaptain.ledger import Contradiction

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    own = [one.commit for one in found.adopt if not one.task]
    theirs = _find_theirs(git, branch, own) if own else {}
    for one in found.adopt:
        if one.task:
            ledger.adopt_landing(one.task, one.ship, one.number, one.commit)
        else:
            ledger.adopt_local(one.commit, theirs.get(one.commit), branch, after=highest.local)
    return found.adopt


def _find_theirs(git: Git, branch: str, landed: Sequence[str]) -> dict[str, str]:
    """Return, by the commits that landed, the user's commits that they were made of, as far as our refs have them.

    What landed has author, date and words of the user's commit, so it is found by these; of several that are alike the
    first one landed first.
    """
    refs = sorted(git.refs(f"{ROOT}/local/").items(), key=lambda one: int(one[0].rpartition("/")[2]))
    made: dict[str, None] = {}
    for _, tip in refs:
        made |= dict.fromkeys(
            git.text("rev-list", "--reverse", f"--max-count={MAX_COMMITS}", tip, f"^{branch}", "--").split()
        )
    waiting: dict[tuple[bytes, bytes], list[str]] = {}
    for commit in made:
        raw = _read(git, commit)
        waiting.setdefault((raw.author, local_message(raw.message)), []).append(commit)
    found = {}
    for commit in landed:
        raw = _read(git, commit)
        if alike := waiting.get((raw.author, raw.message)):
            found[commit] = alike.pop(0)
    return found


def _read(git: Git, commit: str) -> RawCommit:
    try:
        return parse_commit(git.run("cat-file", "commit", commit).stdout)
    except BadCommit as error:
        raise GitError(f"{git.directory}: {commit}: {error}") from error
