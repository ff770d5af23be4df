"""``pause``, ``retry`` and ``approve``: commands to a voyage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocaptain.cli import render
from ocaptain.cli.next_step import after_voyage, fold_steps
from ocaptain.cli.views import find_voyage, print_next_of, standing
from ocaptain.config import load_settings
from ocaptain.control import Command, ask
from ocaptain.errors import OcaptainError, PartialError, UsageError
from ocaptain.paths import expand_home
from ocaptain.plan import load_task
from ocaptain.process import start_captain
from ocaptain.query import Query
from ocaptain.voyage.resume import decide_start

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ocaptain.control import Answer
    from ocaptain.voyage.home import VoyageDirectory


def run_pause(voyage: str | None, *, as_json: bool) -> None:
    """Pause a voyage; pausing it again succeeds, too.

    Raises:
        UsageError: it has ended, or its final verify is running.
    """
    directory = find_voyage(voyage)
    answer = _ask(directory, Command(name="pause"))
    if as_json:
        render.print_json("pause", {"voyage": directory.id, "said": answer.said})
    else:
        resume = f"; resume with: ocaptain sail --resume {directory.id}"  # what comes next says it, too
        render.out().print(answer.said.removesuffix(resume))
        print_next_of(directory)


def run_approve(voyage: str | None, tasks: Sequence[str], *, as_json: bool) -> None:
    """Approve tasks; approving them again succeeds, too.

    Raises:
        UsageError: a task does not exist or waits for no approval, or the voyage has ended.
    """
    directory = find_voyage(voyage)
    answer = _ask(directory, Command(name="approve", tasks=tuple(tasks)))
    if as_json:
        render.print_json("approve", {"voyage": directory.id, "said": answer.said, "tasks": list(answer.tasks)})
        return
    render.out().print(answer.said)
    print_next_of(directory)


@dataclass(frozen=True)
class RetryArguments:
    """The arguments of ``retry``; see :class:`ocaptain.control.Command`."""

    tasks: tuple[str, ...] = ()
    any_ship: bool = False
    agent_cmd: str | None = None
    model: str | None = None
    task_file: Path | None = None


def run_retry(voyage: str | None, arguments: RetryArguments, *, as_json: bool) -> int:
    """Try tasks again; start the captain, and make missing ships again, if that is needed. Return the exit code.

    Raises:
        UsageError: a task does not exist or cannot be changed like this, or the voyage cannot go on.
        OcaptainError: the voyage goes on with less than it needs, or not at all.
    """
    directory = find_voyage(voyage)
    answer = _ask(directory, _retry_command(arguments))
    if not as_json:
        render.out().print(answer.said)
    error = _go_on(directory, is_same_agent=arguments.task_file is None)
    state = Query(directory.path).state()
    if as_json:
        facts = {"state": state, "error": render.error_as_dict(error)}
        render.print_json("retry", {"voyage": directory.id, "said": answer.said, "tasks": list(answer.tasks), **facts})
    elif error:
        steps = fold_steps(after_voyage(standing(directory)), render.err().width)
        error.details = (*error.details, *steps)
    if error:
        raise error
    if not as_json:
        render.out().print(f"{directory.id} is {state}")
        print_next_of(directory)
    return 0


def _go_on(directory: VoyageDirectory, *, is_same_agent: bool) -> OcaptainError | None:
    """Start the captain, or make missing ships again, as the open tasks need; return why that failed, None if not.

    Args:
        directory: of the voyage.
        is_same_agent: whether the ships have what the agents of all tasks need.
    """
    try:
        start = decide_start(directory, load_settings(), is_same_agent=is_same_agent)
        if start == "captain":
            start_captain(directory.path)
        elif start == "fleet":
            from ocaptain.cli.sail import FleetBusy, resume_voyage  # noqa: PLC0415 - loads what runs Ansible

            try:
                return resume_voyage(directory)
            except FleetBusy:
                resume = f"ocaptain sail --resume {directory.id}"
                if not is_same_agent:
                    return PartialError(
                        "another command is at work on its ships, which may lack what the changed task needs;"
                        f" when that has ended: {resume}"
                    )
                render.err().print(
                    "another command is at work on its ships: a `sail` goes on with all open tasks when it has built"
                    f" them; if that fails: {resume}"
                )
    except OcaptainError as error:
        return error
    return None


def _ask(directory: VoyageDirectory, command: Command) -> Answer:
    answer = ask(directory.path, command)
    if not answer.done:
        raise UsageError(answer.said)
    return answer


def _retry_command(arguments: RetryArguments) -> Command:
    """Return the command that carries out the arguments.

    Raises:
        UsageError: an option is empty, or the file is not that of one task.
    """
    for flag, value in (("--agent-cmd", arguments.agent_cmd), ("--model", arguments.model)):
        if value is not None and not value.strip():
            raise UsageError(f"{flag} is empty; give it a value, or leave it out")
    tasks, task_file = arguments.tasks, None
    if arguments.task_file is not None:
        task_file = _read_task(arguments.task_file)
        tasks = tasks or (str(task_file["id"]),)
        if tasks != (task_file["id"],):
            named = ", ".join(tasks)
            raise UsageError(f'{arguments.task_file} is of task "{task_file["id"]}"; it cannot replace task {named}')
    return Command(
        name="retry" if arguments == RetryArguments(arguments.tasks) else "change",
        tasks=tasks,
        any_ship=arguments.any_ship,
        agent_cmd=arguments.agent_cmd,
        model=arguments.model,
        task_file=task_file,
    )


def _read_task(path: Path) -> dict[str, Any]:
    """Read a corrected task, and print the warnings about it.

    Raises:
        UsageError: it has faults.
    """
    task, faults, warnings = load_task(expand_home(path).absolute())
    if task is None:
        raise UsageError(f"the task file {path} has errors:", [str(fault) for fault in faults])
    if task.status in {"completed", "deleted"}:
        raise UsageError(f"{path}: status: `{task.status}` is for no task that is tried again; write pending")
    for warning in warnings:
        render.err().print(f"warning: {warning}")
    return task.as_dict()
