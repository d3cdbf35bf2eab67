"""``docs/outcomes.rst``, walked row by row: what becomes of a message or an event, and who hears of it."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from click.testing import Result
from docutils import nodes
from docutils.core import publish_doctree

from flask_hubspot_hitl import (
    Attachment,
    DeliveryFailed,
    HandoffState,
    HubSpotHITL,
    Operator,
    idle_warning,
    operator_message,
)
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.handoffs import queue, transitions
from flask_hubspot_hitl.ledger import EventState, NewEvent, lanes

from .botpress_story import Gate, Page, make_story
from .browser import Browser
from .conftest import MakeApp, Record, Serve
from .helpers import PORTAL, Botpress, HubSpot, Json, app_event, new_message_event, signed_post
from .project_helpers import Folder
from .slow import few_of
from .story import Story

PAGE = Path(__file__).resolve().parents[1] / "docs" / "outcomes.rst"
DAY = 86_400
OTHER, HELP_DESK = "525252", "700200999"
STAGED = "PATCH .*/channel-account-staging-tokens/.*"
PUBLISH = "POST .*/custom-channels/.*/messages$"
USUAL = {"handoff_started", "operator_message", "operator_assigned", "conversation_completed", "message_delivered"}
"""Signals of a good day."""

OUTAGE = "HubSpot does not answer"
"""Begins what the log says of any outage."""
SLOW = "has no HubSpot thread yet"
"""Of the log: on a busy machine HubSpot may take longer than Studio is made to wait."""

Scene = Callable[[Story, Botpress], Iterator[str] | None]
SCENES: dict[str, Scene] = {}


def scene(number: str) -> Callable[[Scene], Scene]:
    def add(function: Scene) -> Scene:
        assert number not in SCENES
        SCENES[number] = function
        return function

    return add


class Site:
    """The served app, and somebody who looks at its pages."""

    def __init__(self, story: Story, base: str) -> None:
        self.story, self.hubspot, self.browser = story, story.hubspot, Browser()
        self.install, self.connect = f"{base}/hubspot/oauth/install", f"{base}/hubspot/connect"
        self.callback, self.base = f"{base}/hubspot/oauth/callback", base

    def link(self) -> str:
        """A link to install with."""
        return command(self.story, "install-url").stdout.strip()

    def answered(self, portal: str = PORTAL, answer: str = "allow") -> str:
        """Where HubSpot sends the browser back to."""
        return self.browser.agree(self.browser.to_hubspot(self.link()), portal, answer=answer)

    def get(self, url: str) -> str:
        return str(self.browser.get(url).status_code)

    def popup(self, **more: str) -> str:
        """The address that HubSpot's popup opens."""
        found = self.hubspot.post("staging-tokens", inboxId=HELP_DESK)
        return f"{self.connect}?{urlencode({**found, **more})}"

    def connects(self, url: str) -> str:
        return str(self.browser.press(self.browser.get(url)).status_code)


PageScene = Callable[[Site], Iterator[str]]
PAGES: dict[str, PageScene] = {}


def page(number: str) -> Callable[[PageScene], PageScene]:
    def add(function: PageScene) -> PageScene:
        assert number not in PAGES
        PAGES[number] = function
        return function

    return add


def command(story: Story, *arguments: str) -> Result:
    return story.app.test_cli_runner().invoke(args=["hubspot-hitl", *arguments])


def exit_of(story: Story, *arguments: str, says: str) -> str:
    """How a command ends, which must say this."""
    result = command(story, *arguments)
    assert says in result.output
    return f"exit {result.exit_code}"


def told(story: Story, *arguments: str, says: str) -> str:
    assert exit_of(story, *arguments, says=says) == "exit 0"
    return "told"


def rows() -> dict[str, set[str]]:
    """Of each row of the table, by its number: what those who hear of it get."""
    tree = publish_doctree(PAGE.read_text(encoding="utf-8"), settings_overrides={"report_level": 2})
    found = {}
    for row in tree.findall(nodes.row):
        number, *_, heard = row.findall(nodes.entry)
        found[number.astext()] = {one.astext() for one in heard.findall(nodes.literal)}
    return {number: heard for number, heard in found.items() if number != "No."}


