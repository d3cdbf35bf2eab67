"""Choices, pictures and voice, in both directions, and what the channel registers for them (rules M1 to M4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import Attachment, Choice, HubSpotHITL, Message
from flask_hubspot_hitl.botpress.messages import to_botpress, without_buttons
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.domain import Author
from flask_hubspot_hitl.hubspot.content import CHOICES, parse_message
from flask_hubspot_hitl.hubspot.paths import API_VERSIONS

from .conftest import MakeApp
from .helpers import HubSpot, Json, Recorder
from .story import Story

YES, NO = Choice("Yes, please", "yes"), Choice("no", "no")
LINK = Choice("Our terms", "https://acme.test/terms", is_link=True)
Open = Callable[..., Story]


@pytest.fixture
def open_story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Callable[[Flask], Recorder]) -> Open:
    def made(**settings: Any) -> Story:
        app = make_app(clock=clock, dispatcher="inline", **settings)
        return Story(app, hubspot, clock, record(app))

    return made


def offered(*choices: Choice, **more: Any) -> Json:
    """Quick replies as HubSpot's webhook has them."""
    replies = [
        {"label": one.label, "value": one.value, "valueType": "URL" if one.is_link else "TEXT"} for one in choices
    ]
    return {"type": "QUICK_REPLIES", "quickReplies": replies, "allowMultiSelect": False, "allowUserInput": True} | more


def heard(story: Story) -> Message:
    found: Message = story.recorder.of("operator_message")[-1]["message"]
    return found


def said(attachments: Sequence[Any], text: str = "Shall I?") -> Any:
    raw = {"id": "m1", "conversationsThreadId": "t1", "createdAt": "2026-11-29T09:00:00Z", "text": text}
    return parse_message(raw | {"attachments": list(attachments)}, with_choices=True)


# --- M1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", API_VERSIONS)
def test_m1_an_agents_choices_come_with_values_and_the_answer_goes_back(open_story: Open, version: str) -> None:
    story = open_story(quick_replies=True, api_version=version)
    thread = story.start().thread_id
    story.says(thread, "Shall I send it again?", attachments=[offered(YES, NO, LINK)])
    message = heard(story)
    assert (message.text, message.choices, message.attachments) == ("Shall I send it again?", (YES, NO, LINK), ())
    with story.app.app_context():
        hitl = HubSpotHITL()
        assert hitl.transcript("c1")[-1].choices == (YES, NO, LINK)
        assert hitl.send("c1", message.choices[0].value)
    story.run()
    assert story.hubspot.threads()[-1]["messages"][-1]["text"] == "yes"


def test_m1_without_the_setting_they_are_a_line_of_the_text(open_story: Open) -> None:
    story = open_story()
    thread = story.start().thread_id
    story.says(thread, "Shall I?", attachments=[offered(YES, NO)])
    assert (heard(story).text, heard(story).choices) == ("Shall I?\n[choices: Yes, please, no]", ())


def test_m1_choices_alone_are_a_message(open_story: Open) -> None:
    story = open_story(quick_replies=True)
    thread = story.start().thread_id
    event = story.write(thread, "x", attachments=[offered(YES)])
    story.post({**event, "message": {**event["message"], "text": "", "richText": None}})
    assert (heard(story).text, heard(story).choices) == ("", (YES,))
    assert heard(story).text_with_choices == "• Yes, please (yes)"


def test_m1_files_and_choices_are_kept_apart(open_story: Open) -> None:
    story = open_story(quick_replies=True)
    thread = story.start().thread_id
    story.says(thread, "Both", attachments=[{"name": "a.txt", "content": "aGk="}, offered(NO)])
    with story.app.app_context():
        message = HubSpotHITL().transcript("c1")[-1]
    assert ([one.name for one in message.attachments], message.choices) == (["a.txt"], (NO,))


