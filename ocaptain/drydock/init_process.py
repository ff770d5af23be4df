"""The init of a ship, as drydock holds it: by a descriptor, since a pid may come to be another process's.

::

    its pid     stays its own as long as its keeper lives: the keeper, a program of the machine's, never waits for it
    pidfd       says whether it has ended, and ends it: the kernel ends the ship's other processes with it, and says
                that it has ended only when they have (pid_namespaces(7))

So a path like ``/proc/PID/ns/mnt`` is the ship's or leads nowhere, whatever the ship's root has done to its init.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from pathlib import Path

END_SECONDS = 30.0


class InitProcess:
    """A running init.

    Args:
        keeper: pid of its parent, a child of this process.

    Raises:
        OSError: it has ended.
    """

    def __init__(self, keeper: int) -> None:
        self._keeper = keeper
        self.pid = self._child_of_keeper()
        self._pidfd = os.pidfd_open(self.pid)
        try:
            if self._child_of_keeper() != self.pid or not self.is_alive:
                raise ProcessLookupError("its init has ended")
        except BaseException:
            self.close()
            raise

    def _child_of_keeper(self) -> int:
        children = Path(f"/proc/{self._keeper}/task/{self._keeper}/children").read_text("ascii").split()
        if not children:
            raise ProcessLookupError("its init has ended")
        return int(children[0])

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._wait(0.0)

    def _wait(self, seconds: float) -> bool:
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)  # which it is from its end on (pidfd_open(2))
        return bool(poller.poll(seconds * 1000))

    def end(self) -> bool:
        """End it, and with it every process of the ship; return whether they have ended after 30 s."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        return self._wait(END_SECONDS)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._pidfd)
