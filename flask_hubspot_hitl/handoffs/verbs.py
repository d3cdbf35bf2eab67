"""Check what the host asks of one app's handoffs; ``rules`` decides what happens."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import IO, Any, Protocol, TypeVar

from ..config import PREFIX
from ..dispatch.dispatcher import Dispatcher
from ..dispatch.tasks import Dead, Effect, Retry
from ..domain import Attachment, CloseReason, Contact, Handoff, HandoffState, Message, Waiting
from ..errors import HubSpotUnavailable, NotConfigured
from ..hubspot import fields
from ..hubspot.contacts import parse_contact
from ..hubspot.text import scrub
from ..hubspot.transport import deadline
from ..ledger import HandoffRecord, Lease, Ledger, Transaction, lanes
from ..portals import routing
from ..portals.clients import Services
from ..portals.deployment import not_adopted
from . import arguments, beginnings, queue, read_receipts, rules, silence
from .before import render_history
from .facts import Redact, redacted, render_facts
from .files import Links, lasting
from .tickets import check_ticket

logger = logging.getLogger(__name__)

Count = TypeVar("Count", bound=int)
"""How much was changed: a number, or whether anything was."""
SPARE_MS = 5_000
"""Milliseconds that ``start`` has its lane for beyond START_TIMEOUT, to store what came of it: no lease is renewed."""


class App(Protocol):
    """Define what the verbs need of an app."""

    dispatcher: Dispatcher
    redact: Redact | None

    @property
    def services(self) -> Services:
        """Return the HubSpot clients, and what they need."""

    @property
    def links(self) -> Links:
        """Return what leads to the files of conversations."""


Write = Callable[[], AbstractContextManager[Transaction]]
"""Opens the transaction in which a verb is decided; a task of a bridge's gives one that ends with the task's lane."""


def start(app: App, opening: rules.Opening, *, write: Write | None = None) -> Handoff:
    """Do :meth:`HubSpotHITL.start` for one app; ``opening`` comes from :func:`check_opening`."""
    ledger, dispatcher = app.services.ledger, app.dispatcher
    deployment_id = ledger.deployment_id
    with (write or ledger.write)() as tx:
        now = ledger.now_ms()
        record, is_new = rules.begin(tx, opening, deployment_id=deployment_id, now=now)
        lane = lanes.outbound(record.handoff.id)
        is_ours = not_adopted(tx.get_meta("public_url"), app.services.settings.public_url) is None
        lasts_ms = int(app.services.settings.start_timeout * 1000) + SPARE_MS
        lease = dispatcher.runner.claim_within(tx, lane, now, least_ms=lasts_ms) if is_new and is_ours else None
    if lease is not None:
        began = time.monotonic()
        with deadline(app.services.settings.start_timeout):
            outcome = dispatcher.runner.perform(lease)
        if isinstance(outcome, Dead) and outcome.cause is not None and _abandoned(ledger, lease, record, outcome.error):
            dispatcher.wake()
            raise outcome.cause
        if isinstance(outcome, Retry) and isinstance(outcome.cause, HubSpotUnavailable):
            logger.warning(
                "Handoff %s has no HubSpot thread yet (%s); start returned it in state starting, and it is tried on "
                "until it works or 24 hours have passed",
                record.handoff.id,
                outcome.error,
            )
        dispatcher.runner.settle(lease, outcome, go_on=False, patience=2.0, began=began)
    with ledger.read() as tx:
        current = tx.records.get(record.handoff.id)
    dispatcher.wake()
    return (current or record).handoff


def _abandoned(ledger: Ledger, lease: Lease, record: HandoffRecord, error: str) -> bool:
    """Take back what a ``start`` that fails has stored; False when another process has its lane and goes on with it."""
    with ledger.write() as tx:
        now = ledger.now_ms()
        # Before the handoff, as whoever sends or stops locks them.
        tx.queue.reserve(lease.lane, lanes.signals(record.handoff), now=now)
        is_held = tx.queue.holds(lease)
        if is_held:
            rules.abandon(tx, record, error=error, now=now)
    return is_held


def send(
    app: App,
    conversation_id: str,
    text: str | None = "",
    *,
    attachments: Iterable[Attachment] = (),
    message_id: str | None = None,
    otherwise: Effect | None = None,
    write: Write | None = None,
) -> bool:
    """Do :meth:`HubSpotHITL.send` for one app.

    :param otherwise: done in the same transaction when there is no open handoff.
    :param write: opens that transaction.
    """
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    if isinstance(attachments, Attachment) or not isinstance(attachments, Iterable):
        raise TypeError(f"attachments must be a list, not {type(attachments).__name__}: write attachments=[…]")
    files = [arguments.file(one, app.services.settings.max_attachment_bytes) for one in attachments]
    if not text.strip() and not files:
        raise ValueError("send() needs text or an attachment")
    key = None if message_id is None else arguments.identifier("message_id", message_id)
    with (write or app.services.ledger.write)() as tx:
        accepted = rules.accept_message(
            tx,
            arguments.identifier("conversation_id", conversation_id),
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
    only_if: Callable[[HandoffRecord], bool] = lambda record: True,
) -> bool:
    """Do :meth:`HubSpotHITL.stop` for one app; see :func:`.rules.stop`.

    :returns: False when there was nothing to end.
    """
    with app.services.ledger.write() as tx:
        stopped = rules.stop(
            tx,
            arguments.identifier("conversation_id", conversation_id),
            reason=CloseReason(reason),
            detail=arguments.clean(detail),
            farewell=scrub(farewell),
            message_id=None if message_id is None else arguments.identifier("message_id", message_id),
            only_if=only_if,
            now=app.services.ledger.now_ms(),
        )
    if stopped is not None:
        app.dispatcher.wake()
    return stopped is not None


SUGGESTED = "Suggested reply (the user has not seen it):"
"""Stands above a draft."""
SCORE_LIMIT = 50
"""Characters, at most, of a rating's score."""
NOTE_LIMIT = 50_000
"""Characters, at most, of a note."""