@pytest.mark.parametrize(
    ("replies", "choices", "line"),
    [
        ([{"value": "y"}], (Choice("y", "y"),), ""),
        ([{"value": "y", "label": " Two\nlines "}], (Choice("Two lines", "y"),), ""),
        ([{"value": 5, "valueType": "NEW"}], (Choice("5", "5"),), ""),
        ([{"label": "Empty"}, {"value": "y"}], (Choice("y", "y"),), "[choices: Empty]"),
        ([{"label": "X", "value": "javascript:alert(1)", "valueType": "URL"}], (), "[choices: X]"),
        ([], (), "[choices]"),
        ("junk", (), "[choices]"),
        (["junk", None, 7], (), "[choices]"),
    ],
)
def test_m1_what_is_no_choice_is_told_in_words(replies: Any, choices: tuple[Choice, ...], line: str) -> None:
    found = said([{"type": "QUICK_REPLIES", "quickReplies": replies}])
    assert found.choices == choices
    assert found.text == "\n".join(filter(None, ["Shall I?", line]))


def test_m1_of_many_the_rest_is_told_in_words() -> None:
    many = [Choice(f"label {number}", f"value {number}") for number in range(CHOICES + 2)]
    found = said([offered(*many[:30]), offered(*many[30:])])
    assert found.choices == tuple(many[:CHOICES])
    assert found.text == f"Shall I?\n[choices: label {CHOICES}, label {CHOICES + 1}]"


def test_m1_in_botpress_they_are_a_choice_and_links_are_lines() -> None:
    def message(text: str, *choices: Choice) -> Message:
        return Message("m1", Author.OPERATOR, text, choices=choices)

    options = [{"label": "Yes, please", "value": "yes"}, {"label": "no", "value": "no"}]
    [part] = to_botpress(message("Shall I?", YES, LINK, NO), prefix="Noor: ")
    text = "Noor: Shall I?\n• Our terms: https://acme.test/terms"
    assert part == {"type": "choice", "text": text, "options": options}
    lines = f"{text}\n• Yes, please (yes)\n• no"
    assert without_buttons({**part, "userId": "u1"}) == {"type": "text", "text": lines, "userId": "u1"}
    assert to_botpress(message("", YES)) == [{"type": "text", "text": "• Yes, please (yes)"}]
    assert to_botpress(message("Look", LINK))[0]["type"] == "text"
    [part] = to_botpress(message("Shall I?", YES, NO), with_buttons=False)
    assert part == {"type": "text", "text": "Shall I?\n• Yes, please (yes)\n• no"}


# --- M2 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_on", [False, True])
def test_m2_pictures_both_ways(open_story: Open, is_on: bool) -> None:
    story = open_story(inline_images=is_on)
    thread = story.start().thread_id
    story.says(thread, "Look", inlineImages=[{"name": "a.png", "contentType": "image/png", "content": "aGk="}])
    [picture] = heard(story).attachments
    assert (picture.content_type, picture.is_voice) == ("image/png", False)
    story.send("And this", attachments=[Attachment(name="b.png", content=b"hi")])
    story.run()
    [sent] = story.hubspot.threads()[-1]["messages"][-1]["attachments"]
    assert (sent["type"], sent["fileUsageType"]) == ("FILE", "IMAGE")


# --- M3 --------------------------------------------------------------------------------------------------


def test_m3_what_was_spoken_is_a_voice_recording(open_story: Open) -> None:
    story = open_story()
    thread = story.start().thread_id
    files = [Attachment(name=f"{spoken}.mp3", content=b"hi", is_voice=spoken) for spoken in (True, False)]
    story.send("Listen", attachments=files)
    story.run()
    sent = story.hubspot.threads()[-1]["messages"][-1]["attachments"]
    assert [one["fileUsageType"] for one in sent] == ["VOICE_RECORDING", "AUDIO"]
    with story.app.app_context():
        mine = HubSpotHITL().transcript("c1")[-1].attachments
    assert [one.is_voice for one in mine] == [True, False]
    event = story.write(thread, "And you", attachments=[{"name": "c.mp3", "content": "aGk="}])
    [file] = event["message"]["attachments"]
    story.post(
        {**event, "message": {**event["message"], "attachments": [{**file, "fileUsageType": "VOICE_RECORDING"}]}}
    )
    assert [one.is_voice for one in heard(story).attachments] == [True]
    with story.app.app_context():
        assert [one.is_voice for one in HubSpotHITL().transcript("c1")[-1].attachments] == [True]
