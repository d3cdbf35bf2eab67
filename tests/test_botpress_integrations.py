"""What Botpress's own integrations ask of HubSpot stays answered: each one's calls in its own order, in its own words.

Three of them hand conversations over: ``hubspot`` 6, ``plus/hubspot-hitl`` 5 and ``plus/hubspot-help-desk-hitl`` 3. How
each calls is known from its source (``docs/hubspot.rst``, marked [code]); none of them sends what HubSpot's documents
require and HubSpot does not.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from flask_hubspot_hitl.hubspot import signature

from .helpers import Json
from .simulator_helpers import CC, CV, Host, Stand, until

INBOX, HELP_DESK, ROSA, NOOR = "700200300", "700200999", "55512001", "A-987"
HITL_SCOPES = (
    "oauth conversations.custom_channels.read conversations.custom_channels.write conversations.read "
    "conversations.write crm.objects.contacts.read crm.objects.contacts.write files"
)
CAPABILITIES = {
    "deliveryIdentifierTypes": ["CHANNEL_SPECIFIC_OPAQUE_ID"],
    "richText": ["HYPERLINK", "TEXT_ALIGNMENT", "BLOCKQUOTE"],
    "threadingModel": "INTEGRATION_THREAD_ID",
    "allowInlineImages": False,
    "allowOutgoingMessages": True,
    "outgoingAttachmentTypes": ["FILE"],
    "allowedFileAttachmentMimeTypes": ["image/*", "audio/*", "application/pdf"],
    "maxFileAttachmentCount": 1,
    "maxFileAttachmentSizeBytes": 1_000_000,
}


class Integration:
    """One of them: its calls of HubSpot's API, each with the status that it needs."""

    def __init__(self, stand: Stand, host: Host) -> None:
        self.stand, self.host, self.token = stand, host, ""
        self.http = requests.Session()
        self.http.trust_env = False
        self.asked: list[str] = []

    def __call__(self, method: str, path: str, status: int, *, bearer: bool = True, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} if bearer else {}
        answer = self.http.request(method, self.stand.base + path, headers=headers, timeout=30, **more)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        self.asked.append(f"{method} {path}")
        return answer.json() if answer.content else None

    def token_of(self, **form: str) -> Json:
        env = self.stand.env
        app = {"client_id": env["HUBSPOT_HITL_CLIENT_ID"], "client_secret": env["HUBSPOT_HITL_CLIENT_SECRET"]}
        found: Json = self("POST", "/oauth/v1/token", 200, bearer=False, data={**app, **form})
        self.token = found["access_token"]
        return found

    def channel_of(self, channels: Json) -> str | None:
        """The id of the channel that delivers to this one's own address, as they recognise it."""
        mine: list[str] = [one["id"] for one in channels["results"] if one.get("webhookUrl") == self.host.url]
        return mine[0] if mine else None

    def heard(self, what: str, read: Callable[[Any], bool]) -> Any:
        """The delivery that it waits for; both feeds come to one address, and an array is the app's."""
        found: list[Any] = []

        def arrived() -> bool:
            bodies = [json.loads(body) for body in self.host.bodies]
            flat = [one for body in bodies for one in (body if isinstance(body, list) else [body])]
            found[:] = [one for one in flat if read(one)]
            return bool(found)

        until(arrived)
        assert found, what
        return found[-1]


@pytest.fixture
def integration(stand: Stand, host: Host) -> Integration:
    return Integration(stand, host)


def properly_signed(host: Host, secret: str) -> None:
    """Verify as they do: an object by v3, an array by v1."""
    for headers, body in zip(list(host.headers), list(host.bodies), strict=True):
        if body.lstrip().startswith(b"["):
            assert headers["x-hubspot-signature"] == hashlib.sha256(secret.encode() + body).hexdigest()
        else:
            stamp = headers["x-hubspot-request-timestamp"]
            right = signature.headers("v3", secret=secret, uri=host.url, body=body, timestamp=stamp)
            assert headers["x-hubspot-signature-v3"] == right["X-HubSpot-Signature-v3"]


