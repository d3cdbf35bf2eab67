"""The lanes and topics of the queue in one table: what waits where, in which order lanes are locked, what is a timer,
what is urgent.

No other module spells or parses the key of a lane. The keys stand in the database: a prefix is never changed.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from enum import Enum, IntEnum, StrEnum, auto

from ..domain import Handoff


class Topic(StrEnum):
    """Which task runs an event. An event of HubSpot's has its ``Kind`` here, a bridge's its :func:`bridge_topic`."""

    SIGNAL = "signal"
    ACCOUNT_REMOVED = "account-removed"
    INBOX = "inbox"
    OPEN = "open"
    NOTE = "note"
    ASSIGN = "assign"
    PUBLISH = "publish"
    CLOSE = "close"
    RECEIPT = "receipt"
    TICKET = "ticket"
    TICKET_NOTE = "ticket-note"
    UNPARK = "unpark"
    ASSIGNMENT_TIMEOUT = "assignment-timeout"
    IDLE = "idle"
    RECONCILE = "reconcile"
    LOOK_BACK = "look-back"
    SWEEP = "reconcile-all"
    RESUME = "resume"
    ACCOUNTS = "accounts"
    PRUNE = "prune"
    JOURNAL = "journal"
    LIFECYCLE = "lifecycle"
    WIPE = "wipe"
    QUEUE = "queue"


class Rank(IntEnum):
    """In which order a transaction locks lanes, lowest first, so that no two transactions wait for each other.

    The rows of handoffs are locked after the lanes of rank ``THREAD`` and before those of rank ``LAST``.
    """

    PARKED = auto()
    TASK = auto()
    THREAD = auto()
    LAST = auto()
    """Lanes whose own tasks lock no handoff."""


class Work(IntEnum):
    """How urgent the work of a lane is, the most urgent first. Classes order lanes, never events within a lane."""

    LIVE = auto()
    """A user or an agent waits for it: messages, opens and ends, and the reads that these need."""
    RECEIPT = auto()
    """Told about what has happened: receipts for the agent, news for the host."""
    TIMER = auto()
    LOOKING_BACK = auto()
    """Looks for what may have been missed, and tidies up."""


EVERY_WORK = tuple(Work)


class Lane(Enum):
    """A kind of lane: the prefix of its keys, its rank, how urgent it is, and whether its events wait for their time,
    not for work.
    """

    PARKED = "park", Rank.PARKED, Work.LIVE, True
    OUTBOUND = "out", Rank.TASK, Work.LIVE, False
    TICKET = "ticket", Rank.TASK, Work.LIVE, False
    NEW_MESSAGES = "gap", Rank.TASK, Work.LIVE, True
    TIMER = "timer", Rank.TASK, Work.TIMER, True
    RECONCILE = "reconcile", Rank.TASK, Work.LOOKING_BACK, True
    RESUME = "resume", Rank.TASK, Work.LIVE, True
    ACCOUNTS = "accounts", Rank.TASK, Work.TIMER, True
    PRUNE = "prune", Rank.TASK, Work.LOOKING_BACK, True
    JOURNAL = "journal", Rank.TASK, Work.LOOKING_BACK, True
    PORTAL = "portal", Rank.TASK, Work.RECEIPT, False
    BRIDGE = "botpress-", Rank.TASK, Work.LIVE, False
    """The prefix of a family: it is followed by the bridge's name."""
    THREAD = "in", Rank.THREAD, Work.LIVE, False
    RECEIPTS = "receipt", Rank.LAST, Work.RECEIPT, False
    NEWS = "dead", Rank.LAST, Work.RECEIPT, False
    ERASURES = "erase", Rank.LAST, Work.LIVE, False
    """Its tasks hold no other lane while they run: an erasure has a transaction of its own."""

    def __init__(self, prefix: str, rank: Rank, work: Work, is_timer: bool) -> None:
        self.prefix = prefix
        self.rank = rank
        self.work = work
        self.is_timer = is_timer

    def key(self, *parts: str) -> str:
        """Return the key of one lane of this kind."""
        return ":".join((self.prefix, *parts))


class UnknownLane(ValueError):
    """The key of a lane belongs to no kind of the table: it has no place in the order of locks."""


_KINDS = {kind.prefix: kind for kind in Lane}
_WORKS = {kind.prefix: kind.work for kind in Lane}


def kind_of(key: str) -> Lane:
    """Return the kind of a lane by its key.

    :raises UnknownLane: when the table has no such kind.
    """
    prefix, colon, _ = key.partition(":")
    kind = _KINDS.get(prefix)
    if kind is None and prefix.startswith(Lane.BRIDGE.prefix):
        kind = Lane.BRIDGE
    if kind is None or not colon:
        raise UnknownLane(f"there is no lane {key!r}; its kind belongs into the table Lane of ledger/lanes.py")
    return kind


def is_known(key: str) -> bool:
    """Return False for a lane of a kind that only a newer version knows."""
    try:
        kind_of(key)
    except UnknownLane:
        return False
    return True


def lock_order(key: str) -> tuple[int, str]:
    """Sort lanes that are about to be locked.

    :raises UnknownLane: when the table has no such kind.
    """
    return kind_of(key).rank, key


def stored_order(key: str) -> tuple[int, str]:
    """Sort lanes that were read from the database: a newer version may have put kinds there unknown to this one."""
    try:
        return lock_order(key)
    except UnknownLane:
        return Rank.TASK, key


