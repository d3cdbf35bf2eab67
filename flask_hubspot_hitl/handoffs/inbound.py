"""Run HubSpot's events: fetch what an event leaves out, check it, and apply the rules of ``transitions``.

An event acts only when portal, channel, channel account and thread are those of the stored handoff. The decision
is taken in the transaction that takes the event when nothing needs to be fetched; otherwise after the fetching.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..clock import to_datetime
from ..dispatch.tasks import Again, Dead, Done, Outcome, Retry, putting
from ..domain import Attachment, Author, CloseReason, Message
from ..errors import HubSpotNotFound, HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot import fields
from ..hubspot.client import HubSpotClient
from ..hubspot.content import ParsedMessage, parse_message, safe_url
from ..hubspot.events import Kind
from ..hubspot.markup import clean_html
from ..hubspot.text import guess_content_type, scrub
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction
from ..portals.clients import Services
from . import steps, transitions
from .emission import Emitter, SignalTask
from .history import History, privacy_deletion
from .states import InboundState, Seen, Told

logger = logging.getLogger(__name__)

NO_SUCH_CHAT = "This chat is not known to the bot; your message was not delivered."
FILE_NOTICE = "[The file {name} could not be fetched from HubSpot.]"


class InboundTask(SignalTask):
    """Run an event of HubSpot's, by :class:`~.hubspot.events.Kind`, or signals that were decided elsewhere."""

    def __init__(self, services: Services, emitter: Emitter) -> None:
        super().__init__(services.ledger, emitter)
        self._services = services
        self.history = History(services)
        self._window_ms = int(services.settings.reopen_window * 1000)

    # The dispatcher's three questions --------------------------------------------------------------------

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Decide the event when nothing has to be fetched, and commit the first receiver's start with that."""
        state = event.state(InboundState)
        if state.plan is None:
            missing = _missing(event, state)
            if missing == "operator":  # this process may have fetched name and picture within the last hour
                known = self._services.known_operator(str(event.portal_id), _assignee(event, state) or "")
                state.operator, missing = known, None if known else missing
            if missing is None:
                self._decide(tx, event, state, now)
        if state.plan is not None:
            self._emitter.begin(tx, event)

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Send the signals decided, or fetch what is missing to decide."""
        state = event.state(InboundState)
        return self._fetch(event, state, now) if state.plan is None else self._emitter.run(event, lease)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Tell the agent FAILED when the event of an agent's message died."""
        state = event.state(InboundState)
        self._emitter.buried(tx, event)
        if event.topic == Kind.MESSAGE and state.plan is None:
            told = _told(event, state)
            message_id = told.message and told.message.get("id")
            if message_id and told.channel_id:
                steps.put_refusal(tx, event, told.channel_id, message_id, error=NO_SUCH_CHAT, now=now)

    # What must be fetched before it can be decided -------------------------------------------------------

    def _fetch(self, event: Event, state: InboundState, now: int) -> Outcome:
        missing = _missing(event, state)
        if missing == "thread":
            return self._fetch_thread(event, state)
        if missing == "operator":
            state.operator = self._services.client(str(event.portal_id)).operator(_assignee(event, state) or "")
        elif missing == "message":
            return self._fetch_message(event, state)
        elif missing == "history":
            return self._fetch_history(event, state, now)
        return Again()

    def _fetch_thread(self, event: Event, state: InboundState) -> Outcome:
        """Read what the thread itself says: a v1-signed event is no more than a hint."""
        try:
            thread = self._services.client(str(event.portal_id)).get_thread(str(event.thread_id))
        except HubSpotNotFound:
            thread = {"archived": True}
        archived, value = thread.get("archived") is True, None
        if event.topic in (Kind.DELETED, Kind.RESTORED):
            if archived == (event.topic == Kind.RESTORED):
                return Done()
        elif event.topic == Kind.ASSIGNED:
            value = fields.actor(thread.get("assignedTo"))
        else:
            value = "ARCHIVED" if archived else thread.get("status")
        state.seen = Seen(value)
        return Again()

    def _fetch_message(self, event: Event, state: InboundState) -> Outcome:
        """Fetch what an agent's message leaves out, and check it: its text, files with addresses, the agent's name."""
        if event.handoff_id is None:
            return Dead("an agent's message in a thread that no handoff of ours has")
        with self._ledger.read() as tx:
            record = tx.records.get(str(event.handoff_id))
        if record is None:
            return Dead("its handoff is gone")
        client = self._services.client(str(event.portal_id))
        raw = self._raw_message(event, _told(event, state), client)
        if raw is None:
            logger.warning("Ignored event %d: HubSpot does not know the message it names", event.id)
            return Done()
        try:
            message = parse_message(raw)
        except ValueError as error:
            return Dead(f"the message can't be read: {error}")
        if not self._is_for(record, event, _told(event, state), message):
            return Done()
        text, html = self._whole_text(event, client, message)
        files, notices = [], []
        for attachment in message.attachments:
            file = self._with_url(event, attachment)
            files.append(file)
            if file.url is None:
                notices.append(FILE_NOTICE.format(name=file.name or "file"))
        actor_id = message.sender_actor_id or message.created_by or "S-hubspot"
        operator = client.operator(actor_id)
        if operator.name is None and message.sender_name:
            operator = replace(operator, name=message.sender_name)
        state.message = Message(
            message_id=message.message_id,
            author=Author.OPERATOR,
            text="\n".join([*([text] if text else []), *notices]),
            html=html,
            attachments=tuple(files),
            operator=operator,
            created_at=to_datetime(min(message.created_at_ms, event.sort_at)),
        )
        return Again()

    def _raw_message(self, event: Event, told: Told, client: HubSpotClient) -> Mapping[str, Any] | None:
        """Return HubSpot's message object, read from HubSpot where the event's leaves out what must be checked.

        :returns: None when HubSpot does not know the message.
        """
        raw = told.message or {}
        if told.is_read or (told.integration_threads and told.account_id is not None):
            return raw
        try:
            return client.thread_message(str(event.thread_id), str(raw["id"]))
        except HubSpotNotFound:
            return None

    def _whole_text(self, event: Event, client: HubSpotClient, message: ParsedMessage) -> tuple[str, str | None]:
        """Return a message's text and HTML, fetched where HubSpot has cut them."""
        text, html = message.text, message.html
        if message.truncated:
            try:
                whole = client.original_content(message.thread_id, message.message_id)
            except HubSpotRejected:
                logger.info(
                    "HubSpot has no full text for a message that it cut (event %d); the cut text is delivered", event.id
                )
            else:
                text = scrub(str(whole.get("text") or text))
                html = clean_html(str(whole["richText"])) if whole.get("richText") else html
        return text, html

    def _is_for(self, record: HandoffRecord, event: Event, told: Told, message: ParsedMessage) -> bool:
        """Return True when an agent wrote the message to our user in the thread that this handoff opened."""
        if message.type != "MESSAGE" or message.direction not in (None, "OUTGOING"):
            return False
        if told.integration_threads and record.integration_thread_id not in told.integration_threads:
            logger.warning(
                "Ignored event %d: its message names another integration thread than the handoff's. If agents' replies "
                "are missing, look for another deployment on the same channel",
                event.id,
            )
            return False
        channels = {message.channel_id, str(told.channel or record.channel_id)} - {None}
        if channels != {record.channel_id} or message.channel_account_id != record.account_id:
            logger.warning(
                "Ignored event %d: its message came through another channel account than the handoff's. If agents' "
                "replies are missing, check HUBSPOT_HITL_CHANNEL_ACCOUNT_ID",
                event.id,
            )
            return False
        return message.thread_id == event.thread_id

    def _with_url(self, event: Event, attachment: Attachment) -> Attachment:
        """Add a signed URL to an attachment that has only a file id, unless HubSpot no longer has the file."""
        if attachment.url is not None or attachment.file_id is None:
            return attachment
        try:
            signed = self._services.client(str(event.portal_id)).signed_url(attachment.file_id)
        except HubSpotRejected:
            return attachment
        size = signed.get("size")
        name = attachment.name or _signed_name(signed)
        return replace(
            attachment,
            url=safe_url(signed.get("url")),
            size=attachment.size if attachment.size is not None else (size if isinstance(size, int) else None),
            name=name,
            content_type=attachment.content_type or guess_content_type(name or ""),
        )

    def _fetch_history(self, event: Event, state: InboundState, now: int) -> Outcome:
        """Read the thread once before the end is signalled, and queue what no webhook brought ahead of it."""
        missed: list[NewEvent] = []
        try:
            missed = self.history.missed(str(event.handoff_id), str(event.thread_id), before_end=True)
            if event.topic == Kind.DELETED:
                state.is_erased = self._is_gone(event)
        except HubSpotUnavailable as error:
            if (at_ms := state.next_look(now)) is not None:
                return Retry(str(error), at_ms=at_ms)
            logger.warning(
                "HubSpot could not be read for 30 s before a handoff's end (event %d); the end is signalled without "
                "the last look. Run 'flask hubspot-hitl reconcile' when HubSpot is back",
                event.id,
            )
        except (HubSpotRejected, NotConfigured):
            logger.info(
                "HubSpot refuses to show the thread of a handoff that ends (event %d); the end is signalled without "
                "the last look",
                event.id,
            )
        state.history_is_read = True
        return Again(putting(missed, now))

    def _is_gone(self, event: Event) -> bool:
        """Return True when the thread is gone for good.

        HubSpot sends ``deletion`` before ``privacyDeletion``, and the second may get lost.
        """
        with self._ledger.read() as tx:
            record = tx.records.get(str(event.handoff_id))
        return record is not None and self.history.thread(record, str(event.thread_id)) is None

    # Deciding --------------------------------------------------------------------------------------------

    def _decide(self, tx: Transaction, event: Event, state: InboundState, now: int) -> None:
        """Apply the event to its handoff and note which signals follow."""
        state.record = tx.records.get(str(event.handoff_id), lock=True) if event.handoff_id else None
        state.plan = [] if state.record is None else self._plan(tx, state.record, event, state, now)

    def _plan(self, tx: Transaction, record: HandoffRecord, event: Event, state: InboundState, now: int) -> steps.Plan:
        at_ms = event.sort_at
        if event.topic == Kind.MESSAGE and state.message is not None:
            return transitions.operator_wrote(
                tx, record, state.message, event_id=event.id, is_read=_told(event, state).is_read,
                window_ms=self._window_ms, now=now,
            )  # fmt: skip
        if event.topic == Kind.ASSIGNED:
            operator = state.operator if _assignee(event, state) else None
            return transitions.assigned(tx, record, operator, occurred_ms=at_ms)
        if event.topic == Kind.STATUS:
            value = _value(event, state)
            if value in ("CLOSED", "ARCHIVED"):
                reason = CloseReason.ARCHIVED if value == "ARCHIVED" else CloseReason.AGENT
                return transitions.ended(tx, record, reason=reason, occurred_ms=at_ms, now=now)
            if value == "OPEN":
                return transitions.went_open(tx, record, occurred_ms=at_ms, window_ms=self._window_ms)
            return []
        if event.topic == Kind.RESTORED:
            return transitions.went_open(tx, record, occurred_ms=at_ms, window_ms=self._window_ms)
        if event.topic == Kind.DELETED and not state.is_erased:
            return transitions.ended(tx, record, reason=CloseReason.ARCHIVED, occurred_ms=at_ms, now=now)
        if event.topic == Topic.ACCOUNT_REMOVED:
            return transitions.account_removed(tx, record, now=now)
        if event.topic == Kind.DELETED:
            tx.queue.put([privacy_deletion(record.handoff, str(event.thread_id), now=now)], now=now)
        return []


