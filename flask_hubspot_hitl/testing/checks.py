"""Compare the host's database with what HubSpot has: ``settle`` and ``assert_nothing_lost``."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask

from ..domain import Author, Handoff, HandoffState, Message, MessageStatus
from ..ledger import Transaction
from ..runtime import get_runtime
from .stand_in import HubSpot, Json, describe_delivery
from .waiting import PATIENCE, wait_until

HANDOFFS = 10_000
"""How many handoffs are compared, the newest first."""
_PUBLISHES = re.compile(r".*/custom-channels/.*/messages")

Said = Mapping[tuple[str, str], int]
"""How often a text was said: thread and text → times."""


def settle(app: Flask, hubspot: HubSpot, *, timeout: float = PATIENCE) -> None:
    """Wait until nothing is on its way: no delivery of HubSpot's, no event or message of the app's.

    What waits for its hour (a timer, the next look at HubSpot) does not count.

    :param app: the app, which must be served.
    :param hubspot: the stand-in that it talks to.
    :param timeout: seconds.
    :raises AssertionError: something was still on its way then; the text names what.
    :raises RuntimeError: the extension is not on the app.
    """
    __tracebackhide__ = True
    left: dict[str, int] = {}

    def is_quiet() -> bool:
        left.clear()
        left.update(_in_flight(app, hubspot))
        before = _size(hubspot)
        return not any(left.values()) and not any(_in_flight(app, hubspot).values()) and before == _size(hubspot)

    def explain() -> str:
        found = ", ".join(f"{count} {name}" for name, count in left.items() if count) or "nothing, but it keeps moving"
        with get_runtime(app).ledger.read() as tx:
            waiting = tx.waiting_events()
        lines = [f"\n  {one['topic']} of thread {one['thread_id']}: {one['error'] or 'not begun'}" for one in waiting]
        return f"Still on their way: {found}{''.join(lines)}\n\n{hubspot.wire()}"

    wait_until(is_quiet, "everything to settle", timeout=timeout, explain=explain)


def _in_flight(app: Flask, hubspot: HubSpot) -> dict[str, int]:
    """Count what is on its way, in this order: what HubSpot delivered is in the database by then."""
    deliveries = hubspot.pending()
    status = _status(app)
    return {
        "delivery(s) of HubSpot's": deliveries,
        "event(s) in the app's database": status["pending"],
        "parked event(s)": status["parked"],
        "lane(s) being worked on": status["leased"],
    }


def _size(hubspot: HubSpot) -> tuple[int, int]:
    return len(hubspot.requests()), len(hubspot.deliveries())


def _status(app: Flask) -> dict[str, Any]:
    ledger = get_runtime(app).ledger
    with ledger.read() as tx:
        return tx.status(now=ledger.now_ms())


def assert_nothing_lost(app: Flask, hubspot: HubSpot, *, allow_failed: bool = False, timeout: float = PATIENCE) -> None:
    """Wait until everything has settled, then compare the app's database with HubSpot's threads.

    Every delivery was accepted in the end; nothing was given up or could not be read; every message of an agent's was
    accepted by all handlers; every message of a user's is in HubSpot once and in order; and both sides agree on who has
    each conversation.

    :param app: the app, which must be served.
    :param hubspot: the stand-in that it talks to.
    :param allow_failed: accept messages that were refused, as long as their author is told.
    :param timeout: seconds.
    :raises AssertionError: something is not so; the text lists everything, with what went over the wire.
    :raises NotConfigured: the app runs without live agents.
    :raises RuntimeError: the extension is not on the app.
    """
    __tracebackhide__ = True
    settle(app, hubspot, timeout=timeout)
    problems = [
        *_unaccepted(hubspot),
        *_given_up(app, allow_failed=allow_failed),
        *_differences(app, hubspot, allow_failed=allow_failed),
    ]
    if problems:
        listed = "\n".join(f"  * {problem}" for problem in problems)
        raise AssertionError(f"something was lost:\n{listed}\n\n{hubspot.wire()}")


def _unaccepted(hubspot: HubSpot) -> Iterator[str]:
    """Find deliveries that no attempt got through."""
    refused: dict[str, Json] = {}
    accepted: set[str] = set()
    for one in hubspot.deliveries():
        key = f"{one['feed']} {one['owner']} " + re.sub(r'"attemptNumber": ?\d+', "", one["body"])
        if one["status"] is not None and 200 <= one["status"] < 300:
            accepted.add(key)
        refused[key] = one
    for key, one in refused.items():
        if key not in accepted:
            yield f"HubSpot's delivery was not accepted: {describe_delivery(one)}"


def _given_up(app: Flask, *, allow_failed: bool) -> Iterator[str]:
    with get_runtime(app).ledger.read() as tx:
        found = tx.dead_events()
    for one in found:
        if one["state"] == "quarantined" or not allow_failed:
            yield f"an event was given up ({one['topic']}, thread {one['thread_id']}): {one['error']}"


def _differences(app: Flask, hubspot: HubSpot, *, allow_failed: bool) -> Iterator[str]:
    """Find differences between the app's handoffs and HubSpot's threads."""
    threads = {one["id"]: one for one in hubspot.threads()}
    newest: set[str] = set()
    with get_runtime(app).ledger.read() as tx:
        handoffs = tx.records.recent(HANDOFFS)
        kept = {one.id: tx.records.messages_of(one.id) for one in handoffs}
        ours = {one.id: _published(tx, one, threads.get(one.thread_id or "")) for one in handoffs}
    said = Counter((one.thread_id or "", text) for one in handoffs for text in _texts(kept[one.id]))
    asked = _asked(hubspot)
    heard = {one.message_id: one for many in kept.values() for one in many if one.author is Author.OPERATOR}
    for handoff in handoffs:  # newest first
        thread = threads.get(handoff.thread_id or "")
        problems = list(_user_side(kept[handoff.id], ours[handoff.id], allow_failed=allow_failed))
        if thread is not None:
            problems += _too_often(thread, set(_texts(kept[handoff.id])), said, asked)
            problems += _agent_side(thread, heard, allow_failed=allow_failed)
            if handoff.conversation_id not in newest:
                problems += _who_has_it(handoff, thread)
        elif handoff.is_open:
            problems.append(f"HubSpot has no thread for its handoff, which is {handoff.state.value}")
        newest.add(handoff.conversation_id)
        yield from (f"{handoff.conversation_id}: {problem}" for problem in problems)


def _of(thread: Json, direction: str) -> list[Json]:
    return [one for one in thread["messages"] if one["type"] == "MESSAGE" and one.get("direction") == direction]


def _published(tx: Transaction, handoff: Handoff, thread: Json | None) -> list[str]:
    """Return the texts that HubSpot has of a handoff's user, in its order, without the opening and the history."""
    there = [] if thread is None else _of(thread, "INCOMING")
    record = tx.records.get(handoff.id)
    known = tx.records.known_hubspot_ids(handoff.id, [str(one["id"]) for one in there])
    known.discard(str(record.opening_id if record else None))
    return [one.get("text") or "" for one in there if one["id"] in known]


