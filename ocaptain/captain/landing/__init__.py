"""Landing: ``fetch`` brings a ship's offer here, ``lander`` makes one commit of it on the voyage branch."""

from ocaptain.captain.landing.fetch import fetch_snapshot
from ocaptain.captain.landing.lander import CheckFailed, Conflicted, Landed, Lander, TokenLost, Verdict
from ocaptain.captain.landing.offers import parse_outcome

__all__ = [
    "CheckFailed",
    "Conflicted",
    "Landed",
    "Lander",
    "TokenLost",
    "Verdict",
    "fetch_snapshot",
    "parse_outcome",
]
