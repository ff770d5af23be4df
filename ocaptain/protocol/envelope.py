"""The messages of a channel, as dataclasses; :mod:`ocaptain.protocol` explains them.

Only ``pack`` and ``unpack`` convert them to JSON objects and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple, Type, Union

from ocaptain.protocol import COMMAND, Message
from ocaptain.protocol.codec import Malformed, from_dict, to_dict, validated
from ocaptain.protocol.messages import MAX_NUMBER, Part, Snapshot

#: Record numbers by class; a worker of protocol 1 has one number for all classes.
RecordNumbers = Union[Mapping[str, int], int]
#: Of an OTLP call as a ship stores it: what the worker takes, and room for zlib's own bytes.
MAX_CALL_BYTES = 4 * 1024 * 1024 + 64 * 1024


def _require_record_numbers(numbers: RecordNumbers) -> None:
    for number in numbers.values() if isinstance(numbers, Mapping) else [numbers]:
        if not 0 <= number <= MAX_NUMBER:
            raise Malformed(f"{number} is not a valid record number")


@dataclass(frozen=True)
class Hello:
    """The first message on a channel.

    ``classes``: of records that the captain takes; None from earlier captains, which take the first three.
    """

    protocol: int
    voyage: str
    ship: str
    epoch: int
    generation: int
    journal: str | None = None
    after: RecordNumbers = 0
    classes: Tuple[str, ...] | None = None


@dataclass(frozen=True)
class Call:
    """A command; a repeated id means the same command, which is not run twice.

    Attributes:
        parts: files with the JSON of ``args``, which is empty then; since 0.1, for workers that say so.
    """

    id: str
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    parts: Tuple[Part, ...] | None = None


@dataclass(frozen=True)
class Ack:
    """Records up to these numbers are processed."""

    upto: RecordNumbers


@dataclass(frozen=True)
class Pull:
    """Send the records after this number again."""

    after: int
    class_: str | None = None


@dataclass(frozen=True)
class TaskList:
    """Entries of the list of the voyage's tasks, for agents that show one; nothing answers it.

    Workers of before ignore it. It is no command: those leave a result on the ship's disk.

    Attributes:
        tasks: entries, each with its ``id``; in place of those with the same ids.
        whole: whether these, and what follows them, are the whole list.
        more: whether more entries follow, before which these do not count.
    """

    tasks: Tuple[Mapping[str, Any], ...] = ()
    whole: bool = False
    more: bool = False


@dataclass(frozen=True)
class Rest:
    """There is no work for this ship: it may sleep."""


@dataclass(frozen=True)
class Ping:
    """Ask for a :class:`Pong`."""


@dataclass(frozen=True)
class Look:
    """Ask for the files of a running attempt as they are now; the answer is a :class:`Seen`.

    Nothing waits for it and nothing keeps it: it is no command, and no record of the journal. Workers of before
    take it for noise.

    Attributes:
        number: of the question; the answer has the same.
        have: the commit of the last answer that the captain has, "" for none.
    """

    token: int
    number: int
    have: str = ""


@dataclass(frozen=True)
class Welcome:
    """The answer to hello: the journal's name and numbers, and the running attempt.

    Attributes:
        busy: token of the running attempt; None if there is none.
        command: id of the command that started it; None from earlier workers.
        parts: whether it reads the arguments of a command from files; None from earlier workers.
        commands: names of the commands that the worker knows; empty from earlier workers, which know no ``trial``.
    """

    first: RecordNumbers
    last: RecordNumbers
    journal: str = validated(pattern="[0-9a-f]{8,64}")
    protocol: int = 1
    busy: int | None = validated(None, minimum=1, maximum=MAX_NUMBER)
    command: str | None = validated(None, max_length=200)
    parts: bool | None = None
    commands: Tuple[str, ...] = validated((), max_length=100)

    def __post_init__(self) -> None:
        _require_record_numbers(self.first)
        _require_record_numbers(self.last)


@dataclass(frozen=True)
class Refusal:
    """The answer to a hello that is refused."""

    reason: str = ""
    protocol: int | None = None
    epoch: int | None = None
    generation: int | None = None


@dataclass(frozen=True)
class Dropped:
    """Records up to this number do not exist any more."""

    class_: str
    upto: int = validated(minimum=0, maximum=MAX_NUMBER)


@dataclass(frozen=True)
class Trouble:
    """Why the worker waits; empty = the trouble is over."""

    reason: str


@dataclass(frozen=True)
class Resting:
    """The answer to rest: all records up to these numbers have been sent."""

    last: Mapping[str, int]

    def __post_init__(self) -> None:
        _require_record_numbers(self.last)


@dataclass(frozen=True)
class Pong:
    """The answer to ping."""


@dataclass(frozen=True)
class Seen:
    """The answer to :class:`Look`.

    Attributes:
        number: of the question.
        snapshot: the files, on top of what the captain has; None if nothing has changed since, or ``problem`` says why.
        files, size: files that differ from the attempt's base, and their bytes.
        problem: why they are not (all) here.
        is_running: whether the attempt runs; False while it is being started, and when it has ended.
    """

    number: int
    snapshot: Snapshot | None = None
    files: int = validated(0, minimum=0, maximum=MAX_NUMBER)
    size: int = validated(0, minimum=0, maximum=MAX_NUMBER)
    problem: str = validated("", max_length=1000)
    is_running: bool = True


ToWorker = Union[Hello, Call, Ack, Pull, TaskList, Rest, Ping, Look]
ToCaptain = Union[Welcome, Refusal, Dropped, Trouble, Resting, Pong, Seen]
#: What a worker that answers :class:`Look`, and takes ``saved`` of a start, names among its commands.
LOOK = "look"
TYPES: Mapping[str, Type[Union[ToWorker, ToCaptain]]] = {
    "hello": Hello,
    COMMAND: Call,
    "ack": Ack,
    "pull": Pull,
    "task_list": TaskList,
    "rest": Rest,
    "ping": Ping,
    "look": Look,
    "welcome": Welcome,
    "refused": Refusal,
    "dropped": Dropped,
    "trouble": Trouble,
    "resting": Resting,
    "pong": Pong,
    "seen": Seen,
}
_NAMES = {cls: name for name, cls in TYPES.items()}


def pack(message: ToWorker | ToCaptain) -> Message:
    """Convert a message to its JSON object; fields that are None are left out."""
    fields = {name: value for name, value in to_dict(message).items() if value is not None}
    return {"type": _NAMES[type(message)], **fields}


def unpack(message: Message) -> ToWorker | ToCaptain | None:
    """Convert a JSON object to its message; None if its type is unknown.

    Raises:
        Malformed: the type is known, but a field is invalid.
    """
    cls = TYPES.get(message["type"])
    return None if cls is None else from_dict(cls, message)


# -- bodies of records ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ResultBody:
    """How a command ended (``kind`` ``result``)."""

    id: str = ""
    ok: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "result"


@dataclass(frozen=True)
class LogBody:
    """A piece of an attempt's log, in base64 (``kind`` ``log``).

    ``at``: when it was written, by the ship's clock, in seconds since 1970; older workers do not say it.
    """

    token: int = validated(minimum=1, maximum=MAX_NUMBER - 1)
    offset: int = validated(minimum=0, maximum=2**40)
    data: str = ""
    kind: str = "log"
    at: float | None = None


@dataclass(frozen=True)
class AgentBody:
    """The facts from an attempt's stream so far (``kind`` ``agent``)."""

    token: int = validated(minimum=1, maximum=MAX_NUMBER - 1)
    facts: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "agent"


