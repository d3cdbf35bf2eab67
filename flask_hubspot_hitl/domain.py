"""The facts that pass between the host, the rules and the ledger. Imports nothing of ours.

All are frozen; ids are ``str``; times are UTC-aware datetimes. Fields that hold text, contact data or raw
payloads are left out of ``repr`` so that a log line can't leak them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import IO, Any


class HandoffState(StrEnum):
    """``starting → waiting → assigned → closed``, or ``failed``."""

    STARTING = "starting"
    WAITING = "waiting"
    ASSIGNED = "assigned"
    CLOSED = "closed"
    FAILED = "failed"


class Author(StrEnum):
    """Who wrote a message."""

    USER = "user"
    OPERATOR = "operator"
    BOT = "bot"
    SYSTEM = "system"


class MessageStatus(StrEnum):
    """How far a message has come."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


class CloseReason(StrEnum):
    """Why a handoff ended."""

    AGENT = "agent"
    USER = "user"
    TIMEOUT = "timeout"
    ARCHIVED = "archived"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom HubSpot should know: a phone number with country code, an e-mail address, or both."""

    phone: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)

    @property
    def value(self) -> str | None:
        """The phone number if there is one, else the e-mail address, else None."""
        return self.phone or self.email


@dataclass(frozen=True, slots=True)
class Operator:
    """A live agent. ``actor_id`` is HubSpot's ``A-<user id>``; the rest may be unknown."""

    actor_id: str
    name: str | None = None
    email: str | None = field(default=None, repr=False)
    avatar: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file.

    From the agent: ``name, content_type, size`` (bytes), ``url`` and ``file_id`` as far as HubSpot tells.
    From the host: ``name``, ``content_type`` and ``content`` (bytes, or a binary file object, which is read to its end
    at once); or ``url`` instead: the file is fetched when its host is one of ``ATTACHMENT_HOSTS``, else sent as a link.
    """

    name: str | None = field(default=None, repr=False)
    content_type: str | None = None
    size: int | None = None
    url: str | None = field(default=None, repr=False)
    file_id: str | None = None
    content: bytes | bytearray | memoryview | IO[bytes] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a handoff, in either direction. ``text`` is plain text, ``html`` is cleaned HTML."""

    message_id: str
    author: Author
    text: str = field(default="", repr=False)
    html: str | None = field(default=None, repr=False)
    attachments: tuple[Attachment, ...] = ()
    operator: Operator | None = None
    created_at: datetime | None = None
    status: MessageStatus = MessageStatus.QUEUED
    error: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One turn of the conversation before the handoff, as the host tells it."""

    author: str
    text: str = field(repr=False)
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Handoff:
    """One escalation of a conversation to humans. ``thread_id`` is None while it is starting."""

    id: str
    conversation_id: str
    portal_id: str
    inbox_id: str | None
    thread_id: str | None
    state: HandoffState
    contact: Contact | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    operator: Operator | None = None
    title: str | None = field(default=None, repr=False)
    description: str | None = field(default=None, repr=False)
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    opened_at: datetime | None = None
    assigned_at: datetime | None = None
    closed_at: datetime | None = None
    reason: CloseReason | None = None
    detail: str | None = field(default=None, repr=False)

    @property
    def is_open(self) -> bool:
        """True while a human owns the conversation (or is about to)."""
        return self.state in (HandoffState.STARTING, HandoffState.WAITING, HandoffState.ASSIGNED)
