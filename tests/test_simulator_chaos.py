"""The stand-in's switches, each over HTTP: what they do to deliveries and to API calls, and that a seed replays it."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from flask_hubspot_hitl.hubspot.signature import sign, verify
from flask_hubspot_hitl.simulator.__main__ import main
from flask_hubspot_hitl.simulator.engine.chaos import MEANINGS, Chaos
from tests.simulator_helpers import CC, CV, Host, Stand, bearer, running, until


def notes(stand: Stand, count: int) -> list[str]:
    """Comments in one thread, one event each; their message ids in the order they were made."""
    thread_id = stand.publish()["conversationsThreadId"]
    return [stand.act(thread_id, "comment", text=f"note {number}")["id"] for number in range(count)]


def delivered(host: Host) -> list[str]:
    """The ids of the comments that were delivered, in order of arrival."""
    return [event["messageId"] for event in host.events() if event.get("messageType") == "COMMENT"]


# --- deliveries


def test_events_overtake_each_other_and_none_is_lost(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"reorder": 0.5, "reorder_seconds": 0.3, "seed": 4})
    made = notes(stand, 12)
    until(lambda: len(delivered(host)) == 12)
    assert sorted(delivered(host)) == sorted(made)
    assert delivered(host) != made


def test_delayed_events_keep_their_order(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"delay": 0.3})
    made = notes(stand, 3)
    until(lambda: len(delivered(host)) == 3)
    assert delivered(host) == made
    log = stand.sim("GET", "deliveries")
    assert all(entry["at"] - json.loads(entry["body"])[0]["occurredAt"] >= 290 for entry in log)


def test_a_stale_event_comes_again_after_newer_ones(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"stale": True, "stale_seconds": 0.2})
    made = notes(stand, 3)
    until(lambda: len(delivered(host)) == 6)
    assert sorted(delivered(host)) == sorted(made * 2)


def test_lost_events_are_in_the_log_only(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"drop": 0.5})
    notes(stand, 12)
    until(lambda: len(stand.sim("GET", "deliveries")) + len(delivered(host)) >= 14)
    log = stand.sim("GET", "deliveries")
    lost = [entry for entry in log if entry.get("dropped")]
    assert 0 < len(lost) < 14
    assert {entry["status"] for entry in lost} == {None}
    until(lambda: len(host.events()) == 14 - len(lost))


def test_a_lost_answer_is_a_failed_attempt(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"lost_answers": True, "retry_delays": [0, 0]})
    stand.publish()
    until(lambda: len(host.bodies) >= 3)
    assert [event["attemptNumber"] for event in host.events() if "creation" in event["subscriptionType"]][:3] == [
        0,
        1,
        2,
    ]


def test_what_is_not_retried_when_4xx_is_final(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"retry_4xx": False, "retry_delays": [0, 0], "own_publish_events": False})
    host.answers = [404]
    first = stand.publish(key="a")["conversationsThreadId"]
    until(lambda: len(host.bodies) == 1)
    host.answers = [500]
    second = stand.publish(key="b")["conversationsThreadId"]
    until(lambda: len(host.bodies) == 3)
    assert [event["objectId"] for event in host.events()] == [int(first), int(second), int(second)]


@pytest.mark.parametrize(("switch", "old"), [("bad_signature", False), ("old_timestamp", True)])
def test_attempts_with_bad_signatures_and_old_times(stand: Stand, host: Host, switch: str, old: bool) -> None:
    stand.sim("POST", "chaos", {switch: True})
    stand.publish()
    until(lambda: host.bodies)
    headers, body = host.headers[0], host.bodies[0]
    stamp = headers["x-hubspot-request-timestamp"]
    now = int(stamp) if not old else int(stamp) + 6 * 60 * 1000
    secret = stand.env["HUBSPOT_HITL_CLIENT_SECRET"]
    right = sign("v3", secret=secret, method="POST", uri=host.url, body=body, timestamp=stamp)
    assert (headers["x-hubspot-signature-v3"] == right) is old
    request: dict[str, Any] = {"secrets": secret, "method": "POST", "uri": host.url, "body": body}
    signature = headers["x-hubspot-signature-v3"]
    assert not verify("v3", signature=signature, timestamp=stamp, now_ms=now, **request)


def test_one_array_holds_events_of_several_portals(stand: Stand, host: Host) -> None:
    env = stand.sim("POST", "apps", {"appId": "3131", "portalId": "616161"})
    token = stand.sim("GET", "access-token?portalId=616161")["access_token"]
    egg = {"inboxId": env["HUBSPOT_HITL_INBOX_ID"], "name": "x", "authorized": True}
    there = stand.ok("POST", f"{CC}/{stand.channel}/channel-accounts", json=egg, headers=bearer(token))["id"]
    stand.sim("POST", "chaos", {"mixed_batches": True, "batch_seconds": 0.1, "deliver": False})
    stand.publish()
    elsewhere = stand.egg(channelAccountId=there)
    stand.ok("POST", f"{CC}/{stand.channel}/messages", json=elsewhere, headers=bearer(token))
    stand.sim("POST", "chaos", {"deliver": True})
    until(lambda: any(len(json.loads(body)) == 4 for body in host.bodies))
    assert {event["portalId"] for event in host.events() if "objectId" in event} == {424242, 616161}


def test_feeds_can_be_signed_apart(stand: Stand, host: Host) -> None:
    stand.sim("POST", "chaos", {"signatures": "v1", "channel_signatures": "v3"})
    stand.act(stand.publish()["conversationsThreadId"], "reply", text="x")
    until(lambda: len(host.events()) == 5)
    for body, headers in zip(host.bodies, host.headers, strict=True):
        app = body.startswith(b"[")
        assert ("x-hubspot-signature" in headers, "x-hubspot-signature-v3" in headers) == (app, not app)


def test_deliver_signs_for_one_address_and_connects_to_another() -> None:
    host = Host()
    real = urlsplit(host.url)
    registered = f"https://bot.example.test/app{real.path}?{real.query}"
    options = ["--deliver", f"https://bot.example.test/app=http://{real.netloc}", "--deliver", "http://a=http://b"]
    with running(*options) as (child, base):
        stand = Stand(child, base)
        stand.sim("PUT", "target", {"url": registered})
        stand.publish()
        until(lambda: host.bodies)
        stand.http.close()
    host.close()
    headers, body = host.headers[0], host.bodies[0]
    stamp, secret = headers["x-hubspot-request-timestamp"], stand.env["HUBSPOT_HITL_CLIENT_SECRET"]
    right = sign("v3", secret=secret, method="POST", uri=registered, body=body, timestamp=stamp)
    assert headers["x-hubspot-signature-v3"] == right
    assert headers["host"] == "bot.example.test"


# --- the API


def statuses(stand: Stand, count: int) -> list[tuple[int, bool]]:
    """What a number of calls are answered, and whether with Retry-After; 0 when the connection was cut."""
    found = []
    for _ in range(count):
        try:
            answer = stand.call("GET", f"{CV}/inboxes")
            found.append((answer.status_code, "Retry-After" in answer.headers))
        except requests.ConnectionError:
            found.append((0, False))
    return found


def test_a_seed_replays_what_the_api_did(stand: Stand) -> None:
    switches = {"api_429": 0.2, "api_5xx": 0.2, "api_5xx_after": 0.1, "api_drop": 0.1, "api_423": 0.1, "seed": 11}
    stand.sim("POST", "chaos", switches)
    first = statuses(stand, 40)
    stand.sim("POST", "chaos", {"seed": 11})
    assert statuses(stand, 40) == first
    stand.sim("POST", "chaos", {"seed": 12})
    assert statuses(stand, 40) != first
    seen = {status for status, _ in first}
    assert {200, 429, 423, 0} <= seen
    assert seen & {500, 502, 503, 504}
    assert {told for status, told in first if status == 429} == {True, False}


def test_applied_then_dropped_happens_after_the_write(stand: Stand) -> None:
    stand.sim("POST", "chaos", {"api_drop_after": True})
    with pytest.raises(requests.ConnectionError):
        stand.publish("kept")
    assert [m["text"] for t in stand.sim("GET", "threads") for m in t["messages"]] == ["kept"]


def test_tokens_expire_under_a_caller(stand: Stand) -> None:
    token = stand.token_call().json()["access_token"]
    stand.sim("POST", "chaos", {"expire_tokens": True})
    answer = stand.call("GET", f"{CV}/inboxes", headers=bearer(token))
    assert (answer.status_code, answer.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    assert stand.call("GET", f"{CV}/inboxes").status_code == 200  # a static token has no end


def test_rate_limits_and_their_headers(stand: Stand) -> None:
    answer = stand.call("GET", f"{CV}/inboxes")
    told = {name[len("X-HubSpot-RateLimit-") :]: value for name, value in answer.headers.items() if "RateLimit" in name}
    assert told == {"Max": "110", "Remaining": "109", "Interval-Milliseconds": "10000"}
    stand.sim("POST", "reset")
    stand.sim("POST", "chaos", {"rate_limit": 3, "search_limit": 1})
    answers = [stand.call("GET", f"{CV}/inboxes") for _ in range(5)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429, 429]
    assert answers[2].headers["X-HubSpot-RateLimit-Remaining"] == "0"
    refused = answers[3].json()
    assert (refused["category"], refused["policyName"]) == ("RATE_LIMITS", "TEN_SECONDLY_ROLLING")
    found = [stand.call("POST", "/crm/v3/objects/contacts/search", json={}) for _ in range(20)]
    assert {one.status_code for one in found} == {200, 429}
    assert not [name for one in found for name in one.headers if "RateLimit" in name]
    stand.sim("POST", "reset")
    stand.sim("POST", "chaos", {"daily_limit": 1})
    assert stand.call("GET", f"{CV}/inboxes").headers["X-HubSpot-RateLimit-Daily-Remaining"] == "0"
    assert stand.call("GET", f"{CV}/inboxes").json()["policyName"] == "DAILY"


def test_a_fault_can_happen_by_chance_and_answer_html(stand: Stand) -> None:
    rule = {"match": "inboxes", "chance": 0.5, "status": 502, "body": "html"}
    stand.sim("POST", "chaos", {"faults": [rule]})
    assert {status for status, _ in statuses(stand, 30)} == {200, 502}
    stand.sim("POST", "chaos", {"faults": [{**rule, "chance": 1}]})
    assert stand.call("GET", f"{CV}/inboxes").headers["Content-Type"].startswith("text/html")


# --- the command line


def test_a_call_that_a_reset_overtakes_changes_nothing_in_the_new_world(stand: Stand) -> None:
    stand.chaos(latency=2, faults=[{"match": "messages", "times": 1, "mode": "delay", "seconds": 0}])
    ends: list[str] = []

    def publish() -> None:
        url = f"{stand.base}{CC}/{stand.channel}/messages"
        try:
            requests.post(url, json=stand.egg(), headers=bearer(stand.token), timeout=30)
        except requests.ConnectionError:
            ends.append("cut off")

    caller = threading.Thread(target=publish)
    caller.start()
    until(lambda: stand.chaos()["faults"][0]["times"] == 0)  # it is there, and held back
    stand.reset()
    caller.join()
    assert stand.sim("GET", "requests") == []
    assert stand.sim("GET", "threads") == []
    assert ends == ["cut off"]


def test_chaos_on_the_command_line_is_what_a_reset_goes_back_to() -> None:
    lines = [
        "--chaos",
        "reorder=0.25,unassign_value=null,retry_delays=[0.1,1],rate_limit=20",
        "--chaos",
        "api_5xx=true",
    ]
    with running(*lines) as (child, base):
        stand = Stand(child, base)
        stand.sim("POST", "chaos", {"reorder": 0, "page_size": 1})
        stand.sim("POST", "reset")
        values = stand.sim("GET", "chaos")
        stand.http.close()
    assert values["unassign_value"] == "null"
    assert (values["reorder"], values["retry_delays"], values["rate_limit"]) == (0.25, [0.1, 1], 20)
    assert (values["api_5xx"], values["page_size"]) == (1, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--chaos", "monkey=1"], "monkey"),
        (["--chaos", "reorder=2"], "from 0 to 1"),
        (["--chaos", "reorder"], "key=value"),
        (["--deliver", "here=there"], "FROM=TO"),
        (["--deliver", "http://a?x=http://b"], "FROM=TO"),
    ],
)
def test_a_mistake_on_the_command_line_is_said_in_words(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(options)
    assert raised.value.code == 2
    assert said in capsys.readouterr().err


def test_every_switch_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chaos", "help"]) == 0
    shown = capsys.readouterr().out
    for name, meaning in MEANINGS.items():
        assert f"{name}=" in shown
        assert meaning in shown


def test_chance_is_thrown_for_each_kind_apart() -> None:
    """Two runs in which threads get there in another order throw the same for each of them."""
    one, other = Chaos(), Chaos()
    first = {what: [one.throw("reorder", what) for _ in range(3)] for what in ("a", "b")}
    interleaved: dict[str, list[float]] = {"a": [], "b": []}
    for what in "babaab":
        interleaved[what].append(other.throw("reorder", what))
    assert interleaved == first
    assert one.throw("x", "GET /threads/123") != one.throw("x", "GET /threads/456")  # one kind, its n-th throw
