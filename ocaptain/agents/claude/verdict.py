"""What a Claude Code run was worth: from how it ended, what its stream told, and what it changed.

The CLI says ``success`` of much that is none, and exit 0 of a stream that was cut. So a run counts
as done only if everything agrees: the exit code, ``is_error``, and that the last message came to its own end.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocaptain.agents.facts import Ending
from ocaptain.text import clean, clean_line

if TYPE_CHECKING:
    from ocaptain.agents.facts import Ended, Facts, Result

#: How a message ends that is all there.
WHOLE = ("end_turn", "stop_sequence")
STOPPED_BY_HOOK = "stop_hook_prevented"
BUSY = (429, 502, 503, 504, 529)
DENIED = (401, 403)
NO_CHANGE = re.compile(r"^[\s*_`>#-]*NO CHANGE NEEDED[*_`]*\s*[:\-–—]\s*[*_`]*\s*(\S.*)$", re.MULTILINE)  # noqa: RUF001
_BILLING = re.compile(r"credit balance|billing|payment", re.IGNORECASE)
_LOGIN = re.compile(r"not logged in|please run /login", re.IGNORECASE)
MAX_TEXT = 2000
MAX_ERROR = 200
MAX_SUMMARY = 1500


def judge(ended: Ended) -> Ending:
    """Return what an attempt that ended by itself, or was ended, was worth."""
    facts, code, reason = ended.facts, ended.code, ended.reason
    result = facts.result if facts else None
    if facts is None or result is None:
        return _unfinished(code, reason, facts, ended.tail)
    text = clean(result.text).strip()[-MAX_TEXT:]
    told = f":\n{text}" if text else ""
    if result.stop == "refusal" or facts.last_stop == "refusal":
        return Ending("failed", f"the model refused to go on{told}", fresh=True)
    if result.subtype == "error_max_turns":
        return Ending("failed", f"it reached its limit of {result.turns} turns (metadata.max_turns, --max-turns){told}")
    if result.is_error or result.subtype != "success":
        return _api_error(result.status, result.error, facts, text or clean(result.subtype))
    if reason != "exit" or code != 0:
        return _ended(code, reason, told)
    cut = result.stop not in WHOLE or result.terminal not in {None, "completed"}
    if cut or (facts.partial and facts.last_stop not in WHOLE):
        return Ending("failed", _cut_short(result, facts, told))
    if ended.empty and not ended.checked:
        found = NO_CHANGE.search(clean(result.text))
        if not found:
            return Ending("failed", f"it ended without a change and without the line `NO CHANGE NEEDED: why`{told}")
        return Ending("done", summary=clean_line(found[0].strip(), 500))
    return Ending("done", summary=text[:MAX_SUMMARY])


def _unfinished(code: int, reason: str, facts: Facts | None, said: str) -> Ending:
    """A stream without a last word: killed, hung, or never begun."""
    tail = clean(said[-MAX_TEXT:]).strip()
    if reason == "refused":  # before anything was asked of the model
        return Ending("hopeless", tail)
    told = f"; it said last:\n{tail}" if tail else ""
    if facts and facts.retry and facts.retry.status != 500:
        return _api_error(facts.retry.status, facts.retry.error, facts, f"it was ended while it tried again{told}")
    if reason == "exit" and code == 0:
        return Ending("failed", f"its stream ended without a result{told}")
    return _ended(code, reason, told)


def _cut_short(result: Result, facts: Facts, told: str) -> str:
    if result.terminal == STOPPED_BY_HOOK:
        if not facts.hook:
            return f"a hook stopped it (continue: false){told}"
        what = f"{clean_line(facts.hook, 400)} refused too often to let it end"
        return f"{what}; correct the hook, or leave --repo-settings out"
    return f"its last message was cut, though it ended as a success{told}"


def _ended(code: int, reason: str, told: str) -> Ending:
    why = {
        "timeout": "the agent took longer than its time limit",
        "stall": "the agent was silent for too long and was ended",
        "died": "the agent's supervisor was killed",
        "stopped": "the agent was stopped",
    }.get(reason, f"the agent ended with exit code {code}")
    return Ending("failed", f"{why}{told}")


def _api_error(status: int | None, error: str | None, facts: Facts, text: str) -> Ending:
    result, delay = facts.result, facts.retry.delay_ms / 1000 if facts.retry else 0.0
    # Without a status: it could not be reached. That is so only of a request; what else ends so is the CLI's own.
    away = status is None and (facts.retry is not None or (result is not None and result.terminal == "api_error"))
    named = f"the API answered {status}" if status else "the API did not answer" if away else "it ended with an error"
    what = f"{named}{f' ({clean_line(error, 60)})' if error else ''}: {text}"
    if status in DENIED or (status in {400, 402} and _BILLING.search(text)):
        return Ending("denied", what)
    if status is None and result is not None and _LOGIN.search(text[:MAX_ERROR]):
        return Ending("denied", what)
    if status in BUSY or away:
        return Ending("busy", what, wait=delay)
    if status is not None and 400 <= status < 500 and status not in {408, 409}:
        return Ending("hopeless", what)
    return Ending("failed", what)
