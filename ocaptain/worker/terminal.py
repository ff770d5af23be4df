"""An attempt whose agent has the window's terminal for itself, so that a person can see and use its own screen.

::

    supervisor ──starts, its process group in the terminal's foreground──> agent  <──keys── a person (shell --write)
        ^                                                                    │
        └──the agent's `Screen` module reads what it writes into files <─────┘
           (a session's transcript, what its hooks tell): lines of its stream, and whether it thinks that it is done

The output itself is a picture, so it is neither piped nor logged. What is logged and billed are the lines that the
module makes of the files; they take the way of a piped stream (``StreamOutputView`` of :mod:`.supervise`). An agent
that thinks that it is done waits for the next prompt; it is ended here, and has then ended as if by itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import termios
import time
from importlib import import_module
from pathlib import Path
from typing import Any, Iterator, List, Mapping

from ocaptain.worker.job import MAX_ARGUMENT, JobFile
from ocaptain.worker.launch import PreparedRun
from ocaptain.worker.windows import seconds_since_key

LOOK_SECONDS = 0.2
KEY_SECONDS = 30.0  # between the last key and the end of the agent, for the key to count as its reason
#: Leave the other screen; show the cursor; no mouse, focus or paste reports, no key protocols; normal letters.
RESET = (
    b"\033[?1049l\033[?25h\033[?1000l\033[?1002l\033[?1003l\033[?1006l\033[?1004l\033[?2004l"
    b"\033[<u\033[>4m\033[?1l\033>\033[0m\r\n"
)


def prompt_argument(prompt: Path) -> str:
    """Return a prompt as an argument; one that is too long for the kernel is named by its file.

    Raises:
        OSError: it cannot be read.
    """
    text = prompt.read_text("utf-8", "replace").replace("\0", "")
    text = f"\n{text}" if text.startswith("-") else text  # it would be taken for an option
    if len(os.fsencode(text)) <= MAX_ARGUMENT:
        return text
    first = text.lstrip().partition("\n")[0][:1000]
    return f"{first}\n\nThe whole of it is in the file {prompt}: read all of that file first, then do what it says."


class TerminalRun:
    """An agent that runs in the terminal of this process.

    Args:
        job: what is run.
        prepared: likewise, completed on this ship.
        env: environment of the agent.
        home: of the ship's user, as the agent sees it.

    Raises:
        OSError: there is no terminal, or the agent cannot be started.

    Attributes:
        child: the agent, which leads its own process group.
    """

    def __init__(self, job: JobFile, prepared: PreparedRun, env: Mapping[str, str], home: Path) -> None:
        if not os.isatty(0):
            raise OSError("the agent needs a terminal for its screen, and its window has none")
        assert job.screen
        self._before = termios.tcgetattr(0)
        prompt = prompt_argument(prepared.prompt)
        self._screen: Any = import_module(job.screen).Screen(home, prompt, env)
        self.is_done = False
        # Its own description of the terminal: that of the launcher does not block, which is ours to handle.
        terminal = os.open(os.ttyname(0), os.O_RDWR | os.O_NOCTTY)
        try:
            self.child = subprocess.Popen(
                [*prepared.argv, prompt],
                cwd=job.cwd,
                env=env,
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                preexec_fn=_take_foreground,  # noqa: PLW1509 - this process has one thread
            )
        finally:
            os.close(terminal)

    def watch(self, view: Any, began: float, timeout: float, stall: float) -> str:
        """Follow the agent until it ends, is done or exceeds a limit; return the reason, ``done`` if it is done.

        Args:
            view: takes what is read.
            began: when the attempt began, on the monotonic clock.
            timeout: seconds that it may take.
            stall: seconds that it may write nothing for.
        """
        last = time.monotonic()
        with _exit_poll(self.child.pid) as ended:
            while True:
                data = self._screen.read()
                now = time.monotonic()
                if data:
                    view.receive(data)
                    last = now
                view.tick()
                if self.child.poll() is not None:
                    return "exit"
                if self._screen.is_done:
                    self.is_done = True
                    return "done"
                if now - began > timeout:
                    return "timeout"
                if now - last > stall:
                    return "stall"
                ended.poll(LOOK_SECONDS * 1000)

    def finish(self, view: Any) -> None:
        """Read the rest of what an agent wrote that has ended, and make the terminal as it was."""
        since = seconds_since_key()
        view.receive(self._screen.finish(has_keys=since is not None and since < KEY_SECONDS))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        with contextlib.suppress(OSError, termios.error):
            os.tcsetpgrp(0, os.getpgrp())
            termios.tcsetattr(0, termios.TCSAFLUSH, self._before)
            os.write(1, RESET)


def _take_foreground() -> None:
    """Put this process, the agent to be, into a group of its own that has the terminal."""
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    os.tcsetpgrp(0, os.getpid())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTTOU})


@contextlib.contextmanager
def _exit_poll(pid: int) -> Iterator["select.poll"]:
    """Yield what can be polled for the end of a process; where that is not supported, it waits in vain."""
    found: List[int] = []
    waiting = select.poll()
    with contextlib.suppress(OSError, AttributeError):
        found.append(os.pidfd_open(pid))
        waiting.register(found[0], select.POLLIN)
    try:
        yield waiting
    finally:
        for one in found:
            os.close(one)
