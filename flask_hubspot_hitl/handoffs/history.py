"""Read a thread in HubSpot and return what no webhook brought, as events for the thread's lane.

The events are handled as a webhook's are. A webhook may still come for the same change, before or after: the
watermarks of ``transitions`` make one signal of the two, as long as HubSpot's two times for it differ by less than
the time between two changes. Comments are never passed on.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..domain import CloseReason, Handoff
from ..errors import HubSpotNotFound, HubSpotUnavailable
from ..hubspot import fields
from ..hubspot.calls import SoFar
from ..hubspot.client import HubSpotClient
from ..hubspot.content import ParsedMessage, parse_message, parse_time
from ..hubspot.events import Kind
from ..ledger import HandoffRecord, NewEvent, Topic, lanes
from ..ledger.rows import OperatorRow
from ..portals.clients import Services
from .states import Told

logger = logging.getLogger(__name__)

CONFIRM_MS = 86_400_000
"""Milliseconds after which HubSpot is asked once more for a thread that it did not find when it told of a deletion."""
TWIN_MS = 2_000
"""Milliseconds: an entry this close to a watermark may be the change that a webhook brought under another time."""

MOST_BROKEN_OFF, BROKEN_OFF_MS = 64, 60_000
"""Threads of which a process remembers how far it has read them, and milliseconds for which that holds."""

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A change in a thread's history: when, and the new value."""

    id: str
    at_ms: int
    value: str | None


class History:
    """Compare handoffs with their threads at HubSpot."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = services.ledger
        self._broken_off: dict[str, tuple[int, SoFar]] = {}

    def of_handoff(self, record: HandoffRecord) -> list[NewEvent]:
        """Return what was missed of a handoff.

        The thread of a closed handoff is read only when its latest timestamps are newer than the close.

        :raises HubSpotError: when the thread can't be read.
        :raises NotConfigured: when we have no token for its portal.
        """
        handoff = record.handoff
        if handoff.thread_id is None:
            return []
        if not handoff.is_open:
            try:
                thread = self.thread(record, handoff.thread_id)
            except HubSpotNotFound:
                return []
            if thread is not None:
                written = moment(thread, "latestMessageSentTimestamp") or 0
                if thread.get("archived") or (thread.get("status") != "OPEN" and written <= record.closed_ms):
                    return []
        return self.missed(handoff.id, handoff.thread_id)

    def thread(self, record: HandoffRecord, thread_id: str) -> Json | None:
        """Return a handoff's thread, also when it is archived; None when it was deleted for good.

        :raises HubSpotError: when it can't be read; also when our account can't be found.
        :raises NotConfigured: when we have no token for its portal.
        """
        client = self._services.client(record.handoff.portal_id)
        with contextlib.suppress(HubSpotNotFound):
            return client.get_thread(thread_id)
        with contextlib.suppress(HubSpotNotFound):
            return {**client.get_thread(thread_id, archived=True), "archived": True}
        # With another portal's token every thread is "not found": only who finds our account is believed.
        client.channel_account(record.channel_id, str(record.account_id))
        return None

    def _messages(self, client: HubSpotClient, thread_id: str) -> list[Json]:
        """Return a thread's entries; a reading that was broken off, by the budget say, goes on where it was."""
        now = self._ledger.now_ms()
        at, so_far = self._broken_off.pop(thread_id, (now, SoFar()))
        if now - at > BROKEN_OFF_MS:
            so_far = SoFar()
        try:
            return client.thread_messages(thread_id, so_far)
        except HubSpotUnavailable:
            if so_far.after is not None:
                if len(self._broken_off) >= MOST_BROKEN_OFF:
                    self._broken_off.clear()
                self._broken_off[thread_id] = (self._ledger.now_ms(), so_far)
            raise

    def missed(self, handoff_id: str, thread_id: str, *, before_end: bool = False) -> list[NewEvent]:
        """Return everything in a handoff's thread that we have not seen, in HubSpot's order.

        :param before_end: how the thread ended is known; only what comes before that is wanted.
        :raises HubSpotError: when the thread can't be read.
        :raises NotConfigured: when we have no token for its portal.
        """
        with self._ledger.read() as tx:  # before the thread: what comes in from now on is newer than what is read
            record = tx.records.get(handoff_id)
        if record is None:
            return []
        client = self._services.client(record.handoff.portal_id)
        try:
            history = _in_order(self._messages(client, thread_id))
        except HubSpotNotFound:
            history = []
        reading = _Reading(record, thread_id, _since_opening(record, history))
        messages = reading.messages()
        with self._ledger.read() as tx:
            known = tx.records.known_hubspot_ids(handoff_id, [one.message_id for one in messages])
            unknown = [one for one in messages if one.message_id not in known]
            rows = tx.records.operator_rows(handoff_id) if unknown else []
        twins = _twins(unknown, rows, {str(raw.get("id")) for raw in history})
        if twins:
            with self._ledger.write() as tx:
                for row, message_id in twins.items():
                    tx.records.set_message(row, hubspot_id=message_id)
            known |= set(twins.values())
        found = [reading.message(one) for one in messages if one.message_id not in known]
        found += reading.assignments() + reading.moves()
        if not before_end:
            found += reading.status_changes()
            if thread_id == record.handoff.thread_id:
                # After its history, so it is never older than that.
                found += reading.differences(self.thread(record, thread_id), now=self._ledger.now_ms())
        places = {str(raw.get("id")): place for place, raw in enumerate(history)}
        return sorted(
            found, key=lambda one: (one.sort_at, places.get(str(Told.from_json(one.payload).entry), len(places)))
        )


