"""Define the values that pass between the host, the rules and the ledger. Imports nothing of ours.

All are frozen; ids are ``str``; times are UTC-aware datetimes. Fields that hold text, contact data or raw payloads are
left out of ``repr`` so that a log line can't leak them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import IO, Any


class HandoffState(StrEnum):
    """A handoff's state: ``starting → waiting → assigned → closed``, or ``failed``."""

    STARTING = "starting"
    """Accepted; HubSpot has no thread for it yet."""
    WAITING = "waiting"
    """HubSpot has the thread; no agent has taken it."""
    ASSIGNED = "assigned"
    """An agent has the thread."""
    CLOSED = "closed"
    """Over: the bot has the conversation again."""
    FAILED = "failed"
    """HubSpot refused the thread for good, or it could not be opened within 24 hours."""


class Author(StrEnum):
    """Who wrote a message."""

    USER = "user"
    """The user of the host's channel."""
    OPERATOR = "operator"
    """A live agent in HubSpot."""
    BOT = "bot"
    """The host's bot; no message of a handoff has it."""
    SYSTEM = "system"
    """Neither person nor bot; no message of a handoff has it."""


class MessageStatus(StrEnum):
    """How far a message has come."""

    QUEUED = "queued"
    """On disk; the other side does not have it yet."""
    SENT = "sent"
    """All handlers have accepted an agent's message."""
    DELIVERED = "delivered"
    """HubSpot has a user's message."""
    READ = "read"
    """The user has read an agent's message: the host said so with ``mark_read``."""
    FAILED = "failed"
    """It will not reach the other side; ``Message.error`` says why."""


class CloseReason(StrEnum):
    """Why a handoff ended."""

    AGENT = "agent"
    """An agent closed the thread."""
    USER = "user"
    """The user wanted the bot back: :meth:`.HubSpotHITL.stop`, by default."""
    TIMEOUT = "timeout"
    """The host waited no longer: ``stop(reason="timeout")``; or the user was silent for ``IDLE_TIMEOUT``."""
    ARCHIVED = "archived"
    """An agent moved the thread to the trash, or our channel was removed from the inbox."""
    DELETED = "deleted"
    """HubSpot deleted the thread for good."""


class AvailabilityReason(StrEnum):
    """Why somebody is there, nobody is, or nobody can tell."""

    AVAILABLE = "available"
    """Somebody is there."""
    AWAY = "away"
    """It is somebody's working time, and all who work now are away."""
    CLOSED = "closed"
    """It is nobody's working time."""
    NO_MEMBERS = "no_members"
    """Not known: who answers in the inbox is neither set nor seen yet, or HubSpot knows none of them."""
    NOT_GRANTED = "not_granted"
    """Not known: the account has not granted the scope."""
    UNREACHABLE = "unreachable"
    """Not known: HubSpot can't be asked just now."""
    OFF = "off"
    """Nobody is there: ``HUBSPOT_HITL_ENABLED`` is false."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a live agent is there for an inbox.

    :param open: True: somebody is there. False: nobody is. None: not known, which is no reason to turn anybody away.
    :param agents: the actor ids (``A-987``) of those who are there; empty with business hours alone.
    :param opens_at: when somebody's working time begins next, where nobody is there now; None when that is not known.
    :param reason: why.
    """

    open: bool | None
    agents: tuple[str, ...] = ()
    opens_at: datetime | None = None
    reason: AvailabilityReason = AvailabilityReason.UNREACHABLE


@dataclass(frozen=True, slots=True)
class Waiting:
    """The place of a conversation that waits for an agent, among those that came through our own channel.

    What else agents have in the inbox (live chat, e-mail, other channels) is not counted: HubSpot does not tell it.

    :param ahead: how many conversations of the same inbox came before and wait, too; 0: the next one.
    :param estimate: seconds until an agent takes it, as the last ones of the inbox went; None when too few are known.
    """

    ahead: int
    estimate: float | None = None


@dataclass(frozen=True, slots=True)
class Contact:
    """A person as HubSpot may know them: by phone number, by e-mail address, by what a messenger delivered.

    :param phone: a phone number with country code, such as ``+14155550100``.
    :param email: an e-mail address.
    :param whatsapp: the user's id as WhatsApp delivers it: digits with the country code, such as ``14155550100``. It is
        never refused for its length, because messengers keep numbers in the form they had when somebody joined.
    :param extension: digits to dial after the phone number, for the agent.
    """

    phone: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    whatsapp: str | None = field(default=None, repr=False)
    extension: str | None = field(default=None, repr=False)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Return the phone number and the messenger's, as far as they are there and differ."""
        return tuple(dict.fromkeys(one for one in (self.phone, self.whatsapp) if one))

    @property
    def value(self) -> str | None:
        """Return the phone number, else the messenger's, else the e-mail address, else None."""
        return self.phone or self.whatsapp or self.email


