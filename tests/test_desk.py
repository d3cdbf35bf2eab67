"""What the agent's desk is given: the inbox, a thread with its contact, the wire view, and the live updates."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
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
    for name in ("design.css", "dom.js"):
        answers.append(stand.http.get(f"{stand.base}/static/design/{name}", timeout=30))
        assert answers[-1].status_code == 200
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


def test_a_search_finds_names_addresses_owners_ids_and_words(stand: Stand) -> None:
    rosa = stand.publish("The teapot is broken")["conversationsThreadId"]
    other = stand.publish("Hello", "conv-2", senders=[person("amir@example.test")])["conversationsThreadId"]
    stand.act(other, "assign", actorId="A-988")
    for words, found in (
        ("TEAPOT", [rosa]),
        ("vidal broken", [rosa]),
        ("+34911222333", [rosa]),
        ("amir@", [other]),
        ("lindqvist", [other]),
        (rosa, [rosa]),
        ("teapot amir", []),
        ("  ", [other, rosa]),
    ):
        answer = view(stand, search=words)
        assert [one["id"] for one in answer["threads"]] == found, words
        assert answer["unread"] == 2  # of all


def test_of_a_long_thread_a_part_is_given(stand: Stand) -> None:
    [thread_id] = stand.sim("POST", "threads", {"count": 1, "messages": 450})["ids"]
    for before, first, last in ((None, 250, 450), ("300", 100, 300), ("50", 0, 50), ("9999", 250, 450), ("-1", 0, 0)):
        thread = view(stand, thread_id, **({} if before is None else {"until": before}))["thread"]
        numbers = [int(one["text"].split()[1]) for one in thread["messages"]]
        assert numbers == list(range(first + 1, last + 1))
        assert (thread["first"], thread["total"]) == (first, 450)
    refused = stand.http.post(f"{stand.base}/_sim/threads", json={"count": 1000, "messages": 101}, timeout=30)
    assert refused.status_code == 400


def test_what_opens_a_handoff_is_the_apps_summary_and_not_the_visitors_words(stand: Stand) -> None:
    key = "0123abcd.6f1d3f4e-58a1-4b39-9a66-0f35c1d0a7b2"
    thread_id = stand.publish("Refund\nFrom: Rosa Vidal", key)["conversationsThreadId"]
    stand.publish("Where is my order?", key)
    summary, words = view(stand, thread_id)["thread"]["messages"]
    assert (summary["summary"], summary["author"]) == (True, {"name": "Flask HubSpot HITL", "side": "app"})
    assert (words["summary"], words["author"]["name"]) == (False, "Rosa Vidal")
    others = stand.publish("Hello", "conv-2")["conversationsThreadId"]  # of another app
    assert view(stand, others)["thread"]["messages"][0]["summary"] is False


def test_pictures_are_told_from_other_files(stand: Stand) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    kinds = ("image/png", "image/svg+xml", "text/html")
    files = [{"name": "a", "contentType": kind, "content": "eA=="} for kind in kinds]
    unknown = {"type": "FILE", "fileId": "1", "name": "a.png", "url": "https://elsewhere.test/a.png"}
    stand.act(thread_id, "reply", attachments=[*files, unknown])
    shown = view(stand, thread_id)["thread"]["messages"][-1]["attachments"]
    assert [one["picture"] for one in shown] == [True, False, False, False]


def test_a_thread_can_be_given_to_a_machine_and_moved(stand: Stand) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    offered = view(stand)
    assert [one["id"] for one in offered["machines"]] == ["B-77", "L-77"]
    other = next(one for one in offered["inboxes"] if one["name"] == "Help Desk")
    stand.act(thread_id, "assign", actorId="L-77")
    stand.act(thread_id, "move", inboxId=other["id"])
    shown = view(stand, thread_id)["thread"]
    assert (shown["assignee"], shown["inboxId"], shown["contact"]["inbox"]) == (
        "Customer agent",
        other["id"],
        "Help Desk",
    )
    assert shown["messages"][-1]["inbox"] == "Help Desk"


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
    delivery, call = sorted(view(stand, thread_id)["wire"], key=lambda one: one["kind"] == "call")  # either ends first
    before = len(host.bodies)
    assert stand.sim("POST", f"desk/wire/{delivery['number']}/replay", {}) == {"status": 200}
    assert host.bodies[-1] == host.bodies[before - 1]
    assert len(view(stand, thread_id)["wire"]) == 3
    for number, status in ((call["number"], 400), (10**6, 404)):
        answer = stand.http.post(f"{stand.base}/_sim/desk/wire/{number}/replay", json={}, timeout=30)
        assert answer.status_code == status


def test_a_line_can_be_run_with_curl_and_tells_no_secret(stand: Stand, host: Host, tmp_path: Path) -> None:
    thread_id = stand.publish('It\'s a "teapot"; $(rm -rf x) `x`')["conversationsThreadId"]
    upload = {"files": ("a b.txt", b"x", "text/plain")}, {"options": '{"access": "PRIVATE"}', "folderPath": "/x"}
    stand.call("POST", "/files/v3/files", files=upload[0], data=upload[1])
    stand.token_call()
    until(lambda: stand.ok("GET", "/_sim/pending")["deliveries"] == 0)
    lines = view(stand, thread_id, wire="all")["wire"]
    commands = {
        (one["kind"], one["target"]): stand.ok("GET", f"/_sim/desk/wire/{one['number']}")["curl"] for one in lines
    }
    secrets = [stand.token, *(value for name, value in stand.env.items() if re.search("SECRET|TOKEN|KEY", name))]
    assert not [one for one in commands.values() if any(secret in one for secret in secrets)]
    [delivery] = [one for (kind, _), one in commands.items() if kind == "delivery"]
    assert delivery.startswith(f"curl -X POST '{host.url}'")
    assert "X-HubSpot-Signature-v3: redacted" in delivery
    form = commands["call", "/oauth/v1/token"]
    assert "client_secret=redacted" in form
    file = commands["call", "/files/v3/files"]
    assert "-F 'files=@a b.txt'" in file
    assert "multipart" not in file
    command = commands["call", f"{CC}/{stand.channel}/messages"]
    assert '-H "Authorization: Bearer $HUBSPOT_ACCESS_TOKEN"' in command
    again = command.replace('"integrationThreadId": "conv-1"', '"integrationThreadId": "conv-2"')
    env = {"PATH": os.environ["PATH"], "HUBSPOT_ACCESS_TOKEN": stand.token}
    if shutil.which("curl") is None:
        pytest.skip("there is no curl to run it with")
    again += " --noproxy '*' -sS"
    done = subprocess.run(again, shell=True, env=env, capture_output=True, timeout=60, cwd=tmp_path, check=True)
    made = json.loads(done.stdout)
    assert (made["text"], made["conversationsThreadId"] != thread_id) == ('It\'s a "teapot"; $(rm -rf x) `x`', True)


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


def test_a_note_is_quoted_for_the_button_that_copies_it(stand: Stand) -> None:
    [thread_id] = stand.sim("POST", "threads", {"count": 1})["ids"]
    quote = "<p><strong>Suggested:</strong></p><blockquote><p>Yes &lt;b&gt;<br>&amp; no</p></blockquote>"
    for verb, rich in (("comment", quote), ("comment", "<p>plain</p>"), ("reply", quote)):
        stand.act(thread_id, verb, text="words", richText=rich)
    said = [
        one for one in view(stand, thread_id)["thread"]["messages"] if "quoted" in one and one["type"] != "ASSIGNMENT"
    ]
    assert [one["quoted"] for one in said] == ["Yes <b>\n& no", None, None]


def test_the_settings_have_who_is_there_and_who_works_when(stand: Stand) -> None:
    def noor() -> Any:
        return next(one for one in stand.ok("GET", "/_sim/settings")["agents"] if one["id"] == "A-987")

    assert (noor()["status"], noor()["time_zone"], noor()["hours"]) == ("available", None, [])
    hours = [{"days": "MONDAY_TO_FRIDAY", "startMinute": 540, "endMinute": 1440}]
    stand.sim("PUT", "agents/A-987/availability", {"status": "away", "timeZone": "UTC", "workingHours": hours})
    assert (noor()["status"], noor()["time_zone"], noor()["hours"]) == ("away", "UTC", hours)
    for broken in ("{", "7", json.dumps([{"days": "NEVER"}, *hours]), "[" * 100_000):
        stand.sim("PUT", "agents/A-987/availability", {"workingHours": broken})
        assert noor()["hours"] == (hours if "NEVER" in broken else [])


def test_an_account_grants_further_scopes(stand: Stand) -> None:
    token = stand.sim("GET", "access-token")["access_token"]
    users, headers = f"{stand.base}/crm/v3/objects/users", {"Authorization": f"Bearer {token}"}
    assert requests.get(users, headers=headers, timeout=30).status_code == 403
    granted = stand.sim("POST", "grant", {"scopes": ["crm.objects.users.read", "oauth"]})["scopes"]
    assert granted.count("oauth") == granted.count("crm.objects.users.read") == 1
    assert requests.get(users, headers=headers, timeout=30).status_code == 200
