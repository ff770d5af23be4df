"""The plan that ``plan new`` makes: small, without faults, and ready to be changed."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from ocaptain.errors import OcaptainError, UsageError
from ocaptain.text import clean_line

if TYPE_CHECKING:
    from pathlib import Path

_MAX_NAME = 100

_SPEC = """\
# {name}

What is to be built, for somebody who knows nothing of it: what it does, for whom, and how one sees that it works.
Every agent reads this file before its task.

## Interfaces

Several agents write at the same time. Fix here what their parts must agree on: names of files, functions, commands,
formats.

| file | what it offers |
| --- | --- |
| `hello.sh` | prints `hello, NAME`; without a NAME it prints `hello, world` |
| `README.md` | says how `hello.sh` is called |

## Not to be done

What is out of scope, so that nobody spends time on it.
"""

_VERIFY = """\
#!/usr/bin/env bash
# Proves the merged work, in a fresh clone of it: exit code 0 if it is done. It must fail on what is there now.
set -euo pipefail

test "$(sh hello.sh)" = "hello, world"
test "$(sh hello.sh Ada)" = "hello, Ada"
grep -q 'hello.sh' README.md
echo "hello.sh and README.md: there, and they work"
"""

_TASKS: tuple[dict[str, object], ...] = (
    {
        "id": "1",
        "subject": "Write hello.sh",
        "description": "Write hello.sh as the spec says. Nothing else: README.md is another task.",
        "status": "pending",
        "blocks": ["2"],
        "blockedBy": [],
        "metadata": {"verify": 'test "$(sh hello.sh Ada)" = "hello, Ada"', "estimate": {"seconds": 60}},
    },
    {
        "id": "2",
        "subject": "Describe hello.sh in README.md",
        "description": "Write README.md: what hello.sh does, and one call with what it prints, pasted from a real run.",
        "status": "pending",
        "blocks": [],
        "blockedBy": ["1"],
        "metadata": {"verify": "grep -q hello.sh README.md", "estimate": {"seconds": 60}},
    },
)


def skeleton_files(name: str) -> dict[str, str]:
    """Return the files of a new plan, by path.

    Args:
        name: of the plan.
    """
    manifest = {"name": name, "recommended_ships": 1}
    return {
        "spec.md": _SPEC.format(name=name),
        "verify.sh": _VERIFY,
        "voyage.json": json.dumps(manifest, indent=2, ensure_ascii=False) + "\n",
        **{f"tasks/{task['id']}.json": json.dumps(task, indent=2) + "\n" for task in _TASKS},
    }


def make_plan(directory: Path) -> list[str]:
    """Make a new plan; return the paths of its files. Nothing is made if anything goes wrong.

    Args:
        directory: where; it must not exist, or be empty.

    Raises:
        UsageError: something is there already, or its parent is no directory.
        OcaptainError: it cannot be written.
    """
    try:
        is_taken = directory.is_symlink() or (
            directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        )
        has_parent = directory.parent.is_dir()
    except OSError as error:
        raise UsageError(f"{directory} cannot be read: {error.strerror}; choose another place") from None
    if is_taken:
        raise UsageError(f"{directory} exists and is not an empty directory; choose another name")
    if not has_parent:
        raise UsageError(f"{directory.parent} is not a directory; make it first, or choose another place")
    files = skeleton_files(clean_line(directory.name, _MAX_NAME) or "plan")
    made: list[Path] = []
    try:
        for place in (directory, directory / "tasks"):
            if not place.is_dir():
                place.mkdir()
                made.append(place)
        for path, text in files.items():
            made.append(directory / path)
            made[-1].write_text(text, "utf-8")
        (directory / "verify.sh").chmod((directory / "verify.sh").stat().st_mode | 0o111)
    except OSError as error:
        for one in reversed(made):
            with contextlib.suppress(OSError):
                one.rmdir() if one.is_dir() else one.unlink(missing_ok=True)
        raise OcaptainError(f"{directory} cannot be written: {error.strerror or error}; choose another place") from None
    return list(files)