def fault(match: str, status: int = 400, **more: Any) -> list[Json]:
    return [{"match": match, "mode": "status", "status": status, "times": None, **more}]


def caught(call: Callable[[], Any]) -> str:
    try:
        return str(call())
    except Exception as error:
        return type(error).__name__


def texts(story: Story) -> list[str]:
    return [one["text"] for thread in story.hubspot.threads() for one in thread["messages"] if one.get("text")]


# The verbs -----------------------------------------------------------------------------------------------


@scene("V1")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield caught(lambda: story.start(history=[{"role": "user", "contnet": "hi"}]))
    assert not story.is_active()


@scene("V2")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield caught(lambda: story.start(contact="+34911000000"))
    assert not story.is_active()


@scene("V3")
def _(story: Story, botpress: Botpress) -> None:
    story.hubspot.chaos(faults=fault(".*", 503))
    story.start()
    assert story.is_active()
    for _ in range(3):
        story.run(DAY)


@scene("V4")
def _(story: Story, botpress: Botpress) -> None:
    story.hubspot.chaos(faults=fault("PUT .*/assignee", 404))
    story.start(assign_to="404")
    story.run(1)
    assert story.is_active()


@scene("V5")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield caught(story.send)


@scene("V6")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    story.start()
    yield caught(lambda: story.send(" "))
    yield caught(lambda: story.send("hi", attachments=[b"x"]))


@scene("V7")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.hubspot.chaos(faults=fault("POST .*/files", 413))
    story.send("look", attachments=[Attachment(name="a.bin", content=b"x")])
    story.run(1)
    assert "look" in texts(story)


@scene("V8")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.send("look", attachments=[Attachment(url="https://elsewhere.example.com/a.png")])
    story.run(1)
    assert "look\n[ File: https://elsewhere.example.com/a.png ]" in texts(story)


@scene("V9")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.hubspot.chaos(faults=fault(PUBLISH))
    story.send("refused")
    story.run(1)


@scene("V10")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.hubspot.chaos(faults=fault(".*", 503))
    story.send("late")
    for _ in range(3):
        story.run(DAY)


@scene("V11")
def _(story: Story, botpress: Botpress) -> None:
    story.start()
    story.run(1)
    story.hubspot.chaos(faults=fault(".*", 503))
    story.send("first")
    story.send("second")
    story.stop()
    story.run(1)


def silent(story: Story) -> None:
    """An agent writes, and the user not for as long as the host is to be told."""
    story.says(story.start(idle_warning=60, idle_timeout=90).thread_id, at=story.now)
    story.run(60)


@scene("V12")
def _(story: Story, botpress: Botpress) -> None:
    silent(story)
    story.run(30)
    assert not story.is_active()


def fail(sender: Any, **extra: Any) -> None:
    raise RuntimeError


@scene("V13")
def _(story: Story, botpress: Botpress) -> None:
    with idle_warning.connected_to(fail, story.app):
        silent(story)
        for _ in range(30):
            story.run(600)
    assert story.is_active()


@scene("V14")
def _(story: Story, botpress: Botpress) -> None:
    with idle_warning.connected_to(fail, story.app):
        silent(story)
        story.send()
        for _ in range(30):
            story.run(600)


@scene("V15")
def _(story: Story, botpress: Botpress) -> None:
    story.start(ticket={"hs_ticket_priority": "HIGH"})
    story.run(1)
    assert story.is_active()


# HubSpot's webhooks --------------------------------------------------------------------------------------


@scene("W1")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield str(signed_post(story.client, [], secret="another secret").status_code)


@scene("W2")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield str(signed_post(story.client, b"{").status_code)


@scene("W3")
def _(story: Story, botpress: Botpress) -> None:
    story.post([app_event("deletion", at=story.now, thread="5", objectId="no thread")])


@scene("W4")
def _(story: Story, botpress: Botpress) -> None:
    story.status("99", "CLOSED", at=story.now)


