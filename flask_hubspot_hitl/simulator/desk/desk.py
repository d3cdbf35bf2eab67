"""The agent's desk: a shared inbox with a wire view beside it. The page, what it shows, and its live updates.

``static/desk.js`` draws what ``GET /_sim/desk`` answers, asks again whenever ``GET /_sim/desk/live`` (server-sent
events) says so, and acts through the control routes ``/_sim/threads/<id>/<verb>``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, render_template, request

from ..behaviour import people, shapes
from ..engine.journal import Line
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import JSON, Message, Thread
from .control import control_body, deliver_now
from .control_threads import find_thread, thread_json

bp = Blueprint("desk", __name__)

THREADS_SHOWN = 200
LINES_SHOWN = 300
PREVIEW = 120
PING_SECONDS = 10
SIDES = {"A": "agent", "V": "customer", "E": "customer", "I": "app", "S": "system"}


@bp.get("/")
def page() -> str:
    """The page; what is in it comes from ``static/desk.js``."""
    return render_template("desk.html")


@bp.get("/favicon.ico")
def favicon() -> tuple[str, int]:
    """There is none."""
    return "", 204


# --- live updates


@bp.after_app_request
def ring(answer: Response) -> Response:
    """Whatever is not a GET may have changed what the desk shows."""
    if request.method != "GET":
        current().journal.ring()
    return answer


@bp.get("/_sim/desk/live")
def live() -> Response:
    """Server-sent events: ``change`` at once and whenever something changed; a comment line as a sign of life."""
    journal = current().journal

    def events() -> Iterator[str]:
        version = -1
        while True:
            newest = journal.wait(version, PING_SECONDS)
            yield ": here\n\n" if newest == version else f"event: change\ndata: {newest}\n\n"
            version = newest

    return Response(events(), mimetype="text/event-stream")


# --- what the page shows


@bp.get("/_sim/desk")
def view() -> Any:
    """Everything the page shows: the inbox, the thread ``?thread=ID``, and its wire (``?wire=all``: everybody's)."""
    sim = current()
    world = sim.world
    chosen = world.threads.get(request.args.get("thread", ""))
    newest = sorted(world.threads.values(), key=latest_ms, reverse=True)[:THREADS_SHOWN]
    if request.args.get("wire") == "all":
        lines = sim.journal.newest(LINES_SHOWN)
    else:
        lines = [] if chosen is None else sim.journal.newest(LINES_SHOWN, ids_of(sim, chosen))
    return {
        "agents": [shapes.actor(a) | {"portalId": a.portal_id} for p in world.portals for a in world.agents(p)],
        "threads": [summary(sim, thread) for thread in newest],
        "thread": None if chosen is None else detail(sim, chosen),
        "wire": [line_summary(line) for line in lines],
    }


@bp.post("/_sim/desk/threads/<thread_id>/seen")
def seen(thread_id: str) -> Any:
    """Somebody has the thread open: nothing in it is unread."""
    control_body({})
    thread = find_thread(current(), thread_id)
    thread.seen = len(thread.messages)
    return {}


@bp.get("/_sim/desk/wire/<int:number>")
def wire_line(number: int) -> Any:
    """A line of the wire view with headers and bodies."""
    line = find_line(number)
    headers = line.entry["request_headers"] if line.kind == "call" else line.entry["headers"]
    return line_summary(line) | {
        "query": line.entry.get("query") or None,
        "headers": headers,
        "sent": line.sent(),
        "answered": line.entry.get("response_body"),
    }


@bp.post("/_sim/desk/wire/<int:number>/replay")
def replay(number: int) -> Any:
    """Deliver the body of a delivery once more, signed afresh; answers the status."""
    line = find_line(number)
    if line.kind != "delivery":
        raise ApiError.invalid("number", "only deliveries can be replayed")
    entry = line.entry
    [status] = deliver_now(current(), entry["feed"], entry["owner"], entry["body"].encode(), 1)
    return {"status": status}


def find_line(number: int) -> Line:
    """A line of the wire view by its number, else 404."""
    line = current().journal.get(number)
    if line is None:
        raise ApiError.missing("Line")
    return line


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


def detail(sim: Simulation, thread: Thread) -> JSON:
    """A thread with its messages, each with its author's name and side, and the contact card."""
    answer = thread_json(sim, thread) | summary(sim, thread)
    for message, shown in zip(thread.messages, answer["messages"], strict=True):
        shown["author"] = author(sim, thread, message)
        if message.kind == "ASSIGNMENT" and message.extra.get("assignedTo"):
            shown["assignee"] = actor_name(sim, thread, message.extra["assignedTo"])
    contact = sim.world.contacts.get(thread.contact_id)
    inbox = sim.world.inboxes.get(thread.inbox_id)
    channel = sim.world.channels.get(thread.channel_id)
    answer["contact"] = {
        "id": thread.contact_id,
        "known": contact is not None,
        "properties": shapes.given(**contact.properties) if contact else {},
        "identifier": thread.customer["deliveryIdentifier"],
        "inbox": inbox.name if inbox else None,
        "channel": channel.name if channel else None,
        "ticket": thread.ticket_id,
        "threads": sum(t.contact_id == thread.contact_id for t in sim.world.threads.values()),
    }
    return answer


def author(sim: Simulation, thread: Thread, message: Message) -> JSON:
    """Who wrote a message: name, and side (customer, agent, app or system)."""
    prefix = message.created_by.partition("-")[0]
    given = next((sender["name"] for sender in message.senders if sender.get("name")), None)
    name = given or actor_name(sim, thread, message.created_by)
    return {"name": name, "side": SIDES.get(prefix, "system")}


# --- the wire view


def ids_of(sim: Simulation, thread: Thread) -> set[str]:
    """The ids by which a call or a delivery can name a thread, or what belongs to it."""
    ids = {thread.id, thread.integration_thread_id, thread.contact_id}
    for message in thread.messages:
        ids.add(message.id)
        ids |= {str(one.get("fileId")) for one in message.attachments} & sim.world.files.keys()
    return ids


def line_summary(line: Line) -> JSON:
    """A line of the wire view without bodies."""
    entry = line.entry
    common = {"number": line.number, "kind": line.kind, "at": entry["at"], "status": entry["status"]}
    if line.kind == "call":
        return common | {"method": entry["method"], "target": entry["path"], "fault": entry.get("fault")}
    return common | {
        "target": ", ".join(event_names(line.sent())),
        "url": entry["url"],
        "attempt": entry["attempt"],
    }


def event_names(body: Any) -> list[str]:
    """What the events of a delivery are, in short."""
    events = body if isinstance(body, list) else [body]
    return [event_name(event) if isinstance(event, dict) else "not an event" for event in events]


def event_name(event: JSON) -> str:
    """``conversation.propertyChange status=CLOSED`` and the like."""
    name = str(event.get("subscriptionType") or event.get("type") or "not an event")
    if "propertyName" in event:
        return f"{name} {event['propertyName']}={json.dumps(event.get('propertyValue'))}"
    return f"{name} {event['messageType']}" if "messageType" in event else name
