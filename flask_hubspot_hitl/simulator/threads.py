"""What happens to a conversation: publishing into it, and everything an agent (or the API) does with it.

Each verb changes the world and queues the events HubSpot would send (facts §3, §4.4, §6.1, §13). ``at`` is the
time of what happens, in epoch milliseconds. Knows no HTTP; called with the lock held.
"""

from __future__ import annotations

import html
import re
import uuid
from typing import TYPE_CHECKING

from . import events, people, shapes
from .wire import ApiError
from .world import JSON, ChannelAccount, Contact, Install, Message, Thread, now_ms

if TYPE_CHECKING:
    from .simulation import Simulation

HUBSPOT = {"clientType": "HUBSPOT"}
SYSTEM = {"clientType": "SYSTEM"}


def integration(app_id: str) -> JSON:
    """``PublicClient`` of an app."""
    return {"clientType": "INTEGRATION", "integrationAppId": int(app_id)}


# --- publishing through the custom channel


def publish(sim: Simulation, made: Install, account: ChannelAccount, egg: JSON, created_ms: int) -> Message:
    """Publish a checked ``ChannelIntegrationMessageEgg``; returns the message (the first one, when repeated).

    The same ``integrationIdempotencyId`` in the same account makes no second copy (facts §3.5).
    """
    idempotency_id = egg.get("integrationIdempotencyId")
    if idempotency_id is not None and idempotency_id in account.published:
        found = sim.world.message(account.published[idempotency_id])
        if found is not None:
            return found[1]
    now = now_ms()
    incoming = egg["messageDirection"] == "INCOMING"
    others = egg["senders"] if incoming else egg.get("recipients") or egg["senders"]
    contact_id, customer = _customer(sim, made, egg, others[0])
    thread, is_new = _thread_for(sim, account, egg, customer, contact_id, now)
    if incoming:
        thread.customer = customer
        senders = [{"actorId": customer["actorId"], **_participant(egg["senders"][0])}]
        recipients = [_participant(one) for one in egg.get("recipients") or []]
        thread.received_ms = max(created_ms, thread.received_ms or 0)
    else:
        senders = [_participant(one) for one in egg["senders"]]
        recipients = [{"actorId": customer["actorId"], **_participant(one)} for one in egg.get("recipients") or []]
        thread.sent_ms = max(created_ms, thread.sent_ms or 0)
    if not recipients:
        identifier = account.identifier if incoming else customer["deliveryIdentifier"]
        recipients = [{"deliveryIdentifier": identifier}] if identifier else []
    message = Message(
        sim.ids.message(),
        "MESSAGE",
        thread.id,
        created_ms,
        customer["actorId"] if incoming else f"I-{made.app_id}",
        integration(made.app_id),
        senders,
        recipients,
        egg["text"],
        egg.get("richText"),
        egg.get("attachments") or [],
        {"statusType": "RECEIVED" if incoming else "SENT"},
        extra={
            "channelId": account.channel_id,
            "channelAccountId": account.id,
            "direction": egg["messageDirection"],
            **shapes.given(inReplyToId=egg.get("inReplyToId")),
        },
    )
    if idempotency_id is not None:
        account.published[idempotency_id] = message.id
    if is_new:
        events.app_event(sim, thread, "conversation.creation", now, changeFlag="NEW")
    elif incoming and thread.status == "CLOSED":
        set_status(sim, thread, "OPEN", "S-hubspot", SYSTEM, now, source="SYSTEM")
    thread.messages.append(message)
    if not incoming and sim.chaos.echo_outgoing:
        events.outgoing_message(sim, thread, message, now)
    if sim.chaos.own_publish_events:
        events.new_message(sim, thread, message, now)
    return message


def _participant(item: JSON) -> JSON:
    identifier = {key: item["deliveryIdentifier"][key] for key in ("type", "value")}
    return shapes.given(name=item.get("name"), deliveryIdentifier=identifier)


def _customer(sim: Simulation, made: Install, egg: JSON, other: JSON) -> tuple[str, JSON]:
    """The contact or visitor a message comes from (or goes to), and how to reach him (facts §3.6)."""
    world, wanted = sim.world, egg.get("associateWithContactId")
    resolved = (egg.get("preResolvedContacts") or {}).get("contacts") or []
    if wanted is None and resolved:
        wanted = resolved[0]["contactVid"]
    contact: Contact | None
    if wanted is not None:
        contact = world.contacts.get(str(wanted))
        if contact is None or contact.portal_id != made.portal_id or contact.archived:
            raise ApiError.invalid("associateWithContactId", "no such contact")
    else:
        contact = people.find_contact(world, made.portal_id, other["deliveryIdentifier"])
    kind = other["deliveryIdentifier"]["type"]
    if contact is None and sim.chaos.unknown_contact == "reject" and kind != "CHANNEL_SPECIFIC_OPAQUE_ID":
        raise ApiError.invalid("senders", "no contact matches the delivery identifier")
    if contact is not None:
        contact_id = contact.id
    else:
        contact_id = people.visitor_id(sim, made.portal_id, other["deliveryIdentifier"], other.get("name"))
    return contact_id, {"actorId": f"V-{contact_id}", **_participant(other)}


