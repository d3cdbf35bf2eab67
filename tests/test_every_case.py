"""20,000 messages as hosts, bots and HubSpot make them: each arrives whole, with a line about what is missing, or not.

Where it does not arrive its sender hears why, or it is set aside in plain sight. No case ends in nothing.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from flask_hubspot_hitl.botpress.messages import to_agent
from flask_hubspot_hitl.handoffs.before import render_history
from flask_hubspot_hitl.hubspot.content import parse_message
from flask_hubspot_hitl.hubspot.events import Inbound, Kind, parse_body

from .conftest import MakeApp, Record
from .helpers import HubSpot, Json, channel_event
from .story import Story

CASES = 4_000
"""Of each of five doors."""
NOW = 1_790_000_000_000
WORD = "Wort{}"
NOTHING: tuple[Any, ...] = (None, "", " ", [], {}, 0, False)

Dice = random.Random


def word(dice: Dice) -> str:
    return WORD.format(dice.randrange(10**9))


def odd(dice: Dice) -> Any:
    """What nobody should send."""
    return dice.choice([*NOTHING, 7, 1.5, True, ["x"], {"x": "y"}, "x", "\x00", "\ud800", 2**70, float("nan")])


# What a host says was said -------------------------------------------------------------------------------


def openai(dice: Dice, said: str) -> tuple[Any, bool]:
    role = dice.choice(["user", "assistant", "user", "system", "developer", "tool"])
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    content = dice.choice([said, [{"type": "text", "text": said}], [image, {"type": "input_text", "text": said}]])
    more: list[Json] = [{}, {"name": "x"}, {"tool_calls": None}]
    entry: Json = {"role": role, "content": content, **dice.choice(more)}
    is_object = dice.random() < 0.3
    return SimpleNamespace(**entry) if is_object else entry, role in ("user", "assistant")


def langchain(dice: Dice, said: str) -> tuple[Any, bool]:
    kind = dice.choice(["human", "ai", "system", "tool", "chat"])
    inner = {"type": kind, "content": dice.choice([said, [{"type": "text", "text": said}]])}
    if kind == "chat":
        inner["role"] = "Ana"
    shapes: list[Any] = [
        inner,
        SimpleNamespace(**inner),
        {"type": kind, "data": inner},
        {"lc": 1, "type": "constructor", "id": ["x"], "kwargs": inner},
    ]
    return dice.choice(shapes), kind in ("human", "ai", "chat")


def rasa(dice: Dice, said: str) -> tuple[Any, bool]:
    event = dice.choice(["user", "bot", "action", "slot"])
    if event in ("user", "bot"):
        return {"event": event, "text": said, "timestamp": 1.79e9, "data": dice.choice([{}, {"image": None}])}, True
    return {"event": event, "name": "x", "value": said}, False


def botpress(dice: Dice, said: str) -> tuple[Any, bool]:
    payload = dice.choice(
        [
            {"text": said},
            {"type": "markdown", "markdown": said},
            {"items": [{"type": "text", "payload": {"text": said}}]},
            {"text": said, "options": [{"label": "a", "value": "b"}]},
            {"title": said, "actions": []},
        ]
    )
    ways: list[Json] = [{"direction": "incoming"}, {"direction": "outgoing"}, {"isBot": False}, {"userId": "u"}]
    return {"id": "m", "createdAt": "2026-10-01T09:15:00.000Z", "payload": payload, **dice.choice(ways)}, True


def tuples(dice: Dice, said: str) -> tuple[Any, bool]:
    return dice.choice([("user", said), ["bot", said], {"author": "Ana", "text": said}]), True


def spoilt(dice: Dice, entry: Any) -> Any:
    """An entry with a key misspelt, missing or doubled under another name, or of another type."""
    if not isinstance(entry, dict):
        return odd(dice)
    key = dice.choice(list(entry))
    rest = {name: value for name, value in entry.items() if name != key}
    return dice.choice([rest, {**rest, f"{key}s": entry[key]}, {**entry, key: odd(dice)}])


SHAPES: list[Callable[[Dice, str], tuple[Any, bool]]] = [openai, langchain, rasa, botpress, tuples]


def history(dice: Dice) -> str:
    said = word(dice)
    entry, is_said = dice.choice(SHAPES)(dice, said)
    is_spoilt = dice.random() < 0.3
    if is_spoilt:
        entry = spoilt(dice, entry)
    try:
        text = render_history([entry])
    except TypeError as error:
        complaint = str(error)
    else:
        complaint = ""
    if complaint:
        assert is_spoilt, entry
        assert said not in complaint
        assert render_history([entry, ("user", "rest")], is_checked=False).startswith("(1 entry could not be read)")
        return "refused to its sender"
    if not is_spoilt:
        assert (said in text) is is_said, entry
    return "whole" if said in text else "nobody said it"


# What a bot's user sends ---------------------------------------------------------------------------------

TYPES = ["text", "markdown", "image", "audio", "video", "file", "location", "choice", "dropdown", "card", "carousel"]
UNKNOWN = ["bloc", "voice", "sticker", "contacts", "custom", "postback", "", None, 5]


def of_botpress(dice: Dice) -> str:
    said = word(dice)
    keys = ["text", "markdown", "imageUrl", "audioUrl", "videoUrl", "fileUrl", "title", "subtitle", "latitude", "items"]
    payload: Json = {"type": dice.choice(TYPES + UNKNOWN)}
    for key in dice.sample(keys, dice.randrange(4)):
        payload[key] = dice.choice([said, f"https://f.example.com/{said}", odd(dice), [{"type": "text", "text": said}]])
    readable = to_agent(payload)
    assert readable.text.strip() or readable.files, payload
    shown = readable.text + "".join(file.url or "" for file in readable.files)
    is_whole = said in shown or said not in json.dumps(payload, default=str)
    return "whole" if is_whole else "with a line"


# What HubSpot sends --------------------------------------------------------------------------------------

ATTACHMENTS: list[Json] = [
    {"type": "FILE", "fileId": "1", "name": "a.pdf", "url": "https://f.example.com/a.pdf"},
    {"type": "FILE", "fileId": 2},
    {"type": "FILE", "name": "lost.pdf"},
    {"type": "LOCATION", "latitude": 1, "longitude": 2},
    {"type": "CONTACT", "contactProfile": {"name": {"firstName": "Ana"}}},
    {"type": "QUICK_REPLIES", "quickReplies": [{"label": "a"}]},
    {"type": "MESSAGE_HEADER", "text": "x"},
    {"type": "SOCIAL_MEDIA_METADATA", "socialMetadata": {"mediaType": "POST"}},
    {"type": "WHATSAPP_TEMPLATE_METADATA"},
    {"type": "UNSUPPORTED_CONTENT"},
    {"type": "SOMETHING_NEW"},
    {},
]


def agents_message(dice: Dice) -> tuple[Json, str]:
    said = word(dice)
    text: Any = dice.choice([said, said, "", None, 5])
    rich = dice.choice([None, f"<p>{said}</p>", f"<table><tr><td>{said}</td><td>x</td></tr></table>"])
    files = dice.choices(ATTACHMENTS, k=dice.randrange(4))
    event = channel_event(
        said, text=text, richText=rich, attachments=dice.choice([files, files, None, {}, "x"]), createdAt=NOW
    )
    if dice.random() < 0.4:
        place = dice.choice([event, event["message"]])
        key = dice.choice(list(place))
        if dice.random() < 0.5:
            del place[key]
        else:
            place[key] = odd(dice)
    return event, said


def of_hubspot(dice: Dice) -> str:
    event, said = agents_message(dice)
    (item,) = parse_body(json.dumps(event).encode(), now_ms=NOW)
    if not isinstance(item, Inbound):
        assert item.reason
        assert "Wort" not in item.reason
        return "set aside: status and dead list"
    if item.kind is not Kind.MESSAGE:
        assert event.get("type") != "OUTGOING_CHANNEL_MESSAGE_CREATED"
        return "no message"
    message = parse_message(item.payload["message"] | {"createdAt": item.occurred_ms})
    assert message.text.strip() or message.attachments
    given = event["message"].get("attachments")
    files = given if isinstance(given, list) and all(isinstance(one, dict) for one in given) else []
    assert len(message.attachments) + message.text.count("[") >= len(files)
    text, rich = (event["message"].get(name) for name in ("text", "richText"))
    is_blank = isinstance(text, bool | list | dict | None) or not str(text).strip()
    if text == said or (is_blank and said in str(rich)):
        assert said in message.text
    return "whole" if "[" not in message.text else "with a line"


def of_the_app(dice: Dice) -> str:
    """An item of the app's feed, each field of which may be of almost the right type, or missing."""
    kind = dice.choice(["propertyChange", "newMessage", "deletion", "privacyDeletion"])
    item: Json = {
        "subscriptionType": f"conversation.{kind}",
        "portalId": 424242,
        "objectId": 63,
        "appId": 3131,
        "occurredAt": NOW,
        "messageId": "m",
        "propertyName": dice.choice(["assignedTo", "status", "isArchived"]),
        "propertyValue": dice.choice(["A-987", "CLOSED", "false", 987, None]),
    }
    is_alike = dice.random() < 0.5
    key = dice.choice(["portalId", "objectId", "appId", "occurredAt"])
    alike: list[Any] = [str(item[key]), float(item[key]), f" {item[key]} "]
    item[key] = dice.choice(alike) if is_alike else odd(dice)
    raw = json.dumps([item]).encode()
    (found,) = parse_body(raw, now_ms=NOW)
    if not isinstance(found, Inbound):
        assert found.reason
        value = item["propertyValue"]
        is_readable = kind != "propertyChange" or item["propertyName"] != "assignedTo" or value in ("A-987", 987, None)
        assert not (is_alike and is_readable), item
        return "set aside: status and dead list"
    return "whole" if found.kind is not Kind.OTHER else "no message"


