"""The commands, and their effects on a ledger."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from ocaptain.ledger import Ledger


class Command(BaseModel):
    """A command to a voyage.

    Attributes:
        name: ``pause``: start no new task; running ones are finished, checked and landed.
            ``retry``: try tasks again that failed permanently.
            ``stop``: the captain ends; its ships work on, and the next captain continues with them.
        tasks: ids of the tasks to retry; empty = all that failed.
        id: id of the command; repeat it to repeat the command.
    """

    model_config = ConfigDict(frozen=True)

    name: Literal["pause", "retry", "stop"]
    tasks: tuple[str, ...] = ()
    id: str = Field(default_factory=lambda: secrets.token_hex(8), pattern=r"^[0-9a-f]{16}$")


class Answer(BaseModel):
    """The result of a command.

    Attributes:
        done: whether it was executed, now or before; False = refused.
        said: a line for people: its effect, or why it was refused.
    """

    model_config = ConfigDict(frozen=True)

    done: bool
    said: str


def carry_out(command: Command, ledger: Ledger) -> Answer:
    """Apply a command to a ledger; the caller must be the one who may write it.

    Raises:
        LedgerError: the ledger could not be written.
    """
    match command.name:
        case "pause":
            return _pause(ledger)
        case "retry":
            return _retry(ledger, command.tasks)
        case "stop":  # the captain itself does it
            return Answer(done=True, said=f"the captain of {ledger.voyage().id} ends; its ships work on")


def _pause(ledger: Ledger) -> Answer:
    voyage, counts = ledger.voyage(), ledger.count_tasks()
    resume = f"resume with: ocaptain sail --resume {voyage.id}"
    if voyage.state not in {"preparing", "running", "paused"}:
        why = "its final verify is running" if voyage.state == "verifying" else f"it is {voyage.state}"
        return Answer(done=False, said=f"{voyage.id} cannot be paused: {why}")
    if voyage.paused_reason in {None, "ours", "provider"}:  # these reasons end by themselves
        ledger.pause("user")
    if counts["in_progress"]:
        tasks = "1 task is" if counts["in_progress"] == 1 else f"{counts['in_progress']} tasks are"
        return Answer(done=True, said=f"{voyage.id} pauses: {tasks} finished first; {resume}")
    return Answer(done=True, said=f"{voyage.id} is paused; {resume}")


def _retry(ledger: Ledger, tasks: tuple[str, ...]) -> Answer:
    voyage = ledger.voyage()
    if voyage.state in {"verifying", "complete", "sinking", "sunk"}:
        return Answer(done=False, said=f"no task of {voyage.id} can be retried: it is {voyage.state}")
    if unknown := set(tasks) - {row["id"] for row in ledger.task_rows(tasks)}:
        return Answer(done=False, said=f"{voyage.id} has no task {', '.join(sorted(unknown))}")
    back = ledger.retry_failed(tasks)
    if not back:  # the command may be repeated
        return Answer(done=True, said=f"no task of {voyage.id} was retried: none of these has failed permanently")
    goes_on = "" if voyage.state == "running" else f"; resume with: ocaptain sail --resume {voyage.id}"
    return Answer(done=True, said=f"retried: task {', '.join(back)}{goes_on}")
