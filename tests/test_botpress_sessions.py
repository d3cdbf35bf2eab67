"""Sessions told step by step, with a clock of our own: what races, what comes twice, what may not be stored."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.chat import RESUMED, ChatBridge, ChatUser
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.studio import StudioBridge
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, Serve
from .helpers import Botpress, HubSpot, Json, Recorder
from .story import PHONE, Story

Record = Callable[[Flask], Recorder]


@pytest.fixture
def clock() -> ManualClock:
    """Begins now: the stand-in's clock is the machine's."""
    return ManualClock(time.time_ns() // 1_000_000)


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, clock: ManualClock, record: Record) -> Story:
    """Nothing runs but by ``story.run()``."""
    config: dict[str, Any] = {
        "clock": clock,
        "dispatcher": "external",
        "history": "none",
        "rate_limit": 10_000,
        **botpress.env(),
    }
    app = make_app(**config)
    return Story(app, hubspot, clock, record(app))


class Page:
    """A host's page with the chat bridge, and signals posted by hand."""

    def __init__(self, story: Story, botpress: Botpress, **options: Any) -> None:
        self.story, self.botpress = story, botpress
        self.shown: list[tuple[str, Any]] = []
        self.bridge = ChatBridge(HubSpotHITL(), on_message=self.show, **options)
        self.bridge.init_app(story.app)
        self.count = 0
        self.says("hello")
        story.run()
        [conversation] = {one["conversationId"] for one in botpress.get("messages")}
        self.conversation = conversation

    def show(self, user: ChatUser, payload: Json, *, author: str, **extra: Any) -> None:
        self.shown.append((author, payload.get("text")))

    def says(self, text: str, message_id: str | None = None) -> bool:
        with self.story.app.app_context():
            return self.bridge.user_message("u1", text, message_id=message_id)

    def signal(self, kind: str, payload: Json, **more: Any) -> None:
        self.count += 1
        data = {"id": None if kind == "event_created" else f"msg_x{self.count}", "payload": payload, "isBot": True}
        data |= {"conversationId": self.conversation, "userId": "bot", "createdAt": f"2026-01-01T00:00:0{self.count}Z"}
        headers = {"x-secret-key": self.botpress.env()["HUBSPOT_HITL_BOTPRESS_WEBHOOK_SECRET"]}
        body = {"type": kind, "data": {**data, **more}}
        assert self.story.client.post("/hubspot/botpress/chat/", json=body, headers=headers).status_code == 200

    def calls_a_human(self, **asks: Any) -> None:
        self.signal("event_created", {"kind": "hitl.start", "email": PHONE, **asks})

    def to_agent(self) -> list[str]:
        """What the user wrote, as the agents see it, without the openings."""
        return [
            one["text"]
            for thread in self.story.hubspot.threads()
            for one in [one for one in thread["messages"] if one.get("direction") == "INCOMING"][1:]
        ]

    def to_bot(self) -> list[Any]:
        return [one["payload"].get("text") for one in self.botpress.get("messages") if one["userId"] == "u1"]

    def events(self) -> list[Json]:
        return [one["request_body"]["payload"] for one in self.botpress.from_host("/events")]


def test_what_is_written_while_the_handoff_opens_reaches_the_agent_in_order(
    database_url: str, story: Story, botpress: Botpress
) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    assert [page.says(f"line {number}", str(number)) for number in range(3)] == [True] * 3
    assert page.says("line 1", "1") is True
    story.run()
    assert page.says("line 3") is True
    story.run()
    assert page.to_agent() == [f"line {number}" for number in range(4)]
    assert page.to_bot() == ["hello"]
    assert page.shown == [("system", notices.DEFAULTS[notices.HANDOFF])]


