"""The stand-in as a real process, over HTTP: what it answers, what it delivers, and whom it refuses."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from typing import Any

import pytest
import requests

from flask_hubspot_hitl.hubspot.signature import sign
from tests.simulator_helpers import CC, CV, LIFECYCLE, VERSIONS, Host, Stand, bearer, person, running, until
from tests.test_fuzz_api import NOT_SERVED
from tests.traffic import Documents, must_have_documents

FAMILIES = ("custom-channels.", "conversations.", "oauth.", "webhooks.", "webhooks-journal.2026")
NOWHERE = "6f1c3b0e-0000-4000-8000-000000000000"
"""An offset that the journal does not have."""


# --- the API


def test_publish_keys_threads_and_is_idempotent(stand: Stand) -> None:
    first = stand.publish("one", integrationIdempotencyId="a")
    again = stand.publish("other text", integrationIdempotencyId="a")
    second = stand.publish("two")
    other = stand.publish("three", key="conv-2")
    assert again == first
    assert first["text"] == "one"
    assert second["conversationsThreadId"] == first["conversationsThreadId"] != other["conversationsThreadId"]
    threads = stand.sim("GET", "threads")
    assert [t["integrationThreadId"] for t in threads] == ["conv-1", "conv-2"]
    assert [m["text"] for m in threads[0]["messages"]] == ["one", "two"]
    assert isinstance(threads[0]["id"], str)


def test_publish_matches_contacts(stand: Stand) -> None:
    assert stand.publish(key="a")["createdBy"] == "V-55512001"
    by_phone = stand.publish(key="b", senders=[person("+34 911 222 333", "HS_PHONE_NUMBER")])
    assert by_phone["createdBy"] == "V-55512001"
    made = stand.sim("POST", "contacts", {"phone": "+4915123456789", "firstname": "Uwe"})
    by_phone = stand.publish(key="c", senders=[person("+4915123456789", "HS_PHONE_NUMBER")])
    assert by_phone["createdBy"] == f"V-{made['id']}"
    assert stand.publish(key="d", associateWithContactId=55512003)["createdBy"] == "V-55512003"
    unknown = stand.publish(key="e", senders=[person("nobody@example.test")])["createdBy"]
    assert stand.ok("GET", f"{CV}/actors/{unknown}")["email"] == "nobody@example.test"
    stand.sim("POST", "chaos", {"unknown_contact": "reject"})
    egg = stand.egg(key="f", senders=[person("nobody@example.test")])
    assert stand.call("POST", f"{CC}/{stand.channel}/messages", json=egg).status_code == 400


def test_publish_is_as_liberal_as_hubspot(stand: Stand) -> None:
    egg = stand.egg(type="MESSAGE", surprise=[1])
    for name in ("timestamp", "recipients", "attachments"):
        del egg[name]
    assert stand.ok("POST", f"{CC}/{stand.channel}/messages", json=egg)["text"] == "Hello"


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": 1},
        {"text": None},
        {"messageDirection": "SIDEWAYS"},
        {"channelAccountId": "880099"},
        {"senders": []},
        {"senders": ["x"]},
        {"senders": [person("no-address")]},
        {"senders": [person("12", "HS_PHONE_NUMBER")]},
        {"senders": [person("x", "PIGEON")]},
        {"timestamp": "yesterday"},
        {"timestamp": "2026-10-01T09:15:30"},
        {"attachments": [{"type": "FILE", "fileId": "1"}]},
        {"attachments": [{"type": "LOCATION", "latitude": "north", "longitude": 1}]},
        {"attachments": [{"type": "BOMB"}]},
        {"associateWithContactId": 10**30},
        {"integrationThreadId": 5},
    ],
)
def test_publish_refuses_nonsense(stand: Stand, wrong: dict[str, Any]) -> None:
    answer = stand.call("POST", f"{CC}/{stand.channel}/messages", json=stand.egg(**wrong))
    assert answer.status_code == 400
    assert answer.json()["category"] == "VALIDATION_ERROR"
    assert stand.sim("GET", "threads") == []


def test_unknown_channel_is_404_and_credentials_are_asked(stand: Stand) -> None:
    assert stand.call("POST", f"{CC}/1/messages", json=stand.egg()).status_code == 404
    path = f"{stand.base}{CV}/threads"
    bare = requests.get(path, timeout=30)
    assert (bare.status_code, bare.json()["category"]) == (401, "INVALID_AUTHENTICATION")
    few = stand.sim("GET", "access-token?scopes=oauth")["access_token"]
    answer = requests.get(path, headers={"Authorization": f"Bearer {few}"}, timeout=30)
    assert (answer.status_code, answer.json()["category"]) == (403, "MISSING_SCOPES")
    assert requests.get(stand.base + CC, params=stand.developer, timeout=30).json()["total"] == 1
    wrong = {**stand.developer, "hapikey": "sim-wrong"}
    assert requests.get(stand.base + CC, params=wrong, timeout=30).status_code == 401


def test_tokens_expire_rotate_and_are_revoked(stand: Stand) -> None:
    stand.sim("POST", "chaos", {"token_seconds": 0})
    token = stand.token_call().json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = requests.get(f"{stand.base}{CV}/inboxes", headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    stand.sim("POST", "chaos", {"rotate_refresh_tokens": True})
    rotated = stand.token_call().json()["refresh_token"]
    assert rotated != stand.env["HUBSPOT_HITL_REFRESH_TOKEN"]
    assert stand.token_call().json()["status"] == "BAD_REFRESH_TOKEN"
    assert stand.token_call(refresh_token=rotated).status_code == 200
    stand.sim("POST", "reset")
    stand.sim("POST", "chaos", {"revoked": True})
    assert stand.token_call().status_code == 400
    assert stand.call("GET", f"{CV}/inboxes").status_code == 401


def test_consent_page_gives_a_code_once(stand: Stand) -> None:
    client = {"client_id": stand.env["HUBSPOT_HITL_CLIENT_ID"], "redirect_uri": "http://localhost:5/back?x=1"}
    client |= {"scope": "oauth conversations.read"}
    page = stand.http.get(f"{stand.base}/oauth/authorize", params={**client, "state": "s"}, timeout=30)
    assert "Connect app" in page.text
    answer = stand.http.post(page.url, data={"answer": "allow", "portal": "424242"}, allow_redirects=False, timeout=30)
    location = answer.headers["Location"]
    assert location.startswith("http://localhost:5/back?x=1&code=sim-code-")
    assert location.endswith("&state=s")
    code = location.partition("code=")[2].partition("&")[0]
    grant = {"grant_type": "authorization_code", "code": code, "redirect_uri": client["redirect_uri"]}
    assert stand.token_call("/oauth/v3/token", **grant).json()["hub_id"] == 424242
    assert stand.token_call("/oauth/v3/token", **grant).json()["status"] == "BAD_AUTH_CODE"


def test_contact_search_leaves_the_country_code_out(stand: Stand) -> None:
    def found(name: str, operator: str, **more: Any) -> list[str]:
        body = {"filterGroups": [{"filters": [{"propertyName": name, "operator": operator, **more}]}]}
        return [c["id"] for c in stand.ok("POST", "/crm/v3/objects/contacts/search", json=body)["results"]]

    number = "hs_searchable_calculated_phone_number"
    assert found(number, "EQ", value="911222333") == ["55512001"]
    assert found(number, "EQ", value="+34911222333") == []
    assert found(number, "IN", values=["2125550142"]) == ["55512002"]
    assert found("hs_searchable_calculated_international_phone_number", "EQ", value="+12125550142") == ["55512002"]
    assert found("email", "EQ", value="ROSA@example.test") == ["55512001"]
    assert found("email", "CONTAINS_TOKEN", value="*@example.test") == ["55512001", "55512002", "55512003"]
    assert found("phone", "NOT_HAS_PROPERTY") == ["55512003"]
    again = stand.call("POST", "/crm/v3/objects/contacts", json={"properties": {"email": "Rosa@example.test"}})
    assert again.status_code == 409
    assert "Existing ID: 55512001" in again.json()["message"]


def upload(stand: Stand, content: bytes, base: str = "/files/v3/files", **more: str) -> Any:
    options = json.dumps({"access": "PRIVATE", "ttl": "P1Y"})
    form = {"options": options, "folderPath": "/handoff", **more}
    return stand.ok("POST", base, data=form, files={"file": ("invoice.png", content, "image/png")})


def test_files_are_read_by_signed_link_only(stand: Stand) -> None:
    made = upload(stand, b"pixels")
    assert (made["name"], made["extension"], made["type"], made["size"]) == ("invoice", "png", "IMG", 6)
    signed = stand.ok("GET", f"/files/v3/files/{made['id']}/signed-url")["url"]
    got = requests.get(signed, timeout=30)
    assert got.content == b"pixels"
    assert got.headers["Content-Disposition"].startswith("attachment")
    assert requests.get(made["url"], timeout=30).status_code == 404
    assert requests.get(signed[:-1], timeout=30).status_code == 404
    sent = stand.publish("", attachments=[{"type": "FILE", "fileId": made["id"]}])["attachments"][0]
    assert (sent["fileUsageType"], sent["name"]) == ("IMAGE", "invoice.png")
    assert requests.get(sent["url"], timeout=30).content == b"pixels"


def test_lists_come_in_pages_of_any_size(stand: Stand) -> None:
    for number in range(3):
        stand.publish(key=f"conv-{number}")
    stand.sim("POST", "chaos", {"page_size": 1})
    seen, after = [], None
    while True:
        page = stand.ok("GET", f"{CV}/threads", params={"after": after} if after else None)
        seen += [t["id"] for t in page["results"]]
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]
    assert seen == [t["id"] for t in stand.sim("GET", "threads")]


def test_new_channels_can_hide_and_accounts_can_clash(stand: Stand) -> None:
    stand.sim("POST", "chaos", {"channel_hidden_polls": 2})
    body = {"name": "New", "capabilities": {"allowOutgoingMessages": True}}
    made = requests.post(stand.base + CC, params=stand.developer, json=body, timeout=30).json()
    account = {
        "inboxId": stand.env["HUBSPOT_HITL_INBOX_ID"],
        "name": "New",
        "authorized": True,
        "deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "x"},
    }
    accounts = f"{CC}/{made['id']}/channel-accounts"
    assert stand.call("POST", accounts, json=account).status_code == 404
    totals = [requests.get(stand.base + CC, params=stand.developer, timeout=30).json()["total"] for _ in range(3)]
    assert totals == [1, 1, 2]
    assert stand.call("POST", accounts, json=account).status_code == 201
    assert stand.call("POST", accounts, json=account).status_code == 409
    body = {"name": "Bad", "capabilities": {"deliveryIdentifierTypes": [{"type": "HS_EMAIL_ADDRESS"}]}}
    refused = requests.post(stand.base + CC, params=stand.developer, json=body, timeout=30)
    assert refused.json()["subCategory"] == "CustomChannelsError.INVALID_CHANNEL_CAPABILITY_VALUES"


# --- the feeds


def test_an_agents_reply_claims_and_is_delivered_in_order(stand: Stand, host: Host) -> None:
    host.delay = 0.03
    thread_id = stand.publish()["conversationsThreadId"]
    reply = stand.act(thread_id, "reply", text="Hi <Rosa>", attachments=[])
    stand.act(thread_id, "comment", text="a note")
    stand.act(thread_id, "close")
    stand.act(thread_id, "reopen")
    stand.act(thread_id, "unassign")
    stand.act(thread_id, "archive")
    stand.act(thread_id, "restore")
    stand.act(thread_id, "purge")
    expected = ["creation", "newMessage:MESSAGE", "assignedTo=A-987", "OUTGOING_CHANNEL_MESSAGE_CREATED"]
    expected += ["newMessage:MESSAGE", "newMessage:COMMENT", "status=CLOSED", "status=OPEN", "assignedTo="]
    expected += ["deletion", "isArchived=false", "deletion", "privacyDeletion"]
    until(lambda: len(host.events()) >= len(expected))
    assert host.kinds() == expected
    assert not host.overlap
    channel_event = host.events()[3]
    message = channel_event["message"]
    assert message["id"] == reply["id"]
    assert message["richText"] == "<div>Hi &lt;Rosa&gt;</div>"
    assert "name" not in message["senders"][0]
    assert (channel_event["portalId"], channel_event["channelIntegrationThreadIds"]) == ("424242", ["conv-1"])
    assert host.events()[2]["portalId"] == 424242


def test_every_delivery_is_signed_v1_and_v3_over_the_decoded_url(stand: Stand, host: Host) -> None:
    stand.act(stand.publish("Olá 👋")["conversationsThreadId"], "reply", text="olé")
    until(lambda: "OUTGOING_CHANNEL_MESSAGE_CREATED" in host.kinds())
    secret = stand.env["HUBSPOT_HITL_CLIENT_SECRET"]
    for body, headers in zip(host.bodies, host.headers, strict=True):
        stamp = headers["x-hubspot-request-timestamp"]
        v3 = sign("v3", secret=secret, method="POST", uri=host.url, body=body, timestamp=stamp)
        assert headers["x-hubspot-signature-v3"] == v3
        assert headers["x-hubspot-signature"] == sign("v1", secret=secret, method="POST", uri=host.url, body=body)
        assert abs(int(stamp) - time.time() * 1000) < 10_000


def test_a_failing_delivery_is_retried_in_place(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"retry_delays": [0.01, 0.01, 0.01]})
    host.answers = [500, 302, 404, 200]
    stand.act(stand.publish()["conversationsThreadId"], "reply", text="hi")
    until(lambda: "OUTGOING_CHANNEL_MESSAGE_CREATED" in host.kinds())
    log = stand.sim("GET", "deliveries")
    assert [(d["attempt"], d["status"]) for d in log[:4]] == [(0, 500), (1, 302), (2, 404), (3, 200)]
    assert [json.loads(d["body"])[0]["attemptNumber"] for d in log[:4]] == [0, 1, 2, 3]
    assert len({d["headers"]["X-HubSpot-Signature-v3"] for d in log[:4]}) == 4
    host.answers = [500] * 4
    stand.publish(key="b")
    until(lambda: not host.answers)
    stand.publish(key="c")
    until(lambda: host.kinds()[-1] == "newMessage:MESSAGE")


def test_delivery_switches(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"deliver": False, "own_publish_events": False, "duplicates": 1, "signatures": "v3"})
    thread_id = stand.publish()["conversationsThreadId"]
    stand.act(thread_id, "assign", actorId="A-988")
    time.sleep(0.1)
    assert host.bodies == []
    stand.sim("POST", "chaos", {"deliver": True})
    until(lambda: len(host.bodies) == 2)
    assert host.kinds() == ["creation", "assignedTo=A-988"] * 2
    assert "x-hubspot-signature" not in host.headers[0]
    changes = {"duplicates": 0, "drop_deliveries": False, "unassign_value": "missing", "assignee_form": "bare"}
    stand.sim("POST", "chaos", changes | {"status_form": "string", "channel_thread_ids": "empty"})
    stand.act(thread_id, "unassign")
    stand.act(thread_id, "reply", text="x", actorId="A-987")
    until(lambda: len(host.kinds()) == 8)
    assert host.kinds()[4:] == [
        "assignedTo=?",
        "assignedTo=987",
        "OUTGOING_CHANNEL_MESSAGE_CREATED",
        "newMessage:MESSAGE",
    ]
    event = host.events()[6]
    assert event["message"]["status"] == "SENT"
    assert event["channelIntegrationThreadIds"] == []
    stand.sim("POST", "chaos", {"drop_deliveries": True})
    stand.act(thread_id, "close")
    stand.sim("POST", "chaos", {"drop_deliveries": False})


def test_any_body_can_be_delivered_and_replayed(stand: Stand, host: Host) -> None:
    host.answers = [200, 404]
    assert stand.sim("POST", "deliver", {"body": [{"odd": 1}], "times": 2}) == [200, 404]
    assert stand.sim("POST", "deliver", {"raw": "{", "feed": "channel"}) == [200]
    assert stand.sim("POST", "deliveries/0/replay") == [200]
    assert host.bodies == [b'[{"odd": 1}]', b'[{"odd": 1}]', b"{", b'[{"odd": 1}]']


@pytest.mark.parametrize(
    ("method", "path", "body", "why"),
    [
        ("POST", "deliver", {"raw": None}, "raw: must be text"),
        ("POST", "deliver", {"raw": 1}, "raw: must be a str"),
        ("POST", "deliver", {"body": 1, "times": None}, "`times` from 1"),
        ("POST", "workflow", {"url": None}, "`url` is required"),
        ("POST", "contacts/55512001/merge", {"into": None}, "`into` is required"),
        ("POST", "grant", {"scopes": [None]}, "scopes[0]: must be a str"),
    ],
)
def test_null_is_no_text(stand: Stand, host: Host, method: str, path: str, body: Any, why: str) -> None:
    answer = stand.http.request(method, f"{stand.base}/_sim/{path}", json=body, timeout=30)
    assert answer.status_code == 400, answer.text
    assert why in answer.json()["message"]


def test_an_agent_who_is_archived_as_null_stays_what_he_is(stand: Stand) -> None:
    stand.sim("PUT", "agents/A-987", {"archived": True})
    stand.sim("PUT", "agents/A-987", {"archived": None})
    owners = stand.sim("GET", "access-token?scopes=crm.objects.owners.read")["access_token"]
    headers = {"Authorization": f"Bearer {owners}"}
    past = stand.ok("GET", "/crm/v3/owners", params={"archived": "true"}, headers=headers)["results"]
    assert [one["userIdIncludingInactive"] for one in past] == [987]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_that_knows_some_is_a_207(stand: Stand, version: str) -> None:
    """In 2026-09 too (docs/hubspot.rst: Actors; Subscriptions API)."""
    actors = f"{'/conversations/conversations/2026-09' if version == '2026-09' else CV}/actors/batch/read"
    hooks = f"/{'app-webhooks' if version == '2026-09' else 'webhooks'}/{version}/3131/subscriptions"
    [first, *_] = stand.ok("GET", hooks, params=stand.developer)["results"]
    there, nowhere = {"id": int(first["id"]), "active": True}, {"id": 1, "active": True}
    for path, known, unknown, gone in (
        (actors, "A-987", "A-1", ["A-1"]),
        (f"{hooks}/batch/update", there, nowhere, ["1"]),
    ):
        query = stand.developer if path.startswith(hooks) else {}
        assert stand.call("POST", path, json={"inputs": [known]}, params=query).status_code == 200
        some = stand.call("POST", path, json={"inputs": [known, unknown]}, params=query)
        assert (some.status_code, some.json()["numErrors"], len(some.json()["results"])) == (207, 1, 1)
        assert some.json()["errors"][0]["context"] == {"ids": gone}


def test_closed_threads_reopen_or_not(stand: Stand, host: Host) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    assert stand.ok("PATCH", f"{CV}/threads/{thread_id}", json={"status": "CLOSED"})["status"] == "CLOSED"
    assert stand.publish("again")["conversationsThreadId"] == thread_id
    until(lambda: host.kinds()[2:] == ["status=CLOSED", "status=OPEN", "newMessage:MESSAGE"])
    assert host.events()[2]["changeSource"] == "INTEGRATION"
    stand.sim("POST", "chaos", {"closed_publish": "new_thread"})
    stand.act(thread_id, "close")
    assert stand.publish("new")["conversationsThreadId"] != thread_id


def test_receipts_attachments_times_and_notes(stand: Stand) -> None:
    thread_id = stand.publish()["conversationsThreadId"]
    content = base64.b64encode(b"sound").decode()
    new = {"name": "a.ogg", "contentType": "audio/ogg", "content": content}
    reply = stand.act(thread_id, "reply", attachments=[new], createdAt="2026-01-02T03:04:05.006Z")
    assert reply["createdAt"] == "2026-01-02T03:04:05.006Z"
    assert reply["attachments"][0]["fileUsageType"] == "AUDIO"
    assert requests.get(reply["attachments"][0]["url"], timeout=30).content == b"sound"
    receipt = {"statusType": "FAILED", "errorMessage": "User left"}
    stand.ok("PATCH", f"{CC}/{stand.channel}/messages/{reply['id']}", json=receipt)
    shown = next(m for m in stand.sim("GET", "threads")[0]["messages"] if m["id"] == reply["id"])
    assert shown["status"] == {
        "statusType": "FAILED",
        "failureDetails": {"errorMessage": "User left", "errorMessageTokens": {}},
    }
    stand.sim("POST", "chaos", {"attachment_url": False, "notes": "refused"})
    again = stand.ok("GET", f"{CV}/threads/{thread_id}/messages/{reply['id']}")
    assert "url" not in again["attachments"][0]
    note = {"type": "COMMENT", "text": "summary", "attachments": []}
    assert stand.call("POST", f"{CV}/threads/{thread_id}/messages", json=note).status_code == 403


# --- faults


def test_faults(stand: Stand) -> None:
    rules = [
        {"match": "POST .*/messages$", "times": 1, "mode": "status", "status": 429, "retry_after": 2},
        {"match": "POST .*/messages$", "times": 1, "mode": "status_after", "status": 503},
        {"match": "POST .*/messages$", "times": 1, "mode": "drop"},
        {"match": "POST .*/messages$", "times": 1, "mode": "drop_after"},
        {"match": "inboxes", "times": 1, "mode": "delay", "seconds": 0.2},
    ]
    stand.sim("POST", "chaos", {"faults": rules})
    path = f"{CC}/{stand.channel}/messages"
    limited = stand.call("POST", path, json=stand.egg("1"))
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "2")
    assert stand.call("POST", path, json=stand.egg("2")).status_code == 503
    for text in ("3", "4"):
        with pytest.raises(requests.ConnectionError):
            stand.call("POST", path, json=stand.egg(text))
    assert [m["text"] for t in stand.sim("GET", "threads") for m in t["messages"]] == ["2", "4"]
    started = time.monotonic()
    stand.ok("GET", f"{CV}/inboxes")
    assert time.monotonic() - started >= 0.2
    served = stand.sim("GET", "requests")
    assert [(r["status"], r.get("applied_status")) for r in served] == [
        (429, None),
        (503, 201),
        (503, None),
        (201, 201),
        (200, 200),
    ]


def test_chaos_names_its_switches(stand: Stand) -> None:
    answer = stand.http.post(f"{stand.base}/_sim/chaos", json={"chaos_monkey": 1}, timeout=30)
    assert answer.status_code == 400
    assert "own_publish_events" in answer.text
    for bad in (
        {"faults": [{"match": "("}]},
        {"duplicates": True},
        {"notes": "x"},
        {"faults": [{"match": "a", "x": 1}]},
    ):
        assert stand.http.post(f"{stand.base}/_sim/chaos", json=bad, timeout=30).status_code == 400
    assert stand.sim("POST", "chaos", {})["duplicates"] == 0


# --- apps, safety, pages, process


def test_further_apps_are_kept_apart(stand: Stand, host: Host) -> None:
    env = stand.sim("POST", "apps", {"portalId": "515151", "targetUrl": host.url})
    assert env["HUBSPOT_HITL_PORTAL_ID"] == "515151"
    assert "HUBSPOT_HITL_CHANNEL_ID" not in env
    assert env["HUBSPOT_HITL_CLIENT_SECRET"].startswith("sim-")
    token = stand.sim("GET", "access-token?portalId=515151")["access_token"]
    developer = {"hapikey": env["HUBSPOT_HITL_DEVELOPER_API_KEY"], "appId": env["HUBSPOT_HITL_APP_ID"]}
    assert requests.get(stand.base + CC, params=developer, timeout=30).json()["total"] == 0
    thread_id = stand.publish()["conversationsThreadId"]
    headers = {"Authorization": f"Bearer {token}"}
    assert requests.get(f"{stand.base}{CV}/threads/{thread_id}", headers=headers, timeout=30).status_code == 404
    inboxes = requests.get(f"{stand.base}{CV}/inboxes", headers=headers, timeout=30).json()["results"]
    assert [i["id"] for i in inboxes] == [env["HUBSPOT_HITL_INBOX_ID"]]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_strangers_are_refused(stand: Stand, headers: dict[str, str], status: int) -> None:
    sent = {"Content-Type": "application/json", **headers}
    answer = requests.post(f"{stand.base}/_sim/reset", data="{}", headers=sent, timeout=30)
    assert answer.status_code == status


@pytest.mark.parametrize("raw", ["{", "[]", "NaN", '{"text": NaN}', "[" * 100_000, '"\\ud800"', "1" * 5000])
def test_no_input_makes_it_fail(stand: Stand, raw: str) -> None:
    thread_id = stand.publish(text="lone \ud800 surrogate")["conversationsThreadId"]
    paths = [f"{CC}/{stand.channel}/messages", f"{CV}/threads/{thread_id}/messages", f"{CV}/actors/batch/read"]
    paths += ["/crm/v3/objects/contacts/search", "/_sim/chaos", "/_sim/apps", f"/_sim/threads/{thread_id}/reply"]
    for path in paths:
        headers = {"Content-Type": "application/json"}
        assert 400 <= stand.call("POST", path, data=raw, headers=headers).status_code < 500
    odd = ["?after=x", "?limit=0", "?limit=-1", "?limit=99999999999999999999", "?archived=2", "?after=%ff%00"]
    for query in odd:
        assert stand.call("GET", f"{CV}/threads{query}").status_code < 500


def test_another_address_needs_a_control_token() -> None:
    command = [sys.executable, "-m", "flask_hubspot_hitl.simulator", "--port", "0", "--host", "0.0.0.0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert refused.returncode == 2
    assert "--control-token" in refused.stderr
    began = time.monotonic()
    with running("--control-token", "sim-control", "--allow-host", "Hub") as (child, base):
        start_seconds = time.monotonic() - began
        base = base.replace("Hub", "127.0.0.1")
        assert requests.get(f"{base}/_sim/env", timeout=30).status_code == 401
        headers = {"Authorization": "Bearer sim-control", "Host": "hub:1"}
        assert requests.get(f"{base}/_sim/env", headers=headers, timeout=30).status_code == 200
        started = time.monotonic()
        child.terminate()
        assert child.wait(timeout=60) == 0
        assert time.monotonic() - started < max(3, 3 * start_seconds), "it waits for nothing"


LOSES_EXCEPTIONS = """
import os, signal, sys, weakref
from werkzeug.serving import BaseWSGIServer
from flask_hubspot_hitl.simulator.__main__ import main