_ENDS = (Kind.DELETED, Topic.ACCOUNT_REMOVED)


def _missing(event: Event, state: InboundState) -> str | None:
    """Return what has to be read from HubSpot before the event can be decided, or None."""
    told = _told(event, state)
    if told.hint and state.seen is None:
        return "thread"
    if event.topic == Kind.ASSIGNED:
        return "operator" if state.operator is None and _assignee(event, state) else None
    if event.topic == Kind.MESSAGE:
        return "message" if state.message is None else None
    ends = event.topic in _ENDS or (event.topic == Kind.STATUS and _value(event, state) in ("CLOSED", "ARCHIVED"))
    return "history" if ends and not told.is_read and not state.history_is_read else None


def _told(event: Event, state: InboundState) -> Told:
    if state.told is None:
        state.told = Told.from_json(event.payload)
    return state.told


def _value(event: Event, state: InboundState) -> str | None:
    """Return the new value that the event tells, or that the thread has when the event is only a hint."""
    return _told(event, state).value if state.seen is None else state.seen.value


def _assignee(event: Event, state: InboundState) -> str | None:
    """Return the assigned agent; None for nobody, a bot or an AI agent."""
    value = _value(event, state)
    return value if value and value.startswith("A-") else None


def _signed_name(signed: Mapping[str, Any]) -> str | None:
    name, extension = signed.get("name"), signed.get("extension")
    if not isinstance(name, str) or not name:
        return None
    return f"{name}.{extension}" if isinstance(extension, str) and extension else name
