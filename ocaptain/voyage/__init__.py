"""Voyages on this machine: their directories and the steps of their life.

::

    home.py      where voyages are, finding one by a prefix of its id
    source.py    the repository that a voyage starts from
    prepare.py   check everything, then make directory, repository and ledger
    life.py      launch, wait, and the two halves of a sink
"""

from ocaptain.voyage.home import Home, VoyageDirectory
from ocaptain.voyage.life import Built, Outcome, begin_sink, finish_sink, has_mesh, launch, leave_mesh, left_of, wait
from ocaptain.voyage.prepare import Prepared, Request, prepare

__all__ = [
    "Built",
    "Home",
    "Outcome",
    "Prepared",
    "Request",
    "VoyageDirectory",
    "begin_sink",
    "finish_sink",
    "has_mesh",
    "launch",
    "leave_mesh",
    "left_of",
    "prepare",
    "wait",
]
