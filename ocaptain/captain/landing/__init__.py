"""Landing: ``offers`` is what ships offer, ``lander`` makes one commit of it on the voyage branch."""

from ocaptain.captain.landing.fetch import fetch
from ocaptain.captain.landing.lander import CheckFailed, Conflicted, Landed, Lander, TokenLost, Verdict
from ocaptain.captain.landing.offers import (
    CheckResult,
    Outcome,
    SnapshotOffer,
    VerifyResult,
    parse_outcome,
)

__all__ = [
    "CheckFailed",
    "CheckResult",
    "Conflicted",
    "Landed",
    "Lander",
    "Outcome",
    "SnapshotOffer",
    "TokenLost",
    "Verdict",
    "VerifyResult",
    "fetch",
    "parse_outcome",
]
