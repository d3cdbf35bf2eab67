"""Build the bodies of what is published, good for every API version.

Pure functions. Of ours it may import only :mod:`.text`; no Flask, no database, no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .text import one_line, scrub


def build_incoming(
    *,
    channel_account_id: str,
    integration_thread_id: str,
    idempotency_id: str,
    text: str,
    timestamp_ms: int,
    sender: Mapping[str, str],
    sender_name: str | None,
    recipient: Mapping[str, str],
    recipient_name: str | None = None,
    attachments: Sequence[Mapping[str, Any]] = (),
    contact_id: str | None = None,
) -> dict[str, Any]:
    """Return the body that publishes a user's message, good for every API version.

    HubSpot OpenAPI, custom channels 2026-09, ``ChannelIntegrationMessageEgg``; everything that any version
    requires is there, ``senderActorId`` (gone in 2026-09) never is. ``sender`` and ``recipient`` are delivery
    identifiers, ``{"type", "value"}``: the user's, from :func:`.contacts.identifier_of` or an
    :func:`opaque` one of ours, and that of the channel account. ``attachments`` come from
    :func:`file_attachment`. ``contact_id`` ties the thread to a CRM contact.
    """
    body: dict[str, Any] = {
        "channelAccountId": channel_account_id,
        "messageDirection": "INCOMING",
        "integrationThreadId": integration_thread_id,
        "integrationIdempotencyId": idempotency_id,
        "text": scrub(text),
        "timestamp": iso_time(timestamp_ms),
        "senders": [_participant(sender, sender_name)],
        "recipients": [_participant(recipient, recipient_name)],
        "attachments": [dict(item) for item in attachments],
    }
    if contact_id:
        body["associateWithContactId"] = int(contact_id)
    return body


def opaque(value: str) -> dict[str, str]:
    """Return a delivery identifier that means something to us only."""
    return {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": value}


def file_attachment(file_id: str, content_type: str | None = None, *, is_voice: bool = False) -> dict[str, Any]:
    """Return an uploaded file as an item of ``attachments`` (HubSpot OpenAPI, ``FileAttachment``)."""
    kind = "voice" if is_voice else (content_type or "").partition("/")[0].lower()
    return {
        "type": "FILE",
        "fileId": str(file_id),
        "fileUsageType": {"image": "IMAGE", "audio": "AUDIO", "voice": "VOICE_RECORDING"}.get(kind, "OTHER"),
    }


def iso_time(ms: int) -> str:
    """Return epoch milliseconds as HubSpot writes times: ``2026-10-01T09:15:30.123Z``."""
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _participant(identifier: Mapping[str, str], name: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"deliveryIdentifier": {key: identifier[key] for key in ("type", "value")}}
    if shown := one_line(name):
        found["name"] = shown
    return found