def _user_side(kept: list[Message], published: list[str], *, allow_failed: bool) -> Iterator[str]:
    """Check that each of the user's messages is in HubSpot, once, in order."""
    wanted = []
    for one in kept:
        if one.author is not Author.USER:
            continue
        if one.status not in (MessageStatus.FAILED, MessageStatus.QUEUED):
            wanted.append(one.text)
        elif one.status is MessageStatus.QUEUED or not allow_failed:
            yield f"the user's {one.text!r} is {one.status.value}" + (f": {one.error}" if one.error else "")
    if published != wanted:
        yield f"the user wrote {wanted}, and HubSpot has {published}"


def _texts(kept: list[Message]) -> list[str]:
    return [one.text for one in kept if one.author is Author.USER]


def _asked(hubspot: HubSpot) -> Said:
    """Count how many messages each text was meant to become: integration thread and text → idempotency ids.

    A message that is sent again keeps its id. The opening, a history and a note have ids of their own, so one that
    reads as a user's message does is a message more.
    """
    ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for call in hubspot.requests():
        body = call["request_body"]
        is_publish = call["method"] == "POST" and _PUBLISHES.fullmatch(call["path"]) and isinstance(body, dict)
        if is_publish and body.get("integrationIdempotencyId"):
            key = str(body.get("integrationThreadId")), str(body.get("text"))
            ids[key].add(str(body["integrationIdempotencyId"]))
    return {key: len(found) for key, found in ids.items()}


def _too_often(thread: Json, texts: set[str], said: Said, asked: Said) -> Iterator[str]:
    """Find what HubSpot has more often than it was said: a copy has an id that the app never learnt."""
    there = Counter(one.get("text") or "" for one in _of(thread, "INCOMING"))
    for text in sorted(texts):
        once = max(said[thread["id"], text], asked.get((thread["integrationThreadId"], text), 0))
        if there[text] > once:
            times = "twice" if (once, there[text]) == (1, 2) else f"{there[text]} times instead of {once}"
            yield f"HubSpot has the user's {text!r} {times}"


def _agent_side(thread: Json, heard: dict[str, Message], *, allow_failed: bool) -> Iterator[str]:
    """Check that each of the agents' messages was accepted by all handlers."""
    for one in _of(thread, "OUTGOING"):
        if one["client"].get("clientType") != "HUBSPOT":
            continue
        text, mine, status = one.get("text"), heard.get(one["id"]), one.get("status") or {}
        if status.get("statusType") == "FAILED":
            if not allow_failed:
                yield f"the agent's {text!r} failed: {(status.get('failureDetails') or {}).get('errorMessage')}"
        elif mine is None:
            yield f"the agent's {text!r} never reached the app"
        elif mine.status in (MessageStatus.QUEUED, MessageStatus.FAILED):
            yield f"the agent's {text!r} is {mine.status.value} in the app, and the agent is not told"


def _who_has_it(handoff: Handoff, thread: Json) -> Iterator[str]:
    """Check that both sides agree on who has the conversation."""
    changes = [one for one in thread["messages"] if one["type"] == "THREAD_STATUS_CHANGE"]
    reopened = bool(changes) and changes[-1]["newStatus"] == "OPEN" and changes[-1]["createdBy"].startswith("A-")
    over = thread["status"] == "CLOSED" or thread["archived"]
    assigned = thread.get("assignedTo")
    operator = handoff.operator.actor_id if handoff.operator and handoff.state is HandoffState.ASSIGNED else None
    if handoff.is_open and over:
        yield f"HubSpot's thread is over, and the app's handoff is {handoff.state.value}"
    elif handoff.state is HandoffState.CLOSED and reopened and not over:
        yield "the agent reopened the thread, and the app's handoff is closed"
    elif handoff.is_open and assigned != operator:
        yield f"assigned to {assigned} in HubSpot, and to {operator} in the app"
