"""Publishing into a custom channel: idempotency, contact matching, and which thread a message belongs to.

Source: docs/hubspot.rst (Publishing).

Every answer that docs/hubspot.rst (Unknowns) leaves open is a switch. Knows no HTTP; called with the lock held.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import nh3

from ..model.errors import ApiError
from ..model.world import JSON, Channel, ChannelAccount, Contact, Install, Message, Thread, now_ms
from . import events, people, shapes
from .threads import SYSTEM, assign, integration, restore, set_status

if TYPE_CHECKING:
    from ..engine.simulation import Simulation


def refusal(sim: Simulation, where: str, why: str) -> ApiError:
    """What a publish is refused with; the status is a switch, nobody has recorded HubSpot's (open question 7)."""
    problem = ApiError.invalid(where, why)
    problem.status = sim.chaos.refusal_status
    if problem.status != 400:
        problem.body["category"] = {403: "FORBIDDEN", 404: "OBJECT_NOT_FOUND", 409: "CONFLICT"}[problem.status]
    return problem


def check_account(sim: Simulation, made: Install, channel: Channel, account_id: str) -> ChannelAccount:
    """The account a message is published through, if it may be. Raises ApiError."""
    account = sim.world.accounts.get(account_id)
    if account is None or account.portal_id != made.portal_id or account.channel_id != channel.id:
        raise ApiError.invalid("channelAccountId", "no such channel account")
    if account.archived:
        raise refusal(sim, "channelAccountId", "the channel account is archived")
    if not account.authorized or not account.active:
        raise refusal(sim, "channelAccountId", "the channel account is not authorized")
    return account


def check_size(sim: Simulation, egg: JSON) -> None:
    """Length of the texts and number of attachments, where switches limit them. Raises ApiError."""
    limit = sim.chaos.max_text
    for name in ("text", "richText"):
        if limit is not None and len(egg.get(name) or "") > limit:
            raise refusal(sim, name, f"must not be longer than {limit} characters")
    most = sim.chaos.max_attachments
    if most is not None and len(egg.get("attachments") or []) > most:
        raise refusal(sim, "attachments", f"must not be more than {most}")


def repeated(sim: Simulation, account: ChannelAccount, egg: JSON) -> Message | None:
    """The message that was published under the same ``integrationIdempotencyId`` in this account.

    Source: docs/hubspot.rst (Idempotency).
    """
    message_id, at = account.published.get(egg.get("integrationIdempotencyId") or "", ("", 0.0))
    remembered = sim.chaos.remember_publishes_seconds
    if remembered is not None and time.monotonic() - at > remembered:
        return None
    found = sim.world.message(message_id)
    return found[1] if found else None


def publish(sim: Simulation, made: Install, account: ChannelAccount, egg: JSON, created_ms: int) -> Message:
    """Publish a checked ``ChannelIntegrationMessageEgg`` that is not a repetition; returns the message."""
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
        customer["actorId"] if incoming and sim.chaos.created_by == "visitor" else f"I-{made.app_id}",
        integration(made.app_id),
        senders,
        recipients,
        egg["text"],
        nh3.clean(egg["richText"]) if sim.chaos.clean_html and egg.get("richText") else egg.get("richText"),
        egg.get("attachments") or [],
        {"statusType": "RECEIVED" if incoming else "SENT"},
        extra={
            "channelId": account.channel_id,
            "channelAccountId": account.id,
            "direction": egg["messageDirection"],
            **shapes.given(inReplyToId=egg.get("inReplyToId")),
        },
    )
    if egg.get("integrationIdempotencyId") is not None:
        account.published[egg["integrationIdempotencyId"]] = (message.id, time.monotonic())
    if is_new:
        events.app_event(sim, thread, "conversation.creation", now, changeFlag="NEW")
        if sim.chaos.auto_assign:
            assign(sim, thread, sim.chaos.auto_assign, "S-hubspot", SYSTEM, now, source="AUTOMATION_PLATFORM")
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
    """The contact or visitor a message comes from (or goes to), and how to reach him.

    Source: docs/hubspot.rst (Contact matching).
    """
    identifier = other["deliveryIdentifier"]
    contact = _named_contact(sim, made.portal_id, egg, identifier)
    if contact is None and identifier["type"] != "CHANNEL_SPECIFIC_OPAQUE_ID":
        if sim.chaos.unknown_contact == "reject":
            raise refusal(sim, "senders", "no contact matches the delivery identifier")
        if sim.chaos.unknown_contact == "create":
            name = "email" if identifier["type"] == "HS_EMAIL_ADDRESS" else "phone"
            properties = {name: identifier["value"], "firstname": other.get("name")}
            contact = people.make_contact(sim, made.portal_id, properties)
    if contact is not None:
        contact_id = contact.id
    else:
        contact_id = people.visitor_id(sim, made.portal_id, identifier, other.get("name"))
    return contact_id, {"actorId": f"V-{contact_id}", **_participant(other)}


