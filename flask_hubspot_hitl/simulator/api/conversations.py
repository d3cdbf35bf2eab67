"""Conversations API: threads, messages, actors, inboxes, channels and accounts, in v3 and 2026-09.

Source: docs/hubspot.rst (Conversations API).
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request

from ..behaviour import people, shapes, threads
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import JSON, Install, Thread, iso, now_ms
from .channel_messages import stored_attachments
from .channels import IDENTIFIER
from .wire import bearer, json_body, moment_ms, on, page, query_bool, query_list

bp = Blueprint("conversations", __name__)

BASES = ("/conversations/v3/conversations", "/conversations/conversations/2026-09")
# v3's document has the assignee under a path of its own (docs/hubspot.rst: Conversations API)
ASSIGNEE = (*BASES, "/conversations/conversations/v3")
BUILT_IN = {"1000": "Live chat", "1001": "Facebook Messenger", "1002": "Email"}


def reader(sim: Simulation) -> Install:
    """Return the caller, who must be allowed to read."""
    return bearer(sim, "conversations.read")


def writer(sim: Simulation) -> Install:
    """Return the caller, who must be allowed to write."""
    return bearer(sim, "conversations.write")


def find_thread(sim: Simulation, portal_id: str, thread_id: str) -> Thread:
    """Return a thread of the portal, archived or not, else answer 404."""
    thread = sim.world.threads.get(thread_id)
    if thread is None or thread.portal_id != portal_id or thread.purged:
        raise ApiError.missing(f"Thread {thread_id[:40]}")
    return thread


def with_ticket() -> bool:
    """Return True when the caller asked for the thread's ticket, the only association that there is."""
    asked = query_list("association")
    if set(asked) - {"TICKET"}:
        raise ApiError.invalid("association", "must be TICKET")
    return bool(asked) and current().chaos.tickets == "ok"


@on(bp, "GET", BASES, "/threads")
def list_threads() -> Any:
    sim = current()
    made = reader(sim)
    inboxes, archived = query_list("inboxId"), query_bool("archived")
    wanted = {name: request.args.get(name) for name in ("threadStatus", "associatedContactId", "associatedTicketId")}
    after = request.args.get("latestMessageTimestampAfter")
    after_ms = None if after is None else moment_ms(after.replace(" ", "+"), "latestMessageTimestampAfter")
    if wanted["threadStatus"] not in (None, "OPEN", "CLOSED"):
        raise ApiError.invalid("threadStatus", "must be OPEN or CLOSED")
    by_time = "latestMessageTimestamp" in query_list("sort")
    if by_time and after_ms is None:
        raise ApiError.invalid("sort", "latestMessageTimestamp needs latestMessageTimestampAfter")

    def latest(thread: Thread) -> int:
        return max(thread.received_ms or 0, thread.sent_ms or 0)

    found = [
        t
        for t in sim.world.threads.values()
        if t.portal_id == made.portal_id
        and not t.purged
        and t.archived == archived
        and (not inboxes or t.inbox_id in inboxes)
        and wanted["threadStatus"] in (None, t.status)
        and wanted["associatedContactId"] in (None, t.contact_id)
        and wanted["associatedTicketId"] in (None, t.ticket_id)
        and (after_ms is None or latest(t) > after_ms)
    ]
    found.sort(key=latest if by_time else lambda thread: int(thread.id))
    ticket = with_ticket()
    return page(found, lambda t: shapes.thread(t, ticket=ticket), page_size=sim.chaos.page_size, total=False)


@on(bp, "GET", BASES, "/threads/<thread_id>")
def get_thread(thread_id: str) -> Any:
    sim = current()
    thread = find_thread(sim, reader(sim).portal_id, thread_id)
    if thread.archived and not query_bool("archived"):
        raise ApiError.missing(f"Thread {thread_id}")
    return shapes.thread(thread, ticket=with_ticket())


@on(bp, "PATCH", BASES, "/threads/<thread_id>")
def update_thread(thread_id: str) -> Any:
    """Close, reopen, or (with ``?archived=true``) restore."""
    sim = current()
    made = writer(sim)
    thread = find_thread(sim, made.portal_id, thread_id)
    body = json_body({"status": frozenset({"OPEN", "CLOSED"}), "archived": bool})
    if thread.archived and not query_bool("archived"):
        raise ApiError.missing(f"Thread {thread_id}")
    if body.get("archived") is False:
        threads.restore(sim, thread, now_ms(), source="INTEGRATION")
    if body.get("status") is not None:
        by, client = f"I-{made.app_id}", threads.integration(made.app_id)
        threads.set_status(sim, thread, body["status"], by, client, now_ms(), source="INTEGRATION")
    return shapes.thread(thread)