def of_tables(dice: Dice) -> str:
    """An agent's message that is nothing but a table, a list or headings, pasted."""
    words = [word(dice) for _ in range(dice.randrange(1, 6))]
    open_, each, close = dice.choice(
        [
            ("<table><tr>", "<td>{}</td>", "</tr></table>"),
            ("<table>", "<tr><th><p>{}</p></th></tr>", "</table>"),
            ("<ol>", "<li>{}</li>", "</ol>"),
            ("", "<h2>{}</h2>", ""),
            ("<dl>", "<dt>{0}</dt><dd>{0}</dd>", "</dl>"),
            ("<blockquote>", "<div>{}</div>", "</blockquote>"),
        ]
    )
    markup = open_ + "".join(each.format(one) for one in words) + close
    raw = {"id": "m", "conversationsThreadId": "1", "createdAt": NOW, "text": "", "richText": markup}
    message = parse_message(raw)
    assert [one for one in message.text.split() if one.startswith("Wort")][:: 2 if "<dl>" in markup else 1] == words
    return "whole"


DOORS: dict[str, tuple[Callable[[Dice], str], set[str]]] = {
    "history": (history, {"whole", "refused to its sender", "nobody said it"}),
    "botpress": (of_botpress, {"whole", "with a line"}),
    "channel": (of_hubspot, {"whole", "with a line", "set aside: status and dead list", "no message"}),
    "app": (of_the_app, {"whole", "set aside: status and dead list", "no message"}),
    "tables": (of_tables, {"whole"}),
}


