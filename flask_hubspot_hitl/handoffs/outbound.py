"""Runs what we owe HubSpot: the opening of a thread, the user's messages, notes, assignments, closes, receipts.

One handoff's tasks run in order of acceptance. An outage uses up no attempt and an answer that was lost is asked
for again with the same idempotency id; only age (24 h) gives up.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..dispatch.tasks import Again, Dead, Done, Outcome, Retry, outage
from ..domain import Attachment, HandoffState, Message, MessageStatus
from ..errors import (
    ContactNotFound,
    HITLError,
    HubSpotConflict,
    HubSpotNotFound,
    HubSpotRejected,
    HubSpotUnavailable,
    InboxNotConnected,
    NotConfigured,
    WrongPortal,
)
from ..hubspot.bodies import build_incoming, file_attachment
from ..hubspot.client import HubSpotClient
from ..hubspot.contacts import identifier_of
from ..hubspot.content import parse_time, render_first_message
from ..ledger import Event, HandoffRecord, Lease, Topic, Transaction, lanes
from ..portals.clients import Services
from ..portals.remote_files import NotFetched, as_line
from . import rules, steps

logger = logging.getLogger(__name__)

GIVE_UP_MS = 86_400_000
LOOK_FIRST_MS = 3_600_000
"""HubSpot does not say how long it knows an idempotency id: after this long we look before we repeat."""
SKEW_MS = 60_000
"""By how much HubSpot's clock may be behind ours."""
FETCH_TRIES = 3
"""How often a file is asked for before its link is sent instead."""
FOLDER = "/hubspot-hitl"