@scene("W5")
def _(story: Story, botpress: Botpress) -> None:
    event = story.write(story.start().thread_id)
    story.post({**event, "message": {**event["message"], "conversationsThreadId": "999"}})
    story.run(200)


@scene("W6")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    story.run(60)
    story.recorder.close()
    story.says(thread)
    for _ in range(100):
        story.run(5)


@scene("W7")
def _(story: Story, botpress: Botpress) -> None:
    def refuse(sender: Any, **extra: Any) -> None:
        raise DeliveryFailed("The user has blocked us")

    with operator_message.connected_to(refuse, story.app):
        story.says(story.start().thread_id)
        story.run(1)


@scene("W8")
def _(story: Story, botpress: Botpress) -> None:
    def fail(sender: Any, **extra: Any) -> None:
        raise RuntimeError

    with operator_message.connected_to(fail, story.app):
        story.says(story.start().thread_id)
        for _ in range(30):
            story.run(600)


@scene("W9")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    event = story.write(thread)
    event["message"]["attachments"] = [{"type": "FILE", "fileId": "404404", "name": "gone.pdf"}, {"type": "NEW"}]
    story.post(event)
    story.run(1)
    (message,) = [one["message"] for one in story.recorder.of("operator_message")]
    assert "gone.pdf" in message.text
    assert "[attachment of type NEW]" in message.text


@scene("W10")
def _(story: Story, botpress: Botpress) -> None:
    first = story.start().thread_id
    story.stop()
    story.run(60)
    story.start()
    story.says(first, at=story.now)
    story.run(1)


@scene("W11")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    story.post([new_message_event("m1", at=story.now, thread=str(thread), messageType="COMMENT")])
    story.post([app_event("brandNew", at=story.now, thread=str(thread))])
    story.status(thread, "CLOSED", at=story.now, appId=999)
    story.run(60)


@scene("W12")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    story.status(thread, "CLOSED", at=story.now - 365 * DAY * 1000)
    story.run(60)
    assert story.is_active()


@scene("W13")
def _(story: Story, botpress: Botpress) -> None:
    story.says(story.start().thread_id, "look", richText='<p>look<img src="https://elsewhere.example.com/a.png"></p>')
    story.run(1)
    (message,) = [one["message"] for one in story.recorder.of("operator_message")]
    assert message.text == "look\n[picture not shown: https://elsewhere.example.com/a.png]"


@scene("W14")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    story.send("kept")
    story.hubspot.act(thread, "purge")
    assert command(story, "reconcile", "--json").exit_code == 0
    assert not story.is_active()
    assert [text for _, text, _ in story.transcript()] == ["kept"]


@scene("W15")
def _(story: Story, botpress: Botpress) -> None:
    thread = story.start().thread_id
    event = story.write(thread)
    story.event("privacyDeletion", thread, at=story.now)
    story.post(event)
    story.run(1)


@scene("W16")
def _(story: Story, botpress: Botpress) -> None:
    story.assigned(story.start().thread_id, "L-77", at=story.now)
    handoff = story.handoff()
    assert handoff is not None
    assert (handoff.state, handoff.operator) == (HandoffState.WAITING, None)


@scene("W17")
def _(story: Story, botpress: Botpress) -> None:
    story.hubspot.act(story.start().thread_id, "move", inboxId=HELP_DESK)
    assert command(story, "reconcile").exit_code == 0
    handoff = story.handoff()
    assert handoff is not None
    assert handoff.inbox_id == HELP_DESK


@scene("W18")
def _(story: Story, botpress: Botpress) -> None:
    for name in ("c1", "c2"):
        story.start(name)
    with story.state.ledger.write() as tx:
        for name in ("c1", "c2"):
            record = tx.records.open_of(name, lock=True)
            assert record is not None
            transitions.assigned(tx, record, Operator("A-987"), occurred_ms=story.now)
            queue.tell(tx, now=story.now)
            lane = lanes.signals(record.handoff)
    with story.state.ledger.read() as tx:
        assert tx.queue.has_pending(lane), "the second one's place has changed"