@on(bp, "DELETE", BASES, "/threads/<thread_id>")
def archive_thread(thread_id: str) -> Any:
    sim = current()
    thread = find_thread(sim, writer(sim).portal_id, thread_id)
    threads.archive(sim, thread, now_ms(), source="INTEGRATION")
    return "", 204


@on(bp, "PUT", ASSIGNEE, "/threads/<thread_id>/assignee")
def assign(thread_id: str) -> Any:
    sim = current()
    made = writer(sim)
    thread = find_thread(sim, made.portal_id, thread_id)
    actor_id = json_body({"actorId!": str})["actorId"]
    if people.actor(sim.world, made.portal_id, actor_id) is None or not actor_id.startswith("A-"):
        raise ApiError.invalid("actorId", "no such agent")
    by, client = f"I-{made.app_id}", threads.integration(made.app_id)
    threads.assign(sim, thread, actor_id, by, client, now_ms(), source="INTEGRATION")
    return shapes.thread(thread)


@on(bp, "DELETE", ASSIGNEE, "/threads/<thread_id>/assignee")
def unassign(thread_id: str) -> Any:
    sim = current()
    made = writer(sim)
    thread = find_thread(sim, made.portal_id, thread_id)
    by, client = f"I-{made.app_id}", threads.integration(made.app_id)
    threads.assign(sim, thread, None, by, client, now_ms(), source="INTEGRATION")
    return "", 204


# --- messages


@on(bp, "GET", BASES, "/threads/<thread_id>/messages")
def list_messages(thread_id: str) -> Any:
    """List messages, oldest first unless ``sort=-createdAt`` or the switch says so; HubSpot documents no order."""
    sim = current()
    thread = find_thread(sim, reader(sim).portal_id, thread_id)
    found = sorted(thread.messages, key=lambda m: m.created_ms)
    asked = query_list("sort")
    if "-createdAt" in asked or (sim.chaos.messages_order == "newest" and not asked):
        found.reverse()
    return page(found, lambda m: shapes.message(sim, m), page_size=sim.chaos.page_size, total=False)


@on(bp, "GET", BASES, "/threads/<thread_id>/messages/<message_id>")
def get_message(thread_id: str, message_id: str) -> Any:
    sim = current()
    thread = find_thread(sim, reader(sim).portal_id, thread_id)
    for message in thread.messages:
        if message.id == message_id:
            return shapes.message(sim, message)
    raise ApiError.missing("Message")


@on(bp, "GET", BASES, "/threads/<thread_id>/messages/<message_id>/original-content")
def original_content(thread_id: str, message_id: str) -> Any:
    sim = current()
    thread = find_thread(sim, reader(sim).portal_id, thread_id)
    for message in thread.messages:
        if message.id == message_id:
            return shapes.given(text=message.text, richText=message.rich_text)
    raise ApiError.missing("Message")


@on(bp, "POST", BASES, "/threads/<thread_id>/messages")
def send_message(thread_id: str) -> Any:
    """Write a note (COMMENT), or a message as an agent (MESSAGE), which goes out through the channel."""
    sim = current()
    made = writer(sim)
    thread = find_thread(sim, made.portal_id, thread_id)
    spec: JSON = {
        "type!": frozenset({"MESSAGE", "COMMENT"}),
        "text!": str,
        "richText": str,
        "attachments": [{"type!": str}],
    }
    body = json_body(spec)
    by, send = f"I-{made.app_id}", threads.comment
    if body["type"] == "MESSAGE":
        recipient = {"deliveryIdentifiers": [IDENTIFIER], "deliveryIdentifier": IDENTIFIER, "actorId": str, "name": str}
        json_body({"senderActorId!": str, "channelId!": str, "channelAccountId!": str, "recipients!": [recipient]})
        by, send = body["senderActorId"], threads.reply
        if not by.startswith("A-") or people.actor(sim.world, made.portal_id, by) is None:
            raise ApiError.invalid("senderActorId", "must be an agent of this account")
        if (body["channelId"], body["channelAccountId"]) != (thread.channel_id, thread.account_id):
            raise ApiError.invalid("channelAccountId", "is not this thread's channel account")
    elif sim.chaos.notes == "refused":
        raise ApiError(403, "FORBIDDEN", "This account does not take comments on this thread")
    attachments, now = stored_attachments(sim, made.portal_id, body.get("attachments") or []), now_ms()
    client = threads.integration(made.app_id)
    draft = threads.Draft(body["text"], body.get("richText"), attachments, now, now, client)
    return shapes.message(sim, send(sim, thread, by, draft)), 201


