"""Store everything that must survive a restart, behind :class:`Ledger`. The only part that imports SQLAlchemy.

``store`` says what one transaction can do; ``queue``, ``records``, ``installations``, ``channels``, ``once`` and
``signs`` hold the statements, ``parts`` what they have in common, ``schema`` the tables, ``migrations`` the way from
older ones. ``speed`` says what makes it fast, and that all of that may be off.
"""

from . import lanes
from .channels import AccountRecord, ChannelRecord
from .door import Ledger
from .inserts import NewEvent
from .installations import Installation, InstallationState
from .lanes import Topic
from .notify import Watch
from .patience import patience
from .people import Belongings
from .place import file_name, locate
from .plans import Bare, Plan, Snapshot, Step
from .queue import Event, Lease
from .rows import HandoffRecord
from .schema import SCHEMA, EventState
from .speed import FAST, PLAIN, Speed
from .states import State
from .store import Transaction
from .trouble import Misconfigured

__all__ = [
    "FAST",
    "PLAIN",
    "SCHEMA",
    "AccountRecord",
    "Bare",
    "Belongings",
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
    "Speed",
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
