"""Runs what HubSpot told us: fetches what an event leaves out, checks it, and applies the rules of ``transitions``.

An event acts only when portal, channel, channel account and thread are those of the stored handoff. The decision
is taken in the transaction that takes the event when nothing needs to be fetched; otherwise after the fetching.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ..clock import to_datetime
from ..dispatch.tasks import Again, Dead, Done, Outcome, Retry, outage, putting
from ..domain import Attachment, Author, CloseReason, Message, Operator
from ..errors import HubSpotNotFound, HubSpotRejected, HubSpotUnavailable, NotConfigured
from ..hubspot.content import ParsedMessage, parse_message, safe_url
from ..hubspot.events import Kind, normalize_actor
from ..hubspot.text import clean_html, guess_content_type, scrub
from ..ledger import Event, HandoffRecord, Lease, NewEvent, Topic, Transaction, lanes
from ..ledger.codec import operator_from_json, operator_to_json
from ..portals.clients import Services
from . import steps, transitions
from .emission import Emitter
from .history import SOURCE, History

logger = logging.getLogger(__name__)

CLOSE_READ_MS = 30_000
"""For this long a close waits for HubSpot to be readable."""
NO_SUCH_CHAT = "This chat is not known to the bot; your message was not delivered."
FILE_NOTICE = "[The file {name} could not be fetched from HubSpot.]"


class InboundTask:
    """An event of HubSpot's, by :class:`~.hubspot.events.Kind`; or signals of our own, already decided."""

    def __init__(self, services: Services, emitter: Emitter) -> None:
        self._services = services
        self._ledger = services.ledger
        self._emitter = emitter
        self.history = History(services)
        self._window_ms = int(services.settings.reopen_window * 1000)

    # The dispatcher's three questions --------------------------------------------------------------------

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Decide at once when everything is known; then the first receiver's start is committed as well."""
        if "plan" not in event.progress:
            self._recall(event)
            if not self._missing(event):
                self._decide(tx, event, now)
        if "plan" in event.progress:
            self._emitter.begin(tx, event)

    def run(self, event: Event, lease: Lease) -> Outcome:
        """Send the signals decided, or fetch what is missing to decide."""
        if "plan" in event.progress:
            return self._emitter.run(event, lease)
        try:
            return self._fetch(event)
        except HubSpotUnavailable as error:
            return outage(error, self._ledger.now_ms())
        except NotConfigured as error:
            return Retry(str(error), cause=error)
        except HubSpotRejected as error:
            return Retry(str(error), counts=True, cause=error)

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """A dead message is never silent for the agent."""
        self._emitter.buried(tx, event, error, now)
        if event.topic == Kind.MESSAGE and "plan" not in event.progress:
            self._refuse(tx, event, NO_SUCH_CHAT, now)

    # What must be fetched before it can be decided -------------------------------------------------------

    def _missing(self, event: Event) -> str | None:
        """What still has to be read from HubSpot, or None."""
        progress, payload = event.progress, event.payload or {}
        if payload.get("hint") and "value" not in progress:
            return "thread"
        is_read = payload.get("source") == SOURCE  # together with all that comes before it
        if event.topic == Kind.ASSIGNED:
            return "operator" if self._assignee(event) and "operator" not in progress else None
        if event.topic == Kind.MESSAGE:
            return None if "message" in progress else "message"
        if event.topic == Kind.STATUS:
            closes = self._value(event) in ("CLOSED", "ARCHIVED")
            return "history" if closes and not is_read and not progress.get("history") else None
        if event.topic in (Kind.DELETED, Kind.PRIVACY_DELETED, Topic.ACCOUNT_REMOVED):
            return None if is_read or progress.get("history") else "history"
        return None

    def _value(self, event: Event) -> str | None:
        """The new value that the event tells, or that the thread has when the event is only a hint."""
        value: str | None = event.progress.get("value", (event.payload or {}).get("value"))
        return value

    def _assignee(self, event: Event) -> str | None:
        """The live agent assigned, if any; bots and the like are nobody."""
        value = self._value(event)
        return value if value and value.startswith("A-") else None

    def _recall(self, event: Event) -> None:
        """Put in what need not be fetched because it was fetched lately."""
        if self._missing(event) == "operator":
            known = self._services.known_operator(str(event.portal_id), self._assignee(event) or "")
            if known is not None:
                event.progress["operator"] = operator_to_json(known)

    def _fetch(self, event: Event) -> Outcome:
        missing = self._missing(event)
        if missing == "thread":
            return self._fetch_thread(event)
        if missing == "operator":
            operator = self._services.client(str(event.portal_id)).operator(self._assignee(event) or "")
            event.progress["operator"] = operator_to_json(operator)
            return Again()
        if missing == "message":
            return self._fetch_message(event)
        if missing == "history":
            return self._fetch_history(event)
        return Again()

    def _fetch_thread(self, event: Event) -> Outcome:
        """A v1-signed event is a hint: what the thread says is believed, not the event."""
        try:
            thread = self._services.client(str(event.portal_id)).get_thread(str(event.thread_id))
        except HubSpotNotFound:
            thread = {"archived": True}
        archived = thread.get("archived") is True
        if event.topic in (Kind.DELETED, Kind.PRIVACY_DELETED, Kind.RESTORED):
            if archived == (event.topic == Kind.RESTORED):
                return Done()
            event.progress["value"] = None
        elif event.topic == Kind.ASSIGNED:
            event.progress["value"] = normalize_actor(str(thread.get("assignedTo") or ""))
        else:
            event.progress["value"] = "ARCHIVED" if archived else thread.get("status")
        return Again()

    def _fetch_message(self, event: Event) -> Outcome:
        """Everything of an agent's message: checked, files with addresses, the agent's name."""
        if event.handoff_id is None:
            return Dead("an agent's message in a thread that no handoff of ours has")
        with self._ledger.read() as tx:
            record = tx.records.get(str(event.handoff_id))
        if record is None:
            return Dead("its handoff is gone")
        payload = event.payload
        raw = payload["message"]
        client = self._services.client(str(event.portal_id))
        integration_threads = payload.get("channelIntegrationThreadIds")
        says_enough = integration_threads and raw.get("channelAccountId") is not None
        if payload.get("source") != SOURCE and not says_enough:
            try:
                raw = client.thread_message(str(event.thread_id), str(raw["id"]))
            except HubSpotNotFound:
                logger.warning("A message that HubSpot does not know was ignored (event %d)", event.id)
                return Done()
        try:
            message = parse_message(raw)
        except ValueError as error:
            return Dead(f"the message can't be read: {error}")
        if not self._is_for(record, event, message, integration_threads):
            return Done()
        text, html = message.text, message.html
        if message.truncated:
            try:
                whole = client.original_content(message.thread_id, message.message_id)
                text = scrub(str(whole.get("text") or text))
                html = clean_html(str(whole["richText"])) if whole.get("richText") else html
            except HubSpotRejected:
                logger.info("HubSpot keeps no longer text for a message it cut (event %d)", event.id)
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
        event.progress["message"] = {
            "message_id": message.message_id,
            "text": "\n".join([*([text] if text else []), *notices]),
            "html": html,
            "attachments": [_attachment_json(file) for file in files],
            "operator": operator_to_json(operator),
            "created_at": min(message.created_at_ms, event.sort_at),
        }
        return Again()

    def _is_for(
        self, record: HandoffRecord, event: Event, message: ParsedMessage, integration_threads: list[str] | None
    ) -> bool:
        """True when the message is an agent's, to our user, in the very thread we opened."""
        if message.type != "MESSAGE" or message.direction not in (None, "OUTGOING"):
            return False
        if integration_threads and record.integration_thread_id not in integration_threads:
            logger.warning("A message that names another integration thread was ignored (event %d)", event.id)
            return False
        channels = {message.channel_id, str(event.payload.get("channelId") or record.channel_id)} - {None}
        if channels != {record.channel_id} or message.channel_account_id != record.account_id:
            logger.warning("A message of another channel account was ignored (event %d)", event.id)
            return False
        return message.thread_id == event.thread_id

    def _with_url(self, event: Event, attachment: Attachment) -> Attachment:
        """A file id without an address gets a signed one; a file that is gone keeps none."""
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

    def _fetch_history(self, event: Event) -> Outcome:
        """Before the end is signalled, what no webhook told of the time before it is put in front of it."""
        now = self._ledger.now_ms()
        since = event.progress.setdefault("waiting_since", now)
        missed: list[NewEvent] = []
        try:
            missed = self.history.missed(str(event.handoff_id), str(event.thread_id), before_end=True)
            if event.topic == Kind.DELETED:
                event.progress["erased"] = self._is_gone(event)
        except HubSpotUnavailable as error:
            if now - since < CLOSE_READ_MS:
                return Retry(str(error), at_ms=min(now + 5_000, since + CLOSE_READ_MS))
            logger.warning("A handoff ends unread: HubSpot could not be read for 30 s (event %d)", event.id)
        except (HubSpotRejected, NotConfigured):
            logger.info("The thread of a handoff that ends can't be read (event %d)", event.id)
        event.progress["history"] = True
        return Again(putting(missed, now))

    def _is_gone(self, event: Event) -> bool:
        """A thread that was deleted for good is told as a deletion first: what tells the two apart may get lost."""
        with self._ledger.read() as tx:
            record = tx.records.get(str(event.handoff_id))
        return record is not None and self.history.thread(record, str(event.thread_id)) is None

    # Deciding --------------------------------------------------------------------------------------------

    def _decide(self, tx: Transaction, event: Event, now: int) -> None:
        """Apply the event to its handoff and write down which signals follow."""
        event.progress["plan"] = []
        record = tx.records.get(str(event.handoff_id), lock=True) if event.handoff_id else None
        if record is None:
            return
        event.progress["plan"] = self._plan(tx, record, event, now)
        event.scratch["record"] = record

    def _plan(self, tx: Transaction, record: HandoffRecord, event: Event, now: int) -> steps.Plan:
        at_ms = event.sort_at
        if event.topic == Kind.MESSAGE:
            return transitions.operator_wrote(
                tx, record, _message(event), event_id=event.id, is_read=event.payload.get("source") == SOURCE,
                window_ms=self._window_ms, now=now,
            )  # fmt: skip
        if event.topic == Kind.ASSIGNED:
            operator = operator_from_json(event.progress.get("operator")) if self._assignee(event) else None
            return transitions.assigned(tx, record, operator, occurred_ms=at_ms)
        if event.topic == Kind.STATUS:
            value = self._value(event)
            if value in ("CLOSED", "ARCHIVED"):
                reason = CloseReason.ARCHIVED if value == "ARCHIVED" else CloseReason.AGENT
                return transitions.ended(tx, record, reason=reason, occurred_ms=at_ms, now=now)
            if value == "OPEN":
                return transitions.went_open(tx, record, occurred_ms=at_ms, window_ms=self._window_ms)
            return []
        if event.topic == Kind.RESTORED:
            return transitions.went_open(tx, record, occurred_ms=at_ms, window_ms=self._window_ms)
        if event.topic == Kind.DELETED and not event.progress.get("erased"):
            return transitions.ended(tx, record, reason=CloseReason.ARCHIVED, occurred_ms=at_ms, now=now)
        if event.topic == Topic.ACCOUNT_REMOVED:
            return transitions.account_removed(tx, record, now=now)
        if event.topic in (Kind.DELETED, Kind.PRIVACY_DELETED):
            plan = transitions.ended(tx, record, reason=CloseReason.DELETED, occurred_ms=at_ms, now=now)
            tx.records.erase(record)
            tx.erase_payloads(record.handoff.id)
            return plan
        return []

    def _refuse(self, tx: Transaction, event: Event, reason: str, now: int) -> None:
        """Tell the agent that a message went nowhere, when there is no handoff to tell it through."""
        payload = event.payload or {}
        message_id = (payload.get("message") or {}).get("id")
        channel_id = payload.get("channelId") or (payload.get("message") or {}).get("channelId")
        if not message_id or not channel_id:
            return
        lane = lanes.receipt_of_event(event.id)
        receipt = NewEvent(
            dedupe_key=f"{lane}:{event.attempts}",
            lane=lane,
            topic=Topic.RECEIPT,
            sort_at=0,
            portal_id=event.portal_id,
            payload={"channel_id": str(channel_id), "message_id": message_id, "error": reason},
        )
        tx.queue.put([receipt], now=now)


def _message(event: Event) -> Message:
    kept: dict[str, Any] = event.progress["message"]
    operator: Operator | None = operator_from_json(kept["operator"])
    return Message(
        message_id=kept["message_id"],
        author=Author.OPERATOR,
        text=kept["text"],
        html=kept["html"],
        attachments=tuple(Attachment(**one) for one in kept["attachments"]),
        operator=operator,
        created_at=to_datetime(kept["created_at"]),
    )


def _attachment_json(attachment: Attachment) -> dict[str, Any]:
    names = ("name", "content_type", "size", "url", "file_id")
    return {name: getattr(attachment, name) for name in names}


def _signed_name(signed: dict[str, Any]) -> str | None:
    name, extension = signed.get("name"), signed.get("extension")
    if not isinstance(name, str) or not name:
        return None
    return f"{name}.{extension}" if isinstance(extension, str) and extension else name
