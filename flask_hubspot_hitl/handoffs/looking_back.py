"""Find the handoffs whose threads have moved while no webhook came, by HubSpot's lists instead of thread by thread.

A list tells of each thread whether it is open, who has it and when an agent wrote last. What that can't tell is named
in docs/rules.rst G2. Only threads that differ from what is stored are read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..clock import to_ms
from ..config import Settings
from ..domain import CloseReason
from ..errors import HubSpotRejected
from ..hubspot import fields
from ..hubspot.client import HubSpotClient
from ..ledger import HandoffRecord, NewEvent, Transaction
from ..portals.clients import Services
from . import erasing
from .history import History, holder_of, moment
from .states import ListState, LookBackState, ToCompare

logger = logging.getLogger(__name__)

DAY_MS = 86_400_000
PAGE_SIZES = (500, 100)
"""Threads on a page that HubSpot is asked for; the next when it refuses one (docs/hubspot.rst: Conversation calls)."""
SLACK_MS = 600_000
"""Milliseconds by which HubSpot's clock may be behind ours."""

Json = dict[str, Any]
Told = Callable[[int, int], None]
"""Is told how many handoffs were looked at, and of how many."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """Hold a handoff whose thread is to be read, and what its task is told."""

    record: HandoffRecord
    how: ToCompare


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold what the reading of one handoff gave."""

    events: list[NewEvent] = field(default_factory=list)
    seen: str | None = None
    """The state of both sides that was read, to be remembered; None: nothing."""
    is_read: bool = True
    """False when the thread's own fields showed that nothing has moved."""


@dataclass(frozen=True, slots=True)
class _List:
    """Hold one of HubSpot's lists of an inbox's threads."""

    name: str
    inbox_id: str | None
    """None: those of all inboxes."""
    filters: dict[str, Any]
    at: ListState
    """How far it was read."""


@dataclass(frozen=True, slots=True)
class _Work:
    """Hold one look at a portal: its client, when agents wrote last (handoff id → epoch ms), and what is left."""

    client: HubSpotClient
    portal_id: str
    written: Mapping[str, int]
    so_far: LookBackState
    told: Callable[[int], None]
    """Is told how many handoffs have been dealt with."""

    def saw(self, thread_id: str) -> None:
        """Note that a thread has been dealt with."""
        self.so_far.seen.append(thread_id)
        self.told(len(self.so_far.seen))


