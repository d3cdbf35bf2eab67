"""A :class:`.Story` with a Botpress bot in it: its signals, its snippets and its older agent, called by hand."""

from __future__ import annotations

import time
from itertools import permutations
from typing import Any

from flask_hubspot_hitl import HandoffState, HubSpotHITL
from flask_hubspot_hitl.botpress.chat import ChatBridge, ChatUser
from flask_hubspot_hitl.botpress.studio import StudioBridge
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, Record
from .helpers import Botpress, HubSpot, Json
from .story import PHONE, Story

ORDERS = sorted(set(permutations(["user", "user", "end", "run"])))
"""Every way in which two messages of the user's, an end, and the dispatcher's turn can follow each other."""
ENDS = [("the agent closes", 1), ("the user leaves", 3), ("the bot stops", 3)]
"""How a session ends, and which of the orders are tried: all of them where the end comes from outside."""


def make_story(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record, **config: Any) -> Story:
    """Its clock begins now, because the stand-ins' clocks are the machine's."""
    clock = ManualClock(time.time_ns() // 1_000_000)
    settings: dict[str, Any] = {"history": "none", "rate_limit": 10_000, **botpress.env(), **config}
    app = make_app(clock=clock, **settings)
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
        at = f"2026-01-01T00:{self.count // 60:02}:{self.count % 60:02}Z"
        data |= {"conversationId": self.conversation, "userId": "bot", "createdAt": at}
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


class Gate:
    """The studio routes, called as the snippets do."""

    def __init__(self, story: Story, botpress: Botpress) -> None:
        self.story = story
        self.botpress = botpress
        StudioBridge(HubSpotHITL()).init_app(story.app)
        secret = botpress.env()["HUBSPOT_HITL_BOTPRESS_CALL_SECRET"]
        self.headers = {"Authorization": f"Bearer {secret}"}

    def post(self, route: str, **body: Any) -> Json:
        answer = self.story.client.post(f"/hubspot/botpress/{route}", json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        found: Json = answer.get_json()
        return found

    def start(self, conversation_id: str, **more: Any) -> Json:
        """Hand over. The studio is answered soon in any case: on a busy machine that may be before HubSpot has it."""
        self.botpress.control("POST", "conversations", {"id": conversation_id})
        answer = self.post("start", conversationId=conversation_id, user={"email": PHONE}, **more)
        for _ in range(20):
            handoff = self.story.handoff(conversation_id)
            if handoff is None or handoff.state is not HandoffState.STARTING:
                break
            self.story.run(5)
        return answer

    def turn(self, conversation_id: str, key: str, text: str) -> Json:
        body = {"messageId": key, "eventId": f"e-{key}", "type": "text", "payload": {"text": text}, "text": text}
        return self.post("turn", conversationId=conversation_id, **body)
