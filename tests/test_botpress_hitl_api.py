"""The ``plus/hitl-api`` bridge, over HTTP between it and the two stand-ins."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.hitl_api.tickets import CANCELLED

from .conftest import MakeApp, Serve
from .helpers import Botpress, HubSpot, Json, wait_until

ESCALATION = {"name": "Rosa", "email": "+34911222333", "title": "Refund", "description": "It is late"}


class Bot:
    """A bot with the old HITL agent, wired to a host that runs the bridge."""

    def __init__(self, app: Flask, base: str, botpress: Botpress, hubspot: HubSpot) -> None:
        self.app, self.botpress, self.hubspot = app, botpress, hubspot
        secret = botpress.env()["HUBSPOT_HITL_BOTPRESS_SECRET"]
        self.url = f"{base}/hubspot/botpress/hitl-api/{secret}"
        botpress.control("PUT", "target", {"url": self.url})

    def escalate(self, **more: Any) -> Json:
        found: Json = self.botpress.post("hitl-api/escalate", **{**ESCALATION, **more})
        return found

    def thread(self, count: int = 1) -> Json:
        """The newest thread, once there are so many."""
        wait_until(lambda: len(self.hubspot.threads()) >= count, what="a thread")
        return self.hubspot.threads()[-1]

    def said(self, thread: Json) -> list[str]:
        """What the user wrote, as the agent sees it, without the opening."""
        messages = self.hubspot.thread(thread["id"])["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]

    def received(self, session: Json) -> list[Json]:
        """What the bridge has told Botpress of a session."""
        sessions = self.botpress.get("hitl-api/sessions")
        found: list[Json] = next(one["received"] for one in sessions if one["session"] == session["session"])
        return found

    def kinds(self, session: Json) -> list[str]:
        return [one["kind"] for one in self.received(session)]


@pytest.fixture
def bot(make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot) -> Bot:
    config: dict[str, Any] = {"dispatcher": "thread", **botpress.env()}
    app = make_app(**config)
    HitlApiBridge(HubSpotHITL()).init_app(app)
    return Bot(app, serve(app), botpress, hubspot)


def test_the_whole_session_ended_by_the_agent(bot: Bot) -> None:
    bot.botpress.post("hitl-api/ping")
    session = bot.escalate()
    thread = bot.thread()
    bot.botpress.post("hitl-api/say", session=session["session"], text="hi")
    wait_until(lambda: bot.said(thread) == ["hi"], what="the user's text")
    bot.botpress.post("hitl-api/bot", session=session["session"], text="A person is on the way.")
    wait_until(lambda: bot.said(thread) == ["hi", "Bot: A person is on the way."], what="the bot's text")
    bot.hubspot.act(thread["id"], "assign")
    bot.hubspot.act(thread["id"], "reply", text="Hello Rosa")
    wait_until(lambda: len(bot.kinds(session)) == 2, what="the agent's text")
    bot.hubspot.act(thread["id"], "close")
    wait_until(lambda: len(bot.kinds(session)) == 3, what="the end")
    assigned, message, stopped = bot.received(session)
    remote = session["remote_id"]
    agent = assigned["remoteUserId"]
    assert agent.startswith("agent_A-")
    assert assigned == {"kind": "agent-assigned", "remoteConversationId": remote, "remoteUserId": agent}
    assert message == {
        "kind": "message-from-agent",
        "remoteConversationId": remote,
        "remoteUserId": agent,
        "messageType": "text",
        "payload": {"text": "Hello Rosa"},
    }
    assert stopped == {"kind": "stop-hitl", "remoteConversationId": remote}
    assert not bot.botpress.to_host("closeRemoteTicket")


@pytest.mark.parametrize("cancel_first", [True, False])
def test_the_user_ends_in_either_order(bot: Bot, cancel_first: bool) -> None:
    bot.botpress.chaos(cancel_first=cancel_first)
    first, second = bot.escalate(), bot.escalate(userId="user_02")
    wait_until(lambda: len(bot.hubspot.threads()) == 2, what="two threads")
    bot.botpress.post("hitl-api/end", session=second["session"])
    wait_until(lambda: [one["status"] for one in bot.hubspot.threads()].count("CLOSED") == 1, what="the end")
    closed = next(one for one in bot.hubspot.threads() if one["status"] == "CLOSED")
    assert bot.said(closed) == [CANCELLED]
    assert bot.kinds(first) == bot.kinds(second) == []
    assert {one["status"] for one in bot.botpress.to_host("closeRemoteTicket")} == {200}


def test_a_second_escalation_makes_no_second_user(bot: Bot) -> None:
    first = bot.escalate()
    bot.hubspot.act(bot.thread()["id"], "close")
    wait_until(lambda: bot.kinds(first) == ["stop-hitl"], what="the end")
    bot.escalate(description="email: +34911222333")
    bot.thread(2)
    assert len(bot.botpress.to_host("createRemoteUser")) == 1


def test_what_comes_before_the_conversations_are_linked_is_not_said_too_soon(bot: Bot) -> None:
    bot.botpress.chaos(activation_seconds=1.5)
    session = bot.escalate()
    bot.hubspot.act(bot.thread()["id"], "assign")
    wait_until(lambda: bot.kinds(session) == ["agent-assigned"], what="the assignment")


def test_a_wrong_secret_is_a_page_that_is_not_there(bot: Bot) -> None:
    client = bot.app.test_client()
    for secret in ("x", "sim-hitl-api-0123456789abcdeg", "%ff", "é"):
        answer = client.post(f"/hubspot/botpress/hitl-api/{secret}/createRemoteUser", json={})
        assert answer.status_code == 404
    path = bot.url[bot.url.index("/hubspot") :]
    bad: list[bytes] = [b"", b"[]", b"x", b'{"payload": 5}', b'{"payload": NaN}', b"[" * 9_000, b"\xff"]
    for route in ("createRemoteUser", "createRemoteConversation", "botSendsMessage"):
        for body in bad:
            assert client.post(f"{path}/{route}", data=body).status_code == 400