class LookingBack:
    """Find and read the threads that have moved."""

    def __init__(self, services: Services, history: History) -> None:
        self._services = services
        self._ledger = services.ledger
        self._history = history

    # Which threads have moved ----------------------------------------------------------------------------

    def at_portal(
        self, portal_id: str, *, thorough: bool, so_far: LookBackState, told: Told | None = None
    ) -> Iterator[Suspect]:
        """Return the handoffs of a portal that are to be read, one after the other.

        :param thorough: look for what became of closed handoffs, too.
        :param so_far: how far it is; a look that was broken off goes on there, with those that are left.
        :param told: is told, now and then, how far it is.
        :raises HubSpotUnavailable: when HubSpot's lists can't be read now.
        :raises NotConfigured: when we have no token for the portal.
        """
        since = closed_since(self._services.settings, self._ledger.now_ms())
        seen = set(so_far.seen)
        inboxes: dict[str | None, list[HandoffRecord]] = {}
        with self._ledger.read() as tx:
            records = tx.records.to_reconcile(closed_since=since if thorough else None, portal_id=portal_id)
            written = tx.records.agents_wrote(portal_id, closed_since=since)
            for one in records:
                if one.handoff.thread_id not in seen:
                    inboxes.setdefault(_inbox_of(tx, one), []).append(one)

        def count(done: int) -> None:
            if told is not None:
                told(done, len(records))

        work = _Work(self._services.client(portal_id), portal_id, written, so_far, count)
        for inbox_id, mine in inboxes.items():
            yield from self._in_inbox(work, inbox_id, mine, thorough)

    def _in_inbox(
        self, work: _Work, inbox_id: str | None, records: list[HandoffRecord], thorough: bool
    ) -> Iterator[Suspect]:
        """Return the handoffs of one inbox that are to be read."""
        unseen = {str(one.handoff.thread_id): one for one in records}
        goal = {name for name, one in unseen.items() if one.handoff.is_open}
        yield from self._on_list(work, _list(work, "open", inbox_id, {"status": "OPEN"}), unseen, goal)
        if not thorough:
            return
        for name, filters in (("archived", {"archived": True}), ("closed", {"status": "CLOSED"})):
            left = {key: one for key, one in unseen.items() if (name == "archived") is _is_archived(one)}
            if left:
                where = _list(work, name, inbox_id, filters)
                if where.at.since_ms is None:
                    # Every thread has a message: the first one, that made it.
                    began = (max(_opened(one), work.written.get(one.handoff.id, 0)) for one in left.values())
                    where.at.since_ms = min(began) - SLACK_MS
                where.filters["since_ms"] = where.at.since_ms
                yield from self._on_list(work, where, left, set(left))

    def _on_list(
        self, work: _Work, where: _List, unseen: dict[str, HandoffRecord], goal: set[str]
    ) -> Iterator[Suspect]:
        """Look for threads on one list; those of the goal that are not there are to be looked at one by one.

        :param unseen: the handoffs by their threads; those that are dealt with are taken out.
        :param goal: the threads that are expected on the list.
        """
        for thread in self._listed(work, where, goal):
            record = unseen.pop(str(thread.get("id")), None)
            if record is None:
                continue
            goal.discard(str(record.handoff.thread_id))
            work.saw(str(record.handoff.thread_id))
            written = work.written.get(record.handoff.id, 0)
            if differs(record, written, thread):
                seen = digest(record, written, thread)
                if not self._knows(record, seen):
                    yield Suspect(record, ToCompare(seen=seen))
        for name in sorted(goal):
            work.saw(name)
            yield Suspect(unseen.pop(name), ToCompare(glance=True))

    def _listed(self, work: _Work, where: _List, goal: set[str]) -> Iterator[Json]:
        """Return a list's threads, page after page, until what is left of the goal is cheaper read one by one.

        How long the list is can be known from the last look only. Where it is not, the list is given up once as many
        pages in a row were in vain as there are threads left: that costs at most twice what the cheaper way does.
        """
        at = where.at
        if at.is_over:
            return
        key = f"looking-back:{work.portal_id}:{where.inbox_id}:{where.name}"
        with self._ledger.read() as tx:
            known = tx.once.get(key, now=self._ledger.now_ms()) or {}
        at.size, expected = at.size or int(known.get("size", PAGE_SIZES[0])), int(known.get("pages", 0))
        pages = at.pages
        while goal and not at.is_over:
            if (expected - pages if expected > pages else max(at.in_vain, 1)) >= len(goal):
                pages *= 2  # worth another try when there are twice as many threads to look for
                break
            try:
                found, at.after = work.client.threads_page(
                    inbox_id=where.inbox_id, limit=at.size, after=at.after, **where.filters
                )
            except HubSpotRejected as error:
                smaller = [one for one in PAGE_SIZES if one < at.size]
                if not smaller:
                    logger.warning(
                        "HubSpot refuses the list of threads of portal %s (%s); they are read one by one. Run "
                        "'flask hubspot-hitl doctor'",
                        work.portal_id,
                        error,
                    )
                    break
                at.size = smaller[0]
                continue
            pages, before = pages + 1, len(goal)
            yield from found
            at.in_vain = at.in_vain + 1 if len(goal) == before else 0
            at.pages, at.is_over = pages, at.after is None
        at.is_over = True
        if pages:
            now = self._ledger.now_ms()
            with self._ledger.write() as tx:
                tx.once.put(key, {"size": at.size, "pages": pages}, expires_at=now + DAY_MS)

    # One thread ------------------------------------------------------------------------------------------

    def compare(self, record: HandoffRecord, how: ToCompare) -> Compared:
        """Read a handoff's thread.

        :param how: ``glance``: only if the thread's own fields, which are read first, differ from what is stored.
        :raises HubSpotError: when the thread can't be read.
        :raises NotConfigured: when we have no token for its portal.
        """
        seen = how.seen
        if how.glance:
            with self._ledger.read() as tx:
                rows = tx.records.operator_rows(record.handoff.id)
            written = max((one.created_at for one in rows), default=0)
            thread = self._history.thread(record, str(record.handoff.thread_id))
            seen = digest(record, written, thread or {})
            if (thread is not None and not differs(record, written, thread)) or self._knows(record, seen):
                return Compared(is_read=False)
        return Compared(self._history.of_handoff(record), seen)

    def settle(self, tx: Transaction, record: HandoffRecord, compared: Compared, *, now: int) -> int:
        """Queue what was missed, and remember what was read.

        :param now: epoch ms.
        :returns: how many events are new.
        """
        if compared.seen is not None and tx.records.get(record.handoff.id) is not None:
            tx.once.put(_key(record), {"seen": compared.seen}, expires_at=now + 2 * DAY_MS)
        put = tx.queue.put(compared.events, now=now)
        return put - erasing.refuse_late(tx, compared.events, now=now)

    def _knows(self, record: HandoffRecord, seen: str) -> bool:
        """Return True when both sides are as they were when the thread was last read: that it differs is no news."""
        now = self._ledger.now_ms()
        with self._ledger.read() as tx:
            return (tx.once.get(_key(record), now=now) or {}).get("seen") == seen


