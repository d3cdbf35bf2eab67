"""The stand-in for Botpress, from outside: what a client of its two APIs relies on, and its switches."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask import request as flask_request

from flask_hubspot_hitl.botpress.chat.api import user_key
from flask_hubspot_hitl.testing.serving import Server

from .helpers import Botpress, Json, wait_until
from .peers.node import run


class Client:
    """Botpress's APIs as somebody: a user by a key, or the bot."""

    def __init__(self, base: str, **headers: str) -> None:
        self.base, self.headers = base, headers

    def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Json:
        answer = requests.request(method, self.base + path, json=body, headers=self.headers, timeout=30)
        assert answer.status_code == status, answer.text
        found: Json = answer.json()
        return found


@pytest.fixture
def user(botpress: Botpress) -> Client:
    """Ana, whom Botpress knows."""
    env = botpress.env()
    key = user_key("ana", env["HUBSPOT_HITL_BOTPRESS_ENCRYPTION_KEY"])
    ana = Client(env["HUBSPOT_HITL_BOTPRESS_CHAT_URL"], **{"x-user-key": key})
    ana("POST", "/users/get-or-create", {"name": "Ana"})
    return ana


@pytest.fixture
def bot(botpress: Botpress) -> Client:
    """The bot, with its access key."""
    env = botpress.env()
    token, bot_id = (env[f"HUBSPOT_HITL_BOTPRESS_{name}"] for name in ("TOKEN", "BOT_ID"))
    return Client(f"{botpress.url}/v1/chat", Authorization=f"Bearer {token}", **{"x-bot-id": bot_id})


@pytest.fixture
def host(botpress: Botpress) -> Iterator[list[Json]]:
    """What the bot's signals bring to the host's webhook."""
    app, heard = Flask("host"), []

    @app.post("/signals/")
    def signal() -> Json:
        heard.append(json.loads(flask_request.get_data()))
        return {}

    server = Server()
    server.start(app)
    botpress.control("PUT", "target", {"url": f"{server.url}/signals"})
    yield heard
    server.stop()


def test_users_and_keys(botpress: Botpress, user: Client) -> None:
    assert user("GET", "/users/me")["user"]["name"] == "Ana"
    assert user("PUT", "/users/me", {"name": "Ana B"})["user"]["name"] == "Ana B"
    user("POST", "/users", {}, status=401)  # with an encryption key the host signs
    stranger = Client(user.base, **{"x-user-key": user_key("ana", "another key, of sixteen")})
    assert stranger("GET", "/users/me", status=401)["type"] == "Unauthorized"
    botpress.chaos(personal_keys=False)
    made = stranger("POST", "/users", {"id": "bob"})
    bob = Client(user.base, **{"x-user-key": made["key"]})
    assert bob("GET", "/users/me")["user"]["id"] == "bob"
    assert stranger("POST", "/users", {"id": "bob"}, status=409)["type"] == "AlreadyExists"
    for wrong in ("a@b", "+34", "x" * 71):
        assert stranger("POST", "/users", {"id": wrong}, status=400)["type"] == "InvalidPayload"
    bob("DELETE", "/users/me")
    bob("GET", "/users/me", status=404)


def test_conversations_and_who_takes_part(botpress: Botpress, user: Client) -> None:
    mine = user("POST", "/conversations/get-or-create", {"id": "mine"})["conversation"]
    assert user("POST", "/conversations/get-or-create", {"id": "mine"})["conversation"] == mine
    user("POST", "/conversations", {"id": "mine"}, status=409)
    other = user("POST", "/conversations", {})["conversation"]["id"]
    assert [one["id"] for one in user("GET", "/conversations")["conversations"]] == [other, "mine"]
    key = botpress.env()["HUBSPOT_HITL_BOTPRESS_ENCRYPTION_KEY"]
    bob = Client(user.base, **{"x-user-key": user_key("bob", key)})
    bob("POST", "/users/get-or-create", {})
    assert bob("GET", "/conversations/mine", status=403)["type"] == "Forbidden"
    user("POST", "/conversations/mine/participants", {"userId": "bob"})
    bob("GET", "/conversations/mine/participants/ana", status=403)
    assert user("GET", "/conversations/mine/participants/ana")["participant"]["name"] == "Ana"
    listed = user("GET", "/conversations/mine/participants")
    assert [one["id"] for one in listed["participants"]] == ["ana", "bob"]
    bob("DELETE", "/conversations/mine/participants/ana", status=403)
    bob("DELETE", "/conversations/mine", status=403)
    user("DELETE", "/conversations/mine/participants/bob")
    user("GET", "/conversations/mine/participants/bob", status=404)
    user("DELETE", "/conversations/mine")
    user("GET", "/conversations/mine", status=404)


