"""Check what the host asks of one app's handoffs; ``rules`` decides what happens."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Mapping
from typing import IO, Any, Protocol

from ..config import PREFIX
from ..dispatch.dispatcher import Dispatcher
from ..dispatch.tasks import Dead, Effect, Retry
from ..domain import Attachment, CloseReason, Contact, Handoff, HandoffState, Message
from ..errors import HubSpotUnavailable, NotConfigured
from ..hubspot import fields
from ..hubspot.contacts import parse_contact
from ..hubspot.text import clean_name, guess_content_type, scrub
from ..hubspot.transport import deadline
from ..ledger import lanes
from ..portals import routing
from ..portals.clients import Services
from . import rules
from .before import render_history
from .files import Links, lasting

logger = logging.getLogger(__name__)

ID_LIMIT = 500
"""Characters, at most, of a conversation id or message id."""


class App(Protocol):
    """Define what the verbs need of an app."""

    services: Services
    dispatcher: Dispatcher
    links: Links


def start(app: App, opening: rules.Opening) -> Handoff:
    """Do :meth:`HubSpotHITL.start` for one app; ``opening`` comes from :func:`check_opening`."""
    ledger, dispatcher = app.services.ledger, app.dispatcher
    deployment_id = ledger.deployment_id
    with ledger.write() as tx:
        now = ledger.now_ms()
        record, is_new = rules.begin(tx, opening, deployment_id=deployment_id, now=now)
        lane = lanes.outbound(record.handoff.id)
        lease = dispatcher.runner.claim_within(tx, lane, now) if is_new else None
    if lease is not None:
        with deadline(app.services.settings.start_timeout):
            outcome = dispatcher.runner.perform(lease)
        if isinstance(outcome, Dead) and outcome.cause is not None:
            with ledger.write() as tx:
                rules.abandon(tx, record, error=outcome.error, now=ledger.now_ms())
            dispatcher.wake()
            raise outcome.cause
        if isinstance(outcome, Retry) and isinstance(outcome.cause, HubSpotUnavailable):
            logger.warning(
                "Handoff %s has no HubSpot thread yet (%s); start returned it in state starting, and it is tried on "
                "until it works or 24 hours have passed",
                record.handoff.id,
                outcome.error,
            )
        dispatcher.runner.settle(lease, outcome, go_on=False, patience=2.0)
    with ledger.read() as tx:
        current = tx.records.get(record.handoff.id)
    dispatcher.wake()
    return (current or record).handoff


def send(
    app: App,
    conversation_id: str,
    text: str | None = "",
    *,
    attachments: Iterable[Attachment] = (),
    message_id: str | None = None,
    otherwise: Effect | None = None,
) -> bool:
    """Do :meth:`HubSpotHITL.send` for one app.

    :param otherwise: done in the same transaction when there is no open handoff.
    """
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    files = [_file(one, app.services.settings.max_attachment_bytes) for one in attachments]
    if not text.strip() and not files:
        raise ValueError("send() needs text or an attachment")
    key = None if message_id is None else _identifier("message_id", message_id)
    with app.services.ledger.write() as tx:
        accepted = rules.accept_message(
            tx,
            _identifier("conversation_id", conversation_id),
            scrub(text),
            attachments=files,
            message_id=key,
            now=app.services.ledger.now_ms(),
        )
        if otherwise is not None and not accepted:
            otherwise(tx)
    if accepted or otherwise is not None:
        app.dispatcher.wake()
    return accepted


def stop(
    app: App,
    conversation_id: str,
    *,
    reason: str = "user",
    detail: str | None = None,
    farewell: str = "",
    message_id: str | None = None,
) -> bool:
    """Do :meth:`HubSpotHITL.stop` for one app; see :func:`.rules.stop`.

    :returns: False when there was nothing to end.
    """
    with app.services.ledger.write() as tx:
        stopped = rules.stop(
            tx,
            _identifier("conversation_id", conversation_id),
            reason=CloseReason(reason),
            detail=_clean(detail),
            farewell=scrub(farewell),
            message_id=None if message_id is None else _identifier("message_id", message_id),
            now=app.services.ledger.now_ms(),
        )
    if stopped is not None:
        app.dispatcher.wake()
    return stopped is not None


def get(app: App, conversation_id: str) -> Handoff | None:
    """Do :meth:`HubSpotHITL.get` for one app."""
    with app.services.ledger.read() as tx:
        record = tx.records.open_of(_identifier("conversation_id", conversation_id))
    return None if record is None else record.handoff


def transcript(app: App, conversation_id: str) -> list[Message]:
    """Do :meth:`HubSpotHITL.transcript` for one app."""
    with app.services.ledger.read() as tx:
        record = tx.records.newest_of(_identifier("conversation_id", conversation_id))
        messages = [] if record is None else tx.records.messages_of(record.handoff.id)
    return [] if record is None else lasting(app.services, record.handoff.id, messages)


def attachment_url(app: App, conversation_id: str, attachment: Attachment) -> str:
    """Do :meth:`HubSpotHITL.attachment_url` for one app."""
    return app.links.address(_identifier("conversation_id", conversation_id), attachment)


def open_attachment(app: App, conversation_id: str, attachment: Attachment) -> IO[bytes]:
    """Do :meth:`HubSpotHITL.open_attachment` for one app."""
    return app.links.open(_identifier("conversation_id", conversation_id), attachment)


def check_opening(
    app: App,
    conversation_id: str,
    *,
    contact: str | Contact | None,
    name: str | None,
    title: str | None,
    description: str | None,
    history: Iterable[Any],
    inbox_id: str | None,
    portal_id: str | None = None,
    assign_to: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    history_is_checked: bool = True,
) -> rules.Opening:
    """Return what ``start`` is asked for, checked before anything is stored.

    :param history_is_checked: False: entries that are not understood are counted for the agent, and are no error.
    """
    settings = app.services.settings
    with app.services.ledger.read() as tx:
        portal = str(portal_id) if portal_id is not None else routing.default_portal(tx, settings)
        channel = routing.channel_of(tx, settings)
        if channel is None:
            raise NotConfigured(f"{PREFIX}CHANNEL_ID is missing: run 'flask hubspot-hitl setup', or set it")
        default = routing.default_inbox(tx, settings, portal)
        inbox = default if inbox_id is None else str(inbox_id)
        account = routing.account_of(
            tx, settings, portal, channel, inbox, is_default=inbox_id is None or inbox == default
        )
    if account is None and inbox is None:
        raise NotConfigured(
            f"portal {portal} has no default inbox: run 'flask hubspot-hitl setup', set {PREFIX}CHANNEL_ACCOUNT_ID or "
            f"{PREFIX}INBOX_ID (for {PREFIX}PORTAL_ID), or say start(inbox_id=…)"
        )
    app.services.client(portal)  # a missing token is said here, before anything is stored
    found: Contact | None = None
    if contact is not None:
        found = parse_contact(contact, allow_special_domains=app.services.settings.is_stand_in)
    elif settings.contact_policy != "anonymous":
        raise ValueError("start() needs a contact (or HUBSPOT_HITL_CONTACT_POLICY = 'anonymous')")
    told_before = render_history(history, is_checked=history_is_checked)
    takes_notes = settings.history == "note" and app.services.takes_notes(portal)
    how = settings.history if takes_notes or settings.history == "none" else "message"
    handoff = Handoff(
        id=uuid.uuid4().hex,
        conversation_id=_identifier("conversation_id", conversation_id),
        portal_id=portal,
        inbox_id=inbox,
        thread_id=None,
        state=HandoffState.STARTING,
        contact=found,
        name=_clean(name),
        title=_clean(title),
        description=_clean(description),
        attributes=dict(attributes or {}),
    )
    return rules.Opening(
        handoff=handoff,
        channel_id=channel,
        account_id=account,
        transcript="" if how == "none" else told_before,
        transcript_as=how,
        assign_to=fields.actor(assign_to),
    )


def _identifier(name: str, value: object) -> str:
    """Return an id of the host's: any text that a database can hold, up to :data:`ID_LIMIT` characters."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    text = str(value)
    if not text or len(text) > ID_LIMIT or scrub(text) != text:
        raise ValueError(f"{name} must be 1 to {ID_LIMIT} characters, without NUL or lone surrogates")
    return text


