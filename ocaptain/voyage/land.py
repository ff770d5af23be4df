"""``land``: the user's own commits, or their changes as a commit, land on the voyage's branch.

::

    -m TEXT, PATH… ──commit in workspace/, by our git and in the user's name──┐
    commits in workspace/ ─────────────────────────────────────────────────────┤
        a captain is in command ──> it lands them                              │
        none is ──> landed here, under its lock <──────────────────────────────┘
            ──the voyage had ended──> running, and a captain verifies it anew
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ocaptain import process
from ocaptain.captain.decide.local import refuse_state, state_after
from ocaptain.captain.local import NOTHING, LocalWork, describe_landed
from ocaptain.captain.ship.context import Context
from ocaptain.captain.workspace import Workspace
from ocaptain.control import Answer, Command, ask
from ocaptain.errors import UsageError
from ocaptain.git import Git, GitError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.ledger import Ledger
    from ocaptain.voyage.home import VoyageDirectory

LAND_SECONDS = 300.0  # a large chain takes its time, and the captain may be updating workspace/


@dataclass(frozen=True)
class CommitRequest:
    """What is committed first.

    Attributes:
        paths: of the files, as the user wrote them; empty = what is staged, else all tracked files that changed.
        message: of the commit; None = nothing is committed.
    """

    paths: tuple[str, ...] = ()
    message: str | None = None


def land(directory: VoyageDirectory, request: CommitRequest) -> Answer:
    """Land the commits in ``workspace/``.

    Raises:
        UsageError: nothing can land, for a reason that the user can mend.
        OcaptainError: a commit conflicts, or the captain does not answer.
    """
    if request.message is None and request.paths:
        raise UsageError("a PATH is for a commit: give its message with -m TEXT; without -m your own commits land")
    made, voyage = None, directory.voyage()
    if refused := refuse_state(voyage.id, voyage.state, str(directory.path)):
        raise UsageError(refused)
    if request.message is not None:
        workspace = Workspace(directory.path / "workspace", directory.path / "repo.git", voyage.id)
        made = _commit(workspace, request.message, _paths_in(workspace.path, request.paths, Path.cwd()))

    def land_here(_: Command, ledger: Ledger) -> Answer:
        return asyncio.run(_land_here(directory.path, ledger))

    answer = ask(directory.path, Command(name="land"), land_here, LAND_SECONDS)
    if not answer.done:
        raise UsageError(answer.said)
    if made and not answer.commits:
        answer = _with_earlier_landing(directory, answer, made)
    state = directory.voyage().state
    if (answer.commits or state != voyage.state) and state in {"running", "verifying"}:
        process.start_captain(directory.path)  # none may be running: the voyage had ended, or its captain died
    return answer


def _with_earlier_landing(directory: VoyageDirectory, answer: Answer, made: str) -> Answer:
    """Return the answer with the landing of a commit that the captain saw before the command came."""
    with directory.ledger() as ledger:
        landed = ledger.landed_of([made]).get(made)
    if landed is None:
        return answer
    said = answer.said.replace(NOTHING, describe_landed([landed]))
    return answer.model_copy(update={"commits": (landed,), "said": said})


async def _land_here(directory: Path, ledger: Ledger) -> Answer:
    """Land without a captain; the caller holds its lock."""
    context = Context.of(directory, ledger)
    voyage = context.voyage
    if refused := refuse_state(voyage.id, voyage.state, str(directory)):  # it was sunk meanwhile
        return Answer(done=False, said=refused)
    await asyncio.to_thread(context.lander.reconcile)
    work = LocalWork(directory, context)
    answer = await work.answer(await work.sync())
    # A landing whose command was killed before it came to this has not been verified, either.
    is_unverified = voyage.verify_commit not in {None, await context.lander.head()}
    after = state_after(voyage.state, has_failed_tasks=bool(ledger.failed_tasks()))
    if answer.done and (answer.commits or is_unverified) and after != voyage.state:
        ledger.set_note(None)
        ledger.set_state(after)
    return answer


def _paths_in(workspace: Path, paths: Sequence[str], here: Path) -> list[str]:
    """Return paths as they are called in the clone: given from there, or from the directory that the user is in.

    Raises:
        UsageError: one is not in it.
    """
    root = workspace.resolve()
    found = []
    for path in paths:
        base = here if here.resolve().is_relative_to(root) else root
        place = Path(os.path.normpath(base.resolve() / path))
        if not place.is_relative_to(root):  # it may be named by another way that leads there
            place = place.parent.resolve() / place.name
        if not place.is_relative_to(root):
            raise UsageError(f"{path} is not in {workspace}; name files of workspace/")
        found.append(str(place.relative_to(root)))
    return found


def _commit(workspace: Workspace, message: str, paths: Sequence[str]) -> str | None:
    """Commit in ``workspace/`` in the user's name, and return the commit; hooks do not run.

    Raises:
        UsageError: there is nothing to commit, no such file, or git does not know who the user is.
    """
    if not message.strip():
        raise UsageError("-m is empty; say in it what the commit does")
    git = workspace.git
    on = git.run("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1)).stdout.decode(errors="replace").strip()
    if on != workspace.branch:
        raise UsageError(f"workspace/ is not on {workspace.branch}: git -C {workspace.path} switch {workspace.branch}")
    author = _identity(workspace.path)
    if paths:
        try:
            git.run("add", "--all", "--", *paths)
        except GitError as error:
            raise UsageError(f"nothing was committed in {workspace.path}: {clean_line(error.told, 400)}") from error
        changed = git.run("diff", "--cached", "--quiet", "HEAD", "--", *paths, ok=(0, 1)).returncode
        how = ["--only", "--", *paths]
    elif git.run("diff", "--cached", "--quiet", "HEAD", ok=(0, 1)).returncode:
        changed, how = 1, []
    else:
        changed, how = git.run("diff", "--quiet", "HEAD", ok=(0, 1)).returncode, ["--all"]
    if not changed:
        new = f" ({', '.join(workspace.uncommitted()[:5])} is new: name it)" if workspace.uncommitted() else ""
        raise UsageError(f"there is nothing to commit in {workspace.path}{new}; without -m your own commits land")
    git.run("commit", "--quiet", "--no-verify", "-m", message, *how, extra=author)
    return git.resolve("HEAD")


def _identity(workspace: Path) -> Mapping[str, str]:
    """Return the user's name and address, as git has them, as variables for git.

    Raises:
        UsageError: git has none.
    """
    git = Git(workspace, with_user_config=True)
    found: dict[str, str] = {}
    for key, variable in (("name", "NAME"), ("email", "EMAIL")):
        told = os.environ.get(f"GIT_AUTHOR_{variable}") or git.run("config", f"user.{key}", ok=(0, 1)).stdout.decode(
            errors="surrogateescape"
        )
        if not told.strip():
            raise UsageError(f"git does not know who you are; tell it: git config --global user.{key} …")
        found |= {f"GIT_AUTHOR_{variable}": told.strip(), f"GIT_COMMITTER_{variable}": told.strip()}
    return found