def test_messages_page_and_errors_in_a_200(botpress: Botpress, user: Client) -> None:
    conversation = user("POST", "/conversations", {})["conversation"]["id"]
    sent = [
        user("POST", "/messages", {"conversationId": conversation, "payload": {"type": "text", "text": str(number)}})
        for number in range(15)
    ]
    page = user("GET", f"/conversations/{conversation}/messages")
    rest = user("GET", f"/conversations/{conversation}/messages?nextToken={page['meta']['nextToken']}")
    found = [one["payload"]["text"] for one in page["messages"] + rest["messages"] if one["userId"] == "ana"]
    assert found == [str(number) for number in range(15)][::-1]
    assert "nextToken" not in rest["meta"]
    message_id = sent[0]["message"]["id"]
    assert user("GET", f"/messages/{message_id}")["message"]["payload"]["text"] == "0"
    user("DELETE", f"/messages/{rest['messages'][0]['id']}", status=403)  # the bot's
    user("DELETE", f"/messages/{message_id}")
    botpress.chaos(error_in_200=True)
    assert user("GET", f"/messages/{message_id}")["code"] == 404
    user("GET", f"/messages/{message_id}", status=404)


def test_signals_can_be_lost_doubled_and_out_of_order(botpress: Botpress, user: Client, host: list[Json]) -> None:
    conversation = user("POST", "/conversations", {})["conversation"]["id"]

    def says(count: int, **switches: Any) -> list[Any]:
        host.clear()
        botpress.chaos(**{"drop_signals": 0, "duplicate_signals": False, "reorder_signals": False, **switches})
        user("POST", "/messages", {"conversationId": conversation, "payload": {"type": "text", "text": "hi"}})
        wait_until(lambda: len(host) == count, what=f"{count} signals")
        return [one["data"]["isBot"] for one in host]

    assert says(2) == [False, True]
    assert says(1, drop_signals=1) == [True]
    assert says(4, duplicate_signals=True) == [False, False, True, True]
    assert says(2, reorder_signals=True) == [True, False]


def test_who_listens_hears_the_signals_and_pings(botpress: Botpress, user: Client) -> None:
    botpress.chaos(ping_seconds=0.05)
    conversation = user("POST", "/conversations", {})["conversation"]["id"]
    lines: list[str] = []
    url = f"{user.base}/conversations/{conversation}/listen"
    with requests.get(url, headers=user.headers, stream=True, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"

        def read() -> None:
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                lines.append(line)
                if line.startswith("data: {") and "You said: hi" in line:
                    return

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: "data: ping" in lines, what="a ping")
        user("POST", "/messages", {"conversationId": conversation, "payload": {"type": "text", "text": "hi"}})
        reader.join(60)
    heard = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert [(one["type"], one["data"]["isBot"]) for one in heard] == [
        ("message_created", False),
        ("message_created", True),
    ]
    assert lines[0].startswith("{}")
    Client(url, **{"x-user-key": "x"})("GET", "", status=401)