def _named_contact(sim: Simulation, portal_id: str, egg: JSON, identifier: JSON) -> Contact | None:
    """The contact a message is for: named in two ways or found; which of them counts is a switch (open question 20)."""
    resolved = (egg.get("preResolvedContacts") or {}).get("contacts") or []
    named = {
        "associate": egg.get("associateWithContactId"),
        "resolved": resolved[0]["contactVid"] if resolved else None,
    }
    if sim.chaos.contact_precedence == "identifier":
        found = people.find_contact(sim.world, portal_id, identifier)
        if found is not None:
            return found
    first = sim.chaos.contact_precedence
    for name in sorted(named, key=lambda one: one != first):
        if named[name] is not None:
            contact = people.contact(sim.world, portal_id, str(named[name]))
            if contact is None:
                raise ApiError.invalid("associateWithContactId", "no such contact")
            return contact
    return people.find_contact(sim.world, portal_id, identifier)


def _thread_for(
    sim: Simulation, account: ChannelAccount, egg: JSON, customer: JSON, contact_id: str, now: int
) -> tuple[Thread, bool]:
    """The thread a message belongs to, and whether it was made for it (docs/hubspot.rst: Threading)."""
    world, key = sim.world, egg.get("integrationThreadId")
    model = world.channels[account.channel_id].capabilities.get("threadingModel")
    if key is None and model == "DELIVERY_IDENTIFIER":
        identifier = customer["deliveryIdentifier"]
        key = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{account.id}/{identifier['type']}/{identifier['value']}"))
    key = key if key is not None else str(uuid.uuid4())
    there = world.threads.get(world.routes.get((account.id, key), ""))
    if there is not None and not there.purged and _takes(sim, there, egg, now):
        return there, False
    inbox_id = account.inbox_id
    ticket_id = sim.ids.large() if world.inboxes[inbox_id].type == "HELP_DESK" else None
    thread = Thread(
        sim.ids.thread(),
        account.portal_id,
        inbox_id,
        account.channel_id,
        account.id,
        key,
        customer,
        now,
        contact_id,
        ticket_id=ticket_id,
    )
    world.threads[thread.id] = thread
    world.routes[account.id, key] = thread.id
    return thread, True


def _takes(sim: Simulation, thread: Thread, egg: JSON, now: int) -> bool:
    """Whether a closed or archived thread takes one more message, or a new one is made (open question 5)."""
    if thread.archived:
        if sim.chaos.archived_publish == "refuse":
            raise refusal(sim, "integrationThreadId", "the thread is archived")
        if sim.chaos.archived_publish == "new_thread":
            return False
        restore(sim, thread, now, source="SYSTEM")
    incoming = egg["messageDirection"] == "INCOMING"
    return not (incoming and thread.status == "CLOSED" and sim.chaos.closed_publish == "new_thread")
