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
from .place import file_name, locate
from .plans import Plan, Snapshot, Step
from .queue import Event, Lease, NewEvent
from .records import HandoffRecord
from .schema import SCHEMA, EventState
from .states import State
from .store import Ledger, Transaction
from .trouble import Misconfigured

__all__ = [
    "SCHEMA",
    "AccountRecord",
    "ChannelRecord",
    "Event",
    "EventState",
    "HandoffRecord",
    "Installation",
    "InstallationState",
    "Lease",
    "Ledger",
    "Misconfigured",
    "NewEvent",
    "Plan",
    "Snapshot",
    "State",
    "Step",
    "Topic",
    "Transaction",
    "Watch",
    "file_name",
    "lanes",
    "locate",
    "patience",
]