@pytest.mark.parametrize("inbox", [INBOX, HELP_DESK])
def test_hubspot_6(integration: Integration, stand: Stand, host: Host, inbox: str) -> None:
    """The official one: it installs by OAuth, reuses channel and account, and closes the thread in the end."""
    ask, secret = integration, stand.env["HUBSPOT_HITL_CLIENT_SECRET"]
    redirect = "https://webhook.botpress.cloud/oauth"
    query = {"client_id": stand.env["HUBSPOT_HITL_CLIENT_ID"], "redirect_uri": redirect, "state": "its-webhook-id"}
    page = f"{stand.base}/oauth/authorize?{urlencode({**query, 'scope': HITL_SCOPES})}"
    allowed = {"answer": "allow", "portal": "424242"}
    back = requests.post(page, data=allowed, allow_redirects=False, timeout=30).headers["Location"]
    code = parse_qs(urlsplit(back).query)
    assert code["state"] == ["its-webhook-id"]
    made = ask.token_of(grant_type="authorization_code", code=code["code"][0], redirect_uri=redirect)
    ask.token_of(grant_type="refresh_token", refresh_token=made["refresh_token"], redirect_uri=redirect)
    assert ask("GET", f"/oauth/v1/access-tokens/{ask.token}", 200, bearer=False)["hub_id"] == 424242

    # setting up: with the bearer and both words in the query
    stand.sim("PUT", "target", {"url": f"{host.url}&nobody"})
    app = dict(stand.developer)
    assert ask.channel_of(ask("GET", CC, 200, params=app)) is None
    body = {"name": "Botpress", "webhookUrl": host.url, "capabilities": CAPABILITIES}
    body["channelAccountConnectionRedirectUrl"] = "https://example.com"
    channel = ask("POST", CC, 201, params=app, json=body)["id"]
    assert ask.channel_of(ask("GET", CC, 200, params=app)) == channel
    inboxes = ask("GET", f"{CV}/inboxes", 200)["results"]
    assert inbox in [one["id"] for one in inboxes]
    accounts = ask("GET", f"{CC}/{channel}/channel-accounts", 200)["results"]
    assert inbox not in [one["inboxId"] for one in accounts]
    identifier = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": f"botpress-{inbox}"}
    wanted = {"inboxId": inbox, "name": "Botpress", "deliveryIdentifier": identifier, "authorized": True}
    account = ask("POST", f"{CC}/{channel}/channel-accounts", 201, json=wanted)["id"]
    ask.heard("the account", lambda one: one.get("type") == "CHANNEL_ACCOUNT_CREATED")

    # a handoff: neither recipients nor time, a type that HubSpot does not ask for, and the files by the legacy upload
    key, messages = str(uuid.uuid4()), f"{CC}/{channel}/messages"
    sender = {"name": "Rosa", "deliveryIdentifier": {"type": "HS_EMAIL_ADDRESS", "value": "rosa@example.test"}}
    egg = {"type": "MESSAGE", "messageDirection": "INCOMING", "integrationThreadId": key, "channelAccountId": account}
    egg["senders"] = [sender]
    first = ask("POST", messages, 201, json={**egg, "text": "Title: Refund\nDescription: I want my money back"})
    thread = first["conversationsThreadId"]
    options = {"access": "PRIVATE", "ttl": "P1Y"}
    parts = {"file": ("photo.png", b"\x89PNG", "image/png"), "options": (None, json.dumps(options))}
    parts["folderPath"] = (None, f"/botpress-hitl/{key}")
    file = str(ask("POST", "/filemanager/api/v3/files/upload", 200, files=parts)["objects"][0]["id"])
    attached = {"type": "FILE", "fileId": file, "name": "photo.png", "fileUsageType": "IMAGE"}
    assert ask("POST", messages, 201, json={**egg, "text": "", "attachments": [attached]})["attachments"]

    stand.sim("PUT", "target", {"url": host.url})
    stand.act(thread, "assign", actorId=NOOR)
    event = ask.heard("the assignment", lambda one: one.get("propertyName") == "assignedTo")
    assert str(event["objectId"]) == thread
    assert ask("GET", f"{CV}/actors/{event['propertyValue']}", 200)["name"] == "Noor Haddad"
    stand.act(
        thread, "reply", text="Hello", attachments=[{"name": "a.txt", "contentType": "text/plain", "content": "YQ=="}]
    )
    said = ask.heard("the answer", lambda one: one.get("type") == "OUTGOING_CHANNEL_MESSAGE_CREATED")["message"]
    assert (said["conversationsThreadId"], said["text"], said["senders"][0]["actorId"]) == (thread, "Hello", NOOR)
    assert ask.http.get(said["attachments"][0]["url"], timeout=30).content == b"a", "directly usable"

    assert ask("PATCH", f"{CV}/threads/{thread}", 200, json={"status": "CLOSED"})["status"] == "CLOSED"
    event = ask.heard("its own closing", lambda one: one.get("propertyName") == "status")
    assert event["propertyValue"] == "CLOSED"
    properly_signed(host, secret)
    assert len(ask.asked) == 14


