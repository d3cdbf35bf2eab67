"""``docs/outcomes.rst``, walked row by row: what becomes of a message or an event, and who hears of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docutils import nodes
from docutils.core import publish_doctree

from flask_hubspot_hitl import Attachment, DeliveryFailed, HubSpotHITL, operator_message
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge

from .botpress_story import Gate, Page, make_story
from .conftest import MakeApp, Record
from .helpers import Botpress, HubSpot, Json, app_event, new_message_event, signed_post
from .story import Story

PAGE = Path(__file__).resolve().parents[1] / "docs" / "outcomes.rst"
DAY = 86_400
PUBLISH = "POST .*/custom-channels/.*/messages$"
USUAL = {"handoff_started", "operator_message", "operator_assigned", "conversation_completed", "message_delivered"}
"""Signals of a good day."""

OUTAGE = "HubSpot does not answer"
"""Begins what the log says of any outage."""
SLOW = "has no HubSpot thread yet"
"""Of the log: on a busy machine HubSpot may take longer than Studio is made to wait."""

Scene = Callable[[Story, Botpress], Iterator[str] | None]
SCENES: dict[str, Scene] = {}


def scene(number: str) -> Callable[[Scene], Scene]:
    def add(function: Scene) -> Scene:
        assert number not in SCENES
        SCENES[number] = function
        return function

    return add


def rows() -> dict[str, set[str]]:
    """Of each row of the table, by its number: what those who hear of it get."""
    tree = publish_doctree(PAGE.read_text(encoding="utf-8"), settings_overrides={"report_level": 2})
    found = {}
    for row in tree.findall(nodes.row):
        number, *_, heard = row.findall(nodes.entry)
        found[number.astext()] = {one.astext() for one in heard.findall(nodes.literal)}
    return {number: heard for number, heard in found.items() if number != "No."}


def fault(match: str, status: int = 400, **more: Any) -> list[Json]:
    return [{"match": match, "mode": "status", "status": status, "times": None, **more}]


def caught(call: Callable[[], Any]) -> str:
    try:
        return str(call())
    except Exception as error:
        return type(error).__name__


def texts(story: Story) -> list[str]:
    return [one["text"] for thread in story.hubspot.threads() for one in thread["messages"] if one.get("text")]


# The verbs -----------------------------------------------------------------------------------------------


@scene("V1")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield caught(lambda: story.start(history=[{"role": "user", "contnet": "hi"}]))
    assert not story.is_active()


@scene("V2")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield caught(lambda: story.start(contact="+34911000000"))
    assert not story.is_active()


@scene("V3")
def _(story: Story, botpress: Botpress) -> None:
    story.hubspot.chaos(faults=fault(".*", 503))
    story.start()
    assert story.is_active()
    for _ in range(3):
        story.run(DAY)


@scene("V4")
def _(story: Story, botpress: Botpress) -> None:
    story.hubspot.chaos(faults=fault("PUT .*/assignee", 404))
    story.start(assign_to="404")
    story.run(1)
    assert story.is_active()


@scene("V5")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield caught(story.send)


@scene("V6")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    story.start()
    yield caught(lambda: story.send(" "))
    yield caught(lambda: story.send("hi", attachments=[b"x"]))


@scene("V7")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.hubspot.chaos(faults=fault("POST .*/files", 413))
    story.send("look", attachments=[Attachment(name="a.bin", content=b"x")])
    story.run(1)
    assert "look" in texts(story)


@scene("V8")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.send("look", attachments=[Attachment(url="https://elsewhere.example.com/a.png")])
    story.run(1)
    assert "look\n[ File: https://elsewhere.example.com/a.png ]" in texts(story)


@scene("V9")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.hubspot.chaos(faults=fault(PUBLISH))
    story.send("refused")
    story.run(1)


@scene("V10")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.hubspot.chaos(faults=fault(".*", 503))
    story.send("late")
    for _ in range(3):
        story.run(DAY)


@scene("V11")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.run(1)
    story.hubspot.chaos(faults=fault(".*", 503))
    story.send("first")
    story.send("second")
    story.stop()
    story.run(1)


# HubSpot's webhooks --------------------------------------------------------------------------------------


@scene("W1")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield str(signed_post(story.client, [], secret="another secret").status_code)


@scene("W2")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield str(signed_post(story.client, b"{").status_code)


@scene("W3")
def _(story: Story, botpress: Botpress) -> None:
    story.post([app_event("deletion", at=story.now, thread="5", objectId="no thread")])


@scene("W4")
def _(story: Story, botpress: Botpress) -> None:
    story.status("99", "CLOSED", at=story.now)


@scene("W5")
def _(story: Story, botpress: Botpress) -> None:
    event = story.write(story.start().thread_id)
    story.post({**event, "message": {**event["message"], "conversationsThreadId": "999"}})
    story.run(200)


@scene("W6")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    story.run(60)
    story.recorder.close()
    story.says(thread)
    for _ in range(100):
        story.run(5)


@scene("W7")
def _(story: Story, botpress: Botpress) -> None:
    def refuse(sender: Any, **extra: Any) -> None:
        raise DeliveryFailed("The user has blocked us")

    with operator_message.connected_to(refuse, story.app):
        story.says(story.start().thread_id)
        story.run(1)


@scene("W8")
def _(story: Story, botpress: Botpress) -> None:
    def fail(sender: Any, **extra: Any) -> None:
        raise RuntimeError

    with operator_message.connected_to(fail, story.app):
        story.says(story.start().thread_id)
        for _ in range(30):
            story.run(600)


@scene("W9")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    event = story.write(thread)
    event["message"]["attachments"] = [{"type": "FILE", "fileId": "404404", "name": "gone.pdf"}, {"type": "NEW"}]
    story.post(event)
    story.run(1)
    (message,) = [one["message"] for one in story.recorder.of("operator_message")]
    assert "gone.pdf" in message.text
    assert "[attachment of type NEW]" in message.text


@scene("W10")
def _(story: Story, botpress: Botpress) -> None:
    first = story.start().thread_id
    story.stop()
    story.run(60)
    story.start()
    story.says(first, at=story.now)
    story.run(1)


@scene("W11")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    story.post([new_message_event("m1", at=story.now, thread=str(thread), messageType="COMMENT")])
    story.post([app_event("brandNew", at=story.now, thread=str(thread))])
    story.status(thread, "CLOSED", at=story.now, appId=999)
    story.run(60)


@scene("W12")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    story.status(thread, "CLOSED", at=story.now - 365 * DAY * 1000)
    story.run(60)
    assert story.is_active()


# The bridges ---------------------------------------------------------------------------------------------


@scene("S1")
def _(story: Story, botpress: Botpress) -> None:
    gate = Gate(story, botpress)
    gate.start("c1")
    assert gate.post("turn", conversationId="c1", eventId="e1", type="typing", payload={"x": 1})["handled"]
    story.run(1)


@scene("S2")
def _(story: Story, botpress: Botpress) -> None:
    gate = Gate(story, botpress)
    gate.start("c1")
    assert gate.post("turn", conversationId="c1", messageId="m1", type="contacts", payload={"x": 1})["handled"]
    story.run(1)
    assert any(text.startswith("[ contacts message: ") for text in texts(story))


@scene("S3")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    answer = Gate(story, botpress).post("start", conversationId="c1", user={"email": "nobody@example.com"})
    assert answer["message"] == notices.DEFAULTS[notices.TIMED_OUT]
    yield answer["status"]


@scene("S4")
def _(story: Story, botpress: Botpress) -> None:
    Gate(story, botpress).start("c1")
    botpress.chaos(faults=fault("POST /v1/chat/messages"))
    story.says(story.hubspot.threads()[0]["id"])
    story.run(1)


@scene("S5")
def _(story: Story, botpress: Botpress) -> None:
    Gate(story, botpress).start("c1")
    botpress.chaos(faults=fault(".*", 401))
    story.says(story.hubspot.threads()[0]["id"], "late")
    for _ in range(20):
        story.run(60)
    botpress.chaos(faults=[])
    story.run(600)
    assert [one["payload"]["text"].partition(": ")[2] for one in botpress.get("messages")] == ["late"]


@scene("C1")
def _(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    botpress.chaos(faults=fault(".*", 401))
    page.says("late")
    for _ in range(20):
        story.run(60)
    botpress.chaos(faults=[])
    story.run(600)
    assert page.to_bot() == ["hello", "late"]


@scene("C2")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    page = Page(story, botpress)
    botpress.chaos(faults=fault("POST .*/messages$"))
    page.says("refused")
    story.run(1)
    if (notices.DEFAULTS[notices.NOT_DELIVERED]) in [text for author, text in page.shown if author == "system"]:
        yield notices.NOT_DELIVERED


@scene("C3")
def _(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    story.run(1)
    page.signal("message_created", {"type": "text", "text": "beside"})
    story.run(1)
    assert "beside" not in [text for _, text in page.shown]


@scene("C4")
def _(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    botpress.chaos(faults=fault("GET .*/messages", 503))
    page.calls_a_human()
    story.run(1)
    story.run(1)
    opening = story.hubspot.threads()[0]["messages"]
    assert any("could not be read whole" in str(one.get("text")) for one in opening)


def older_agent(story: Story, botpress: Botpress) -> Callable[..., Json]:
    HitlApiBridge(HubSpotHITL()).init_app(story.app)
    base = f"/hubspot/botpress/hitl-api/{botpress.env()['HUBSPOT_HITL_BOTPRESS_SECRET']}"

    def post(route: str, **body: Any) -> Json:
        found: Json = story.client.post(f"{base}/{route}", json=body).get_json()
        return found

    return post


@scene("H1")
def _(story: Story, botpress: Botpress) -> None:
    post = older_agent(story, botpress)
    post("botSendsMessage", remoteConversationId="s_gone", remoteUserId="u", payload={"text": "hi"})


@scene("H2")
def _(story: Story, botpress: Botpress) -> None:
    post = older_agent(story, botpress)
    post("createRemoteUser", payload={"role": "end-user", "email": "+34911222333"})
    post("createRemoteConversation", payload={"messages": [{"text": "hi"}, {"words": "?"}, 7]})
    story.run(6)
    assert any("(2 entries could not be read)\nUser: hi" in text for text in texts(story))


# The walk ------------------------------------------------------------------------------------------------


def test_every_row_has_a_scene() -> None:
    assert rows().keys() == SCENES.keys()


@pytest.mark.parametrize("number", SCENES)
def test_each_row_is_true(
    make_app: MakeApp,
    hubspot: HubSpot,
    botpress: Botpress,
    record: Record,
    caplog: pytest.LogCaptureFixture,
    number: str,
) -> None:
    how: Json = {"history": "note", "max_attempts": 3, "assignment_timeout": 0}
    story = make_story(make_app, hubspot, botpress, record, dispatcher="inline", **how)
    caplog.set_level(logging.INFO)
    heard = set(SCENES[number](story, botpress) or ())
    hubspot.chaos(faults=[])
    story.run(600)
    heard |= set(story.recorder.names()) - USUAL
    heard |= {"message.error" for one in story.recorder.of("message_delivered") if one["message"].error}
    bodies = [one["request_body"] or {} for one in hubspot.requests() if one["method"] == "PATCH"]
    heard |= {"FAILED"} & {str(one.get("statusType")) for one in bodies if isinstance(one, dict)}
    missing = [text for text in texts(story) if "is missing" in text]
    heard |= {"note"} if missing else set()
    with story.state.ledger.read() as tx:
        facts = tx.status(now=story.now)
    heard |= {"dead list"} if facts["dead"] else set()
    heard |= {"status"} if facts["quarantined"] else set()
    told = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    heard |= (
        {"log"} if any(not line.startswith("HubSpot does not answer") and SLOW not in line for line in told) else set()
    )
    assert heard == rows()[number]
