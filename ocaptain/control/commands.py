"""The commands, and their effects on a ledger."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ocaptain.control.built import record_built
from ocaptain.control.retry import ChangeRefused, NewRun, is_on_hold, plan_changes
from ocaptain.ledger.records import NOT_SAILING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ocaptain.ledger import Ledger, TaskChange

#: What captains of every version answer to what they do not know.
UNKNOWN = "this captain does not know that command"
OVER = frozenset({"verifying", "complete", "sinking", "sunk"})  # nothing can be tried again then


class Command(BaseModel):
    """A command to a voyage.

    Attributes:
        name: ``pause``: start no new task; running ones are finished, checked and landed.
            ``retry``: try tasks again that failed permanently.
            ``change``: likewise, changed as the further fields say. It has a name of its own, since captains of
            earlier versions know ``retry`` without these fields, and would leave the tasks as they are.
            ``approve``: let ships have tasks that wait for the user's approval.
            ``land``: the user's commits in ``workspace/`` land now.
            ``built``: ships were built, or could not be built.
        ``stop``: the captain ends; its ships work on, and the next captain continues with them.
        tasks: ids of the tasks to retry (empty = all that failed) or to approve.
        any_ship: whether any ship may have the retried tasks from now on; without ``tasks`` also those that wait
            for a ship which does not sail.
        agent_cmd: the shell line that runs the retried tasks from now on.
        model: the model of their agents from now on.
        task_file: the corrected task, in the form of its file; ``tasks`` is its id.
        ready: ids of ships that were built.
        created: ids of ships that are new.
        failed: why ships could not be built, by their ids.
        gone: those of ``failed`` that do not exist.
        id: id of the command; repeat it to repeat the command.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["pause", "retry", "change", "approve", "land", "built", "stop"]
    tasks: tuple[str, ...] = ()
    any_ship: bool = False
    agent_cmd: str | None = None
    model: str | None = None
    task_file: dict[str, Any] | None = None
    ready: tuple[str, ...] = ()
    created: tuple[str, ...] = ()
    failed: dict[str, str] = Field(default_factory=dict)
    gone: tuple[str, ...] = ()
    id: str = Field(default_factory=lambda: secrets.token_hex(8), pattern=r"^[0-9a-f]{16}$")


class Answer(BaseModel):
    """The result of a command.

    Attributes:
        done: whether it was executed, now or before; False = refused.
        said: a line for people: its effect, or why it was refused.
        tasks: the tasks that were put back, changed or approved.
        commits: the commits that landed, oldest first.
        uncommitted: the files in ``workspace/`` that stay there, since they are not committed.
        is_late: whether the captain that answers has ended its voyage and executed nothing: the command is for the
            next one.
        has_failed: whether it could not be executed, though it was not refused.
    """

    model_config = ConfigDict(frozen=True)

    done: bool
    said: str
    tasks: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    uncommitted: tuple[str, ...] = ()
    is_late: bool = False
    has_failed: bool = False


def carry_out(command: Command, ledger: Ledger) -> Answer:
    """Apply a command to a ledger; the caller must be the one who may write it.

    Raises:
        LedgerError: the ledger could not be written.
    """
    match command.name:
        case "pause":
            return _pause(ledger)
        case "retry" | "change":
            return _retry(ledger, command)
        case "approve":
            return _approve(ledger, command)
        case "land":  # the captain itself does it, or ocaptain.voyage.land
            return Answer(done=False, said=UNKNOWN)
        case "built":
            record_built(ledger, command.ready, command.created, command.failed, command.gone)
            return Answer(done=True, said=f"recorded: {', '.join((*command.ready, *command.failed)) or 'nothing'}")
        case "stop":  # likewise
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


def _known_answer(ledger: Ledger, command: Command) -> Answer | None:
    """Return what a command was answered with before, or that it names tasks that do not exist; else None."""
    if known := ledger.answer_to(command.id):
        return Answer(done=True, said=known["said"], tasks=tuple(known["tasks"]))
    if unknown := set(command.tasks) - {row["id"] for row in ledger.task_rows(command.tasks)}:
        return Answer(done=False, said=f"{ledger.voyage().id} has no task {', '.join(sorted(unknown))}")
    return None


