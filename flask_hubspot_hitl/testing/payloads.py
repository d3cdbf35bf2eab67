"""Bodies as HubSpot sends them, with the ids of the stand-in's preset; for ``signed_webhook``. Pure.

Sources: HubSpot's documentation of custom channel webhooks (the object) and of global webhooks (items of an array).
"""

from __future__ import annotations

from typing import Any

from ..simulator.model.preset import APP_ID, CHANNEL_ACCOUNT_ID, CHANNEL_ID, PORTAL_ID

Json = dict[str, Any]

THREAD = "6300112233"
AGENT = "A-987"


def app_event(subscription: str = "propertyChange", *, thread: str = THREAD, at: int, **fields: Any) -> Json:
    """An item of the app's feed, ``conversation.<subscription>``; ``at`` in epoch ms. ``fields`` are added last."""
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
    """The thread's status has changed to ``OPEN`` or ``CLOSED``."""
    return app_event(at=at, changeSource="USERS", propertyName="status", propertyValue=value, **fields)


def assigned_event(value: Any, *, at: int, **fields: Any) -> Json:
    """The thread's assignee has changed: an actor id, or empty."""
    return app_event(at=at, changeSource="USERS", propertyName="assignedTo", propertyValue=value, **fields)


def new_message_event(message_id: str, *, at: int, **fields: Any) -> Json:
    """Somebody wrote in the thread; the event does not say what."""
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
    """The channel feed's object for an agent's message; ``message`` is added to its ``message`` last."""
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
