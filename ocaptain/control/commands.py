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
        id: its own; who repeats a command repeats this.
    """

    model_config = ConfigDict(frozen=True)

    name: Literal["pause"]
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
    assert command.name == "pause"
    voyage, counts = ledger.voyage(), ledger.counts()
    resume = f"go on with: ocaptain sail --resume {voyage.id}"
    if voyage.state not in {"preparing", "running", "paused"}:
        why = "its final verify runs" if voyage.state == "verifying" else f"it is {voyage.state}"
        return Answer(done=False, said=f"{voyage.id} cannot be paused: {why}")
    if voyage.paused_reason is None:
        ledger.pause("user")
    if counts["in_progress"]:
        tasks = "1 task is" if counts["in_progress"] == 1 else f"{counts['in_progress']} tasks are"
        return Answer(done=True, said=f"{voyage.id} pauses: {tasks} finished first; {resume}")
    return Answer(done=True, said=f"{voyage.id} is paused; {resume}")
