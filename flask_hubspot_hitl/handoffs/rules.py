"""Apply the host's verbs to a handoff, and end it.

Every function runs inside one transaction of the ledger and makes no call to anybody. What is to be signalled
comes back as a *plan*: a list of steps that ``emission`` carries out. Imports ``ledger`` and what is below it.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..clock import to_datetime
from ..config import Settings
from ..domain import Attachment, Author, CloseReason, Handoff, HandoffState, Message, MessageStatus
from ..hubspot.events import Kind
from ..ledger import HandoffRecord, NewEvent, Topic, Transaction, lanes
from .outcome import facts_of
from .states import RATING, ToAssign, ToChangeTicket, ToClose, ToIdle, ToNote, ToOpen, ToPublish
from .steps import Plan, Step, put_signals, step

INSERTS = 3
"""Tries to begin a handoff: the one in its way may end before it is read."""
CONTINUED_ELSEWHERE = "This chat continued elsewhere."


# The host's verbs ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Hold what ``start`` was asked for, checked."""

    handoff: Handoff
    """The handoff as it will begin, but for the time."""
    channel_id: str
    account_id: str | None
    transcript: str = ""
    transcript_as: str = "none"
    """``note``, ``message`` or ``none``."""
    assign_to: str | None = None
    idle_warning: int | None = None
    """Milliseconds; see :class:`HandoffRecord`, as for the next."""
    idle_timeout: int | None = None
    facts: str = ""
    """What else the agent reads first, as lines."""
    ticket: Mapping[str, str] | None = None
    """Properties for the thread's ticket."""


def begin(tx: Transaction, opening: Opening, *, deployment_id: str, now: int) -> tuple[HandoffRecord, bool]:
    """Store a new handoff in state ``starting`` with its first events, or return the conversation's open one.

    :returns: the record, and whether it is new.
    """
    record = HandoffRecord(
        handoff=replace(opening.handoff, opened_at=to_datetime(now)),
        channel_id=opening.channel_id,
        account_id=opening.account_id,
        integration_thread_id=f"{deployment_id}.{uuid.uuid4()}",
        sender=None,
        recipient=None,
        idle_warning=opening.idle_warning,
        idle_timeout=opening.idle_timeout,
    )
    for _ in range(INSERTS):
        if tx.records.insert(record):
            break
        existing = tx.records.open_of(opening.handoff.conversation_id)
        if existing is not None:
            return existing, False
    else:
        raise RuntimeError("a handoff was refused by the database, but none is open")
    tx.inboxes.begun(record.handoff.id, record.handoff.portal_id, record.handoff.inbox_id)
    in_message = opening.transcript if opening.transcript_as == "message" else ""
    told = ToOpen(in_message or None, opening.facts or None, dict(opening.ticket or {}) or None)
    _put_out(tx, record.handoff, Topic.OPEN, told, now=now)
    if opening.assign_to:
        _put_out(tx, record.handoff, Topic.ASSIGN, ToAssign(opening.assign_to), now=now)
    if opening.transcript and opening.transcript_as == "note":
        _put_out(tx, record.handoff, Topic.NOTE, ToNote(opening.transcript), now=now)
    return record, True


def _put_out(
    tx: Transaction,
    handoff: Handoff,
    topic: Topic,
    told: ToOpen | ToAssign | ToNote | ToPublish | ToClose,
    *,
    now: int,
    once: str | None = None,
) -> int:
    lane = lanes.outbound(handoff.id)
    new = NewEvent(
        dedupe_key=f"{lane}:{topic}:{once or secrets.token_hex(8)}",
        lane=lane,
        topic=topic,
        sort_at=0,  # in order of acceptance, also when the clock is set back
        portal_id=handoff.portal_id,
        handoff_id=handoff.id,
        payload=told.to_json(),
    )
    return tx.queue.put([new], now=now)


