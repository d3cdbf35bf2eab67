"""What the agent's desk is given: the inbox, a thread with its contact, the wire view, and the live updates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from flask_hubspot_hitl import simulator
from flask_hubspot_hitl.simulator.engine.journal import LIMIT, Journal

from .simulator_helpers import CC, CV, Host, Stand, person, running, until

STATIC = Path(simulator.__file__).parent / "static"


@pytest.fixture(scope="module")
def shared_stand() -> Iterator[Stand]:
    with running() as (process, base):
        yield Stand(process, base)


@pytest.fixture
def stand(shared_stand: Stand) -> Stand:
    """A stand-in, as after a reset."""
    shared_stand.sim("POST", "reset", {})
    return shared_stand


@pytest.fixture
def host(stand: Stand) -> Iterator[Host]:
    """A host's webhook, set as the target of both feeds."""
    made = Host()
    stand.sim("PUT", "target", {"url": made.url})
    yield made
    made.close()


def view(stand: Stand, thread_id: str = "", **query: str) -> Any:
    """What the page asks for."""
    return stand.ok("GET", "/_sim/desk", params={"thread": thread_id, **query})


def test_the_page_has_no_inline_script_and_its_modules_parse_no_html(stand: Stand) -> None:
    page = stand.http.get(f"{stand.base}/", timeout=30)
    assert page.status_code == 200
    assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|(src|href)=\"(https?:)?//", page.text)
    names = sorted(path.name for path in STATIC.iterdir())
    assert {"desk.js", "wire.js", "desk.css"} <= set(names)
    answers = [page, *(stand.http.get(f"{stand.base}/static/{name}", timeout=30) for name in names)]
    for answer in answers:
        assert answer.status_code == 200
        policy = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"
        assert answer.headers["Content-Security-Policy"] == policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    parses = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://(?!www\.w3\.org/)"
    for answer in answers[1:]:
        assert not re.search(parses, answer.text)


def test_the_inbox_counts_what_is_unread_and_since_when_somebody_waits(stand: Stand) -> None:
    first = "2026-01-02T03:04:05.006Z"
    thread_id = stand.publish("Hello", timestamp=first)["conversationsThreadId"]
    stand.publish("Anybody there?", timestamp="2026-01-02T03:05:05.006Z")
    other = stand.publish("Later", "conv-2")["conversationsThreadId"]
    newest, row = view(stand)["threads"]
    assert newest["id"] == other
    assert (row["customer"], row["preview"], row["unread"]) == ("Rosa Vidal", "Anybody there?", 2)
    assert row["waitingSince"] == 1767323045006
    stand.sim("POST", f"desk/threads/{thread_id}/seen", {})
    assert view(stand)["threads"][1]["unread"] == 0
    assert view(stand)["threads"][1]["waitingSince"] == 1767323045006  # read is not answered
    stand.act(thread_id, "comment", text="I take this")
    assert view(stand)["threads"][0]["waitingSince"] is not None
    stand.act(thread_id, "reply", text="Here I am")
    assert view(stand)["threads"][0]["waitingSince"] is None
    stand.publish("Thanks")
    assert view(stand)["threads"][0]["unread"] == 1
    stand.act(thread_id, "close")
    row = next(one for one in view(stand)["threads"] if one["id"] == thread_id)
    assert (row["status"], row["waitingSince"]) == ("CLOSED", None)


