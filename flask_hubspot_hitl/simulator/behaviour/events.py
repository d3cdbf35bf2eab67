"""The events of both webhook feeds: the app's ``conversation.*`` and the channel's.

Shapes: docs/hubspot.rst (Agent messages; Account events), one JSON object with string ids, and
docs/hubspot.rst (Batches), items of an array with number ids.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from ..model.world import JSON, ChannelAccount, Message, Thread, iso
from . import shapes

if TYPE_CHECKING:
    from ..engine.simulation import Simulation


SPARSE = frozenset(
    {"id", "conversationsThreadId", "createdAt", "senders", "text", "richText", "attachments", "direction"}
)
"""What a message of the channel's feed has at the least: what integrations are known to read.

Source: docs/hubspot.rst (Agent messages).
"""

EVENTS_WANT = "conversations.read"
"""The scope that every ``conversation.*`` event wants.

Source: docs/hubspot.rst (Scopes).
"""


def app_event(
    sim: Simulation, thread: Thread, kind: str, at: int, *, property_name: str | None = None, **more: object
) -> None:
    """Queue a ``conversation.*`` event for every app that is subscribed to it, and that the portal lets read threads.

    An installation without the scope ``conversations.read`` is told of no thread.
    """
    world = sim.world
    for app in world.apps.values():
        made = world.installs.get((app.id, thread.portal_id))
        if made is None or EVENTS_WANT not in made.scopes:
            continue
        for subscription in app.subscriptions.values():
            if (subscription.event_type, subscription.property_name) != (kind, property_name):
                continue
            if not subscription.active:
                continue
            named = kind.replace("conversation", sim.chaos.event_prefix, 1)
            event: JSON = {
                "eventId": sim.ids.event(),
                "subscriptionId": int(subscription.id),
                "portalId": int(thread.portal_id),
                "appId": int(app.id),
                "occurredAt": at,
                sim.chaos.event_type_key: named,
                "attemptNumber": 0,
                "objectId": int(thread.id),
                **more,
            }
            if property_name is not None:
                event["propertyName"] = property_name
            sim.deliveries.add(thread.id, "app", app.id, event)


def property_changed(sim: Simulation, thread: Thread, name: str, value: str | None, at: int, source: str) -> None:
    """``conversation.propertyChange``; a value of None is written the way the switch ``unassign_value`` says."""
    more: JSON = {"changeSource": source, "changeFlag": "PROPERTY_CHANGE", "propertyValue": value, "isSensitive": False}
    if value is None:
        form = sim.chaos.unassign_value
        more["propertyValue"] = "" if form == "empty" else None
        if form == "missing":
            del more["propertyValue"]
    app_event(sim, thread, "conversation.propertyChange", at, property_name=name, **more)


def assignee_value(sim: Simulation, actor_id: str | None) -> str | None:
    """An assignee as events name it: the actor id, or an agent's bare user id if ``assignee_form`` says so."""
    if actor_id is not None and actor_id.startswith("A-") and sim.chaos.assignee_form == "bare":
        return actor_id.partition("-")[2]
    return actor_id


def new_message(sim: Simulation, thread: Thread, message: Message, at: int) -> None:
    """``conversation.newMessage``: neither text nor sender, only the message's id and type."""
    more = {"changeFlag": "NEW_MESSAGE", "messageId": message.id, "messageType": message.kind}
    app_event(sim, thread, "conversation.newMessage", at, **more)


def outgoing_message(sim: Simulation, thread: Thread, message: Message, at: int) -> None:
    """``OUTGOING_CHANNEL_MESSAGE_CREATED`` to the channel's webhook; the sender has no name.

    A portal that has removed the channel's app sends none.
    Source: docs/hubspot.rst (Agent messages; Token errors).
    """
    channel = sim.world.channels.get(thread.channel_id)
    if channel is None or channel.archived or not sim.world.installed(channel.app_id, thread.portal_id):
        return
    body = shapes.message(sim, message, of_channel=True)
    if sim.chaos.status_form == "string" and "status" in body:
        body["status"] = body["status"]["statusType"]
    if sim.chaos.sparse_messages:
        body = {key: value for key, value in body.items() if key in SPARSE and value != []}
    event: JSON = {
        "type": "OUTGOING_CHANNEL_MESSAGE_CREATED",
        "portalId": thread.portal_id,
        "channelId": channel.id,
        "eventTimestamp": iso(at),
        "eventId": str(uuid.uuid4()),
        "channelIntegrationThreadIds": [thread.integration_thread_id],
        "message": body,
    }
    if sim.chaos.channel_thread_ids == "empty":
        event["channelIntegrationThreadIds"] = []
    elif sim.chaos.channel_thread_ids == "missing":
        del event["channelIntegrationThreadIds"]
    sim.deliveries.add(thread.id, "channel", channel.id, event)


def account_event(sim: Simulation, account: ChannelAccount, kind: str, at: int) -> None:
    """``CHANNEL_ACCOUNT_CREATED``, ``_UPDATED`` or ``_PURGED`` to the channel's webhook.

    A portal that has removed the channel's app sends none.
    Source: docs/hubspot.rst (Account events; Token errors).
    """
    channel = sim.world.channels.get(account.channel_id)
    if channel is None or not sim.world.installed(channel.app_id, account.portal_id):
        return
    event: JSON = {
        "type": f"CHANNEL_ACCOUNT_{kind}",
        "portalId": account.portal_id,
        "channelId": account.channel_id,
        "eventTimestamp": iso(at),
        "eventId": str(uuid.uuid4()),
        "channelAccountId": account.id,
    }
    if account.identifier is not None:
        whole = sim.chaos.identifier_form == "object"
        event["channelAccountDeliveryIdentifier"] = account.identifier if whole else account.identifier["value"]
    sim.deliveries.add(f"account:{account.id}", "channel", account.channel_id, event)
