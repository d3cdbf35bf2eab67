"""Every Botpress message type to the agent, and every kind of agent message to Botpress."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flask_hubspot_hitl import Attachment, Author, Handoff, HandoffState, Message
from flask_hubspot_hitl.botpress.ended import ended_event
from flask_hubspot_hitl.botpress.messages import to_agent, to_botpress, type_of
from flask_hubspot_hitl.portals.remote_files import as_line

CARD = {
    "type": "card",
    "title": "Shoes",
    "subtitle": "red",
    "imageUrl": "https://files.example.com/shoes.png",
    "actions": [
        {"action": "url", "label": "Buy", "value": "https://shop.example.com/1"},
        {"action": "postback", "label": "More", "value": "more"},
        {"action": "say", "label": "Hello", "value": "Hello"},
    ],
}
CARD_TEXT = "Shoes\nred\n• Buy: https://shop.example.com/1\n• More (more)\n• Hello"


def remote(kind: str, url: str, name: str | None = None) -> Attachment:
    return Attachment(name=name, content_type=None if kind == "file" else f"{kind}/*", url=url)


SHOES = remote("image", "https://files.example.com/shoes.png", "Shoes")
MATRIX: list[tuple[dict[str, Any], str, tuple[Attachment, ...]]] = [
    ({"type": "text", "text": "hi"}, "hi", ()),
    ({"type": "markdown", "markdown": "**hi** [x](https://x.example)"}, "**hi** [x](https://x.example)", ()),
    ({"type": "image", "imageUrl": "https://f/a.png", "title": "A"}, "", (remote("image", "https://f/a.png", "A"),)),
    ({"type": "audio", "audioUrl": "https://f/a.ogg"}, "", (remote("audio", "https://f/a.ogg"),)),
    ({"type": "video", "videoUrl": "https://f/a.mp4"}, "", (remote("video", "https://f/a.mp4"),)),
    ({"type": "file", "fileUrl": "https://f/a.pdf", "title": "a"}, "", (remote("file", "https://f/a.pdf", "a"),)),
    (
        {"type": "location", "latitude": 1.5, "longitude": -2, "title": "Office", "address": "Main St 1"},
        "[ Location: Office, Main St 1 ] https://www.google.com/maps?q=1.5,-2",
        (),
    ),
    (CARD, CARD_TEXT, (SHOES,)),
    ({"type": "carousel", "items": [CARD, {"title": "Hats"}]}, f"{CARD_TEXT}\n\nHats", (SHOES,)),
    (
        {"type": "choice", "text": "Pick", "options": [{"label": "A", "value": "a"}, {"label": "B", "value": "B"}]},
        "Pick\n• A (a)\n• B",
        (),
    ),
    ({"type": "dropdown", "text": "Pick", "options": [{"label": "A", "value": 1}]}, "Pick\n• A (1)", ()),
    (
        {"type": "bloc", "items": [{"type": "text", "text": "x"}, {"type": "image", "payload": {"imageUrl": "u"}}]},
        "x",
        (remote("image", "u"),),
    ),
]


@pytest.mark.parametrize(("payload", "text", "media"), MATRIX, ids=[one[0]["type"] for one in MATRIX])
def test_every_botpress_type_to_the_agent(payload: dict[str, Any], text: str, media: tuple[Attachment, ...]) -> None:
    found = to_agent(payload)
    assert (found.text, found.files) == (text, media)


@pytest.mark.parametrize(("payload", "text", "media"), MATRIX, ids=[one[0]["type"] for one in MATRIX])
def test_the_type_is_told_by_the_fields(payload: dict[str, Any], text: str, media: tuple[Attachment, ...]) -> None:
    bare = {name: value for name, value in payload.items() if name != "type"}
    told = type_of(bare)
    assert told == {"dropdown": "choice", "carousel": "bloc"}.get(payload["type"], payload["type"])


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "sticker", "pack": 5},
        {"type": "text"},
        {"type": "text", "text": None},
        {"type": "image", "imageUrl": ["x"]},
        {"type": "bloc", "items": []},
        {"type": "bloc", "items": [5, None]},
        {"type": "location"},
        {"type": ["text"]},
        {"type": "carousel", "items": [{}]},
        {"type": "choice"},
    ],
)
def test_nothing_is_dropped_silently(payload: dict[str, Any]) -> None:
    found = to_agent(payload)
    assert found.text.endswith("]")
    assert "message: {" in found.text


def test_a_message_of_no_known_type_is_told_by_its_fields() -> None:
    voice = to_agent({"type": "voice", "audioUrl": "https://f/a.ogg"})
    assert (voice.text, [file.url for file in voice.files]) == ("", ["https://f/a.ogg"])
    both = to_agent({"type": "sticker", "imageUrl": "https://f/a.webp", "text": "x" * 1_000})
    assert (both.text, len(both.files)) == ("x" * 1_000, 1)
    assert to_agent({"type": "contacts", "contacts": [{"name": "Ana"}]}).text.startswith("[ contacts message: {")


def test_what_is_shown_of_an_unknown_message_is_bounded() -> None:
    assert len(to_agent({"type": "new", "x": "y" * 10_000}).text) < 600
    nested: dict[str, Any] = {"type": "text", "text": "deep"}
    for _ in range(20):
        nested = {"type": "bloc", "items": [nested]}
    assert len(to_agent(nested).text) < 600


def test_a_file_that_cannot_be_fetched_is_a_line_with_its_link() -> None:
    assert as_line(remote("file", "https://f/a.pdf", "bill")) == "[ File - bill: https://f/a.pdf ]"
    assert as_line(remote("image", "https://f/a.png")) == "[ Image: https://f/a.png ]"


def message(text: str = "", *attachments: Attachment) -> Message:
    return Message(message_id="m", author=Author.OPERATOR, text=text, attachments=attachments)


def test_every_kind_of_agent_message_to_botpress() -> None:
    assert to_botpress(message("Hello"), prefix="Ana: ") == [{"type": "text", "text": "Ana: Hello"}]
    for content_type, kind in [
        ("image/png", "image"),
        ("audio/ogg", "audio"),
        ("video/mp4", "video"),
        ("application/pdf", "file"),
        ("text/plain", "file"),
        (None, "file"),
    ]:
        file = Attachment(name="a", content_type=content_type, url="https://f/a")
        assert to_botpress(message("", file)) == [{"type": kind, f"{kind}Url": "https://f/a", "title": "a"}]
    two = message("look", Attachment(url="https://f/1"), Attachment(name="gone", url=None))
    assert to_botpress(two) == [{"type": "text", "text": "look"}, {"type": "file", "fileUrl": "https://f/1"}]
    assert to_botpress(message()) == [{"type": "text", "text": "[empty message]"}]


def test_what_the_bot_is_told_of_the_end_fits_into_an_event() -> None:
    """The newest of the transcript, whatever its letters: Botpress takes 64 KB."""
    handoff = Handoff("h", "c", "1", None, "2", HandoffState.CLOSED)
    for letter in ("x", "ж", "☎", "🦉"):
        said = [Message(message_id=str(n), author=Author.USER, text=f"{n} {letter * 900}") for n in range(100)]
        event = ended_event(handoff, said)
        assert len(json.dumps(event)) < 64_000
        numbers = [int(one["text"].split()[0]) for one in event["transcript"]]
        assert numbers == list(range(100))[-len(numbers) :]
        assert numbers
