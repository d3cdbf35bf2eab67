"""The routes that Botpress calls, step by step, with a clock of our own: what races, what comes twice, what is slow."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.chat import ChatBridge
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.hitl_api.tickets import CANCELLED
from flask_hubspot_hitl.botpress.service import REFUSED
from flask_hubspot_hitl.botpress.studio import StudioBridge

from .botpress_story import ENDS, ORDERS, Gate, make_story
from .conftest import MakeApp, Record, Serve
from .helpers import Botpress, HubSpot, Json
from .story import PHONE, Story


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record) -> Story:
    """Nothing runs but by ``story.run()``."""
    return make_story(make_app, hubspot, botpress, record, dispatcher="external")


@pytest.mark.parametrize(("end", "every"), ENDS)
def test_in_every_interleaving_with_the_end_a_message_goes_to_exactly_one_side(
    story: Story, botpress: Botpress, end: str, every: int
) -> None:
    """What an agent never got although the gate was shut is in what the bot is told of the end."""
    gate = Gate(story, botpress)
    for number, order in enumerate(ORDERS[::every]):
        conversation_id = f"c{number}"
        assert gate.start(conversation_id)["status"] == "open"
        story.run()
        thread = story.hubspot.threads()[-1]["id"]
        handled: dict[str, bool] = {}
        told: list[Json] = []
        for action in order:
            story.clock.advance(0.01)
            if action == "run":
                story.run()
            elif action == "user":
                text = f"{conversation_id} line {len(handled)}"
                answer = gate.turn(conversation_id, text, text)
                assert gate.turn(conversation_id, text, text) == answer  # a replay changes nothing
                handled[text] = answer["handled"]
                told += answer.get("context", {}).get("transcript", [])
            elif end == "the user leaves":
                assert gate.turn(conversation_id, "end", "/end")["handled"] is True
            elif end == "the bot stops":
                assert gate.post("stop", conversationId=conversation_id) == {"status": "closed"}
            else:
                story.hubspot.act(thread, "close")
                story.status(thread, "CLOSED", at=story.now)
        story.run()
        told += gate.turn(conversation_id, "last", "last").get("context", {}).get("transcript", [])
        said = [one["text"] for one in story.hubspot.thread(thread)["messages"] if one.get("direction") == "INCOMING"]
        for text, by_agent in handled.items():
            unread = [one["text"] for one in told if one.get("unread")]
            assert (said.count(text) + unread.count(text), by_agent) in ((1, True), (0, False)), (order, text)


def test_a_replayed_start_and_a_replayed_end(story: Story, botpress: Botpress) -> None:
    gate = Gate(story, botpress)
    first = gate.start("c1", messageId="m1")
    assert gate.start("c1", messageId="m1") == gate.start("c1", messageId="m9") == first
    gate.turn("c1", "m2", "/end")
    story.run()
    assert gate.turn("c1", "m2", "/end") == {"handled": True}
    assert gate.start("c1", messageId="m1") == {**first, "status": "closed"}
    assert len(story.hubspot.threads()) == 1
    assert gate.start("c1", messageId="m3")["session"] != first["session"]


MESSAGES: list[tuple[Json, str]] = [
    ({"type": "voice", "payload": {"audioUrl": "https://f.example.com/a"}}, "[ Audio: https://f.example.com/a ]"),
    ({"type": "sticker", "payload": {"imageUrl": "https://f.example.com/a"}}, "[ Image: https://f.example.com/a ]"),
    ({"type": "contacts", "payload": {"contacts": [{"name": "Ana"}]}}, "[ contacts message:"),
    ({"type": "custom", "payload": {"colour": "red"}}, "[ custom message:"),
    ({"type": "postback", "payload": {"payload": "BUY"}, "text": "Buy it"}, "Buy it"),
    ({"type": "custom", "payload": None}, "[ custom message:"),
    ({"type": "text", "payload": {"text": "plain"}}, "plain"),
    ({"type": "image", "payload": {}}, "[ image message:"),
    ({"payload": {"text": "untyped"}}, "untyped"),
    ({}, "[ text message:"),
]


@pytest.mark.parametrize(("given", "wanted"), MESSAGES)
def test_whatever_has_a_message_id_is_a_message(story: Story, botpress: Botpress, given: Json, wanted: str) -> None:
    gate = Gate(story, botpress)
    gate.start("c1")
    story.run()
    assert gate.post("turn", conversationId="c1", messageId="m7", **given) == {"handled": True}
    story.run()
    (thread,) = story.hubspot.threads()
    (said,) = [one["text"] for one in thread["messages"] if one.get("direction") == "INCOMING"][1:]
    assert said.startswith(wanted)


@pytest.mark.parametrize("kind", ["custom", "voice", "conversation_started", "", "proactive-trigger"])
def test_an_event_is_no_message(story: Story, botpress: Botpress, kind: str) -> None:
    gate = Gate(story, botpress)
    event = {"conversationId": "c1", "eventId": "e1", "type": kind, "payload": {"x": 1}}
    assert gate.post("turn", **event) == {"handled": False}
    gate.start("c1")
    story.run()
    assert gate.post("turn", **event) == {"handled": True}
    story.run()
    assert len(story.hubspot.threads()[0]["messages"]) == 1


TROUBLE: dict[str, Json] = {
    "slow": {"latency": 6},
    "down": {"faults": [{"match": ".*", "status": 503}]},
    "cut off": {"faults": [{"match": ".*", "mode": "drop"}]},
    "busy": {"faults": [{"match": ".*", "status": 429, "retry_after": 30}]},
}
TRIES = 5


@pytest.mark.parametrize("trouble", TROUBLE)
def test_the_studio_is_answered_in_two_seconds_whatever_hubspot_does(
    make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot, trouble: str
) -> None:
    """A busy machine can make any one try slower, but what the code waits for it waits for in each of them."""
    config: dict[str, Any] = {"dispatcher": "thread", **botpress.env()}
    app = make_app(**config)
    StudioBridge(HubSpotHITL()).init_app(app)
    botpress.control("PUT", "target", {"url": f"{serve(app)}/hubspot/botpress"})
    hubspot.chaos(**TROUBLE[trouble])
    botpress.chaos(**TROUBLE[trouble])
    took: dict[str, float] = {}
    for number in range(TRIES):
        asked = {"conversationId": f"c{number}", "text": "hi", "user": {"email": PHONE}}
        for route, wanted in (("start", {"status": "open"}), ("turn", {"handled": True}), ("stop", {})):
            began = time.monotonic()
            answer = botpress.post(f"studio/{route}", **asked)
            took[route] = time.monotonic() - began
            assert wanted.items() <= answer.items()
        if max(took.values()) < 2:
            break
    assert max(took.values()) < 2, took
    hubspot.chaos(latency=0, faults=[])
    botpress.chaos(latency=0, faults=[])


# What the bot is told of the end -------------------------------------------------------------------------

RESUME_SECRET = "sim-bp-secret-0123456789abcde"


def resuming(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record, secret: str) -> Story:
    """A story whose bot has a webhook integration; its session has been ended by the agent."""
    url = f"{botpress.url}/webhook/sim-wh-events-0123456789"
    told: dict[str, Any] = {"botpress_resume_webhook": url, "botpress_resume_webhook_secret": secret}
    story = make_story(make_app, hubspot, botpress, record, dispatcher="inline", **told)
    gate = Gate(story, botpress)
    gate.start("c1", userId="user_9")
    gate.turn("c1", "m1", "my order?")
    story.run()
    thread = story.hubspot.threads()[-1]["id"]
    story.hubspot.act(thread, "close")
    story.status(thread, "CLOSED", at=story.now)
    return story


def test_the_bot_is_told_of_the_end_once_and_speaks_first(
    make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record
) -> None:
    botpress.chaos(faults=[{"match": "POST /webhook/", "status": 503, "times": 2}])
    story = resuming(make_app, hubspot, botpress, record, RESUME_SECRET)
    for _ in range(5):
        story.run(600)
    [event] = botpress.get("webhook-events")
    body = event["body"]
    assert {name: body[name] for name in ("kind", "reason", "conversationId", "userId")} == {
        "kind": "hitl.ended",
        "reason": "agent_closed",
        "conversationId": "c1",
        "userId": "user_9",
    }
    assert [one["text"] for one in body["transcript"]] == ["my order?"]
    said = [one["payload"]["text"] for one in botpress.get("messages")]
    assert said == [notices.DEFAULTS[notices.STOPPED], "Welcome back"]


def test_a_webhook_that_refuses_us_does_not_hold_up_the_end(
    make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    story = resuming(make_app, hubspot, botpress, record, "another-secret-0123456789")
    story.run(600)
    assert botpress.get("webhook-events") == []
    assert [one["payload"]["text"] for one in botpress.get("messages")] == [notices.DEFAULTS[notices.STOPPED]]
    assert "Botpress refuses the end of a session" in caplog.text
    assert "another-secret" not in caplog.text


# What the runtime answers --------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "said"), [(400, "Sorry, the user can not receive"), (403, REFUSED)])
def test_what_the_channel_can_not_show_is_told_to_the_agent(
    make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record, status: int, said: str
) -> None:
    """At once; that a wrong token is no fault of the message is in test_botpress_outage.py."""
    story = make_story(make_app, hubspot, botpress, record, dispatcher="inline")
    Gate(story, botpress).start("c1")
    story.run()
    thread = story.hubspot.threads()[-1]["id"]
    botpress.chaos(faults=[{"match": "POST /v1/chat/messages", "status": status, "times": 1}])
    event = story.says(thread, "Look")
    story.run(60)
    found = story.message_status(thread, event)
    assert found["statusType"] == "FAILED"
    assert said in found["failureDetails"]["errorMessage"]


def test_too_many_calls_wait_as_long_as_botpress_wishes(
    make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record
) -> None:
    story = make_story(make_app, hubspot, botpress, record, dispatcher="inline")
    Gate(story, botpress).start("c1")
    story.run()
    thread = story.hubspot.threads()[-1]["id"]
    botpress.chaos(runtime_429=1)
    story.says(thread, "Look")
    story.run(0.9)
    assert botpress.get("messages") == []
    story.run(0.2)
    assert len(botpress.get("messages")) == 1


# The older agent -----------------------------------------------------------------------------------------


class Old:
    """The ``plus/hitl-api`` integration, called by hand."""

    def __init__(self, story: Story, botpress: Botpress) -> None:
        self.story = story
        HitlApiBridge(HubSpotHITL()).init_app(story.app)
        self.base = f"/hubspot/botpress/hitl-api/{botpress.env()['HUBSPOT_HITL_BOTPRESS_SECRET']}"

    def post(self, route: str, **body: Any) -> Json:
        answer = self.story.client.post(f"{self.base}/{route}", json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.get_json()
        return found

    def escalate(self, email: str = PHONE) -> str:
        payload = {"title": "Refund of 99 euros", "description": f"email: {email}\nA delicate matter"}
        session: str = self.post("createRemoteConversation", payload=payload)["id"]
        self.story.run(6)  # nobody tells whose it is
        return session

    def remembered(self) -> str:
        with self.story.state.ledger.read() as tx:
            return str(tx.bridges.newest("hitl-api", ""))


@pytest.mark.parametrize("end", ["the agent closes", "the user leaves", "nobody is known"])
def test_of_a_session_that_is_over_nothing_is_kept(story: Story, botpress: Botpress, end: str) -> None:
    old = Old(story, botpress)
    session = old.escalate("nobody@example.com" if end == "nobody is known" else PHONE)
    if end != "nobody is known":
        assert "delicate" in old.remembered()
        thread = story.hubspot.threads()[-1]["id"]
    if end == "the agent closes":
        story.hubspot.act(thread, "close")
        story.status(thread, "CLOSED", at=story.now)
    elif end == "the user leaves":
        old.post("botSendsMessage", remoteConversationId=session, payload={"text": CANCELLED})
        old.post("closeRemoteTicket", payload={"botpressConversationId": "conv_x"})
        old.post("botSendsMessage", remoteConversationId=session, payload={"text": "too late"})
    story.run(4)
    assert "delicate" not in old.remembered()
    assert "Refund of" not in old.remembered()
    stops = [one["request_body"] for one in botpress.from_host("/stop-hitl")]
    assert stops == ([] if end == "the user leaves" else [{"remoteConversationId": session}])


def test_an_agent_who_writes_after_the_end_is_told_so(story: Story, botpress: Botpress) -> None:
    old = Old(story, botpress)
    old.escalate()
    thread = story.hubspot.threads()[-1]["id"]
    story.hubspot.act(thread, "close")
    story.status(thread, "CLOSED", at=story.now)
    story.run()
    event = story.says(thread, "One more thing", at=story.now + 1)
    story.run()
    assert "with the bot again" in str(story.message_status(thread, event))
    assert botpress.from_host("/message-from-agent") == []


# Strangers -----------------------------------------------------------------------------------------------


def test_a_wrong_secret_stores_nothing(story: Story, botpress: Botpress, tmp_path: Path) -> None:
    ChatBridge(HubSpotHITL(), on_message=print).init_app(story.app)
    StudioBridge(HubSpotHITL()).init_app(story.app)
    HitlApiBridge(HubSpotHITL()).init_app(story.app)

    def rows() -> dict[str, int]:
        with sqlite3.connect(tmp_path / "hitl.sqlite3") as db:
            names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {name: db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}

    before = rows()
    body = {"conversationId": "c1", "user": {"email": PHONE}, "payload": {"email": PHONE}, "type": "x", "data": {}}
    names = ("ping", "createRemoteUser", "createRemoteConversation", "botSendsMessage", "closeRemoteTicket")
    hitl_api = [f"hitl-api/{'x' * 30}/{one}" for one in names]
    for route in ("chat/", "start", "turn", "stop", *hitl_api):
        answer = story.client.post(f"/hubspot/botpress/{route}", json=body, headers={"Authorization": "Bearer x"})
        assert answer.status_code == (404 if "hitl-api" in route else 401), route
    assert rows() == before