def note(tx: Transaction, conversation_id: str, text: str, *, title: str | None, now: int) -> bool:
    """Queue a note of the host's for the agents who have the conversation; False when nobody has it."""
    record = _locked(tx, conversation_id, now=now)
    if record is not None:
        _put_out(tx, record.handoff, Topic.NOTE, ToNote(text, f"host:{uuid.uuid4().hex}", title), now=now)
    return record is not None


def rate(tx: Transaction, conversation_id: str, text: str, *, now: int) -> bool:
    """Queue the user's rating of the newest handoff, open or not, as a note; False when it has one, or no thread."""
    record = tx.records.newest_of(conversation_id)
    if record is None or record.handoff.thread_id is None:
        return False
    return _put_out(tx, record.handoff, Topic.NOTE, ToNote(text, RATING), now=now, once=RATING) > 0


def assign(tx: Transaction, conversation_id: str, actor_id: str | None, *, now: int) -> bool:
    """Queue that the thread goes to an agent, or back to the inbox (None); False when no handoff is open."""
    record = _locked(tx, conversation_id, now=now)
    if record is not None:
        _put_out(tx, record.handoff, Topic.ASSIGN, ToAssign(actor_id), now=now)
    return record is not None


def put_note(tx: Transaction, handoff: Handoff, text: str, *, about: str, now: int) -> None:
    """Have agents told something beside the conversation: as a note, or as a message where notes are refused."""
    _put_out(tx, handoff, Topic.NOTE, ToNote(text, about), now=now)


def put_comment(tx: Transaction, handoff: Handoff, told: ToNote, *, once: str, now: int) -> None:
    """Have a note that can't be on the ticket written to the thread; once for each ``once``."""
    _put_out(tx, handoff, Topic.NOTE, replace(told, as_comment=True, instead=False), now=now, once=once)


def put_on_ticket(tx: Transaction, handoff: Handoff, told: ToChangeTicket | ToNote, *, once: str, now: int) -> None:
    """Have something done with the thread's ticket when it is there; once for each ``once``."""
    lane, topic = lanes.ticket(handoff.id), Topic.TICKET if isinstance(told, ToChangeTicket) else Topic.TICKET_NOTE
    new = NewEvent(
        dedupe_key=f"{lane}:{topic}:{once}",
        lane=lane,
        topic=topic,
        sort_at=0,
        portal_id=handoff.portal_id,
        handoff_id=handoff.id,
        payload=told.to_json(),
    )
    tx.queue.put([new], now=now)


def accept_message(
    tx: Transaction,
    conversation_id: str,
    text: str,
    *,
    attachments: Sequence[tuple[Attachment, bytes | None]],
    message_id: str | None,
    now: int,
) -> bool:
    """Store a user's message for the open handoff.

    A message id that the newest handoff already has is the same message, also when the handoff has ended since.

    :returns: False when no handoff is open: the bot answers.
    """
    record = _locked(tx, conversation_id, now=now)
    if record is None:
        newest = tx.records.newest_of(conversation_id) if message_id is not None else None
        return (
            newest is not None and tx.records.find_message(newest.handoff.id, Author.USER, str(message_id)) is not None
        )
    value = Message(
        message_id=message_id or str(uuid.uuid4()),
        author=Author.USER,
        text=text,
        attachments=tuple(attachment for attachment, _ in attachments),
        created_at=to_datetime(now),
    )
    contents = [content for _, content in attachments]
    row = tx.records.insert_message(record.handoff.id, value, contents=contents)
    if row is not None:
        _put_out(tx, record.handoff, Topic.PUBLISH, ToPublish(row), now=now)
        if record.silent_since is not None:
            record.silent_since = None
            tx.records.update(record)
    return True


def _locked(tx: Transaction, conversation_id: str, *, now: int, signals: bool = False) -> HandoffRecord | None:
    """Lock the lanes that will be written to, then the conversation's open handoff."""
    found = tx.records.open_of(conversation_id)
    if found is None:
        return None
    handoff = found.handoff
    tx.queue.reserve(lanes.outbound(handoff.id), *([lanes.signals(handoff)] if signals else []), now=now)
    return tx.records.open_of(conversation_id, lock=True)