def test_a_thread_says_who_wrote_what_and_whose_contact_it_is(stand: Stand) -> None:
    thread_id = stand.publish("Hello")["conversationsThreadId"]
    note = {"type": "COMMENT", "text": "Said before", "attachments": []}
    stand.ok("POST", f"{CV}/threads/{thread_id}/messages", json=note)
    stand.act(thread_id, "assign", actorId="A-988")
    stand.act(thread_id, "reply", actorId="A-987", text="Hi")
    thread = view(stand, thread_id)["thread"]
    authors = [(m["type"], m["author"]["side"], m["author"]["name"]) for m in thread["messages"]]
    assert authors == [
        ("MESSAGE", "customer", "Rosa Vidal"),
        ("COMMENT", "app", "Flask HubSpot HITL"),
        ("ASSIGNMENT", "agent", "Teo Lindqvist"),
        ("MESSAGE", "agent", "Noor Haddad"),
    ]
    assert thread["messages"][2]["assignee"] == "Teo Lindqvist"
    assert thread["assignee"] == "Teo Lindqvist"
    card = thread["contact"]
    assert (card["known"], card["properties"]["phone"], card["inbox"]) == (True, "+34911222333", "Inbox")
    unknown = stand.publish("Hi", "conv-2", senders=[person("nobody@example.test")])["conversationsThreadId"]
    stranger = view(stand, unknown)["thread"]
    assert (stranger["customer"], stranger["contact"]["known"]) == ("nobody@example.test", False)
    assert view(stand, "404")["thread"] is None


def test_agents_can_be_renamed_and_lose_their_name(stand: Stand) -> None:
    stand.sim("PUT", "agents/A-987", {"name": "N. Haddad"})
    [agent] = [one for one in view(stand)["agents"] if one["id"] == "A-987"]
    assert (agent["name"], agent["email"]) == ("N. Haddad", "noor@acme.test")
    stand.sim("PUT", "agents/A-987", {"name": None})
    [agent] = [one for one in view(stand)["agents"] if one["id"] == "A-987"]
    assert "name" not in agent
    stand.sim("PUT", "agents/A-990", {"name": "Ines Duarte"})
    assert [one["id"] for one in view(stand)["agents"]] == ["A-987", "A-988", "A-990"]
    for actor_id in ("V-1", "A-x", "A-0"):
        refused = stand.http.put(f"{stand.base}/_sim/agents/{actor_id}", json={"name": "x"}, timeout=30)
        assert refused.status_code == 404


def targets(lines: list[dict[str, Any]]) -> list[tuple[str, str, int | None]]:
    """Lines of the wire view in short."""
    return [(one.get("method", "webhook"), one["target"], one["status"]) for one in lines]


def closed_at_last(line: dict[str, Any]) -> bool:
    """Whether a line is the delivery of the end, and was taken."""
    return 'status="CLOSED"' in line["target"] and line["status"] in (200, 204)


def test_the_wire_view_has_the_calls_and_deliveries_of_a_thread_in_order(stand: Stand, host: Host) -> None:
    message = stand.publish("Hello")
    thread_id = message["conversationsThreadId"]
    until(lambda: len(view(stand, thread_id)["wire"]) == 2)
    stand.publish("Somebody else", "conv-2", senders=[person("amir@example.test")])
    reply = stand.act(thread_id, "reply", text="Hi")
    until(lambda: stand.ok("GET", "/_sim/pending")["deliveries"] == 0)  # the failure is for the end
    host.answers = [500, 204]
    stand.sim("POST", "chaos", {"retry_delays": [0.05]})
    stand.act(thread_id, "close")
    until(lambda: closed_at_last(view(stand, thread_id)["wire"][-1]))
    receipt = {"statusType": "FAILED", "errorMessage": "gone"}
    stand.ok("PATCH", f"{CC}/{stand.channel}/messages/{reply['id']}", json=receipt)
    refused = stand.egg("again") | {"messageDirection": "SIDEWAYS"}
    stand.call("POST", f"{CC}/{stand.channel}/messages", json=refused)
    publish = ("POST", f"{CC}/{stand.channel}/messages")
    lines = view(stand, thread_id)["wire"]
    assert targets(lines)[:2] == [
        (*publish, 201),
        ("webhook", "conversation.creation, conversation.newMessage MESSAGE", 200),
    ]
    events = " ".join(target for method, target, _ in targets(lines) if method == "webhook")
    assert re.search('assignedTo="A-987".*OUTGOING_CHANNEL_MESSAGE_CREATED.*newMessage.*status="CLOSED"', events)
    assert 500 in [status for _, _, status in targets(lines)]
    assert max(one.get("attempt", 0) for one in lines) == 1
    assert targets(lines)[-2:] == [("PATCH", f"{publish[1]}/{reply['id']}", 200), (*publish, 400)]
    assert [one["number"] for one in lines] == sorted(one["number"] for one in lines)
    everybody = view(stand, thread_id, wire="all")["wire"]
    assert len(everybody) > len(lines)
    full = stand.ok("GET", f"/_sim/desk/wire/{lines[-2]['number']}")
    assert full["sent"] == receipt
    assert full["answered"]["status"]["failureDetails"]["errorMessage"] == "gone"
    delivery = stand.ok("GET", f"/_sim/desk/wire/{lines[1]['number']}")
    assert [event["objectId"] for event in delivery["sent"]] == [int(thread_id)] * 2
    assert "X-HubSpot-Signature-v3" in delivery["headers"]


