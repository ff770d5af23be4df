"""Count the seconds for which a ship was awake, by its provider's own times.

These are ``last_running_at`` and ``last_warming_at`` of a sprite and the ``timestamp`` of the answer, so
that a captain that was away, or whose clock is wrong, counts the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """A ship's state as its provider reports it; times are the provider's Unix seconds.

    Attributes:
        running: whether it is awake, and so is billed.
        running_at: when it last began to run, None = unknown.
        warming_at: when it last was paused, None = never.
        now: when this was reported.
    """

    running: bool
    running_at: float | None
    warming_at: float | None
    now: float


@dataclass(frozen=True)
class Meter:
    """How far a ship's awake time has been counted; the ledger stores it as JSON.

    Attributes:
        run: when the run that is being counted began, None = the ship was paused.
        upto: the time up to which it has been counted.
    """

    run: float | None = None
    upto: float = 0.0


def advance_meter(meter: Meter, sample: Sample) -> tuple[Meter, float]:
    """Return the meter after a sample, and the seconds to add: negative if too many were counted before."""
    began, paused, upto = sample.running_at, sample.warming_at, meter.upto
    if sample.running:
        if meter.run is None:
            start = began if began is not None and began >= upto else max(upto, sample.now) if began is None else upto
            return Meter(start, sample.now), sample.now - start
        if began is not None and paused is not None and began >= paused > meter.run:  # it was paused meanwhile
            return Meter(began, sample.now), (paused - upto) + (sample.now - began)
        return Meter(meter.run, max(upto, sample.now)), max(0.0, sample.now - upto)
    if meter.run is not None:
        end = paused if paused is not None and paused >= meter.run else upto
        return Meter(None, end), end - upto
    if began is not None and paused is not None and paused >= began >= upto:  # a whole run between two samples
        return Meter(None, paused), paused - began
    return meter, 0.0
