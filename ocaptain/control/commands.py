"""The commands, and what each does to a ledger."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger


class Command(BaseModel):
    """Something to be done.

    Attributes:
        name: ``pause``: hand out nothing more; what is under way is finished, checked and lands.
            ``retry``: try tasks again that failed for good.
            ``stop``: the captain ends; its ships work on, and another captain takes up what they do.
        tasks: that are to be tried again; none = all that failed.
        id: its own; who repeats a command repeats this.
    """

    model_config = ConfigDict(frozen=True)

    name: Literal["pause", "retry", "stop"]
    tasks: tuple[str, ...] = ()
    id: str = Field(default_factory=lambda: secrets.token_hex(8), pattern=r"^[0-9a-f]{16}$")


class Answer(BaseModel):
    """What became of a command.

    Attributes:
        done: whether it is done, or was already; else refused.
        said: what that means, or why not: a line for people.
    """

    model_config = ConfigDict(frozen=True)

    done: bool
    said: str


def carry_out(command: Command, ledger: Ledger) -> Answer:
    """Do what a command says; whoever calls this commands the voyage.

    Raises:
        LedgerError: it could not be written.
    """
    match command.name:
        case "pause":
            return _pause(ledger)
        case "retry":
            return _retry(ledger, command.tasks)
        case "stop":  # is the captain's own to do
            return Answer(done=True, said=f"the captain of {ledger.voyage().id} ends; its ships work on")


def _pause(ledger: Ledger) -> Answer:
    voyage, counts = ledger.voyage(), ledger.count_tasks()
    resume = f"go on with: ocaptain sail --resume {voyage.id}"
    if voyage.state not in {"preparing", "running", "paused"}:
        why = "its final verify runs" if voyage.state == "verifying" else f"it is {voyage.state}"
        return Answer(done=False, said=f"{voyage.id} cannot be paused: {why}")
    if voyage.paused_reason in {None, "ours", "provider"}:  # which end by themselves
        ledger.pause("user")
    if counts["in_progress"]:
        tasks = "1 task is" if counts["in_progress"] == 1 else f"{counts['in_progress']} tasks are"
        return Answer(done=True, said=f"{voyage.id} pauses: {tasks} finished first; {resume}")
    return Answer(done=True, said=f"{voyage.id} is paused; {resume}")


def _retry(ledger: Ledger, tasks: tuple[str, ...]) -> Answer:
    voyage = ledger.voyage()
    if voyage.state in {"verifying", "complete", "sinking", "sunk"}:
        return Answer(done=False, said=f"nothing of {voyage.id} can be tried again: it is {voyage.state}")
    if unknown := set(tasks) - {row["id"] for row in ledger.task_rows(tasks)}:
        return Answer(done=False, said=f"{voyage.id} has no task {', '.join(sorted(unknown))}")
    back = ledger.retry_failed(tasks)
    if not back:  # asked twice, it is done
        return Answer(done=True, said=f"no task of {voyage.id} that was meant has failed for good")
    goes_on = "" if voyage.state == "running" else f"; go on with: ocaptain sail --resume {voyage.id}"
    return Answer(done=True, said=f"tried again: task {', '.join(back)}{goes_on}")
