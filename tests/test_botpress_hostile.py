"""Hostile input to every route that Botpress calls: 2xx or 4xx only, a clean log, and nothing of it in the log."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress.chat import ChatBridge
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.studio import StudioBridge

from .conftest import MakeApp
from .helpers import Botpress, open_handoff, state_of
from .test_webhook_hostile import MARKER, WRONG, changed, paths

DATA: dict[str, Any] = {
    "id": "msg_1",
    "createdAt": "2026-01-01T00:00:00.000Z",
    "conversationId": "conv_1",
    "userId": "u1",
    "payload": {"type": "text", "text": "hi"},
    "isBot": True,
}
ASKS = {"kind": "hitl.start", "email": "+1", "name": "n", "messages": {}}
TURN = {"conversationId": "known", "eventId": "e", "messageId": "m", "type": "text", "payload": {"text": "hi"}}
OPTIONS = [{"label": "a", "value": "b"}]
BODIES: dict[str, list[Any]] = {
    "chat/": [
        {"type": "message_created", "data": DATA},
        {"type": "event_created", "data": {**DATA, "id": None, "payload": ASKS}},
    ],
    "start": [{"conversationId": "c9", "userId": "u", "title": "t", "user": {"name": "n", "email": "e"}, "inbox": "1"}],
    "turn": [{**TURN, "text": "hi"}],
    "stop": [{"conversationId": "c9", "reason": "x"}],
    "hitl-api/{secret}/ping": [{"type": "ping"}],
    "hitl-api/{secret}/createRemoteUser": [{"payload": {"role": "end-user", "name": "n", "email": "e", "phone": "p"}}],
    "hitl-api/{secret}/createRemoteConversation": [
        {"payload": {"title": "t", "description": "email: x", "messages": [{"text": "a", "author": "b"}]}}
    ],
    "hitl-api/{secret}/botSendsMessage": [
        {"remoteConversationId": "{session}", "remoteUserId": "BOT", "payload": {"type": "text", "text": "hi"}},
        {
            "remoteConversationId": "{session}",
            "remoteUserId": "u",
            "payload": {"options": [{"label": "a", "value": "b"}]},
        },
    ],
    "hitl-api/{secret}/closeRemoteTicket": [{"payload": {"botpressConversationId": "conv"}}],
}
BROKEN = [
    b"",
    b" ",
    b"\x00",
    b"{",
    b"[]",
    b"null",
    b"5",
    b'"x"',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"a": ' + b"9" * 5_000 + b"}",
    b'{"a": "\\ud800"}',
    gzip.compress(b"{}"),
    b"{}" + b" " * 1_100_000,
    MARKER.encode() * 1_000,
]
ODD: list[dict[str, Any]] = [
    {"CONTENT_LENGTH": "-1"},
    {"CONTENT_LENGTH": "x"},
    {"CONTENT_LENGTH": "9" * 30},
    {"CONTENT_LENGTH": ""},
    {"CONTENT_TYPE": "multipart/form-data"},
    {"CONTENT_TYPE": f"text/{MARKER}; charset=\xff"},
    {"HTTP_TRANSFER_ENCODING": "chunked"},
    {"HTTP_AUTHORIZATION": ""},
    {"HTTP_AUTHORIZATION": "Bearer \xff\x00"},
    {"HTTP_AUTHORIZATION": f"Basic {MARKER}"},
    {"HTTP_X_SECRET_KEY": "\xff"},
    {"QUERY_STRING": f"{MARKER}=%ff&%00"},
    {"wsgi.input": BytesIO()},
    {"HTTP_CONTENT_ENCODING": "gzip"},
]


class Attack:
    """An app with all three bridges, and the count of what was thrown at it."""

    def __init__(self, app: Flask, env: dict[str, str]) -> None:
        self.app, self.env = app, env
        self.client = app.test_client()
        self.cases = 0
        base = f"/hubspot/botpress/hitl-api/{env['HUBSPOT_HITL_BOTPRESS_SECRET']}"
        self.session = self.client.post(f"{base}/createRemoteConversation", json={"payload": {}}).get_json()["id"]
        with state_of(app).ledger.write() as tx:
            tx.bridges.put("chat", "conversation:conv_1", "u1", now=1)
        open_handoff(app, "known", "1")

    def post(self, route: str, body: bytes, **environ: Any) -> int:
        given = {
            "HTTP_AUTHORIZATION": f"Bearer {self.env['HUBSPOT_HITL_BOTPRESS_CALL_SECRET']}",
            "HTTP_X_SECRET_KEY": self.env["HUBSPOT_HITL_BOTPRESS_WEBHOOK_SECRET"],
            "wsgi.input": BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
            **environ,
        }
        path = f"/hubspot/botpress/{route}".format(secret=self.env["HUBSPOT_HITL_BOTPRESS_SECRET"])
        answer = self.client.open(path, method="POST", environ_overrides=given)
        self.cases += 1
        good = 200 <= answer.status_code < 300 or 400 <= answer.status_code < 500
        assert good, (answer.status_code, route, body[:200])
        assert MARKER not in answer.text
        return answer.status_code

    def filled(self, body: Any) -> bytes:
        return json.dumps(body).replace("{session}", self.session).encode()


@pytest.fixture
def attack(make_app: MakeApp, botpress: Botpress) -> Attack:
    # What is accepted is not run here, and whom a start asks is not there: that is not what is looked at.
    nobody = {"api_base_url": "http://127.0.0.1:9", "botpress_api_url": "http://127.0.0.1:9"}
    config: dict[str, Any] = {"dispatcher": "external", **botpress.env(), **nobody}
    app = make_app(**config)
    hitl = HubSpotHITL()
    ChatBridge(hitl, on_message=lambda *_, **__: None).init_app(app)
    StudioBridge(hitl).init_app(app)
    HitlApiBridge(hitl).init_app(app)
    return Attack(app, botpress.env())


def cases() -> Iterator[tuple[str, Any]]:
    """Every field of every route's bodies as everything it should not be; of a second body as a third of that."""
    for route, bodies in BODIES.items():
        for number, body in enumerate(bodies):
            for path in paths(body):
                yield from ((route, changed(body, path, wrong)) for wrong in WRONG[:: 3 if number else 1])


def test_two_thousand_hostile_requests_give_2xx_or_4xx_and_a_clean_log(
    attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_hubspot_hitl")
    for number, (route, body) in enumerate(cases()):
        if route == "start" and body.get("conversationId") == "c9":  # an open conversation is not looked at again
            body["conversationId"] = f"c9-{number}"
        attack.post(route, attack.filled(body))
    for route in BODIES:
        for broken in BROKEN:
            status = attack.post(route, broken)
            assert status == 413 or broken.startswith((b"{", b"\xef")) or status == 400
        for environ in ODD:
            attack.post(route, b'{"type": "x"}', **environ)
    assert attack.cases > 2_000
    assert MARKER not in caplog.text
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR or one.exc_info]


def test_what_was_accepted_of_it_is_carried_out_or_given_up_without_a_bug(
    attack: Attack, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On both databases: what one of them can't hold must not get that far."""
    wanted = [(route, body) for route, body in cases() if "chat" in route or "botSends" in route][::12]
    for route, body in wanted:
        attack.post(route, attack.filled(body))
    state_of(attack.app).dispatcher.run_due()
    assert not [one for one in caplog.records if one.exc_info]
    assert MARKER not in caplog.text