class OutboundTask:
    """The frame of every call to HubSpot: what an outage is, when to give up, what may have happened."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ledger = services.ledger

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Read what the run needs; a run that was cut short may have been carried out."""
        event.scratch["record"] = tx.records.get(str(event.handoff_id)) if event.handoff_id else None
        if event.starts > 1:
            event.progress["maybe"] = True

    def run(self, event: Event, lease: Lease) -> Outcome:
        now = self._ledger.now_ms()
        try:
            return self._do(event, self._services.client(str(event.portal_id)), now)
        except HubSpotUnavailable as error:
            if error.ambiguous:
                event.progress["maybe"] = True
            # Only then: whatever the clock says, what has waited is tried once more.
            if now - event.received_at > GIVE_UP_MS:
                return Dead("HubSpot could not be reached for 24 hours")
            return outage(error, now)
        except NotConfigured as error:
            if isinstance(error, WrongPortal) and event.topic == Topic.OPEN:
                return Dead(str(error), cause=error)  # else the agents would be asked, and never be heard
            return Retry(str(error), cause=error)
        except (HubSpotRejected, ContactNotFound, InboxNotConnected, ValueError) as error:
            cause = error if isinstance(error, HITLError) else None
            return Dead(str(error), cause=cause)

    def _do(self, event: Event, client: HubSpotClient, now: int) -> Outcome:
        raise NotImplementedError

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Nobody waits for it."""

    def _record(self, event: Event) -> HandoffRecord | None:
        record: HandoffRecord | None = event.scratch.get("record")
        return record

    def _publish(
        self, client: HubSpotClient, record: HandoffRecord, *, key: str, text: str, at_ms: int,
        attachments: list[dict[str, Any]] | None = None,
    ) -> tuple[str, str]:  # fmt: skip
        """Publish a message of the user's; the same key is one message. Returns its id and its thread's id."""
        sender = dict(record.sender or {})
        contact_id = sender.pop("contact_id", None)
        body = build_incoming(
            channel_account_id=str(record.account_id),
            integration_thread_id=record.integration_thread_id,
            idempotency_id=self._idempotency_id(record.handoff.id, key),
            text=text,
            timestamp_ms=at_ms,
            sender=sender,
            sender_name=record.handoff.name,
            recipient=record.recipient or {},
            attachments=attachments or [],
            contact_id=contact_id,
        )
        answer = client.publish(record.channel_id, body)
        message_id, thread_id = answer.get("id"), answer.get("conversationsThreadId")
        if not message_id or not thread_id:
            raise HubSpotUnavailable("publishing a message: the answer names no thread", ambiguous=True)
        return str(message_id), str(thread_id)

    def _idempotency_id(self, handoff_id: str, key: str) -> str:
        text = f"{self._ledger.deployment_id}\n{handoff_id}\n{key}"
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:40]


class OpenTask(OutboundTask):
    """Finds the contact and the channel account, then publishes the first message, which makes the thread."""

    def _do(self, event: Event, client: HubSpotClient, now: int) -> Outcome:
        record = self._record(event)
        if record is None:
            return Done()
        if record.handoff.state != HandoffState.STARTING and not event.progress.get("maybe"):
            return Done()
        self._services.check_portal(record.handoff.portal_id)
        if record.recipient is None:
            account = event.progress.get("account") or self._account(client, record)
            event.progress["account"] = account
            record.account_id, record.recipient = account["id"], account["identifier"]
        contact_line = None
        if record.sender is None:
            sender = event.progress.get("sender") or self._sender(client, record)
            event.progress["sender"] = sender
            record.sender = sender
        if record.handoff.contact is not None and record.sender.get("type") == "CHANNEL_SPECIFIC_OPAQUE_ID":
            contact_line = record.handoff.contact.value
        handoff = record.handoff
        text = render_first_message(
            handoff.name, handoff.title, handoff.description, contact_line, (event.payload or {}).get("transcript")
        )
        opening: dict[str, Any] = {"text": text, "at_ms": event.received_at}
        try:
            opening_id, thread_id = self._publish(client, record, key="\0open", **opening)
        except HubSpotConflict:
            if not event.progress.get("maybe"):
                raise
            # HubSpot has it from a run whose answer was lost, and does not say where: its thread takes it once more.
            opening_id, thread_id = self._publish(client, record, key=f"\0open:{event.starts}", **opening)
        sender, recipient, account_id = record.sender, record.recipient, record.account_id
        timeout_ms = int(self._services.settings.assignment_timeout * 1000)

        def effect(tx: Transaction) -> None:
            tx.queue.reserve(lanes.thread(handoff.portal_id, thread_id), now=now)
            current = tx.records.get(handoff.id, lock=True)
            if current is not None:
                current.sender, current.recipient, current.account_id = sender, recipient, account_id
                current.opening_id = opening_id
                rules.opened(tx, current, thread_id=thread_id, timeout_ms=timeout_ms, now=self._ledger.now_ms())

        logger.info("Handoff %s is HubSpot's thread %s", handoff.id, thread_id)
        return Done(effect)

    def _account(self, client: HubSpotClient, record: HandoffRecord) -> dict[str, Any]:
        """The channel account to publish through: the one configured, or the one in the inbox asked for."""
        if record.account_id is not None:
            found = client.channel_account(record.channel_id, record.account_id)
        else:
            wanted = record.handoff.inbox_id
            usable = [
                one
                for one in client.channel_accounts(record.channel_id)
                if str(one.get("inboxId")) == wanted and one.get("authorized") and not one.get("archived")
            ]
            if not usable:
                raise InboxNotConnected(
                    f"our channel is not connected to inbox {wanted} (or not authorised there); "
                    "run 'flask hubspot-hitl setup', or leave inbox_id out to use the default inbox"
                )
            found = min(usable, key=lambda one: str(one.get("createdAt")))
        identifier = found.get("deliveryIdentifier")
        if not isinstance(identifier, dict) or not identifier.get("value"):
            identifier = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": str(found["id"])}
        return {"id": str(found["id"]), "identifier": {name: str(identifier[name]) for name in ("type", "value")}}

    def _sender(self, client: HubSpotClient, record: HandoffRecord) -> dict[str, str]:
        """Who writes: the contact as HubSpot knows it, or, where the policy allows, a stranger.

        :raises ContactNotFound: when HubSpot answers that it has no such contact and the policy is ``require``.
        """
        handoff = record.handoff
        stranger = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": f"user-{handoff.id}"}
        if handoff.contact is None:
            return stranger
        found = client.find_contact(handoff.contact)
        policy = self._services.settings.contact_policy
        if found is None and policy == "create":
            found = client.create_contact(handoff.contact, handoff.name)
        if found is None:
            if policy == "anonymous":
                return stranger
            raise ContactNotFound(
                "HubSpot knows no contact with this phone number or e-mail address; create the contact, or set "
                "HUBSPOT_HITL_CONTACT_POLICY to 'create' or 'anonymous'"
            )
        identifier = identifier_of(handoff.contact)
        return {**identifier, "contact_id": str(found["id"])}

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """The handoff failed; what the user wrote in the meantime goes back to the host."""
        record = tx.records.get(str(event.handoff_id), lock=True)
        if record is not None and record.handoff.state == HandoffState.STARTING:
            rules.fail(tx, record, error=error, now=now)


class MessageTask(OutboundTask):
    """A message of the user's, with its files."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        super().prepare(tx, event, now)
        row = int(event.payload["row"])
        message = tx.records.get_message(row)
        event.scratch["message"] = message
        for position, attachment in enumerate(message.attachments if message else ()):
            if attachment.file_id is None:
                content = tx.records.content_of(row, position)
                if content is None and attachment.url is not None:
                    event.scratch["fetch"] = position
                else:
                    event.scratch["upload"] = (position, content)
                break

    def _do(self, event: Event, client: HubSpotClient, now: int) -> Outcome:
        record, message = self._record(event), event.scratch["message"]
        if record is None or message is None:
            return Done()
        if not record.handoff.is_open and not event.progress.get("maybe"):
            return Dead("the conversation ended before HubSpot had the message")
        if "fetch" in event.scratch:
            return self._fetch(event, message)
        if "upload" in event.scratch:
            return self._upload(event, client, record, message)
        files = [file_attachment(one.file_id, one.content_type) for one in message.attachments]
        maybe = event.progress.get("maybe")
        if maybe and now - event.progress.get("first_at", event.received_at) > LOOK_FIRST_MS:
            there = self._already_there(client, event, record, message)
            if there is not None:
                return Done(self._delivered(event, record, *there))
        event.progress.setdefault("first_at", now)
        try:
            hubspot_id, thread_id = self._publish(
                client, record, key=message.message_id, text=message.text, at_ms=event.received_at, attachments=files
            )
        except HubSpotConflict:
            found = self._already_there(client, event, record, message) if maybe else None
            if found is None:
                raise
            hubspot_id, thread_id = found
        return Done(self._delivered(event, record, hubspot_id, thread_id))

    def _fetch(self, event: Event, message: Message) -> Outcome:
        """Fetch one file that was given by its URL; one that can't be had becomes a link in the text."""
        row, position = int(event.payload["row"]), int(event.scratch["fetch"])
        files, wanted = list(message.attachments), message.attachments[position]
        try:
            file, content = self._services.remote_files.fetch(wanted)
        except NotFetched as error:
            if error.later and event.attempts + 1 < FETCH_TRIES:
                return Retry(f"a file was not fetched: {error}", counts=True)
            del files[position]
            text = "\n".join(filter(None, [message.text, as_line(wanted)]))
            return Again(lambda tx: self._without(tx, row, text, files))
        files[position] = replace(file, url=wanted.url)

        def keep(tx: Transaction) -> None:
            tx.records.put_content(row, position, content)
            tx.records.set_attachments(row, files)

        return Again(keep)

    def _without(self, tx: Transaction, row: int, text: str, files: list[Attachment]) -> None:
        tx.records.set_message(row, text=text)
        tx.records.set_attachments(row, files)

    def _upload(self, event: Event, client: HubSpotClient, record: HandoffRecord, message: Message) -> Outcome:
        """One file a run, so that a failure at the third does not send the first two again."""
        position, content = event.scratch["upload"]
        if content is None:
            return Dead("a file of this message is gone")
        attachment = message.attachments[position]
        file_id = client.upload_file(
            attachment.name or "file", content, attachment.content_type, f"{FOLDER}/{record.handoff.id}"
        )
        row = int(event.payload["row"])
        files = list(message.attachments)
        files[position] = replace(attachment, file_id=file_id)
        event.progress.pop("maybe", None)
        return Again(lambda tx: tx.records.set_attachments(row, files))

    def _already_there(
        self, client: HubSpotClient, event: Event, record: HandoffRecord, message: Message
    ) -> tuple[str, str] | None:
        """Look for the message in its thread; one that is known to be another message of the user's is not it."""
        thread_id = record.handoff.thread_id
        if thread_id is None:
            return None
        files = {one.file_id for one in message.attachments}
        same = [
            str(one["id"])
            for one in client.thread_messages(thread_id)
            if one.get("direction") == "INCOMING"
            and (one.get("text") or "") == message.text
            and {part.get("fileId") for part in one.get("attachments") or () if part.get("fileId")} == files
            and _created(one, event.received_at) >= event.received_at - SKEW_MS
        ]
        with self._ledger.read() as tx:
            known = tx.records.known_hubspot_ids(record.handoff.id, same)
        return next(((one, thread_id) for one in same if one not in known), None)

    def _delivered(
        self, event: Event, record: HandoffRecord, hubspot_id: str, thread_id: str
    ) -> Callable[[Transaction], None]:
        row = int(event.payload["row"])

        def effect(tx: Transaction) -> None:
            now = self._ledger.now_ms()
            tx.queue.reserve(lanes.thread(record.handoff.portal_id, thread_id), now=now)
            tx.records.set_message(row, status=MessageStatus.DELIVERED.value, hubspot_id=hubspot_id)
            tx.records.drop_contents(row)
            current = tx.records.get(record.handoff.id, lock=True)
            if current is None:
                return
            if current.handoff.thread_id != thread_id:
                rules.moved(tx, current, thread_id=thread_id, now=now)
            plan = [steps.step("message_delivered", current.handoff, message_row=row)]
            steps.put_signals(tx, current.handoff, plan, now=now)

        return effect

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """The host learns that HubSpot will not have it."""
        record = tx.records.get(str(event.handoff_id))
        if record is not None:
            plan = [rules.message_failed(tx, record, int(event.payload["row"]), error=error)]
            steps.put_signals(tx, record.handoff, plan, now=now)