def note(app: App, conversation_id: str, text: str, *, draft: bool = False) -> bool:
    """Do :meth:`HubSpotHITL.note` for one app."""
    clean, title = check_note(text, draft=draft)
    return _change(app, conversation_id, lambda tx, name, now: rules.note(tx, name, clean, title=title, now=now))


def check_note(text: str, *, draft: bool) -> tuple[str, str | None]:
    """Return the text of a note as it is sent, and what stands above it."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text).__name__}")
    clean = scrub(text).strip()
    if not clean or len(clean) > NOTE_LIMIT:
        raise ValueError(f"a note needs 1 to {NOTE_LIMIT} characters")
    return clean, SUGGESTED if draft else None


def rate(app: App, conversation_id: str, score: float | str, comment: str | None = None) -> bool:
    """Do :meth:`HubSpotHITL.rate` for one app."""
    if isinstance(score, bool) or not isinstance(score, int | float | str):
        raise TypeError(f"score must be a number or a str, not {type(score).__name__}")
    value, said = arguments.clean(score), arguments.clean(comment)
    if value is None or len(value) > SCORE_LIMIT or len(said or "") > NOTE_LIMIT:
        raise ValueError(
            f"a rating needs a score (1 to {SCORE_LIMIT} characters) and a comment of at most {NOTE_LIMIT}"
        )
    text = f"The user's rating: {value}" + (f"\n{said}" if said else "")
    return _change(app, conversation_id, lambda tx, name, now: rules.rate(tx, name, text, now=now))


def assign(app: App, conversation_id: str, actor_id: str) -> bool:
    """Do :meth:`HubSpotHITL.assign` for one app."""
    agent = fields.actor(actor_id)
    if agent is None or not agent.startswith(fields.PERSON):
        raise ValueError("assign() needs an agent's id, such as A-987; unassign() gives the conversation back")
    return _change(app, conversation_id, lambda tx, name, now: rules.assign(tx, name, agent, now=now))


def unassign(app: App, conversation_id: str) -> bool:
    """Do :meth:`HubSpotHITL.unassign` for one app."""
    return _change(app, conversation_id, lambda tx, name, now: rules.assign(tx, name, None, now=now))


def accept(app: App, event: str, conversation_id: str) -> Handoff | None:
    """Do :meth:`HubSpotHITL.accept` for one app."""
    return beginnings.accept(app, event, arguments.identifier("conversation_id", conversation_id))


def _change(app: App, conversation_id: str, change: Callable[[Transaction, str, int], Count]) -> Count:
    """Change something of a conversation in one transaction, and let the dispatcher look if that gave it work."""
    with app.services.ledger.write() as tx:
        done = change(tx, arguments.identifier("conversation_id", conversation_id), app.services.ledger.now_ms())
    if done:
        app.dispatcher.wake()
    return done


def get(app: App, conversation_id: str) -> Handoff | None:
    """Do :meth:`HubSpotHITL.get` for one app."""
    with app.services.ledger.read() as tx:
        record = tx.records.open_of(arguments.identifier("conversation_id", conversation_id))
    return None if record is None else record.handoff


def newest(app: App, conversation_id: str) -> HandoffRecord | None:
    """Return the conversation's newest handoff, open or not."""
    with app.services.ledger.read() as tx:
        return tx.records.newest_of(arguments.identifier("conversation_id", conversation_id))