class Thing:
    pass

def told_to_stop(reference):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

def forget_something(server):
    thing = Thing()
    kept = weakref.ref(thing, told_to_stop)
    del thing

BaseWSGIServer.service_actions = forget_something
sys.exit(main(["--port", "0"]))
"""


def test_a_stand_in_stops_whatever_it_does_just_then() -> None:
    """An exception in a weak reference's callback, as they run whenever a request's thread is forgotten, is lost."""
    done = subprocess.run([sys.executable, "-c", LOSES_EXCEPTIONS], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# --- held to HubSpot's own documents


def tour(stand: Stand, version: str) -> None:
    """Every operation of one API version, at least once."""
    cc = CC if version == "v3" else f"/conversations/custom-channels/{version}"
    cv = "/conversations/conversations/2026-09" if version == "2026-09" else CV
    crm = "/crm/v3/objects" if version == "v3" else f"/crm/objects/{version}"
    for path in [f"/oauth/{version}/token", "/oauth/v1/token"]:
        token = stand.token_call(path).json()["access_token"]
    form = {"token": token}
    assert stand.token_call(f"/oauth/{version}/token/introspect", **form).json()["active"]
    stand.ok("GET", f"/oauth/v1/access-tokens/{token}")
    stand.ok("GET", f"/oauth/v1/refresh-tokens/{stand.env['HUBSPOT_HITL_REFRESH_TOKEN']}")
    stand.ok("GET", f"/account-info/{version}/details")
    keyed: dict[str, Any] = {"params": stand.developer}
    body = {"name": version, "capabilities": {"allowOutgoingMessages": True}, "webhookUrl": "http://127.0.0.1:9/x"}
    channel = stand.ok("POST", cc, json=body, **keyed)["id"]
    stand.ok("GET", cc, **keyed)
    stand.ok("GET", f"{cc}/{channel}", **keyed)
    patch = {name: body.get(name) or "http://127.0.0.1:9/x" for name in ("channelAccountConnectionRedirectUrl",)}
    patch |= {"channelLogoUrl": "https://x.test/l.png", "channelDescription": "d"}
    stand.call("PATCH", f"{cc}/{channel}", json={**body, **patch}, **keyed)
    egg = {"inboxId": "700200300", "name": "a", "authorized": True}
    identifier = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": version}
    account = stand.ok("POST", f"{cc}/{channel}/channel-accounts", json={**egg, "deliveryIdentifier": identifier})
    stand.ok("GET", f"{cc}/{channel}/channel-accounts")
    stand.ok("GET", f"{cc}/{channel}/channel-accounts/{account['id']}")
    stand.ok("PATCH", f"{cc}/{channel}/channel-accounts/{account['id']}", json={"name": "b", "authorized": True})
    staging = stand.sim("POST", "staging-tokens", {"channelId": channel})["accountToken"]
    finish = {"accountName": "c", "deliveryIdentifier": {**identifier, "value": f"{version}-2"}}
    stand.ok("PATCH", f"{cc}/{channel}/channel-account-staging-tokens/{staging}", json=finish)
    file_base = "/files/v3/files" if version == "v3" else "/files/2026-03/files"
    stored = upload(stand, b"x", file_base)["id"]
    stand.ok("GET", f"{file_base}/{stored}")
    stand.ok("GET", f"{file_base}/{stored}/signed-url")
    attachments = [
        {"type": "FILE", "fileId": stored, "fileUsageType": "IMAGE"},
        {"type": "LOCATION", "latitude": 1.5, "longitude": 2},
        {"type": "CONTACT", "contactProfile": {"addresses": [], "emails": [], "phones": [], "urls": []}},
        {"type": "QUICK_REPLIES", "quickReplies": [{"value": "a", "valueType": "TEXT"}]},
        {"type": "UNSUPPORTED_CONTENT"},
    ]
    where = {"key": version, "channelAccountId": account["id"], "attachments": attachments}
    message = stand.ok("POST", f"{cc}/{channel}/messages", json=stand.egg(**where))
    stand.ok("GET", f"{cc}/{channel}/messages/{message['id']}")
    thread = message["conversationsThreadId"]
    out = stand.egg(**{**where, "messageDirection": "OUTGOING", "attachments": []})
    stand.ok("POST", f"{cc}/{channel}/messages", json=out)
    reply = stand.act(thread, "reply", text="hello")
    receipt = {"statusType": "FAILED", "errorMessage": "gone"}
    stand.ok("PATCH", f"{cc}/{channel}/messages/{reply['id']}", json=receipt)
    stand.ok("GET", f"{cv}/threads", params={"threadStatus": "OPEN", "limit": 1})
    stand.ok("GET", f"{cv}/threads/{thread}", params={"association": "TICKET"})
    note = {"type": "COMMENT", "text": "n", "richText": "<p>n</p>", "attachments": []}
    stand.ok("POST", f"{cv}/threads/{thread}/messages", json=note)
    agent = {"type": "MESSAGE", "text": "m", "senderActorId": "A-987", "channelId": channel, "attachments": []}
    agent |= {"channelAccountId": account["id"], "recipients": [{"deliveryIdentifiers": [identifier]}]}
    stand.ok("POST", f"{cv}/threads/{thread}/messages", json=agent)
    assignee = cv if version == "2026-09" else "/conversations/conversations/v3"
    stand.ok("PUT", f"{assignee}/threads/{thread}/assignee", json={"actorId": "A-988"})
    stand.ok("DELETE", f"{assignee}/threads/{thread}/assignee")
    stand.ok("PATCH", f"{cv}/threads/{thread}", json={"status": "CLOSED"})
    stand.ok("GET", f"{cv}/threads/{thread}/messages")
    stand.ok("GET", f"{cv}/threads/{thread}/messages/{reply['id']}")
    stand.ok("GET", f"{cv}/threads/{thread}/messages/{reply['id']}/original-content")
    stand.ok("DELETE", f"{cv}/threads/{thread}")
    stand.ok("GET", f"{cv}/threads/{thread}", params={"archived": "true"})
    stand.ok("PATCH", f"{cv}/threads/{thread}", params={"archived": "true"}, json={"archived": False})
    for actor in ("A-987", "V-55512001", "I-3131", "S-hubspot", "E-a@b.test"):
        stand.ok("GET", f"{cv}/actors/{actor}")
    stand.ok("POST", f"{cv}/actors/batch/read", json={"inputs": ["A-987", "A-1"]})
    for name, number in (("inboxes", "700200300"), ("channels", channel), ("channel-accounts", account["id"])):
        stand.ok("GET", f"{cv}/{name}")
        stand.ok("GET", f"{cv}/{name}/{number}")
    query = {"filterGroups": [], "properties": ["email", "phone"], "sorts": [], "limit": 2, "after": "0"}
    stand.ok("POST", f"{crm}/contacts/search", json=query)
    person = {"properties": {"email": f"{version}@example.test"}, "associations": []}
    made = stand.ok("POST", f"{crm}/contacts", json=person)["id"]
    stand.ok("GET", f"{crm}/contacts/{made}", params={"properties": "email,phone"})
    stand.call("GET", f"{crm}/contacts/1")
    app = {"v3": "/webhooks/v3/3131", "2026-03": "/webhooks/2026-03/3131"}.get(version, "/app-webhooks/2026-09/3131")
    settings = {"targetUrl": "http://127.0.0.1:9/x", "throttling": {"maxConcurrentRequests": 10}}
    stand.ok("PUT", f"{app}/settings", json=settings, **keyed)
    stand.ok("GET", f"{app}/settings", **keyed)
    first = stand.ok("GET", f"{app}/subscriptions", **keyed)["results"][0]
    stand.ok("PATCH", f"{app}/subscriptions/{first['id']}", json={"active": True}, **keyed)
    stand.ok("GET", f"{app}/subscriptions/{first['id']}", **keyed)
    batch = {"inputs": [{"id": int(first["id"]), "active": True}]}
    stand.ok("POST", f"{app}/subscriptions/batch/update", json=batch, **keyed)
    batch["inputs"].append({"id": 1, "active": True})
    stand.ok("POST", f"{app}/subscriptions/batch/update", json=batch, **keyed)
    stand.ok("DELETE", f"{app}/subscriptions/{first['id']}", **keyed)
    again = {"eventType": first["eventType"], "active": True}
    stand.ok("POST", f"{app}/subscriptions", json=again, **keyed)
    stand.ok("DELETE", f"{app}/settings", **keyed)
    read_the_journal(stand, "2026-03" if version == "v3" else version)
    stand.ok("DELETE", f"{file_base}/{stored}")
    stand.ok("DELETE", f"{cc}/{channel}", **keyed)
    if version == "2026-03":
        stand.ok("DELETE", f"/oauth/v1/refresh-tokens/{stand.env['HUBSPOT_HITL_REFRESH_TOKEN']}")
    else:
        stand.token_call(f"/oauth/{version}/token/revoke", token=stand.env["HUBSPOT_HITL_REFRESH_TOKEN"])


def read_the_journal(stand: Stand, version: str) -> None:
    """Every operation of the journal, with the app's own token."""
    as_app: dict[str, Any] = {"headers": bearer(stand.app_token())}
    subscriptions = f"/webhooks-journal/subscriptions/{version}"
    made = stand.ok("POST", subscriptions, **LIFECYCLE, **as_app)
    assert stand.ok("POST", subscriptions, **LIFECYCLE, **as_app) == made
    assert stand.ok("GET", subscriptions, **as_app)["results"] == [made]
    assert stand.ok("GET", f"{subscriptions}/{made['id']}", **as_app) == made
    for kind in ("journal", "journal-local"):
        base = f"/webhooks-journal/{kind}/{version}"
        assert stand.call("GET", f"{base}/earliest", **as_app).status_code == (204 if kind == "journal" else 200)
        event = {"type": "app_lifecycle_event", "action": "APP_UNINSTALL", "portalId": 1, "occurredAt": 1}
        offsets = [stand.sim("POST", "journal/events", {"events": [event]})["offset"] for _ in range(3)]
        if kind == "journal":
            assert stand.ok("GET", f"{base}/earliest", **as_app)["currentOffset"] == offsets[0]
        last = stand.ok("GET", f"{base}/latest", params={"installPortalId": 1}, **as_app)
        assert last["currentOffset"] == offsets[2]
        assert requests.get(last["url"], timeout=30).json()["journalEvents"] == [event]
        assert stand.ok("GET", f"{base}/offset/{offsets[0]}/next", **as_app)["currentOffset"] == offsets[1]
        assert stand.call("GET", f"{base}/offset/{offsets[2]}/next", **as_app).status_code == 204
        assert stand.call("GET", f"{base}/offset/{NOWHERE}/next", **as_app).status_code == 404
        assert len(stand.ok("GET", f"{base}/batch/earliest/2", **as_app)["results"]) == 2
        assert len(stand.ok("GET", f"{base}/batch/latest/1", **as_app)["results"]) == 1
        assert len(stand.ok("GET", f"{base}/batch/{offsets[0]}/next/9", **as_app)["results"]) == 2
        assert len(stand.ok("POST", f"{base}/batch/read", json={"inputs": offsets}, **as_app)["results"]) == 3
        assert stand.call("POST", f"{base}/batch/read", json={"inputs": [NOWHERE]}, **as_app).status_code == 207
    stand.ok("DELETE", f"{subscriptions}/portals/1", **as_app)
    stand.ok("DELETE", f"{subscriptions}/{made['id']}", **as_app)
    assert stand.ok("GET", subscriptions, **as_app)["results"] == []


def test_answers_are_valid_by_hubspots_documents(stand: Stand) -> None:
    try:
        documents = Documents()
    except FileNotFoundError as missing:
        if must_have_documents():
            raise
        pytest.skip(f"HubSpot's documents are not beside the repository: {missing} is missing")
    for version in VERSIONS:
        stand.reset()
        stand.chaos(deliver=False)
        tour(stand, version)
        assert documents.problems(stand.sim("GET", "requests")) == []
    wanted = {one[1:] for one in documents.operations() if one[0].startswith(FAMILIES)}
    missed = wanted - {one[1:] for one in documents.covered}  # two documents may describe one operation
    assert {one for one in missed if not NOT_SERVED.match(one[1])} == set()
