"""What several test modules share: payloads of both feeds, signed requests, and the test kit's names."""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_hubspot_hitl import testing
from flask_hubspot_hitl.domain import Contact, Handoff, HandoffState
from flask_hubspot_hitl.handoffs import rules
from flask_hubspot_hitl.hubspot import signature
from flask_hubspot_hitl.hubspot.paths import NEWEST, Paths
from flask_hubspot_hitl.ledger import HandoffRecord, Transaction, lanes
from flask_hubspot_hitl.runtime import Runtime, get_runtime
from flask_hubspot_hitl.testing import CapturedSignals, StandIn
from flask_hubspot_hitl.testing import HubSpot as HubSpot
from flask_hubspot_hitl.testing.payloads import THREAD as THREAD
from flask_hubspot_hitl.testing.payloads import app_event as app_event
from flask_hubspot_hitl.testing.payloads import assigned_event as assigned_event
from flask_hubspot_hitl.testing.payloads import channel_event as channel_event
from flask_hubspot_hitl.testing.payloads import new_message_event as new_message_event
from flask_hubspot_hitl.testing.payloads import status_event as status_event

Json = dict[str, Any]

API_VERSION = os.environ.get("HITL_TEST_API_VERSION") or NEWEST
"""The version that apps of the tests use: a new store's, or the one that the stand-in tells hosts to use."""
PATHS = Paths(API_VERSION)
"""Where apps of the tests call HubSpot."""
PATIENCE = 60.0
"""Seconds that our own tests wait at most: on a busy machine everything takes long, and that is no failure."""


Recorder = CapturedSignals


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE, what: str = "it") -> None:
    """Poll until ``condition()`` is true; fails after ``timeout`` seconds."""
    testing.wait_until(condition, what, timeout=timeout)


def seconds_of(action: Callable[[], object], less_than: float, tries: int = 5) -> float:
    """How long ``action()`` takes: the first that takes less than so many seconds, else the quickest of all tries.

    A busy machine can make any one of them slower, but what the code waits for it waits for in each of them.
    """
    took: list[float] = []
    while len(took) < tries and (not took or took[-1] >= less_than):
        began = time.monotonic()
        action()
        took.append(time.monotonic() - began)
    return min(took)


def held_port() -> socket.socket:
    """A port of this machine that nobody else is given as long as the socket is open: neither another test's server nor
    somebody's connection. A server of ours may listen there, again and again, because all of them reuse addresses.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


_HELD: list[socket.socket] = []


def own_port() -> int:
    """A port for a server in a process of its own; it stays ours until this process ends."""
    _HELD.append(held_port())
    port: int = _HELD[-1].getsockname()[1]
    return port


def state_of(app: Flask) -> Runtime:
    """The extension's part of an app."""
    return get_runtime(app)


# --- Botpress --------------------------------------------------------------------------------------------


class Botpress(StandIn):
    """Botpress's stand-in, and what its bot and its users do."""

    def to_host(self, path: str = "") -> list[Json]:
        """The bot's requests to the host whose URL ends in ``path``, oldest first."""
        return [one for one in self.deliveries() if one["url"].endswith(path)]

    def from_host(self, path: str = "") -> list[Json]:
        """The host's calls to the bot whose path ends in ``path``, oldest first."""
        return [one for one in self.requests() if one["path"].endswith(path)]


# --- payloads --------------------------------------------------------------------------------------------

PORTAL, CHANNEL, ACCOUNT, APP = "424242", "100458", "880011", "3131"


def opening(conversation_id: str, **fields: Any) -> rules.Opening:
    """What ``start`` would have been asked for; ``fields`` are the opening's or the handoff's."""
    values: Json = {
        "id": uuid.uuid4().hex,
        "conversation_id": conversation_id,
        "portal_id": PORTAL,
        "inbox_id": "700200300",
        "thread_id": None,
        "state": HandoffState.STARTING,
        "contact": Contact(email="rosa@example.test"),
        "name": "Rosa",
    }
    own = {name: fields.pop(name) for name in rules.Opening.__slots__ if name in fields}
    given = {"channel_id": CHANNEL, "account_id": ACCOUNT, **own}
    return rules.Opening(handoff=Handoff(**{**values, **fields}), **given)


def begin_handoff(tx: Transaction, conversation_id: str, *, now: int, **fields: Any) -> HandoffRecord:
    """A handoff in state ``starting``, by the ledger's own means; nothing of it is left to send to HubSpot."""
    record, is_new = rules.begin(tx, opening(conversation_id, **fields), deployment_id="test", now=now)
    assert is_new
    tx.delete_lane(lanes.outbound(record.handoff.id))
    return record


def open_handoff(app: Flask, conversation_id: str, thread_id: str = THREAD, **fields: Any) -> HandoffRecord:
    """A handoff with a thread, as after ``start``, without any call to HubSpot."""
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        now = ledger.now_ms()
        record = begin_handoff(tx, conversation_id, now=now, **fields)
        rules.opened(tx, record, thread_id=thread_id, timeout_ms=0, now=now)
    return record


# --- requests --------------------------------------------------------------------------------------------


def body_of(payload: Any) -> bytes:
    """A payload's bytes; bytes stay what they are."""
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def signature_headers(
    body: bytes,
    *,
    secret: str,
    uri: str,
    version: str = "v3",
    timestamp: int | str | None = None,
) -> dict[str, str]:
    """The headers that HubSpot would send along."""
    return signature.headers(version, secret=secret, uri=uri, body=body, timestamp=timestamp or 0)


def signed_post(
    target: Flask | FlaskClient,
    payload: Any,
    *,
    secret: str | None = None,
    version: str = "v3",
    timestamp: int | str | None = None,
    uri: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> TestResponse:
    """Post to the webhook as HubSpot does. ``uri`` is what is signed, by default the first public URL's webhook;
    its query string is sent as it is. ``headers`` are added last, ``more`` goes to the test client.
    """
    client = target.test_client() if isinstance(target, Flask) else target
    state = state_of(client.application)
    body = body_of(payload)
    signed = uri or state.settings.webhook_urls()[0]
    given = signature_headers(
        body,
        secret=secret or state.settings.client_secret[0],
        uri=signed,
        version=version,
        timestamp=state.ledger.wall_ms() if timestamp is None else timestamp,
    )
    sent: Json = {
        "data": body,
        "content_type": "application/json",
        "headers": {**given, **(headers or {})},
        "query_string": signed.partition("?")[2] or None,
        **more,
    }
    answer: TestResponse = client.post(f"{state.settings.url_prefix}/webhook", **sent)
    return answer
