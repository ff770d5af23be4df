"""The commands of the captain and the results of the worker; each is sent as one JSON object.

The receiver checks them (:func:`ocaptain.protocol.codec.from_dict`): a ship is hostile, and a
captain may be of another version.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple, Type, Union

from ocaptain.protocol import INLINE_BYTES, MAX_PART_BYTES, MAX_PARTS
from ocaptain.protocol.codec import Malformed, validated
from ocaptain.protocol.limits import MAX_OTHER_TIPS

MAX_NUMBER = 2**53  # larger numbers lose precision in JSON
_OID = "[0-9a-f]{40}"


@dataclass(frozen=True)
class Part:
    """A part of a bundle, in the worker's inbox or outbox; nothing else can be named."""

    path: str = validated(pattern=r"\.ocaptain/(in|out)/[A-Za-z0-9-]+\.[0-9]{1,6}")
    size: int = validated(minimum=0, maximum=MAX_PART_BYTES)
    sha256: str = validated(pattern="[0-9a-f]{64}")


@dataclass(frozen=True)
class Bundle:
    """A git bundle with one ref; or a tar archive, which has none.

    Attributes:
        parts: the files that it is split into; a ship also writes the single part of a small bundle.
        ref: name of the ref, "" in an archive.
        data: content of a small bundle (:data:`ocaptain.protocol.INLINE_BYTES`), in base64; since protocol 3.
        refs: id of a blob in it with the refs of the voyage's start, in the format of ``packed-refs``; they are
            in every workspace from then on. "" = it brings none. Workers of before ignore it.
    """

    parts: Tuple[Part, ...]
    ref: str = ""
    data: str = validated("", max_length=INLINE_BYTES * 4 // 3 + 4)
    refs: str = validated("", pattern=f"({_OID})?")

    def content(self) -> bytes | None:
        """Return the content that was sent inside the message; None if there is none or it is invalid."""
        try:
            return base64.b64decode(self.data, validate=True) if self.data else None
        except ValueError:
            return None


def _require_few_parts(bundle: Bundle) -> None:
    """Limit the parts of what a ship offers; what a captain sends has no limit."""
    if len(bundle.parts) > MAX_PARTS:
        raise Malformed(f"a ship's bundle has {len(bundle.parts)} parts, more than {MAX_PARTS}")


@dataclass(frozen=True)
class Snapshot:
    """The content of a workspace.

    Attributes:
        commit: commit of all files, on top of ``base``.
        empty: whether nothing differs from ``base``.
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
        _require_few_parts(self.bundle)


@dataclass(frozen=True)
class OtherTip:
    """A commit that an agent left elsewhere than in its files.

    Attributes:
        name: the agent's own name for it, cut if it is long.
        size: unpacked bytes that it adds to those before it.
        is_work: whether an agent puts work there (a branch, the stash), not only git (a log).
    """

    name: str = validated(max_length=400)
    commit: str = validated(pattern=_OID)
    size: int = validated(0, minimum=0, maximum=MAX_NUMBER)
    is_work: bool = False


@dataclass(frozen=True)
class OtherWork:
    """The commits of an agent that its files do not hold.

    Attributes:
        base: the commit that the workspace was set to.
        commit: has the tips as parents; it is the base if there are none.
        bundle: of ``commit``, without what ``base`` contains.
        left_out: what could not be saved, and why.
    """

    base: str = validated(pattern=_OID)
    commit: str = validated(pattern=_OID)
    bundle: Bundle = Bundle(())
    tips: Tuple[OtherTip, ...] = validated((), max_length=MAX_OTHER_TIPS)
    left_out: Tuple[str, ...] = validated((), max_length=100)

    def __post_init__(self) -> None:
        _require_few_parts(self.bundle)


@dataclass(frozen=True)
class Artifacts:
    """The files that an agent left in ``~/voyage/artifacts`` (:mod:`ocaptain.protocol.artifacts`).

    Attributes:
        token: of the attempt that they are of.
        bundle: the archive; without parts if no file could be taken.
        left_out: what was not taken, and why.
    """

    token: int = validated(minimum=1, maximum=MAX_NUMBER)
    bundle: Bundle = Bundle(())
    left_out: Tuple[str, ...] = validated((), max_length=100)

    def __post_init__(self) -> None:
        _require_few_parts(self.bundle)


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
            ``refused``: the repository's settings forbid it.
        seconds: duration.
        tail: end of the log.
        snapshot: the work that it left; or ``unfit`` says why there is none.
        agent: the facts from its stream (``ocaptain.agents.facts``).
        other: what it committed or stashed elsewhere than in its files, None if nothing.
        artifacts: what it left in ``~/voyage/artifacts``, None if nothing.
    """

    code: int = validated(minimum=-1, maximum=255)
    reason: str = validated(max_length=100)
    seconds: float = validated(minimum=0)
    tail: str = ""
    snapshot: Snapshot | None = None
    unfit: UnfitTree | None = None
    agent: Mapping[str, Any] | None = None
    other: OtherWork | None = None
    artifacts: Artifacts | None = None


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
        clean: whether it ran in a fresh clone.
        stage: ``setup`` or ``verify``.
    """

    clean: bool
    code: int = validated(minimum=0, maximum=255)
    seconds: float = validated(minimum=0)
    timed_out: bool = False
    tail: str = ""
    stage: str = "verify"


@dataclass(frozen=True)
class TrialResult:
    """How the trial of the gate ended.

    Attributes:
        stage: ``setup`` or ``verify``: what ran last.
        missing: the program that verify.sh's first line names and this ship surely lacks, after ``setup``; "" = none.
    """

    code: int = validated(minimum=0, maximum=255)
    seconds: float = validated(minimum=0)
    timed_out: bool = False
    tail: str = ""
    stage: str = validated("verify", pattern="setup|verify")
    missing: str = validated("", max_length=300)


@dataclass(frozen=True)
class RescueResult:
    """The content of the workspace, what else the agent committed, and what it left as artifacts.

    Attributes:
        snapshot: None if the workspace was never set to a commit.
    """

    snapshot: Snapshot | None = None
    other: OtherWork | None = None
    artifacts: Artifacts | None = None


@dataclass(frozen=True)
class Failure:
    """Why a command failed.

    Attributes:
        code: ``need_full`` and ``damaged``: send the commit again as a full bundle; ``saved``: start without what a
            lost attempt left; others are for people.
        paths: files to remove (``unfit``).
    """

    code: str = "internal"
    reason: str = ""
    paths: Tuple[str, ...] = ()


# -- commands -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resume:
    """An earlier session to resume, if the ship still has its transcript (a pattern below the home)."""

    session: str
    argv: Tuple[str, ...]
    transcript: str


@dataclass(frozen=True)
class SavedWork:
    """Work of a lost attempt that the next one gets as a reference.

    Attributes:
        bundle: of the commit; what is in the attempt's own base is left out.
        ref: its name in the workspace's repository.
        commit: of its files, on top of the commit that the lost attempt began with.
    """

    bundle: Bundle
    ref: str = validated(pattern="refs/ocaptain/saved/[A-Za-z0-9-]+/[A-Za-z0-9-]+")
    commit: str = validated(pattern=_OID)


@dataclass(frozen=True)
class Start:
    """Start an attempt. With only a token: report the end of the running attempt.

    The fields from ``argv`` on are explained at ``ocaptain.agents.base.RunSpec``.
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
    screen: str | None = None
    repo_settings: str = "ignore"
    task_list: str | None = None
    view: str = "raw"  # what workers of before ``stream`` go by, and what captains of then send: <agent>-stream
    resume: Tuple[Resume, ...] = ()
    resume_prompt: str = ""
    prices: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)  # ocaptain.protocol.limits
    telemetry: Mapping[str, str] = field(
        default_factory=dict
    )  # workers of before ignore it: their agents report nothing
    saved: SavedWork | None = None  # workers of before ignore it


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
    """Run the final verify on exactly one commit.

    Attributes:
        script: the captain's copy of the script, in base64.
        setup: shell command that prepares a fresh clone; None = there is none.
        fresh: whether to use a fresh clone even without a setup; otherwise ignored files stay.
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
class Trial:
    """Try ``setup`` and verify.sh on the start commit, in a clone of their own, beside the agents.

    The commit comes with an attempt. Workers that know it name it in their welcome.

    Attributes:
        script: the captain's copy of verify.sh, in base64.
        timeout: of all of it, in seconds.
        setup: see :class:`Verify`.
    """

    commit: str
    branch: str
    script: str
    timeout: float
    label: str
    setup: str | None = None


@dataclass(frozen=True)
class Rescue:
    """Stop the agent and bundle the whole content of the workspace."""

    name: str


Command = Union[Start, Cancel, Check, Verify, Trial, Rescue]
#: The commands, by their name on the wire.
COMMANDS: Mapping[str, Type[Command]] = {
    "start": Start,
    "cancel": Cancel,
    "check": Check,
    "verify": Verify,
    "trial": Trial,
    "rescue": Rescue,
}


def command_name(command: Command) -> str:
    """Return a command's name on the wire."""
    return type(command).__name__.lower()


@dataclass(frozen=True)
class Result:
    """How a command ended: ``data`` holds the fields of its result, or of a :class:`Failure`."""

    ok: bool
    data: Mapping[str, Any]
