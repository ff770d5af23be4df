"""The data of a plan.

Task files are Claude Code's: ``{id, subject, description, activeForm?, status, blocks[],
blockedBy[], metadata?, owner?}``, ids are strings. Unknown fields are kept.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from ocaptain.plan.texts import MAX_TEXT_BYTES, judge_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: An id becomes a file name, a ref name and a tmux window, so it must not look like a path.
TaskId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
#: A model's name is put into an argv, so it must not look like an option.
MODEL = r"^[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]{0,199}$"


def _check_line(text: str) -> str:
    if found := judge_line(text):
        raise PydanticCustomError("problem", "{problem}", {"problem": found[0], "remedy": found[1]})
    return text


def _check_size(text: str) -> str:
    if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        problem = f"is larger than {MAX_TEXT_BYTES} bytes"
        raise PydanticCustomError("problem", "{problem}", {"problem": problem, "remedy": "make it smaller"})
    return text


Line = Annotated[str, StringConstraints(min_length=1), AfterValidator(_check_line)]
Text = Annotated[str, AfterValidator(_check_size)]
#: It becomes a variable of the agent's environment and the first line of a commit.
MAX_SUBJECT = 10_000
Glob = Annotated[str, StringConstraints(pattern=r"^[^/\x00][^\x00]*$", max_length=500)]
Status = Literal["pending", "in_progress", "completed", "deleted"]
Seconds = Annotated[float, Field(gt=0, le=7 * 24 * 3600)]


class _Strict(BaseModel):
    """Wrong types are faults, not conversions; unknown fields are kept."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class Estimate(_Strict):
    """The expected effort of a task: weights the critical path, and drives ``plan simulate``.

    Attributes:
        seconds: duration of one attempt.
        tokens: tokens of its model.
    """

    seconds: Seconds | None = None
    tokens: Annotated[int, Field(ge=0, le=10**12)] | None = None


class Metadata(_Strict):
    """The fields of ``metadata`` that ocaptain reads.

    Attributes:
        run: a shell line; makes the task one of agent ``command``.
        verify: the task's check, a shell line run on the merged candidate.
        agent: name of the agent.
        model: model of the agent.
        max_turns: turns of the model that an attempt may take.
        verify_timeout: seconds the check may take.
        timeout: seconds an attempt may take.
        stall: seconds an attempt may be silent.
        ship: the preferred ship (``ship-0``): gets the task if it sails and is free, else any ship does.
        estimate: expected effort.
        paths: globs of the files that it writes: a task that overlaps with running ones is deferred.
        pin: the only ship that may take it; only pins decide which ships get which agent's role and credential.
        hold: whether no ship gets it before ``ocaptain approve``.
    """

    run: Line | None = None
    verify: Line | None = None
    verify_timeout: Seconds | None = None
    agent: str | None = None
    model: Annotated[str, StringConstraints(pattern=MODEL)] | None = None
    max_turns: Annotated[int, Field(ge=1, le=100_000)] | None = None
    timeout: Seconds | None = None
    stall: Seconds | None = None
    estimate: Estimate | None = None
    paths: Annotated[tuple[Glob, ...], Field(strict=False, max_length=100)] = ()
    ship: Any = None  # plans of other tools may have anything there
    pin: Annotated[str, StringConstraints(pattern=r"^ship-[0-9]{1,6}$")] | None = None
    hold: bool | None = None  # not False by default: a plan's digest has what is set


class Task(_Strict):
    """One task; edges are the union of ``blocks`` and ``blockedBy``."""

    id: TaskId
    subject: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SUBJECT)] = Field(
        validation_alias=AliasChoices("subject", "title")
    )
    description: Text = ""
    activeForm: str | None = None  # noqa: N815 - the file format's spelling
    status: Status = "pending"
    owner: str | None = None
    blocks: tuple[TaskId, ...] = Field((), strict=False)
    blockedBy: tuple[TaskId, ...] = Field((), strict=False)  # noqa: N815
    metadata: Metadata = Field(default_factory=Metadata)

    def as_dict(self) -> dict[str, object]:
        """Return the task in the form of its file, unknown fields included."""
        return self.model_dump(mode="json", exclude_none=True)


