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
from ..hubspot import addresses, fields
from ..hubspot.client import HubSpotClient
from ..hubspot.content import ParsedMessage, parse_message, safe_url, without_repeats
from ..hubspot.events import Kind
from ..hubspot.fields import PERSON
from ..hubspot.text import guess_content_type
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction
from ..portals.clients import Services
from . import beginnings, steps, transitions
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
        settings = services.settings
        self._counts = settings.automation_as_operator
        self._window_ms = int(settings.reopen_window * 1000)
        self._own_hosts = {addresses.parse(settings.api_base_url).host} if settings.is_stand_in else ()

    # The dispatcher's three questions --------------------------------------------------------------------

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Decide the event when nothing has to be fetched, and commit the first receiver's start with that."""
        state = event.state(InboundState)
        if event.topic == Kind.MESSAGE and (event.handoff_id is None or beginnings.is_asking(state)):
            event.handoff_id = beginnings.handoff_of(tx, event.portal_id, event.thread_id)
            if event.handoff_id is not None and beginnings.is_asking(state):
                beginnings.answered(state)
        if state.plan is None:
            missing = self._missing(event, state)
            if missing == "operator":  # this process may have fetched name and picture within the last hour
                known = self._services.known_operator(str(event.portal_id), self._operator_id(event, state) or "")
                state.operator, missing = known, None if known else missing
            if missing is None:
                self._decide(tx, event, state, now)
        if state.plan is not None:
            self._emitter.begin(tx, event)

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Send the signals decided, or fetch what is missing to decide."""
        state = event.state(InboundState)
        if state.plan is None:
            return self._fetch(event, state, now)
        outcome = self._emitter.run(event, lease)
        if beginnings.is_asking(state):
            return beginnings.after_asking(self._services, event, state, outcome, now)
        return outcome

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Tell the agent FAILED when the event of an agent's message died."""
        state = event.state(InboundState)
        self._emitter.buried(tx, event)
        if event.topic == Kind.MESSAGE and (state.plan is None or beginnings.is_asking(state)):
            told = _told(event, state)
            message_id = told.message and told.message.get("id")
            if message_id and told.channel_id:
                steps.put_refusal(tx, event, told.channel_id, message_id, error=NO_SUCH_CHAT, now=now)

    # What must be fetched before it can be decided -------------------------------------------------------

    def _fetch(self, event: Event, state: InboundState, now: int) -> Outcome:
        missing = self._missing(event, state)
        if missing == "thread":
            return self._fetch_thread(event, state)
        if missing == "operator":
            state.operator = self._services.client(str(event.portal_id)).operator(self._operator_id(event, state) or "")
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
        client, told = self._services.client(str(event.portal_id)), _told(event, state)
        if event.handoff_id is None and not self._is_start(event, state, client):
            return Dead(beginnings.NOT_A_START)
        record = None
        if event.handoff_id is not None:
            with self._ledger.read() as tx:
                record = tx.records.get(event.handoff_id)
            if record is None:
                return Dead("its handoff is gone")
        raw = self._raw_message(event, told, client)
        if raw is None:
            logger.warning("Ignored event %d: HubSpot does not know the message it names", event.id)
            return Done()
        try:
            message = self._parse(raw)
        except ValueError as error:
            return Dead(f"the message can't be read: {error}")
        if record is not None and not self._is_for(record, event, told, message):
            return Done()
        message = self._whole(event, client, raw, message)
        files: list[Attachment] = []
        notices: list[str] = []
        for attachment in message.attachments:
            file = self._with_url(event, attachment)
            files.append(file)
            if file.url is None:
                notices.append(FILE_NOTICE.format(name=file.name or "file"))
        pictures = without_repeats(files, (self._with_url(event, one) for one in message.pictures))
        notices += [FILE_NOTICE.format(name=one.name or "picture") for one in pictures if one.url is None]
        files += pictures
        actor_id = message.sender_actor_id or message.created_by or "S-hubspot"
        operator = client.operator(actor_id)
        if operator.name is None and message.sender_name:
            operator = replace(operator, name=message.sender_name)
        state.message = Message(
            message_id=message.message_id,
            author=Author.OPERATOR,
            text="\n".join([*([message.text] if message.text else []), *notices]),
            html=message.html,
            attachments=tuple(files),
            choices=message.choices,
            operator=operator,
            created_at=to_datetime(min(message.created_at_ms, event.sort_at)),
        )
        return Again()

    def _is_start(self, event: Event, state: InboundState, client: HubSpotClient) -> bool:
        """Return True when an agent began the thread, and may; read where it is."""
        told = _told(event, state)
        if not self._services.settings.agents_may_start or not beginnings.may_be_start(told):
            return False
        try:
            thread = client.get_thread(str(event.thread_id))
            entries = client.thread_messages(str(event.thread_id))
        except HubSpotNotFound:
            return False
        state.inbox_id = fields.identifier(thread.get("inboxId"))
        return not beginnings.user_has_written(entries)

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

    def _whole(
        self, event: Event, client: HubSpotClient, raw: Mapping[str, Any], message: ParsedMessage
    ) -> ParsedMessage:
        """Return a message with its whole text, which is fetched where HubSpot has cut it."""
        if not message.truncated:
            return message
        try:
            found = client.original_content(message.thread_id, message.message_id)
        except HubSpotRejected:
            logger.info(
                "HubSpot has no full text for a message that it cut (event %d); the cut text is delivered", event.id
            )
            return message
        whole = {name: found[name] for name in ("text", "richText") if found.get(name)}
        return self._parse({**raw, **whole})

    def _parse(self, raw: Mapping[str, Any]) -> ParsedMessage:
        with_choices = self._services.settings.quick_replies
        return parse_message(raw, own_hosts=self._own_hosts, with_choices=with_choices)

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
                return Retry(str(error), at_ms=at_ms, cause=error)
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
        """Return True when HubSpot does not find the thread, not even among archived ones.

        HubSpot sends ``deletion`` before ``privacyDeletion``, and the second may get lost.
        """
        with self._ledger.read() as tx:
            record = tx.records.get(str(event.handoff_id))
        return record is not None and self.history.thread(record, str(event.thread_id)) is None

    def _missing(self, event: Event, state: InboundState) -> str | None:
        """Return what has to be read from HubSpot before the event can be decided, or None."""
        told = _told(event, state)
        if told.hint and state.seen is None:
            return "thread"
        if event.topic == Kind.ASSIGNED:
            return "operator" if state.operator is None and self._operator_id(event, state) else None
        if event.topic == Kind.MESSAGE:
            return "message" if state.message is None else None
        ends = event.topic in _ENDS or (event.topic == Kind.STATUS and _value(event, state) in ("CLOSED", "ARCHIVED"))
        return "history" if ends and not told.is_read and not state.history_is_read else None

    def _operator_id(self, event: Event, state: InboundState) -> str | None:
        """Return who counts as having the conversation: a person, or by AUTOMATION_AS_OPERATOR a machine; or None."""
        value = _value(event, state)
        is_operator = value and (value.startswith(PERSON) or (self._counts and _machine(event, state)))
        return value if is_operator else None

    # Deciding --------------------------------------------------------------------------------------------

    def _decide(self, tx: Transaction, event: Event, state: InboundState, now: int) -> None:
        """Apply the event to its handoff and note which signals follow."""
        state.record = tx.records.get(str(event.handoff_id), lock=True) if event.handoff_id else None
        if state.record is not None:
            state.plan = self._plan(tx, state.record, event, state, now)
        else:
            asks = event.topic == Kind.MESSAGE and event.handoff_id is None and state.message is not None
            state.plan = beginnings.plan(event, _told(event, state)) if asks else []

    def _plan(self, tx: Transaction, record: HandoffRecord, event: Event, state: InboundState, now: int) -> steps.Plan:
        at_ms = event.sort_at
        if event.topic == Kind.MESSAGE and state.message is not None:
            return transitions.operator_wrote(
                tx, record, state.message, event_id=event.id, is_read=_told(event, state).is_read,
                window_ms=self._window_ms, now=now,
            )  # fmt: skip
        if event.topic == Kind.ASSIGNED:
            operator = state.operator if self._operator_id(event, state) else None
            return transitions.assigned(tx, record, operator, machine=_machine(event, state), occurred_ms=at_ms)
        if event.topic == Topic.INBOX:
            return transitions.inbox_changed(tx, record, str(_told(event, state).value), occurred_ms=at_ms)
        if event.topic in (Kind.STATUS, Kind.RESTORED):
            value = "OPEN" if event.topic == Kind.RESTORED else _value(event, state)
            return self._status_plan(tx, record, value, at_ms, now)
        if event.topic == Topic.ACCOUNT_REMOVED:
            return transitions.account_removed(tx, record, now=now)
        if event.topic == Kind.DELETED:
            if state.is_erased:
                tx.queue.put([privacy_deletion(record.handoff, str(event.thread_id), now=now)], now=now)
            return transitions.ended(tx, record, reason=CloseReason.ARCHIVED, occurred_ms=at_ms, now=now)
        return []

    def _status_plan(
        self, tx: Transaction, record: HandoffRecord, value: str | None, at_ms: int, now: int
    ) -> steps.Plan:
        if value in ("CLOSED", "ARCHIVED"):
            reason = CloseReason.ARCHIVED if value == "ARCHIVED" else CloseReason.AGENT
            return transitions.ended(tx, record, reason=reason, occurred_ms=at_ms, now=now)
        if value == "OPEN":
            return transitions.went_open(tx, record, occurred_ms=at_ms, window_ms=self._window_ms)
        return []


_ENDS = (Kind.DELETED, Topic.ACCOUNT_REMOVED)


def _told(event: Event, state: InboundState) -> Told:
    if state.told is None:
        state.told = Told.from_json(event.payload)
    return state.told


def _value(event: Event, state: InboundState) -> str | None:
    """Return the new value that the event tells, or that the thread has when the event is only a hint."""
    return _told(event, state).value if state.seen is None else state.seen.value


def _machine(event: Event, state: InboundState) -> str | None:
    """Return the bot or AI agent that the thread is assigned to; None for nobody and for a person."""
    value = _value(event, state)
    return value if value and value.startswith(fields.MACHINES) else None


def _signed_name(signed: Mapping[str, Any]) -> str | None:
    name, extension = signed.get("name"), signed.get("extension")
    if not isinstance(name, str) or not name:
        return None
    return f"{name}.{extension}" if isinstance(extension, str) and extension else name
