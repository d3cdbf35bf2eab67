"""A person is erased while another service is asked about them: what is stored afterwards holds nothing of them
(docs/rules.rst I3). The call is carried out and its answer held back until the erasure is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress.chat import ChatBridge
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.studio import StudioBridge

from .botpress_story import make_story
from .conftest import MakeApp, Record
from .helpers import Botpress, HubSpot, Json
from .people_helpers import PHONE, Held, command, left, stored
from .story import Story

USER = f"wa:{PHONE}"
ROSA = {"id": USER, "name": "Rosa Zanzibar", "contact": PHONE}


@pytest.fixture
def held(hubspot: HubSpot, botpress: Botpress) -> Iterator[dict[str, Held]]:
    """In front of both stand-ins."""
    made = {"hubspot": Held(hubspot.url), "botpress": Held(botpress.url)}
    yield made
    for one in made.values():
        one.close()


@pytest.fixture
def story(
    make_app: MakeApp, hubspot: HubSpot, botpress: Botpress, record: Record, database_url: str, held: dict[str, Held]
) -> Story:
    env = {name: value.replace(botpress.url, held["botpress"].url) for name, value in botpress.env().items()}
    env["HUBSPOT_HITL_API_BASE_URL"] = held["hubspot"].url
    config: Json = {"dispatcher": "inline", "contact_policy": "create", "history": "note", "max_attempts": 3, **env}
    return make_story(make_app, hubspot, botpress, record, **config)


def url_of(story: Story) -> str:
    return str(story.state.settings.database_url)


def erase_during(story: Story, held: Held, match: str, act: Callable[[], Any], *whom: str) -> None:
    """Erase the person while the first call that matches has no answer yet; nothing of them is left afterwards."""
    held.hold(match)
    asking = threading.Thread(target=act)
    asking.start()
    try:
        assert held.reached.wait(60), "the call was not made"
        held.meanwhile()
        assert asking.is_alive()  # it has its answer once ``go_on`` is set, or none: on a busy machine it may give up
        done = command(story, "erase", *(whom or ("--phone", PHONE)), "--yes", "--json")
        assert sum(done["rows"].values()) > 0
    finally:
        held.go_on.set()
        asking.join(60)
    assert not asking.is_alive()
    for _ in range(3):
        story.run(60)
    assert left(url_of(story)) == []


class Chat:
    """A host's channel with the chat bridge."""

    def __init__(self, story: Story, botpress: Botpress) -> None:
        self.story, self.botpress = story, botpress
        self.showing: Callable[[], Any] = lambda: None
        self.shown: list[tuple[str, Any]] = []
        self.bridge = ChatBridge(HubSpotHITL(), on_message=self.show)
        self.bridge.init_app(story.app)

    def show(self, user: Any, payload: Json, *, author: str, **extra: Any) -> None:
        self.showing()
        self.shown.append((author, payload.get("text")))

    def says(self, text: str, **more: Any) -> bool:
        with self.story.app.app_context():
            return self.bridge.user_message({**ROSA, **more}, text)

    def calls_a_human(self) -> None:
        [conversation] = {one["conversationId"] for one in self.botpress.get("messages")}
        ask = {"kind": "hitl.start", "email": PHONE, "name": "Rosa Zanzibar", "summary": "a quokka"}
        data = {"id": None, "payload": ask, "isBot": True, "conversationId": conversation, "userId": "bot"}
        headers = {"x-secret-key": self.botpress.env()["HUBSPOT_HITL_BOTPRESS_WEBHOOK_SECRET"]}
        body = {"type": "event_created", "data": {**data, "createdAt": "2026-01-01T00:00:00Z"}}
        assert self.story.client.post("/hubspot/botpress/chat/", json=body, headers=headers).status_code == 200


@pytest.fixture
def chat(story: Story, botpress: Botpress) -> Chat:
    return Chat(story, botpress)


@pytest.mark.parametrize("match", ["POST .*/users/get-or-create", "POST .*/conversations$", "POST .*/messages$"])
def test_i3_a_message_on_its_way_to_the_bot(story: Story, held: dict[str, Held], chat: Chat, match: str) -> None:
    erase_during(story, held["botpress"], match, lambda: chat.says("my quokka"))
    assert chat.says("hello again", name=None, contact=None) is False
    story.run()
    assert "hello again" in [one["payload"].get("text") for one in chat.botpress.get("messages")]


def test_i3_a_conversation_that_botpress_has_lost(story: Story, held: dict[str, Held], chat: Chat) -> None:
    chat.says("hello")
    story.run()
    chat.botpress.chaos(faults=[{"match": "POST .*/messages$", "mode": "status", "status": 404, "times": 1}])
    erase_during(story, held["botpress"], "POST .*/messages$", lambda: chat.says("my quokka"))


def test_i3_a_handoff_whose_history_is_being_read(story: Story, held: dict[str, Held], chat: Chat) -> None:
    chat.says("my quokka")
    story.run()
    held["botpress"].meanwhile = lambda: chat.says("my quokka is held back until the handoff is open")
    erase_during(story, held["botpress"], "GET .*/messages", chat.calls_a_human)
    assert story.hubspot.threads() == []
    assert story.handoff(USER) is None