def stop(
    tx: Transaction,
    conversation_id: str,
    *,
    reason: CloseReason,
    detail: str | None,
    farewell: str = "",
    message_id: str | None = None,
    only_if: Callable[[HandoffRecord], bool] = lambda record: True,
    now: int,
) -> Handoff | None:
    """End the host's open handoff: signalled once, at once; HubSpot is told through the outbound lane.

    :param farewell: a last message, which agents read before the thread is closed.
    :param message_id: the id of the user's message that the farewell stands for.
    :param only_if: is asked once the handoff is locked.
    :returns: the handoff, or None when none was open.
    """
    record = _locked(tx, conversation_id, now=now, signals=True)
    if record is None or not only_if(record):
        return None
    plan = close(tx, record, reason=reason, detail=detail, at_ms=now, now=now)
    put_signals(tx, record.handoff, plan, now=now)
    row = None
    if farewell:
        key = message_id or str(uuid.uuid4())
        said = Message(message_id=key, author=Author.USER, text=farewell, created_at=to_datetime(now))
        row = tx.records.insert_message(record.handoff.id, said)
    _put_out(tx, record.handoff, Topic.CLOSE, ToClose(row), now=now)
    return record.handoff


def opened(tx: Transaction, record: HandoffRecord, *, thread_id: str, timeout_ms: int, now: int) -> None:
    """Store the thread that HubSpot's answer to the first publish names, and move its parked events into its lane."""
    if record.handoff.state == HandoffState.STARTING:
        record.handoff = replace(record.handoff, state=HandoffState.WAITING)
        moved(tx, record, thread_id=thread_id, now=now)
        # It comes first in its lane whatever HubSpot's clock says.
        put_signals(tx, record.handoff, [step("handoff_started", record.handoff)], now=now, sort_at=0)
        if timeout_ms:
            start_timer(tx, record.handoff, Topic.ASSIGNMENT_TIMEOUT, due_at=now + timeout_ms, now=now)
    else:
        moved(tx, record, thread_id=thread_id, now=now)


def moved(tx: Transaction, record: HandoffRecord, *, thread_id: str, now: int) -> None:
    """Move the handoff to the thread that HubSpot's answer names."""
    record.handoff = replace(record.handoff, thread_id=thread_id)
    tx.records.update(record)
    handoff = record.handoff
    tx.records.bind_thread(portal_id=handoff.portal_id, thread_id=thread_id, handoff_id=handoff.id)
    mine = [one for one in tx.parked(handoff.portal_id) if one["thread_id"] == thread_id]
    unpark(tx, mine, (handoff.portal_id, thread_id), handoff.id, now=now)


def unpark(
    tx: Transaction, parked: Sequence[Mapping[str, Any]], thread: tuple[str, str], handoff_id: str | None, *, now: int
) -> None:
    """Move parked events into the lane of their ``thread``, named by its portal's id and its own."""
    placed: dict[str, list[int]] = {}
    for one in parked:
        placed.setdefault(lane_of(one["topic"], thread), []).append(one["id"])
    for key in sorted(placed, key=lanes.lock_order):
        tx.unpark(placed[key], lane_key=key, handoff_id=handoff_id, now=now)


def lane_of(topic: str, thread: tuple[str, str]) -> str:
    """Return the lane of a thread's events of a topic; ``thread`` is its portal's id and its own."""
    return _LANES.get(topic, lanes.thread)(*thread)


_LANES: dict[str, Callable[[str, str], str]] = {
    Kind.NEW_MESSAGE: lanes.new_messages,
    Kind.PRIVACY_DELETED: lanes.erasure,
}
"""Events of a thread that have a lane of their own."""