# --- actors, inboxes, channels, accounts


@on(bp, "GET", BASES, "/actors/<actor_id>")
def get_actor(actor_id: str) -> Any:
    sim = current()
    found = people.actor(sim.world, reader(sim).portal_id, actor_id)
    if found is None:
        raise ApiError.missing(f"Actor {actor_id[:40]}")
    return found


@on(bp, "POST", BASES, "/actors/batch/read")
def read_actors() -> Any:
    """Read actors in a batch: 207 when some are unknown (docs/hubspot.rst: Actors)."""
    sim = current()
    made = reader(sim)
    started = iso(now_ms())
    wanted = json_body({"inputs!": [str]})["inputs"]
    actors = {one: people.actor(sim.world, made.portal_id, one) for one in wanted}
    answer: JSON = {
        "status": "COMPLETE",
        "results": [found for found in actors.values() if found is not None],
        "startedAt": started,
        "completedAt": iso(now_ms()),
    }
    unknown = [one for one, found in actors.items() if found is None]
    if not unknown:
        return answer
    error: JSON = {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Actors not found"}
    error |= {"context": {"ids": unknown}, "errors": [], "links": {}}
    return {**answer, "numErrors": 1, "errors": [error]}, 207


@on(bp, "GET", BASES, "/inboxes")
def list_inboxes() -> Any:
    sim = current()
    made = reader(sim)
    archived = query_bool("archived")
    found = [i for i in sim.world.inboxes.values() if i.portal_id == made.portal_id and not archived]
    return page(found, shapes.inbox, page_size=sim.chaos.page_size, total=True)


@on(bp, "GET", BASES, "/inboxes/<inbox_id>")
def get_inbox(inbox_id: str) -> Any:
    sim = current()
    made = reader(sim)
    inbox = sim.world.inboxes.get(inbox_id)
    if inbox is None or inbox.portal_id != made.portal_id:
        raise ApiError.missing("Inbox")
    return shapes.inbox(inbox)


def channel_names(sim: Simulation, made: Install) -> dict[str, str]:
    """Return the names of the built-in channels and the app's own."""
    own = {c.id: c.name for c in sim.world.channels.values() if c.app_id == made.app_id and not c.archived}
    return BUILT_IN | own


@on(bp, "GET", BASES, "/channels")
def list_channels() -> Any:
    sim = current()
    found = channel_names(sim, reader(sim)).items()
    return page(found, lambda c: {"id": c[0], "name": c[1]}, page_size=sim.chaos.page_size, total=True)


@on(bp, "GET", BASES, "/channels/<channel_id>")
def get_channel(channel_id: str) -> Any:
    sim = current()
    found = channel_names(sim, reader(sim))
    if channel_id not in found:
        raise ApiError.missing("Channel")
    return {"id": channel_id, "name": found[channel_id]}


@on(bp, "GET", BASES, "/channel-accounts")
def list_accounts() -> Any:
    sim = current()
    made = reader(sim)
    channels, inboxes = query_list("channelId"), query_list("inboxId")
    archived = query_bool("archived")
    found = [
        a
        for a in sim.world.accounts.values()
        if a.portal_id == made.portal_id
        and a.archived == archived
        and (not channels or a.channel_id in channels)
        and (not inboxes or a.inbox_id in inboxes)
    ]
    return page(found, shapes.account, page_size=sim.chaos.page_size, total=True)


@on(bp, "GET", BASES, "/channel-accounts/<account_id>")
def get_account(account_id: str) -> Any:
    sim = current()
    made = reader(sim)
    account = sim.world.accounts.get(account_id)
    if account is None or account.portal_id != made.portal_id:
        raise ApiError.missing("Channel account")
    return shapes.account(account)