def _created(message: dict[str, Any], default: int) -> int:
    try:
        return parse_time(message.get("createdAt"))
    except ValueError:
        return default


class NoteTask(OutboundTask):
    """The conversation before the handoff, as a note only agents see; as a message where notes are refused."""

    def _do(self, event: Event, client: HubSpotClient, now: int) -> Outcome:
        record = self._record(event)
        if record is None or not record.handoff.is_open or record.handoff.thread_id is None:
            return Done()
        text = event.payload["text"]
        if event.progress.get("maybe") and not event.progress.get("refused"):
            there = client.thread_messages(record.handoff.thread_id)
            if any(one.get("type") == "COMMENT" and one.get("text") == text for one in there):
                return Done()
        if not event.progress.get("refused"):
            try:
                client.add_note(record.handoff.thread_id, text)
            except HubSpotRejected as error:
                logger.warning("HubSpot refuses notes (%s); the history goes as a message", error)
                event.progress["refused"] = True
                self._services.notes_refused(record.handoff.portal_id, now)
            else:
                return Done()
        self._publish(client, record, key="\0history", text=text, at_ms=event.received_at)
        return Done()


class AssignTask(OutboundTask):
    """``start(assign_to=…)``: a wish; when HubSpot refuses it the handoff goes on unassigned."""

    def _do(self, event: Event, client: HubSpotClient, now: int) -> Outcome:
        record = self._record(event)
        if record is None or not record.handoff.is_open or record.handoff.thread_id is None:
            return Done()
        try:
            client.assign_thread(record.handoff.thread_id, event.payload["actor_id"])
        except HubSpotRejected as error:
            logger.warning("HubSpot did not assign handoff %s as asked: %s", record.handoff.id, error)
        return Done()


