"""The agent's desk: a shared inbox with a wire view beside it. The page, what it shows, and its live updates.

``static/desk.js`` draws what ``GET /_sim/desk`` answers, asks again whenever ``GET /_sim/desk/live`` (server-sent
events) says so, and acts through the control routes ``/_sim/threads/<id>/<verb>``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, render_template, request, send_from_directory

from ..behaviour import beginnings, people, shapes
from ..engine.journal import Line
from ..engine.simulation import Simulation, current
from ..model.errors import ApiError
from ..model.world import JSON, Thread, now_ms
from .control import control_body, deliver_now
from .control_threads import find_thread
from .curl import curl
from .inbox import detail, has, summary, unread_of

bp = Blueprint("desk", __name__)

DESIGN = Path(__file__).parents[2] / "design"
STARTED = now_ms()
THREADS_SHOWN = 5_000
LINES_SHOWN = 300
PEOPLE_SHOWN = 50
SEARCH_LIMIT = 200
PING_SECONDS = 10
MACHINE = 77
"""The number of the machines that the page offers as owners."""


@bp.get("/")
def page() -> str:
    """The page; what is in it comes from ``static/desk.js``."""
    return render_template("desk.html")


@bp.get("/static/design/<name>")
def design(name: str) -> Response:
    """The stylesheet and the module that all pages share."""
    return send_from_directory(DESIGN, name)


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
    """Everything the page shows: the inbox, the thread ``?thread=ID``, and its wire (``?wire=all``: everybody's).

    ``?search=WORDS`` leaves the threads that have them anywhere. Of a thread's messages come at most
    ``MESSAGES_SHOWN``: the newest, or those before number ``?until=N``.
    """
    sim = current()
    world = sim.world
    chosen = world.threads.get(request.args.get("thread", ""))
    search = request.args.get("search", "").strip()[:SEARCH_LIMIT]
    summaries = [summary(sim, thread) for thread in world.threads.values() if has(sim, thread, search)]
    unread = sum(one["unread"] for one in summaries) if not search else sum(map(unread_of, world.threads.values()))
    if request.args.get("wire") == "all":
        lines = sim.journal.newest(LINES_SHOWN)
    else:
        lines = [] if chosen is None else sim.journal.newest(LINES_SHOWN, ids_of(sim, chosen))
    return {
        "started": STARTED,
        "agents": [shapes.actor(a) | {"portalId": a.portal_id} for p in world.portals for a in world.agents(p)],
        "machines": [{"id": f"{prefix}-{MACHINE}", "name": name} for prefix, (_, name) in people.MACHINES.items()],
        "inboxes": [{"id": one.id, "name": one.name, "portalId": one.portal_id} for one in world.inboxes.values()],
        "search": search,
        "threads": sorted(summaries, key=lambda one: one["latest"], reverse=True)[:THREADS_SHOWN],
        "unread": unread,
        "people": people_of(sim),
        "thread": None if chosen is None else detail(sim, chosen, request.args.get("until", type=int)),
        "wire": [line_summary(line) for line in lines],
    }


def people_of(sim: Simulation) -> list[JSON] | None:
    """Whom agents may begin a conversation with, the newest contacts; None where no channel lets them."""
    if not any(beginnings.allows(channel) for channel in sim.world.channels.values()):
        return None
    known = [one for one in sim.world.contacts.values() if not one.archived and one.merged_into is None]
    reached = [(one, one.properties.get("email") or one.properties.get("phone")) for one in reversed(known)]
    return [{"to": to, "name": people.contact_name(one)} for one, to in reached if to][:PEOPLE_SHOWN]


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
        "curl": curl(current(), line),
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
