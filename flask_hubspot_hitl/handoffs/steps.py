"""Build the signals that a handoff leads to, and the receipts that its agent gets, and queue them.

Each is put into the queue here, in the caller's transaction; ``emission`` and ``outbound`` carry it out.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from ..domain import Handoff
from ..ledger import Event, HandoffRecord, NewEvent, Plan, Snapshot, Step, Topic, Transaction, lanes
from ..ledger.plans import signal_event
from .states import ToReceipt

__all__ = ["Plan", "Step", "put_receipt", "put_refusal", "put_signals", "step"]


def step(signal: str, handoff: Handoff, **facts: Any) -> Step:
    """Return one signal to send, with the handoff as it is at this moment.

    :param facts: fields of :class:`Step`; ``facts`` itself holds what receivers get as it is.
    """
    return Step(signal=signal, handoff_id=handoff.id, snapshot=Snapshot.of(handoff), **facts)


def put_signals(tx: Transaction, handoff: Handoff, plan: Plan, *, now: int, sort_at: int | None = None) -> None:
    """Queue signals of our own making in the handoff's lane.

    :param sort_at: epoch ms, their place in the lane; by default ``now``.
    """
    if plan:
        key, at = f"signal:{uuid.uuid4().hex}", now if sort_at is None else sort_at
        new = signal_event(plan, key=key, lane=lanes.signals(handoff), sort_at=at, handoff=handoff)
        tx.queue.put([new], now=now)


def put_receipt(tx: Transaction, record: HandoffRecord, message_id: str, *, error: str | None, now: int) -> None:
    """Queue a receipt for the agent: SENT, or FAILED with a reason."""
    told = ToReceipt(record.channel_id, message_id, error)
    key = f"{message_id}:{secrets.token_hex(4)}"
    handoff = record.handoff
    _put(tx, lanes.receipts(handoff.id), key, told, now=now, portal_id=handoff.portal_id, handoff_id=handoff.id)


def put_read(tx: Transaction, record: HandoffRecord, message_id: str, *, now: int) -> None:
    """Queue READ for the agent, behind what is queued; a SENT of the same message that waits is left out then."""
    told = ToReceipt(record.channel_id, message_id, None, is_read=True)
    handoff = record.handoff
    key = f"{message_id}:read"
    _put(tx, lanes.receipts(handoff.id), key, told, now=now, portal_id=handoff.portal_id, handoff_id=handoff.id)


def put_refusal(tx: Transaction, event: Event, channel_id: str, message_id: str, *, error: str, now: int) -> None:
    """Queue FAILED for a message that belongs to no handoff; once for each time that its event is given up."""
    told = ToReceipt(channel_id, message_id, error)
    lane = lanes.receipt_of_event(event.id)
    _put(tx, lane, str(event.attempts), told, now=now, portal_id=event.portal_id)


def late_refusal(portal_id: str, key: str, channel_id: str, message_id: str, error: str) -> NewEvent:
    """Return FAILED for an agent's message in a thread of which nothing is kept.

    :param key: its dedupe key: that of the event that brought the message.
    """
    told = ToReceipt(channel_id, message_id, error)
    lane = lanes.erasure("receipt", portal_id)
    return NewEvent(
        dedupe_key=key, lane=lane, topic=Topic.RECEIPT, sort_at=0, portal_id=portal_id, payload=told.to_json()
    )


def _put(tx: Transaction, lane: str, key: str, told: ToReceipt, *, now: int, **about: Any) -> None:
    key = f"{lane}:{key}"
    receipt = NewEvent(dedupe_key=key, lane=lane, topic=Topic.RECEIPT, sort_at=0, payload=told.to_json(), **about)
    tx.queue.put([receipt], now=now)