class _Reading:
    """Hold one thread's history beside what is stored of its handoff."""

    def __init__(self, record: HandoffRecord, thread_id: str, history: list[Json]) -> None:
        self._record = record
        self._thread_id = thread_id
        self._history = history
        self._assigned = [
            _Entry(str(raw["id"]), _created(raw), value)
            for raw in history
            if raw.get("type") == "ASSIGNMENT" and (value := holder_of(raw.get("assignedTo"))) != ""
        ]
        self._inboxes = [
            _Entry(str(raw["id"]), _created(raw), value)
            for raw in history
            if raw.get("type") == "THREAD_INBOX_CHANGE" and (value := fields.identifier(raw.get("toInboxId")))
        ]
        self._status = [
            _Entry(str(raw["id"]), _created(raw), str(raw["newStatus"]))
            for raw in history
            if raw.get("type") == "THREAD_STATUS_CHANGE" and raw.get("newStatus") in ("OPEN", "CLOSED")
        ]

    # What the history tells ------------------------------------------------------------------------------

    def messages(self) -> list[ParsedMessage]:
        """Agents' messages through our channel account."""
        found = []
        for raw in self._history:
            if raw.get("type") != "MESSAGE" or raw.get("direction") != "OUTGOING":
                continue
            try:
                one = parse_message(raw)
            except ValueError:
                continue
            if one.channel_account_id == self._record.account_id and one.client_type != "INTEGRATION":
                found.append(one)
        return found

    def message(self, parsed: ParsedMessage) -> NewEvent:
        """An agent's message as an event."""
        raw = next(raw for raw in self._history if str(raw["id"]) == parsed.message_id)
        return self._event(Kind.MESSAGE, parsed.message_id, parsed.created_at_ms, message=raw)

    def assignments(self) -> list[NewEvent]:
        """Assignments that are newer than the handoff's watermark."""
        mark, current = self._record.assigned_mark, self._record.holder
        twins = [one for one in _near(self._assigned, mark) if one.value == current]
        return self._changes(Kind.ASSIGNED, _news(self._assigned, mark, twins[-1:]))

    def status_changes(self) -> list[NewEvent]:
        """Openings and closings that are newer than the handoff's watermark."""
        mark = self._record.status_mark
        # An agent's message may have reopened the handoff since: its state does not tell what was applied last.
        nearest = sorted(_near(self._status, mark), key=lambda one: abs(one.at_ms - (mark or 0)))
        return self._changes(Kind.STATUS, _news(self._status, mark, nearest[:1]))

    def moves(self) -> list[NewEvent]:
        """Moves to another inbox that are newer than the handoff's watermark; no webhook tells of any."""
        return self._changes(Topic.INBOX, _news(self._inboxes, self._record.inbox_mark, []))

    def _changes(self, kind: Kind | Topic, entries: list[_Entry]) -> list[NewEvent]:
        return [self._event(kind, one.id, one.at_ms, value=one.value) for one in entries]

    # What only the thread's own fields tell --------------------------------------------------------------

    def differences(self, thread: Mapping[str, Any] | None, *, now: int) -> list[NewEvent]:
        """Return differences between the thread's own status, assignee and inbox and its history.

        :param thread: HubSpot's object; None when HubSpot does not find the thread, not even among archived ones. That
            alone erases nothing, because only HubSpot's own word tells of a deletion for privacy.
        """
        record = self._record
        is_open = record.handoff.is_open
        if thread is None and is_open:
            logger.warning(
                "HubSpot no longer finds the thread of handoff %s, which ends; what was said is kept. If it was "
                "deleted for privacy, run: flask hubspot-hitl erase --help",
                record.handoff.id,
            )
        if thread is None or thread.get("archived") is True:
            return [self._state(Kind.DELETED, None, now)] if is_open else []
        if not is_open:
            restored = record.handoff.reason == CloseReason.ARCHIVED and thread.get("status") == "OPEN"
            return [self._state(Kind.RESTORED, None, now)] if restored else []
        moments = [moment(thread, name) for name in ("createdAt", "latestMessageTimestamp")]
        latest = max([0, *(one for one in moments if one), *(_created(raw) for raw in self._history)])
        found = []
        assignee = holder_of(thread.get("assignedTo"))
        told = self._assigned[-1].value if self._assigned else record.holder
        if assignee not in (told, ""):
            found.append(self._state(Kind.ASSIGNED, assignee, max(latest, record.assigned_mark or 0)))
        inbox = fields.identifier(thread.get("inboxId"))
        told = self._inboxes[-1].value if self._inboxes else record.handoff.inbox_id
        if told is not None and inbox not in (told, None):
            found.append(self._state(Topic.INBOX, inbox, max(latest, record.inbox_mark or 0)))
        told = self._status[-1].value if self._status else "OPEN"
        if thread.get("status") == "CLOSED" != told:
            closed_at, mark = moment(thread, "closedAt"), record.status_mark
            # A close that was applied already is no news: the agent has written since, and reopened.
            if closed_at is None or mark is None or closed_at > mark + TWIN_MS:
                found.append(self._state(Kind.STATUS, "CLOSED", max(closed_at or latest, mark or 0)))
        return found

    def _state(self, kind: Kind | Topic, value: str | None, at_ms: int) -> NewEvent:
        return self._event(kind, f"{kind}:{value}:{at_ms}", at_ms, value=value)

    def _event(
        self, kind: Kind | Topic, entry: str, at_ms: int, *, value: str | None = None, message: Json | None = None
    ) -> NewEvent:
        handoff = self._record.handoff
        return NewEvent(
            dedupe_key=f"in:read:{handoff.id}:{entry}",
            lane=lanes.thread(handoff.portal_id, self._thread_id),
            topic=kind,
            sort_at=at_ms,
            handoff=replace(handoff, thread_id=self._thread_id),
            payload=Told(value=value, message=message, is_read=True, entry=entry).to_json(),
        )


