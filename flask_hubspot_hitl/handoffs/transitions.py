"""Apply HubSpot's events to a handoff, and say which signals follow.

Like ``rules``: every function runs inside one transaction, calls nobody, and returns the plan of signals.
Two watermarks in HubSpot's time keep an older event from walking a handoff back: one for its status, one for its
assignment; an event is compared with its own only.
"""

from __future__ import annotations

from dataclasses import replace

from ..clock import to_datetime, to_ms
from ..domain import CloseReason, HandoffState, Message, MessageStatus, Operator
from ..hubspot.fields import PERSON
from ..ledger import HandoffRecord, Transaction
from . import rules, silence, steps
from .outcome import took_part


def assigned(
    tx: Transaction, record: HandoffRecord, operator: Operator | None, *, machine: str | None = None, occurred_ms: int
) -> steps.Plan:
    """Apply that ``assignedTo`` changed: to an agent, to another, to a machine, or to nobody.

    :param operator: None for nobody, and for a machine that does not count as one.
    :param machine: the bot or AI agent that holds the thread now.
    """
    if record.assigned_mark is not None and occurred_ms < record.assigned_mark:
        return []
    record.assigned_mark = occurred_ms
    handoff = record.handoff
    previous = handoff.operator
    same = (operator and operator.actor_id) == (previous and previous.actor_id)
    plan: steps.Plan = []
    is_news, record.machine = machine not in (record.machine, None), machine
    if not same:
        plan += _changed_hands(record, operator, occurred_ms)
    if is_news:
        plan.append(steps.step("automation_assigned", record.handoff, facts={"actor": machine}))
    tx.records.update(record)
    # Else the host has the conversation; if it is reopened, the signal will name the operator.
    return plan if handoff.is_open else []


def _changed_hands(record: HandoffRecord, operator: Operator | None, occurred_ms: int) -> steps.Plan:
    """Apply that another operator has the handoff than before, or none."""
    handoff, previous = record.handoff, record.handoff.operator
    state = handoff.state
    if handoff.is_open:
        state = HandoffState.ASSIGNED if operator else HandoffState.WAITING
    assigned_at = to_datetime(occurred_ms) if operator else None
    if record.taken_at is None and operator is not None and operator.actor_id.startswith(PERSON):
        record.taken_at = occurred_ms
    took_part(record, operator)
    if operator is None:
        record.silent_since = None  # it is the agents' turn again
    record.handoff = handoff = replace(handoff, operator=operator, assigned_at=assigned_at, state=state)
    if operator is None:
        return [steps.step("operator_unassigned", handoff)]
    return [steps.step("operator_assigned", handoff, operator=operator, previous=previous)]


def inbox_changed(tx: Transaction, record: HandoffRecord, inbox_id: str, *, occurred_ms: int) -> steps.Plan:
    """Apply that an agent moved the thread to another inbox: places and agents are those of the new one from now on."""
    if record.inbox_mark is not None and occurred_ms < record.inbox_mark:
        return []
    record.inbox_mark = occurred_ms
    previous = record.handoff.inbox_id
    record.handoff = replace(record.handoff, inbox_id=inbox_id)
    tx.records.update(record)
    if previous == inbox_id or not record.handoff.is_open:
        return []
    return [steps.step("inbox_changed", record.handoff, facts={"inbox_id": inbox_id, "previous_inbox": previous})]


def status_is_news(record: HandoffRecord, occurred_ms: int) -> bool:
    """Return False for a status that is older than the one applied last."""
    return record.status_mark is None or occurred_ms >= record.status_mark


def ended(tx: Transaction, record: HandoffRecord, *, reason: CloseReason, occurred_ms: int, now: int) -> steps.Plan:
    """Apply that HubSpot closed, archived or deleted the thread."""
    if not status_is_news(record, occurred_ms):
        return []
    record.status_mark = occurred_ms
    if not record.handoff.is_open:
        tx.records.update(record)
        return []
    return rules.close(tx, record, reason=reason, detail=None, at_ms=occurred_ms, now=now)