def test_what_is_written_while_a_handoff_fails_reaches_the_bot_in_order(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human(email="nobody@example.com", messages={notices.TIMED_OUT: "Nobody is here"})
    assert page.says("line 0") is True
    assert page.says("line 1") is True
    story.run()
    assert page.says("line 2") is False
    story.run()
    assert page.to_bot() == ["hello", "line 0", "line 1", "line 2"]
    assert page.to_agent() == []
    assert ("system", "Nobody is here") in page.shown
    assert [(one["kind"], one["reason"]) for one in page.events()] == [("hitl.ended", "error")]


def test_two_calls_for_a_human_open_one_handoff(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    for _ in range(2):
        page.calls_a_human(createdAt="2026-01-01T00:00:00Z")
        page.calls_a_human()
    story.run()
    page.calls_a_human()
    assert page.says("hi") is True
    story.run()
    assert len(story.hubspot.threads()) == 1
    assert page.to_agent() == ["hi"]
    assert page.shown == [("system", notices.DEFAULTS[notices.HANDOFF])]


def test_a_bot_that_keeps_talking_does_not_reach_the_user(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    page.signal("message_created", {"type": "text", "text": "Before it opens"}, id="msg_1")
    story.run()
    page.signal("message_created", {"type": "text", "text": "Are you there?"}, id="msg_2")
    page.signal("event_created", {"kind": "hitl.stop"})
    story.run()
    page.signal("message_created", {"type": "text", "text": "Are you there?"}, id="msg_2")
    page.signal("message_created", {"type": "text", "text": "Me again"}, id="msg_3")
    story.run(200)  # the bot's answers are read once more, in case a signal was lost
    assert [text for author, text in page.shown if author == "bot" and text != "You said: hello"][:1] == ["Me again"]
    assert [one["reason"] for one in page.events()] == ["bot_ended"]


def test_what_the_bot_says_can_be_kept_until_the_end(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress, bot_messages="park")
    page.calls_a_human()
    story.run()
    page.signal("message_created", {"type": "text", "text": "Are you there?"})
    story.run()
    assert ("bot", "Are you there?") not in page.shown
    page.signal("event_created", {"kind": "hitl.stop"})
    story.run()
    story.run(10)
    assert page.shown.count(("bot", "Are you there?")) == 1


@pytest.mark.parametrize("resume", ["message", "none"])
def test_the_bot_can_be_told_of_the_end_in_other_ways(story: Story, botpress: Botpress, resume: str) -> None:
    page = Page(story, botpress, resume=resume)
    page.calls_a_human()
    story.run()
    assert page.says("/END") is True
    story.run()
    assert page.to_bot() == ["hello", *([RESUMED] if resume == "message" else [])]
    assert page.events() == []
    assert page.shown[-1] == ("system", notices.DEFAULTS[notices.CLOSED])
    assert page.to_agent() == [notices.DEFAULTS[notices.CANCELLED]]


def test_nobody_takes_the_conversation(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human(assignmentTimeout=60)
    story.run()
    story.run(59)
    assert story.is_active("u1")
    story.run(2)
    assert not story.is_active("u1")
    assert page.shown[-1] == ("system", notices.DEFAULTS[notices.TIMED_OUT])
    assert [one["reason"] for one in page.events()] == ["timeout"]


# Studio --------------------------------------------------------------------------------------------------


class Gate:
    """The studio routes, called as the snippets do."""

    def __init__(self, story: Story, botpress: Botpress) -> None:
        self.story = story
        StudioBridge(HubSpotHITL()).init_app(story.app)
        secret = botpress.env()["HUBSPOT_HITL_BOTPRESS_CALL_SECRET"]
        self.headers = {"Authorization": f"Bearer {secret}"}

    def post(self, route: str, **body: Any) -> Json:
        answer = self.story.client.post(f"/hubspot/botpress/{route}", json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        found: Json = answer.get_json()
        return found

    def start(self, conversation_id: str, **more: Any) -> Json:
        return self.post("start", conversationId=conversation_id, user={"email": PHONE}, **more)

    def turn(self, conversation_id: str, key: str, text: str) -> Json:
        body = {"messageId": key, "eventId": f"e-{key}", "type": "text", "payload": {"text": text}, "text": text}
        return self.post("turn", conversationId=conversation_id, **body)


def test_in_every_interleaving_with_the_end_a_message_goes_to_exactly_one_side(
    story: Story, botpress: Botpress
) -> None:
    gate = Gate(story, botpress)
    orders = sorted(set(permutations(["user", "user", "close", "run"])))
    assert len(orders) == 12
    for number, order in enumerate(orders):
        conversation_id = f"c{number}"
        assert gate.start(conversation_id)["status"] == "open"
        thread = story.hubspot.threads()[-1]["id"]
        story.run()
        handled: dict[str, bool] = {}
        told: list[Json] = []
        for action in order:
            story.clock.advance(0.01)
            if action == "close":
                story.hubspot.act(thread, "close")
                story.status(thread, "CLOSED", at=story.now)
            elif action == "run":
                story.run()
            else:
                text = f"{conversation_id} line {len(handled)}"
                answer = gate.turn(conversation_id, text, text)
                assert gate.turn(conversation_id, text, text) == answer  # a replay changes nothing
                handled[text] = answer["handled"]
                told += answer.get("context", {}).get("transcript", [])
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


@pytest.mark.parametrize("trouble", ["slow", "down"])
def test_the_studio_is_answered_whatever_hubspot_does(
    make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot, trouble: str
) -> None:
    """A quarter of the promise's time is kept for a busy machine, twice over."""
    config: dict[str, Any] = {"dispatcher": "thread", **botpress.env()}
    app = make_app(**config)
    StudioBridge(HubSpotHITL()).init_app(app)
    botpress.control("PUT", "target", {"url": f"{serve(app)}/hubspot/botpress"})
    if trouble == "slow":
        hubspot.chaos(latency=6)
        botpress.chaos(latency=6)
    else:
        hubspot.chaos(faults=[{"match": ".*", "mode": "status", "status": 503}])
    began = time.monotonic()
    started = botpress.post("studio/start", conversationId="c1", user={"email": PHONE})
    between = time.monotonic()
    assert started["status"] == "open"
    turn = botpress.post("studio/turn", conversationId="c1", text="hi")
    assert turn["handled"] is True
    assert between - began < 5
    assert time.monotonic() - between < 5
    hubspot.chaos(latency=0, faults=[])
    botpress.chaos(latency=0)


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
    hitl_api = [f"hitl-api/{'x' * 30}/{one}" for one in ("ping", "createRemoteUser", "createRemoteConversation")]
    for route in ("chat/", "start", "turn", "stop", *hitl_api):
        answer = story.client.post(f"/hubspot/botpress/{route}", json=body, headers={"Authorization": "Bearer x"})
        assert answer.status_code == (404 if "hitl-api" in route else 401), route
    assert rows() == before
