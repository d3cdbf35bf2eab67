"""HubSpotHITL: puts the parts together for an app, and is the three verbs' front door."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from flask import Flask

from . import handoffs
from .cli import group
from .clock import Clock, SystemClock
from .config import PREFIX, Settings
from .dispatcher import Dispatcher
from .domain import Attachment, CloseReason, Contact, Handoff, HistoryEntry, Message
from .errors import HubSpotUnavailable, NotConfigured
from .hubspot.contacts import parse_contact
from .hubspot.content import render_history
from .hubspot.events import normalize_actor
from .hubspot.text import clean_name, guess_content_type, scrub
from .hubspot.transport import deadline
from .runtime import KEY, Runtime, get_runtime, open_runtime
from .tasks import Dead, Retry
from .views import create_blueprint, exempt_from_csrf

logger = logging.getLogger(__name__)

ID_LIMIT = 500
"""Characters of a conversation id or message id."""


class HubSpotHITL:
    """Hands an app's conversations to live agents in HubSpot, and takes them back.

    ``HubSpotHITL(app)``, or ``HubSpotHITL()`` and ``init_app(app)`` for each app. ``clock`` tells the time, for
    tests. The object itself holds nothing of any app.
    """

    def __init__(self, app: Flask | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the app's settings, open its database, add the routes, and get the dispatcher ready.

        :raises ConfigError: listing everything that is wrong with the settings.
        :raises LedgerUnavailable: when the database can't be opened.
        """
        if KEY in app.extensions:
            raise RuntimeError("HubSpotHITL is already on this app; call init_app once.")
        settings = Settings.from_config(app.config)
        runtime = open_runtime(app, settings, self._clock or SystemClock())
        app.extensions[KEY] = runtime
        app.register_blueprint(create_blueprint(settings), url_prefix=settings.url_prefix)
        exempt_from_csrf(app)
        app.before_request(lambda: exempt_from_csrf(app))
        app.cli.add_command(group)
        if settings.dispatcher == "thread" and _is_serving():
            _start_soon(runtime.dispatcher)

    # The verbs -------------------------------------------------------------------------------------------

    def start(
        self,
        conversation_id: str,
        *,
        contact: str | Contact | None = None,
        name: str | None = None,
        title: str | None = None,
        description: str | None = None,
        history: Iterable[HistoryEntry | tuple[str, str] | Mapping[str, Any]] = (),
        inbox_id: str | None = None,
        portal_id: str | None = None,
        assign_to: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Handoff:
        """Hand the conversation to the humans; with one open already, that one is returned.

        HubSpot is tried for at most ``START_TIMEOUT`` seconds. The handoff comes back with its thread, or in state
        ``starting`` while the ledger keeps trying; ``handoff_started`` or ``handoff_failed`` follows.

        :param contact: a phone number with country code, an e-mail address, or a :class:`Contact`.
        :param history: the turns before the handoff, oldest first.
        :param inbox_id: the inbox or help desk; by default the first of ``INBOX_ID``.
        :param assign_to: an agent's actor id, ``A-987``, or user id.
        :param attributes: of the host's own; JSON; comes back in ``handoff.attributes``.
        :raises ContactInvalid: the contact is neither.
        :raises ContactNotFound: HubSpot answered that it does not know it; nothing is left behind.
        :raises InboxNotConnected: our channel has no account in that inbox; nothing is left behind.
        :raises HubSpotRejected: HubSpot said no for good; nothing is left behind.
        :raises NotConfigured: a setting is missing, which the text names.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        """
        runtime = get_runtime()
        opening = self._opening(
            runtime, conversation_id, contact=contact, name=name, title=title, description=description,
            history=history, inbox_id=inbox_id, portal_id=portal_id, assign_to=assign_to, attributes=attributes,
        )  # fmt: skip
        ledger, dispatcher = runtime.ledger, runtime.dispatcher
        deployment_id = ledger.deployment_id
        with ledger.write() as tx:
            now = ledger.now_ms()
            record, is_new = handoffs.begin(tx, opening, deployment_id=deployment_id, now=now)
            lane = handoffs.out_lane(record.handoff.id)
            lease = dispatcher.runner.claim_within(tx, lane, now) if is_new else None
        if lease is not None:
            with deadline(runtime.settings.start_timeout):
                outcome = dispatcher.runner.perform(lease)
            if isinstance(outcome, Dead) and outcome.cause is not None:
                with ledger.write() as tx:
                    handoffs.abandon(tx, record, error=outcome.error, now=ledger.now_ms())
                dispatcher.wake()
                raise outcome.cause
            if isinstance(outcome, Retry) and isinstance(outcome.cause, HubSpotUnavailable):
                logger.warning("Handoff %s is not at HubSpot yet: %s", record.handoff.id, outcome.error)
            dispatcher.runner.settle(lease, outcome, go_on=False, patience=2.0)
        with ledger.read() as tx:
            current = tx.records.get(record.handoff.id)
        dispatcher.wake()
        return (current or record).handoff

    def _opening(
        self,
        runtime: Runtime,
        conversation_id: str,
        *,
        contact: str | Contact | None,
        name: str | None,
        title: str | None,
        description: str | None,
        history: Iterable[Any],
        inbox_id: str | None,
        portal_id: str | None,
        assign_to: str | None,
        attributes: Mapping[str, Any] | None,
    ) -> handoffs.Opening:
        settings = runtime.settings
        portal = str(portal_id) if portal_id is not None else settings.portal_id
        if portal is None:
            raise NotConfigured(f"{PREFIX}PORTAL_ID is missing: which HubSpot account should take the conversation?")
        if settings.channel_id is None:
            raise NotConfigured(f"{PREFIX}CHANNEL_ID is missing: run 'flask hubspot-hitl setup', or set it")
        inboxes = settings.inbox_id
        inbox = str(inbox_id) if inbox_id is not None else (inboxes[0] if inboxes else None)
        is_default = inbox_id is None or (bool(inboxes) and inbox == inboxes[0])
        account = settings.channel_account_id if is_default else None
        if account is None and inbox is None:
            raise NotConfigured(f"{PREFIX}CHANNEL_ACCOUNT_ID and {PREFIX}INBOX_ID are missing: set one of them")
        runtime.services.client(portal)  # a missing token is said here, before anything is stored
        found: Contact | None = None
        if contact is not None:
            found = parse_contact(contact, allow_special_domains=runtime.services.is_stand_in)
        elif settings.contact_policy != "anonymous":
            raise ValueError("start() needs a contact (or HUBSPOT_HITL_CONTACT_POLICY = 'anonymous')")
        takes_notes = settings.history == "note" and runtime.services.takes_notes(portal)
        how = settings.history if takes_notes or settings.history == "none" else "message"
        return handoffs.Opening(
            conversation_id=_identifier("conversation_id", conversation_id),
            portal_id=portal,
            channel_id=settings.channel_id,
            account_id=account,
            inbox_id=inbox,
            contact=found,
            name=_clean(name),
            title=_clean(title),
            description=_clean(description),
            transcript="" if how == "none" else render_history(history),
            transcript_as=how,
            assign_to=normalize_actor(str(assign_to)) if assign_to is not None else None,
            attributes=dict(attributes or {}),
        )

    def send(
        self,
        conversation_id: str,
        text: str = "",
        *,
        attachments: Sequence[Attachment] = (),
        message_id: str | None = None,
    ) -> bool:
        """Give a message of the user's to the humans, if they have the conversation.

        Never waits for HubSpot. True: it is on disk, the humans have it. False: there is no open handoff, the bot
        answers. The same ``message_id`` twice is one message; the first content wins.

        :raises ValueError: there is neither text nor file, or a file is too large or has no content.
        :raises LedgerUnavailable: it could not be stored; nothing was accepted.
        """
        runtime = get_runtime()
        if not isinstance(text, str):
            raise TypeError("text must be a str")
        files = [_file(one, runtime.settings.max_attachment_bytes) for one in attachments]
        if not text.strip() and not files:
            raise ValueError("send() needs text or an attachment")
        key = None if message_id is None else _identifier("message_id", message_id)
        with runtime.ledger.write() as tx:
            accepted = handoffs.accept_message(
                tx,
                _identifier("conversation_id", conversation_id),
                scrub(text),
                attachments=files,
                message_id=key,
                now=runtime.ledger.now_ms(),
            )
        if accepted:
            runtime.dispatcher.wake()
        return accepted

    def stop(self, conversation_id: str, *, reason: str = "user", detail: str | None = None) -> None:
        """End the open handoff, if there is one: ``conversation_completed`` fires once, HubSpot's thread closes.

        :param reason: ``user``, ``timeout``, or another of :class:`CloseReason`.
        :raises LedgerUnavailable: it could not be stored; nothing was changed.
        """
        runtime = get_runtime()
        with runtime.ledger.write() as tx:
            stopped = handoffs.stop(
                tx,
                _identifier("conversation_id", conversation_id),
                reason=CloseReason(reason),
                detail=_clean(detail),
                now=runtime.ledger.now_ms(),
            )
        if stopped is not None:
            runtime.dispatcher.wake()

    def get(self, conversation_id: str) -> Handoff | None:
        """The conversation's open handoff, or None."""
        with get_runtime().ledger.read() as tx:
            record = tx.records.open_of(_identifier("conversation_id", conversation_id))
        return None if record is None else record.handoff

    def is_active(self, conversation_id: str) -> bool:
        """True while the bot should be silent: a handoff is open, or starting."""
        return self.get(conversation_id) is not None

    def transcript(self, conversation_id: str) -> list[Message]:
        """The messages of the conversation's newest handoff, oldest first."""
        with get_runtime().ledger.read() as tx:
            record = tx.records.newest_of(_identifier("conversation_id", conversation_id))
            return [] if record is None else tx.records.messages_of(record.handoff.id)


def _identifier(name: str, value: object) -> str:
    """An id of the host's: any text that a database can hold, up to :data:`ID_LIMIT` characters."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    text = str(value)
    if not text or len(text) > ID_LIMIT or scrub(text) != text:
        raise ValueError(f"{name} must be 1 to {ID_LIMIT} characters, without NUL or lone surrogates")
    return text


def _clean(value: object) -> str | None:
    return None if value is None else scrub(str(value)).strip() or None


def _file(attachment: Attachment, limit: int) -> tuple[Attachment, bytes]:
    """A host's attachment with a safe name, and its bytes."""
    content = attachment.content
    if content is None:
        raise ValueError("an attachment needs 'content': bytes or a binary file object")
    data = content if isinstance(content, bytes) else content.read(limit + 1)
    if not isinstance(data, bytes):
        raise TypeError("an attachment's file object must be opened in binary mode")
    if len(data) > limit:
        raise ValueError(f"an attachment is larger than {PREFIX}MAX_ATTACHMENT_BYTES ({limit} bytes)")
    name = clean_name(attachment.name, content_type=attachment.content_type)
    kind = attachment.content_type or guess_content_type(name)
    return Attachment(name=name, content_type=kind, size=len(data)), data


def _is_serving() -> bool:
    """False in CLI commands other than ``run``, and in the reloader's parent."""
    context = click.get_current_context(silent=True)
    if context is not None:
        names = set()
        while context is not None:
            names.add(context.info_name)
            context = context.parent
        if "run" not in names:
            return False
        if ("--debug" in sys.argv or "--reload" in sys.argv) and os.environ.get("WERKZEUG_RUN_MAIN") != "true":
            return False
    return True


def _start_soon(dispatcher: Dispatcher) -> None:
    """After a crash the backlog must not wait for the next request; but first let the host connect its handlers.

    A process that has forked by then is a server's master: its children do the work.
    """
    pid = os.getpid()

    def start() -> None:
        if os.getpid() == pid:
            dispatcher.ensure_started()

    timer = threading.Timer(1.0, start)
    timer.daemon = True
    timer.start()