@pytest.mark.parametrize("variant", ["plus/hubspot-hitl", "plus/hubspot-help-desk-hitl"])
def test_the_older_two(integration: Integration, stand: Stand, host: Host, variant: str) -> None:
    """A static refresh token, a bare key for reading channels, one constant identifier; the channel goes with it."""
    ask, secret = integration, stand.env["HUBSPOT_HITL_CLIENT_SECRET"]
    is_desk = "help-desk" in variant
    inbox = HELP_DESK if is_desk else INBOX
    refresh = stand.env["HUBSPOT_HITL_REFRESH_TOKEN"]
    for _ in range(2):  # never overwritten with what is answered: it must go on working
        ask.token_of(grant_type="refresh_token", refresh_token=refresh)
    app = dict(stand.developer)
    body = {
        "name": "Botpress",
        "webhookUrl": host.url,
        "capabilities": {**CAPABILITIES, "allowConversationStart": True},
    }
    stand.sim("PUT", "target", {"url": f"{host.url}&nobody"})
    channel = ask("POST", CC, 201, params=app, json=body)["id"]
    assert ask.channel_of(ask("GET", CC, 200, bearer=False, params=app)) == channel
    wanted = {"inboxId": inbox, "name": "Botpress", "authorized": True}
    wanted["deliveryIdentifier"] = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "botpress"}
    account = ask("POST", f"{CC}/{channel}/channel-accounts", 201, json=wanted)["id"]
    ask("POST", f"{CC}/{channel}/channel-accounts", 409, json=wanted)

    key = str(uuid.uuid4())
    person = ("HS_EMAIL_ADDRESS", "rosa@example.test") if is_desk else ("HS_PHONE_NUMBER", "+34911222333")
    sender = {"name": "Rosa", "deliveryIdentifier": dict(zip(("type", "value"), person, strict=True))}
    egg = {"text": "Hello", "messageDirection": "INCOMING", "integrationThreadId": key, "channelAccountId": account}
    first = ask("POST", f"{CC}/{channel}/messages", 201, json={**egg, "senders": [sender]})
    thread = first["conversationsThreadId"]
    stand.sim("PUT", "target", {"url": host.url})
    stand.act(thread, "assign", actorId=NOOR)
    event = ask.heard("the assignment", lambda one: one.get("propertyName") == "assignedTo")
    contact = ask("GET", f"{CV}/threads/{event['objectId']}", 200)["associatedContactId"]
    read = ask("GET", f"/crm/v3/objects/contacts/{contact}", 200, params={"properties": "phone"})
    assert (contact, read["properties"]["phone"]) == (ROSA, "+34911222333")
    assert ask("GET", f"{CV}/actors/V-{contact}", 200)["email"] == "rosa@example.test"
    stand.act(thread, "reply", text="Here I am")
    said = ask.heard("the answer", lambda one: one.get("type") == "OUTGOING_CHANNEL_MESSAGE_CREATED")["message"]
    assert (said["conversationsThreadId"], said["text"]) == (thread, "Here I am")
    if is_desk:
        ask("PATCH", f"{CV}/threads/{thread}", 200, json={"status": "CLOSED"})
    else:
        stand.act(thread, "close")
    event = ask.heard("the end", lambda one: one.get("propertyName") == "status")
    assert event["propertyValue"] == "CLOSED"
    properly_signed(host, secret)

    ask("DELETE", f"{CC}/{channel}", 204, bearer=False, params=app)
    assert channel not in [one["id"] for one in ask("GET", CC, 200, bearer=False, params=app)["results"]]
    assert len(ask.asked) == (13 if is_desk else 12)