# The bridges ---------------------------------------------------------------------------------------------


@scene("S1")
def _(story: Story, botpress: Botpress) -> None:
    gate = Gate(story, botpress)
    gate.start("c1")
    assert gate.post("turn", conversationId="c1", eventId="e1", type="typing", payload={"x": 1})["handled"]
    story.run(1)


@scene("S2")
def _(story: Story, botpress: Botpress) -> None:
    gate = Gate(story, botpress)
    gate.start("c1")
    assert gate.post("turn", conversationId="c1", messageId="m1", type="contacts", payload={"x": 1})["handled"]
    story.run(1)
    assert any(text.startswith("[ contacts message: ") for text in texts(story))


@scene("S3")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    answer = Gate(story, botpress).post("start", conversationId="c1", user={"email": "nobody@example.com"})
    assert answer["message"] == notices.DEFAULTS[notices.TIMED_OUT]
    yield answer["status"]


@scene("S4")
def _(story: Story, botpress: Botpress) -> None:
    Gate(story, botpress).start("c1")
    botpress.chaos(faults=fault("POST /v1/chat/messages"))
    story.says(story.hubspot.threads()[0]["id"])
    story.run(1)


def in_status(story: Story, bridge: str) -> str:
    (refused,) = json.loads(command(story, "status", "--json").stdout)["bridges_refused"]
    assert refused["bridge"] == bridge
    return "status"


@scene("S5")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    Gate(story, botpress).start("c1")
    botpress.chaos(faults=fault(".*", 401))
    story.says(story.hubspot.threads()[0]["id"], "late")
    for _ in range(20):
        story.run(60)
    yield in_status(story, "studio")
    botpress.chaos(faults=[])
    story.run(600)
    assert [one["payload"]["text"].partition(": ")[2] for one in botpress.get("messages")] == ["late"]


@scene("S6")
def _(story: Story, botpress: Botpress) -> None:
    Gate(story, botpress).start("c1")
    botpress.chaos(faults=fault("POST /v1/chat/messages", 401))
    story.says(story.hubspot.threads()[0]["id"])
    story.run(1)


@scene("S7")
def _(story: Story, botpress: Botpress) -> None:
    Gate(story, botpress).start("c1")
    botpress.chaos(faults=fault("POST /v1/chat/messages", times=1))
    thread = story.hubspot.threads()[0]["id"]
    story.assigned(thread, at=story.now)
    story.says(thread, "taken", at=story.now + 1)
    story.run(1)
    assert [one["payload"]["text"].partition(": ")[2] for one in botpress.get("messages")] == ["taken"]


@scene("C1")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    page = Page(story, botpress)
    botpress.chaos(faults=fault(".*", 401))
    page.says("late")
    for _ in range(20):
        story.run(60)
    yield in_status(story, "chat")
    botpress.chaos(faults=[])
    story.run(600)
    assert page.to_bot() == ["hello", "late"]


@scene("C2")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    page = Page(story, botpress)
    botpress.chaos(faults=fault("POST .*/messages$"))
    page.says("refused")
    story.run(1)
    if (notices.DEFAULTS[notices.NOT_DELIVERED]) in [text for author, text in page.shown if author == "system"]:
        yield notices.NOT_DELIVERED