def start_timer(
    tx: Transaction, handoff: Handoff, topic: Topic, *parts: str, told: ToIdle | None = None, due_at: int, now: int
) -> None:
    """Set a timer of a handoff: its task runs at ``due_at`` (epoch ms). ``parts`` tell those of one topic apart."""
    key = lanes.timer(handoff.id, topic, *parts)
    payload = None if told is None else told.to_json()
    timer = NewEvent(
        dedupe_key=key, lane=key, topic=topic, sort_at=due_at, due_at=due_at, handoff=handoff, payload=payload
    )
    tx.queue.put([timer], now=now)


def abandon(tx: Transaction, record: HandoffRecord, *, error: str, now: int) -> None:
    """Delete a handoff whose ``start`` raises; keep it, failed, when the user has written meanwhile.

    The caller has locked the handoff's lanes, that of its signals too.
    """
    current = tx.records.get(record.handoff.id, lock=True)
    if current is None:
        return
    if tx.message_count(current.handoff.id):
        fail(tx, current, error=error, now=now)
        return
    tx.delete_lane(lanes.outbound(current.handoff.id))
    tx.records.delete(current.handoff.id)


def fail(tx: Transaction, record: HandoffRecord, *, error: str, now: int) -> None:
    """Fail an open handoff whose thread could not be opened."""
    if not record.handoff.is_open:
        return
    record.handoff = replace(record.handoff, state=HandoffState.FAILED, closed_at=to_datetime(now), detail=error)
    tx.records.update(record)
    plan = _take_back(tx, record, error=error, now=now)
    plan.append(step("handoff_failed", record.handoff, facts={"error": error}))
    put_signals(tx, record.handoff, plan, now=now)


def _take_back(tx: Transaction, record: HandoffRecord, *, error: str, now: int) -> Plan:
    """Cancel the messages of an ending handoff that have surely not reached HubSpot; return a step for each of them."""
    handoff = record.handoff
    # A note is seen by its own run to be too late, or is a rating, which is written after the end, too.
    topics = [Topic.PUBLISH, Topic.ASSIGN, Topic.OPEN]
    taken = tx.cancel_unpublished(lanes.outbound(handoff.id), now=now, topics=topics)
    rows = [ToPublish.from_json(payload).row for topic, payload in taken if topic == Topic.PUBLISH]
    return [message_failed(tx, record, row, error=error) for row in rows]


def message_failed(tx: Transaction, record: HandoffRecord, row: int, *, error: str) -> Step:
    """Store that a user's message will not reach HubSpot, and return the step that tells so."""
    tx.records.set_message(row, status=MessageStatus.FAILED.value, error=error)
    tx.records.drop_contents(row)
    return step("message_failed", record.handoff, message_row=row, facts={"error": error})


def close(
    tx: Transaction, record: HandoffRecord, *, reason: CloseReason, detail: str | None, at_ms: int, now: int
) -> Plan:
    """End an open handoff, in the lock in which ``send`` decides too: a message goes to exactly one side."""
    record.handoff = replace(
        record.handoff, state=HandoffState.CLOSED, closed_at=to_datetime(at_ms), reason=reason, detail=detail
    )
    tx.records.update(record)
    plan = _take_back(tx, record, error="the conversation ended before HubSpot had the message", now=now)
    plan.append(
        step("conversation_completed", record.handoff, reason=reason, facts={"detail": detail, **facts_of(record)})
    )
    return plan


def own_accounts(
    tx: Transaction, settings: Settings, accounts: Collection[tuple[str | None, str | None]]
) -> set[tuple[str | None, str | None, str | None]]:
    """Return the channel accounts that are ours, (portal, channel, account): configured, stored, or used before."""
    asked = {account for _, account in accounts if account}
    known = tx.records.own_accounts(asked) | tx.channels.own_accounts(asked)
    return {*known, (settings.portal_id, settings.channel_id, settings.channel_account_id)}
