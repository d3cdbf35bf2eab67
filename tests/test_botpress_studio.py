"""The Studio bridge, over HTTP between it and the two stand-ins."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.studio import StudioBridge

from .conftest import MakeApp, Serve
from .helpers import Botpress, HubSpot, Json, wait_until

CONVERSATION = "conv_01STUDIO"
ASKED = {"title": "Refund", "summary": "It is late", "user": {"name": "Rosa", "email": "+34911222333"}}


class Bot:
    """A bot with the two snippets, wired to a host that runs the bridge."""

    def __init__(self, app: Flask, base: str, botpress: Botpress, hubspot: HubSpot) -> None:
        self.app, self.botpress, self.hubspot = app, botpress, hubspot
        botpress.control("PUT", "target", {"url": f"{base}/hubspot/botpress"})

    def start(self, **more: Any) -> Json:
        found: Json = self.botpress.post("studio/start", conversationId=CONVERSATION, **{**ASKED, **more})
        return found

    def turn(self, text: str, **more: Any) -> Json:
        found: Json = self.botpress.post("studio/turn", conversationId=CONVERSATION, text=text, **more)
        return found

    def thread(self) -> Json:
        wait_until(self.hubspot.threads, what="a thread")
        return self.hubspot.threads()[-1]

    def said(self) -> list[str]:
        """What the user wrote, as the agent sees it, without the opening."""
        messages = self.hubspot.thread(self.thread()["id"])["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]

    def shown(self) -> list[Any]:
        """What the user has been shown through the Runtime API."""
        calls = self.botpress.from_host("/v1/chat/messages")
        return [one["request_body"]["payload"] for one in calls if one["method"] == "POST"]

    def texts(self) -> list[Any]:
        return [one.get("text") for one in self.shown()]


@pytest.fixture
def bot(make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot) -> Bot:
    config: dict[str, Any] = {"dispatcher": "thread", **botpress.env()}
    app = make_app(**config)
    StudioBridge(HubSpotHITL()).init_app(app)
    return Bot(app, serve(app), botpress, hubspot)


def test_the_whole_session_ended_by_the_agent(bot: Bot) -> None:
    assert bot.turn("hello")["handled"] is False
    started = bot.start()
    assert started["status"] == "open"
    assert started["message"] == notices.DEFAULTS[notices.HANDOFF]
    assert bot.start()["session"] == started["session"]
    thread = bot.thread()
    assert bot.turn("hi")["handled"] is True
    wait_until(lambda: bot.said() == ["hi"], what="the user's text")
    bot.hubspot.act(thread["id"], "assign")
    bot.hubspot.act(thread["id"], "reply", text="Hello Rosa")
    wait_until(lambda: len(bot.shown()) == 2, what="the agent's text")
    bot.hubspot.act(thread["id"], "close")
    wait_until(lambda: len(bot.shown()) == 3, what="the end")
    joined, hello, closed = bot.texts()
    assert joined == notices.DEFAULTS[notices.ASSIGNED]
    assert hello.endswith(": Hello Rosa")
    assert closed == notices.DEFAULTS[notices.STOPPED]
    after = bot.turn("and now?")
    assert after["handled"] is False
    assert [one["text"] for one in after["answer"]["context"]["transcript"]] == ["hi", "Hello Rosa"]
    assert "context" not in bot.turn("again")["answer"]


def test_a_replayed_turn_changes_nothing(bot: Bot) -> None:
    bot.start(messageId="m1")
    bot.thread()
    first = bot.turn("once", messageId="m2")
    assert bot.turn("once", messageId="m2")["handled"] is first["handled"] is True
    bot.botpress.post("studio/stop", conversationId=CONVERSATION)
    assert bot.turn("once", messageId="m2")["handled"] is True
    assert bot.start(messageId="m1")["status"] == "closed"
    assert bot.said() == ["once"]
    assert len(bot.hubspot.threads()) == 1


def test_the_close_command(bot: Bot) -> None:
    bot.start(messages={notices.CLOSED: "Bye then"})
    bot.thread()
    assert bot.turn(" /END ")["handled"] is True
    wait_until(lambda: bot.texts() == ["Bye then"], what="the end")
    assert bot.said() == [notices.DEFAULTS[notices.CANCELLED]]
    assert bot.turn("hello")["handled"] is False


def test_nobody_comes(bot: Bot) -> None:
    bot.start(assignmentTimeout=1)
    wait_until(lambda: bot.texts() == [notices.DEFAULTS[notices.TIMED_OUT]], what="the time-out")
    assert bot.turn("hello")["handled"] is False


def test_the_same_words_again_that_botpress_did_not_take_at_first_are_sent_again(bot: Bot) -> None:
    bot.start()
    thread = bot.thread()
    bot.hubspot.act(thread["id"], "assign")
    bot.hubspot.act(thread["id"], "reply", text="Yes")
    wait_until(lambda: len(bot.shown()) == 2, what="the first one")
    bot.botpress.chaos(faults=[{"match": "POST .*/messages$", "mode": "status", "status": 503, "times": 1}])
    bot.hubspot.act(thread["id"], "reply", text="Yes")

    def taken() -> list[str]:
        calls = bot.botpress.from_host("/v1/chat/messages")
        return [
            one["request_body"]["payload"]["text"] for one in calls if (one["method"], one["status"]) == ("POST", 201)
        ]

    wait_until(lambda: len(taken()) == 3, what="the second one")
    assert [one.rpartition(" ")[2] for one in taken()[1:]] == ["Yes", "Yes"]


def test_a_contact_that_hubspot_does_not_know(bot: Bot) -> None:
    started = bot.start(user={"email": "nobody@example.com"})
    assert started == {"status": "failed", "message": notices.DEFAULTS[notices.TIMED_OUT]}
    assert bot.turn("hello")["handled"] is False


def test_a_wrong_secret(bot: Bot) -> None:
    client = bot.app.test_client()
    for header in ("", "Bearer x", "Bearer sim-call-secret-0123456789abd"):
        for route in ("start", "turn", "stop"):
            url = f"/hubspot/botpress/{route}"
            assert client.post(url, json={"conversationId": "c"}, headers={"Authorization": header}).status_code == 401
