"""Plans to sail for tests, of the kind that people write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers import HELD, run_task, write_plan
from tests.texts import HOSTILE

if TYPE_CHECKING:
    from pathlib import Path

FIFTY = 50
#: Subjects in turn: of several scripts, of one cell and two a character, short and too long for any line.
SUBJECTS = (
    "Add OAuth2 login",
    "修复登录页面在移动设备上的布局问题使其在小屏幕上可以正常使用",
    "Réécrire l'exposé of a page that has a long name, and that is to be read in full by whoever comes to it",
    "Ship the family emoji picker 👨‍👩‍👧‍👦 with 🇨🇭 flags and ❤️ hearts",
    "データベースの移行スクリプトを書く",
    "Fix the spelling of “accommodate”",
    "Speed up the search",
)
#: Tasks that fail for good, and what a person must be able to read about each.
BY_EXIT, BY_CHECK, BY_TIME = "17", "23", "31"
FAILURES = {BY_EXIT: "boom: no such table", BY_CHECK: "No such file", BY_TIME: "longer than|time limit"}
#: The task that waits for one of them.
BEHIND = "48"
#: Fails at first, and lands then.
SECOND_TRY = "12"
#: Tasks that work until :meth:`~tests.helpers.Sailor.go`, and one that waits for them.
LONG, LAST = ("45", "46"), "50"
#: Landed when nothing but :data:`LONG` is left to do, and at the end.
LANDED_FIRST, LANDED_LAST = 43, 46


def write_fifty(directory: Path, log: str, subjects: tuple[str, ...] = (*SUBJECTS, *HOSTILE.values())) -> Path:
    """Write a plan of fifty tasks of a moment each.

    Three fail for good, one waits for one of them, two work until they are told, one waits for these.

    Args:
        directory: where it is written; its name is the plan's.
        log: a file of the workspace that each task prints.
        subjects: of the tasks, in turn.
    """
    waits = {str(number): {str(number - 9)} if number > 9 else set() for number in range(1, FIFTY + 1)}
    waits = {name: found - set(FAILURES) for name, found in waits.items()} | {BEHIND: {BY_EXIT}, LAST: set(LONG)}
    tasks = []
    for number in range(1, FIFTY + 1):
        name = str(number)
        land = f"cat {log}; echo I am task {name}; mkdir -p app; seq {number} > app/{name}.txt"
        more = {}
        if name == BY_EXIT:
            land = "echo boom: no such table: users >&2; exit 3"
        elif name == BY_CHECK:
            more = {"verify": "grep -c links app/report.html"}
        elif name == BY_TIME:
            land, more = "echo waiting for the database; sleep 60", {"timeout": 1}
        elif name == SECOND_TRY:
            land = f'test "$OCAPTAIN_ATTEMPT" -gt 1 || {{ echo port 80 is in use; exit 1; }}; {land}'
        elif name in LONG:
            land += f"; {HELD}"
        blocks = sorted(other for other in waits if name in waits[other])
        subject = {"subject": subjects[(number - 1) % len(subjects)], "blocks": blocks}
        tasks.append({**run_task(land, *sorted(waits[name]), **more), **subject})
    return write_plan(directory, tasks, verify="cd ~/voyage/workspace; test $(ls app | wc -l) -ge 40")
