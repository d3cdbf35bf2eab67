"""What an agent (or the API) does with a conversation; ``publishing.py`` has what comes from the customer.

Each verb changes the world and queues the events HubSpot would send
(docs/hubspot.rst: What the channel does not tell; Subscription types; Life of a thread). ``at`` is the
time of what happens, in epoch milliseconds. Knows no HTTP; called with the lock held.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..model.errors import ApiError
from ..model.world import JSON, Message, Thread, now_ms
from . import events, shapes

if TYPE_CHECKING:
    from ..engine.simulation import Simulation

HUBSPOT = {"clientType": "HUBSPOT"}
SYSTEM = {"clientType": "SYSTEM"}


def integration(app_id: str) -> JSON:
    """``PublicClient`` of an app."""
    return {"clientType": "INTEGRATION", "integrationAppId": int(app_id)}


@dataclass
class Draft:
    """What somebody writes: ``created_ms`` is the message's time, ``at`` that of the events about it."""

    text: str | None = field(repr=False)
    rich_text: str | None = field(repr=False)
    attachments: list[JSON] = field(repr=False)
    created_ms: int
    at: int
    client: JSON = field(default_factory=lambda: HUBSPOT)

    def message(self, sim: Simulation, kind: str, thread: Thread, actor_id: str, sender: JSON) -> Message:
        """It as an entry of a thread."""
        plain, markup = _plain(self.text, self.rich_text), rich(self.text, self.rich_text)
        identity = (sim.ids.message(), kind, thread.id, self.created_ms, actor_id, self.client)
        return Message(*identity, [sender], [], plain, markup, self.attachments)


def reply(sim: Simulation, thread: Thread, actor_id: str, draft: Draft) -> Message:
    """An agent answers; the first answer in an unassigned thread claims it (docs/hubspot.rst: Assignment)."""
    account = sim.world.accounts.get(thread.account_id)
    channel = sim.world.channels.get(thread.channel_id)
    if channel is None or channel.archived or account is None or account.archived:
        raise ApiError.invalid("channelId", "the channel is no longer connected")
    if not channel.capabilities.get("allowOutgoingMessages", False):
        raise ApiError.invalid("channelId", "the channel's capabilities don't allow outgoing messages")
    if thread.assigned_to is None:
        assign(sim, thread, actor_id, actor_id, draft.client, draft.at)
    sender: JSON = {"actorId": actor_id}
    if account.identifier is not None:
        sender["deliveryIdentifier"] = account.identifier
    message = draft.message(sim, "MESSAGE", thread, actor_id, sender)
    message.recipients = [thread.customer]
    message.status = {"statusType": "SENT"}
    message.extra = {"channelId": thread.channel_id, "channelAccountId": account.id, "direction": "OUTGOING"}
    thread.messages.append(message)
    thread.sent_ms = max(draft.created_ms, thread.sent_ms or 0)
    if draft.client["clientType"] == "HUBSPOT" or sim.chaos.api_send_echo:
        events.outgoing_message(sim, thread, message, draft.at)
    events.new_message(sim, thread, message, draft.at)
    return message


def comment(sim: Simulation, thread: Thread, actor_id: str, draft: Draft) -> Message:
    """An internal note: seen in the inbox only, never sent to the customer (docs/hubspot.rst: Sending as an agent)."""
    message = draft.message(sim, "COMMENT", thread, actor_id, {"actorId": actor_id})
    message.rich_text = message.rich_text or ""
    if sim.chaos.notes == "hidden":
        return message
    thread.messages.append(message)
    events.new_message(sim, thread, message, draft.at)
    return message


def welcome(sim: Simulation, thread: Thread, text: str, at: int) -> Message:
    """The greeting a chatflow of the portal says (docs/hubspot.rst: Kinds of messages)."""
    message = Draft(text, None, [], at, at, SYSTEM).message(
        sim, "WELCOME_MESSAGE", thread, "S-hubspot", {"actorId": "S-hubspot"}
    )
    message.extra = {"channelId": thread.channel_id, "channelAccountId": thread.account_id}
    thread.messages.append(message)
    events.new_message(sim, thread, message, at)
    return message


