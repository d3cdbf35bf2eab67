"""Turn rows into handoffs and messages, and back. Runs no statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..clock import to_datetime, to_ms
from ..domain import Author, CloseReason, Handoff, HandoffState, Message, MessageStatus
from . import codec
from .connection import Row


@dataclass(slots=True, kw_only=True)
class HandoffRecord:
    """Hold a handoff and what only we need to know of it. Times are epoch ms, in HubSpot's clock where marked."""

    handoff: Handoff
    channel_id: str
    account_id: str | None
    integration_thread_id: str
    sender: dict[str, str] | None
    recipient: dict[str, str] | None
    opening_id: str | None = None
    """HubSpot's id of the first message."""
    status_mark: int | None = None
    """HubSpot's time of the newest open/close applied."""
    assigned_mark: int | None = None
    """HubSpot's time of the newest assignment applied."""
    stored: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """The row as last read or written, to store only changed columns; None for a new one."""

    @property
    def closed_ms(self) -> int:
        """Return the epoch ms at which the handoff was closed; 0 while it is open."""
        return to_ms(self.handoff.closed_at) if self.handoff.closed_at else 0


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """Hold an agent's message: its row, its id in the Conversations API where it was read there, and epoch ms."""

    row: int
    read_id: str | None
    created_at: int
    message: Message


_PUBLIC = ["id", "conversation_id", "portal_id", "inbox_id", "thread_id", "name", "title", "description", "detail"]
"""Columns that are fields of a handoff as they are."""
_OURS = ("channel_id", "account_id", "integration_thread_id", "opening_id", "status_mark", "assigned_mark")
"""Columns that are fields of a handoff's record as they are."""
_SAID = ("message_id", "text", "html", "error")
"""Columns that are fields of a message as they are."""


def handoff_values(record: HandoffRecord) -> dict[str, Any]:
    """Return a handoff's columns."""
    value = record.handoff
    return {
        **{name: getattr(value, name) for name in _PUBLIC},
        **{name: getattr(record, name) for name in _OURS},
        "state": value.state.value,
        "sender": codec.dumps(record.sender),
        "recipient": codec.dumps(record.recipient),
        "contact": codec.dumps(codec.contact_to_json(value.contact)),
        "attributes": codec.dumps(dict(value.attributes)),
        "operator": codec.dumps(codec.operator_to_json(value.operator)),
        "opened_at": to_ms(value.opened_at) if value.opened_at else 0,
        "assigned_at": to_ms(value.assigned_at) if value.assigned_at else None,
        "closed_at": to_ms(value.closed_at) if value.closed_at else None,
        "reason": value.reason.value if value.reason else None,
    }


def to_record(row: Row) -> HandoffRecord:
    """Return the handoff that a row holds."""
    stored = row._asdict()
    return HandoffRecord(
        handoff=Handoff(
            **{name: stored[name] for name in _PUBLIC},
            state=HandoffState(row.state),
            contact=codec.contact_from_json(codec.loads(row.contact)),
            operator=codec.operator_from_json(codec.loads(row.operator)),
            attributes=codec.loads(row.attributes) or {},
            opened_at=to_datetime(row.opened_at),
            assigned_at=None if row.assigned_at is None else to_datetime(row.assigned_at),
            closed_at=None if row.closed_at is None else to_datetime(row.closed_at),
            reason=CloseReason(row.reason) if row.reason else None,
        ),
        **{name: stored[name] for name in _OURS},
        sender=codec.loads(row.sender),
        recipient=codec.loads(row.recipient),
        stored=stored,
    )


def to_message(row: Row) -> Message:
    """Return the message that a row holds."""
    return Message(
        **{name: getattr(row, name) for name in _SAID},
        author=Author(row.author),
        attachments=tuple(codec.attachment_from_json(one) for one in codec.loads(row.attachments) or ()),
        operator=codec.operator_from_json(codec.loads(row.operator)),
        created_at=to_datetime(row.created_at),
        status=MessageStatus(row.status),
    )


def message_values(value: Message) -> dict[str, Any]:
    """Return a message's columns, but for its handoff."""
    return {
        **{name: getattr(value, name) for name in _SAID},
        "author": value.author.value,
        "attachments": codec.dumps([codec.attachment_to_json(one) for one in value.attachments]),
        "operator": codec.dumps(codec.operator_to_json(value.operator)),
        "created_at": to_ms(value.created_at) if value.created_at else 0,
        "status": value.status.value,
    }
