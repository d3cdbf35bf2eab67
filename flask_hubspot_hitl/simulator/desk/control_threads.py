"""What an agent does with a thread: ``/_sim/threads/<id>/<verb>``, and how the desk sees threads. JSON only."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

from flask import Blueprint

from ..api import files
from ..api.wire import LATEST_MS, check, moment_ms
from ..behaviour import beginnings, people, records, shapes, threads
from ..engine.simulation import Simulation, current
from ..model import preset
from ..model.errors import ApiError
from ..model.world import JSON, Message, Thread, now_ms
from .control import control_body

bp = Blueprint("control_threads", __name__, url_prefix="/_sim/threads")

NEW_FILE = {"name!": str, "contentType": str, "content!": str}
KNOWN_FILE = {"type": frozenset({"FILE"}), "fileId": str, "name": str, "url": str, "fileUsageType": str}
MOST_AT_ONCE = 100_000
# what a verb takes besides actorId, createdAt and occurredAt
VERBS: dict[str, JSON] = {
    "reply": {"text": str, "richText": str, "attachments": [{}], "inlineImages": [NEW_FILE]},
    "comment": {"text": str, "richText": str, "attachments": [{}]},
    "welcome": {"text!": str},
    "move": {"inboxId!": str},
    "associate": {"contactId!": str},
    **{verb: {} for verb in ("assign", "unassign", "close", "reopen", "archive", "restore", "purge")},
}


def thread_json(sim: Simulation, thread: Thread, messages: Sequence[Message] | None = None) -> JSON:
    """``PublicThread`` with its messages (or some of them) and what only the stand-in knows."""
    return shapes.thread(thread, ticket=True) | {
        "portalId": thread.portal_id,
        "integrationThreadId": thread.integration_thread_id,
        "customer": thread.customer,
        "purged": thread.purged,
        "ticket": records.ticket_of(sim.world, thread),
        "messages": [shapes.message(sim, message) for message in (thread.messages if messages is None else messages)],
    }


@bp.get("")
def list_threads() -> Any:
    """Every thread of every portal, oldest first."""
    sim = current()
    return [thread_json(sim, thread) for thread in sim.world.threads.values()]


@bp.post("")
def make_threads() -> Any:
    """Make ``count`` open threads in the preset inbox, each with a customer's first message's time; answer their ids.

    They are our channel's, or those of ``channelId`` (1000: live chat). ``messages``: how many each has, the customer's
    and an agent's by turns. For tests with many; no event tells of them.
    """
    sim = current()
    body = control_body({"count!": int, "channelId": str, "messages": int})
    many = body.get("messages") or 0
    if not 1 <= body["count"] <= MOST_AT_ONCE or not 0 <= body["count"] * many <= MOST_AT_ONCE:
        raise ApiError.invalid("count", f"must be 1 to {MOST_AT_ONCE}, and so must all messages together")
    now, made = now_ms(), []
    agent = sim.world.agents(preset.PORTAL_ID)[0].id
    for _ in range(body["count"]):
        name = sim.ids.thread()
        account = body.get("channelId", preset.CHANNEL_ACCOUNT_ID)
        place = (preset.PORTAL_ID, preset.INBOX_ID, body.get("channelId", preset.CHANNEL_ID), account)
        customer = {"actorId": f"V-{name}", "deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": name}}
        thread = Thread(name, *place, f"bulk.{name}", customer, now, name, received_ms=now)
        thread.messages += [bulk_message(sim, thread, number, agent, now - many + number) for number in range(many)]
        sim.world.threads[name] = thread
        made.append(name)
    return {"ids": made}, 201


@bp.post("/begin")
def begin() -> Any:
    """Begin a conversation as an agent does; ``to`` is a contact's phone number or e-mail address."""
    sim = current()
    body = control_body({"to!": str, "text!": str, "actorId": str, "channelAccountId": str, "createdAt": str})
    actor_id = body.get("actorId") or sim.world.agents(preset.PORTAL_ID)[0].id
    portals = [one.portal_id for one in sim.world.actors.values() if one.id == actor_id and one.type == "AGENT"]
    if not portals:
        raise ApiError.invalid("actorId", "no such agent")
    account = beginnings.account_for(sim, portals[0], body.get("channelAccountId"))
    at = moment_ms(body["createdAt"], "createdAt") if body.get("createdAt") else now_ms()
    if not body["text"].strip():
        raise ApiError.invalid("text", "is needed")
    said = beginnings.begin(sim, account, body["to"].strip(), actor_id, threads.Draft(body["text"], None, [], at, at))
    return thread_json(sim, find_thread(sim, said.thread_id)), 201


def bulk_message(sim: Simulation, thread: Thread, number: int, agent: str, at: int) -> Message:
    """One of many messages, counted from 0: every second one is the agent's."""
    incoming = number % 2 == 0
    direction = {"channelId": thread.channel_id, "direction": "INCOMING" if incoming else "OUTGOING"}
    by, text = (thread.customer["actorId"] if incoming else agent), f"Message {number + 1} of {thread.id}"
    made = Message(sim.ids.message(), "MESSAGE", thread.id, at, by, threads.HUBSPOT, text=text, extra=direction)
    made.status = {"statusType": "RECEIVED" if incoming else "SENT"}
    return made


