"""The verdict on a Claude Code run: by how it ended, the facts of its stream, and what it changed.

The CLI reports ``success`` for some failures, and exit 0 for a stream that was cut. So a run counts as done
only if everything agrees: the exit code, ``is_error``, and that the last message was complete.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocaptain.agents.facts import AttemptVerdict
from ocaptain.text import clean_line, escape_control

if TYPE_CHECKING:
    from ocaptain.agents.facts import AttemptEnd, Facts, Result

#: Stop reasons of a complete message.
COMPLETE_STOPS = ("end_turn", "stop_sequence")
STOPPED_BY_HOOK = "stop_hook_prevented"
BUSY_STATUSES = (429, 502, 503, 504, 529)
DENIED_STATUSES = (401, 403)
NO_CHANGE = re.compile(r"^[\s*_`>#-]*NO CHANGE NEEDED[*_`]*\s*[:\-–—]\s*[*_`]*\s*(\S.*)$", re.MULTILINE)  # noqa: RUF001
_BILLING = re.compile(r"credit balance|billing|payment", re.IGNORECASE)
_LOGIN = re.compile(r"not logged in|please run /login", re.IGNORECASE)
MAX_TEXT = 2000
MAX_ERROR = 200
MAX_SUMMARY = 1500


def judge(ended: AttemptEnd) -> AttemptVerdict:
    """Return the verdict on an attempt that ended or was ended."""
    facts, code, reason = ended.facts, ended.code, ended.reason
    result = facts.result if facts else None
    if facts is None or result is None:
        return _unfinished(code, reason, facts, ended.tail)
    text = escape_control(result.text).strip()[-MAX_TEXT:]
    last_words = f":\n{text}" if text else ""
    if result.stop == "refusal" or facts.last_stop == "refusal":
        return AttemptVerdict("failed", f"the model refused to go on{last_words}", fresh=True)
    if result.subtype == "error_max_turns":
        return AttemptVerdict(
            "failed", f"it reached its limit of {result.turns} turns (metadata.max_turns, --max-turns){last_words}"
        )
    if result.is_error or result.subtype != "success":
        return _api_error(result.status, result.error, facts, text or escape_control(result.subtype))
    if reason != "exit" or code != 0:
        return _describe_end(code, reason, last_words)
    cut = result.stop not in COMPLETE_STOPS or result.terminal not in {None, "completed"}
    if cut or (facts.partial and facts.last_stop not in COMPLETE_STOPS):
        return AttemptVerdict("failed", _cut_short(result, facts, last_words))
    if ended.empty and not ended.checked:
        found = NO_CHANGE.search(escape_control(result.text))
        if not found:
            return AttemptVerdict(
                "failed", f"it ended without a change and without the line `NO CHANGE NEEDED: why`{last_words}"
            )
        return AttemptVerdict("done", summary=clean_line(found[0].strip(), 500))
    return AttemptVerdict("done", summary=text[:MAX_SUMMARY])


def _unfinished(code: int, reason: str, facts: Facts | None, log_tail: str) -> AttemptVerdict:
    """Return the verdict on a stream without a result: killed, hung, or never started."""
    tail = escape_control(log_tail[-MAX_TEXT:]).strip()
    if reason == "refused":  # before the model was asked anything
        return AttemptVerdict("hopeless", tail)
    last_words = f"; it said last:\n{tail}" if tail else ""
    if facts and facts.retry and facts.retry.status != 500:
        return _api_error(
            facts.retry.status, facts.retry.error, facts, f"it was ended while it tried again{last_words}"
        )
    if reason == "exit" and code == 0:
        return AttemptVerdict("failed", f"its stream ended without a result{last_words}")
    waited = f"; it waited for a person ({clean_line(facts.waits, 100)})" if facts and facts.waits else ""
    return _describe_end(code, reason, f"{waited}{last_words}")


def _cut_short(result: Result, facts: Facts, last_words: str) -> str:
    if result.terminal == STOPPED_BY_HOOK:
        if not facts.hook:
            return f"a hook stopped it (continue: false){last_words}"
        what = f"{clean_line(facts.hook, 400)} refused too often to let it end"
        return f"{what}; correct the hook, or leave --repo-settings out"
    return f"its last message was cut, though it ended as a success{last_words}"


def _describe_end(code: int, reason: str, last_words: str) -> AttemptVerdict:
    why = {
        "timeout": "the agent took longer than its time limit",
        "stall": "the agent was silent for too long and was ended",
        "died": "the agent's supervisor was killed",
        "stopped": "the agent was stopped",
    }.get(reason, f"the agent ended with exit code {code}")
    return AttemptVerdict("failed", f"{why}{last_words}")


def _api_error(status: int | None, error: str | None, facts: Facts, text: str) -> AttemptVerdict:
    result, delay = facts.result, facts.retry.delay_ms / 1000 if facts.retry else 0.0
    # A request without a status could not reach the API; any other end without one is an error of the CLI.
    unreachable = status is None and (
        facts.retry is not None or (result is not None and result.terminal == "api_error")
    )
    named = (
        f"the API answered {status}"
        if status
        else "the API did not answer"
        if unreachable
        else "it ended with an error"
    )
    what = f"{named}{f' ({clean_line(error, 60)})' if error else ''}: {text}"
    if status in DENIED_STATUSES or (status in {400, 402} and _BILLING.search(text)):
        return AttemptVerdict("denied", what)
    if status is None and result is not None and _LOGIN.search(text[:MAX_ERROR]):
        return AttemptVerdict("denied", what)
    if status in BUSY_STATUSES or unreachable:
        return AttemptVerdict("busy", what, wait=delay)
    if status is not None and 400 <= status < 500 and status not in {408, 409}:
        return AttemptVerdict("hopeless", what)
    return AttemptVerdict("failed", what)
