"""Every call of the client, in every API version, against the stand-in in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import requests

from flask_hubspot_hitl import errors
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.domain import Contact
from flask_hubspot_hitl.hubspot.client import HubSpotClient, build_incoming, file_attachment
from flask_hubspot_hitl.hubspot.contacts import identifier_of
from flask_hubspot_hitl.hubspot.content import parse_message
from flask_hubspot_hitl.hubspot.options import ClientOptions, ConnectionOptions, OAuthOptions
from flask_hubspot_hitl.hubspot.paths import API_VERSIONS
from flask_hubspot_hitl.hubspot.setup import wanted
from flask_hubspot_hitl.hubspot.tokens import RefreshingToken

NUMBERS = count(1000)


@dataclass
class StandIn:
    """The running stand-in, its settings, and its control routes."""

    url: str
    settings: dict[str, str]

    def control(self, path: str, **body: Any) -> Any:
        answer = requests.post(f"{self.url}/_sim/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    command = [sys.executable, "-m", "flask_hubspot_hitl.simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            url = first.split("HubSpot stand-in: ")[1].split("/  ")[0]
            settings = requests.get(f"{url}/_sim/env", timeout=30).json()
            yield StandIn(url, {key.removeprefix("HUBSPOT_HITL_"): value for key, value in settings.items()})
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(params=API_VERSIONS)
def client(request: pytest.FixtureRequest, stand_in: StandIn) -> Iterator[HubSpotClient]:
    settings = stand_in.settings
    connection = ConnectionOptions(clock=SystemClock())
    app = OAuthOptions(
        base_url=settings["API_BASE_URL"],
        oauth_version=request.param,
        client_id=settings["CLIENT_ID"],
        client_secret=settings["CLIENT_SECRET"],
        connection=connection,
    )
    options = ClientOptions(
        base_url=settings["API_BASE_URL"],
        api_version=request.param,
        connection=connection,
        developer_api_key=settings["DEVELOPER_API_KEY"],
        app_id=settings["APP_ID"],
    )
    made = HubSpotClient(options, tokens=RefreshingToken(app, refresh_token=settings["REFRESH_TOKEN"]))
    yield made
    made.close()


@pytest.fixture
def channel_id(stand_in: StandIn) -> str:
    return stand_in.settings["CHANNEL_ID"]


def person(number: int) -> Contact:
    return Contact(phone=f"+1415555{number}", email=f"user-{number}@example.com")


def incoming(client: HubSpotClient, stand_in: StandIn, number: int, text: str, **more: Any) -> dict[str, Any]:
    channel_id, account_id = stand_in.settings["CHANNEL_ID"], stand_in.settings["CHANNEL_ACCOUNT_ID"]
    account = client.channel_account(channel_id, account_id)
    body = build_incoming(
        channel_account_id=account_id,
        integration_thread_id=f"deployment.{number}",
        idempotency_id=f"digest-{number}-{text}",
        text=text,
        timestamp_ms=time.time_ns() // 1_000_000,
        sender=identifier_of(person(number)),
        sender_name="Ada Lovelace",
        recipient=account["deliveryIdentifier"],
        **more,
    )
    return client.publish(channel_id, body)


def test_a_handoff(client: HubSpotClient, stand_in: StandIn, channel_id: str) -> None:
    """Publish, reply, receipt, note, assign, close; all read back."""
    number = next(NUMBERS)
    contact = person(number)
    stand_in.control("contacts", phone=contact.phone, email=contact.email, firstname="Ada", lastname="Lovelace")
    first = parse_message(incoming(client, stand_in, number, "Hi"))
    thread_id = first.thread_id
    again = parse_message(incoming(client, stand_in, number, "Hi"))
    assert (again.message_id, again.thread_id) == (first.message_id, thread_id)
    file_id = client.upload_file("né.txt", b"content", "text/plain", f"/handoff/{number}")
    attachments = [file_attachment(file_id, "text/plain")]
    second = incoming(client, stand_in, number, "", attachments=attachments)
    parsed = parse_message(second)
    assert parsed.thread_id == thread_id
    assert parsed.attachments[0].file_id == file_id
    assert parse_message(client.get_channel_message(channel_id, first.message_id)).text == "Hi"
    assert client.signed_url(file_id)["url"].startswith(stand_in.url)

    reply = parse_message(stand_in.control(f"threads/{thread_id}/reply", text="Hello", actorId="A-987"))
    assert (reply.text, reply.created_by, reply.direction) == ("Hello", "A-987", "OUTGOING")
    client.set_message_status(channel_id, reply.message_id, "READ")
    client.set_message_status(channel_id, reply.message_id, "FAILED", "The user left the chat")
    read = parse_message(client.get_channel_message(channel_id, reply.message_id))
    assert read.status_type == "FAILED"

    client.add_note(thread_id, "Seen <before>\nthe handoff")
    client.assign_thread(thread_id, "A-987")
    client.set_thread_status(thread_id, "CLOSED")
    thread = client.get_thread(thread_id)
    assert (thread["status"], thread["assignedTo"]) == ("CLOSED", "A-987")
    entries = [parse_message(raw) for raw in client.thread_messages(thread_id)]
    texts = {entry.text for entry in entries if entry.type in ("MESSAGE", "COMMENT")}
    assert {"Hi", "Hello", "Seen <before>\nthe handoff"} <= texts
    assert parse_message(client.thread_message(thread_id, first.message_id)).text == "Hi"
    assert client.original_content(thread_id, first.message_id)["text"] == "Hi"


def test_long_threads_are_read_to_the_end(client: HubSpotClient, stand_in: StandIn) -> None:
    number = next(NUMBERS)
    contact = person(number)
    stand_in.control("contacts", phone=contact.phone, email=contact.email)
    thread_id = parse_message(incoming(client, stand_in, number, "Hi")).thread_id
    for turn in range(110):
        stand_in.control(f"threads/{thread_id}/comment", text=f"comment {turn}")
    texts = [raw.get("text") for raw in client.thread_messages(thread_id)]
    assert {f"comment {turn}" for turn in range(110)} <= set(texts)


def test_people(client: HubSpotClient, stand_in: StandIn) -> None:
    number = next(NUMBERS)
    contact = person(number)
    assert client.find_contact(contact) is None
    made = client.create_contact(contact, "Ada King Lovelace")
    assert made["properties"]["firstname"] == "Ada King"
    assert made["properties"]["lastname"] == "Lovelace"
    assert client.create_contact(contact, "Ada")["id"] == made["id"]
    for person_asked in (contact, Contact(phone=contact.phone), Contact(email=contact.email)):
        found = client.find_contact(person_asked)
        assert found is not None
        assert found["id"] == made["id"]
    other_country = Contact(phone=f"+49415555{number}")
    assert client.find_contact(other_country) is None
    operator = client.operator("A-987")
    assert operator == client.actor("A-987")
    assert operator.name
    assert client.operator("A-1").name is None
    with pytest.raises(errors.HubSpotNotFound):
        client.actor("A-1")


def test_setup_is_read(client: HubSpotClient, stand_in: StandIn, channel_id: str) -> None:
    settings = stand_in.settings
    assert settings["INBOX_ID"] in {inbox["id"] for inbox in client.inboxes()}
    assert channel_id in {channel["id"] for channel in client.list_channels()}
    assert client.get_channel(channel_id)["id"] == channel_id
    accounts = client.channel_accounts(channel_id)
    assert settings["CHANNEL_ACCOUNT_ID"] in {account["id"] for account in accounts}
    account = client.channel_account(channel_id, settings["CHANNEL_ACCOUNT_ID"])
    assert account["inboxId"] == settings["INBOX_ID"]
    with pytest.raises(errors.HubSpotNotFound) as raised:
        client.get_channel("1")
    assert raised.value.correlation_id
    with pytest.raises(errors.HubSpotRejected):
        client.publish(channel_id, {"text": "nobody's"})


def test_setup_is_written(client: HubSpotClient, stand_in: StandIn) -> None:
    """Every call about the app's channels, their accounts and its webhooks, read back."""
    made = client.create_channel({"name": "Another", "capabilities": wanted.CAPABILITIES})
    client.update_channel(made["id"], {"webhookUrl": "https://bot.example.test/hook"})
    channel = client.get_channel(made["id"])
    assert (channel["name"], channel["webhookUrl"]) == ("Another", "https://bot.example.test/hook")
    inbox_id = stand_in.settings["INBOX_ID"]
    body = {"inboxId": inbox_id, "name": "Another", "authorized": True}
    body["deliveryIdentifier"] = wanted.account_identifier("0f1e", "424242", inbox_id)
    account = client.create_channel_account(made["id"], body)
    with pytest.raises(errors.HubSpotConflict):
        client.create_channel_account(made["id"], body)
    client.authorize_channel_account(made["id"], account["id"], False)
    assert client.channel_account(made["id"], account["id"])["authorized"] is False
    client.archive_channel(made["id"])
    assert made["id"] not in {one["id"] for one in client.list_channels()}

    client.put_webhook_settings(wanted.webhook_settings("https://bot.example.test/hook"))
    assert client.webhook_settings()["targetUrl"] == "https://bot.example.test/hook"
    first = client.webhook_subscriptions()[0]
    path = client.paths.webhook_subscription(stand_in.settings["APP_ID"], first["id"])
    client.call("PATCH", path, doing="pausing", body={"active": False}, developer=True)
    client.activate_subscription(first["id"])
    client.call("DELETE", path, doing="deleting", developer=True, answer=False)
    lost = wanted.Subscription(first["eventType"], first.get("propertyName"))
    assert lost not in {
        wanted.Subscription(s["eventType"], s.get("propertyName")) for s in client.webhook_subscriptions()
    }
    client.subscribe({**lost.fields(), "active": True})
    [again] = [
        s
        for s in client.webhook_subscriptions()
        if s["eventType"] == lost.event_type and s.get("propertyName") == lost.property_name
    ]
    assert again["active"] is True