@pytest.mark.parametrize("door", DOORS)
def test_each_case_has_an_end(door: str) -> None:
    play, ends = DOORS[door]
    dice = random.Random(door)
    counted = Counter(play(dice) for _ in range(CASES))
    assert counted.keys() == ends, counted
    assert counted.total() == CASES


def test_through_the_whole_app_none_ends_in_nothing(
    make_app: MakeApp, hubspot: HubSpot, clock: Any, record: Record
) -> None:
    """Each of an agent's messages is signalled, is in the dead list, or is quarantined; each once."""
    story = Story(make_app(clock=clock, dispatcher="inline"), hubspot, clock, None)  # type: ignore[arg-type]
    story.recorder = record(story.app)
    thread = story.start().thread_id
    integration = hubspot.thread(thread)["integrationThreadId"]
    dice = random.Random(3)
    told = 0
    for _ in range(150):
        event, _said = agents_message(dice)
        if not isinstance(event.get("message"), dict) or event.get("type") != "OUTGOING_CHANNEL_MESSAGE_CREATED":
            continue
        for key, value in (("conversationsThreadId", thread), ("channelAccountId", "880011"), ("channelId", "100458")):
            if key in event["message"]:
                event["message"][key] = value
        event |= {"portalId": "424242", "channelId": "100458", "channelIntegrationThreadIds": [integration]}
        event["message"] |= {"type": "MESSAGE", "direction": "OUTGOING", "createdAt": story.now}
        story.post(event)
        told += 1
    story.run(300)
    with story.state.ledger.read() as tx:
        facts = tx.status(now=story.now)
    signalled = {one["message"].message_id for one in story.recorder.of("operator_message")}
    assert len(signalled) == len(story.recorder.of("operator_message"))
    assert len(signalled) + facts["dead"] + facts["quarantined"] == told