def all_of(app: App, conversation_id: str) -> list[Handoff]:
    """Return all handoffs of a conversation, the newest first."""
    with app.services.ledger.read() as tx:
        records = tx.records.all_of(arguments.identifier("conversation_id", conversation_id))
    return [one.handoff for one in records]


def waiting(app: App, conversation_id: str) -> Waiting | None:
    """Do :meth:`HubSpotHITL.waiting` for one app."""
    with app.services.ledger.read() as tx:
        return queue.waiting_of(tx, tx.records.open_of(arguments.identifier("conversation_id", conversation_id)))


def transcript(app: App, conversation_id: str) -> list[Message]:
    """Do :meth:`HubSpotHITL.transcript` for one app."""
    with app.services.ledger.read() as tx:
        record = tx.records.newest_of(arguments.identifier("conversation_id", conversation_id))
    return [] if record is None else transcript_of(app, record.handoff.id)


def transcript_of(app: App, handoff_id: str) -> list[Message]:
    """Return the messages of one handoff, the oldest first."""
    with app.services.ledger.read() as tx:
        messages = tx.records.messages_of(handoff_id)
    return lasting(app.services, handoff_id, messages)


def mark_read(app: App, conversation_id: str, message_id: str | None = None) -> int:
    """Do :meth:`HubSpotHITL.mark_read` for one app."""

    def change(tx: Transaction, name: str, now: int) -> int:
        last = None if message_id is None else arguments.identifier("message_id", message_id)
        return read_receipts.mark_read(tx, name, last, now=now)

    return _change(app, conversation_id, change)


def attachment_url(app: App, conversation_id: str, attachment: Attachment) -> str:
    """Do :meth:`HubSpotHITL.attachment_url` for one app."""
    return app.links.address(arguments.identifier("conversation_id", conversation_id), attachment)


def open_attachment(app: App, conversation_id: str, attachment: Attachment) -> IO[bytes]:
    """Do :meth:`HubSpotHITL.open_attachment` for one app."""
    return app.links.open(arguments.identifier("conversation_id", conversation_id), attachment)


def check_opening(
    app: App,
    conversation_id: str,
    *,
    contact: str | Contact | None = None,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    history: Iterable[Any] = (),
    inbox_id: str | None = None,
    portal_id: str | None = None,
    assign_to: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    idle_warning: float | None = None,
    idle_timeout: float | None = None,
    facts: Mapping[str, Any] | None = None,
    link: str | None = None,
    ticket: Mapping[str, Any] | None = None,
    history_is_checked: bool = True,
) -> rules.Opening:
    """Return what ``start`` is asked for, checked before anything is stored.

    :param history_is_checked: False: entries that are not understood are counted for the agent, and are no error.
    """
    settings = app.services.settings
    warning_ms, timeout_ms = silence.limits(settings, idle_warning, idle_timeout)
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
    allowed = partial(redacted, app.redact)
    told_before = render_history(history, is_checked=history_is_checked, allowed=allowed)
    takes_notes = settings.history == "note" and app.services.takes_notes(portal)
    how = settings.history if takes_notes or settings.history == "none" else "message"
    handoff = Handoff(
        id=uuid.uuid4().hex,
        conversation_id=arguments.identifier("conversation_id", conversation_id),
        portal_id=portal,
        inbox_id=inbox,
        thread_id=None,
        state=HandoffState.STARTING,
        contact=found,
        name=arguments.clean(name),
        title=arguments.clean(title),
        description=arguments.clean(description),
        attributes=arguments.json_object(attributes),
    )
    return rules.Opening(
        handoff=handoff,
        channel_id=channel,
        account_id=account,
        transcript="" if how == "none" else told_before,
        transcript_as=how,
        assign_to=arguments.agent(assign_to),
        idle_warning=warning_ms,
        idle_timeout=timeout_ms,
        facts=render_facts(facts, link, app.redact),
        ticket=check_ticket(settings, ticket),
    )
