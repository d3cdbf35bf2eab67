"""Build bodies as HubSpot sends them, with the ids of the stand-in's preset; for ``signed_webhook``. Pure.

Sources: docs/hubspot.rst (Agent messages) for the channel's object, docs/hubspot.rst (Batches; Values) for the items of
the app's array.
"""

from __future__ import annotations

from typing import Any

from ..simulator.model.preset import APP_ID, CHANNEL_ACCOUNT_ID, CHANNEL_ID, PORTAL_ID

Json = dict[str, Any]
"""A JSON object."""

THREAD = "6300112233"
"""The thread of an event, unless told otherwise."""
AGENT = "A-987"
"""The actor id of the agent who writes."""


def app_event(subscription: str = "propertyChange", *, thread: str = THREAD, at: int, **fields: Any) -> Json:
    """Build an item of the app's feed: ``conversation.<subscription>``.

    :param subscription: what follows ``conversation.``: ``propertyChange``, ``newMessage``, ``deletion``, …
    :param thread: HubSpot's id of the thread.
    :param at: when it happened, in epoch milliseconds.
    :param fields: added last, over what is there.
    :returns: the item; HubSpot sends an array of them.
    """
    return {
        "eventId": 3816279340,
        "subscriptionId": 77001,
        "portalId": int(PORTAL_ID),
        "appId": int(APP_ID),
        "occurredAt": at,
        "subscriptionType": f"conversation.{subscription}",
        "attemptNumber": 0,
        "objectId": int(thread),
        **fields,
    }


def status_event(value: str, *, at: int, **fields: Any) -> Json:
    """Build the item that tells of a thread's new status.

    :param value: ``OPEN`` or ``CLOSED``.
    :param at: when it happened, in epoch milliseconds.
    :param fields: as for :func:`app_event`.
    :returns: the item; HubSpot sends an array of them.
    """
    return app_event(at=at, changeSource="USERS", propertyName="status", propertyValue=value, **fields)


def assigned_event(value: Any, *, at: int, **fields: Any) -> Json:
    """Build the item that tells of a thread's new assignee.

    :param value: an actor id such as ``A-987``; empty: nobody.
    :param at: when it happened, in epoch milliseconds.
    :param fields: as for :func:`app_event`.
    :returns: the item; HubSpot sends an array of them.
    """
    return app_event(at=at, changeSource="USERS", propertyName="assignedTo", propertyValue=value, **fields)


def new_message_event(message_id: str, *, at: int, **fields: Any) -> Json:
    """Build the item that tells that somebody wrote in the thread, and not what.

    :param message_id: HubSpot's id of the message.
    :param at: when it happened, in epoch milliseconds.
    :param fields: as for :func:`app_event`.
    :returns: the item; HubSpot sends an array of them.
    """
    more = {"changeFlag": "NEW_MESSAGE", "messageId": message_id, "messageType": "MESSAGE"}
    return app_event("newMessage", at=at, **{**more, **fields})


def channel_event(
    message_id: str = "c0ffee12a5f44c0f9a3d5f6e7a8b9c0d",
    *,
    text: str = "Hi Rosa, I can fix that",
    thread: str = THREAD,
    created: str = "2026-10-01T09:20:10.900Z",
    integration_threads: list[str] | None = None,
    **message: Any,
) -> Json:
    """Build the channel feed's object for an agent's message.

    :param message_id: HubSpot's id of the message.
    :param text: what the agent wrote, in plain text.
    :param thread: HubSpot's id of the thread.
    :param created: when it was written: ISO 8601, in UTC.
    :param integration_threads: our own ids of the thread, as HubSpot repeats them.
    :param message: added last to the object's ``message``, over what is there.
    :returns: the object, which is the whole body.
    """
    return {
        "type": "OUTGOING_CHANNEL_MESSAGE_CREATED",
        "portalId": PORTAL_ID,
        "channelId": CHANNEL_ID,
        "eventTimestamp": created,
        "eventId": "1f6a5a0e-3d53-4b61-8f6d-7a21a1a3b9c4",
        "channelIntegrationThreadIds": integration_threads or [],
        "message": {
            "id": message_id,
            "type": "MESSAGE",
            "channelId": CHANNEL_ID,
            "channelAccountId": CHANNEL_ACCOUNT_ID,
            "conversationsThreadId": thread,
            "createdAt": created,
            "createdBy": AGENT,
            "client": {"clientType": "HUBSPOT"},
            "senders": [{"actorId": AGENT}],
            "recipients": [{"actorId": "V-55512001", "name": "Rosa Vidal"}],
            "text": text,
            "richText": f"<div>{text}</div>",
            "direction": "OUTGOING",
            "truncationStatus": "NOT_TRUNCATED",
            "status": {"statusType": "SENT"},
            "attachments": [],
            "archived": False,
            **message,
        },
    }
