"""The plans of examples/, what their voyages start from, and stand-ins for the agents that sail them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.helpers import REPO

EXAMPLES = REPO / "examples"
GENERATED = EXAMPLES / "generated-plans"
#: By the name of the plan: a shell script that does its tasks as a good agent would.
STAND_INS = REPO / "tests/generated"
NAMES = sorted(path.parent.name for path in GENERATED.glob("*/spec.md"))


def all_plans() -> list[Path]:
    """Return the directory of every plan below examples/."""
    return sorted(path.parent for path in EXAMPLES.glob("*/*/spec.md"))


def stand_in(name: str) -> str:
    """Return the line for ``--agent-cmd`` that does the tasks of a plan."""
    return (STAND_INS / f"{name}.sh").read_text("utf-8")


def start_of(name: str, directory: Path) -> Path | None:
    """Make the repository that a plan changes; return its path, None for a plan that starts from nothing."""
    if name == "refactoring":
        argv = ["bash", str(STAND_INS / "refactoring-repository.sh"), str(directory)]
        subprocess.run(argv, check=True, capture_output=True, timeout=240)
        return directory
    if name == "multilingual-readme":
        make_repository(directory, {"README": "Hello World!\n"})
        return directory
    return None


def make_repository(directory: Path, files: dict[str, str]) -> None:
    """Make a repository of one commit, which may be empty."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text, "utf-8")
    identity = ["-c", "user.name=u", "-c", "user.email=u@x"]
    for argv in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "first", "--allow-empty"]):
        subprocess.run(["git", *argv], cwd=directory, check=True, capture_output=True, timeout=240)
