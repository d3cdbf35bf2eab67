"""The ``plus/hitl-api`` bridge, over HTTP between it and the two stand-ins."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.hitl_api.tickets import CANCELLED

from .botpress_story import make_story
from .conftest import MakeApp, Record, Serve
from .helpers import Botpress, HubSpot, Json, wait_until
from .story import Story

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


# Whose, and which one ------------------------------------------------------------------------------------

ANA = {"name": "Ana", "email": "ana@example.com"}
BEA = {"name": "Bea", "email": "bea@example.com"}
DOWN = [{"match": ".*", "mode": "status", "status": 503}]


class Slow(Bot):
    """The same, told step by step: the time is the test's, and so is what HubSpot delivers."""

    def __init__(self, story: Story, base: str, botpress: Botpress) -> None:
        super().__init__(story.app, base, botpress, story.hubspot)
        self.story = story

    def post(self, route: str, **body: Any) -> str:
        """What the integration posts by itself; the id in the answer."""
        answer = requests.post(f"{self.url}/{route}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return str(answer.json().get("id"))

    def open_two(self) -> tuple[Json, Json, Json, Json]:
        """A's session and B's, each with its thread; both are past the time that Botpress takes to link them."""
        first = self.escalate(userId="user_a", description="email: +34911222333")
        self.story.run(4)
        one = self.hubspot.threads()[-1]
        second = self.escalate(userId="user_b", email=BEA["email"], description=f"email: {BEA['email']}")
        self.story.run()
        two = next(thread for thread in self.hubspot.threads() if thread["id"] != one["id"])
        return first, one, second, two

    def agent_closes(self, thread: Json) -> None:
        self.hubspot.act(thread["id"], "close")
        self.story.status(thread["id"], "CLOSED", at=self.story.now)
        self.story.run()

    def ends(self, session: Json, *, cancel_first: bool) -> None:
        """The user types /end."""
        self.botpress.chaos(cancel_first=cancel_first)
        self.botpress.post("hitl-api/end", session=session["session"])
        self.story.run()

    def status(self, thread: Json) -> str:
        return str(self.hubspot.thread(thread["id"])["status"])

    def contact(self, session_id: str) -> tuple[str | None, str | None, str | None] | None:
        """Phone, e-mail address and name of a session's handoff."""
        found = self.story.handoff(session_id)
        return (
            None if found is None or found.contact is None else (found.contact.phone, found.contact.email, found.name)
        )


@pytest.fixture
def slow(make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot, record: Record) -> Slow:
    story = make_story(make_app, hubspot, botpress, record, dispatcher="inline", contact_policy="create")
    HitlApiBridge(story.hitl).init_app(story.app)
    return Slow(story, serve(story.app), botpress)


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize("because", ["Botpress links the conversations", "Botpress is down"])
def test_who_ends_what_an_agent_has_closed_ends_no_other(slow: Slow, because: str, cancel_first: bool) -> None:
    """``/stop-hitl`` has not arrived yet; that user may end as well."""
    a, thread_of_a, b, thread_of_b = slow.open_two()
    if because == "Botpress is down":
        slow.story.run(4)
        slow.botpress.chaos(faults=DOWN)
    slow.agent_closes(thread_of_b)
    assert slow.kinds(b) == []
    slow.ends(b, cancel_first=cancel_first)
    assert slow.status(thread_of_a) == "OPEN"
    assert slow.said(thread_of_a) == []
    slow.ends(a, cancel_first=cancel_first)
    assert slow.status(thread_of_a) == "CLOSED"
    assert slow.said(thread_of_a) == [CANCELLED]
    slow.botpress.chaos(faults=[])
    slow.story.run(600)
    told = [one["request_body"] for one in slow.botpress.from_host("/stop-hitl") if one["status"] == 200]
    assert told == [{"remoteConversationId": b["remote_id"]}]


def test_who_ends_while_stop_hitl_arrives_ends_no_other(slow: Slow) -> None:
    _, thread_of_a, b, thread_of_b = slow.open_two()
    slow.story.run(4)
    slow.agent_closes(thread_of_b)
    assert slow.kinds(b) == ["stop-hitl"]
    slow.ends(b, cancel_first=True)
    assert slow.status(thread_of_a) == "OPEN"
    slow.post("closeRemoteTicket", payload={"botpressConversationId": "conv_x"})
    slow.story.run()
    assert slow.status(thread_of_a) == "CLOSED", "one cancel text stands for one closing"


def test_of_two_that_are_over_each_cancel_text_uses_up_one_closing(slow: Slow) -> None:
    _, thread_of_a, b, thread_of_b = slow.open_two()
    c = slow.escalate(userId="user_c", email=ANA["email"], description=f"email: {ANA['email']}")
    slow.story.run(4)
    known = {thread_of_a["id"], thread_of_b["id"]}
    slow.agent_closes(thread_of_b)
    slow.agent_closes(next(one for one in slow.hubspot.threads() if one["id"] not in known))
    for session in (b, c):
        slow.post("botSendsMessage", remoteConversationId=session["remote_id"], payload={"text": CANCELLED})
    for session in (b, c):
        slow.post("closeRemoteTicket", payload={"botpressConversationId": session["session"]})
    slow.story.run()
    assert slow.status(thread_of_a) == "OPEN"


def test_a_cancel_text_after_its_closing_uses_up_no_other(slow: Slow) -> None:
    """One ends, then another at once, each with the closing first."""
    a, thread_of_a, b, thread_of_b = slow.open_two()
    slow.ends(a, cancel_first=False)
    assert (slow.status(thread_of_a), slow.status(thread_of_b)) == ("CLOSED", "OPEN")
    slow.ends(b, cancel_first=False)
    assert slow.status(thread_of_b) == "CLOSED"
    c = slow.escalate(userId="user_c", email=ANA["email"], description=f"email: {ANA['email']}")
    slow.story.run(1)
    known = {thread_of_a["id"], thread_of_b["id"]}
    thread_of_c = next(one for one in slow.hubspot.threads() if one["id"] not in known)
    slow.ends(c, cancel_first=False)
    assert slow.status(thread_of_c) == "CLOSED"


@pytest.mark.parametrize("line", ["phone: +14155550002", "userId: user_b", "email: bea@other.example.com"])
def test_a_session_that_says_whose_it_is_gets_nobody_elses_address(slow: Slow, line: str) -> None:
    """Ana is made; before her session comes, that of Bea does, who was here before."""
    bea = slow.post("createRemoteUser", payload={"role": "end-user", **BEA})
    slow.story.run(60)
    slow.post("createRemoteUser", payload={"role": "end-user", **ANA})
    session = slow.post("createRemoteConversation", payload={"title": "Refund", "description": line})
    slow.story.run()
    assert slow.contact(session) is None
    slow.post("botSendsMessage", remoteConversationId=session, remoteUserId=bea, payload={"text": "hi"})
    slow.story.run(1)
    phone, email, name = slow.contact(session) or ("", "", "")
    assert phone == ("+14155550002" if "phone" in line else None)
    assert email == ("bea@other.example.com" if "email" in line else BEA["email"])
    assert name == "Bea"


def test_a_users_first_message_tells_more_than_a_guess(slow: Slow) -> None:
    bea = slow.post("createRemoteUser", payload={"role": "end-user", **BEA})
    slow.story.run(60)
    ana = slow.post("createRemoteUser", payload={"role": "end-user", **ANA})
    of_bea = slow.post("createRemoteConversation", payload={"title": "Refund"})
    slow.story.run(1)
    slow.post("botSendsMessage", remoteConversationId=of_bea, remoteUserId=bea, payload={"text": "hi"})
    of_ana = slow.post("createRemoteConversation", payload={"title": "Refund"})
    slow.post("botSendsMessage", remoteConversationId=of_ana, remoteUserId=ana, payload={"text": "hello"})
    slow.story.run(6)
    assert slow.contact(of_bea) == (None, BEA["email"], "Bea")
    assert slow.contact(of_ana) == (None, ANA["email"], "Ana")


def test_a_user_who_says_nothing_is_the_one_made_just_before(slow: Slow) -> None:
    slow.post("createRemoteUser", payload={"role": "end-user", **ANA})
    of_ana = slow.post("createRemoteConversation", payload={"title": "Refund", "description": "It is late"})
    slow.post("createRemoteUser", payload={"role": "end-user", **BEA})
    of_bea = slow.post("createRemoteConversation", payload={"title": "Refund", "description": "It is broken"})
    slow.story.run(4)
    assert slow.hubspot.threads() == []
    slow.story.run(1)
    assert slow.contact(of_ana) == (None, ANA["email"], "Ana")
    assert slow.contact(of_bea) == (None, BEA["email"], "Bea")


@pytest.mark.parametrize(
    "lines",
    [
        "email: ana@example.com\nPhone: iPhone 13, cracked screen",
        "email: ana@example.com\nInbox: can't log in\nPhone: 13",
        "E-Mail: none of mine arrive @ all\nemail: ana@example.com",
        "email: ana@example.com\nPhone: iPhone 13\nphone: +14155550100",
        "email: +14155550100\nphone: +14155550199",
    ],
)
def test_a_line_of_the_description_is_no_hint_unless_its_value_can_be_one(slow: Slow, lines: str) -> None:
    session = slow.post("createRemoteConversation", payload={"title": "Refund", "description": lines})
    slow.story.run(6)
    phone, email, _ = slow.contact(session) or ("", "", "")
    assert email == ("ana@example.com" if "ana@" in lines else None)
    assert phone == ("+14155550100" if "+1" in lines else None)
    handoff = slow.story.handoff(session)
    assert handoff is not None
    assert handoff.description == lines, "the agent reads all of it"
    assert slow.botpress.from_host("/stop-hitl") == []


def test_a_line_that_is_no_hint_does_not_keep_the_user_from_being_guessed(slow: Slow) -> None:
    slow.post("createRemoteUser", payload={"role": "end-user", **ANA})
    session = slow.post("createRemoteConversation", payload={"description": "Phone: iPhone 13, cracked screen"})
    slow.story.run(6)
    assert slow.contact(session) == (None, ANA["email"], "Ana")
