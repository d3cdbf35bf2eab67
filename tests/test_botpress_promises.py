"""What the bridges promise: only who is there, in six languages; places in the queue, notes, drafts, READ."""

from __future__ import annotations

import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from flask_hubspot_hitl import ConfigError, HubSpotHITL
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.chat import ChatBridge
from flask_hubspot_hitl.botpress.texts import TEXTS

from .botpress_story import Gate, Page, make_story
from .conftest import MakeApp, Record
from .helpers import Botpress, HubSpot, Json
from .story import PHONE, Story
from .test_queue import serve_queue

LATER = datetime.now(UTC) + timedelta(days=2)
CLOSED = {"availability": "hours", "business_time_zone": "UTC", "business_hours": f"{LATER:%a} 09:00-10:00".lower()}
BACK = f"{LATER:%Y-%m-%d} 09:00 UTC"
Open = Callable[..., Story]


@pytest.fixture
def open_story(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record) -> Open:
    return lambda **config: make_story(make_app, hubspot, botpress, record, **{"dispatcher": "inline", **config})


def comments(story: Story) -> list[str]:
    return [one["text"] for one in story.hubspot.threads()[-1]["messages"] if one["type"] == "COMMENT"]


def last_event(page: Page) -> Json:
    page.story.run()
    return page.events()[-1]


# --- texts ------------------------------------------------------------------------------------------------