@dataclass(frozen=True)
class OtlpBody:
    """A piece of an OTLP call that an agent sent (``kind`` ``otlp``); the pieces of a call follow one another.

    Attributes:
        signal: ``metrics``, ``logs`` or ``traces``.
        type: content type of the call's body.
        data: the piece, in base64, of the body as it was sent (gzip), or as the worker packed it (zlib).
        spool: id of the numbering of the ship's calls.
        call: number of the call; it only grows.
        before: bytes of all calls before it, so that what was dropped can be told.
        size: bytes of all of the call's pieces.
        piece, pieces: number of this piece, from 0, and how many there are.
        at: when the call came, by the ship's clock, in seconds since 1970.
        token: of the attempt that ran then; None if none did.
    """

    signal: str = validated(pattern="metrics|logs|traces")
    type: str = validated(pattern="application/(x-protobuf|json)")
    spool: str = validated(pattern="[0-9a-f]{8,64}")
    call: int = validated(minimum=1, maximum=MAX_NUMBER)
    before: int = validated(minimum=0, maximum=MAX_NUMBER)
    size: int = validated(minimum=0, maximum=MAX_CALL_BYTES)
    piece: int = validated(minimum=0, maximum=MAX_CALL_BYTES)
    pieces: int = validated(minimum=1, maximum=MAX_CALL_BYTES)
    at: float = validated(minimum=0, maximum=MAX_NUMBER)
    data: str = ""
    token: int | None = validated(None, minimum=1, maximum=MAX_NUMBER - 1)
    kind: str = "otlp"


#: What a ship sends without being asked.
Notice = Union[LogBody, AgentBody, OtlpBody]
Body = Union[ResultBody, Notice]
_BODIES: Mapping[str, Type[Body]] = {"result": ResultBody, "log": LogBody, "agent": AgentBody, "otlp": OtlpBody}


def read_body(body: Message) -> Body | None:
    """Convert a record's body; None if its kind is unknown or a field is invalid."""
    cls = _BODIES.get(str(body.get("kind")))
    if cls is None:
        return None
    try:
        return from_dict(cls, body)
    except Malformed:
        return None
