"""A property-based fuzzer over the stand-in for Botpress: its Chat API and its Runtime API, alone and in walks.

Whatever is asked, in the document's shape or out of it: no 5xx, no undocumented status, no answer off its schema,
and what does not fit the document is refused.
"""

from __future__ import annotations

from typing import Any

import pytest
import requests
import schemathesis

from flask_hubspot_hitl.botpress.chat.api import user_key

from . import botpress_document
from .fuzzing import EXAMPLES, MORE, NEGATIVE, POSITIVE, Target, ask, walk
from .helpers import Botpress, Json

STEPS = 40
"""Calls of a walk."""


@pytest.fixture(params=["chat", "runtime"])
def api(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def operations(botpress: Botpress, api: str) -> list[Any]:
    """Every operation of an API."""
    webhook_id = botpress.env()["HUBSPOT_HITL_BOTPRESS_CHAT_URL"].rpartition("/")[2]
    made = botpress_document.chat(webhook_id) if api == "chat" else botpress_document.runtime()
    schema: Any = schemathesis.openapi.from_dict(made)
    return [found.ok() for found in schema.get_all_operations()]


def target(botpress: Botpress, api: str, http: requests.Session) -> Target:
    """A world with two users, who talk to the bot in one conversation."""
    botpress.reset()
    env = {name.removeprefix("HUBSPOT_HITL_BOTPRESS_"): value for name, value in botpress.env().items()}
    keys = {name: {"x-user-key": user_key(name, env["ENCRYPTION_KEY"])} for name in ("ana", "bob")}

    def say(path: str, body: Json, who: str = "ana") -> Any:
        answer = http.post(env["CHAT_URL"] + path, json=body, headers=keys[who], timeout=30)
        assert answer.ok, answer.text
        return answer.json()

    for name in keys:
        say("/users/get-or-create", {"name": name}, name)
    conversation = say("/conversations", {})["conversation"]["id"]
    say(f"/conversations/{conversation}/participants", {"userId": "bob"})
    message = say("/messages", {"conversationId": conversation, "payload": {"type": "text", "text": "hi"}})
    event = say("/events", {"conversationId": conversation, "payload": {}})
    bot = {"Authorization": f"Bearer {env['TOKEN']}", "x-bot-id": env["BOT_ID"]}
    ids = {
        "conversationId": [conversation],
        "messageId": [message["message"]["id"]],
        "eventId": [event["event"]["id"]],
        "userId": ["bob", "ana"] if api == "chat" else ["bob", "ana", env["BOT_ID"]],
    }
    headers = keys["ana"] if api == "chat" else bot
    return Target(base=botpress.url, http=http, ids=ids, credentials=lambda operation: (headers, {}), lenient=lenient)


def lenient(case: Any, why: str) -> bool:
    """Whether it is on purpose that a request was taken that does not fit the document."""
    return False


@pytest.fixture
def http() -> Any:
    with requests.Session() as made:
        made.trust_env = False
        yield made


@pytest.mark.timeout(900)
@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(4 * MORE, marks=pytest.mark.slow)])
def test_fuzz(botpress: Botpress, api: str, http: requests.Session, examples: int) -> None:
    for operation in operations(botpress, api):
        made = target(botpress, api, http)
        for mode in (POSITIVE, NEGATIVE):
            ask(made, operation, mode, examples=examples)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("walks", [EXAMPLES, pytest.param(2 * MORE, marks=pytest.mark.slow)])
def test_walks(botpress: Botpress, api: str, http: requests.Session, walks: int) -> None:
    found = walk(lambda: target(botpress, api, http), operations(botpress, api), walks=walks, steps=STEPS)
    assert sum(any(status < 300 for status in statuses) for statuses in found.values()) > len(found) / 2
