"""The windows of the agents' tmux: which one is at work, and the end of those that are finished.

A launcher (:mod:`.launcher`) runs in a window of its own; the agents that it starts are all shown there. A window
is finished when its launcher has ended: what it showed is in the logs of its attempts.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, List, Optional, Sequence

from ocaptain.protocol.files import read_json, start_time
from ocaptain.worker.places import Places
from ocaptain.worker.procs import ancestors

TMUX = "ocaptain"
SESSION = "agent"
TMUX_SECONDS = 30.0
#: Spaces, since tmux replaces tabs for a client that is not known to take UTF-8. The command comes last.
_FORMAT = "#{window_id} #{pane_dead} #{pane_pid} #{pane_start_command}"
_LINE = re.compile(r"@([0-9]+) ([01]) ([0-9]+) ?(.*)")


@dataclass(frozen=True)
class Pane:
    """A pane of the session.

    Attributes:
        window: number of its window; a later window has a higher one.
        is_dead: whether its process has ended.
        pid: of its process.
        is_launcher: whether that is, or was, a launcher.
    """

    window: int
    is_dead: bool
    pid: int
    is_launcher: bool


def parse_panes(text: str) -> List[Pane]:
    """Parse what tmux says of its panes; lines of another form are skipped."""
    found = filter(None, map(_LINE.fullmatch, text.splitlines()))
    return [Pane(int(one[1]), one[2] == "1", int(one[3]), one[4].rstrip("\"'").endswith(" launcher")) for one in found]


def choose_window(panes: Sequence[Pane], at_work: FrozenSet[int]) -> Optional[int]:
    """Return the window to show to a person, None if there is none.

    That is the window of the running attempt; without one that of the newest launcher, which the next attempt will
    use; then the newest of any other program; then the newest whose program has ended.

    Args:
        panes: of the session.
        at_work: processes of the running attempt: its supervisor and the parents of that.
    """
    living = [(pane.pid in at_work, pane.is_launcher, pane.window) for pane in panes if not pane.is_dead]
    return max(living)[-1] if living else max((pane.window for pane in panes), default=None)


def finished_windows(panes: Sequence[Pane]) -> List[int]:
    """Return the windows in which nothing runs any more, but for the newest launcher's: it shows why that ended."""
    kept = {pane.window for pane in panes if not pane.is_dead}
    kept |= {max((pane.window for pane in panes if pane.is_launcher), default=-1)}
    return sorted({pane.window for pane in panes} - kept)


def list_panes(places: Places) -> List[Pane]:
    """Return the panes of the agents' session; none if it does not exist."""
    done = run_tmux(places, "list-panes", "-s", "-t", f"={SESSION}", "-F", _FORMAT)
    return parse_panes(done.stdout.decode(errors="replace")) if done.returncode == 0 else []


def close_finished_windows(places: Places) -> None:
    """Close the windows in which nothing runs any more; one that cannot be closed stays."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        for window in finished_windows(list_panes(places)):
            run_tmux(places, "kill-window", "-t", f"@{window}")


def close_own_window(places: Places) -> None:
    """Close the window of this launcher, which is not needed any more; the session keeps at least one window."""
    own = os.environ.get("TMUX_PANE", "")
    if os.environ.get("TMUX", "").partition(",")[0].endswith(f"/{TMUX}") and own:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if len({pane.window for pane in list_panes(places)}) > 1:
                run_tmux(places, "kill-window", "-t", own)


def run_tmux(places: Places, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a command of the agents' tmux."""
    argv = ["tmux", "-L", TMUX, "-f", str(places.tmux_conf), *arguments]
    return subprocess.run(argv, capture_output=True, timeout=TMUX_SECONDS, check=False)


def print_window(places: Places) -> int:
    """Print the window to show to a person (``@3``); return 1 if there is none."""
    window = choose_window(list_panes(places), _running_attempt(places))
    if window is None:
        return 1
    print(f"@{window}")
    return 0


def _running_attempt(places: Places) -> FrozenSet[int]:
    """Return the running attempt's supervisor and its parents, none without one."""
    with contextlib.suppress(TypeError, KeyError, ValueError):  # there is none, or no state
        job = read_json(places.state)["job"]
        supervisor = read_json(Path(job["directory"]) / "supervisor.json")
        pid = int(supervisor["pid"])
        if supervisor["start"] and start_time(pid) == supervisor["start"]:
            return frozenset({pid, *ancestors(pid)})
    return frozenset()


def seconds_since_key(now: Optional[float] = None) -> Optional[float]:
    """Return how many seconds ago a person last pressed a key in this process' tmux; None if nobody may type there.

    Args:
        now: seconds since 1970; None = the present.
    """
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        argv = ["tmux", "list-clients", "-F", "#{client_readonly} #{client_activity}"]
        done = subprocess.run(argv, capture_output=True, timeout=TMUX_SECONDS, check=False)
        keys = last_keys(done.stdout.decode(errors="replace"))
        return (time.time() if now is None else now) - max(keys) if keys else None
    return None


def last_keys(text: str) -> List[int]:
    """Return when each client that may type was last active (a key, or its arrival), from what tmux says of clients."""
    found = filter(None, map(re.compile("0 ([0-9]+)").fullmatch, text.splitlines()))
    return [int(one[1]) for one in found]