def account_removed(tx: Transaction, record: HandoffRecord, *, now: int) -> steps.Plan:
    """End a handoff whose channel is gone from the inbox: neither side can write, so the bot has the conversation."""
    if not record.handoff.is_open:
        return []
    detail = "the channel was removed from the inbox in HubSpot"
    return rules.close(tx, record, reason=CloseReason.ARCHIVED, detail=detail, at_ms=now, now=now)


def went_open(tx: Transaction, record: HandoffRecord, *, occurred_ms: int, window_ms: int) -> steps.Plan:
    """Apply that an agent opened or restored the thread."""
    if not status_is_news(record, occurred_ms):
        return []
    record.status_mark = occurred_ms
    tx.records.update(record)
    if record.handoff.state != HandoffState.CLOSED or not can_reopen(
        tx, record, occurred_ms=occurred_ms, window_ms=window_ms
    ):
        return []
    return reopen(tx, record)


def can_reopen(tx: Transaction, record: HandoffRecord, *, occurred_ms: int, window_ms: int) -> bool:
    """Return True when what happened after the close may bring the handoff back."""
    newest = tx.records.newest_of(record.handoff.conversation_id)
    is_newest = newest is not None and newest.handoff.id == record.handoff.id
    return is_newest and record.closed_ms < occurred_ms <= record.closed_ms + window_ms


def reopen(tx: Transaction, record: HandoffRecord) -> steps.Plan:
    """Give a closed conversation back to the humans."""
    state = HandoffState.ASSIGNED if record.handoff.operator else HandoffState.WAITING
    record.handoff = replace(record.handoff, state=state, closed_at=None, reason=None, detail=None)
    record.silent_since = None
    tx.records.update(record)
    return [steps.step("conversation_reopened", record.handoff)]


def operator_wrote(
    tx: Transaction, record: HandoffRecord, message: Message, *, event_id: int, is_read: bool, window_ms: int, now: int
) -> steps.Plan:
    """Apply that an agent wrote: the message is delivered, delivered late, reopens, or is FAILED with a reason.

    :param is_read: the message was read from the thread, and no channel event brought it.
    """
    handoff = record.handoff
    created_ms = to_ms(message.created_at) if message.created_at else now
    if not is_read and _was_read(tx, handoff.id, message, created_ms):
        return []
    refused = False
    plan: steps.Plan = []
    if not handoff.is_open and created_ms > max(record.closed_ms, record.status_mark or 0):
        if handoff.state == HandoffState.CLOSED and can_reopen(tx, record, occurred_ms=created_ms, window_ms=window_ms):
            plan = reopen(tx, record)
        else:
            refused = True
    row = tx.records.insert_message(
        handoff.id,
        replace(
            message,
            status=MessageStatus.FAILED if refused else MessageStatus.QUEUED,
            error=rules.CONTINUED_ELSEWHERE if refused else None,
        ),
    )
    if row is None:
        return []  # another source brought the same message; that event sends the signal
    tx.records.set_message(row, event_id=event_id, hubspot_id=message.message_id if is_read else None)
    if refused:
        steps.put_receipt(tx, record, message.message_id, error=rules.CONTINUED_ELSEWHERE, now=now)
        return []
    _answered(record, message.operator, created_ms)
    silence.begin(tx, record, now=now)
    tx.records.update(record)
    return [*plan, steps.step("operator_message", record.handoff, message_row=row)]


def _answered(record: HandoffRecord, operator: Operator | None, at_ms: int) -> None:
    """Note who wrote, and when a person did first."""
    took_part(record, operator)
    if operator is not None and operator.actor_id.startswith(PERSON):
        record.answered_at = at_ms if record.answered_at is None else min(at_ms, record.answered_at)


def _was_read(tx: Transaction, handoff_id: str, message: Message, created_ms: int) -> bool:
    """Return True when a reading of the thread brought this message under another id.

    HubSpot's documents do not exclude that.
    """
    for one in tx.records.operator_rows(handoff_id, created_at=created_ms):
        known = one.message
        same = (known.operator and known.operator.actor_id) == (message.operator and message.operator.actor_id)
        if same and one.read_id == known.message_id != message.message_id and known.text == message.text:
            tx.records.set_message(one.row, hubspot_id=message.message_id)
            return True
    return False
