"""Send HubSpot what a handoff has for it: the first message, the user's messages, notes, assignments, closes, receipts.

One handoff's tasks run in order of acceptance. An outage uses up no attempt; a call whose answer was lost is repeated
with the same idempotency id; an event is given up 24 hours after it was accepted.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import Any

from ..dispatch.tasks import Again, CallingTask, Dead, Done, Outcome, outage
from ..domain import Author, Contact, Handoff, HandoffState, Message, MessageStatus
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
from ..hubspot.bodies import build_incoming
from ..hubspot.client import HubSpotClient
from ..hubspot.contacts import identifier_of
from ..hubspot.content import render_first_message
from ..ledger import Event, HandoffRecord, Lease, Transaction, lanes
from ..portals import contacts
from ..portals.clients import Services
from . import rules, steps
from .states import RATING, Account, OutboundState, ToAssign, ToChangeTicket, ToClose, ToNote, ToOpen, ToReceipt

logger = logging.getLogger(__name__)

GIVE_UP_MS = 86_400_000
"""Milliseconds after its acceptance when an event is given up that HubSpot can't be reached for, or has no token."""


class OutboundTask(CallingTask):
    """Turn HubSpot's answers and errors into outcomes, the same for every call that goes out."""

    refusals = (HubSpotRejected, ContactNotFound, InboxNotConnected, ValueError)

    def __init__(self, services: Services) -> None:
        super().__init__(services.ledger)
        self._services = services

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Read what the run needs. A run that did not finish may have reached HubSpot."""
        state = event.state(OutboundState)
        state.record = tx.records.get(str(event.handoff_id)) if event.handoff_id else None
        state.is_unsure = state.is_unsure or event.starts > 1

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        """Call HubSpot with the portal's client; see :meth:`_do`."""
        return self._do(event, event.state(OutboundState), self._services.client(str(event.portal_id)), now)

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        raise NotImplementedError

    def unavailable(self, event: Event, error: HubSpotUnavailable, now: int) -> Outcome:
        """Wait for HubSpot, for 24 hours; remember that HubSpot may have it."""
        if error.ambiguous:
            event.state(OutboundState).is_unsure = True
        # Only then: whatever the clock says, what has waited is tried once more.
        if now - event.received_at > GIVE_UP_MS:
            return Dead("HubSpot could not be reached for 24 hours")
        return outage(error, now)

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """Wait for a token, for 24 hours: then whoever waits for it is told that it will not come."""
        if self._ledger.now_ms() - event.received_at > GIVE_UP_MS:
            return Dead(str(error), cause=error)
        return super().not_configured(event, error)

    def refused(self, event: Event, error: Exception) -> Outcome:
        """Give up: the same call would be refused again."""
        return Dead(str(error), cause=error if isinstance(error, HITLError) else None)

    def publish(
        self, client: HubSpotClient, record: HandoffRecord, *, key: str, text: str, at_ms: int,
        attachments: list[dict[str, Any]] | None = None,
    ) -> tuple[str, str]:  # fmt: skip
        """Publish a message of the user's; the same key is one message.

        :returns: the message's id and its thread's id.
        """
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
    """Find the contact and the channel account, then publish the first message, which makes the thread."""

    def not_configured(self, event: Event, error: NotConfigured) -> Outcome:
        """Give up when the token is another portal's: the agents would be asked, and never be heard."""
        if isinstance(error, WrongPortal):
            return Dead(str(error), cause=error)
        return super().not_configured(event, error)

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        record = state.record
        if record is None or (record.handoff.state != HandoffState.STARTING and not state.is_unsure):
            return Done()
        if record.recipient is None:
            state.account = account = state.account or self._account(client, record)
            record.account_id, record.recipient = account.id, account.identifier
        if record.sender is None:
            state.sender = record.sender = state.sender or self._sender(client, record)
        handoff = record.handoff
        contact_line, told = _contact_line(handoff.contact, record.sender), ToOpen.from_json(event.payload)
        text = render_first_message(
            handoff.name, handoff.title, handoff.description, contact_line, told.transcript, told.facts
        )
        opening: dict[str, Any] = {"text": text, "at_ms": event.received_at}
        try:
            opening_id, thread_id = self.publish(client, record, key="\0open", **opening)
        except HubSpotConflict:
            if not state.is_unsure:
                raise
            # HubSpot has it from a run whose answer was lost, and does not say where: its thread takes it once more.
            opening_id, thread_id = self.publish(client, record, key=f"\0open:{event.starts}", **opening)
        sender, recipient, account_id = record.sender, record.recipient, record.account_id
        timeout_ms = int(self._services.settings.assignment_timeout * 1000)

        def effect(tx: Transaction) -> None:
            tx.queue.reserve(lanes.thread(handoff.portal_id, thread_id), now=now)
            current = tx.records.get(handoff.id, lock=True)
            if current is not None:
                current.sender, current.recipient, current.account_id = sender, recipient, account_id
                current.opening_id = opening_id
                rules.opened(tx, current, thread_id=thread_id, timeout_ms=timeout_ms, now=self._ledger.now_ms())
                if told.ticket:
                    rules.put_on_ticket(tx, current.handoff, ToChangeTicket(told.ticket), once="start", now=now)

        logger.info("Handoff %s has opened HubSpot thread %s", handoff.id, thread_id)
        return Done(effect)

    def _account(self, client: HubSpotClient, record: HandoffRecord) -> Account:
        """Return the channel account to publish through: the one configured, or the one in the inbox asked for."""
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
        return Account(str(found["id"]), {name: str(identifier[name]) for name in ("type", "value")})

    def _sender(self, client: HubSpotClient, record: HandoffRecord) -> dict[str, str]:
        """Return the sender: the contact that HubSpot has, or an anonymous one where CONTACT_POLICY allows that.

        :raises ContactNotFound: when HubSpot answers that it has no such contact and the policy is ``require``.
        """
        handoff = record.handoff
        stranger = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": f"user-{handoff.id}"}
        if handoff.contact is None:
            return stranger
        found = client.find_contact(handoff.contact)
        policy = self._services.settings.contact_policy
        if found is None and policy == "create":
            found = contacts.make(self._ledger, client, handoff.portal_id, handoff.contact, handoff.name)
        if found is None:
            if policy == "anonymous":
                return stranger
            raise ContactNotFound(
                "HubSpot knows no contact with this phone number or e-mail address; create the contact, or set "
                "HUBSPOT_HITL_CONTACT_POLICY to 'create' or 'anonymous'"
            )
        identifier = identifier_of(handoff.contact, found)
        return {**identifier, "contact_id": str(found["id"])}

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        """Fail the handoff, and report the user's waiting messages as ``message_failed``."""
        record = tx.records.get(str(event.handoff_id), lock=True)
        if record is not None and record.handoff.state == HandoffState.STARTING:
            rules.fail(tx, record, error=error, now=now)


