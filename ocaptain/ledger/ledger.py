"""The ledger of a voyage: all its writes and queries, by subject."""

from ocaptain.ledger.claims import Claims
from ocaptain.ledger.fleet import Fleet
from ocaptain.ledger.landings import Landings
from ocaptain.ledger.live import Live
from ocaptain.ledger.local import LocalLandings
from ocaptain.ledger.queries import Queries
from ocaptain.ledger.repairs import Repairs
from ocaptain.ledger.spending import Spending


class Ledger(Claims, Repairs, Landings, LocalLandings, Fleet, Live, Spending, Queries):
    """A connection to a voyage's ledger; see :class:`ocaptain.ledger.store.Store` for how it is opened."""