def differs(record: HandoffRecord, written: int, thread: Mapping[str, Any]) -> bool:
    """Return True when a thread's own fields tell something that is not stored of its handoff.

    :param written: epoch ms of the newest message of an agent's that is stored; 0 without one.
    :param thread: ``PublicThread``, as lists and single reads give it (docs/hubspot.rst: Threads).
    """
    handoff = record.handoff
    sent = moment(thread, "latestMessageSentTimestamp") or 0
    is_archived, is_open = thread.get("archived") is True, thread.get("status") == "OPEN"
    if not handoff.is_open:
        return not is_archived and (is_open or sent > max(record.closed_ms, written))
    if handoff.inbox_id is not None and fields.identifier(thread.get("inboxId")) not in (handoff.inbox_id, None):
        return True
    is_held_by_another = holder_of(thread.get("assignedTo")) not in (record.holder, "")
    return is_archived or not is_open or sent > written or is_held_by_another


def digest(record: HandoffRecord, written: int, thread: Mapping[str, Any]) -> str:
    """Return both sides of a comparison as one text; see :func:`differs`."""
    handoff = record.handoff
    ours = (handoff.state, record.holder, handoff.inbox_id, record.status_mark, record.assigned_mark)
    names = ("status", "archived", "assignedTo", "inboxId", "latestMessageSentTimestamp")
    return "|".join(str(one) for one in (*ours, written, *(thread.get(name) for name in names)))


def _list(work: _Work, name: str, inbox_id: str | None, filters: dict[str, Any]) -> _List:
    """Describe one of HubSpot's lists, with how far it was read."""
    at = work.so_far.lists.setdefault(f"{inbox_id}:{name}", ListState())
    return _List(name, inbox_id, {**filters}, at)


def closed_since(settings: Settings, now: int) -> int:
    """Return the epoch ms since when closed handoffs are compared: REOPEN_WINDOW, at most a day."""
    return now - min(int(settings.reopen_window * 1000), DAY_MS)


def _key(record: HandoffRecord) -> str:
    return f"compared:{record.handoff.id}"


def _opened(record: HandoffRecord) -> int:
    return to_ms(record.handoff.opened_at) if record.handoff.opened_at else 0


def _is_archived(record: HandoffRecord) -> bool:
    return record.handoff.reason == CloseReason.ARCHIVED


def _inbox_of(tx: Transaction, record: HandoffRecord) -> str | None:
    """Return the inbox of a handoff's thread; None when it is not known."""
    handoff = record.handoff
    if handoff.inbox_id is not None or record.account_id is None:
        return handoff.inbox_id
    account = tx.channels.account(handoff.portal_id, record.account_id)
    return (account.inbox_id or None) if account is not None else None
