"""What several test modules share: the stand-in as a process, payloads of both feeds, and a recorder of signals."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
from blinker import NamedSignal
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_hubspot_hitl import handoffs, signals
from flask_hubspot_hitl.domain import Contact
from flask_hubspot_hitl.hubspot.signature import sign
from flask_hubspot_hitl.ledger import HandoffRecord, Transaction
from flask_hubspot_hitl.runtime import Runtime, get_runtime

Json = dict[str, Any]


def wait_until(condition: Callable[[], object], timeout: float = 20.0, what: str = "it") -> None:
    """Poll until ``condition()`` is true; fails after ``timeout`` seconds."""
    ends = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < ends, f"waited {timeout} s in vain for {what}"
        time.sleep(0.01)


def state_of(app: Flask) -> Runtime:
    """The extension's part of an app."""
    return get_runtime(app)


# --- the stand-in ----------------------------------------------------------------------------------------


class StandIn:
    """A stand-in, a process of its own, and its control routes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Connection"] = "close"

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """A call of ``/_sim/<path>`` that must succeed; its JSON."""
        answer = self._http.request(method, f"{self.url}/_sim/{path}", json=body, timeout=10)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def get(self, path: str) -> Any:
        """A control route's JSON."""
        return self.control("GET", path)

    def post(self, path: str, **fields: Any) -> Any:
        """Have a control route do something."""
        return self.control("POST", path, fields)

    def env(self) -> dict[str, str]:
        """The settings with which an app talks to it."""
        found: dict[str, str] = self.control("GET", "env")
        return found

    def reset(self) -> None:
        """Back to the preset."""
        self.control("POST", "reset", {})

    def target(self, url: str) -> None:
        """Have both feeds delivered to a host's webhook URL."""
        self.control("PUT", "target", {"url": url})

    def chaos(self, **switches: Any) -> Json:
        """Change switches; all of them as they are now."""
        found: Json = self.control("POST", "chaos", switches)
        return found

    def requests(self) -> list[Json]:
        """Every API call served, oldest first."""
        found: list[Json] = self.control("GET", "requests")
        return found

    def deliveries(self) -> list[Json]:
        """Every delivery attempt, oldest first."""
        found: list[Json] = self.control("GET", "deliveries")
        return found

    def close(self) -> None:
        """Close the connections to it."""
        self._http.close()


class HubSpot(StandIn):
    """HubSpot's stand-in, and what an agent does in it."""

    def contact(self, **fields: Any) -> Json:
        """Make a contact: ``phone``, ``email``, ``firstname``, …"""
        found: Json = self.control("POST", "contacts", fields)
        return found

    def threads(self) -> list[Json]:
        """Every thread with its messages, oldest first."""
        found: list[Json] = self.control("GET", "threads")
        return found

    def thread(self, thread_id: str | None) -> Json:
        """One thread with its messages."""
        found: Json = self.control("GET", f"threads/{thread_id}")
        return found

    def act(self, thread_id: str | None, action: str, **fields: Any) -> Json:
        """What an agent does: reply, comment, assign, unassign, close, reopen, archive, restore, purge."""
        found: Json = self.control("POST", f"threads/{thread_id}/{action}", fields)
        return found

    def deliver(self, body: Any, feed: str = "app", times: int = 1) -> list[int | None]:
        """Sign any body now and deliver it; the statuses answered."""
        found: list[int | None] = self.control("POST", "deliver", {"body": body, "feed": feed, "times": times})
        return found


class Botpress(StandIn):
    """Botpress's stand-in, and what its bot and its users do."""

    def to_host(self, path: str = "") -> list[Json]:
        """The bot's requests to the host whose URL ends in ``path``, oldest first."""
        return [one for one in self.deliveries() if one["url"].endswith(path)]

    def from_host(self, path: str = "") -> list[Json]:
        """The host's calls to the bot whose path ends in ``path``, oldest first."""
        return [one for one in self.requests() if one["path"].endswith(path)]


