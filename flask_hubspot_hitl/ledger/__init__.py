"""All that is durable. The only part that imports SQLAlchemy; :class:`Ledger` is its one door.

``store`` says what can be asked of it; ``queue`` and ``records`` hold the statements, ``schema`` the tables.
"""

from .patience import patience
from .queue import Event, Lease, NewEvent, Receipt
from .records import HandoffRecord
from .schema import EventState
from .store import Ledger, Transaction

__all__ = [
    "Event",
    "EventState",
    "HandoffRecord",
    "Lease",
    "Ledger",
    "NewEvent",
    "Receipt",
    "Transaction",
    "patience",
]