@dataclass(frozen=True, slots=True)
class Operator:
    """A live agent.

    Source of the ids: docs/hubspot.rst (Actors).

    :param actor_id: HubSpot's ``A-<user id>``.
    :param name: the name that HubSpot shows, if it is known.
    :param email: the e-mail address, if it is known.
    :param avatar: the URL of a picture, if there is one.
    """

    actor_id: str
    name: str | None = None
    email: str | None = field(default=None, repr=False)
    avatar: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file, in either direction.

    From the agent come ``name``, ``content_type``, ``size``, ``url`` and ``file_id``, as far as HubSpot tells them. The
    host gives ``content``, or ``url`` instead. Source of HubSpot's fields: docs/hubspot.rst (Attachments).

    :param name: the file's name, without a path.
    :param content_type: the media type, such as ``image/png``; guessed from the name when the host gives none.
    :param size: bytes.
    :param url: where the file is. One of the host's is fetched when its host is one of ``ATTACHMENT_HOSTS``, else it is
        sent as a link.
    :param file_id: HubSpot's id of the file.
    :param content: bytes, or a file object in binary mode, which is read to its end at once; from the host only.
    :param is_voice: somebody has spoken it, instead of writing: HubSpot's ``VOICE_RECORDING``.
    """

    name: str | None = field(default=None, repr=False)
    content_type: str | None = None
    size: int | None = None
    url: str | None = field(default=None, repr=False)
    file_id: str | None = None
    content: bytes | bytearray | memoryview | IO[bytes] | None = field(default=None, repr=False, compare=False)
    is_voice: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers that an agent offers: HubSpot's quick replies.

    Source: docs/hubspot.rst (Attachments).

    :param label: what the user reads.
    :param value: what the user answers by choosing it, to be given to :meth:`.HubSpotHITL.send`; of a link, its
        address.
    :param is_link: choosing it opens ``value``, an https address, and is no answer.
    """

    label: str = field(repr=False)
    value: str = field(repr=False)
    is_link: bool = False

    def __str__(self) -> str:
        """Return the choice as a line of text: the label, and the value where it is another."""
        if self.label == self.value:
            return f"• {self.label}"
        return f"• {self.label}: {self.value}" if self.is_link else f"• {self.label} ({self.value})"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a handoff, in either direction.

    :param message_id: HubSpot's id of an agent's message; the host's own of a user's. It is the idempotency key.
    :param author: who wrote it.
    :param text: plain text, verbatim.
    :param html: cleaned HTML of an agent's message, if HubSpot sent any.
    :param attachments: its files.
    :param choices: the answers that an agent offers, with ``QUICK_REPLIES``; else they are a line of the text.
    :param operator: the agent who wrote it.
    :param created_at: when it was written, by the clock of the side it comes from.
    :param status: how far it has come.
    :param error: why it failed; of a user's message that was delivered, which of its files were not, and why.
    """

    message_id: str
    author: Author
    text: str = field(default="", repr=False)
    html: str | None = field(default=None, repr=False)
    attachments: tuple[Attachment, ...] = ()
    operator: Operator | None = None
    created_at: datetime | None = None
    status: MessageStatus = MessageStatus.QUEUED
    error: str | None = field(default=None, repr=False)
    choices: tuple[Choice, ...] = ()

    @property
    def text_with_choices(self) -> str:
        """Return the text and a line for each choice, for where there are no buttons."""
        return "\n".join(filter(None, [self.text, *map(str, self.choices)]))


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One turn of the conversation before the handoff, as the host tells it.

    :param author: who spoke, as the agent is to read it: ``user``, ``bot``, a name.
    :param text: what was said, in plain text.
    :param at: when, as an aware datetime.
    """

    author: str
    text: str = field(repr=False)
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Handoff:
    """One handing over of a conversation to humans.

    :param id: our own id.
    :param conversation_id: the host's own name of the conversation.
    :param portal_id: the HubSpot account.
    :param inbox_id: the inbox or help desk; None when HubSpot does not tell it.
    :param thread_id: HubSpot's thread; None while the handoff is starting.
    :param state: how far the handoff has come.
    :param contact: the contact that ``start`` was given.
    :param name: the user's name.
    :param operator: the agent who has the conversation, or had it at the end.
    :param title: the reason in a few words.
    :param description: the reason at more length.
    :param attributes: the host's own facts, as ``start`` was given them.
    :param opened_at: when ``start`` was called.
    :param assigned_at: when an agent took it.
    :param closed_at: when it ended or failed.
    :param reason: why it ended.
    :param detail: further words for the reason: the host's, or why it failed.
    """

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
        """Return True while the humans have the conversation, or are about to."""
        return self.state in (HandoffState.STARTING, HandoffState.WAITING, HandoffState.ASSIGNED)