def _clean(value: object) -> str | None:
    return None if value is None else scrub(str(value)).strip() or None


def _file(attachment: Attachment, limit: int) -> tuple[Attachment, bytes | None]:
    """Return a host's attachment with a safe name, and its bytes; None when it is to be fetched."""
    if not isinstance(attachment, Attachment):
        kind = type(attachment).__name__
        raise TypeError(f"an attachment must be an Attachment, not {kind}: write Attachment(name=…, content=…)")
    for part in ("name", "content_type", "url"):
        value = getattr(attachment, part)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"an attachment's {part} must be a str, not {type(value).__name__}")
    content = attachment.content
    if content is None and attachment.url:
        named = clean_name(attachment.name) if attachment.name else None
        return Attachment(name=named, content_type=attachment.content_type, url=scrub(attachment.url)), None
    if content is None:
        raise ValueError("an attachment needs 'content' (bytes or a binary file object) or 'url'")
    data = bytes(content) if isinstance(content, bytes | bytearray | memoryview) else _read_all(content, limit)
    if len(data) > limit:
        raise ValueError(f"an attachment is larger than {PREFIX}MAX_ATTACHMENT_BYTES ({limit} bytes)")
    name = clean_name(attachment.name, content_type=attachment.content_type)
    content_type = attachment.content_type or guess_content_type(name)
    return Attachment(name=name, content_type=content_type, size=len(data)), data


def _read_all(file: IO[bytes], limit: int) -> bytes:
    """Read a file object to its end, or to one byte beyond ``limit``: a pipe gives less than it is asked for."""
    if not callable(getattr(file, "read", None)):
        raise TypeError(f"an attachment's content must be bytes or a binary file object, not {type(file).__name__}")
    parts: list[bytes] = []
    wanted = limit + 1
    while wanted > 0:
        part = file.read(wanted)
        if isinstance(part, str):
            raise TypeError("an attachment's file object must be opened in binary mode, such as open(path, 'rb')")
        if part is None:
            raise ValueError("an attachment's file object has nothing to read just now: it must not be non-blocking")
        if not isinstance(part, bytes | bytearray | memoryview):
            raise TypeError(f"an attachment's file object must give bytes, not {type(part).__name__}")
        if not part:
            break
        parts.append(bytes(part))
        wanted -= len(parts[-1])
    return b"".join(parts)