def test_the_runtime_api_lists_by_tags_and_tells_its_limits(botpress: Botpress, user: Client, bot: Client) -> None:
    conversation = user("POST", "/conversations", {})["conversation"]["id"]
    assert bot("GET", f"/conversations/{conversation}")["conversation"]["tags"] == {}
    assert bot("PUT", "/users/ana", {"tags": {"hitl#x": "1"}, "name": None})["user"]["tags"] == {"hitl#x": "1"}
    assert [one["id"] for one in bot("GET", "/users?tags.hitl%23x=1")["users"]] == ["ana"]
    assert bot("GET", "/users?tags.hitl%23x=2")["users"] == []
    assert [one["id"] for one in bot("GET", f"/users?conversationId={conversation}")["users"]] == ["ana"]
    assert [one["id"] for one in bot("GET", "/conversations")["conversations"]] == [conversation]
    bot("GET", "/users/nobody", status=404)
    botpress.chaos(runtime_429=1)
    limited = requests.get(f"{bot.base}/users", headers=bot.headers, timeout=30)
    assert (limited.status_code, limited.json()["type"]) == (429, "RateLimited")
    assert (limited.headers["RateLimit-Remaining"], limited.headers["RateLimit-Reset"]) == ("0", "1")
    assert requests.get(f"{bot.base}/users", headers=bot.headers, timeout=30).headers["RateLimit-Remaining"] == "99"
    Client(bot.base, **{"x-bot-id": "x"})("GET", "/users", status=401)
    Client(bot.base, **{**bot.headers, "x-bot-id": "x"})("GET", "/users", status=403)


def test_botpress_own_clients_run_as_they_are(botpress: Botpress, node_library: Path) -> None:
    env = {name.removeprefix("HUBSPOT_HITL_BOTPRESS_"): value for name, value in botpress.env().items()}
    wrong = [{"type": "text"}, {"type": {}}, {"type": "image"}]
    given = {
        "chat": env["CHAT_URL"],
        "encryptionKey": env["ENCRYPTION_KEY"],
        "runtime": botpress.url,
        "token": env["TOKEN"],
        "botId": env["BOT_ID"],
        "wrong": wrong,
    }
    seen = run(node_library, "drive_botpress.cjs", given)
    assert (seen["user"], seen["again"], seen["participants"]) == ("ana", True, ["ana", "bob"])
    turns = [["message_created", is_bot, before + said] for said in ("hello", "again") for is_bot, before in TURN]
    joint, single = (
        [["message_created", is_bot, before + said] for is_bot, before in TURN] for said in ("to both", "to one")
    )
    added, removed = (["participant_added", None, None], ["participant_removed", None, None])
    assert seen["heard"] == [*turns, ["event_created", False, "ours"], added, *joint, removed, *single]
    assert seen["bob"] == ["to both", "You said: to both", "closed"]
    assert seen["outside"] == {"status": 403, "type": "Forbidden"}
    assert seen["himself"] == {"status": 400, "type": "InvalidPayload"}
    assert (seen["count"], seen["newestFirst"]) == (38, True)
    refused = [one["status"] for one in botpress.from_host("/messages") if one["status"] not in (200, 201)]
    assert refused == [*(400 for _ in wrong), 404, 400]
    assert seen["runtime"] == {
        "count": 38,
        "directions": ["incoming", "outgoing"],
        "oldest": ["text", {"text": "hello"}],
    }
    assert (seen["made"], seen["conversations"]) == ("outgoing", 1)
    assert seen["unknown"] == {"status": 404, "type": "ResourceNotFound"}
    assert seen["badPayload"] == {"status": 400, "type": "InvalidPayload"}


