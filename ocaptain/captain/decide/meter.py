"""For how many seconds a ship was awake, from what its provider says of it.

The provider's own times count (``last_running_at``, ``last_warming_at`` of a sprite and the
``timestamp`` of the answer), so a captain that was away, or whose clock is wrong, counts the same.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """What a provider says of a ship; times are its Unix seconds.

    Attributes:
        running: whether it is awake, and bills.
        running_at: when it last began to run, None = unknown.
        warming_at: when it last was paused, None = never.
        now: the provider's time.
    """

    running: bool
    running_at: float | None
    warming_at: float | None
    now: float


@dataclass(frozen=True)
class Meter:
    """Up to where a ship's time is counted.

    Attributes:
        run: when the run began that is being counted, None = it was paused.
        upto: what is counted up to.
    """

    run: float | None = None
    upto: float = 0.0


def count(meter: Meter, sample: Sample) -> tuple[Meter, float]:
    """Return the meter after a sample, and the seconds to add: less than none if too much was counted before."""
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
    if began is not None and paused is not None and paused >= began >= upto:  # a whole run that nobody saw
        return Meter(None, paused), paused - began
    return meter, 0.0
