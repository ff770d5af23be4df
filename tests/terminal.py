"""A person at a terminal: tmux is the terminal, a shell runs in it, keys go in and a screen comes out.

    test ──keys──> tmux (a server of its own) ──> bash ──> ocaptain
         <─screen─                            <─ bytes ─

What was sent to the terminal is kept byte by byte as well, since a screen does not show what it obeyed.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.helpers import OCAPTAIN, PATIENCE, wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = PATIENCE
_POLL_SECONDS = 0.1
_BETWEEN_KEYS = 0.2
#: The prompt is the exit code of what ran before, alone on its line.
_PROMPT = re.compile(r"^\((\d+)\)$")
#: A line that a terminal may wrap, since a person takes it as a whole.
_TO_COPY = re.compile(r"^next: |^[^✓✗●↻○]*(?: [~/][^ ]+| ocaptain [a-z]+[^…]*| git -C [^…]*)$")
#: A string for the terminal to act upon (OSC, DCS, SOS, PM, APC, a title), and C1 in UTF-8.
_STRING = re.compile(rb"\x1b([\]P^_Xk])|\xc2[\x80-\x9f]")
#: What is no part of a terminal's own environment here.
_NOT_INHERITED = frozenset({"COLUMNS", "LINES", "TMUX", "TMUX_PANE", "TMUX_TMPDIR", "NO_COLOR", "TERM", "PS1"})


class Terminal:
    """A shell in a terminal of ``width`` by ``height`` cells.

    Args:
        env: the environment; what belongs to a terminal is replaced.
        cwd: where the shell starts.
        width, height: in cells.
        more: variables beside ``env``.
    """

    def __init__(self, env: Mapping[str, str], cwd: Path, width: int = 80, height: int = 24, **more: str) -> None:
        self.width, self.height = width, height
        self._place = Path(tempfile.mkdtemp(prefix="oct-", dir="/tmp"))  # the path of a socket must be short
        self._raw = self._place / "raw"
        self._raw.touch()
        self._env = {name: value for name, value in env.items() if name not in _NOT_INHERITED} | {
            "TMUX_TMPDIR": str(self._place),
            "LC_ALL": "C.UTF-8",
        }
        own = {
            "PATH": f"{OCAPTAIN.parent}:{env['PATH']}",
            "PS1": "($?) ",
            "HISTFILE": "/dev/null",
            "LC_ALL": "C.UTF-8",
            **more,
        }
        shell = ["env", "-u", "TMUX", "-u", "TMUX_PANE", "-u", "TMUX_TMPDIR", *(f"{k}={v}" for k, v in own.items())]
        size = ["-x", str(width), "-y", str(height)]
        first = ["start-server", ";", "set", "-g", "status", "off", ";", "set", "-g", "history-limit", "5000"]
        first += [";", "set", "-g", "default-terminal", "tmux-256color", ";", "set", "-s", "escape-time", "0"]
        argv = ["new-session", "-d", *size, *shell, "bash", "--norc", "--noprofile"]
        self._tmux("-f", "/dev/null", *first, ";", *argv, cwd=cwd)
        self._server = int(self._tmux("display-message", "-p", "#{pid}"))
        self._tmux("pipe-pane", "-O", f"exec cat >> {self._raw}")
        self.until(r"^\(0\)$")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server with all that runs in it; nothing is left."""
        with contextlib.suppress(AssertionError):
            self._tmux("kill-server")
        wait_for(lambda: not _is_alive(self._server))
        shutil.rmtree(self._place)

    def _tmux(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run a command of our tmux; return what it says."""
        argv = ["tmux", "-L", "outer", "-u", *arguments]
        done = subprocess.run(argv, env=self._env, cwd=cwd, capture_output=True, check=False, timeout=240)
        if done.returncode:
            raise AssertionError(f"tmux {arguments}: {done.stderr.decode()}")
        return done.stdout.decode(errors="replace")

    # -- what a person does ----------------------------------------------------------------

    def type(self, text: str) -> None:
        """Type text. Keys go to the program, also those that are tmux's own (Ctrl-b)."""
        self._tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names, as fast as a person can: ``Enter``, ``C-c``, ``Escape``, ``Down``."""
        for at, key in enumerate(keys):
            time.sleep(_BETWEEN_KEYS if at else 0)  # what comes faster a tmux on a ship takes for pasted
            self._tmux("send-keys", "--", key)

    def resize(self, width: int, height: int) -> None:
        """Make the terminal larger or smaller."""
        self.width, self.height = width, height
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def start(self, line: str) -> None:
        """Type a command line on a screen that is empty but for it, and do not wait for it."""
        self._tmux("send-keys", "-R", ";", "clear-history")
        self.type(line)
        self.press("Enter")

    def run(self, line: str, seconds: float = SECONDS) -> int:
        """Run a command line to its end; return its exit code. What it printed is :meth:`said`."""
        self.start(line)
        return self.ended(seconds)

    def ended(self, seconds: float = SECONDS) -> int:
        """Wait for the shell's prompt; return the exit code of what ran."""
        return int(self.until(_PROMPT, seconds, last=True)[1])

    # -- what a person sees ----------------------------------------------------------------

    def screen(self) -> str:
        """Return what is on the screen, lines without the spaces at their ends."""
        return self._tmux("capture-pane", "-p").rstrip("\n")

    def colours(self) -> str:
        """Return what is on the screen with the escapes of its colours."""
        return self._tmux("capture-pane", "-p", "-e").rstrip("\n")

    def whole(self) -> str:
        """Return the screen and what scrolled away above it."""
        return self._tmux("capture-pane", "-p", "-S", "-").rstrip("\n")

    def said(self) -> str:
        """Return what the last command line printed, also what scrolled away."""
        lines = self.whole().split("\n")[1:]
        return "\n".join(lines[:-1] if lines and _PROMPT.match(lines[-1].rstrip()) else lines)

    def sent(self) -> bytes:
        """Return all bytes that the terminal was ever sent."""
        return self._raw.read_bytes()

    def until(self, pattern: str | re.Pattern[str], seconds: float = SECONDS, *, last: bool = False) -> re.Match[str]:
        """Wait until a pattern is on the screen (``last``: is the last line); return what it matched.

        Raises:
            AssertionError: it did not come; has the screen.
        """
        known = re.compile(pattern, re.MULTILINE) if isinstance(pattern, str) else pattern
        end = time.monotonic() + seconds
        while True:
            is_late = time.monotonic() > end
            shown = self.screen()
            if found := known.search(shown.rpartition("\n")[2] if last else shown):
                return found
            if is_late:
                raise AssertionError(f"{known.pattern!r} is not on the screen:\n{shown}")
            time.sleep(_POLL_SECONDS)

    # -- whether it has kept its shape -----------------------------------------------------

    def has_borders(self) -> None:
        """Wait until the borders of boxes stand: a screen that is just being drawn may be half of each.

        Raises:
            AssertionError: they never do; has the screen.
        """
        with contextlib.suppress(AssertionError):
            wait_for(lambda: borders_stand(self.screen()), SECONDS / 4)
            return
        raise AssertionError(f"its borders do not stand:\n{self.screen()}")

    def wrapped(self) -> list[str]:
        """Return the lines that the terminal had to wrap, since they were wider than it.

        The one that was typed is left out, and those that are to be copied: a path, or what to type next.
        """
        capture = ["capture-pane", "-p", "-S", "-"]
        between = f"= {self._server} ="  # at once, since the screen may change
        apart, _, joined = self._tmux(*capture, ";", "display-message", "-p", between, ";", *capture, "-J").partition(
            f"{between}\n"
        )
        lines = {line.rstrip() for line in apart.split("\n")}
        wide = [line.rstrip() for line in joined.split("\n")[1:] if line.rstrip() not in lines]
        return [line for line in wide if not _TO_COPY.search(line)]


def _is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended: what nobody has collected yet has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def borders_stand(screen: str) -> bool:
    """Whether the upright borders of boxes stand below their corners: no text has moved them."""
    above: set[int] = set()
    for line in screen.split("\n"):
        corners = {*columns_of(line, "┌┬╭╮┐┏┓┳╷"), *columns_of(line, "├┤┼┴└┘╰╯┗┛")}
        upright = columns_of(line, "│┃")
        if above and not corners and not upright <= above:
            return False
        above |= corners | upright
    return True


def columns_of(line: str, signs: str) -> set[int]:
    """Return the columns of characters in a line of the screen."""
    return {width_of(line[:at]) for at, one in enumerate(line) if one in signs}


def width_of(text: str) -> int:
    """Return the cells that a terminal gives a text: by Unicode's own tables, not by what draws our screens."""
    return sum(
        0 if unicodedata.category(one) in {"Mn", "Me", "Cf"} else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def commands_in(sent: bytes) -> list[bytes]:
    """Return what of the bytes a terminal would obey beyond drawing: titles, clipboard, reports, 8-bit controls."""
    return [sent[found.start() : found.start() + 40] for found in _STRING.finditer(sent)]
