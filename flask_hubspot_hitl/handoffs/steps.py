"""Plans and receipts: what is to be signalled to the host, and what the agent is told.

Each is put into the queue here, in the caller's transaction; ``emission`` and ``outbound`` carry it out.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from ..clock import to_ms
from ..domain import Handoff
from ..ledger import HandoffRecord, NewEvent, Topic, Transaction, lanes
from ..ledger.codec import operator_to_json

Step = dict[str, Any]
Plan = list[Step]


# Steps of a plan -----------------------------------------------------------------------------------------


def step(signal: str, handoff: Handoff, **facts: Any) -> Step:
    """One signal to send, with the handoff as it is at this moment."""
    return {
        "signal": signal,
        "handoff": handoff.id,
        "snapshot": {
            "state": handoff.state.value,
            "operator": operator_to_json(handoff.operator),
            "assigned_at": to_ms(handoff.assigned_at) if handoff.assigned_at else None,
            "closed_at": to_ms(handoff.closed_at) if handoff.closed_at else None,
            "reason": handoff.reason.value if handoff.reason else None,
            "detail": handoff.detail,
        },
        **facts,
    }


def put_signals(tx: Transaction, handoff: Handoff, plan: Plan, *, now: int, sort_at: int | None = None) -> None:
    """Have signals of our own making sent, in the handoff's lane."""
    if plan:
        tx.queue.put(
            [
                NewEvent(
                    dedupe_key=f"signal:{uuid.uuid4().hex}",
                    lane=lanes.signals(handoff),
                    topic=Topic.SIGNAL,
                    sort_at=now if sort_at is None else sort_at,
                    portal_id=handoff.portal_id,
                    thread_id=handoff.thread_id,
                    handoff_id=handoff.id,
                    progress={"plan": plan},
                )
            ],
            now=now,
        )


def put_receipt(tx: Transaction, record: HandoffRecord, message_id: str, *, error: str | None, now: int) -> None:
    """Tell the agent: SENT, or FAILED with this reason."""
    lane = lanes.receipts(record.handoff.id)
    receipt = NewEvent(
        dedupe_key=f"{lane}:{message_id}:{secrets.token_hex(4)}",
        lane=lane,
        topic=Topic.RECEIPT,
        sort_at=0,
        portal_id=record.handoff.portal_id,
        handoff_id=record.handoff.id,
        payload={"channel_id": record.channel_id, "message_id": message_id, "error": error},
    )
    tx.queue.put([receipt], now=now)