def assign(
    sim: Simulation,
    thread: Thread,
    actor_id: str | None,
    by: str,
    client: JSON,
    at: int,
    *,
    source: str = "USERS",
) -> None:
    """Assign to an actor, or to nobody. No event when nothing changes."""
    before = thread.assigned_to
    if before == actor_id:
        return
    thread.assigned_to = actor_id
    extra = shapes.given(assignedTo=actor_id, assignedFrom=before)
    thread.messages.append(Message(sim.ids.message(), "ASSIGNMENT", thread.id, at, by, client, extra=extra))
    events.property_changed(sim, thread, "assignedTo", events.assignee_value(sim, actor_id), at, source)


def set_status(
    sim: Simulation, thread: Thread, status: str, by: str, client: JSON, at: int, *, source: str = "USERS"
) -> None:
    """Close or reopen. No event when nothing changes."""
    if thread.status == status:
        return
    thread.status = status
    thread.closed_ms = at if status == "CLOSED" else None
    extra = {"newStatus": status}
    thread.messages.append(Message(sim.ids.message(), "THREAD_STATUS_CHANGE", thread.id, at, by, client, extra=extra))
    events.property_changed(sim, thread, "status", status, at, source)


def move(sim: Simulation, thread: Thread, inbox_id: str, by: str, at: int) -> None:
    """To another inbox of the portal. No webhook tells of it, and the channel account stays.

    Source: docs/hubspot.rst (Merges and transfers).
    """
    if thread.inbox_id == inbox_id:
        return
    extra = {"fromInboxId": thread.inbox_id, "toInboxId": inbox_id}
    thread.inbox_id = inbox_id
    thread.messages.append(Message(sim.ids.message(), "THREAD_INBOX_CHANGE", thread.id, at, by, HUBSPOT, extra=extra))


def associate(thread: Thread, contact_id: str) -> None:
    """Link the thread to another contact, as an agent does, or as a merge does.

    Source: docs/hubspot.rst (Merges and transfers).
    """
    thread.contact_id = contact_id
    thread.customer = {**thread.customer, "actorId": f"V-{contact_id}"}


def archive(sim: Simulation, thread: Thread, at: int, *, source: str = "USERS") -> None:
    """Move to the trash: ``conversation.deletion``, and a status if HubSpot says one (open question 19).

    Source: docs/hubspot.rst (Ends of a thread).
    """
    if not thread.archived:
        thread.archived = True
        if sim.chaos.archive_status is not None:
            thread.status = "CLOSED"
            events.property_changed(sim, thread, "status", sim.chaos.archive_status, at, source)
        events.app_event(sim, thread, "conversation.deletion", at, changeSource=source, changeFlag="DELETED")


def restore(sim: Simulation, thread: Thread, at: int, *, source: str = "USERS") -> None:
    """Take out of the trash: ``isArchived`` = false (docs/hubspot.rst: Values)."""
    if thread.archived and not thread.purged:
        thread.archived = False
        events.property_changed(sim, thread, "isArchived", sim.chaos.restored_value, at, source)


def purge(sim: Simulation, thread: Thread, at: int) -> None:
    """Delete for good: ``conversation.deletion``, then ``conversation.privacyDeletion``.

    Source: docs/hubspot.rst (Subscription types).
    """
    if thread.purged:
        return
    thread.archived = thread.purged = True
    thread.messages.clear()
    for kind in ("conversation.deletion", "conversation.privacyDeletion"):
        events.app_event(sim, thread, kind, at, changeSource="USERS", changeFlag="DELETED")


def set_message_status(message: Message, status: str, error: str | None) -> None:
    """A delivery receipt (docs/hubspot.rst: Receipts)."""
    message.status = {"statusType": status}
    if status == "FAILED":
        details = shapes.given(errorMessage=error) | {"errorMessageTokens": {}}
        message.status["failureDetails"] = details
    message.updated_ms = now_ms()


def _plain(text: str | None, rich_text: str | None) -> str:
    """HubSpot's ``text``: what was given, else a plain rendering of the rich text."""
    if text is not None or rich_text is None:
        return text or ""
    lines = re.sub(r"(?i)<br\s*/?>|</p>\s*<p[^>]*>|</div>\s*<div[^>]*>", "\n", rich_text)
    return html.unescape(re.sub(r"<[^>]*>", "", lines))


def rich(text: str | None, rich_text: str | None = None) -> str | None:
    """HubSpot's ``richText``: what was given, else the text as HTML."""
    if rich_text is not None:
        return rich_text
    return "<div>" + html.escape(text, quote=False).replace("\n", "<br>") + "</div>" if text else None
