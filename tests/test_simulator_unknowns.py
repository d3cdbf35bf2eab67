"""Each open question about HubSpot can be answered both ways; here over HTTP, with the default first.

Source: docs/hubspot.rst (Unknowns).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Any

import pytest

from flask_hubspot_hitl.hubspot.signature import sign
from tests.simulator_helpers import CC, CV, Host, Stand, bearer, person, until


def post(stand: Stand, **more: Any) -> Any:
    """A publish that may be refused."""
    return stand.call("POST", f"{CC}/{stand.channel}/messages", json=stand.egg(**more))


def channel_event(host: Host) -> Any:
    """The channel feed's first event for a message."""
    until(lambda: any(event.get("type") == "OUTGOING_CHANNEL_MESSAGE_CREATED" for event in host.events()))
    return next(event for event in host.events() if event.get("type") == "OUTGOING_CHANNEL_MESSAGE_CREATED")


def test_1_how_many_channels_and_accounts_there_may_be(stand: Stand) -> None:
    body = {"name": "New", "capabilities": {}}
    egg = {"inboxId": "700200300", "name": "x", "authorized": True}
    accounts = f"{CC}/{stand.channel}/channel-accounts"
    assert stand.call("POST", CC, params=stand.developer, json=body).status_code == 201
    assert stand.call("POST", accounts, json=egg).status_code == 201
    stand.chaos(max_channels=2, max_accounts=2)
    assert stand.call("POST", CC, params=stand.developer, json=body).status_code == 400
    assert stand.call("POST", accounts, json=egg).status_code == 400


def test_5_what_publishing_into_an_archived_thread_does(stand: Stand) -> None:
    first = stand.publish()["conversationsThreadId"]
    stand.act(first, "archive")
    second = stand.publish()["conversationsThreadId"]
    assert second != first
    stand.act(second, "archive")
    stand.chaos(archived_publish="restore")
    assert stand.publish()["conversationsThreadId"] == second
    assert stand.ok("GET", f"{CV}/threads/{second}")["archived"] is False
    stand.act(second, "archive")
    stand.chaos(archived_publish="refuse", refusal_status=409)
    assert post(stand).status_code == 409


def test_6_what_a_repeated_idempotency_id_is_answered(stand: Stand) -> None:
    first = post(stand, integrationIdempotencyId="a")
    again = post(stand, integrationIdempotencyId="a", text="other")
    assert (again.status_code, again.json()) == (201, first.json())
    stand.chaos(repeated_publish="ok")
    assert post(stand, integrationIdempotencyId="a").status_code == 200
    stand.chaos(repeated_publish="conflict")
    assert post(stand, integrationIdempotencyId="a").status_code == 409
    stand.chaos(remember_publishes_seconds=0)
    time.sleep(0.01)
    assert post(stand, integrationIdempotencyId="a").json()["id"] != first.json()["id"]


@pytest.mark.parametrize("status", [400, 403, 404, 409])
def test_7_what_a_publish_is_refused_with(stand: Stand, status: int) -> None:
    stand.chaos(refusal_status=status, max_text=3, max_attachments=0)
    assert post(stand, text="long").status_code == status
    unsupported = {"type": "UNSUPPORTED_CONTENT"}
    assert post(stand, text="ok", attachments=[unsupported]).status_code == status
    assert post(stand, text="ok").status_code == 201
    for verb, back in (("disable", "enable"), ("deactivate", "activate")):
        stand.sim("POST", f"channel-accounts/{stand.account}/{verb}", {})
        assert post(stand, text="ok").status_code == status
        stand.sim("POST", f"channel-accounts/{stand.account}/{back}", {})
    assert post(stand, text="ok").status_code == 201