def test_every_language_has_every_text_with_the_same_blanks() -> None:
    def blanks(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    assert sorted(TEXTS) == ["de", "en", "es", "fr", "it", "pt"]
    for language, texts in TEXTS.items():
        assert texts.keys() == notices.DEFAULTS.keys(), language
        for name, text in texts.items():
            assert blanks(text) == blanks(notices.DEFAULTS[name]), (language, name)
            assert 0 < len(text) <= notices.LIMIT
            assert language == "en" or name == notices.CLOSE_COMMAND or text != notices.DEFAULTS[name], (language, name)


@pytest.mark.parametrize(
    ("tag", "language"),
    [("de", "de"), ("pt-BR", "pt"), ("PT_br", "pt"), (" it ", "it"), ("ja", None), ("", None), (7, None), (None, None)],
)
def test_the_language_of_a_tag(tag: object, language: str | None) -> None:
    assert notices.language_of(tag) == language
    assert notices.known({}, tag) == ({"language": language} if language else {})
    assert notices.known({"language": tag}) == notices.known(None, tag)


def test_the_hosts_and_the_bots_texts_win_over_the_language(open_story: Open, botpress: Botpress) -> None:
    story = open_story()
    page = Page(story, botpress, language="de", messages={notices.ASSIGNED: "Moin!"})
    page.calls_a_human(messages={notices.STOPPED: "Ciao"})
    story.run()
    [thread] = [one["id"] for one in story.hubspot.threads()]
    story.assigned(thread, at=story.now)
    story.status(thread, "CLOSED", at=story.now + 1)
    story.run()
    said = [text for author, text in page.shown if author == "system"]
    assert said == [TEXTS["de"][notices.HANDOFF], "Moin!", "Ciao"]
    page.calls_a_human(language="fr-CA")
    story.run()
    assert page.shown[-1] == ("system", TEXTS["fr"][notices.HANDOFF])


@pytest.mark.parametrize("option", ["language", "waiting"])
def test_an_option_that_is_wrong_is_told(open_story: Open, option: str) -> None:
    bridge = ChatBridge(HubSpotHITL(), on_message=print, **{option: "klingon"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"HUBSPOT_HITL_BOTPRESS_{option.upper()}"):
        bridge.init_app(open_story().app)


# --- nobody is there --------------------------------------------------------------------------------------


def test_the_chats_user_hears_when_somebody_is_back_and_so_does_the_bot(open_story: Open, botpress: Botpress) -> None:
    story = open_story(**CLOSED)
    page = Page(story, botpress)
    page.calls_a_human(language="it")
    event = last_event(page)
    assert page.shown[-1] == ("system", TEXTS["it"][notices.NOBODY_UNTIL].replace("{when}", BACK))
    assert (event["kind"], event["reason"]) == ("hitl.ended", "unavailable")
    assert event["opensAt"] == f"{LATER:%Y-%m-%d}T09:00:00+00:00"
    assert story.hubspot.threads() == []
    assert page.says("are you there?") is False  # the bot has it
    page.calls_a_human(requireAvailable=False)
    story.run()
    assert page.shown[-1] == ("system", notices.DEFAULTS[notices.HANDOFF])
    assert len(story.hubspot.threads()) == 1


def test_without_a_time_the_user_hears_that_nobody_is_there(open_story: Open, botpress: Botpress) -> None:
    story = open_story(
        **CLOSED, business_holidays=",".join(f"{LATER + timedelta(days=7 * n):%m-%d}" for n in range(60))
    )
    page = Page(story, botpress)
    page.calls_a_human()
    event = last_event(page)
    assert page.shown[-1] == ("system", notices.DEFAULTS[notices.NOBODY])
    assert event["opensAt"] is None


def test_the_studios_bot_is_told_what_to_say(open_story: Open, botpress: Botpress) -> None:
    story = open_story(**{**CLOSED, "business_time_zone": "Asia/Tokyo"})
    gate = Gate(story, botpress)
    answer = gate.post("start", conversationId="conv_1", user={"email": PHONE}, language="es")
    assert answer["status"] == "unavailable"
    assert answer["message"] == TEXTS["es"][notices.NOBODY_UNTIL].replace("{when}", f"{LATER:%Y-%m-%d} 09:00 JST")
    assert answer["opensAt"] == f"{LATER:%Y-%m-%d}T00:00:00+00:00"
    assert story.hubspot.threads() == []
    assert gate.start("conv_1", requireAvailable=False)["status"] == "open"


# --- the place in the queue ---------------------------------------------------------------------------------


def queue_of_two(story: Story) -> str:
    """Two conversations that wait before the bot's; the thread of the first."""
    for number in range(2):
        story.start(f"other-{number}", contact="+12125550142")
    return str(story.hubspot.threads()[0]["id"])


def take(story: Story, thread: str) -> None:
    """An agent takes a conversation, and the queue is looked at, which an inline dispatcher does not by itself."""
    serve_queue(story.app)
    story.hubspot.act(thread, "assign")
    story.assigned(thread, at=story.now)
    for _ in range(3):
        story.run(5)


def test_the_chats_user_hears_of_their_place(open_story: Open, botpress: Botpress) -> None:
    story = open_story()
    page = Page(story, botpress, waiting="notice", language="de")
    first = queue_of_two(story)
    page.calls_a_human()
    story.run()
    places = [text for _, text in page.shown if "Warteschlange" in str(text)]
    assert places == ["Ihr Platz in der Warteschlange: 3"]
    take(story, first)
    places = [text for _, text in page.shown if "Warteschlange" in str(text)]
    assert places[1:] == ["Ihr Platz in der Warteschlange: 2"]


def test_the_studios_user_hears_of_their_place(open_story: Open, botpress: Botpress) -> None:
    story = open_story(botpress_waiting="notice")
    gate = Gate(story, botpress)
    first = queue_of_two(story)
    answer = gate.start("conv_1")
    assert answer["message"].splitlines() == [notices.DEFAULTS[notices.HANDOFF], "Your place in the queue: 3"]
    take(story, first)
    sent = [
        one["request_body"]["payload"] for one in botpress.from_host("/v1/chat/messages") if one["method"] == "POST"
    ]
    assert sent == [{"text": "Your place in the queue: 2"}]


def test_by_default_nobody_is_told_of_places(open_story: Open, botpress: Botpress) -> None:
    story = open_story()
    page = Page(story, botpress)
    first = queue_of_two(story)
    page.calls_a_human()
    story.run()
    take(story, first)
    assert not [text for _, text in page.shown if "queue" in str(text)]


# --- notes and drafts --------------------------------------------------------------------------------------


def test_the_chats_bot_notes_and_proposes(open_story: Open, botpress: Botpress) -> None:
    story = open_story()
    page = Page(story, botpress)
    page.signal("event_created", {"kind": "hitl.note", "text": "too early"})
    page.calls_a_human()
    story.run()
    page.signal("event_created", {"kind": "hitl.note", "text": "A friend of the house."})
    page.signal("event_created", {"kind": "hitl.note", "text": "It ships today.", "draft": True})
    for wrong in ({"text": ""}, {"text": {"a": 1}}, {}, {"text": "x" * 50_001}):
        page.signal("event_created", {"kind": "hitl.note", **wrong})
    story.run()
    assert comments(story) == [
        "A friend of the house.",
        "Suggested reply (the user has not seen it):\n\nIt ships today.",
    ]
    assert not [text for _, text in page.shown if "ships" in str(text) or "friend" in str(text)]


def test_the_studios_bot_notes_and_proposes(open_story: Open, botpress: Botpress) -> None:
    story = open_story()
    gate = Gate(story, botpress)
    assert gate.post("note", conversationId="conv_1", text="too early") == {"noted": False}
    gate.start("conv_1")
    assert gate.post("note", conversationId="conv_1", text="It ships today.", draft=True) == {"noted": True}
    story.run()
    assert comments(story)[-1].endswith("\n\nIt ships today.")
    for wrong in ({}, {"text": " "}, {"text": "x" * 50_001}, {"text": ["a"]}):
        body = {"conversationId": "conv_1", **wrong}
        assert story.client.post("/hubspot/botpress/note", json=body, headers=gate.headers).status_code == 400


# --- READ --------------------------------------------------------------------------------------------------


def test_the_agent_sees_that_the_chats_user_has_read(open_story: Open, botpress: Botpress) -> None:
    story = open_story()
    page = Page(story, botpress)
    page.calls_a_human()
    story.run()
    thread = story.hubspot.threads()[-1]["id"]
    said = story.says(thread, "Here it is", attachments=[{"name": "a.txt", "content": "aGk="}])
    story.run()
    with story.app.app_context():
        assert page.bridge.mark_read("u1", "another's") == 0
        assert page.bridge.mark_read("u1", f"{said['message']['id']}:1") == 1
        assert page.bridge.mark_read({"id": "u1"}) == 0
    story.run()
    assert story.message_status(thread, said)["statusType"] == "READ"


# --- choices ------------------------------------------------------------------------------------------------

OFFER = {
    "type": "QUICK_REPLIES",
    "quickReplies": [{"value": "yes", "valueType": "TEXT", "label": "Yes, please"}],
    "allowMultiSelect": False,
    "allowUserInput": True,
}


def created(botpress: Botpress) -> list[Json]:
    """What was sent to the channel of the bot's own, with its type, and how that was answered."""
    calls = [one for one in botpress.from_host("/v1/chat/messages") if one["method"] == "POST"]
    return [
        {"type": one["request_body"]["type"], "status": one["status"], **one["request_body"]["payload"]}
        for one in calls
    ]


@pytest.mark.parametrize("status", [None, 400, 415])
def test_choices_are_buttons_or_lines_where_the_channel_has_none(
    open_story: Open, botpress: Botpress, status: int | None
) -> None:
    story = open_story(quick_replies=True)
    gate = Gate(story, botpress)
    gate.start("conv_1")
    if status is not None:
        botpress.chaos(faults=[{"match": "POST /v1/chat/messages", "mode": "status", "status": status, "times": 1}])
    thread = story.hubspot.threads()[-1]["id"]
    said = story.says(thread, "Shall I?", attachments=[OFFER])
    story.run()
    first, *rest = created(botpress)
    assert (first["type"], first["options"]) == ("choice", [{"label": "Yes, please", "value": "yes"}])
    lines = [] if status is None else ["• Yes, please (yes)"]
    assert [one["text"].splitlines()[1:] for one in rest] == [lines] * (status is not None)
    assert story.message_status(thread, said)["statusType"] == "SENT"