def _is_over(ledger: Ledger, verb: str) -> Answer | None:
    """Return why no task can be retried or approved any more, None if it can."""
    voyage = ledger.voyage()
    if voyage.state not in OVER:
        return None
    return Answer(done=False, said=f"no task of {voyage.id} can be {verb}: it is {voyage.state}")


def _recorder(command: Command, describe: Callable[[list[str]], Answer]) -> Callable[[list[str]], dict[str, Any]]:
    """Return what makes the record of a command, by which it is known when it is repeated."""

    def record(tasks: list[str]) -> dict[str, Any]:
        answer = describe(tasks)
        return {"id": command.id, "said": answer.said, "tasks": answer.tasks}

    return record


def _retry(ledger: Ledger, command: Command) -> Answer:
    if answer := _known_answer(ledger, command) or _is_over(ledger, "retried"):
        return answer
    run = NewRun(command.agent_cmd, command.model, command.task_file)
    unpin = _tasks_to_unpin(ledger, command.tasks) if command.any_ship else []
    try:
        changes = plan_changes(ledger, command.tasks or ledger.failed_tasks(), run)
    except ChangeRefused as error:
        return Answer(done=False, said=str(error))

    def describe(back: list[str]) -> Answer:
        return _describe_retry(ledger, command, back, changes, unpin)

    # Without names they are changed for the whole voyage: what waits for these tasks is run by the same line.
    voyage = {} if command.tasks else _voyage_changes(ledger, run)
    back = ledger.retry_failed(
        command.tasks, changes=changes, unpin=unpin, voyage=voyage, answer=_recorder(command, describe)
    )
    return describe(back)


def _voyage_changes(ledger: Ledger, run: NewRun) -> dict[str, str]:
    """Return what changes for the tasks of the voyage that say nothing of their own: its line if it has one."""
    has_line = ledger.voyage().agent_cmd is not None
    given = {"agent_cmd": run.agent_cmd if has_line else None, "model": run.model}
    return {name: value for name, value in given.items() if value}


def _tasks_to_unpin(ledger: Ledger, tasks: Sequence[str]) -> list[str]:
    """Return the pinned tasks that are retried: the named ones, else those that failed or whose ship does not sail."""
    off = {ship.id for ship in ledger.ships() if ship.state in NOT_SAILING}
    return [
        row["id"]
        for row in ledger.rows("tasks", "position")
        if row["pin"]
        and row["status"] in {"pending", "failed"}
        and (row["id"] in tasks if tasks else row["status"] == "failed" or row["pin"] in off)
    ]


def _describe_retry(
    ledger: Ledger, command: Command, back: list[str], changes: Sequence[TaskChange], unpin: Sequence[str]
) -> Answer:
    voyage = ledger.voyage()
    changed = [one for one in dict.fromkeys([*(change.task for change in changes), *unpin]) if one not in back]
    if not back and not changed:
        why = "none of these has failed permanently" if command.tasks else "none has failed permanently"
        return Answer(done=True, said=f"no task of {voyage.id} was retried: {why}")
    said = [f"retried: task {', '.join(back)}"] if back else []
    said += [f"changed: task {', '.join(changed)}"] if changed else []
    if voyage.paused_reason == "user":
        said.append(f"{voyage.id} is paused; resume with: ocaptain sail --resume {voyage.id}")
    return Answer(done=True, said="; ".join(said), tasks=(*back, *changed))


def _approve(ledger: Ledger, command: Command) -> Answer:
    if answer := _known_answer(ledger, command):
        return answer
    rows = ledger.task_rows(command.tasks)
    if without := [row["id"] for row in rows if row["approved"] and not is_on_hold(row)]:
        return Answer(done=False, said=f"task {', '.join(without)} has no metadata.hold: there is nothing to approve")
    if not all(row["approved"] for row in rows) and (over := _is_over(ledger, "approved")):
        return over

    def describe(approved: list[str]) -> Answer:
        if not approved:
            names = ", ".join(row["id"] for row in rows)
            return Answer(done=True, said=f"nothing to do: task {names} was approved before")
        return Answer(done=True, said=f"approved: task {', '.join(approved)}", tasks=tuple(approved))

    return describe(ledger.approve(command.tasks, _recorder(command, describe)))