def is_of_thread(key: str) -> bool:
    """Return True for the lane of a thread, when a lane was read from the database."""
    return stored_order(key)[0] == Rank.THREAD


def work_of(key: str) -> Work:
    """Return how urgent a lane that was read from the database is; one of a kind unknown here may be a user's.

    Bridges' lanes, whose prefixes are not in the table, are a user's.
    """
    return _WORKS.get(key.partition(":")[0], Lane.BRIDGE.work)


_OF_BRIDGES = re.compile(f"(?:{Lane.TIMER.prefix}:)?{Lane.BRIDGE.prefix}[^:]+:")


def shown(key: str) -> str:
    """Return a lane's key for a log: bridges call theirs by the host's users, who may be called by their numbers."""
    found = _OF_BRIDGES.match(key)
    return key if found is None else f"{found[0]}…"


doing: ContextVar[Work] = ContextVar("hubspot_hitl_doing", default=Work.LIVE)
"""How urgent the work is that the current thread does: that of the lane it runs; a host's own call is live."""


# The keys, by what is in the lane ------------------------------------------------------------------------


def outbound(handoff_id: str) -> str:
    """Return the lane of what is sent to HubSpot for a handoff, in order of acceptance."""
    return Lane.OUTBOUND.key(handoff_id)


def ticket(handoff_id: str) -> str:
    """Return the lane of what is to be on the ticket of a handoff's thread, which comes later than the thread."""
    return Lane.TICKET.key(handoff_id)


def thread(portal_id: str, thread_id: str) -> str:
    """Return the lane of what HubSpot tells of a thread, in HubSpot's order."""
    return Lane.THREAD.key(portal_id, thread_id)


def signals(handoff: Handoff) -> str:
    """Return the lane of a handoff's signals: its thread's, or one of its own until the thread is known."""
    if handoff.thread_id is None:
        return Lane.THREAD.key(handoff.portal_id, "starting", handoff.id)
    return thread(handoff.portal_id, handoff.thread_id)


def new_messages(portal_id: str, thread_id: str) -> str:
    """Return the lane of a thread's ``newMessage`` events, which wait to see whether the channel's event comes."""
    return Lane.NEW_MESSAGES.key(portal_id, thread_id)


def parked(portal_id: str) -> str:
    """Return the lane in which a portal's parked events are looked after; they themselves are in no lane."""
    return Lane.PARKED.key(portal_id)


def receipts(handoff_id: str) -> str:
    """Return the lane of a handoff's receipts for the agent; apart, so that they never hold a message back."""
    return Lane.RECEIPTS.key(handoff_id)


def receipt_of_event(event_id: int) -> str:
    """Return the lane of the receipt for a message that belongs to no handoff."""
    return Lane.RECEIPTS.key("event", str(event_id))


def timer(*parts: str) -> str:
    """Return the lane of one timer: it waits alone and holds nothing back."""
    return Lane.TIMER.key(*parts)


def reconcile(handoff_id: str) -> str:
    """Return the lane in which a handoff is compared with its thread."""
    return Lane.RECONCILE.key(handoff_id)


def proof(handoff_id: str) -> str:
    """Return the lane in which a handoff's whole thread is read once a day; it waits long, and holds nothing back."""
    return Lane.RECONCILE.key(handoff_id, "proof")


def look_back(portal_id: str) -> str:
    """Return the lane in which the handoffs of a portal are found whose threads have moved."""
    return Lane.RECONCILE.key("portal", portal_id)


def sweep(name: str) -> str:
    """Return the lane of a comparison of all handoffs, by name: one that waits holds no other back."""
    return Lane.RECONCILE.key(name)


def resume(portal_id: str) -> str:
    """Return the lane that wakes what waited for a portal's new token."""
    return Lane.RESUME.key(portal_id)


def accounts(portal_id: str, after_ms: int) -> str:
    """Return the lane in which a portal's channel accounts are read, this many milliseconds after a hint."""
    return Lane.ACCOUNTS.key(portal_id, str(after_ms))


def prune() -> str:
    """Return the lane of the housekeeping; there is one."""
    return Lane.PRUNE.key("")


def journal(portal_id: str = "") -> str:
    """Return the lane in which HubSpot's journal is read, or that of what it tells of a portal."""
    return Lane.JOURNAL.key(portal_id)


def portal(portal_id: str) -> str:
    """Return the lane of the signals that tell of a portal."""
    return Lane.PORTAL.key(portal_id)


def news(event_id: int) -> str:
    """Return the lane of the signal that an event was given up."""
    return Lane.NEWS.key(str(event_id))


def bridge_news(name: str) -> str:
    """Return the lane of the signal that a bridge's key is refused."""
    return Lane.NEWS.key(f"bridge-{name}")


def erasure(*parts: str) -> str:
    """Return the lane of an erasure, or of what follows from one: it waits for no lane of the person's."""
    return Lane.ERASURES.key(*parts)


def bridge_topic(name: str) -> str:
    """Return the topic of a bridge's events."""
    return f"{Lane.BRIDGE.prefix}{name}"


def bridge(topic: str, *parts: str) -> str:
    """Return a lane of a bridge's; ``topic`` is from :func:`bridge_topic`."""
    return ":".join((topic, *parts))
