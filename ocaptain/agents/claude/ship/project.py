"""Claude Code's project of an attempt: made afresh, so that the repository's own settings count for nothing.

::

    ~/.ocaptain/claude/settings.json   what role `claude` laid down ──checked, endpoint and limits added──>
    ~/.ocaptain/claude/attempt.json    --settings: comes before all but a file managed by the host
    ~/.ocaptain/claude/project         --project-config-root: the project, as far as settings go
        .claude/skills agents commands     cleaned copies of the repository's
        .claude/settings.json              only under `hooks`: its hooks and permission rules

``CLAUDE.md``, nested ones too, is read where it stands. A CLI that does not know ``--project-config-root`` is
started only where the repository sets nothing. Measured with 2.1.330 and 2.1.197.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ocaptain.agents.claude.ship import screen
from ocaptain.agents.claude.ship.own import endpoint_environment, find_problems
from ocaptain.agents.claude.ship.repository import (
    FOLDER,
    MAX_FILE,
    PLUGIN,
    TREES,
    Hook,
    is_settings_file,
    names_of_settings,
    parse_hooks,
    parse_rules,
    restrict_front_matter,
)
from ocaptain.protocol.files import write_atomic
from ocaptain.worker.errors import StartRefused
from ocaptain.worker.places import open_regular_file, remove_path

CLAUDE_DIRECTORY = ".ocaptain/claude"
HEADLESS = "-p"  # of a run without a screen
ROOT_FLAG = "--project-config-root"
#: The flags that shut the repository's settings off, beside ``--strict-mcp-config``; a value follows each.
ROOT_FLAGS = ("--setting-sources", ROOT_FLAG)
PROBE_SECONDS = 30.0
MAX_FILES = 2000
MAX_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 12
#: Never looked into by a CLI that reads the repository's own settings, or too large to look at.
_SKIPPED_FOLDERS = frozenset({".git", "node_modules", ".venv", "__pycache__"})
#: In a skill's folder, what makes more of it.
_NEVER_COPIED = frozenset({PLUGIN, FOLDER, ".git", ".mcp.json", "settings.json", "settings.local.json"})


class PreparedRun(NamedTuple):
    """A run whose project is made.

    Attributes:
        argv: argv of the CLI.
        notes: lines for the attempt's log.
    """

    argv: List[str]
    notes: List[str]


def lay_out(argv: Sequence[str], env: Mapping[str, str], home: Path, workspace: Path, mode: str) -> PreparedRun:
    """Make the project of an attempt and check our settings.

    Args:
        argv: argv of the CLI, as the captain requests it.
        env: environment of the CLI.
        home: home directory of the worker.
        workspace: the clone, at the attempt's base.
        mode: how to treat the repository's settings: ``ignore``, ``hooks`` or ``trust``.

    Raises:
        StartRefused: this CLI cannot leave the repository's settings aside.
        OSError: our own settings are missing, or the CLI would reject them.
    """
    own = home / CLAUDE_DIRECTORY
    root = own / "project"
    remove_path(root)
    remove_path(home / screen.EVENTS)
    watched = {} if HEADLESS in argv else screen.hooks(home)
    if watched:
        (home / screen.EVENTS).mkdir(parents=True, mode=0o700)
    if mode == "trust":
        _write_settings(own, {}, watched)
        return PreparedRun(list(argv), [])
    if not _supports_root_flag(argv[0], own):
        if links := _outward_links(workspace):
            raise StartRefused(f"`{links[0]}` is a link out of the repository; remove it, or update Claude Code")
        plain = _without_root_flags(argv, workspace)
        _write_settings(own, {"env": endpoint_environment(env)}, watched)
        return PreparedRun(plain, [])
    (root / FOLDER).mkdir(parents=True, mode=0o755)
    left_out = _copy_trees(workspace, root)
    if mode == "hooks":
        _write_hooks(root, workspace)
    added = {
        "disableSkillShellExecution": True,
        "env": endpoint_environment(env),
        "claudeMdExcludes": [_as_pattern(f"{workspace}/{name}") for name in _outward_links(workspace)],
    }
    _write_settings(own, added, watched)
    notes = [f"not taken over from the repository: {name}" for name in left_out[:20]]
    return PreparedRun(list(argv), notes)


def _write_settings(own: Path, added: Mapping[str, Any], hooks: Mapping[str, List[Any]]) -> None:
    """Write our settings for this attempt, if the CLI accepts all of them; ``hooks`` run beside those laid down."""
    source = own / "settings.json"
    try:
        with open_regular_file(source) as opened:
            laid_down = json.loads(opened.read(MAX_FILE))
    except (ValueError, RecursionError) as error:
        raise OSError(f"{source} is not valid JSON: {error}") from error
    wrong = find_problems(laid_down)
    if wrong:
        raise OSError(f"{source} cannot be used: {'; '.join(wrong)}")
    env = {**added.get("env", {}), **laid_down.get("env", {})}
    excluded = [*laid_down.get("claudeMdExcludes", []), *added.get("claudeMdExcludes", [])]
    settings = {**laid_down, **added, "env": env, "claudeMdExcludes": excluded}
    if hooks:
        former = laid_down.get("hooks", {})
        settings["hooks"] = {**former, **{event: [*former.get(event, []), *ours] for event, ours in hooks.items()}}
        settings.pop("disableAllHooks", None)  # the end of a run with a screen is told by a hook
    write_atomic(own / "attempt.json", json.dumps(settings, indent=2).encode(), 0o600)


# -- what the CLI can -------------------------------------------------------------------------


def _supports_root_flag(cli: str, own: Path) -> bool:
    """Whether the CLI has the flag. Tested once for each CLI, without the flag's value, so that no run starts."""
    kept = own / "cli.json"
    try:
        state = os.stat(cli)
        which = f"{os.path.realpath(cli)} {state.st_ino} {state.st_size} {state.st_mtime_ns}"
        known: Dict[str, Any] = json.loads(kept.read_bytes()) if kept.is_file() else {}
    except (OSError, ValueError):
        which, known = "", {}
    if which and known.get("cli") == which:
        return bool(known.get("knows_root"))
    try:
        asked = subprocess.run(
            [cli, ROOT_FLAG], stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return True  # starting it will report what is wrong
    knows = b"unknown option" not in asked.stderr
    if which:
        write_atomic(kept, json.dumps({"cli": which, "knows_root": knows}).encode(), 0o600)
    return knows


def _without_root_flags(argv: Sequence[str], workspace: Path) -> List[str]:
    """Return the argv for a CLI that lacks the flag; refuse a repository that has settings."""
    for path, data in _settings_files(workspace):
        if found := names_of_settings(path, data):
            remedy = "remove it or use --repo-settings trust, or update Claude Code"
            why = "this version cannot ignore a repository's settings"
            raise StartRefused(f"`{path}` sets {found[0]}; {remedy}: {why}")
    at = [number for number, word in enumerate(argv) if word in ROOT_FLAGS]
    skipped = {*at, *(number + 1 for number in at)}
    return [word for number, word in enumerate(argv) if number not in skipped]


def _settings_files(workspace: Path) -> Iterator[Tuple[str, bytes]]:
    """Yield path and content of every file that may contain settings, in any folder."""
    for path, folders, names in os.walk(workspace):
        linked = [name for name in folders if name == FOLDER and os.path.islink(os.path.join(path, name))]
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        for name in (*names, *(f"{one}/settings.json" for one in linked)):  # whatever such a link leads to
            file = Path(path, name)
            inner = str(file.relative_to(workspace))
            if is_settings_file(inner):
                yield inner, _read_content(file)


def _read_content(file: Path) -> bytes:
    """Return a file's content; b"" (unknown settings) if it is not a regular file or is too large."""
    try:
        with open_regular_file(file) as opened:
            data = opened.read(MAX_FILE + 1)
    except OSError:
        return b""
    return data if len(data) <= MAX_FILE else b""


# -- copies -----------------------------------------------------------------------------------


def _copy_trees(workspace: Path, target: Path) -> List[str]:
    """Copy what the model reads, with restricted front matter; return what was left out."""
    left_out: List[str] = []
    files_left, bytes_left = MAX_FILES, MAX_BYTES
    for tree in TREES:
        for file, name in _files_of(workspace, f"{FOLDER}/{tree}", left_out):
            size = file.stat().st_size
            if not files_left or size > bytes_left:
                left_out.append(f"{name} (too much)")
                continue
            files_left, bytes_left = files_left - 1, bytes_left - size
            _copy(file, target / name, tree, name, left_out)
    return left_out


def _files_of(workspace: Path, folder: str, left_out: List[str]) -> Iterator[Tuple[Path, str]]:
    """Yield the plain files of a folder, each with its name in the repository; no link is followed out of that."""
    waiting = [folder]
    while waiting:
        name = waiting.pop()
        place = _inside(workspace, name)
        if place is None or name.count("/") > MAX_DEPTH:
            if os.path.lexists(workspace / name):
                left_out.append(name)
            continue
        if place.is_dir():
            inner = sorted(os.listdir(place), reverse=True)
            left_out += [f"{name}/{one}" for one in inner if one.lower() in _NEVER_COPIED]
            waiting += [f"{name}/{one}" for one in inner if one.lower() not in _NEVER_COPIED]
        elif place.is_file():
            yield place, name
        else:
            left_out.append(name)


def _inside(workspace: Path, name: str) -> Optional[Path]:
    """Return the real path of a file in the repository, None if it is missing or outside."""
    top, place = os.path.realpath(workspace), os.path.realpath(workspace / name)
    inner = os.path.relpath(place, top)
    outside = inner.split("/", 1)[0] in {"..", ".git"}
    return None if outside or not os.path.exists(place) else Path(place)


def _copy(file: Path, target: Path, tree: str, name: str, left_out: List[str]) -> None:
    try:
        with open_regular_file(file) as opened:
            data = opened.read(MAX_BYTES)
            mode = os.fstat(opened.fileno()).st_mode
    except OSError:
        left_out.append(name)
        return
    if is_settings_file(name):
        cleaned = restrict_front_matter(data.decode("utf-8", "replace"), tree)
        left_out += [f"{name}: {key}" for key in cleaned.dropped]
        data = cleaned.text.encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(0o755 if mode & 0o100 else 0o644)


def _outward_links(workspace: Path) -> List[str]:
    """Return the names of instructions that are links out of the repository: the CLI would read what they lead to.

    Raises:
        OSError: the links cannot be listed; without the list, such a link could put the credential into a prompt.
    """
    try:
        listed = subprocess.run(
            ["git", "-C", str(workspace), "ls-files", "--stage", "-z"], capture_output=True, timeout=60, check=True
        ).stdout.split(b"\0")
    except subprocess.SubprocessError as error:
        raise OSError(f"the links in {workspace} cannot be listed: {error}") from error
    top = os.path.realpath(workspace)
    names = [os.fsdecode(one.partition(b"\t")[2]) for one in listed if one.startswith(b"120000 ")]
    return [
        name
        for name in names
        if name.lower().endswith(".md") and not os.path.realpath(workspace / name).startswith(f"{top}/")
    ]


def _as_pattern(path: str) -> str:
    """Return a pattern that matches this path and no other."""
    return "".join(f"\\{one}" if one in "*?[]{}()!\\" else one for one in path)


# -- hooks ------------------------------------------------------------------------------------


def _write_hooks(root: Path, workspace: Path) -> None:
    """Write the repository's hooks and permission rules, and no other settings, to the project."""
    hooks: List[Hook] = []
    rules: Dict[str, List[str]] = {}
    for name in ("settings.json", "settings.local.json"):
        place = _inside(workspace, f"{FOLDER}/{name}")
        data = _read_content(place) if place else b""
        hooks += parse_hooks(f"{FOLDER}/{name}", data)
        for kind, found in parse_rules(data).items():
            rules[kind] = rules.get(kind, []) + found
    program = root / "stop_hook.py"
    program.write_bytes((files("ocaptain.agents.claude.ship") / "stop_hook.py").read_bytes())
    groups: Dict[str, List[Dict[str, Any]]] = {}
    for number, hook in enumerate(hooks):
        command = hook.command
        if hook.event in {"Stop", "SubagentStop"}:
            about = root / f"hook-{number}.json"
            about.write_text(json.dumps({"file": hook.file, "event": hook.event, "command": command}))
            command = shlex.join([sys.executable, str(program), str(about)])
        groups.setdefault(hook.event, []).append(_group(hook, _in_workspace(command, workspace)))
    settings = {"hooks": groups, "permissions": rules}
    wrong = find_problems(settings)
    if wrong:
        raise OSError(f"the repository's hooks cannot be let through: {'; '.join(wrong)}")
    (root / FOLDER / "settings.json").write_text(json.dumps(settings))


def _group(hook: Hook, command: str) -> Dict[str, Any]:
    one = {"type": "command", "command": command, **({"timeout": hook.timeout} if hook.timeout else {})}
    return {**({} if hook.matcher is None else {"matcher": hook.matcher}), "hooks": [one]}


def _in_workspace(command: str, workspace: Path) -> str:
    """Return a line that runs the hook in the workspace, since the CLI runs it in our project."""
    place = shlex.quote(str(workspace))
    return f"export CLAUDE_PROJECT_DIR={place}; cd {place} || exit 1\n{command}"