@bp.get("/<thread_id>")
def get_thread(thread_id: str) -> Any:
    sim = current()
    return thread_json(sim, find_thread(sim, thread_id))


def find_thread(sim: Simulation, thread_id: str) -> Thread:
    """A thread by id, else 404."""
    if thread_id not in sim.world.threads:
        raise ApiError.missing("Thread")
    return sim.world.threads[thread_id]


@bp.post("/<thread_id>/<verb>")
def act(thread_id: str, verb: str) -> Any:
    """Do with a thread what an agent does. ``createdAt`` (ISO) and ``occurredAt`` (epoch ms) set the times."""
    sim = current()
    thread = find_thread(sim, thread_id)
    if verb not in VERBS:
        raise ApiError.missing("Verb")
    body = control_body({"actorId": str, "createdAt": str, "occurredAt": int} | VERBS[verb])
    actor_id = body.get("actorId") or sim.world.agents(thread.portal_id)[0].id
    if not re.fullmatch(r"[A-Z]-\S{1,100}", actor_id):
        raise ApiError.invalid("actorId", "must be an actor id such as A-987")
    occurred, created = body.get("occurredAt"), body.get("createdAt")
    if occurred is not None and not 0 <= occurred <= LATEST_MS:
        raise ApiError.invalid("occurredAt", "must be epoch milliseconds")
    created_ms = moment_ms(created, "createdAt") if created else occurred if occurred is not None else now_ms()
    at = occurred if occurred is not None else created_ms
    if verb in ("reply", "comment"):
        write = threads.reply if verb == "reply" else threads.comment
        return shapes.message(sim, write(sim, thread, actor_id, draft(sim, thread, body, created_ms, at)))
    if verb == "welcome":
        return shapes.message(sim, threads.welcome(sim, thread, body["text"], at))
    change(sim, thread, verb, body, actor_id, at)
    return thread_json(sim, thread)


def change(sim: Simulation, thread: Thread, verb: str, body: JSON, actor_id: str, at: int) -> None:
    """Change a thread by a verb that writes no message; ``at`` in epoch ms."""
    if verb in ("assign", "unassign"):
        threads.assign(sim, thread, actor_id if verb == "assign" else None, actor_id, threads.HUBSPOT, at)
    elif verb in ("close", "reopen"):
        status = "CLOSED" if verb == "close" else "OPEN"
        threads.set_status(sim, thread, status, actor_id, threads.HUBSPOT, at)
    elif verb == "move":
        inbox = sim.world.inboxes.get(body["inboxId"])
        if inbox is None or inbox.portal_id != thread.portal_id:
            raise ApiError.invalid("inboxId", "no such inbox")
        threads.move(sim, thread, inbox.id, actor_id, at)
    elif verb == "associate":
        contact = people.contact(sim.world, thread.portal_id, body["contactId"])
        if contact is None:
            raise ApiError.invalid("contactId", "no such contact")
        threads.associate(thread, contact.id)
    else:
        {"archive": threads.archive, "restore": threads.restore, "purge": threads.purge}[verb](sim, thread, at)


def draft(sim: Simulation, thread: Thread, body: JSON, created_ms: int, at: int) -> threads.Draft:
    """What a reply or a comment says. Inline images go into the rich text and nowhere else.

    Source: docs/hubspot.rst (Agent messages).
    """
    attachments = [attachment(sim, thread, item) for item in body.get("attachments") or []]
    rich_text = body.get("richText")
    for item in body.get("inlineImages") or []:
        stored = sim.world.files[attachment(sim, thread, item, access="PUBLIC_NOT_INDEXABLE")["fileId"]]
        rich_text = f'{rich_text or threads.rich(body.get("text")) or ""}<img src="{shapes.file_url(sim, stored)}">'
    if not (body.get("text") or rich_text or attachments):
        raise ApiError.invalid("text", "text, richText, attachments or inlineImages are needed")
    return threads.Draft(body.get("text"), rich_text, attachments, created_ms, at)


def attachment(sim: Simulation, thread: Thread, item: JSON, *, access: str = "PRIVATE") -> JSON:
    """An agent's attachment: as it is, or ``{name, contentType, content}`` (base64), stored as a file."""
    if "content" not in item:
        if item.get("type", "FILE") != "FILE":  # LOCATION, CONTACT, … and whatever HubSpot may think of
            check(item, {"type!": str}, "attachments")
            return item
        check(item, KNOWN_FILE, "attachments")
        return {"type": "FILE", "fileId": "0", "fileUsageType": "OTHER", **item}
    check(item, NEW_FILE, "attachments")
    try:
        content = base64.b64decode(item["content"], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError.invalid("attachments", "content must be base64") from None
    content_type = item.get("contentType") or "application/octet-stream"
    stored = files.store(
        sim,
        thread.portal_id,
        name=item["name"],
        content_type=content_type,
        content=content,
        access=access,
        folder=f"/conversations/{thread.id}",
    )
    return {"type": "FILE", "fileId": stored.id, "fileUsageType": shapes.usage_type(content_type)}
