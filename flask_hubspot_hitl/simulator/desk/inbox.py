"""What the desk shows of conversations: a row of the inbox, a part of the messages, who wrote what, what is found.

Reads, changes nothing.
"""

from __future__ import annotations

import html
import re

from ..behaviour import people, shapes
from ..engine.simulation import Simulation
from ..model.world import JSON, Message, Thread
from .control_threads import thread_json

MESSAGES_SHOWN = 200
PREVIEW = 120
SIDES = {"A": "agent", "V": "customer", "E": "customer", "I": "app", "S": "system"}
QUOTE = re.compile(r"<blockquote>(.*?)</blockquote>", re.DOTALL)
PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
HANDOFF = re.compile(r"[^.\s]+\.[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""The ``integrationThreadId`` of a handoff of Flask-HubSpot-HITL's, whose first message is a summary for the agents."""


def has(sim: Simulation, thread: Thread, search: str) -> bool:
    """Whether all words of a search are somewhere in a thread: its ids, the customer, the owner, what was said."""
    words = search.casefold().split()
    if not words:
        return True
    contact = sim.world.contacts.get(thread.contact_id)
    owner = actor_name(sim, thread, thread.assigned_to) if thread.assigned_to else ""
    about = [thread.id, thread.contact_id, customer_name(sim, thread), owner]
    about += [str(thread.customer["deliveryIdentifier"]["value"])]
    about += [str(value) for value in (contact.properties if contact else {}).values() if value]
    text = "\n".join([*about, *(message.text for message in thread.messages)]).casefold()
    return all(word in text for word in words)


def unread_of(thread: Thread) -> int:
    """How many of the customer's messages nobody has seen."""
    return sum(place >= thread.seen for place, _ in waiting_for_us(thread))


def latest_ms(thread: Thread) -> int:
    """When something was last said or done in a thread."""
    return max((message.created_ms for message in thread.messages), default=thread.created_ms)


def waiting_for_us(thread: Thread) -> list[tuple[int, Message]]:
    """The customer's messages since an agent last answered, each with its place in the thread."""
    found: list[tuple[int, Message]] = []
    for place, message in enumerate(thread.messages):
        if message.kind != "MESSAGE":
            continue
        if message.extra.get("direction") == "INCOMING":
            found.append((place, message))
        elif message.created_by.startswith("A-"):
            found.clear()
    return found


def customer_name(sim: Simulation, thread: Thread) -> str:
    """The customer by name, else by address."""
    contact = sim.world.contacts.get(thread.contact_id)
    name = thread.customer.get("name") or (people.contact_name(contact) if contact else None)
    return str(name or thread.customer["deliveryIdentifier"]["value"])


def actor_name(sim: Simulation, thread: Thread, actor_id: str) -> str:
    """Anybody by name, else by actor id."""
    if actor_id == thread.customer["actorId"]:
        return customer_name(sim, thread)
    return str((people.actor(sim.world, thread.portal_id, actor_id) or {}).get("name") or actor_id)


def summary(sim: Simulation, thread: Thread) -> JSON:
    """A thread as a row of the inbox."""
    waiting = waiting_for_us(thread)
    last = next((m for m in reversed(thread.messages) if m.kind == "MESSAGE"), None)
    names = [] if last is None else [shapes.attachment(sim, one).get("name") or one["type"] for one in last.attachments]
    return {
        "id": thread.id,
        "portalId": thread.portal_id,
        "customer": customer_name(sim, thread),
        "status": thread.status,
        "archived": thread.archived,
        "purged": thread.purged,
        "assignedTo": thread.assigned_to,
        "assignee": actor_name(sim, thread, thread.assigned_to) if thread.assigned_to else None,
        "unread": sum(place >= thread.seen for place, _ in waiting),
        "waitingSince": waiting[0][1].created_ms if waiting and thread.status == "OPEN" else None,
        "latest": latest_ms(thread),
        "preview": (last.text or ", ".join(names))[:PREVIEW] if last else "",
        "failed": last is not None and (last.status or {}).get("statusType") == "FAILED",
    }


def detail(sim: Simulation, thread: Thread, until: int | None = None) -> JSON:
    """A thread with a part of its messages, each with its author's name and side, and the contact card.

    ``first`` is the number of the first of them, counted from 0, and ``total`` how many there are.
    """
    total = len(thread.messages)
    end = total if until is None else min(max(until, 0), total)
    first = max(end - MESSAGES_SHOWN, 0)
    part = thread.messages[first:end]
    answer = thread_json(sim, thread, part) | summary(sim, thread) | {"first": first, "total": total}
    opening = summary_of(thread)
    for message, shown in zip(part, answer["messages"], strict=True):
        shown["summary"] = message is opening
        shown["quoted"] = quoted(message)
        shown["author"] = author(sim, thread, message, is_summary=message is opening)
        for one in shown.get("attachments", ()):
            stored = sim.world.files.get(str(one.get("fileId")))
            one["picture"] = stored is not None and stored.content_type in PICTURES
        if message.kind == "ASSIGNMENT" and message.extra.get("assignedTo"):
            shown["assignee"] = actor_name(sim, thread, message.extra["assignedTo"])
        if message.kind == "THREAD_INBOX_CHANGE":
            to = sim.world.inboxes.get(message.extra["toInboxId"])
            shown["inbox"] = to.name if to else message.extra["toInboxId"]
    contact = sim.world.contacts.get(thread.contact_id)
    inbox = sim.world.inboxes.get(thread.inbox_id)
    channel = sim.world.channels.get(thread.channel_id)
    ticket = answer["ticket"]
    answer["contact"] = {
        "id": thread.contact_id,
        "known": contact is not None,
        "properties": shapes.given(**contact.properties) if contact else {},
        "identifier": thread.customer["deliveryIdentifier"],
        "inbox": inbox.name if inbox else None,
        "channel": channel.name if channel else None,
        "ticket": thread.ticket_id,
        "priority": ticket["properties"].get("hs_ticket_priority") if ticket else None,
        "notes": [plain_note(one["body"]) for one in ticket["notes"]] if ticket else [],
        "threads": sum(t.contact_id == thread.contact_id for t in sim.world.threads.values()),
    }
    return answer


def quoted(message: Message) -> str | None:
    """What a note quotes, as plain text: an agent may want to copy it, a suggested reply for one."""
    if message.kind != "COMMENT" or (found := QUOTE.search(message.rich_text or "")) is None:
        return None
    lines = re.sub(r"<br\s*/?>|</p>\s*<p>", "\n", found[1])
    return html.unescape(re.sub(r"<[^<>]*>", "", lines)) or None


def plain_note(body: str | None) -> str:
    """A note on a ticket, without its markup."""
    return html.unescape(re.sub(r"<[^>]*>", " ", body or "")).strip()


def summary_of(thread: Thread) -> Message | None:
    """The message that opened a handoff: an app wrote it for the agents, in the visitor's name."""
    first = next((message for message in thread.messages if message.kind == "MESSAGE"), None)
    if first is None or not HANDOFF.fullmatch(thread.integration_thread_id):
        return None
    return first if first.client.get("clientType") == "INTEGRATION" else None


def author(sim: Simulation, thread: Thread, message: Message, *, is_summary: bool = False) -> JSON:
    """Who wrote a message: name, and side (customer, agent, app or system). A summary is the app's."""
    if is_summary:
        app = sim.world.apps.get(str(message.client.get("integrationAppId")))
        return {"name": app.name if app else "the app", "side": "app"}
    prefix = message.created_by.partition("-")[0]
    given = next((sender["name"] for sender in message.senders if sender.get("name")), None)
    name = given or actor_name(sim, thread, message.created_by)
    return {"name": name, "side": SIDES.get(prefix, "system")}
