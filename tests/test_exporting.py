"""What is kept of a person is printed for them: all of it, by a schema, and nothing of anybody else
(docs/rules.rst I).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from flask import Flask

from flask_hubspot_hitl import Attachment
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.handoffs.people import By, who_of
from flask_hubspot_hitl.hubspot.bodies import build_incoming
from flask_hubspot_hitl.hubspot.content import render_first_message
from flask_hubspot_hitl.ledger.people import Whose

from .conftest import MakeApp
from .helpers import HubSpot, Recorder
from .people_helpers import CANARIES, PHONE, command, fill
from .story import Story

SCHEMA = json.loads((Path(__file__).parents[1] / "docs" / "export.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def story(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Callable[[Flask], Recorder], database_url: str
) -> Story:
    app = make_app(clock=clock, dispatcher="inline", contact_policy="create")
    return Story(app, hubspot, clock, record(app))


def is_valid(document: Any) -> None:
    checker = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    checker.check_schema(SCHEMA)
    assert [one.message for one in checker.iter_errors(document)] == []


@pytest.mark.parametrize("whom", [("--phone", PHONE), ("--conversation", f"wa:{PHONE}")])
def test_an_export_has_everything_and_nobody_elses(story: Story, whom: tuple[str, str]) -> None:
    fill(story)
    other = story.start("conv-omar", contact="omar@example.test", name="Omar Qasr", title="a wombat").thread_id
    story.send("I have a wombat", "conv-omar", message_id="wombat-1")
    story.says(other, "Omar, your wombat")
    story.hubspot.act(other, "assign", actorId="A-987")
    story.assigned(other, at=story.now)
    document = command(story, "export", *whom)
    is_valid(document)
    text = json.dumps(document)
    assert [one for one in CANARIES if one not in text] == ["rosa@example.test"]
    assert [one for one in ("Omar", "omar@", "wombat", "conv-omar", str(other), "Noor", "A-987") if one in text] == []
    assert [one["text"] for one in document["messages"]] == ["My quokka!", f"Zanzibar, your quokka is on {PHONE}"]
    assert {one["topic"] for one in document["events"]} >= {"unreadable", "message", "botpress-chat"}
    assert sorted(one["key"].split(":")[0] for one in document["bridges"]) == ["conversation", "once", "user"]
    [handoff] = document["handoffs"]
    assert (handoff["name"], handoff["contact"]["phone"]) == ("Rosa Zanzibar", PHONE)


def test_an_export_of_nobody_is_empty(story: Story) -> None:
    fill(story)
    document = command(story, "export", "--email", "nobody@example.test")
    is_valid(document)
    assert not any(document[kind] for kind in document if isinstance(document[kind], list))


@pytest.mark.parametrize(
    ("phone", "conversation_id", "is_theirs"),
    [
        ("+34911222333", "wa:+34911222333", True),
        ("+34911222333", "whatsapp:34911222333", True),
        ("+34911222333", "34911222333@s.whatsapp.net", True),
        ("+34911222333", "34911222333:12@s.whatsapp.net", True),
        ("+34911222333", "WhatsApp:34911222333", True),
        ("+34911222333", "whatsapp:+34-911-222-333", True),
        ("+34911222333", "wa:+34 911 222 333", True),
        ("+34911222333", "(+34) 911 222 333", True),
        ("+34911222333", "0034911222333", True),
        ("+525512345678", "+5215512345678", True),
        ("+34911222333", "34911222333", False),  # somebody's id in another messenger may be the same digits
        ("+34911222333", "+349112223334", False),
        ("+34911222333", "tel:+34911222334", False),
    ],
)
def test_whose_conversation_an_id_with_a_number_is(phone: str, conversation_id: str, is_theirs: bool) -> None:
    who = who_of(By.PHONE, phone)
    assert who.has(Whose("h1", conversation_id, "424242", None, None)) is is_theirs


@pytest.mark.parametrize(
    ("contact", "is_theirs"),
    [
        ("whatsapp:34911222333", True),
        ("34911222333@c.us", True),
        ("(+34) 911 222 333", True),
        ("+34\u2011911\u2011222\u2011333", True),
        ("tel:+34-911-222-333;ext=4", True),
        ("0034 911 222 333", True),
        ("34911222333", False),  # a bridge's field may hold anybody's digits
        ("911 222 333", False),
        ("+34911222334", False),
    ],
)
def test_a_number_is_found_in_every_form_that_a_contact_may_have(story: Story, contact: str, is_theirs: bool) -> None:
    """Of a user who never called for a human there is only what the host told a bridge, as it was told."""
    with story.state.ledger.write() as tx:
        tx.bridges.put("chat", "user:7", {"id": "7", "contact": contact}, now=story.now)
    assert [one["key"] for one in command(story, "export", "--phone", PHONE)["bridges"]] == ["user:7"] * is_theirs


@pytest.mark.parametrize(
    ("conversation_id", "is_theirs"),
    [
        ("mail:rosa@example.com", True),
        ("Rosa@Example.com", True),
        ("rosa@example.com.br", False),
        ("dr.rosa@example.com", False),
        ("rosa@example.co", False),
    ],
)
def test_whose_conversation_an_id_with_an_address_is(conversation_id: str, is_theirs: bool) -> None:
    who = who_of(By.EMAIL, "rosa@example.com")
    assert who.has(Whose("h1", conversation_id, "424242", None, None)) is is_theirs


def test_names_lose_marks_that_turn_the_line_round() -> None:
    name = "\u202eaasoR\u2066 Vi\u200edal\u0007"
    assert "From: aasoR Vidal" in render_first_message(name, None, None)
    sender = {"type": "HS_PHONE_NUMBER", "value": PHONE}
    body = build_incoming(
        channel_account_id="1", integration_thread_id="t", idempotency_id="i", text="x", timestamp_ms=0,
        sender=sender, sender_name=name, recipient=sender,
    )  # fmt: skip
    assert body["senders"][0]["name"] == "aasoR Vidal"


def test_choices_and_voice_are_in_an_export(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Callable[[Flask], Recorder]
) -> None:
    app = make_app(clock=clock, dispatcher="inline", quick_replies=True)
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    story.send("Listen", attachments=[Attachment(name="a.mp3", content=b"hi", is_voice=True)])
    replies = [{"value": "yes", "valueType": "TEXT", "label": "Yes, please"}]
    offer = {"type": "QUICK_REPLIES", "quickReplies": replies, "allowMultiSelect": False, "allowUserInput": True}
    story.says(thread, "Shall I?", attachments=[offer])
    document = command(story, "export", "--conversation", "c1")
    is_valid(document)
    spoken, offered = (one["attachments"] for one in document["messages"])
    assert spoken[0]["is_voice"] is True
    assert offered == [{"choice": {"label": "Yes, please", "value": "yes", "is_link": False}}]