def _contact_line(contact: Contact | None, sender: dict[str, str]) -> str | None:
    """Return what the agent would not see otherwise: whom to call, with the extension."""
    if contact is None:
        return None
    if contact.extension:
        return f"{contact.phone} ext. {contact.extension}"
    return contact.value if sender.get("type") == "CHANNEL_SPECIFIC_OPAQUE_ID" else None


class NoteTask(OutboundTask):
    """Send the conversation before the handoff, why a file is missing, or what the host says, as a note for agents.

    Where notes are refused it is a message.
    """

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        record, told = state.record, ToNote.from_json(event.payload)
        is_rating = told.about == RATING
        if record is None or record.handoff.thread_id is None or not (record.handoff.is_open or is_rating):
            return Done()
        mode, handoff = self._services.settings.notes_in, record.handoff
        on_ticket = not told.as_comment and self._services.ticket_notes.may_be(handoff.portal_id, handoff.inbox_id)
        if on_ticket and mode == "ticket":
            return self._to_ticket(event, handoff, replace(told, instead=True), now)
        if self._commented(state, client, record, told, now):
            return self._to_ticket(event, handoff, told, now) if on_ticket else Done()
        if on_ticket:
            return self._to_ticket(event, handoff, replace(told, instead=True), now)
        if is_rating:  # a message would open the thread again
            return Dead("HubSpot takes no notes, so the rating is left out")
        text = _as_text(told)
        if told.about.startswith("host:") and told.title is None:
            text = f"Note: {text}"  # else it would stand there as the user's own words
        self.publish(client, record, key=f"\0{told.about}", text=text, at_ms=event.received_at)
        return Done()

    def _to_ticket(self, event: Event, handoff: Handoff, told: ToNote, now: int) -> Outcome:
        return Done(lambda tx: rules.put_on_ticket(tx, handoff, told, once=str(event.id), now=now))

    def _commented(
        self, state: OutboundState, client: HubSpotClient, record: HandoffRecord, told: ToNote, now: int
    ) -> bool:
        """Leave the note on the thread; False when the portal takes none."""
        thread_id = str(record.handoff.thread_id)
        if state.is_unsure and not state.is_refused:
            there = client.thread_messages(thread_id)
            if any(one.get("type") == "COMMENT" and one.get("text") == _as_text(told) for one in there):
                return True
        if not state.is_refused and self._services.takes_notes(record.handoff.portal_id):
            try:
                client.add_note(thread_id, told.text, title=told.title)
            except HubSpotRejected as error:
                logger.warning(
                    "HubSpot refuses notes (%s); for an hour histories are sent as the first message. Set "
                    "HUBSPOT_HITL_HISTORY=message to keep it so",
                    error,
                )
                state.is_refused = True
                self._services.notes_refused(record.handoff.portal_id, now)
            else:
                return True
        return False


