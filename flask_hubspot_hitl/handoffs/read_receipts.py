"""Show the agent which messages the user has read."""

from __future__ import annotations

from ..domain import MessageStatus
from ..ledger import Transaction, lanes
from . import steps


def mark_read(tx: Transaction, conversation_id: str, message_id: str | None, *, now: int) -> int:
    """Store that the user has read the agent's messages of the newest handoff, and queue READ for each.

    :param message_id: the last one that was read, with all before it; None: all that every receiver has accepted.
    :param now: epoch ms.
    :returns: how many were not read before; 0 where there is no such message.
    """
    record = tx.records.newest_of(conversation_id)
    if record is None:
        return 0
    rows = tx.records.operator_rows(record.handoff.id)
    seen: tuple[MessageStatus, ...] = (MessageStatus.SENT,)
    if message_id is not None:
        ids = [one.message.message_id for one in rows]
        if message_id not in ids:
            return 0
        rows, seen = rows[: ids.index(message_id) + 1], (MessageStatus.QUEUED, MessageStatus.SENT)
    unread = [one for one in rows if one.message.status in seen]
    if not unread:
        return 0
    # Whoever changes these messages, or erases them, has the thread's lane: otherwise two would wait for each other.
    tx.queue.reserve(lanes.signals(record.handoff), lanes.receipts(record.handoff.id), now=now)
    over = (MessageStatus.READ, MessageStatus.FAILED)
    count = 0
    for one in unread:
        if tx.records.set_status(one.row, MessageStatus.READ, unless=over):
            steps.put_read(tx, record, one.message.message_id, now=now)
            count += 1
    return count
