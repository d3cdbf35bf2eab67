"""Send the user's messages to HubSpot, with their files."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from ..dispatch.tasks import Again, Dead, Done, Outcome, Retry
from ..domain import Attachment, Message, MessageStatus
from ..errors import HubSpotConflict, HubSpotError, HubSpotRejected, HubSpotUnavailable
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
UPLOAD_TRIES = 3
"""Uploads of a file without an answer, while HubSpot answers other calls, before the message goes without it."""
UPLOAD_MS = 60_000
"""Milliseconds that these take at least."""
FOLDER = "/hubspot-hitl"
WITHOUT_FILES = (400, 413, 415, 422)
"""HubSpot's statuses for a message whose files may be the reason that it is refused."""
_WHY = {
    403: "HubSpot does not allow this app to store files",
    413: "HubSpot finds it too large",
    415: "HubSpot does not take files of this type",
}
_REFUSED = "HubSpot refuses it"

logger = logging.getLogger(__name__)


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
            if attachment.file_id is None and str(position) not in state.left_out:
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
            return self._fetch(event, state, message, state.fetch)
        sending = _Sending(event, client, record, message)
        return self._send(sending, state, now) if state.upload is None else self._upload(sending, state, now)

    def _send(self, sending: _Sending, state: OutboundState, now: int) -> Outcome:
        """Publish the message, unless it is in its thread already."""
        event, client, record, message = sending
        files = [
            file_attachment(one.file_id, one.content_type, is_voice=one.is_voice)
            for one in message.attachments
            if one.file_id
        ]
        first_at = event.received_at if state.first_at is None else state.first_at
        if state.is_unsure and now - first_at > LOOK_FIRST_MS:
            there = self._already_there(sending)
            if there is not None:
                return Done(self._delivered(sending, *there))
        if state.first_at is None:
            state.first_at = now
        try:
            hubspot_id, thread_id = self.publish(
                client, record, key=message.message_id, text=_words(message, state), at_ms=event.received_at,
                attachments=files,
            )  # fmt: skip
        except HubSpotConflict:
            found = self._already_there(sending) if state.is_unsure else None
            if found is None:
                raise
            hubspot_id, thread_id = found
        except HubSpotRejected as error:
            if not files or error.status not in WITHOUT_FILES:
                raise
            _log_refusal(record, error)
            given = [str(position) for position, one in enumerate(message.attachments) if one.file_id]
            state.left_out = {**state.left_out, **dict.fromkeys(given, "HubSpot refuses the message with it")}
            return Again(lambda tx: tx.records.set_attachments(_row(event), _without_ids(message)))
        return Done(self._delivered(sending, hubspot_id, thread_id))

    def _fetch(self, event: Event, state: OutboundState, message: Message, position: int) -> Outcome:
        """Fetch one file that the host gave by URL; put its link into the text when it can't be fetched."""
        row = _row(event)
        files, wanted = list(message.attachments), message.attachments[position]
        try:
            file, content = self._services.remote_files.fetch(wanted)
        except NotFetched as error:
            if error.later and event.attempts + 1 < min(FETCH_TRIES, self._services.settings.max_attempts):
                return Retry(f"a file was not fetched: {error}", counts=True)
            state.left_out = {**state.left_out, str(position): ""}
            text = "\n".join(filter(None, [message.text, as_line(wanted)]))
            return Again(lambda tx: tx.records.set_message(row, text=text))
        files[position] = replace(file, url=wanted.url, is_voice=wanted.is_voice)

        def keep(tx: Transaction) -> None:
            tx.records.put_content(row, position, content)
            tx.records.set_attachments(row, files)

        return Again(keep)

    def _upload(self, sending: _Sending, state: OutboundState, now: int) -> Outcome:
        """Upload one file in each run, so that a failure at the third file does not upload the first two again."""
        event, client, record, message = sending
        position, content = state.upload or (0, None)
        if content is None:
            return _leave_out(state, position, "Its content is gone")
        attachment = message.attachments[position]
        tries, since = state.unanswered or (0, now)
        if tries >= UPLOAD_TRIES:
            with contextlib.suppress(HubSpotRejected):
                client.get_thread(str(record.handoff.thread_id))  # if HubSpot answers, it is the file's fault
        try:
            file_id = client.upload_file(
                attachment.name or "file", content, attachment.content_type, f"{FOLDER}/{record.handoff.id}"
            )
        except HubSpotRejected as error:
            _log_refusal(record, error)
            return _leave_out(state, position, _WHY.get(error.status or 0, _REFUSED))
        except HubSpotUnavailable as error:
            state.unanswered = tries + error.ambiguous, since
            if not error.ambiguous or tries < UPLOAD_TRIES or now - since < UPLOAD_MS:
                raise
            _log_refusal(record, error)
            return _leave_out(state, position, "HubSpot did not take it in time")
        state.unanswered = None
        row = _row(event)
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
        files = {one.file_id for one in message.attachments if one.file_id}
        same = [
            str(one["id"])
            for one in client.thread_messages(thread_id)
            if one.get("direction") == "INCOMING"
            and (one.get("text") or "") == _words(message, event.state(OutboundState))
            and {part.get("fileId") for part in one.get("attachments") or () if part.get("fileId")} == files
            and (moment(one) or event.received_at) >= event.received_at - SKEW_MS
        ]
        with self._ledger.read() as tx:
            known = tx.records.known_hubspot_ids(record.handoff.id, same)
        return next(((one, thread_id) for one in same if one not in known), None)

    def _delivered(self, sending: _Sending, hubspot_id: str, thread_id: str) -> Callable[[Transaction], None]:
        event, _, record, message = sending
        row = _row(event)
        state = event.state(OutboundState)
        missing = _missing(message, state)

        def effect(tx: Transaction) -> None:
            now = self._ledger.now_ms()
            tx.queue.reserve(lanes.thread(record.handoff.portal_id, thread_id), now=now)
            values = {"status": MessageStatus.DELIVERED.value, "hubspot_id": hubspot_id, "error": missing or None}
            tx.records.set_message(row, **values)
            if missing and missing != _words(message, state):
                rules.put_note(tx, record.handoff, missing, about=f"files:{row}", now=now)
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


def _row(event: Event) -> int:
    return ToPublish.from_json(event.payload).row


def _leave_out(state: OutboundState, position: int, why: str) -> Outcome:
    """Go on without a file."""
    state.left_out = {**state.left_out, str(position): why}
    state.unanswered, state.is_unsure = None, False
    return Again()


def _missing(message: Message, state: OutboundState) -> str:
    """Return what agents read of the files that are not with the message; "" when none is missing."""
    names = {str(position): one.name or "file" for position, one in enumerate(message.attachments)}
    lines = [f"[ A file of the user's is missing: {names[at]}. {why}. ]" for at, why in state.left_out.items() if why]
    return "\n".join(lines)


def _words(message: Message, state: OutboundState) -> str:
    """Return the user's text, verbatim; of a message that had nothing but files, what is missing of it."""
    is_empty = not message.text.strip() and not any(one.file_id for one in message.attachments)
    return _missing(message, state) if is_empty else message.text


def _without_ids(message: Message) -> list[Attachment]:
    return [replace(one, file_id=None) for one in message.attachments]


def _log_refusal(record: HandoffRecord, error: HubSpotError) -> None:
    logger.warning(
        "HubSpot did not take a file of handoff %s (%s); the message goes without it, and the agents are told",
        record.handoff.id,
        error,
    )
