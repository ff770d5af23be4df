"""The records that the ledger returns, and its errors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ocaptain.errors import OcaptainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: A voyage in one of these has nothing more to do.
ENDED = ("complete", "failed", "sunk")
#: A ship in one of these is not part of the fleet any more.
NOT_SAILING = ("lost", "failed", "gone")


class LedgerError(OcaptainError):
    """The ledger cannot be read or written; the message says which file."""


class LedgerUnwritable(LedgerError):
    """This machine cannot write the ledger now (a full disk, no file descriptor, no memory); that may pass."""


class Contradiction(LedgerError):
    """The ledger contradicts the repository or the ships; a person must decide which of them is right."""


class OlderLedger(Contradiction):
    """A ship knows a captain or a channel that this ledger has not handed out yet: the ledger is an older copy."""

    def __init__(self, voyage: str, ship: str, theirs: tuple[int, int], ours: tuple[int, int]) -> None:
        facts = f"{ship} knows captain {theirs[0]} and channel {theirs[1]}, the ledger {ours[0]} and {ours[1]}"
        remedy = "restore the newer ledger.db (and ledger.db-wal), or go on with this one"
        super().__init__(
            f"this ledger is older than the fleet: {facts}; {remedy}: ocaptain sail --resume {voyage} --take-over"
        )


class TakenOver(LedgerError):
    """Another captain has taken over this voyage."""


@dataclass(frozen=True)
class NewVoyage:
    """The contents of a new ledger."""

    id: str
    name: str
    provider: str
    digest: str
    repo: str
    root: str
    agent_cmd: str | None
    spec: str
    verify_script: bytes
    verify_timeout: float
    setup: str | None
    prompt: str | None
    tasks: Sequence[Mapping[str, Any]]
    edges: Mapping[str, frozenset[str]]
    ships: Sequence[tuple[str, str]]
    replace_lost: bool = False
    place: str = ""
    model: str | None = None
    max_turns: int | None = None
    mesh: str = "none"
    targets: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Voyage:
    """The voyage's row."""

    id: str
    name: str
    state: str
    provider: str
    digest: str
    repo: str
    root: str
    agent_cmd: str | None
    spec: str
    verify_script: bytes
    verify_timeout: float
    setup: str | None
    prompt: str | None
    created: float
    epoch: int
    verify_ok: int | None
    verify_code: int | None
    verify_clean: int | None
    verify_commit: str | None
    verify_tail: str | None
    note: str | None
    replace_lost: int
    replacements: int
    place: str
    model: str | None
    max_turns: int | None
    mesh: str
    paused_reason: str | None
    options: str
    home: str
    ticket: str | None
    opening: str

    @property
    def verify_on(self) -> str:
        """Where the final verify is to run: ``clean`` or ``any``."""
        return str(json.loads(self.options).get("verify_on") or "clean")

    @property
    def branch(self) -> str:
        """The branch of the source that the voyage started from; "" if there is none or it is not known."""
        return str(json.loads(self.options).get("branch") or "")

    @property
    def repo_settings(self) -> str:
        """Which of the repository's own agent settings agents use: one of ``ocaptain.options.REPO_SETTINGS``."""
        return str(json.loads(self.options).get("repo_settings") or "ignore")

    @property
    def task_list(self) -> str:
        """Whether agents get the plan as their own task list: one of ``ocaptain.options.TASK_LISTS``."""
        return str(json.loads(self.options).get("task_list") or "auto")

    @property
    def telemetry(self) -> bool:
        """Whether agents report by OTLP; not with ``--no-telemetry``."""
        return not json.loads(self.options).get("no_telemetry")

    @property
    def is_interactive(self) -> bool:
        """Whether agents have a screen of their own, for people to type at."""
        return bool(json.loads(self.options).get("interactive"))


@dataclass(frozen=True)
class Claim:
    """A task handed to a ship.

    Attributes:
        session: of the agent, for this attempt.
        sessions: of earlier attempts on this ship that may be resumed, the last one first.
        work: commit of the files that the last attempt on this ship left, None if it left none.
    """

    token: int
    task: str
    number: int
    ship: str
    agent: str
    raw: Mapping[str, Any]
    base: str | None
    reason: str | None
    opening: str = ""
    session: str = ""
    sessions: tuple[str, ...] = ()
    work: str | None = None


@dataclass(frozen=True)
class Spent:
    """What an attempt used so far.

    Attributes:
        model: that worked most.
        tokens_in, tokens_out, tokens_cached: read (cached or not), written, and read from the cache.
        cost_nano: in nano-dollars, of what has a known price.
        mark: ``api`` or ``subscription``.
        usage: by model: ``model tokens cost_nano``; what has no known price is a row with a cost of None.
    """

    model: str | None
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost_nano: int
    mark: str | None
    usage: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Intent:
    """A landing that was begun."""

    token: int
    task: str
    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class ShipRow:
    """A ship."""

    id: str
    sprite: str
    state: str
    reason: str | None
    head: str | None
    journal: str | None
    cursors: Mapping[str, int]
    replaced_by: str | None
    way: str | None
    role: str
