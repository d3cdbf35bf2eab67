"""HubSpot's newer Python client (``hubspot-sdk``, API 2026-03), driven through custom channels, OAuth and their needs.

Its typed models must take every answer of the stand-in: strict validation is on, and a wrong shape raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import hubspot_sdk
import pytest

from .simulator_helpers import Host, Stand, until

CAPABILITIES: dict[str, object] = {
    "deliveryIdentifierTypes": ["CHANNEL_SPECIFIC_OPAQUE_ID"],
    "allowOutgoingMessages": True,
    "threadingModel": "INTEGRATION_THREAD_ID",
}
ROSA: Any = {"name": "Rosa", "deliveryIdentifier": {"type": "HS_EMAIL_ADDRESS", "value": "rosa@example.test"}}
US: Any = {"deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "acme"}}


def client_of(stand: Stand, **more: Any) -> hubspot_sdk.HubSpot:
    """The client, strict and without retries, with both kinds of credentials."""
    given: dict[str, Any] = {
        "access_token": stand.token,
        "developer_api_key": stand.developer["hapikey"],
        "base_url": stand.base,
        "max_retries": 0,
        "_strict_response_validation": True,
        **more,
    }
    return hubspot_sdk.HubSpot(**given)


@pytest.fixture
def client(stand: Stand) -> Iterator[hubspot_sdk.HubSpot]:
    with client_of(stand) as made:
        yield made


def make_channel(client: hubspot_sdk.HubSpot, host: Host | None = None) -> int:
    """A channel of its own; its id."""
    webhook_url = host.url if host else "https://bot.example.test/hook"
    made = client.conversations.custom_channels.create(
        name="Acme", capabilities=CAPABILITIES, webhook_url=webhook_url, channel_description="d"
    )
    return int(made.id)


def make_account(client: hubspot_sdk.HubSpot, channel: int, value: str = "acme") -> str:
    """An account of it in the preset inbox; its id."""
    made = client.conversations.custom_channels.channel_accounts.create(
        channel,
        inbox_id="700200300",
        name="Acme",
        authorized=True,
        delivery_identifier={"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": value},
    )
    assert made.delivery_identifier is not None
    assert (made.inbox_id, made.delivery_identifier.value) == ("700200300", value)
    return made.id


def test_channels(client: hubspot_sdk.HubSpot) -> None:
    channels = client.conversations.custom_channels
    channel = make_channel(client)
    found = {one.id: one for one in channels.list(limit=1)}
    assert set(found) == {"100458", str(channel)}
    assert found[str(channel)].capabilities["allowOutgoingMessages"] is True
    changed = channels.update(
        channel,
        name="Renamed",
        capabilities=CAPABILITIES,
        webhook_url="https://bot.example.test/other",
        channel_account_connection_redirect_url="https://bot.example.test/connect",
        channel_description="",
        channel_logo_url="https://bot.example.test/logo.png",
    )
    assert (changed.name, changed.webhook_url) == ("Renamed", "https://bot.example.test/other")
    assert changed.channel_account_connection_redirect_url == "https://bot.example.test/connect"
    channels.delete(channel)
    assert {one.id for one in channels.list()} == {"100458"}
    with pytest.raises(hubspot_sdk.NotFoundError):
        channels.delete(channel)
    with pytest.raises(hubspot_sdk.BadRequestError) as refused:
        channels.create(name="x", capabilities={"deliveryIdentifierTypes": [{"type": "HS_EMAIL_ADDRESS"}]})
    assert "INVALID_CHANNEL_CAPABILITY_VALUES" in str(refused.value.body)


def test_accounts_and_staging_tokens(stand: Stand, client: hubspot_sdk.HubSpot) -> None:
    channels = client.conversations.custom_channels
    channel = make_channel(client)
    account = make_account(client, channel)
    other = make_account(client, channel, "acme-2")
    assert [one.id for one in channels.channel_accounts.list(channel, limit=1)] == [account, other]
    only = channels.channel_accounts.list(
        channel,
        delivery_identifier_type=["CHANNEL_SPECIFIC_OPAQUE_ID", "HS_EMAIL_ADDRESS"],
        delivery_identifier_value=["acme-2", "acme-3"],
    )
    assert [one.id for one in only] == [other]
    changed = channels.channel_accounts.update(int(account), channel_id=channel, authorized=False, name="Off")
    assert (changed.authorized, changed.name) == (False, "Off")
    assert channels.get(int(account), channel_id=channel).name == "Off"
    with pytest.raises(hubspot_sdk.ConflictError):
        make_account(client, channel)
    token = stand.sim("POST", "staging-tokens", {"channelId": str(channel)})["accountToken"]
    done = channels.channel_accounts.update_staging_token(
        token,
        channel_id=channel,
        account_name="Connected",
        delivery_identifier={"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "acme-4"},
    )
    assert (done.account_token, done.generic_channel_id, done.account_name) == (token, channel, "Connected")
    assert [one.name for one in channels.channel_accounts.list(channel)] == ["Off", "Acme", "Connected"]


def test_messages_of_every_kind(stand: Stand, client: hubspot_sdk.HubSpot, host: Host) -> None:
    messages = client.conversations.custom_channels.messages
    channel = make_channel(client, host)
    account = make_account(client, channel)
    stored = client.files.file_assets.upload(
        file=("a.png", b"pixels", "image/png"), folder_path="/x", options='{"access":"PRIVATE"}'
    )
    attachments: Any = [
        {"type": "FILE", "fileId": stored.id, "fileUsageType": "IMAGE"},
        {"type": "LOCATION", "latitude": 1.5, "longitude": 2, "name": "here"},
        {"type": "QUICK_REPLIES", "quickReplies": [{"value": "a", "valueType": "TEXT", "label": "A"}]},
        {"type": "UNSUPPORTED_CONTENT"},
    ]
    common: Any = {
        "channel_account_id": account,
        "integration_thread_id": "conv-1",
        "timestamp": datetime(2026, 10, 1, 9, 15, 30, tzinfo=UTC),
    }
    sent = messages.create(
        channel,
        text="Hello",
        message_direction="INCOMING",
        senders=[ROSA],
        recipients=[US],
        attachments=attachments,
        integration_idempotency_id="one",
        **common,
    )
    assert (sent.text, sent.direction, sent.created_by) == ("Hello", "INCOMING", "V-55512001")
    assert [one.type for one in sent.attachments] == [one["type"] for one in attachments]
    assert sent.status is not None
    assert sent.status.status_type == "RECEIVED"
    again = messages.create(
        channel,
        text="Hello",
        message_direction="INCOMING",
        senders=[ROSA],
        recipients=[US],
        attachments=[],
        integration_idempotency_id="one",
        **common,
    )
    assert again.id == sent.id
    logged = messages.create(
        channel,
        text="the bot",
        message_direction="OUTGOING",
        senders=[US],
        recipients=[ROSA],
        attachments=[],
        **common,
    )
    assert logged.conversations_thread_id == sent.conversations_thread_id
    reply = stand.act(sent.conversations_thread_id, "reply", text="Hi Rosa")
    until(lambda: "OUTGOING_CHANNEL_MESSAGE_CREATED" in host.kinds())
    read = messages.get(reply["id"], channel_id=channel)
    assert (read.text, read.direction) == ("Hi Rosa", "OUTGOING")
    failed = messages.update(reply["id"], channel_id=channel, status_type="FAILED", error_message="gone")
    assert failed.status is not None
    assert failed.status.failure_details is not None
    assert failed.status.failure_details.error_message == "gone"
    for status in ("SENT", "READ"):
        changed = messages.update(reply["id"], channel_id=channel, status_type=status)
        assert changed.status is not None
        assert changed.status.status_type == status
    with pytest.raises(hubspot_sdk.NotFoundError):
        messages.get("unknown", channel_id=channel)


def test_oauth(stand: Stand) -> None:
    """The documents say forms; this client sends JSON, and nobody knows whether HubSpot takes it."""
    stand.chaos(oauth_json=True)
    app: Any = {
        "client_id": stand.env["HUBSPOT_HITL_CLIENT_ID"],
        "client_secret": stand.env["HUBSPOT_HITL_CLIENT_SECRET"],
    }
    refresh = stand.env["HUBSPOT_HITL_REFRESH_TOKEN"]
    with client_of(stand, access_token=None) as client:
        oauth = client.auth.oauth
        tokens: Any = oauth.create_token(grant_type="refresh_token", refresh_token=refresh, **app)
        assert (tokens.token_use, tokens.refresh_token, tokens.hub_id) == ("access_token", refresh, 424242)
        access: Any = oauth.introspect_token(token=tokens.access_token, token_type_hint="access_token", **app)
        assert (access.active, access.token_use, access.app_id) == (True, "access_token", 3131)
        kept: Any = oauth.introspect_token(token=refresh, **app)
        assert (kept.token_use, kept.scopes) == ("refresh_token", tokens.scopes)
        oauth.revoke_token(token=refresh, **app)
        with pytest.raises(hubspot_sdk.BadRequestError):
            oauth.create_token(grant_type="refresh_token", refresh_token=refresh, **app)
        back = "http://localhost:5/back"
        allowed = stand.http.post(
            f"{stand.base}/oauth/authorize",
            params={"client_id": app["client_id"], "redirect_uri": back, "scope": "oauth conversations.read"},
            data={"answer": "allow", "portal": "424242"},
            allow_redirects=False,
            timeout=30,
        )
        code = allowed.headers["Location"].partition("code=")[2]
        exchanged: Any = oauth.create_token(grant_type="authorization_code", code=code, redirect_uri=back, **app)
        assert (exchanged.hub_id, exchanged.scopes) == (424242, ["oauth", "conversations.read"])
    with client_of(stand, access_token=tokens.access_token) as client:
        details = client.account.get()
    assert (details.portal_id, details.account_type) == (424242, "STANDARD")


def test_webhook_settings_and_subscriptions(client: hubspot_sdk.HubSpot) -> None:
    webhooks, app = client.webhooks, 3131
    webhooks.update_settings(app, target_url="https://bot.example.test/hook", throttling={"max_concurrent_requests": 6})
    assert webhooks.get_settings(app).throttling.max_concurrent_requests == 6
    first = webhooks.list_event_subscriptions(app).results[0]
    assert first.active
    webhooks.delete_event_subscription(int(first.id), app_id=app)
    made = webhooks.create_event_subscription(
        app, event_type="contact.propertyChange", property_name="email", active=False
    )
    assert (made.event_type, made.active) == ("contact.propertyChange", False)
    changed = webhooks.update_event_subscription(int(made.id), app_id=app, active=True)
    assert changed.active
    assert webhooks.get_event_subscription(int(made.id), app_id=app).active
    answer = webhooks.create_batch_event_subscriptions(app, inputs=[{"id": int(made.id), "active": False}])
    assert [one.active for one in answer.results] == [False]
    webhooks.delete_settings(app)
    with pytest.raises(hubspot_sdk.NotFoundError):
        webhooks.get_settings(app)


def test_contacts_and_files(client: hubspot_sdk.HubSpot) -> None:
    contacts, files = client.crm.objects.contacts, client.files.file_assets
    made = contacts.create(properties={"email": "sdk@example.test", "phone": "+14155550123"}, associations=[])
    assert contacts.get(made.id, properties=["email", "phone"]).properties["phone"] == "+14155550123"
    found = contacts.search(
        filter_groups=[{"filters": [{"property_name": "email", "operator": "EQ", "value": "sdk@example.test"}]}],
        properties=["email"],
        sorts=[],
        limit=10,
        after="0",
    )
    assert [one.id for one in found.results] == [made.id]
    assert contacts.update(made.id, properties={"firstname": "S"}).properties["firstname"] == "S"
    merged = contacts.merge(object_id_to_merge=made.id, primary_object_id="55512001")
    assert merged.id == "55512001"
    stored = files.upload(file=("a.txt", b"abc", "text/plain"), folder_path="/x", options='{"access":"PRIVATE"}')
    assert files.get(stored.id).size == 3
    assert files.get_signed_url(stored.id).name == "a"
    assert files.update(stored.id, name="b", clear_expires=False).name == "b"
    files.delete(stored.id)
    with pytest.raises(hubspot_sdk.NotFoundError):
        files.get(stored.id)


def test_errors_and_limits_are_what_the_client_expects(stand: Stand, client: hubspot_sdk.HubSpot) -> None:
    few = stand.sim("GET", "access-token?scopes=oauth")["access_token"]
    with client_of(stand, access_token=few) as narrow, pytest.raises(hubspot_sdk.PermissionDeniedError):
        narrow.conversations.custom_channels.channel_accounts.list(100458)
    with client_of(stand, access_token="wrong") as wrong, pytest.raises(hubspot_sdk.AuthenticationError):
        wrong.account.get()
    stand.chaos(rate_limit=1)
    with pytest.raises(hubspot_sdk.RateLimitError):
        [client.account.get() for _ in range(3)]
    stand.chaos(rate_limit=None, faults=[{"match": "account-info", "times": 1, "status": 503}])
    with client_of(stand, max_retries=1) as patient:
        assert patient.account.get().portal_id == 424242


def test_the_asynchronous_client_is_served_alike(stand: Stand) -> None:
    async def names() -> list[str]:
        given: Any = {"access_token": stand.token, "base_url": stand.base, "_strict_response_validation": True}
        async with hubspot_sdk.AsyncHubSpot(**given) as client:
            accounts = client.conversations.custom_channels.channel_accounts.list(100458)
            return [one.name async for one in accounts]

    assert asyncio.run(names()) == ["Acme Handoff"]
