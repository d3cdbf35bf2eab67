"""All that is durable. The only part that imports SQLAlchemy; :class:`Ledger` is its one door.

``store`` says what can be asked of it; ``queue``, ``records``, ``installations``, ``channels``, ``once`` and ``signs``
hold the statements, ``schema`` the tables, ``migrations`` the way from older ones.
"""

from . import lanes
from .channels import AccountRecord, ChannelRecord
from .installations import Installation, InstallationState
from .lanes import Topic
from .notify import Watch
from .patience import patience
from .queue import Event, Lease, NewEvent, Receipt
from .records import HandoffRecord
from .schema import EventState
from .store import Ledger, Transaction

__all__ = [
    "AccountRecord",
    "ChannelRecord",
    "Event",
    "EventState",
    "HandoffRecord",
    "Installation",
    "InstallationState",
    "Lease",
    "Ledger",
    "NewEvent",
    "Receipt",
    "Topic",
    "Transaction",
    "Watch",
    "lanes",
    "patience",
]
