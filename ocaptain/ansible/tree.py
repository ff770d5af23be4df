"""What the action ``tree`` does: a tree of small files with modes, in one remote call.

The files go over on stdin, so nothing of them stands in an argv; a small program on the far
side compares, writes what differs (each file whole or not at all) and says what it changed.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ocaptain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST_TREE = 16 * 1024 * 1024
MARK = "OCAPTAIN-TREE:"

#: Runs on the ship: Python 3 and its standard library are all that it needs.
PROGRAM = """
import base64, json, os, stat, sys
job = json.load(sys.stdin)
root = os.path.expanduser(job["dest"])
changed = []
def differs(path, data, mode):
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != mode:
            return True
        with open(path, "rb") as file:
            return file.read() != data
    except OSError:
        return True
for item in job["files"]:
    path = os.path.join(root, item["path"])
    data, mode = base64.b64decode(item["data"]), item["mode"]
    if not differs(path, data, mode):
        continue
    changed.append(item["path"])
    if job["check"]:
        continue
    os.makedirs(os.path.dirname(path), exist_ok=True)
    scratch = path + ".ocaptain-new"
    if os.path.lexists(scratch):
        os.unlink(scratch)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    os.chmod(scratch, mode)
    os.replace(scratch, path)
print("MARK" + json.dumps({"changed": changed}))
""".replace("MARK", MARK)


@dataclass(frozen=True)
class TreeFile:
    """A file of the tree."""

    path: str
    data: bytes
    mode: int


def parse_files(items: Sequence[dict[str, Any]], read: Any) -> list[TreeFile]:
    """Return the files that a task describes.

    Args:
        items: each ``path``, ``mode`` (octal text) and one of ``content`` (text) or ``src``.
        read: returns the bytes of a ``src`` on the controller.

    Raises:
        UsageError: an item is wrong; says which.
    """
    files = []
    for number, item in enumerate(items):
        where = f"files[{number}]"
        path = str(item.get("path") or "")
        pure = PurePosixPath(path)
        if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
            raise UsageError(f"{where}.path: {path!r} must be relative and stay below dest")
        if (item.get("content") is None) == (item.get("src") is None):
            raise UsageError(f"{where} ({path}): give either content or src")
        try:
            mode = int(str(item.get("mode", "0644")), 8)
        except ValueError:
            raise UsageError(f"{where}.mode: {item.get('mode')!r} is not octal") from None
        data = str(item["content"]).encode() if item.get("content") is not None else read(str(item["src"]))
        files.append(TreeFile(path, data, mode))
    if sum(len(file.data) for file in files) > LARGEST_TREE:
        raise UsageError(f"a tree is for small files: these are more than {LARGEST_TREE // 2**20} MB")
    return files


def payload(dest: str, files: Sequence[TreeFile], *, check: bool) -> bytes:
    """Return what the program reads."""
    listed = [{"path": file.path, "mode": file.mode, "data": base64.b64encode(file.data).decode()} for file in files]
    return json.dumps({"dest": dest, "check": check, "files": listed}).encode()


def parse_reply(stdout: str) -> list[str] | None:
    """Return the paths that changed, None if the program did not say (noise around it is ignored)."""
    for line in stdout.splitlines():
        _, mark, rest = line.partition(MARK)
        if mark:
            try:
                return [str(path) for path in json.loads(rest)["changed"]]
            except (ValueError, KeyError, TypeError):
                return None
    return None
