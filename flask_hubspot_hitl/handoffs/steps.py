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
        new = signal_event(
            plan,
            key=f"signal:{uuid.uuid4().hex}",
            lane=lanes.signals(handoff),
            sort_at=now if sort_at is None else sort_at,
            portal_id=handoff.portal_id,
            thread_id=handoff.thread_id,
            handoff_id=handoff.id,
        )
        tx.queue.put([new], now=now)


def put_receipt(tx: Transaction, record: HandoffRecord, message_id: str, *, error: str | None, now: int) -> None:
    """Queue a receipt for the agent: SENT, or FAILED with a reason."""
    handoff = record.handoff
    told = ToReceipt(record.channel_id, message_id, error)
    key = f"{message_id}:{secrets.token_hex(4)}"
    _put(tx, lanes.receipts(handoff.id), key, told, portal_id=handoff.portal_id, handoff_id=handoff.id, now=now)


def put_refusal(tx: Transaction, event: Event, channel_id: str, message_id: str, *, error: str, now: int) -> None:
    """Queue FAILED for a message that belongs to no handoff; once for each time that its event is given up."""
    told = ToReceipt(channel_id, message_id, error)
    lane = lanes.receipt_of_event(event.id)
    _put(tx, lane, str(event.attempts), told, portal_id=event.portal_id, handoff_id=None, now=now)


def _put(
    tx: Transaction, lane: str, key: str, told: ToReceipt, *, portal_id: str | None, handoff_id: str | None, now: int
) -> None:
    receipt = NewEvent(
        dedupe_key=f"{lane}:{key}",
        lane=lane,
        topic=Topic.RECEIPT,
        sort_at=0,
        portal_id=portal_id,
        handoff_id=handoff_id,
        payload=told.to_json(),
    )
    tx.queue.put([receipt], now=now)
