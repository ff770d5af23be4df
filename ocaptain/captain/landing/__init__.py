"""Landing: ``fetch`` brings a ship's offer here, ``lander`` makes one commit of it on the voyage branch.

``local`` stacks the user's own commits, which the lander lands before all offers.
"""

from ocaptain.captain.landing.artifacts import Left, collect_artifacts
from ocaptain.captain.landing.entry import CheckFailed, Conflicted, Landed, TokenLost, Verdict
from ocaptain.captain.landing.fetch import fetch_snapshot
from ocaptain.captain.landing.lander import Lander
from ocaptain.captain.landing.local import LocalConflict, LocalLanded
from ocaptain.captain.landing.offers import parse_outcome
from ocaptain.captain.landing.other import Owner, save_other_work

__all__ = [
    "CheckFailed",
    "Conflicted",
    "Landed",
    "Lander",
    "Left",
    "LocalConflict",
    "LocalLanded",
    "Owner",
    "TokenLost",
    "Verdict",
    "collect_artifacts",
    "fetch_snapshot",
    "parse_outcome",
    "save_other_work",
]