def privacy_deletion(handoff: Handoff, thread_id: str, *, now: int) -> NewEvent:
    """Return the event for a thread that HubSpot told to be deleted, and does not find: one a day.

    A thread that was archived a moment ago may not be found either: in a day HubSpot is asked again, and only if it
    still has none the thread is taken for deleted for privacy, of which HubSpot's own news was lost then.

    :param now: epoch ms.
    """
    at = now + CONFIRM_MS
    return NewEvent(
        dedupe_key=f"in:read:{handoff.id}:{Kind.PRIVACY_DELETED}:{at // CONFIRM_MS}",
        lane=lanes.erasure(handoff.portal_id, thread_id, "confirm"),  # that of HubSpot's own news must not wait
        topic=Kind.PRIVACY_DELETED,
        sort_at=at,
        due_at=at,
        handoff=replace(handoff, thread_id=thread_id),
        payload=Told(hint=True).to_json(),
    )


def _twins(unknown: list[ParsedMessage], rows: list[OperatorRow], ids: set[str]) -> dict[int, str]:
    """Unknown messages of a history that the channel's feed brought under another id: row → id in the history.

    Only rows whose own id the history does not have come into question, so messages are never taken for each other
    as long as both feeds use the same ids.
    """
    strangers = [one for one in rows if not {one.message.message_id, one.read_id} & ids]
    found: dict[int, str] = {}
    for message in unknown:
        actor_id = message.sender_actor_id or message.created_by
        for one in strangers:
            operator = one.message.operator
            same = one.created_at == message.created_at_ms and operator is not None and operator.actor_id == actor_id
            if same and one.row not in found:
                found[one.row] = message.message_id
                break
    return found


def _in_order(raw: list[Json]) -> list[Json]:
    """Oldest first, whichever way round HubSpot gave it; entries without id or time are left out."""
    usable = [one for one in raw if one.get("id") and moment(one) is not None]
    if usable and _created(usable[0]) > _created(usable[-1]):
        usable.reverse()
    return sorted(usable, key=_created)


def _since_opening(record: HandoffRecord, history: list[Json]) -> list[Json]:
    """Return a handoff's part of the history: all of it, unless the user wrote in the thread before the handoff.

    An agent's entries are in HubSpot's clock and our opening is in ours, so a thread that the handoff made is not cut.
    """
    incoming = [one for one in history if one.get("direction") == "INCOMING"]
    opening = next((one for one in incoming if str(one["id"]) == record.opening_id), None)
    if opening is None or opening is incoming[0]:
        return history
    return [one for one in history if _created(one) >= _created(opening)]


def _near(entries: list[_Entry], mark: int | None) -> list[_Entry]:
    """Return the entries within TWIN_MS of a watermark, which may be the change that set it, in their order."""
    return [one for one in entries if mark is not None and abs(one.at_ms - mark) <= TWIN_MS]


def _news(entries: list[_Entry], mark: int | None, twin: list[_Entry]) -> list[_Entry]:
    """Return the entries after ``twin``, which set the watermark, if there is one; none older than the mark."""
    if mark is None:
        return entries
    later = entries[entries.index(twin[0]) + 1 :] if twin else [one for one in entries if one.at_ms > mark]
    return [_Entry(one.id, max(one.at_ms, mark), one.value) for one in later]


def holder_of(value: object) -> str | None:
    """Return whom an assignment names, an agent or a machine; None for nobody; "" when it can't be read."""
    try:
        return fields.holder(value)
    except ValueError:
        return ""


def moment(raw: Mapping[str, Any], name: str = "createdAt") -> int | None:
    """Return a time of an object of HubSpot's in epoch ms; None when it has none that can be read."""
    try:
        return parse_time(raw.get(name))
    except ValueError:
        return None


def _created(raw: Mapping[str, Any]) -> int:
    return moment(raw) or 0