def _thread_for(
    sim: Simulation, account: ChannelAccount, egg: JSON, customer: JSON, contact_id: str, now: int
) -> tuple[Thread, bool]:
    """The thread a message belongs to, and whether it was made for it (facts §3.4)."""
    world, key = sim.world, egg.get("integrationThreadId")
    model = world.channels[account.channel_id].capabilities.get("threadingModel")
    if key is None and model == "DELIVERY_IDENTIFIER":
        identifier = customer["deliveryIdentifier"]
        key = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{account.id}/{identifier['type']}/{identifier['value']}"))
    key = key if key is not None else str(uuid.uuid4())
    there = world.threads.get(world.routes.get((account.id, key), ""))
    if there is not None and not there.archived and not there.purged:
        fresh = there.status == "CLOSED" and sim.chaos.closed_publish == "new_thread"
        if not (fresh and egg["messageDirection"] == "INCOMING"):
            return there, False
    thread = Thread(
        sim.ids.thread(),
        account.portal_id,
        account.inbox_id,
        account.channel_id,
        account.id,
        key,
        customer,
        now,
        contact_id,
        ticket_id=sim.ids.large() if world.inboxes[account.inbox_id].type == "HELP_DESK" else None,
    )
    world.threads[thread.id] = thread
    world.routes[account.id, key] = thread.id
    return thread, True


# --- what agents do


def reply(
    sim: Simulation,
    thread: Thread,
    actor_id: str,
    *,
    text: str | None,
    rich_text: str | None,
    attachments: list[JSON],
    created_ms: int,
    at: int,
    client: JSON = HUBSPOT,
) -> Message:
    """An agent answers; the first answer in an unassigned thread claims it (facts §13 item 6)."""
    account = sim.world.accounts.get(thread.account_id)
    channel = sim.world.channels.get(thread.channel_id)
    if channel is None or channel.archived or account is None or account.archived:
        raise ApiError.invalid("channelId", "the channel is no longer connected")
    if not channel.capabilities.get("allowOutgoingMessages", False):
        raise ApiError.invalid("channelId", "the channel's capabilities don't allow outgoing messages")
    if thread.assigned_to is None:
        assign(sim, thread, actor_id, actor_id, client, at)
    sender: JSON = {"actorId": actor_id}
    if account.identifier is not None:
        sender["deliveryIdentifier"] = account.identifier
    message = Message(
        sim.ids.message(),
        "MESSAGE",
        thread.id,
        created_ms,
        actor_id,
        client,
        [sender],
        [thread.customer],
        _plain(text, rich_text),
        _rich(text, rich_text),
        attachments,
        {"statusType": "SENT"},
        extra={"channelId": thread.channel_id, "channelAccountId": account.id, "direction": "OUTGOING"},
    )
    thread.messages.append(message)
    thread.sent_ms = max(created_ms, thread.sent_ms or 0)
    events.outgoing_message(sim, thread, message, at)
    events.new_message(sim, thread, message, at)
    return message


def comment(
    sim: Simulation,
    thread: Thread,
    actor_id: str,
    *,
    text: str | None,
    rich_text: str | None,
    attachments: list[JSON],
    created_ms: int,
    at: int,
    client: JSON = HUBSPOT,
) -> Message:
    """An internal note: seen in the inbox only, never sent to the customer (facts §5.5)."""
    message = Message(
        sim.ids.message(),
        "COMMENT",
        thread.id,
        created_ms,
        actor_id,
        client,
        [{"actorId": actor_id}],
        [],
        _plain(text, rich_text),
        _rich(text, rich_text) or "",
        attachments,
    )
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


def archive(sim: Simulation, thread: Thread, at: int, *, source: str = "USERS") -> None:
    """Move to the trash: ``conversation.deletion``, no CLOSED (facts §13 item 28)."""
    if not thread.archived:
        thread.archived = True
        events.app_event(sim, thread, "conversation.deletion", at, changeSource=source, changeFlag="DELETED")


def restore(sim: Simulation, thread: Thread, at: int, *, source: str = "USERS") -> None:
    """Take out of the trash: ``isArchived`` = false (facts §6.3)."""
    if thread.archived and not thread.purged:
        thread.archived = False
        events.property_changed(sim, thread, "isArchived", "false", at, source)


def purge(sim: Simulation, thread: Thread, at: int) -> None:
    """Delete for good: ``conversation.deletion``, then ``conversation.privacyDeletion`` (facts §6.1)."""
    if thread.purged:
        return
    thread.archived = thread.purged = True
    thread.messages.clear()
    for kind in ("conversation.deletion", "conversation.privacyDeletion"):
        events.app_event(sim, thread, kind, at, changeSource="USERS", changeFlag="DELETED")


def set_message_status(message: Message, status: str, error: str | None) -> None:
    """A delivery receipt (facts §3.8)."""
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


def _rich(text: str | None, rich_text: str | None) -> str | None:
    """HubSpot's ``richText``: what was given, else the text as HTML."""
    if rich_text is not None:
        return rich_text
    return "<div>" + html.escape(text, quote=False).replace("\n", "<br>") + "</div>" if text else None