def test_i3_an_end_that_the_host_is_being_shown(story: Story, held: dict[str, Held], chat: Chat) -> None:
    """The bot's lane would get the transcript."""
    chat.says("hello")
    story.run()
    chat.calls_a_human()
    story.run()
    thread = story.hubspot.threads()[0]["id"]
    story.says(thread, "your quokka", at=story.now)
    shown = held["botpress"]
    chat.showing = lambda: shown.stop_at("shown")
    erase_during(story, shown, "shown", lambda: story.status(thread, "CLOSED", at=story.now + 1))


def studio(story: Story, botpress: Botpress) -> str:
    """A conversation of a channel of Botpress's own, handed over; answers its thread."""
    StudioBridge(HubSpotHITL()).init_app(story.app)
    botpress.control("POST", "conversations", {"id": "c1"})
    headers = {"Authorization": f"Bearer {botpress.env()['HUBSPOT_HITL_BOTPRESS_CALL_SECRET']}"}
    body: Json = {"conversationId": "c1", "integration": "webchat", "userId": "user_9"}
    body |= {"user": {"phone": PHONE, "name": "Rosa Zanzibar"}}
    assert story.client.post("/hubspot/botpress/start", json=body, headers=headers).get_json()["status"] == "open"
    for _ in range(5):
        story.run(5)
    return str(story.hubspot.threads()[0]["id"])


@pytest.mark.parametrize("match", ["POST .*/v1/chat/actions$", "POST .*/v1/chat/messages$"])
def test_i3_an_agents_message_on_its_way_to_studio(
    story: Story, held: dict[str, Held], botpress: Botpress, match: str
) -> None:
    thread = studio(story, botpress)
    event = story.write(thread, "your quokka")
    erase_during(story, held["botpress"], match, lambda: story.post(event))
    assert rows_of(story, "webchat") == []


def test_i3_an_end_on_its_way_to_studio(story: Story, held: dict[str, Held], botpress: Botpress) -> None:
    thread = studio(story, botpress)
    story.says(thread, "your quokka", at=story.now)
    closed_at = story.now + 1
    erase_during(
        story, held["botpress"], "POST .*/v1/chat/messages$", lambda: story.status(thread, "CLOSED", at=closed_at)
    )
    assert rows_of(story, "ended") == []


def rows_of(story: Story, kind: str) -> list[str]:
    with story.state.ledger.read() as tx:
        return [key for _, key, _ in tx.people.bridge_rows() if kind in key]


@pytest.mark.parametrize("route", ["agent-assigned", "message-from-agent", "stop-hitl"])
def test_i3_a_call_to_the_older_agent(story: Story, held: dict[str, Held], botpress: Botpress, route: str) -> None:
    HitlApiBridge(HubSpotHITL()).init_app(story.app)
    base = f"/hubspot/botpress/hitl-api/{botpress.env()['HUBSPOT_HITL_BOTPRESS_SECRET']}"
    story.client.post(f"{base}/createRemoteUser", json={"payload": {"name": "Rosa Zanzibar", "email": PHONE}})
    story.client.post(f"{base}/createRemoteConversation", json={"payload": {"title": "a quokka"}})
    story.run(6)
    thread = story.hubspot.threads()[0]["id"]
    acts: dict[str, Callable[[], Any]] = {
        "agent-assigned": lambda: story.assigned(thread, at=story.now),
        "message-from-agent": lambda: story.says(thread, "your quokka", at=story.now),
        "stop-hitl": lambda: story.status(thread, "CLOSED", at=story.now),
    }
    erase_during(story, held["botpress"], f"POST .*/{route}$", acts[route])
    assert rows_of(story, "session") == rows_of(story, "user") == []
    assert botpress.from_host("/stop-hitl"), "else Botpress would go on giving us the user's messages"


def test_i3_a_contact_that_is_being_made(story: Story, held: dict[str, Held]) -> None:
    stranger = "+34911222444"
    made = lambda: story.start("c7", contact=stranger, name="Rosa Zanzibar")  # noqa: E731 - runs in a thread
    erase_during(story, held["hubspot"], "POST .*/contacts$", made, "--phone", stranger)
    assert "contact:" not in stored(url_of(story)), "the digest by which it is known who was made"


def test_i3_hubspots_deletion_takes_what_a_bridge_keeps_of_the_thread(
    story: Story, chat: Chat, botpress: Botpress
) -> None:
    """Of the user it takes nothing: that is not the thread's."""
    chat.says("hello")
    story.run()
    chat.calls_a_human()
    story.run()
    thread = story.hubspot.threads()[0]["id"]
    story.says(thread, "a wombat", at=story.now)
    story.status(thread, "CLOSED", at=story.now + 1)
    story.run()
    assert "wombat" in stored(url_of(story))
    story.event("privacyDeletion", thread, at=story.now + 2)
    story.run(60)
    assert "wombat" not in stored(url_of(story))
    assert chat.says("hello again") is False