TURN = ((False, ""), (True, "You said: "))
"""Whether the bot spoke, and what stands before the user's words then."""
CARD = {"title": "Shoe", "subtitle": "Red", "actions": [{"action": "url", "label": "See", "value": "https://x.test"}]}
CHOICE = {"text": "Which?", "options": [{"label": "A", "value": "a"}]}


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "text", "text": "a", "more": 1},
        {"type": "markdown", "markdown": "*a*"},
        {"type": "image", "imageUrl": "https://x.test/a.png", "title": "A"},
        {"type": "audio", "audioUrl": "https://x.test/a.ogg"},
        {"type": "video", "videoUrl": "https://x.test/a.mp4"},
        {"type": "file", "fileUrl": "https://x.test/a.pdf", "title": "A"},
        {"type": "location", "latitude": 41.4, "longitude": 2, "address": ""},
        {"type": "card", **CARD},
        {"type": "carousel", "items": [CARD, CARD]},
        {"type": "choice", **CHOICE},
        {"type": "dropdown", **CHOICE},
        {"type": "bloc", "items": [{"type": "text", "text": "a"}, {"type": "image", "imageUrl": "https://x.test/a"}]},
    ],
    ids=lambda payload: payload["type"],
)
def test_every_type_of_message_is_taken_and_given_back(user: Client, bot: Client, payload: Json) -> None:
    conversation = user("POST", "/conversations", {})["conversation"]["id"]
    sent = user("POST", "/messages", {"conversationId": conversation, "payload": payload})["message"]
    assert sent["payload"] == payload
    (found,) = (
        one for one in bot("GET", f"/messages?conversationId={conversation}")["messages"] if one["id"] == sent["id"]
    )
    assert (found["type"], found["direction"]) == (payload["type"], "incoming")
    same = {"conversationId": conversation, "userId": botpress_id(bot), "tags": {}}
    again = bot("POST", "/messages", {**same, "type": found["type"], "payload": found["payload"]}, status=201)
    assert again["message"]["payload"] == found["payload"]
    assert user("GET", f"/messages/{again['message']['id']}")["message"]["payload"] == payload


def botpress_id(bot: Client) -> str:
    return bot.headers["x-bot-id"]


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        {},
        {"type": {}},
        {"type": "sticker"},
        {"type": "text"},
        {"type": "text", "text": ""},
        {"type": "text", "text": 1},
        {"type": "image", "imageUrl": ""},
        {"type": "file", "fileUrl": "https://x.test/a", "title": ""},
        {"type": "location", "latitude": "41", "longitude": 2},
        {"type": "location", "latitude": True, "longitude": 2},
        {"type": "card", **CARD, "actions": [{"action": "dance", "label": "a", "value": "b"}]},
        {"type": "carousel", "items": [{"title": "no actions"}]},
        {"type": "choice", "text": "Which?", "options": [{"label": "A"}]},
        {"type": "bloc", "items": [{"type": "choice", **CHOICE}]},
        {"type": "bloc", "items": [{"type": "text", "payload": {"text": "the runtime's spelling"}}]},
        {"type": "bloc"},
    ],
    ids=str,
)
def test_what_is_no_message_is_refused_in_both_apis(user: Client, bot: Client, payload: Any) -> None:
    conversation = user("POST", "/conversations", {})["conversation"]["id"]
    refused = user("POST", "/messages", {"conversationId": conversation, "payload": payload}, status=400)
    assert list(refused) == ["message"]
    kind = payload.get("type") if isinstance(payload, dict) else "text"
    rest = {name: value for name, value in payload.items() if name != "type"} if isinstance(payload, dict) else payload
    if kind != "bloc" or "items" not in rest:
        same = {"conversationId": conversation, "userId": botpress_id(bot), "tags": {}}
        bot("POST", "/messages", {**same, "type": kind, "payload": rest}, status=400)
    assert user("GET", f"/conversations/{conversation}/messages")["messages"] == []


def test_slashes_too_many_are_no_matter(user: Client) -> None:
    for path in ("/hello", "/hello/", "//hello//"):
        answer = requests.get(user.base + path, timeout=30)
        assert (answer.status_code, answer.history) == (200, [])
    assert user("GET", "/users/me/")["user"]["id"] == "ana"


def test_no_two_messages_have_the_same_time(user: Client) -> None:
    conversation = user("POST", "/conversations", {})["conversation"]["id"]
    for number in range(9):
        user("POST", "/messages", {"conversationId": conversation, "payload": {"type": "text", "text": str(number)}})
    times = [one["createdAt"] for one in user("GET", f"/conversations/{conversation}/messages")["messages"]]
    assert len(times) == 18
    assert times == sorted(set(times), reverse=True)


def test_what_is_not_served_does_not_look_missing(botpress: Botpress, bot: Client, user: Client) -> None:
    refused = bot("GET", "/tables/Customers", status=501)
    assert refused["category"] == "NOT_SERVED"
    assert "GET /v1/chat/conversations" in refused["context"]["served"]
    assert user("GET", "/nothing", status=404) == {"message": "Route doesn't exist"}
    assert user("PATCH", "/hello", status=404) == {"message": "Method doesn't exist"}