def _as_text(told: ToNote) -> str:
    return told.text if told.title is None else f"{told.title}\n\n{told.text}"


class AssignTask(OutboundTask):
    """Assign the thread as the host asked; when HubSpot refuses, it stays with whom it is."""

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        record = state.record
        if record is None or not record.handoff.is_open or record.handoff.thread_id is None:
            return Done()
        handoff, actor_id = record.handoff, ToAssign.from_json(event.payload).actor_id
        try:
            if actor_id is None:
                client.unassign_thread(record.handoff.thread_id)
            else:
                client.assign_thread(record.handoff.thread_id, actor_id)
        except HubSpotRejected as error:
            refused = {"actor_id": actor_id, "error": str(error)}
            logger.warning(
                "HubSpot did not assign handoff %s as the host asked (%s); the inbox's own routing applies. Check that "
                "the agent still exists",
                record.handoff.id,
                error,
            )
            plan = [steps.step("assignment_refused", handoff, facts=refused)]
            return Done(lambda tx: steps.put_signals(tx, handoff, plan, now=now))
        return Done()


class CloseTask(OutboundTask):
    """Close the thread of a handoff that the host ended, unless the agent has written since."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Read the farewell, and whether the agent has written since."""
        super().prepare(tx, event, now)
        state, row = event.state(OutboundState), ToClose.from_json(event.payload).row
        record = state.record
        if record is not None:
            since = tx.records.operator_wrote_since(record.handoff.id, record.closed_ms)
            state.is_dropped = record.handoff.is_open or since
        state.message = None if row is None else tx.records.get_message(row)

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        record, farewell = state.record, state.message
        if record is None or record.handoff.thread_id is None or state.is_dropped:
            return Done()
        if farewell is not None and farewell.status == MessageStatus.QUEUED:
            return self._say(event, client, record, farewell)
        try:
            client.set_thread_status(record.handoff.thread_id, "CLOSED")
        except HubSpotNotFound:
            pass
        except HubSpotRejected as error:
            logger.warning(
                "HubSpot refuses to close the thread of handoff %s (%s); it stays open in the inbox. Close it there by "
                "hand",
                record.handoff.id,
                error,
            )
        return Done()

    def _say(self, event: Event, client: HubSpotClient, record: HandoffRecord, farewell: Message) -> Outcome:
        """Publish the farewell that ``stop`` was given."""
        row = int(ToClose.from_json(event.payload).row or 0)
        found: dict[str, Any]
        try:
            hubspot_id, _ = self.publish(
                client, record, key=farewell.message_id, text=farewell.text, at_ms=event.received_at
            )
            found = {"status": MessageStatus.DELIVERED.value, "hubspot_id": hubspot_id}
        except HubSpotRejected as error:
            logger.warning(
                "HubSpot refuses the farewell of handoff %s (%s); the thread is closed without it",
                record.handoff.id,
                error,
            )
            found = {"status": MessageStatus.FAILED.value}
        return Again(lambda tx: tx.records.set_message(row, **found))


class ReceiptTask(OutboundTask):
    """Set SENT, READ or FAILED on an agent's message; count and drop a refusal, so that a receipt delays nothing."""

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        told = ToReceipt.from_json(event.payload)
        status = "READ" if told.is_read else "SENT" if told.error is None else "FAILED"
        if status == "SENT" and event.handoff_id is not None:
            with self._ledger.read() as tx:
                found = tx.records.find_message(event.handoff_id, Author.OPERATOR, told.message_id)
            if found is not None and found[1].status is MessageStatus.READ:
                return Done()  # READ comes behind it, and says more
        try:
            client.set_message_status(told.channel_id, told.message_id, status, told.error)
        except HubSpotRejected as error:
            self._services.receipts_refused += 1
            logger.info(
                "HubSpot refuses a receipt (%s); it is dropped, and the agent does not see what became of the message",
                error,
            )
        return Done()
