"""Turn rows into handoffs and messages, and back. Runs no statement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from ..clock import to_datetime, to_ms
from ..domain import Author, CloseReason, Handoff, HandoffState, Message, MessageStatus, Operator
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
    taken_at: int | None = None
    """HubSpot's time when a person took it first."""
    inbox_mark: int | None = None
    """HubSpot's time of the newest move to another inbox applied."""
    machine: str | None = None
    """The bot or AI agent that holds the thread, or held it at the end."""
    operators: tuple[Operator, ...] = ()
    """Who had it or wrote, in this order; persons only."""
    answered_at: int | None = None
    """HubSpot's time when a person wrote first."""
    silent_since: int | None = None
    """Since when it is the user's turn, in our clock; None: it is not."""
    idle_warning: int | None = None
    """Milliseconds of the user's silence until the host is warned; None: never."""
    idle_timeout: int | None = None
    """Milliseconds of the user's silence until the handoff ends; None: never."""
    stored: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    """The row as last read or written, to store only changed columns; None for a new one."""
    parts: Sequence[Any] = field(default=(), repr=False, compare=False)
    """The values of the columns that hold JSON, as they were then: what is still the same need not be written anew."""

    @property
    def closed_ms(self) -> int:
        """Return the epoch ms at which the handoff was closed; 0 while it is open."""
        return to_ms(self.handoff.closed_at) if self.handoff.closed_at else 0

    @property
    def holder(self) -> str | None:
        """Return who holds the thread: an agent, or a machine; None when nobody does."""
        return self.handoff.operator.actor_id if self.handoff.operator else self.machine


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """Hold an agent's message: its row, its id in the Conversations API where it was read there, and epoch ms."""

    row: int
    read_id: str | None
    created_at: int
    message: Message


_PUBLIC = ["id", "conversation_id", "portal_id", "inbox_id", "thread_id", "name", "title", "description", "detail"]
"""Columns that are fields of a handoff as they are."""
_OURS = (
    *("channel_id", "account_id", "integration_thread_id", "opening_id", "status_mark", "assigned_mark", "taken_at"),
    *("inbox_mark", "machine", "answered_at", "silent_since", "idle_warning", "idle_timeout"),
)
"""Columns that are fields of a handoff's record as they are."""
_SAID = ("message_id", "text", "html", "error")
"""Columns that are fields of a message as they are."""
_JSON: dict[str, Callable[[Any], str | None]] = {
    "sender": codec.dumps,
    "recipient": codec.dumps,
    "contact": lambda contact: codec.dumps(codec.contact_to_json(contact)),
    "attributes": lambda attributes: codec.dumps(dict(attributes)),
    "operator": lambda operator: codec.dumps(codec.operator_to_json(operator)),
    "operators": codec.operators_to_text,
}
"""Columns that hold JSON, and what makes it."""
_public: Callable[[Any], tuple[Any, ...]] = attrgetter(*_PUBLIC)
_ours: Callable[[Any], tuple[Any, ...]] = attrgetter(*_OURS)


def handoff_values(record: HandoffRecord) -> dict[str, Any]:
    """Return a handoff's columns."""
    value = record.handoff
    values = dict(zip((*_PUBLIC, *_OURS), (*_public(value), *_ours(record)), strict=True))
    stored, before = record.stored, record.parts
    for number, (name, part) in enumerate(zip(_JSON, _parts(record), strict=True)):
        is_known = stored is not None and before and before[number] is part
        values[name] = stored[name] if stored is not None and is_known else _JSON[name](part)
    values["state"] = value.state.value
    values["opened_at"] = to_ms(value.opened_at) if value.opened_at else 0
    values["assigned_at"] = to_ms(value.assigned_at) if value.assigned_at else None
    values["closed_at"] = to_ms(value.closed_at) if value.closed_at else None
    values["reason"] = value.reason.value if value.reason else None
    return values


def _parts(record: HandoffRecord) -> tuple[Any, ...]:
    """Return the values of the columns that hold JSON, in the order of _JSON."""
    value = record.handoff
    return record.sender, record.recipient, value.contact, value.attributes, value.operator, record.operators


def note_stored(record: HandoffRecord, values: dict[str, Any]) -> None:
    """Note what a handoff's row holds now."""
    record.stored, record.parts = values, _parts(record)


def to_record(row: Row) -> HandoffRecord:
    """Return the handoff that a row holds."""
    record = HandoffRecord(
        handoff=Handoff(
            **dict(zip(_PUBLIC, _public(row), strict=True)),
            state=HandoffState(row.state),
            contact=codec.contact_from_json(codec.loads(row.contact)),
            operator=codec.operator_from_json(codec.loads(row.operator)),
            attributes=codec.loads(row.attributes) or {},
            opened_at=to_datetime(row.opened_at),
            assigned_at=None if row.assigned_at is None else to_datetime(row.assigned_at),
            closed_at=None if row.closed_at is None else to_datetime(row.closed_at),
            reason=CloseReason(row.reason) if row.reason else None,
        ),
        **dict(zip(_OURS, _ours(row), strict=True)),
        sender=codec.loads(row.sender),
        recipient=codec.loads(row.recipient),
        operators=codec.operators_from_text(row.operators),
    )
    note_stored(record, row._asdict())
    return record


def to_message(row: Row) -> Message:
    """Return the message that a row holds."""
    files, choices = codec.parts_from_json(codec.loads(row.attachments))
    return Message(
        **{name: getattr(row, name) for name in _SAID},
        author=Author(row.author),
        attachments=files,
        choices=choices,
        operator=codec.operator_from_json(codec.loads(row.operator)),
        created_at=to_datetime(row.created_at),
        status=MessageStatus(row.status),
    )


def message_values(value: Message) -> dict[str, Any]:
    """Return a message's columns, but for its handoff."""
    return {
        **{name: getattr(value, name) for name in _SAID},
        "author": value.author.value,
        "attachments": codec.dumps(codec.parts_to_json(value.attachments, value.choices)),
        "operator": codec.dumps(codec.operator_to_json(value.operator)),
        "created_at": to_ms(value.created_at) if value.created_at else 0,
        "status": value.status.value,
    }