@scene("C3")
def _(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    story.run(1)
    page.signal("message_created", {"type": "text", "text": "beside"})
    story.run(1)
    assert "beside" not in [text for _, text in page.shown]


@scene("C4")
def _(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    botpress.chaos(faults=fault("GET .*/messages", 503))
    page.calls_a_human()
    story.run(1)
    story.run(1)
    opening = story.hubspot.threads()[0]["messages"]
    assert any("could not be read whole" in str(one.get("text")) for one in opening)


@scene("C5")
def _(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.signal("event_created", {"kind": "hitl.note", "text": "too early"})
    page.calls_a_human()
    story.run(1)
    assert "too early" not in texts(story)


@scene("C6")
def _(story: Story, botpress: Botpress) -> None:
    page = Page(story, botpress)
    page.calls_a_human()
    story.run(1)
    page.signal("event_created", {"kind": "hitl.note", "text": {"a": 1}})
    story.run(1)


def older_agent(story: Story, botpress: Botpress) -> Callable[..., Json]:
    HitlApiBridge(HubSpotHITL()).init_app(story.app)
    base = f"/hubspot/botpress/hitl-api/{botpress.env()['HUBSPOT_HITL_BOTPRESS_SECRET']}"

    def post(route: str, **body: Any) -> Json:
        found: Json = story.client.post(f"{base}/{route}", json=body).get_json()
        return found

    return post


@scene("H1")
def _(story: Story, botpress: Botpress) -> None:
    post = older_agent(story, botpress)
    post("botSendsMessage", remoteConversationId="s_gone", remoteUserId="u", payload={"text": "hi"})


@scene("H2")
def _(story: Story, botpress: Botpress) -> None:
    post = older_agent(story, botpress)
    post("createRemoteUser", payload={"role": "end-user", "email": "+34911222333"})
    post("createRemoteConversation", payload={"messages": [{"text": "hi"}, {"words": "?"}, 7]})
    story.run(6)
    assert any("(2 entries could not be read)\nUser: hi" in text for text in texts(story))


@scene("H3")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    post = older_agent(story, botpress)
    post("createRemoteUser", payload={"role": "end-user", "email": "+34911222333"})
    post("createRemoteConversation", payload={})
    story.run(6)
    botpress.chaos(faults=fault(".*", 401))
    story.says(story.hubspot.threads()[0]["id"], "late")
    for _ in range(20):
        story.run(60)
    yield in_status(story, "hitl-api")
    botpress.chaos(faults=[])
    story.run(600)
    assert [one["status"] for one in botpress.from_host("/message-from-agent")][-1] == 200


# The pages -----------------------------------------------------------------------------------------------


@page("P1")
def _(site: Site) -> Iterator[str]:
    yield site.get(site.install)


@page("P2")
def _(site: Site) -> Iterator[str]:
    link = site.link()
    site.browser.to_hubspot(link)
    yield site.get(link)
    yield site.get(f"{site.link()}x")
    late = site.link()
    site.story.clock.advance(3_601)
    yield site.get(late)


@page("P3")
def _(site: Site) -> Iterator[str]:
    yield site.get(site.callback)
    yield str(requests.get(site.answered(), timeout=30).status_code)


@page("P4")
def _(site: Site) -> Iterator[str]:
    yield site.get(site.answered(answer="deny"))


@page("P5")
def _(site: Site) -> Iterator[str]:
    site.hubspot.control("POST", "apps", {"appId": "3131", "portalId": OTHER})
    consent = site.browser.to_hubspot(site.link())
    anywhere = site.browser.get(consent.url.replace(f"/{PORTAL}", ""))
    yield site.get(site.browser.agree(anywhere, OTHER))


@page("P6")
def _(site: Site) -> Iterator[str]:
    back = site.answered()
    site.hubspot.chaos(faults=fault("POST /oauth", 503))
    yield site.get(back)


@page("P7")
def _(site: Site) -> Iterator[str]:
    back = site.answered()
    yield site.get(re.sub("code=[^&]+", "code=another", back))
    back = site.answered()
    site.hubspot.control("POST", "apps", {"appId": "3131", "clientSecret": "sim-rotated-meanwhile"})
    yield site.get(back)


@page("P8")
def _(site: Site) -> Iterator[str]:
    consent = site.browser.to_hubspot(site.link())
    fewer = site.browser.get(consent.url.replace("%20crm.objects.contacts.read", ""))
    yield site.get(site.browser.agree(fewer, PORTAL))


@page("P9")
def _(site: Site) -> Iterator[str]:
    back = site.answered()
    with database_in_use(site.story):
        yield site.get(back)
    assert site.get(back) == "200", "nothing was used up"
    site.story.recorder.calls.clear()


@page("P10")
def _(site: Site) -> Iterator[str]:
    back = site.answered()
    yield str(requests.head(back, timeout=30).status_code)
    assert site.get(back) == "200", "nothing was used up"
    site.story.recorder.calls.clear()


@page("K1")
def _(site: Site) -> Iterator[str]:
    yield site.get(site.popup(portalId="1"))
    yield site.get(site.popup(portalId=OTHER))


@page("K2")
def _(site: Site) -> Iterator[str]:
    yield site.get(site.connect)
    yield site.get(site.popup(channelId="1"))


@page("K3")
def _(site: Site) -> Iterator[str]:
    site.hubspot.chaos(faults=fault(STAGED))
    yield site.connects(site.popup())


@page("K4")
def _(site: Site) -> Iterator[str]:
    site.hubspot.chaos(faults=fault(STAGED, 404))
    yield site.connects(site.popup())


@page("K5")
def _(site: Site) -> Iterator[str]:
    site.hubspot.chaos(faults=fault(STAGED, 503))
    yield site.connects(site.popup())


@page("K6")
def _(site: Site) -> Iterator[str]:
    assert site.connects(site.popup()) == "303"
    yield site.connects(site.popup())
    site.story.run(60)
    site.story.recorder.calls.clear()


@page("K7")
def _(site: Site) -> Iterator[str]:
    yield site.connects(site.popup(redirectUrl="https://elsewhere.example.com/"))
    site.story.run(60)
    site.story.recorder.calls.clear()


@page("F1")
def _(site: Site) -> Iterator[str]:
    yield site.get(f"{site.base}/hubspot/files/none")


@page("F2")
def _(site: Site) -> Iterator[str]:
    story = site.story
    story.says(
        story.start().thread_id, "look", attachments=[{"name": "a.txt", "contentType": "t/p", "content": "aGk="}]
    )
    story.run(1)
    with story.app.app_context():
        [(link,)] = [one.attachments for one in story.hitl.transcript("c1") if one.attachments]
    story.hubspot.chaos(faults=fault("GET .*signed-url", 503))
    yield site.get(str(link.url))


# The commands --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def database_in_use(story: Story) -> Iterator[None]:
    """Somebody else writes all the time."""
    path = str(story.state.settings.database_url).removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@scene("L1")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    with story.state.ledger.write() as tx:
        tx.set_meta("public_url", "https://elsewhere.example.com")
    yield exit_of(story, "tick", says="Nothing is dispatched")
    assert command(story, "adopt").exit_code == 0


@scene("L2")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield exit_of(story, "reconcile", "--thread", "404", says="No handoff of ours has the thread 404")


@scene("L3")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    story.start()
    story.hubspot.chaos(faults=fault("GET .*", 503))
    yield exit_of(story, "reconcile", says="could not be read")


@scene("L4")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield exit_of(story, "dead", "show", "404", says="No event 404 was given up")
    yield exit_of(story, "dead", "retry", "404", says="Not dead: 404")


def set_aside(story: Story, count: int) -> None:
    """Items of webhooks that could not be read."""
    given: Json = {"lane": None, "topic": "unreadable", "sort_at": 0, "state": EventState.QUARANTINED}
    with story.state.ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key=f"unreadable {one}", **given) for one in range(count)], now=story.now)