class CloseTask(OutboundTask):
    """The host ended the handoff: close the thread, unless the agent has written since."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        super().prepare(tx, event, now)
        record = self._record(event)
        if record is not None:
            since = tx.records.operator_wrote_since(record.handoff.id, record.closed_ms)
            event.scratch["dropped"] = record.handoff.is_open or since
        row = event.payload.get("row")
        event.scratch["farewell"] = None if row is None else tx.records.get_message(row)

    def _do(self, event: Event, client: HubSpotClient, now: int) -> Outcome:
        record = self._record(event)
        if record is None or record.handoff.thread_id is None or event.scratch.get("dropped"):
            return Done()
        farewell: Message | None = event.scratch["farewell"]
        if farewell is not None and farewell.status == MessageStatus.QUEUED:
            return self._say(event, client, record, farewell)
        try:
            client.set_thread_status(record.handoff.thread_id, "CLOSED")
        except HubSpotNotFound:
            pass
        except HubSpotRejected as error:
            logger.warning("HubSpot did not close the thread of handoff %s: %s", record.handoff.id, error)
        return Done()

    def _say(self, event: Event, client: HubSpotClient, record: HandoffRecord, farewell: Message) -> Outcome:
        """What the user, or the bot for them, says last."""
        row = int(event.payload["row"])
        found: dict[str, Any]
        try:
            hubspot_id, _ = self._publish(
                client, record, key=farewell.message_id, text=farewell.text, at_ms=event.received_at
            )
            found = {"status": MessageStatus.DELIVERED.value, "hubspot_id": hubspot_id}
        except HubSpotRejected as error:
            logger.warning("HubSpot does not take the last message of handoff %s: %s", record.handoff.id, error)
            found = {"status": MessageStatus.FAILED.value}
        return Again(lambda tx: tx.records.set_message(row, **found))


class ReceiptTask(OutboundTask):
    """SENT or FAILED on an agent's message. A refusal is counted and dropped: receipts hold nothing up."""

    def _do(self, event: Event, client: HubSpotClient, now: int) -> Outcome:
        payload = event.payload
        status = "SENT" if payload["error"] is None else "FAILED"
        try:
            client.set_message_status(payload["channel_id"], payload["message_id"], status, payload["error"])
        except HubSpotRejected as error:
            self._services.receipts_refused += 1
            logger.info("HubSpot refused a receipt: %s", error)
        return Done()
