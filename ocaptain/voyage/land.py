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
from ocaptain.captain.local import LocalWork
from ocaptain.captain.ship.context import Context
from ocaptain.captain.workspace import Workspace
from ocaptain.control import Command, ask
from ocaptain.errors import UsageError
from ocaptain.git import Git

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ocaptain.control import Answer
    from ocaptain.ledger import Ledger
    from ocaptain.voyage.home import VoyageDirectory


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
    voyage = directory.voyage()
    if refused := refuse_state(voyage.id, voyage.state, str(directory.path)):
        raise UsageError(refused)
    if request.message is not None:
        workspace = Workspace(directory.path / "workspace", directory.path / "repo.git", voyage.id)
        _commit(workspace, request.message, _paths_in(workspace.path, request.paths, Path.cwd()))

    def land_here(_: Command, ledger: Ledger) -> Answer:
        return asyncio.run(_land_here(directory.path, ledger))

    answer = ask(directory.path, Command(name="land"), land_here)
    if not answer.done:
        raise UsageError(answer.said)
    if answer.commits and directory.voyage().state in {"running", "verifying"}:
        process.start_captain(directory.path)  # none may be running: the voyage had ended, or its captain died
    return answer


async def _land_here(directory: Path, ledger: Ledger) -> Answer:
    """Land without a captain; the caller holds its lock."""
    context = Context.of(directory, ledger)
    await asyncio.to_thread(context.lander.reconcile)
    work = LocalWork(directory, context)
    answer = await work.answer(await work.sync())
    state = ledger.voyage().state
    after = state_after(state, has_failed_tasks=bool(ledger.failed_tasks()))
    if answer.commits and after != state:
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
        if not place.is_relative_to(root):
            raise UsageError(f"{path} is not in {workspace}; name files of workspace/")
        found.append(str(place.relative_to(root)))
    return found


def _commit(workspace: Workspace, message: str, paths: Sequence[str]) -> None:
    """Commit in ``workspace/`` in the user's name; hooks do not run.

    Raises:
        UsageError: there is nothing to commit, or git does not know who the user is.
    """
    if not message.strip():
        raise UsageError("-m is empty; say in it what the commit does")
    git = workspace.git
    on = git.run("symbolic-ref", "--quiet", "--short", "HEAD", ok=(0, 1)).stdout.decode(errors="replace").strip()
    if on != workspace.branch:
        raise UsageError(f"workspace/ is not on {workspace.branch}: git -C {workspace.path} switch {workspace.branch}")
    author = _identity(workspace.path)
    if paths:
        git.run("add", "--all", "--", *paths)
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
