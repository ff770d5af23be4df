"""How git is called wherever others wrote what it reads. Standard library only."""

from __future__ import annotations

#: Nothing that lies in a repository or in its user's configuration is run or changes what a command does.
SAFE = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.quotePath=false", "gc.auto=0")
#: To look for what two large files have in common takes minutes, and rarely finds any. Only for commands that write
#: packs: git takes files above this size for binary ones when it merges.
NO_DELTAS = "core.bigFileThreshold=8m"


def git_argv(*settings: str) -> list[str]:
    """Return the beginning of a git command with the safe settings, and more of them."""
    return ["git", *(word for setting in (*SAFE, *settings) for word in ("-c", setting))]
