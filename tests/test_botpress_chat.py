"""The chat bridge, over HTTP between it and the two stand-ins."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.chat import ChatBridge, ChatUser
from flask_hubspot_hitl.botpress.chat.api import botpress_id, user_key

from .conftest import MakeApp, Serve
from .helpers import Botpress, HubSpot, Json, wait_until


class Channel:
    """The host's channel: what the user was shown, and a way to say something."""

    def __init__(self, make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot, **config: Any) -> None:
        self.botpress, self.hubspot = botpress, hubspot
        self.shown: list[Json] = []
        self._lock = threading.Lock()
        self.app: Flask = make_app(**{"dispatcher": "thread", **botpress.env(), **config})
        self.bridge = ChatBridge(HubSpotHITL(), on_message=self.show)
        self.bridge.init_app(self.app)
        base = serve(self.app)
        botpress.control("PUT", "target", {"url": f"{base}/hubspot/botpress/chat"})

    def show(self, user: ChatUser, payload: Json, **extra: Any) -> None:
        with self._lock:
            self.shown.append({"user": user.id, "payload": payload, **extra})

    def says(self, text: str, **more: Any) -> bool:
        with self.app.app_context():
            return self.bridge.user_message(ChatUser("web_9f2c", name="Ana"), text, **more)

    def texts(self) -> list[Any]:
        return [one["payload"].get("text") for one in self.shown]

    def thread(self) -> Json:
        wait_until(self.hubspot.threads, what="a thread")
        return self.hubspot.threads()[-1]

    def said(self) -> list[str]:
        """What the user wrote, as the agent sees it, without the opening."""
        messages = self.hubspot.thread(self.thread()["id"])["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]


@pytest.fixture
def channel(make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot) -> Channel:
    return Channel(make_app, serve, botpress, hubspot)


def test_the_key_of_a_user() -> None:
    assert user_key("user-1", "test-key") == (
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpZCI6InVzZXItMSJ9.Wznbj4HcF4CCotMZ9btft2mqhSI1fAIWXEy0Bfuoz2k"
    )
    assert botpress_id("web_9f2c") == "web_9f2c"
    assert botpress_id("+34911222333") != botpress_id("+34911222334")
    assert len(botpress_id("x@example.com")) <= 70


def test_the_whole_story(channel: Channel) -> None:
    assert channel.says("hello") is False
    wait_until(lambda: channel.texts() == ["You said: hello"], what="the bot's answer")
    assert channel.says("a human please") is False
    wait_until(lambda: len(channel.shown) == 3, what="the handoff")
    assert channel.texts()[1:] == ["Connecting you…", notices.DEFAULTS[notices.HANDOFF]]
    thread = channel.thread()
    assert channel.says("are you there?") is True
    wait_until(lambda: channel.said() == ["are you there?"], what="the user's text")
    channel.hubspot.act(thread["id"], "assign")
    channel.hubspot.act(thread["id"], "reply", text="Yes")
    wait_until(lambda: len(channel.shown) == 5, what="the agent's text")
    assert channel.texts()[3:] == [notices.DEFAULTS[notices.ASSIGNED], "Yes"]
    assert channel.shown[4]["author"] == "operator"
    assert channel.shown[4]["name"]
    channel.hubspot.act(thread["id"], "close")
    wait_until(lambda: "Welcome back" in channel.texts(), what="the bot's greeting")
    assert notices.DEFAULTS[notices.STOPPED] in channel.texts()
    assert channel.says("thanks") is False
    wait_until(lambda: channel.texts()[-1] == "You said: thanks", what="the bot's answer")
    events = [one["request_body"]["payload"] for one in channel.botpress.from_host("/events")]
    assert [one["kind"] for one in events] == ["hitl.assigned", "hitl.ended"]
    assert events[1]["reason"] == "agent_closed"
    assert [one["text"] for one in events[1]["transcript"]] == ["are you there?", "Yes"]
    notes = [one["text"] for one in channel.hubspot.thread(thread["id"])["messages"] if one["type"] == "COMMENT"]
    assert len(notes) == 1
    assert "You said: hello" in notes[0]


def test_doubled_signals_and_a_chatty_bot(channel: Channel) -> None:
    channel.botpress.chaos(duplicate_signals=True, chatty=True)
    channel.says("a human please")
    wait_until(lambda: notices.DEFAULTS[notices.HANDOFF] in channel.texts(), what="the handoff")
    channel.thread()
    channel.botpress.post("chat/event")
    channel.botpress.post("chat/say", text="Anything else?")
    channel.says("hi")
    wait_until(lambda: channel.said() == ["hi"], what="the user's text")
    assert channel.texts() == ["Connecting you…", notices.DEFAULTS[notices.HANDOFF]]
    assert len(channel.hubspot.threads()) == 1


def test_a_wrong_secret_and_bad_bodies(channel: Channel) -> None:
    client = channel.app.test_client()
    url = "/hubspot/botpress/chat/"
    good = {"x-secret-key": channel.botpress.env()["HUBSPOT_HITL_BOTPRESS_WEBHOOK_SECRET"]}
    assert client.post(url, json={"type": "x", "data": {}}).status_code == 401
    assert client.post(url, json={"type": "x", "data": {}}, headers={"x-secret-key": "é"}).status_code == 401
    assert client.post(url, json={"type": "x", "data": {}}, headers=good).status_code == 200
    for body in (b"", b"[]", b'{"type": 1}', b'{"type": "x"}', b'{"type": "x", "data": []}', b"[" * 90_000):
        assert client.post(url, data=body, headers=good).status_code == 400