@scene("L5")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    set_aside(story, 1)
    yield told(story, "dead", "retry", "--all", says="1 could not be read when they came")
    with story.state.ledger.write() as tx:
        tx.people.prune_dead(before=story.now + 1, limit=10)


@scene("L6")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    set_aside(story, 101)
    yield told(story, "dead", "list", says="Not shown: 1 older event.")
    with story.state.ledger.write() as tx:
        tx.people.prune_dead(before=story.now + 1, limit=200)


@scene("L7")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    story.start()
    yield told(story, "erase", "--conversation", "c1", says="Nothing was done yet")
    yield told(story, "erase", "--conversation", "c2", "--yes", says="Nothing is kept of them.")
    assert story.is_active()


@scene("L8")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield exit_of(story, "erase", "--phone", "911222333", says="does not say its country")
    yield exit_of(story, "export", says="Say whom")


@scene("L9")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    story.start()
    story.stop()
    story.run(1)
    path = str(story.state.settings.database_url).removeprefix("sqlite:///")
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM hitl_meta").fetchone()
        yield exit_of(story, "erase", "--conversation", "c1", "--yes", says="The rows are gone")


@scene("L10")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    story.start()
    story.app.secret_key = "another"
    yield exit_of(story, "rekey", says="Can't be read with the keys at hand")


