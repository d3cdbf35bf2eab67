"""How the world's things look as JSON, by HubSpot's OpenAPI schemas. Reads, changes nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..model.folders import Folder
from ..model.world import JSON, Actor, Channel, ChannelAccount, File, Inbox, Message, Thread, iso, now_ms

if TYPE_CHECKING:
    from ..engine.simulation import Simulation

LINK_SECONDS = 7 * 24 * 3600


def given(**values: Any) -> JSON:
    """The values that are not None: HubSpot leaves optional properties out."""
    return {key: value for key, value in values.items() if value is not None}


def time_of(ms: int | None) -> str | None:
    """An optional time."""
    return None if ms is None else iso(ms)


def iso_now() -> str:
    """The time now."""
    return iso(now_ms())


def channel(item: Channel) -> JSON:
    """``PublicChannelIntegrationChannel``."""
    return given(
        id=item.id,
        name=item.name,
        capabilities=item.capabilities,
        createdAt=iso(item.created_ms),
        webhookUrl=item.webhook_url,
        channelAccountConnectionRedirectUrl=item.redirect_url,
        channelDescription=item.description,
        channelLogoUrl=item.logo_url,
    )


def account(item: ChannelAccount) -> JSON:
    """``PublicChannelAccount``."""
    return given(
        id=item.id,
        channelId=item.channel_id,
        inboxId=item.inbox_id,
        name=item.name,
        active=item.active,
        authorized=item.authorized,
        archived=item.archived,
        createdAt=iso(item.created_ms),
        archivedAt=time_of(item.archived_ms),
        deliveryIdentifier=item.identifier,
    )


def inbox(item: Inbox) -> JSON:
    """``PublicInbox``."""
    made = iso(item.created_ms)
    return {"id": item.id, "name": item.name, "type": item.type} | {
        "createdAt": made,
        "updatedAt": made,
        "archived": False,
    }


def actor(item: Actor) -> JSON:
    """``PublicActor``."""
    return given(id=item.id, type=item.type, name=item.name, email=item.email)


def thread(item: Thread, *, ticket: bool = False) -> JSON:
    """``PublicThread``; ``threadAssociations`` only when asked for."""
    times = [ms for ms in (item.received_ms, item.sent_ms) if ms is not None]
    return given(
        id=item.id,
        status=item.status,
        inboxId=item.inbox_id,
        associatedContactId=item.contact_id,
        originalChannelId=item.channel_id,
        originalChannelAccountId=item.account_id,
        createdAt=iso(item.created_ms),
        closedAt=time_of(item.closed_ms),
        latestMessageTimestamp=time_of(max(times, default=None)),
        latestMessageReceivedTimestamp=time_of(item.received_ms),
        latestMessageSentTimestamp=time_of(item.sent_ms),
        assignedTo=item.assigned_to,
        spam=False,
        archived=item.archived,
        threadAssociations=given(associatedTicketId=item.ticket_id) if ticket else None,
    )


def channel_id_of(sim: Simulation, item: Message) -> str:
    """A message's id in the channel's feed and API: usually the one it has in the Conversations API, too."""
    return item.id if sim.chaos.feed_ids == "same" else f"ch{item.id[::-1]}"


def message(sim: Simulation, item: Message, *, of_channel: bool = False) -> JSON:
    """``PublicMessage``, any of its kinds; ``of_channel``: ``PublicConversationsMessage``, MESSAGE only."""
    answer = given(
        id=channel_id_of(sim, item) if of_channel else item.id,
        type=item.kind,
        conversationsThreadId=item.thread_id,
        createdAt=iso(item.created_ms),
        updatedAt=time_of(item.updated_ms),
        createdBy=item.created_by,
        client=item.client,
        senders=item.senders,
        recipients=item.recipients,
        archived=False,
        **item.extra,
    )
    if item.kind in ("MESSAGE", "COMMENT", "WELCOME_MESSAGE"):
        answer["text"] = item.text
        if item.rich_text is not None:
            answer["richText"] = item.rich_text
    if item.kind in ("MESSAGE", "COMMENT"):
        answer["attachments"] = [attachment(sim, one) for one in item.attachments]
    if item.kind == "MESSAGE":
        answer["truncationStatus"] = "NOT_TRUNCATED"
        answer["status"] = item.status
        limit = sim.chaos.truncate_at
        if limit is not None and max(len(item.text), len(item.rich_text or "")) > limit:
            answer |= {"truncationStatus": "TRUNCATED", "text": item.text[:limit]}
            if item.rich_text is not None:
                answer["richText"] = item.rich_text[:limit]
    return answer


def attachment(sim: Simulation, item: JSON) -> JSON:
    """An attachment; a FILE gets the signed link agents' clients get, unless ``attachment_url`` is off."""
    answer = dict(item)
    stored = sim.world.files.get(str(item.get("fileId"))) if item.get("type") == "FILE" else None
    if stored is not None:
        answer.setdefault("name", full_name(stored))
        gate = f"{sim.base_url}/filemanager/api/v2/files/{stored.id}/signed-url-redirect?portalId={stored.portal_id}"
        links = {"private": file_url(sim, stored), "gated": gate}
        signed = signed_url(sim, stored, now_ms() // 1000 + LINK_SECONDS)
        answer.setdefault("url", links.get(str(sim.chaos.attachment_url), signed))
    if sim.chaos.attachment_url is False and item.get("type") == "FILE":
        answer.pop("url", None)
    return answer


def full_name(item: File) -> str:
    """A file's name with its extension."""
    return f"{item.name}.{item.extension}" if item.extension else item.name


def usage_type(content_type: str) -> str:
    """``fileUsageType`` for a content type."""
    return {"image": "IMAGE", "audio": "AUDIO"}.get(content_type.partition("/")[0], "OTHER")


def file_kind(content_type: str) -> str:
    """``File.type`` for a content type."""
    kind, _, rest = content_type.partition("/")
    document = kind == "text" or "pdf" in rest or "document" in rest
    return {"image": "IMG", "audio": "AUDIO", "video": "MOVIE"}.get(kind, "DOCUMENT" if document else "OTHER")


def file_url(sim: Simulation, item: File) -> str:
    """Where the stand-in serves a file; only public files answer there without a signature."""
    return f"{sim.base_url}/hubfs/{item.portal_id}/{item.id}/{quote(full_name(item), safe='')}"


def file_signature(sim: Simulation, item: File, expires: int) -> str:
    """The signature of a file's link."""
    source = f"sim-file-key:{sim.chaos.link_key}:{item.portal_id}:{item.id}:{expires}:{item.created_ms}"
    return hashlib.sha256(source.encode()).hexdigest()


def signed_url(sim: Simulation, item: File, expires: int) -> str:
    """A link that lets anybody read the file until ``expires`` (epoch seconds)."""
    return f"{file_url(sim, item)}?Expires={expires}&Signature={file_signature(sim, item, expires)}"


def file(sim: Simulation, item: File) -> JSON:
    """``File``."""
    url = file_url(sim, item)
    return given(
        id=item.id,
        name=item.name,
        extension=item.extension,
        type=file_kind(item.content_type),
        size=len(item.content),
        path=file_path(item),
        parentFolderId=folder_id(sim, item.portal_id, item.folder),
        url=url,
        defaultHostingUrl=url,
        access=item.access,
        isUsableInContent=item.usable,
        fileMd5=hashlib.md5(item.content, usedforsecurity=False).hexdigest(),
        sourceGroup="CONVERSATIONS",
        expiresAt=item.expires_ms,
        archived=item.archived,
        createdAt=iso(item.created_ms),
        updatedAt=iso(item.updated_ms or item.created_ms),
    )


def file_path(item: File) -> str:
    """Where a file lies in the file manager."""
    return f"{item.folder.rstrip('/')}/{full_name(item)}"


def folder_id(sim: Simulation, portal_id: str, path: str) -> str | None:
    """The id of the folder with a path; None for the top."""
    for one in sim.world.folders.values():
        if one.portal_id == portal_id and one.path == path and not one.archived:
            return one.id
    return None


def folder(sim: Simulation, item: Folder) -> JSON:
    """``Folder``."""
    return given(
        id=item.id,
        name=item.name,
        path=item.path,
        parentFolderId=folder_id(sim, item.portal_id, item.parent),
        archived=item.archived,
        createdAt=iso(item.created_ms),
        updatedAt=iso(item.updated_ms),
    )
