"""What the keys do: looks closer, questions, and commands to the voyage."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from textual.app import App, ScreenStackError

from ocaptain.cli.facts import counted
from ocaptain.cli.style import BAD, BUSY, fit
from ocaptain.cli.watch import deeds
from ocaptain.cli.watch.keys import help_lines
from ocaptain.cli.watch.pages import LogPage, Page, Question, Search
from ocaptain.cli.watch.programs import run_program
from ocaptain.errors import OcaptainError
from ocaptain.query import NOT_SAILING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import TypeVar

    from ocaptain.cli.watch.panes import Rows
    from ocaptain.cli.watch.seen import Seen
    from ocaptain.query import ShipLine, Snapshot, TaskLine
    from ocaptain.voyage.home import VoyageDirectory

    Found = TypeVar("Found")

#: In these states nothing can be tried again, or approved.
_OVER = frozenset({"verifying", "complete", "sinking", "sunk"})
_MAX_NAMED = 12


class ActingApp(App[None]):
    """The application's keys; :class:`~ocaptain.cli.watch.app.WatchApp` has its screen."""

    directory: VoyageDirectory
    environ: Mapping[str, str]
    program: Sequence[str]
    seen: Seen
    ships: Rows
    tasks: Rows

    def look(self) -> None:
        """Read the voyage again at once."""
        raise NotImplementedError

    def say(self, words: str, style: str = "") -> None:
        """Show the answer to a key."""
        raise NotImplementedError

    def show_all(self) -> None:
        """Show each landed task."""
        raise NotImplementedError

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin to do something that waits; leaving ends it."""

        async def until_the_end() -> None:
            try:
                await work()
            except ScreenStackError:
                if self.is_running:  # else the user has left meanwhile
                    raise

        self.run_worker(until_the_end())

    @property
    def is_on_tasks(self) -> bool:
        """Whether the keys are about the chosen task; else about the chosen ship."""
        return bool(self.screen_stack) and self.screen_stack[0].focused is self.tasks

    @property
    def chosen_ship(self) -> ShipLine | None:
        """The ship that keys are about: the chosen one, or that of the chosen task where that is worked on."""
        name = self.ships.chosen
        task = self.chosen_task if self.is_on_tasks else None
        if task is not None:
            name = task.ship if task.status == "in_progress" else None
        return next((one for one in self._seen_ships if one.id == name), None)

    @property
    def chosen_task(self) -> TaskLine | None:
        """The task that keys are about: the chosen one, or that of the chosen ship."""
        snapshot = self.seen.snapshot
        if snapshot is None:
            return None
        if self.is_on_tasks:
            return snapshot.task.get(self.tasks.chosen or "")
        name = next((one.task for one in snapshot.ships if one.id == self.ships.chosen), None)
        return snapshot.task.get(name or "")

    @property
    def _seen_ships(self) -> Sequence[ShipLine]:
        return self.seen.snapshot.ships if self.seen.snapshot else ()

    @property
    def can_resume(self) -> bool:
        """Whether the voyage would go on by ``sail --resume``; else it can be paused, if anything."""
        snapshot = self.seen.snapshot
        if snapshot is None:
            return False
        about = snapshot.about
        is_left = about.state in {"running", "verifying"} and not self.seen.has_captain
        is_pausing = about.state == "running" and about.paused_reason in {"user", "budget", "limit"}
        return about.state in {"paused", "preparing"} or is_left or is_pausing

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something now."""
        snapshot, task = self.seen.snapshot, self.chosen_task
        if action in {"cost", "all", "find"}:
            return snapshot is not None
        if action in {"attach", "log", "diff", "why", "retry", "approve", "pause", "sink"}:
            return snapshot is not None and self._can(action, snapshot, task)
        return super().check_action(action, parameters)

    def _can(self, action: str, snapshot: Snapshot, task: TaskLine | None) -> bool:
        state = snapshot.about.state
        match action:
            case "attach":
                ship = self.chosen_ship
                return ship is not None and ship.state not in {*NOT_SAILING, "provisioning"}
            case "log":
                return task is not None and task.attempt > 0
            case "diff":
                return self.chosen_ship is not None
            case "why":
                return task is not None
            case "retry":
                return bool(snapshot.failed) and state not in _OVER
            case "approve":
                return task is not None and task.hold and state not in _OVER
            case "pause":
                return self.can_resume or state == "running"
        return state != "sunk"

    # -- to look closer ------------------------------------------------------------------------------

    def action_attach(self) -> None:
        """Look at the ship's agent."""
        if ship := self.chosen_ship:
            self.run_here("shell", self.directory.id, ship.id)

    def action_log(self) -> None:
        """Show the whole log of the task."""
        if task := self.chosen_task:
            command = f"ocaptain logs {self.directory.id} {task.id}"
            title = f"log of #{task.id} {task.subject}"
            self.push_screen(LogPage(title, lambda: deeds.find_logs(self.directory, task.id), command))

    def action_diff(self) -> None:
        """Show what the ship's agent has changed so far."""
        if ship := self.chosen_ship:
            self.start(lambda: self._diff(ship.id))

    async def _diff(self, ship: str) -> None:
        make = await self._in_thread(lambda: deeds.tell_diff(self.directory, ship))
        if make is not None:
            self.push_screen(Page(f"diff of {ship}", make))

    def action_why(self) -> None:
        """Show why the task is where it is."""
        if task := self.chosen_task:
            self.start(lambda: self._why(task.id))

    async def _why(self, task: str) -> None:
        make = await self._in_thread(lambda: deeds.tell_why(self.directory, task))
        if make is not None:
            self.push_screen(Page(f"why #{task}", make))

    def action_cost(self) -> None:
        """Show what the voyage costs."""
        self.start(self._cost)

    async def _cost(self) -> None:
        make = await self._in_thread(lambda: deeds.tell_costs(self.directory))
        if make is not None:
            self.push_screen(Page("cost", make))

    def action_help(self) -> None:
        """Show the keys and symbols."""
        self.push_screen(Page("help", lambda _: help_lines()))

    _last_search = ""

    def action_find(self) -> None:
        """Ask for a task, and choose it."""
        self.start(self._find)

    async def _find(self) -> None:
        wanted = await self.push_screen_wait(Search(self._last_search))
        snapshot = self.seen.snapshot
        if not wanted or snapshot is None:
            return
        self._last_search = wanted
        found = find_task(snapshot.tasks, wanted, after=self.tasks.chosen if self.is_on_tasks else None)
        if found is None:
            self.say(f"no task is found by {fit(wanted, 40)!r}", BUSY)
            return
        self.tasks.focus()
        if not self.tasks.choose(found):
            self.show_all()
            self.tasks.choose(found)

    # -- to act --------------------------------------------------------------------------------------

    def action_retry(self) -> None:
        """Try failed tasks again."""
        self.start(self._retry)

    async def _retry(self) -> None:
        snapshot, task = self.seen.snapshot, self.chosen_task
        if snapshot is None:
            return
        chosen = [task.id] if task is not None and task.status == "failed" else [one.id for one in snapshot.failed]
        which = f"task {fit(chosen[0], 40)}" if len(chosen) == 1 else f"all {len(chosen)} failed tasks"
        details = [f"#{name} {snapshot.task[name].subject}" for name in chosen[:_MAX_NAMED]]
        details += [f"and {len(chosen) - _MAX_NAMED} more"] if len(chosen) > _MAX_NAMED else []
        if not await self._is_wanted(f"Try {which} again?", details):
            return
        done = await self._in_thread(lambda: deeds.retry(self.directory, chosen))
        if done is None:
            return
        said, needs_ships = done
        self.say(said)
        if needs_ships:
            self.run_here("sail", "--resume", self.directory.id, is_kept=True)

    def action_approve(self) -> None:
        """Approve the task."""
        if task := self.chosen_task:
            self.start(lambda: self._approve(task))

    async def _approve(self, task: TaskLine) -> None:
        if await self._is_wanted(f"Let ships have task {fit(task.id, 40)}?", [task.subject]):
            await self._tell(lambda: deeds.approve(self.directory, task.id))

    def action_pause(self) -> None:
        """Pause the voyage, or resume it."""
        self.start(self._resume if self.can_resume else self._pause)

    async def _pause(self) -> None:
        details = ["No task is started any more; what is under way is finished, checked and landed."]
        if await self._is_wanted(f"Pause {self.directory.id}?", [*details, "Then the ships sleep."]):
            await self._tell(lambda: deeds.pause(self.directory))

    async def _resume(self) -> None:
        details = [f"By: ocaptain sail --resume {self.directory.id}"]
        if await self._is_wanted(f"Resume {self.directory.id}?", details):
            self.run_here("sail", "--resume", self.directory.id, is_kept=True)

    def action_sink(self) -> None:
        """End the voyage."""
        self.start(self._sink)

    async def _sink(self) -> None:
        snapshot = self.seen.snapshot
        if snapshot is None:
            return
        if await self._is_wanted(f"Sink {self.directory.id}?", loss_of(snapshot)):
            self.run_here("sink", self.directory.id, is_kept=True)

    # -- how -----------------------------------------------------------------------------------------

    def run_here(self, *words: str, is_kept: bool = False) -> None:
        """Run a command of ours in the terminal; its end brings the screen back.

        Args:
            words: the command.
            is_kept: whether what it said is to be read, also if it succeeds.
        """
        with contextlib.nullcontext() if self.is_headless else self.suspend():
            code = run_program(self.program, words, self.environ, is_kept=is_kept)
        if code and not is_kept:  # else the user has read it
            self.say(f"`ocaptain {' '.join(words)}` ended with exit code {code}", BAD)
        self.look()

    async def _is_wanted(self, question: str, details: Sequence[str]) -> bool:
        page: Question = Question(question, [fit(one, 200) for one in details])
        answer: bool | None = await self.push_screen_wait(page)
        return answer is True

    async def _tell(self, work: Callable[[], str]) -> None:
        said = await self._in_thread(work)
        if said is not None:
            self.say(said)
        self.look()

    async def _in_thread(self, work: Callable[[], Found]) -> Found | None:
        """Return what work returns; None if it failed, which is shown."""
        try:
            return await asyncio.to_thread(work)
        except (OcaptainError, OSError) as error:
            self.say(str(error), BAD)
            return None


