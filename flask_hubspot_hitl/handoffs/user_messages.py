"""Send the user's messages to HubSpot, with their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ..dispatch.tasks import Again, Dead, Done, Outcome, Retry
from ..domain import Message, MessageStatus
from ..errors import HubSpotConflict
from ..hubspot.bodies import file_attachment
from ..hubspot.client import HubSpotClient
from ..ledger import Event, HandoffRecord, Transaction, lanes
from ..portals.remote_files import NotFetched, as_line
from . import rules, steps
from .history import moment
from .outbound import OutboundTask
from .states import OutboundState, ToPublish

LOOK_FIRST_MS = 3_600_000
"""Milliseconds after which a publish is looked for in the thread before it is repeated: HubSpot does not say how long
it knows an idempotency id.
"""
SKEW_MS = 60_000
"""Milliseconds by which HubSpot's clock may be behind this machine's."""
FETCH_TRIES = 3
"""Attempts to fetch a file before its link is sent instead."""
FOLDER = "/hubspot-hitl"


class _Sending(NamedTuple):
    """Hold a message that is being sent, and where to."""

    event: Event
    client: HubSpotClient
    record: HandoffRecord
    message: Message


class MessageTask(OutboundTask):
    """Publish a message of the user's, with its files."""

    def prepare(self, tx: Transaction, event: Event, now: int) -> None:
        """Read the message, and which of its files is to be fetched or uploaded in this run."""
        super().prepare(tx, event, now)
        state, row = event.state(OutboundState), ToPublish.from_json(event.payload).row
        state.message = tx.records.get_message(row)
        for position, attachment in enumerate(state.message.attachments if state.message else ()):
            if attachment.file_id is None:
                content = tx.records.content_of(row, position)
                if content is None and attachment.url is not None:
                    state.fetch = position
                else:
                    state.upload = position, content
                break

    def _do(self, event: Event, state: OutboundState, client: HubSpotClient, now: int) -> Outcome:
        record, message = state.record, state.message
        if record is None or message is None:
            return Done()
        if not record.handoff.is_open and not state.is_unsure:
            return Dead("the conversation ended before HubSpot had the message")
        if state.fetch is not None:
            return self._fetch(event, message, state.fetch)
        sending = _Sending(event, client, record, message)
        return self._send(sending, state, now) if state.upload is None else self._upload(sending, *state.upload)

    def _send(self, sending: _Sending, state: OutboundState, now: int) -> Outcome:
        """Publish the message, unless it is in its thread already."""
        event, client, record, message = sending
        files = [file_attachment(str(one.file_id), one.content_type) for one in message.attachments]
        first_at = event.received_at if state.first_at is None else state.first_at
        if state.is_unsure and now - first_at > LOOK_FIRST_MS:
            there = self._already_there(sending)
            if there is not None:
                return Done(self._delivered(event, record, *there))
        if state.first_at is None:
            state.first_at = now
        try:
            hubspot_id, thread_id = self.publish(
                client, record, key=message.message_id, text=message.text, at_ms=event.received_at, attachments=files
            )
        except HubSpotConflict:
            found = self._already_there(sending) if state.is_unsure else None
            if found is None:
                raise
            hubspot_id, thread_id = found
        return Done(self._delivered(event, record, hubspot_id, thread_id))

    def _fetch(self, event: Event, message: Message, position: int) -> Outcome:
        """Fetch one file that the host gave by URL; put its link into the text when it can't be fetched."""
        row = ToPublish.from_json(event.payload).row
        files, wanted = list(message.attachments), message.attachments[position]
        try:
            file, content = self._services.remote_files.fetch(wanted)
        except NotFetched as error:
            if error.later and event.attempts + 1 < FETCH_TRIES:
                return Retry(f"a file was not fetched: {error}", counts=True)
            del files[position]
            text = "\n".join(filter(None, [message.text, as_line(wanted)]))
            return Again(lambda tx: tx.records.set_attachments(row, files, text=text))
        files[position] = replace(file, url=wanted.url)

        def keep(tx: Transaction) -> None:
            tx.records.put_content(row, position, content)
            tx.records.set_attachments(row, files)

        return Again(keep)

    def _upload(self, sending: _Sending, position: int, content: bytes | None) -> Outcome:
        """Upload one file in each run, so that a failure at the third file does not upload the first two again."""
        event, client, record, message = sending
        if content is None:
            return Dead("a file of this message is gone")
        attachment = message.attachments[position]
        file_id = client.upload_file(
            attachment.name or "file", content, attachment.content_type, f"{FOLDER}/{record.handoff.id}"
        )
        row = ToPublish.from_json(event.payload).row
        files = list(message.attachments)
        files[position] = replace(attachment, file_id=file_id)
        event.state(OutboundState).is_unsure = False
        return Again(lambda tx: tx.records.set_attachments(row, files))

    def _already_there(self, sending: _Sending) -> tuple[str, str] | None:
        """Find the message in its thread, so that it is not published twice; messages with a known id don't count."""
        event, client, record, message = sending
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
            and (moment(one) or event.received_at) >= event.received_at - SKEW_MS
        ]
        with self._ledger.read() as tx:
            known = tx.records.known_hubspot_ids(record.handoff.id, same)
        return next(((one, thread_id) for one in same if one not in known), None)

    def _delivered(
        self, event: Event, record: HandoffRecord, hubspot_id: str, thread_id: str
    ) -> Callable[[Transaction], None]:
        row = ToPublish.from_json(event.payload).row

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
        """Report the message as ``message_failed``."""
        record = tx.records.get(str(event.handoff_id))
        if record is not None:
            plan = [rules.message_failed(tx, record, ToPublish.from_json(event.payload).row, error=error)]
            steps.put_signals(tx, record.handoff, plan, now=now)
