"""Commands and results of captain and worker, as both see them. On the wire each is one JSON object.

The one who receives checks (:func:`ocaptain.protocol.codec.from_dict`): a ship is hostile, and a
captain may be of another version.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple, Type, Union

from ocaptain.protocol import INLINE_BYTES, MAX_PART_BYTES, MAX_PARTS
from ocaptain.protocol.codec import Malformed, validated

MAX_NUMBER = 2**53  # what JSON carries without loss
_OID = "[0-9a-f]{40}"


@dataclass(frozen=True)
class Part:
    """A part of a bundle, in the worker's inbox or outbox; nothing else can be named."""

    path: str = validated(pattern=r"\.ocaptain/(in|out)/[A-Za-z0-9-]+\.[0-9]{1,6}")
    size: int = validated(minimum=0, maximum=MAX_PART_BYTES)
    sha256: str = validated(pattern="[0-9a-f]{64}")


@dataclass(frozen=True)
class Bundle:
    """A git bundle, and the ref that it holds.

    Attributes:
        parts: files that it is cut into; of a ship's small one, its only part is there as well.
        ref: what its commit is called in it.
        data: of a small one (:data:`ocaptain.protocol.INLINE_BYTES`): all of it, in base64; since protocol 3.
    """

    parts: Tuple[Part, ...]
    ref: str = ""
    data: str = validated("", max_length=INLINE_BYTES * 4 // 3 + 4)

    def content(self) -> bytes | None:
        """Return a bundle that travelled inside of its message, None if it did not, or is not sound."""
        try:
            return base64.b64decode(self.data, validate=True) if self.data else None
        except ValueError:
            return None


@dataclass(frozen=True)
class Snapshot:
    """What a workspace held.

    Attributes:
        commit: of all of it, on ``base``.
        empty: whether it is as ``base`` is.
        message: of the agent's own commits.
        left_out: names of files that git could not read.
    """

    empty: bool
    bundle: Bundle
    commit: str = validated(pattern=_OID)
    base: str = validated(pattern=_OID)
    message: str = validated("", max_length=20000)
    left_out: Tuple[str, ...] = validated((), max_length=200)

    def __post_init__(self) -> None:
        if len(self.bundle.parts) > MAX_PARTS:  # of what a ship offers; what a captain sends has no limit
            raise Malformed(f"bundle.parts is longer than {MAX_PARTS}")


@dataclass(frozen=True)
class UnfitTree:
    """Why a workspace could not be offered."""

    reason: str
    paths: Tuple[str, ...] = validated(max_length=1000)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        code: exit code.
        reason: ``exit``, ``timeout``, ``stall``, ``died``, ``stopped``; ``error``: this ship cannot start it;
            ``refused``: it is not started with what the repository sets.
        seconds: that it took.
        tail: the log's end.
        snapshot: of what it left; or ``unfit`` says why there is none.
        agent: what its stream said (``ocaptain.agents.facts``).
    """

    code: int = validated(minimum=-1, maximum=255)
    reason: str = validated(max_length=100)
    seconds: float = validated(minimum=0)
    tail: str = ""
    snapshot: Snapshot | None = None
    unfit: UnfitTree | None = None
    agent: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CheckResult:
    """How a check ended."""

    code: int = validated(minimum=0, maximum=255)
    seconds: float = validated(minimum=0)
    timed_out: bool = False
    tail: str = ""


@dataclass(frozen=True)
class VerifyResult:
    """How the final verify ended.

    Attributes:
        clean: whether it ran in a clone of its own.
        stage: ``setup`` or ``verify``.
    """

    clean: bool
    code: int = validated(minimum=0, maximum=255)
    seconds: float = validated(minimum=0)
    timed_out: bool = False
    tail: str = ""
    stage: str = "verify"


@dataclass(frozen=True)
class RescueResult:
    """What the workspace holds; None if it was never set to anything."""

    snapshot: Snapshot | None = None


@dataclass(frozen=True)
class Failure:
    """Why a command failed.

    Attributes:
        code: ``need_full`` and ``damaged``: send the commit again, all of it; others are for people.
        paths: that have to go (``unfit``).
    """

    code: str = "internal"
    reason: str = ""
    paths: Tuple[str, ...] = ()


# -- commands -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resume:
    """An earlier session to go on with, if the ship still has its transcript (a pattern below its home)."""

    session: str
    argv: Tuple[str, ...]
    transcript: str


@dataclass(frozen=True)
class Start:
    """Begin an attempt. With a token alone: tell how the one that runs ends.

    What an agent is started with (from ``argv`` on) is explained at ``ocaptain.agents.base.AgentRun``.
    """

    token: int = validated(minimum=1, maximum=MAX_NUMBER)
    base: str = ""
    branch: str = ""
    label: str = ""
    task: Mapping[str, Any] = field(default_factory=dict)
    bundle: Bundle | None = None
    argv: Tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    timeout: float = 0.0
    stall: float = 0.0
    env_files: Tuple[str, ...] = ()
    secret_files: Tuple[str, ...] = ()
    path_file: str | None = None
    stream: str | None = None
    project: str | None = None
    repo_settings: str = "ignore"
    view: str = "raw"  # what workers of before ``stream`` go by, and what captains of then send: <agent>-stream
    resume: Tuple[Resume, ...] = ()
    resume_prompt: str = ""
    prices: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)  # ocaptain.protocol.limits


@dataclass(frozen=True)
class Cancel:
    """End an attempt if it runs."""

    token: int


@dataclass(frozen=True)
class Check:
    """Run a task's check on a candidate."""

    commit: str
    branch: str
    command: str
    timeout: float
    label: str
    bundle: Bundle | None = None


@dataclass(frozen=True)
class Verify:
    """Run the final verify on exactly a commit.

    Attributes:
        script: the captain's copy of it, in base64.
        setup: a line that prepares a clean clone; None = there is none.
        fresh: whether the workspace is made anew even without a setup; else what git ignores stays.
    """

    commit: str
    branch: str
    script: str
    timeout: float
    label: str
    setup: str | None = None
    bundle: Bundle | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Rescue:
    """Stop the agent, and pack whatever the workspace holds."""

    name: str


Command = Union[Start, Cancel, Check, Verify, Rescue]
#: The commands, by their name on the wire.
COMMANDS: Mapping[str, Type[Command]] = {
    "start": Start,
    "cancel": Cancel,
    "check": Check,
    "verify": Verify,
    "rescue": Rescue,
}


def command_name(command: Command) -> str:
    """Return a command's name on the wire."""
    return type(command).__name__.lower()


@dataclass(frozen=True)
class Result:
    """How a command ended: ``data`` is what its kind of result or :class:`Failure` is made of."""

    ok: bool
    data: Mapping[str, Any]
