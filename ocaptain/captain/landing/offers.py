"""The shape of what ships say of attempts and checks. A ship is hostile: only what is of this shape is taken."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ocaptain.git.bundles import MAX_BUNDLE
from ocaptain.protocol import MAX_PART_BYTES, PART_BYTES

Oid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PartOffer(BaseModel):
    """A part of a bundle on the ship; the path is one that only the worker's outbox can have."""

    model_config = ConfigDict(extra="ignore", strict=True)

    path: Annotated[str, StringConstraints(pattern=r"^\.ocaptain/out/[A-Za-z0-9-]+\.[0-9]{1,3}$")]
    size: Annotated[int, Field(ge=0, le=MAX_PART_BYTES)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class BundleOffer(BaseModel):
    """A bundle on the ship."""

    model_config = ConfigDict(extra="ignore", strict=True)

    parts: Annotated[list[PartOffer], Field(max_length=MAX_BUNDLE // PART_BYTES)]


class SnapshotOffer(BaseModel):
    """What a workspace held."""

    model_config = ConfigDict(extra="ignore", strict=True)

    commit: Oid
    base: Oid
    empty: bool
    message: Annotated[str, StringConstraints(max_length=20000)] = ""
    left_out: Annotated[list[str], Field(max_length=200)] = []
    bundle: BundleOffer


class UnfitOffer(BaseModel):
    """Why a workspace could not be offered."""

    model_config = ConfigDict(extra="ignore", strict=True)

    reason: str
    paths: Annotated[list[str], Field(max_length=1000)]


class Outcome(BaseModel):
    """How an attempt ended, as the ship says."""

    model_config = ConfigDict(extra="ignore", strict=True)

    code: Annotated[int, Field(ge=-1, le=255)]
    reason: Annotated[str, StringConstraints(max_length=100)]
    seconds: Seconds
    tail: str = ""
    snapshot: SnapshotOffer | None = None
    unfit: UnfitOffer | None = None
    agent: dict[str, Any] | None = None  # looked at by its agent


class CheckResult(BaseModel):
    """How a check ended, as the ship says."""

    model_config = ConfigDict(extra="ignore", strict=True)

    code: Annotated[int, Field(ge=0, le=255)]
    seconds: Seconds
    timed_out: bool = False
    tail: str = ""


class VerifyResult(CheckResult):
    """How the final verify ended, as the ship says."""

    clean: bool
    stage: str = "verify"


def parse_outcome(data: dict[str, Any]) -> Outcome | str:
    """Return a ship's outcome, or what is wrong with it."""
    try:
        return Outcome.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"the ship's result cannot be understood: {'.'.join(map(str, first['loc']))}: {first['msg']}"