def start_hubspot(module: str = "flask_hubspot_hitl.simulator") -> tuple[subprocess.Popen[str], str]:
    """Start a stand-in on a free port; the process and its URL."""
    command = [sys.executable, "-m", module, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().split()[2].rstrip("/")
    return process, url


# --- payloads --------------------------------------------------------------------------------------------

PORTAL, CHANNEL, ACCOUNT, APP = "424242", "100458", "880011", "3131"
THREAD = "6300112233"


def app_event(subscription: str = "propertyChange", *, thread: str = THREAD, at: int, **fields: Any) -> Json:
    """An item of the app's feed, as in facts on global webhooks §6.2."""
    return {
        "eventId": 3816279340,
        "subscriptionId": 77001,
        "portalId": int(PORTAL),
        "appId": int(APP),
        "occurredAt": at,
        "subscriptionType": f"conversation.{subscription}",
        "attemptNumber": 0,
        "objectId": int(thread),
        **fields,
    }


def status_event(value: str, *, at: int, **fields: Any) -> Json:
    """The thread's status has changed."""
    return app_event(at=at, changeSource="USERS", propertyName="status", propertyValue=value, **fields)


def assigned_event(value: Any, *, at: int, **fields: Any) -> Json:
    """The thread's assignee has changed."""
    return app_event(at=at, changeSource="USERS", propertyName="assignedTo", propertyValue=value, **fields)


def new_message_event(message_id: str, *, at: int, **fields: Any) -> Json:
    """Somebody wrote in the thread."""
    more = {"changeFlag": "NEW_MESSAGE", "messageId": message_id, "messageType": "MESSAGE"}
    return app_event("newMessage", at=at, **{**more, **fields})


def channel_event(
    message_id: str = "c0ffee12a5f44c0f9a3d5f6e7a8b9c0d",
    *,
    text: str = "Hi Rosa, I can fix that",
    thread: str = THREAD,
    created: str = "2026-10-01T09:20:10.900Z",
    integration_threads: list[str] | None = None,
    **message: Any,
) -> Json:
    """The channel feed's object for an agent's message, as in facts on channel webhooks §4.2."""
    return {
        "type": "OUTGOING_CHANNEL_MESSAGE_CREATED",
        "portalId": PORTAL,
        "channelId": CHANNEL,
        "eventTimestamp": created,
        "eventId": "1f6a5a0e-3d53-4b61-8f6d-7a21a1a3b9c4",
        "channelIntegrationThreadIds": integration_threads or [],
        "message": {
            "id": message_id,
            "type": "MESSAGE",
            "channelId": CHANNEL,
            "channelAccountId": ACCOUNT,
            "conversationsThreadId": thread,
            "createdAt": created,
            "createdBy": "A-987",
            "client": {"clientType": "HUBSPOT"},
            "senders": [{"actorId": "A-987"}],
            "recipients": [{"actorId": "V-55512001", "name": "Rosa Vidal"}],
            "text": text,
            "richText": f"<div>{text}</div>",
            "direction": "OUTGOING",
            "truncationStatus": "NOT_TRUNCATED",
            "status": {"statusType": "SENT"},
            "attachments": [],
            "archived": False,
            **message,
        },
    }


def opening(conversation_id: str, **fields: Any) -> handoffs.Opening:
    """What ``start`` would have been asked for."""
    values: Json = {
        "conversation_id": conversation_id,
        "portal_id": PORTAL,
        "channel_id": CHANNEL,
        "account_id": ACCOUNT,
        "inbox_id": "700200300",
        "contact": Contact(email="rosa@example.test"),
        "name": "Rosa",
        "title": None,
        "description": None,
        "transcript": "",
        "transcript_as": "none",
        "assign_to": None,
        "attributes": {},
    }
    return handoffs.Opening(**{**values, **fields})


def begin_handoff(tx: Transaction, conversation_id: str, *, now: int, **fields: Any) -> HandoffRecord:
    """A handoff in state ``starting``, by the ledger's own means; nothing of it is left to send to HubSpot."""
    record, is_new = handoffs.begin(tx, opening(conversation_id, **fields), deployment_id="test", now=now)
    assert is_new
    tx.delete_lane(handoffs.out_lane(record.handoff.id))
    return record


def open_handoff(app: Flask, conversation_id: str, thread_id: str = THREAD, **fields: Any) -> HandoffRecord:
    """A handoff with a thread, as after ``start``, without any call to HubSpot."""
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        now = ledger.now_ms()
        record = begin_handoff(tx, conversation_id, now=now, **fields)
        handoffs.opened(tx, record, thread_id=thread_id, timeout_ms=0, now=now)
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
    signature = sign(version, secret=secret, method="POST", uri=uri, body=body, timestamp=timestamp)
    if version == "v3":
        return {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": str(timestamp)}
    return {"X-HubSpot-Signature": signature, "X-HubSpot-Signature-Version": version}


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
        timestamp=state.ledger.now_ms() if timestamp is None else timestamp,
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


# --- signals ---------------------------------------------------------------------------------------------


class Recorder:
    """Keeps every signal of one app as ``(name, keywords)``, in the order received."""

    def __init__(self, app: Flask) -> None:
        self.calls: list[tuple[str, Json]] = []
        self._lock = threading.Lock()
        self._connected: list[tuple[NamedSignal, Callable[..., None]]] = []
        for name, signal in vars(signals).items():
            if isinstance(signal, NamedSignal):
                self._connect(name, signal, app)

    def _connect(self, name: str, signal: NamedSignal, app: Flask) -> None:
        def record(sender: Flask, **keywords: Any) -> None:
            assert sender is app
            with self._lock:
                self.calls.append((name, keywords))

        signal.connect(record, sender=app, weak=False)
        self._connected.append((signal, record))

    def close(self) -> None:
        """Hear nothing more."""
        for signal, receiver in self._connected:
            signal.disconnect(receiver)

    def names(self) -> list[str]:
        """What came, in order."""
        with self._lock:
            return [name for name, _ in self.calls]

    def of(self, name: str) -> list[Json]:
        """The keywords of every signal of one name."""
        with self._lock:
            return [keywords for one, keywords in self.calls if one == name]

    def wait_for(self, name: str, count: int = 1, timeout: float = 20.0) -> list[Json]:
        """Wait until ``count`` signals of one name have come; their keywords."""
        wait_until(lambda: len(self.of(name)) >= count, timeout, f"{count} × {name}, have {self.names()}")
        return self.of(name)