class PlanLimits(_Strict):
    """``limits``: each field as in :class:`ocaptain.protocol.limits.Limits`; None = its default."""

    name: Annotated[int, Field(ge=1, le=255)] | None = None
    path: Annotated[int, Field(ge=1, le=4095)] | None = None
    depth: Annotated[int, Field(ge=1, le=500)] | None = None
    files: Annotated[int, Field(ge=1, le=100_000)] | None = None
    file_mib: Annotated[int, Field(ge=1, le=1024)] | None = None
    total_mib: Annotated[int, Field(ge=1, le=1024)] | None = None


class Manifest(_Strict):
    """``voyage.json``.

    Attributes:
        name: the plan's name.
        repo: ``owner/name`` (GitHub), a URL or a path.
        branch: the branch of it that the voyage starts from, None for the one that its HEAD names.
        recommended_ships: how many ships the plan was made for.
        setup: a shell line run in a fresh clone before the final verify.
        verify_timeout: seconds the final verify may take.
        limits: limits of what an attempt may deliver.
    """

    name: Annotated[str, StringConstraints(max_length=1000)] = ""
    repo: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = None
    branch: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None
    recommended_ships: Annotated[int, Field(ge=1, le=500)] | None = None
    setup: Line | None = None
    verify_timeout: Seconds | None = None
    limits: PlanLimits | None = None


#: What to do about a dependency that only one of two tasks names.
ONE_SIDED = "the dependency counts all the same"
#: Findings that say the same of so many tasks have a line each.
MANY = 3


@dataclass(frozen=True)
class Finding:
    """A fault or a warning.

    Attributes:
        file: relative to the plan.
        field: within the file, "" for the file itself.
        problem: what is wrong.
        remedy: what to do.
    """

    file: str
    field: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}" if self.field else self.file
        return f"{where}: {self.problem}; {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        """Return the fields for JSON output."""
        return dict(vars(self))


def group_findings(findings: Sequence[Finding]) -> list[str]:
    """Return findings for people: those that say the same of more than :data:`MANY` tasks are one line."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for one in findings:
        is_one_sided = one.field in {"blocks", "blockedBy"} and one.remedy == ONE_SIDED
        alike.setdefault((one.field, one.remedy) if is_one_sided else (str(one), ""), []).append(one)
    lines = []
    for (name, _), same in alike.items():
        tasks = len({one.file for one in same})
        if tasks > MANY:
            other = "blocks" if name == "blockedBy" else "blockedBy"
            lines.append(f"{tasks} tasks: {name} without {other}; it counts all the same")
        else:
            lines += [str(one) for one in same]
    return lines


@dataclass(frozen=True)
class Plan:
    """A plan that can be sailed: checked, ``deleted`` tasks left out.

    Attributes:
        name: for people.
        spec: content of spec.md.
        verify: content of verify.sh, as bytes.
        manifest: voyage.json.
        tasks: by id, in the files' order.
        prompt: the plan's own prompt template (prompt.md.j2), if it has one.
        files: all of these as they were read, by path.
    """

    name: str
    spec: str
    verify: bytes
    manifest: Manifest
    tasks: Mapping[str, Task]
    prompt: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def digest(self) -> str:
        """Return a digest of the plan's content: 16 hex digits."""
        manifest = self.manifest.model_dump(mode="json")
        if manifest["branch"] is None:  # so that plans of before have the digest that their voyages have
            del manifest["branch"]
        content = {
            "spec": self.spec,
            "verify": self.verify.hex(),
            "manifest": manifest,
            "tasks": [task.as_dict() for task in self.tasks.values()],
            "prompt": self.prompt,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