def test_a_delivery_is_replayed_from_the_wire_view(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    until(lambda: len(view(stand, thread_id)["wire"]) == 2)
    call, delivery = view(stand, thread_id)["wire"]
    before = len(host.bodies)
    assert stand.sim("POST", f"desk/wire/{delivery['number']}/replay", {}) == {"status": 200}
    assert host.bodies[-1] == host.bodies[before - 1]
    assert len(view(stand, thread_id)["wire"]) == 3
    for number, status in ((call["number"], 400), (10**6, 404)):
        answer = stand.http.post(f"{stand.base}/_sim/desk/wire/{number}/replay", json={}, timeout=30)
        assert answer.status_code == status


def test_live_updates_tell_of_every_change(stand: Stand) -> None:
    with requests.get(f"{stand.base}/_sim/desk/live", stream=True, timeout=20) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = (line.decode() for line in answer.iter_lines(chunk_size=1))
        versions = (int(line.removeprefix("data: ")) for line in lines if line.startswith("data: "))
        version = next(versions)
        thread_id = stand.publish()["conversationsThreadId"]
        until(lambda: next(versions) > version + 1)  # the thread is new, and so is a line of the wire
        version += 2
        actions: list[Callable[[], Any]] = [
            lambda: stand.act(thread_id, "assign"),
            lambda: stand.sim("POST", f"desk/threads/{thread_id}/seen", {}),
            lambda: stand.sim("POST", "contacts", {"email": "new@example.test"}),
            lambda: stand.sim("PUT", "agents/A-987", {"name": "Noor"}),
        ]
        for action in actions:
            action()
            version += 1
            assert next(versions) == version
        view(stand, thread_id)  # looking changes nothing
        stand.sim("POST", "reset", {})
        assert next(versions) > version


def test_strangers_hear_nothing(stand: Stand) -> None:
    for path in ("desk", "desk/live", "desk/wire/0"):
        answer = requests.get(f"{stand.base}/_sim/{path}", headers={"Sec-Fetch-Site": "cross-site"}, timeout=30)
        assert answer.status_code == 403


def test_the_journal_keeps_the_newest_lines_and_finds_ids_anywhere() -> None:
    journal = Journal()
    entry = {"path": "/a/b", "request_body": {"x": [1, {"y": "deep"}]}, "response_body": "text"}
    for number in range(LIMIT + 3):
        journal.add("call", {**entry, "response_body": number})
    assert [line.number for line in journal.newest(2)] == [LIMIT + 1, LIMIT + 2]
    assert journal.get(2) is None
    assert journal.get(3) is not None
    assert len(journal.newest(10**6, {"deep"})) == LIMIT
    assert [line.number for line in journal.newest(5, {str(LIMIT)})] == [LIMIT]
    assert journal.newest(5, {"a/b", "/a/b", "dee"}) == []
    journal.add("delivery", {"body": "not JSON"})
    assert journal.newest(1)[0].mentions({"not JSON"})
    version = journal.version
    assert journal.wait(version, 0) == version
    journal.clear()
    assert journal.wait(version, 0) > version
    assert journal.newest(1) == []