@scene("L11")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield exit_of(story, "install-url", "--portal", OTHER, says="no other account may be connected")


@scene("L12")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    story.hubspot.chaos(faults=fault("GET .*/custom-channels/.*", 403))
    yield exit_of(story, "setup", says="answered 403")


@scene("L13")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield exit_of(story, "setup", "--plan", "--check", says="HubSpot differs from what is wanted")


@scene("L14")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield told(story, "teardown", "--yes", says="it does not bear the mark of this database")


@scene("L15")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    yield exit_of(story, "doctor", says="HH3")  # nobody serves the public URL


@scene("L16")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    with database_in_use(story):
        yield exit_of(story, "adopt", says="database")


@scene("L17")
def _(story: Story, botpress: Botpress) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for path, text in {**Folder().files(), "src/app/webhooks/bot/a-hsmeta.json": "{}"}.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text)
        yield told(story, "project", "upload", folder, says="Left out: ")


# The walk ------------------------------------------------------------------------------------------------


def test_every_row_has_a_scene() -> None:
    assert rows().keys() == {**SCENES, **PAGES}.keys()


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record) -> Story:
    how: Json = {"history": "note", "max_attempts": 3, "assignment_timeout": 0, "SECRET_KEY": "s", "tickets": True}
    how["may_install"] = lambda portal_id: portal_id in (PORTAL, OTHER)
    return make_story(make_app, hubspot, botpress, record, dispatcher="inline", **how)


@pytest.mark.parametrize("number", few_of(SCENES, *SCENES.keys() - {"L9"}))
def test_each_row_is_true(story: Story, botpress: Botpress, caplog: pytest.LogCaptureFixture, number: str) -> None:
    caplog.set_level(logging.INFO)
    heard = set(SCENES[number](story, botpress) or ())
    assert heard | heard_of(story, caplog) == rows()[number]


@pytest.mark.parametrize("number", PAGES)
def test_each_row_of_the_pages_is_true(
    story: Story, serve: Serve, caplog: pytest.LogCaptureFixture, number: str
) -> None:
    caplog.set_level(logging.INFO)
    site = Site(story, serve(story.app, target=False))
    try:
        heard = set(PAGES[number](site))
    finally:
        site.browser.close()
    assert heard | heard_of(story, caplog) == rows()[number]


def heard_of(story: Story, caplog: pytest.LogCaptureFixture) -> set[str]:
    """Who has heard of what was played."""
    hubspot = story.hubspot
    hubspot.chaos(faults=[])
    story.run(600)
    heard = set(story.recorder.names()) - USUAL
    heard |= {"message.error" for one in story.recorder.of("message_delivered") if one["message"].error}
    bodies = [one["request_body"] or {} for one in hubspot.requests() if one["method"] == "PATCH"]
    heard |= {"FAILED"} & {str(one.get("statusType")) for one in bodies if isinstance(one, dict)}
    missing = [text for text in texts(story) if "is missing" in text or "ticket should have had" in text]
    heard |= {"note"} if missing else set()
    with story.state.ledger.read() as tx:
        facts = tx.status(now=story.now)
    heard |= {"dead list"} if facts["dead"] else set()
    heard |= {"status"} if facts["quarantined"] else set()
    warned = [
        one.getMessage()
        for one in caplog.records
        if one.levelno >= logging.WARNING and one.name.startswith("flask_hubspot_hitl") and "put off" not in one.msg
    ]
    if any(not line.startswith(OUTAGE) and SLOW not in line for line in warned):
        heard.add("log")
    return heard
