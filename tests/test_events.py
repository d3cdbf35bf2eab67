"""Bodies of both feeds → events (rules B3, B5; D12, D40, D49).

Source: docs/hubspot.rst (Channel webhooks; App webhooks).
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from flask_hubspot_hitl.hubspot.content import parse_message
from flask_hubspot_hitl.hubspot.events import (
    AHEAD_MS,
    MAX_DEPTH,
    MAX_ITEMS,
    Inbound,
    Kind,
    Poison,
    TooManyItems,
    Unreadable,
    parse_body,
)
from flask_hubspot_hitl.hubspot.fields import actor
from flask_hubspot_hitl.testing.strategies import webhook_payloads

from .helpers import app_event, assigned_event, channel_event, new_message_event, status_event

NOW = 1_790_000_000_000


def parse(payload: Any) -> list[Inbound | Poison]:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return parse_body(raw, now_ms=NOW)


def one(payload: Any) -> Inbound:
    found = parse(payload if isinstance(payload, bytes) or "type" in payload else [payload])
    assert len(found) == 1
    assert isinstance(found[0], Inbound), found[0]
    return found[0]


def poison(payload: Any) -> Poison:
    found = parse(payload)
    assert len(found) == 1
    assert isinstance(found[0], Poison), found[0]
    return found[0]


# --- the app's feed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "kind", "value"),
    [
        (assigned_event("A-987", at=NOW), Kind.ASSIGNED, "A-987"),
        (assigned_event("987", at=NOW), Kind.ASSIGNED, "A-987"),
        (assigned_event(987, at=NOW), Kind.ASSIGNED, "A-987"),
        (assigned_event("B-12", at=NOW), Kind.ASSIGNED, "B-12"),
        (assigned_event("", at=NOW), Kind.ASSIGNED, None),
        (assigned_event(None, at=NOW), Kind.ASSIGNED, None),
        (assigned_event("null", at=NOW), Kind.ASSIGNED, None),
        (app_event(at=NOW, propertyName="assignedTo"), Kind.ASSIGNED, None),
        (status_event("CLOSED", at=NOW), Kind.STATUS, "CLOSED"),
        (status_event("OPEN", at=NOW), Kind.STATUS, "OPEN"),
        (app_event(at=NOW, propertyName="isArchived", propertyValue="false"), Kind.RESTORED, "false"),
        (app_event(at=NOW, propertyName="isArchived", propertyValue="False"), Kind.RESTORED, "False"),
        (app_event(at=NOW, propertyName="isArchived", propertyValue=False), Kind.RESTORED, "false"),
        (app_event("deletion", at=NOW), Kind.DELETED, None),
        (app_event("privacyDeletion", at=NOW), Kind.PRIVACY_DELETED, None),
        (new_message_event("m-1", at=NOW), Kind.NEW_MESSAGE, "m-1"),
    ],
)
def test_each_type_of_the_apps_feed(event: dict[str, Any], kind: Kind, value: str | None) -> None:
    found = one(event)
    assert (found.kind, found.value) == (kind, value)
    assert (found.portal_id, found.thread_id, found.app_id) == ("424242", "6300112233", "3131")
    assert found.occurred_ms == NOW


def test_b5_both_spellings_and_both_names_of_the_type_are_accepted() -> None:
    plain = one(status_event("CLOSED", at=NOW))
    plural = one(status_event("CLOSED", at=NOW, subscriptionType="conversations.propertyChange"))
    other = status_event("CLOSED", at=NOW)
    other["eventType"] = other.pop("subscriptionType")
    assert plain.kind == plural.kind == one(other).kind == Kind.STATUS


@pytest.mark.parametrize(
    "event",
    [
        app_event("creation", at=NOW),
        app_event("brandNew", at=NOW, surprise={"x": 1}),
        app_event(at=NOW, propertyName="colour", propertyValue="red"),
        app_event(at=NOW, propertyName="colour", propertyValue=["red", {"a": 1}]),
        app_event(at=NOW, propertyName="isArchived", propertyValue="true"),
        new_message_event("m-1", at=NOW, messageType="COMMENT"),
        new_message_event("", at=NOW),
        {"subscriptionType": "contact.creation"},
        {"subscriptionType": "conversation.propertyChange.more", "objectId": "x"},
        {},
    ],
)
def test_what_is_not_for_us_is_not_fatal_and_not_poison(event: dict[str, Any]) -> None:
    assert one(event if event else b"[{}]").kind is Kind.OTHER


def test_d49_unknown_fields_are_kept() -> None:
    found = one(status_event("CLOSED", at=NOW, isSensitive=False, brandNew={"a": [1, 2.5, None]}))
    assert found.payload["brandNew"] == {"a": [1, 2.5, None]}


def test_d12_a_mixed_batch_is_read_item_by_item() -> None:
    kinds = [
        item.kind if isinstance(item, Inbound) else "poison"
        for item in parse(
            [
                {"subscriptionType": "contact.creation", "portalId": 1},
                status_event("CLOSED", at=NOW),
                "garbage",
                assigned_event("A-1", at=NOW, portalId=77),
                new_message_event("m", at=NOW),
            ]
        )
    ]
    assert kinds == [Kind.OTHER, Kind.STATUS, "poison", Kind.ASSIGNED, Kind.NEW_MESSAGE]


def test_b5_the_key_ignores_the_attempt_number_and_the_order_of_fields() -> None:
    event = status_event("CLOSED", at=NOW)
    again = dict(reversed({**event, "attemptNumber": 7}.items()))
    assert one(event).dedupe_key == one(again).dedupe_key


@pytest.mark.parametrize(
    "change",
    [
        {"eventId": 1},
        {"occurredAt": NOW - 1},
        {"propertyValue": "OPEN"},
        {"portalId": 5},
        {"objectId": 5},
        {"subscriptionId": 5},
        {"propertyName": "assignedTo", "propertyValue": "5"},
    ],
)
def test_b5_the_key_tells_events_apart_that_differ(change: dict[str, Any]) -> None:
    assert one(status_event("CLOSED", at=NOW)).dedupe_key != one(status_event("CLOSED", at=NOW) | change).dedupe_key


def test_b5_one_message_has_one_new_message_key_whatever_else_differs() -> None:
    first, second = new_message_event("m-1", at=NOW), new_message_event("m-1", at=NOW + 9, eventId=5, subscriptionId=2)
    assert one(first).dedupe_key == one(second).dedupe_key
    assert one(first).dedupe_key != one(new_message_event("m-2", at=NOW)).dedupe_key


def test_b5_a_time_ahead_counts_as_the_time_received() -> None:
    assert one(status_event("CLOSED", at=NOW + AHEAD_MS)).occurred_ms == NOW + AHEAD_MS
    assert one(status_event("CLOSED", at=NOW + AHEAD_MS + 1)).occurred_ms == NOW
    far = channel_event(created="2099-01-01T00:00:00Z")
    assert one(far).occurred_ms == NOW


# --- the channel's feed ----------------------------------------------------------------------------------


def test_an_agents_message() -> None:
    found = one(channel_event("m-1", created="2026-09-21T15:33:19.900Z"))
    assert (found.kind, found.value) == (Kind.MESSAGE, "m-1")
    assert (found.portal_id, found.thread_id) == ("424242", "6300112233")
    assert (found.channel_id, found.account_id) == ("100458", "880011")
    assert found.occurred_ms == 1_790_004_799_900 or found.occurred_ms == NOW


def test_ids_may_be_numbers_and_the_channel_may_stand_in_the_message_only() -> None:
    event = channel_event(channelId=100458, channelAccountId=880011)
    del event["channelId"]
    event["portalId"] = 424242
    found = one(event)
    assert (found.portal_id, found.channel_id, found.account_id) == ("424242", "100458", "880011")


def test_the_event_time_stands_in_for_a_missing_message_time() -> None:
    event = channel_event(created="2026-09-01T00:00:00Z")
    del event["message"]["createdAt"]
    assert one(event).occurred_ms == one(channel_event(created="2026-09-01T00:00:00Z")).occurred_ms


@pytest.mark.parametrize("kind", ["CREATED", "UPDATED", "PURGED"])
def test_account_events(kind: str) -> None:
    event = {"type": f"CHANNEL_ACCOUNT_{kind}", "portalId": "1", "channelId": "2", "channelAccountId": "3"}
    found = one(event)
    assert (found.kind, found.value, found.account_id) == (Kind.ACCOUNT, f"CHANNEL_ACCOUNT_{kind}", "3")


@pytest.mark.parametrize("payload", [{"type": "SOMETHING_NEW"}, {"type": ""}, {"no": "type", "type": None}])
def test_unknown_types_of_the_channels_feed_are_not_fatal(payload: dict[str, Any]) -> None:
    assert one(payload).kind is Kind.OTHER


# --- almost the same type ---------------------------------------------------------------------------------

NUMBERS = ("portalId", "objectId", "appId", "occurredAt", "subscriptionId", "eventId", "attemptNumber")
ALIKE = [str, float, lambda number: f" {number} "]


@pytest.mark.parametrize("change", ALIKE)
@pytest.mark.parametrize("field", NUMBERS)
def test_a_number_may_be_text_or_a_fraction_in_every_field(field: str, change: Any) -> None:
    plain = {"eventId": 7, "attemptNumber": 1, **assigned_event("A-987", at=NOW)}
    assert replace(one(plain | {field: change(plain[field])}), payload={}, dedupe_key="") == replace(
        one(plain), payload={}, dedupe_key=""
    )


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (new_message_event("77", at=NOW), {"messageId": 77}),
        (status_event("CLOSED", at=NOW), {"propertyValue": "closed"}),
        (status_event("CLOSED", at=NOW), {"propertyValue": " CLOSED "}),
        (status_event("CLOSED", at=NOW), {"occurredAt": "2026-09-21T14:13:20Z"}),
        (assigned_event("987", at=NOW), {"propertyValue": 987.0}),
        (app_event(at=NOW, propertyName="isArchived", propertyValue="false"), {"propertyValue": False}),
    ],
)
def test_a_value_may_be_of_another_type(event: dict[str, Any], change: dict[str, Any]) -> None:
    found, plain = one(event | change), one(event)
    assert (found.kind, found.value, found.occurred_ms) == (plain.kind, plain.value, plain.occurred_ms)


def test_every_id_of_a_channel_event_may_be_a_number_or_text() -> None:
    plain = channel_event("77", created="2026-09-01T00:00:00Z")
    odd = channel_event(
        "77",
        id=77,
        channelId=100458,
        channelAccountId=" 880011 ",
        conversationsThreadId=6300112233.0,
        createdAt="1788220800000",
        attachments={},
        senders={"actorId": 987},
    )
    odd |= {"portalId": 424242, "channelId": 100458, "channelIntegrationThreadIds": "x"}
    odd["type"] = f" {plain['type'].lower()} "
    assert replace(one(odd), payload={}, dedupe_key="") == replace(one(plain), payload={}, dedupe_key="")
    assert one(odd).payload["message"]["id"] == "77"
    assert one(odd).payload["channelIntegrationThreadIds"] == ["x"]
    message = parse_message(one(odd).payload["message"])
    assert (message.message_id, message.sender_actor_id) == ("77", "A-987")


@pytest.mark.parametrize("threads", [[None], {}, [["x"]], True])
def test_integration_threads_that_cannot_be_read_count_as_missing(threads: Any) -> None:
    """HubSpot is asked for the message then: docs/rules.rst B2."""
    event = channel_event() | {"channelIntegrationThreadIds": threads}
    assert one(event).payload["channelIntegrationThreadIds"] is None


# --- what can't be read ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"nope",
        b'"text"',
        b"1",
        b"null",
        b"true",
        b"NaN",
        b"[",
        b"{}{}",
        b"\xff\xfe[\x00]\x00",
        b"\x00",
        b'[{"a":1},]',
        b"[" * 100_000,
        b'{"a":' * 5_000,
        "[]".encode("utf-16"),
        b"\xc3\x28",
        b"-Infinity",
        b"1" * 5_000,
    ],
)
def test_b3_a_body_that_cannot_be_read(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        parse(raw)


def test_b3_a_byte_order_mark_is_let_pass() -> None:
    assert parse(b"\xef\xbb\xbf[]") == []


def test_b3_a_thousand_items_are_the_most() -> None:
    assert len(parse([{}] * MAX_ITEMS)) == MAX_ITEMS
    with pytest.raises(TooManyItems):
        parse([{}] * (MAX_ITEMS + 1))


WRONG: list[Any] = [None, True, [], {}, "x", "", "-1", -1, 1.5, 10**19, "9" * 20, "٤٢", "1\x00"]


@pytest.mark.parametrize("field", ["portalId", "objectId"])
@pytest.mark.parametrize("value", WRONG)
def test_d40_a_wrong_id_is_poison(field: str, value: Any) -> None:
    assert field in poison([status_event("CLOSED", at=NOW) | {field: value}]).reason or value == 10**19


@pytest.mark.parametrize("value", [None, True, [], {}, "", "soon", "-1", -1, 2**63, float("nan")])
def test_d40_a_wrong_time_is_poison(value: Any) -> None:
    poison([status_event("CLOSED", at=NOW) | {"occurredAt": value}])


@pytest.mark.parametrize(
    "change",
    [
        {"message": None},
        {"message": []},
        {"message": "text"},
        {"portalId": None},
        {"portalId": "x"},
        {"type": [5]},
        {"channelId": []},
    ],
)
def test_d40_a_wrong_field_of_a_channel_event_is_poison(change: dict[str, Any]) -> None:
    poison(channel_event() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"id": "x" * 501},
        {"id": True},
        {"id": [5]},
        {"conversationsThreadId": None},
        {"channelAccountId": "x"},
        {"conversationsThreadId": "../1"},
    ],
)
def test_d40_a_wrong_field_of_a_message_is_poison(change: dict[str, Any]) -> None:
    poison(channel_event(**change))


@pytest.mark.parametrize("created", [None, "", "soon", "0000-00-00", -1, 2**63 - 1, [], "0001-01-01T00:00:00+14:00"])
def test_d40_a_message_without_any_time_is_poison(created: Any) -> None:
    event = channel_event(createdAt=created)
    event["eventTimestamp"] = created
    assert "createdAt" in poison(event).reason


def test_b3_nul_and_lone_surrogates_are_scrubbed_everywhere() -> None:
    event = status_event("CLO\x00SED", at=NOW)
    event["\ud800key\x00"] = ["\udfff", {"a\x00": "b\ud912"}]
    found = one(event)
    text = json.dumps(found.payload, ensure_ascii=False)
    text.encode()
    assert "\x00" not in text
    assert found.value == "CLO�SED"


@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"9223372036854775808", b"9" * 4_000])
def test_b3_a_number_that_is_none_is_poison_and_what_is_kept_is_strict_json(raw: bytes) -> None:
    body = b'[{"subscriptionType": "conversation.deletion", "extra": [' + raw + b"]}]"
    found = poison(body)
    json.dumps(found.payload, allow_nan=False).encode("ascii")


@pytest.mark.parametrize(
    ("number", "is_kept"), [(2**63 - 1, True), (-(2**63 - 1), True), (2**63, False), (10**18, True)]
)
def test_b3_a_number_is_kept_as_long_as_a_database_can_hold_it(number: int, is_kept: bool) -> None:
    body = json.dumps([{"subscriptionType": "conversation.deletion", "extra": number, "occurredAt": NOW,
                        "portalId": 1, "objectId": 2}])  # fmt: skip
    [found] = parse(body.encode())
    assert isinstance(found, Inbound if is_kept else Poison)
    assert found.payload["extra"] == (number if is_kept else None)


@given(webhook_payloads(now_ms=NOW))
def test_b3_escapes_in_a_body_change_nothing(payload: Any) -> None:
    """A body without any is read without looking at each of its texts."""
    plain, escaped = (json.dumps(payload, ensure_ascii=escapes).encode() for escapes in (False, True))
    assert parse(plain) == parse(escaped)


def nested(depth: int) -> bytes:
    return b'[{"subscriptionType":"x","a":' + b"[" * depth + b"]" * depth + b"}]"


def test_b3_depth_is_bounded_and_no_depth_is_a_crash() -> None:
    assert one(nested(MAX_DEPTH - 1)).kind is Kind.OTHER
    for depth in [MAX_DEPTH + 1, 100, *range(200, 1_100, 7), 5_000]:
        try:
            found = parse(nested(depth))
        except Unreadable:
            continue
        assert isinstance(found[0], Poison)
        assert found[0].reason == "nested too deeply"


def test_b3_the_same_poison_again_has_the_same_key() -> None:
    assert poison([{"subscriptionType": [5]}]).dedupe_key == poison([{"subscriptionType": [5]}]).dedupe_key
    assert poison([{"subscriptionType": [5]}]).dedupe_key != poison([{"subscriptionType": [6]}]).dedupe_key


def test_d_no_reason_quotes_what_came() -> None:
    secret = "my-card-is-4111"
    for payload in (
        [secret],
        [{"subscriptionType": [secret]}],
        [assigned_event(f"{secret} x", at=NOW)],
        [status_event("x", at=NOW) | {"portalId": secret}],
        channel_event(id=[secret]),
    ):
        found = poison(payload)
        assert secret not in found.reason
        assert secret not in repr(found)
    assert secret not in repr(one(channel_event(text=secret)))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("987", "A-987"), (" A-987 ", "A-987"), ("L-5", "L-5"), ("", None), ("NULL", None), ("none", None), (None, None)],
)
def test_actor_ids(given: str | None, wanted: str | None) -> None:
    assert actor(given) == wanted


@pytest.mark.parametrize("given", ["a-1", "A-", "A- 1", "AB-1", "-1", "A-" + "x" * 255, "agent"])
def test_what_is_no_actor_id(given: str) -> None:
    with pytest.raises(ValueError, match="not an actor id"):
        actor(given)
