"""Why a task of Ansible failed, in one line for the record.

::

    the task's result ──> failure_reason ──┐
    role and task ─────────────────────────┴─> describe_failure ──> ledger, status, left_out, exit message

What a program says stands in its error output, what Ansible says in ``msg``. A command that failed has a ``msg`` that
says no more than that (``non-zero return code``), so its ``rc`` and the last lines of both outputs count.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ocaptain.text import clean_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: How many last lines of the error output and of the output are given.
MAX_STDERR_LINES = 3
MAX_STDOUT_LINES = 2
MAX_LINE = 200
MAX_REASON = 600
HIDDEN = "its output is not shown (no_log)"
NOTHING_SAID = "no reason given"

#: Messages that say only that it failed.
_BLAND = re.compile(r"non-zero return code\.?|MODULE FAILURE\b.*|Module result deserialization failed\b.*", re.DOTALL)
#: What ssh adds to the error output of a command that had a terminal.
_SSH_FAREWELL = re.compile(r"(Shared connection|Connection) to \S+ closed\.")
#: How :func:`describe_failure` begins.
_WHOLE = re.compile(r"(role \S+, )?task .+?: ")


def failure_reason(result: Mapping[str, Any], names: Collection[str] = ()) -> str:
    """Return why a task failed, as one line without control characters.

    Args:
        result: the task's result, as Ansible has it.
        names: names of its host, which need no saying again at the beginning.
    """
    if "censored" in result:
        return HIDDEN
    result = _failed_item(result)
    message = _text(result.get("msg"))
    spoken = [] if message and not _BLAND.fullmatch(message) else _output(result)
    if not spoken and _BLAND.fullmatch(message) and result.get("rc") is None:
        spoken = [message]
    return _shorten(_without_names(" / ".join(spoken) or message or NOTHING_SAID, names))


def describe_failure(result: Mapping[str, Any], task: str, role: str = "", names: Collection[str] = ()) -> str:
    """Return role, task and reason of a failure: ``role our-tools, task Install it: rc 1: no such package``.

    Args:
        result: as :func:`failure_reason`.
        task: name of the task.
        role: name of the role that it is of, "" if of none.
        names: as :func:`failure_reason`.
    """
    where = [f"role {role}"] if role else []
    where += [f"task {task.removeprefix(f'{role} : ')}"] if task else []
    reason = failure_reason(result, names)
    if _WHOLE.match(reason):  # a task that only passes on what was noted
        return reason
    return f"{clean_line(', '.join(where), MAX_LINE)}: {reason}" if where else reason


def describe_rescued(
    result: Mapping[str, Any], task: Mapping[str, Any], roles: Collection[str], names: Collection[str] = ()
) -> str:
    """Return :func:`describe_failure` of what began a rescue.

    Args:
        result: ``ansible_failed_result``.
        task: ``ansible_failed_task``; the one place that says ``no_log``, since the result has everything.
        roles: those that may have failed: the tasks of each have its name as a tag.
        names: as :func:`failure_reason`.
    """
    tags = task.get("tags") or ()
    role = next((name for name in roles if name in tags), "")
    shown = {"censored": True} if task.get("no_log") else result
    return describe_failure(shown, str(task.get("name") or task.get("action") or ""), role, names)


def _failed_item(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the result of a loop's first item that failed, the result itself if there is none."""
    items = result.get("results")
    found = [one for one in items if isinstance(one, dict) and _has_failed(one)] if isinstance(items, list) else []
    return found[0] if found else result


def _has_failed(result: Mapping[str, Any]) -> bool:
    return bool(result.get("failed") or result.get("unreachable"))


def _output(result: Mapping[str, Any]) -> list[str]:
    """Return ``rc`` and the last lines of both outputs of a command that failed."""
    rc = result.get("rc")
    lines = [*_last_lines(result, "stderr", MAX_STDERR_LINES), *_last_lines(result, "stdout", MAX_STDOUT_LINES)]
    for name in ("module_stderr", "module_stdout"):  # of a module that broke
        lines += _last_lines(result, name, MAX_STDERR_LINES)
    if rc is None:
        return lines
    first, *rest = lines or ["it said nothing"]
    return [f"rc {rc}: {first}", *rest]


def _last_lines(result: Mapping[str, Any], name: str, count: int) -> list[str]:
    text = re.sub(r"\r+(?=\n|$)", "", str(result.get(name) or ""))
    lines: Iterable[str] = (clean_line(line) for line in text.split("\n"))
    said = [line for line in lines if line and not _SSH_FAREWELL.fullmatch(line)]
    return [line if len(line) <= MAX_LINE else f"…{line[1 - MAX_LINE :]}" for line in said[-count:]]


def _text(value: Any) -> str:
    return clean_line("" if value is None else str(value))


def _without_names(text: str, names: Collection[str]) -> str:
    """Return a text that does not begin with the host's name, which stands before it anyway."""
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True) if name)
    return re.sub(rf"^((?:{pattern})(?::\s*|\s+(?=\w)))+", "", text) if pattern else text


def _shorten(text: str) -> str:
    """Return a text of at most :data:`MAX_REASON` characters; how it ends says more than how it begins."""
    head = MAX_REASON // 4
    return text if len(text) <= MAX_REASON else f"{text[:head]} … {text[head + 3 - MAX_REASON :]}"