def find_task(tasks: Sequence[TaskLine], wanted: str, after: str | None) -> str | None:
    """Return the task with an id, else the next one whose id or subject has the words; None if there is none.

    Args:
        tasks: in their order.
        wanted: id or words, in any case.
        after: the task after which to look; from the first one again if there is none after it.
    """
    ids = [task.id for task in tasks]
    wanted = wanted.removeprefix("#")
    if wanted in ids and wanted != after:
        return wanted
    words = wanted.casefold()
    start = ids.index(after) + 1 if after in ids else 0
    for task in (*tasks[start:], *tasks[:start]):
        if words in task.id.casefold() or words in task.subject.casefold():
            return task.id
    return None


def name_some(names: Sequence[str]) -> str:
    """Return the first names, and of many how many more there are."""
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{', '.join(names[:_MAX_NAMED])}{more}"


def loss_of(snapshot: Snapshot) -> list[str]:
    """Return what is lost and what is kept if the voyage is sunk, a line each."""
    up = [ship.id for ship in snapshot.ships if ship.is_up]
    at_work = [task.id for task in snapshot.tasks if task.status == "in_progress"]
    rest = sum(task.status != "completed" for task in snapshot.tasks)
    lines = [f"kept: what has landed ({counted(len(snapshot.landed), 'task')}), all logs and this voyage's directory"]
    if at_work:
        what = f"the agent{'' if len(at_work) == 1 else 's'} of task {name_some(at_work)}"
        lines.append(f"stopped: {what}; the work so far is fetched first")
    if rest:
        lines.append(f"not done: {counted(rest, 'task')}")
    if up:
        lines.append(f"destroyed: {counted(len(up), 'ship')}, with what else is on {'it' if len(up) == 1 else 'them'}")
    return [*lines, "`ocaptain sink` asks once more."]