def test_8_what_an_unknown_address_is(stand: Stand) -> None:
    stranger = {"senders": [person("new@example.test")]}
    search = {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ", "value": "new@example.test"}]}]}
    assert post(stand, key="a", **stranger).status_code == 201
    assert stand.ok("POST", "/crm/v3/objects/contacts/search", json=search)["total"] == 0
    stand.chaos(unknown_contact="reject")
    assert post(stand, key="b", **stranger).status_code == 400
    stand.chaos(unknown_contact="create")
    made = post(stand, key="c", **stranger).json()["createdBy"]
    found = stand.ok("POST", "/crm/v3/objects/contacts/search", json=search)
    assert [f"V-{contact['id']}" for contact in found["results"]] == [made]
    phone = post(stand, key="d", senders=[person("+4915112345678", "HS_PHONE_NUMBER")]).json()["createdBy"]
    contact = stand.ok("GET", f"/crm/v3/objects/contacts/{phone[2:]}", params={"properties": "phone"})
    assert contact["properties"]["phone"] == "+4915112345678"


def test_9_what_a_refresh_ends(stand: Stand) -> None:
    inboxes = f"{CV}/inboxes"
    first = stand.token_call().json()
    second = stand.token_call().json()
    assert first["refresh_token"] == second["refresh_token"]
    assert stand.call("GET", inboxes, headers=bearer(first["access_token"])).status_code == 200
    stand.chaos(refresh_kills_access=True)
    third = stand.token_call().json()["access_token"]
    assert stand.call("GET", inboxes, headers=bearer(first["access_token"])).status_code == 401
    assert stand.call("GET", inboxes, headers=bearer(third)).status_code == 200
    stand.chaos(refresh_token_seconds=0)
    time.sleep(0.01)
    assert stand.token_call().json()["status"] == "BAD_REFRESH_TOKEN"


@pytest.mark.parametrize("version", ["v1", "v3", "2026-03", "2026-09"])
def test_9_the_shape_of_a_token_answer(stand: Stand, version: str) -> None:
    answer = stand.token_call(f"/oauth/{version}/token").json()
    assert answer["token_use"] == "access_token"
    assert len(answer["access_token"]) > 300
    stand.chaos(lean_v1_tokens=True)
    lean = stand.token_call(f"/oauth/{version}/token").json()
    four = {"token_type", "access_token", "refresh_token", "expires_in"}
    assert (set(lean) == four) is (version == "v1")


def test_10_a_developer_key_that_counts_no_more(stand: Stand) -> None:
    bare = stand.http.get(stand.base + CC, params=stand.developer, timeout=30)
    assert bare.status_code == 200
    stand.chaos(hapikey="refused")
    assert stand.http.get(stand.base + CC, params=stand.developer, timeout=30).status_code == 401
    assert stand.call("GET", CC).status_code == 200  # v3 names no credentials, so a token may do


def test_11_private_apps_and_custom_channels(stand: Stand) -> None:
    accounts = f"{CC}/{stand.channel}/channel-accounts"
    fresh = bearer(stand.token_call().json()["access_token"])
    own_header = {"private-app": stand.token}
    assert stand.http.get(stand.base + accounts, headers=own_header, timeout=30).status_code == 200
    stand.chaos(private_apps="refused")
    assert stand.call("GET", accounts).status_code == 403
    assert stand.call("GET", accounts, headers=fresh).status_code == 200
    assert stand.call("GET", f"{CV}/inboxes").status_code == 200


def test_12_how_a_connection_begun_inside_hubspot_ends(stand: Stand, host: Host) -> None:
    page = {"channelAccountConnectionRedirectUrl": "https://bot.example.test/hubspot/connect?a=1"}
    refused = stand.http.get(f"{stand.base}/connect", timeout=30, allow_redirects=False)
    assert refused.status_code == 400
    stand.ok("PATCH", f"{CC}/{stand.channel}", params=stand.developer, json=page)

    def popup() -> dict[str, str]:
        answer = stand.http.get(f"{stand.base}/connect", timeout=30, allow_redirects=False)
        assert answer.headers["Location"].startswith("https://bot.example.test/hubspot/connect?a=1&accountToken=sim-")
        pairs = answer.headers["Location"].partition("?")[2].split("&")
        return dict(pair.split("=", 1) for pair in pairs)

    def finish(query: dict[str, str], value: str) -> int:
        path = f"{CC}/{query['channelId']}/channel-account-staging-tokens/{query['accountToken']}"
        identifier = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": value}
        return stand.call("PATCH", path, json={"accountName": value, "deliveryIdentifier": identifier}).status_code

    def names() -> list[str]:
        return [a["name"] for a in stand.ok("GET", f"{CC}/{stand.channel}/channel-accounts")["results"]]

    query = popup()
    assert (query["channelId"], query["inboxId"], query["portalId"]) == ("100458", "700200300", "424242")
    assert finish(query, "one") == 200
    assert "one" in names()
    until(lambda: "CHANNEL_ACCOUNT_CREATED" in host.kinds())
    assert finish(popup(), "one") == 409
    stand.chaos(staging_completes="redirect")
    query = popup()
    assert finish(query, "two") == 200
    assert "two" not in names()
    back = f"{stand.base}/connected?accountToken={query['accountToken']}"
    assert "can be closed" in stand.http.get(back, timeout=30).text
    assert "two" in names()
    stand.chaos(staging_seconds=0)
    query = popup()
    time.sleep(0.01)
    assert finish(query, "three") == 404
    foreign = stand.http.get(f"{stand.base}/connect", headers={"Sec-Fetch-Site": "cross-site"}, timeout=30)
    assert foreign.status_code == 403


def test_13_what_is_cleaned_on_publish_and_how_large_a_file_may_be(stand: Stand) -> None:
    rich = '<p onclick="x()">Hi<script>alert(1)</script></p>'
    assert stand.publish(richText=rich)["richText"] == rich
    stand.chaos(clean_html=True, max_upload_bytes=3)
    assert stand.publish(richText=rich)["richText"] == "<p>Hi</p>"
    form = {"options": '{"access": "PRIVATE"}', "folderPath": "/x"}
    for content, status in ((b"abc", 201), (b"abcd", 413)):
        files = {"file": ("a.txt", content, "text/plain")}
        assert stand.call("POST", "/files/v3/files", data=form, files=files).status_code == status


def test_14_what_a_message_of_the_channels_feed_has(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    stand.chaos(deliver=False, sparse_messages=True)
    stand.act(thread_id, "reply", text="Hi")
    stand.chaos(deliver=True)
    message = channel_event(host)["message"]
    assert not {"client", "archived", "status", "truncationStatus", "attachments"} & set(message)
    assert message["text"] == "Hi"


@pytest.mark.parametrize(("form", "signed"), [("raw", "who=a%40b.test&sp=x%20y"), ("decoded", "who=a@b.test&sp=x y")])
def test_15_which_uri_is_signed(stand: Stand, host: Host, form: str, signed: str) -> None:
    stand.chaos(signed_uri=form)
    stand.publish()
    until(lambda: host.bodies)
    uri = host.url.partition("?")[0] + "?" + signed
    source = b"POST" + uri.encode() + host.bodies[0] + host.headers[0]["x-hubspot-request-timestamp"].encode()
    digest = hmac.new(stand.env["HUBSPOT_HITL_CLIENT_SECRET"].encode(), source, hashlib.sha256).digest()
    assert host.headers[0]["x-hubspot-signature-v3"] == base64.b64encode(digest).decode()


def test_16_what_comes_back_through_the_channel(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    identifier = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "x"}
    agent = {"type": "MESSAGE", "text": "m", "senderActorId": "A-987", "channelId": stand.channel, "attachments": []}
    agent |= {"channelAccountId": stand.account, "recipients": [{"deliveryIdentifiers": [identifier]}]}

    def echoes() -> int:
        stand.publish("fence", key=f"fence-{time.monotonic_ns()}")
        fence = stand.sim("GET", "threads")[-1]["id"]
        until(lambda: any(event.get("objectId") == int(fence) for event in host.events()))
        until(lambda: host.kinds().count("newMessage:MESSAGE") >= expected)
        return host.kinds().count("OUTGOING_CHANNEL_MESSAGE_CREATED")

    expected = 3
    stand.ok("POST", f"{CV}/threads/{thread_id}/messages", json=agent)
    assert echoes() == 1
    stand.chaos(api_send_echo=False)
    stand.ok("POST", f"{CV}/threads/{thread_id}/messages", json=agent)
    stand.publish(messageDirection="OUTGOING")
    expected = 6
    assert echoes() == 1
    stand.chaos(echo_outgoing=True)
    stand.publish(messageDirection="OUTGOING")
    expected = 8
    assert echoes() == 2


def test_17_who_made_a_message(stand: Stand) -> None:
    assert stand.publish()["createdBy"] == "V-55512001"
    stand.chaos(created_by="integration")
    assert stand.publish()["createdBy"] == "I-3131"


def test_18_how_lists_are_cut_and_sorted(stand: Stand) -> None:
    thread_id = stand.publish("one")["conversationsThreadId"]
    stand.publish("two", timestamp="2026-10-01T09:16:30.123Z")

    def texts(**query: Any) -> list[str]:
        found = stand.ok("GET", f"{CV}/threads/{thread_id}/messages", params=query)
        return [message["text"] for message in found["results"]]

    assert texts() == ["one", "two"]
    stand.chaos(messages_order="newest", page_size=1)
    assert texts() == ["two"]
    assert texts(sort="createdAt") == ["one"]


def test_19_what_archiving_says(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    stand.act(thread_id, "archive")
    stand.act(thread_id, "restore")
    stand.chaos(archive_status="ARCHIVED", restored_value="FALSE")
    stand.act(thread_id, "archive")
    stand.act(thread_id, "restore")
    expected = ["creation", "newMessage:MESSAGE", "deletion", "isArchived=false"]
    expected += ["status=ARCHIVED", "deletion", "isArchived=FALSE"]
    until(lambda: len(host.events()) == len(expected))
    assert host.kinds() == expected


@pytest.mark.parametrize(
    ("precedence", "contact"), [("associate", "55512002"), ("resolved", "55512003"), ("identifier", "55512001")]
)
def test_20_which_contact_wins(stand: Stand, precedence: str, contact: str) -> None:
    stand.chaos(contact_precedence=precedence)
    resolved = {"contacts": [{"contactVid": 55512003, "contactPropertiesLeadingToMatch": ["email"]}]}
    made = stand.publish(associateWithContactId=55512002, preResolvedContacts=resolved)
    assert made["createdBy"] == f"V-{contact}"


# --- what is not in the list but as little known


def test_a_message_may_have_another_id_in_each_feed(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    stand.chaos(feed_ids="different")
    reply = stand.act(thread_id, "reply", text="Hi")
    of_channel = channel_event(host)["message"]["id"]
    assert of_channel != reply["id"]
    until(lambda: reply["id"] in [event.get("messageId") for event in host.events()])
    assert stand.ok("GET", f"{CV}/threads/{thread_id}/messages/{reply['id']}")["text"] == "Hi"
    assert stand.ok("GET", f"{CC}/{stand.channel}/messages/{of_channel}")["id"] == of_channel
    assert stand.call("GET", f"{CC}/{stand.channel}/messages/{reply['id']}").status_code == 404
    assert stand.call("GET", f"{CV}/threads/{thread_id}/messages/{of_channel}").status_code == 404


def test_how_an_event_names_its_type_and_an_account_its_identifier(stand: Stand, host: Host) -> None:
    stand.chaos(event_prefix="conversations", event_type_key="eventType", identifier_form="string")
    stand.publish()
    stand.sim("POST", f"channel-accounts/{stand.account}/disable", {})
    until(lambda: len(host.events()) == 3)
    kinds = {event["eventType"] for event in host.events() if "eventType" in event}
    assert kinds == {"conversations.creation", "conversations.newMessage"}
    [account] = [event for event in host.events() if event.get("type") == "CHANNEL_ACCOUNT_UPDATED"]
    assert account["channelAccountDeliveryIdentifier"] == "acme-700200300"


def test_threads_move_and_contacts_merge(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    stand.act(thread_id, "move", inboxId="700200999")
    thread = stand.ok("GET", f"{CV}/threads/{thread_id}")
    assert (thread["inboxId"], thread["originalChannelAccountId"]) == ("700200999", stand.account)
    entries = stand.ok("GET", f"{CV}/threads/{thread_id}/messages")["results"]
    assert [(e["fromInboxId"], e["toInboxId"]) for e in entries if e["type"] == "THREAD_INBOX_CHANGE"] == [
        ("700200300", "700200999")
    ]
    stand.sim("POST", "contacts/55512001/merge", {"into": "55512002"})
    thread = stand.ok("GET", f"{CV}/threads/{thread_id}")
    assert thread["associatedContactId"] == "55512002"
    assert stand.ok("GET", "/crm/v3/objects/contacts/55512001")["id"] == "55512002"
    stand.act(thread_id, "reply", text="Hi")
    assert channel_event(host)["message"]["recipients"][0]["actorId"] == "V-55512002"
    stand.act(thread_id, "associate", contactId="55512003")
    assert stand.ok("GET", f"{CV}/threads/{thread_id}")["associatedContactId"] == "55512003"
    assert not [kind for kind in host.kinds() if "inbox" in kind.lower()]


def test_long_messages_are_cut(stand: Stand, host: Host) -> None:
    stand.chaos(truncate_at=5)
    thread_id = stand.publish("hello")["conversationsThreadId"]
    reply = stand.act(thread_id, "reply", text="hello world")
    message = channel_event(host)["message"]
    assert (message["text"], message["truncationStatus"]) == ("hello", "TRUNCATED")
    whole = stand.ok("GET", f"{CV}/threads/{thread_id}/messages/{reply['id']}/original-content")
    assert whole == {"text": "hello world", "richText": "<div>hello world</div>"}


def test_rules_of_the_inbox_and_welcome_messages(stand: Stand, host: Host) -> None:
    stand.chaos(auto_assign="L-77")
    thread_id = stand.publish()["conversationsThreadId"]
    stand.act(thread_id, "welcome", text="Hello!")
    expected = ["creation", "assignedTo=L-77", "newMessage:MESSAGE", "newMessage:WELCOME_MESSAGE"]
    until(lambda: len(host.events()) == 4)
    assert host.kinds() == expected
    assert stand.ok("GET", f"{CV}/actors/L-77")["type"] == "LLM"
    assert stand.ok("GET", f"{CV}/actors/B-5")["type"] == "BOT"


def test_images_in_the_text_are_no_attachments(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    image = {"name": "a.png", "contentType": "image/png", "content": "YWJj"}
    stand.act(thread_id, "reply", text="look", inlineImages=[image])
    message = channel_event(host)["message"]
    assert message["attachments"] == []
    source = message["richText"].partition('<img src="')[2].partition('"')[0]
    assert stand.http.get(source, timeout=30).content == b"abc"


def test_an_agents_file_may_need_a_signed_link(stand: Stand) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    stand.chaos(attachment_url="private")
    new = {"name": "a.txt", "contentType": "text/plain", "content": "YWJj"}
    file = stand.act(thread_id, "reply", attachments=[new])["attachments"][0]
    assert stand.http.get(file["url"], timeout=30).status_code == 404
    link = stand.ok("GET", f"/files/v3/files/{file['fileId']}/signed-url")["url"]
    assert stand.http.get(link, timeout=30).content == b"abc"


def test_new_things_take_a_while_to_be_seen(stand: Stand) -> None:
    stand.chaos(channel_hidden_seconds=3600, search_lag=3600)
    body = {"name": "New", "capabilities": {}}
    made = stand.ok("POST", CC, params=stand.developer, json=body)["id"]
    assert stand.call("GET", f"{CC}/{made}", params=stand.developer).status_code == 404
    assert stand.ok("GET", CC, params=stand.developer)["total"] == 1
    assert stand.ok("POST", "/crm/v3/objects/contacts/search", json={})["total"] == 0
    assert stand.ok("GET", "/crm/v3/objects/contacts/55512001")["id"] == "55512001"


def test_a_portal_without_the_product_tier(stand: Stand) -> None:
    stand.chaos(tier="starter")
    egg = {"inboxId": "700200300", "name": "x", "authorized": True}
    assert stand.call("POST", f"{CC}/{stand.channel}/channel-accounts", json=egg).status_code == 403


def test_a_workflow_signs_for_whatever_app_it_is_told(stand: Stand, host: Host) -> None:
    answer = stand.sim("POST", "workflow", {"url": host.url, "appId": "3131", "body": [{"forged": 1}]})
    assert answer == {"status": 200}
    headers, body = host.headers[0], host.bodies[0]
    secret, stamp = stand.env["HUBSPOT_HITL_CLIENT_SECRET"], headers["x-hubspot-request-timestamp"]
    assert headers["x-hubspot-signature-version"] == "v2"
    assert headers["x-hubspot-signature"] == sign("v2", secret=secret, method="POST", uri=host.url, body=body)
    v3 = sign("v3", secret=secret, method="POST", uri=host.url, body=body, timestamp=stamp)
    assert headers["x-hubspot-signature-v3"] == v3


# --- OAuth


def test_a_code_is_bound_to_its_verifier(stand: Stand) -> None:
    verifier = "v" * 50
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    back = "http://localhost:5/back"

    def code(**more: str) -> str:
        query = {"client_id": "sim-client-0001", "redirect_uri": back, "scope": "oauth conversations.read", **more}
        url = f"{stand.base}/oauth/424242/authorize"
        answer = stand.http.post(
            url, params=query, data={"answer": "allow", "portal": "424242"}, allow_redirects=False, timeout=5
        )
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"].partition("code=")[2]

    def exchange(code: str, **more: str) -> int:
        grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, **more}
        return stand.token_call("/oauth/v3/token", **grant).status_code

    proof = {"code_challenge": challenge, "code_challenge_method": "S256"}
    assert exchange(code(**proof)) == 400
    assert exchange(code(**proof), code_verifier="w" * 50) == 400
    assert exchange(code(**proof), code_verifier=verifier) == 200
    assert exchange(code(code_challenge=verifier), code_verifier=verifier) == 200
    assert exchange(code()) == 200
    assert exchange(code(), redirect_uri="http://localhost:5/other") == 400


def test_consent_is_only_given_to_what_the_app_is_registered_for(stand: Stand) -> None:
    env = stand.sim(
        "POST",
        "apps",
        {"redirectUris": ["https://bot.example.test/back"], "requiredScopes": ["oauth", "conversations.read"]},
    )
    right = {
        "client_id": env["HUBSPOT_HITL_CLIENT_ID"],
        "redirect_uri": "https://bot.example.test/back",
        "scope": "oauth conversations.read",
        "optional_scope": "files unheard.of",
    }

    def page(**more: str) -> Any:
        return stand.http.get(f"{stand.base}/oauth/authorize", params={**right, **more}, timeout=30)

    assert page().status_code == 200
    assert "files" in page().text
    assert "unheard.of" not in page().text
    assert page(redirect_uri="https://bot.example.test/other").status_code == 400
    assert page(scope="oauth").status_code == 400
    assert page(scope="").status_code == 400
    assert page(client_id="x").status_code == 400


def test_an_app_is_connected_when_its_code_is_exchanged(stand: Stand) -> None:
    env = stand.sim("POST", "apps", {"portalId": "717171"})
    query = {"client_id": "sim-client-0001", "redirect_uri": "https://b.test/back", "scope": "oauth"}
    answer = stand.http.post(
        f"{stand.base}/oauth/authorize",
        params=query,
        data={"answer": "allow", "portal": env["HUBSPOT_HITL_PORTAL_ID"]},
        allow_redirects=False,
        timeout=30,
    )
    code = answer.headers["Location"].partition("code=")[2]
    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": "https://b.test/back"}
    made = stand.token_call("/oauth/2026-09/token", **grant).json()
    assert (made["hub_id"], made["scopes"]) == (717171, ["oauth"])
    headers = bearer(made["access_token"])
    assert stand.ok("GET", "/account-info/v3/details", headers=headers)["portalId"] == 717171
    assert stand.call("GET", f"{CV}/inboxes", headers=headers).status_code == 403


def test_introspection_of_a_token_that_is_no_good(stand: Stand) -> None:
    answers = [stand.token_call(f"/oauth/{version}/token/introspect", token="x") for version in ("v3", "2026-09")]
    assert [one.status_code for one in answers] == [404, 200]
    assert answers[1].json() == {"active": False}
