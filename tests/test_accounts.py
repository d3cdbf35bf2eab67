"""Channel accounts that come, change and go in HubSpot: what a webhook tells is a hint, what HubSpot answers counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.tasks import Done
from flask_hubspot_hitl.handoffs.accounts import AccountsTask
from flask_hubspot_hitl.handoffs.sweeps import SweepTask
from flask_hubspot_hitl.hubspot.setup.wanted import account_identifier
from flask_hubspot_hitl.ledger import AccountRecord
from flask_hubspot_hitl.portals.accounts import LOOK_AFTER_MS, look_at

from .conftest import MakeApp
from .helpers import ACCOUNT, APP, CHANNEL, PORTAL, HubSpot, Json, Recorder, signed_post, state_of
from .story import PHONE

INBOX, HELP_DESK = "700200300", "700200999"
OTHER = "525252"
FIRST, LATE = (one / 1000 for one in LOOK_AFTER_MS)
RecordSignals = Callable[[Flask], Recorder]


@pytest.fixture
def app(make_app: MakeApp, clock: ManualClock, hubspot: HubSpot) -> Flask:
    """An app whose work is done when a test says so; HubSpot's own deliveries go nowhere."""
    made = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s", channel_account_id=None)
    state_of(made).dispatcher.run_due()
    return made


def event(kind: str, account_id: str, **fields: Any) -> Json:
    """What the channel's feed tells of an account."""
    return {
        "type": f"CHANNEL_ACCOUNT_{kind}",
        "portalId": PORTAL,
        "channelId": CHANNEL,
        "eventTimestamp": "2026-10-01T09:30:00.000Z",
        "eventId": "5e3b7f0e-0000-4000-8000-000000000000",
        "channelAccountId": account_id,
        "channelAccountDeliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "x"},
        **fields,
    }


def hint(app: Flask, kind: str, account_id: str, **fields: Any) -> None:
    answer = signed_post(app, event(kind, account_id, **fields))
    assert answer.status_code == 204, answer.text


def settle(app: Flask, clock: ManualClock, seconds: float = FIRST) -> None:
    """Let a while pass."""
    clock.advance(seconds)
    state_of(app).dispatcher.run_due()


def api(hubspot: HubSpot, method: str, path: str, body: Json, *, portal: str = PORTAL) -> Json:
    """A call of somebody else's to HubSpot; its own deliveries go to nobody."""
    token = hubspot.control("GET", f"access-token?portalId={portal}")["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    answer = requests.request(method, f"{hubspot.url}{path}", json=body, headers=headers, timeout=30)
    assert answer.ok, answer.text
    found: Json = answer.json()
    return found


def make_account(hubspot: HubSpot, deployment_id: str, inbox: str = HELP_DESK, *, portal: str = PORTAL) -> str:
    """An account with a deployment's mark, made at HubSpot; its id."""
    body = {
        "inboxId": inbox,
        "name": "Acme",
        "authorized": True,
        "deliveryIdentifier": account_identifier(deployment_id, portal, inbox),
    }
    path = f"/conversations/v3/custom-channels/{CHANNEL}/channel-accounts"
    return str(api(hubspot, "POST", path, body, portal=portal)["id"])


def ours(app: Flask, hubspot: HubSpot, clock: ManualClock) -> str:
    """An account of ours in the help desk, known to the app."""
    account = make_account(hubspot, state_of(app).ledger.deployment_id)
    hint(app, "CREATED", account)
    settle(app, clock)
    assert [one.account_id for one in stored(app)] == [account]
    return account


def stored(app: Flask, portal_id: str = PORTAL) -> list[AccountRecord]:
    with state_of(app).ledger.read() as tx:
        return tx.channels.accounts(portal_id)


def looks(hubspot: HubSpot) -> list[str]:
    """The paths of HubSpot's accounts that were read."""
    return [one["path"] for one in hubspot.requests() if one["method"] == "GET" and "/channel-accounts" in one["path"]]


def start(app: Flask, conversation_id: str = "c1", inbox_id: str = HELP_DESK, **fields: Any) -> Any:
    with app.app_context():
        return HubSpotHITL().start(conversation_id, contact=PHONE, inbox_id=inbox_id, **fields)


def is_active(app: Flask, conversation_id: str = "c1") -> bool:
    with app.app_context():
        return HubSpotHITL().is_active(conversation_id)


def changes(seen: Recorder) -> list[tuple[str, str]]:
    return [(one["change"], one["account"]["account_id"]) for one in seen.of("channel_account_changed")]


# --- created and changed ---------------------------------------------------------------------------------


def test_what_bears_our_mark_is_stored_and_told_once(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    seen = record(app)
    mine = make_account(hubspot, state_of(app).ledger.deployment_id)
    other = make_account(hubspot, "another-deployment", INBOX)
    for account in (mine, mine, other):
        hint(app, "CREATED", account)
    settle(app, clock, 0)
    assert looks(hubspot) == [], "several hints become one look"
    settle(app, clock)
    assert len(looks(hubspot)) == 1
    assert changes(seen) == [("created", mine)]
    assert stored(app) == [
        AccountRecord(
            portal_id=PORTAL,
            account_id=mine,
            channel_id=CHANNEL,
            inbox_id=HELP_DESK,
            name="Acme",
            identifier=account_identifier(state_of(app).ledger.deployment_id, PORTAL, HELP_DESK),
        )
    ]
    settle(app, clock, LATE)
    assert len(looks(hubspot)) == 2, "once more, as HubSpot's lists may lag"
    settle(app, clock, 10 * LATE)
    assert len(looks(hubspot)) == 2
    assert changes(seen) == [("created", mine)]


def test_what_an_admin_changes_is_kept_true(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    account = ours(app, hubspot, clock)
    seen = record(app)
    for verb, usable in (("disable", False), ("enable", True), ("deactivate", False), ("activate", True)):
        hubspot.post(f"channel-accounts/{account}/{verb}")
        hint(app, "UPDATED", account)
        settle(app, clock)
        assert [one.authorized for one in stored(app)] == [usable]
        assert seen.of("channel_account_changed")[-1]["account"]["authorized"] is usable
    path = f"/conversations/v3/custom-channels/{CHANNEL}/channel-accounts/{account}"
    api(hubspot, "PATCH", path, {"name": "Acme, evenings"})
    hint(app, "UPDATED", account)
    settle(app, clock)
    assert [one.name for one in stored(app)] == ["Acme, evenings"]
    hint(app, "UPDATED", account)
    settle(app, clock)
    assert changes(seen) == [("updated", account)] * 5, "what has not changed is not told"


def test_an_account_that_was_taken_over_is_kept_true_without_our_mark(
    app: Flask, hubspot: HubSpot, clock: ManualClock
) -> None:
    record = AccountRecord(portal_id=PORTAL, account_id=ACCOUNT, channel_id=CHANNEL, inbox_id=INBOX)
    with state_of(app).ledger.write() as tx:
        tx.channels.save_account(record, now=1)
    hubspot.post(f"channel-accounts/{ACCOUNT}/disable")
    hint(app, "UPDATED", ACCOUNT)
    settle(app, clock)
    assert [(one.name, one.authorized) for one in stored(app)] == [("Acme Handoff", False)]


# --- removed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [0, 3600])
def test_a_removed_account_leaves_no_conversation_in_silence(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals, behind: float
) -> None:
    """Whatever HubSpot's clock says: ours may be an hour ``behind``."""
    clock.advance(-behind)
    account = ours(app, hubspot, clock)
    handoff = start(app)
    beside = start(app, "c2", INBOX)
    state_of(app).dispatcher.run_due()
    seen = record(app)
    hubspot.act(handoff.thread_id, "reply", text="One moment please")
    with app.app_context():
        hubspot.chaos(faults=[{"match": "POST .*/messages", "status": 503}])
        assert HubSpotHITL().send("c1", "Are you there?", message_id="m1")
        assert HubSpotHITL().send("c1", "Hello?", message_id="m2")
        state_of(app).dispatcher.run_due()
    hubspot.post(f"channel-accounts/{account}/purge")
    hint(app, "PURGED", account)
    settle(app, clock)
    assert stored(app) == []
    assert changes(seen) == [("removed", account)]
    assert not is_active(app)
    names = [name for name in seen.names() if name in ("operator_message", "message_failed", "conversation_completed")]
    assert names == ["operator_message", "message_failed", "conversation_completed"], "what the agent wrote comes first"
    [ended] = seen.of("conversation_completed")
    assert (ended["handoff"].id, ended["reason"]) == (handoff.id, "archived")
    assert ended["detail"] == "the channel was removed from the inbox in HubSpot"
    assert {one.text for one in ended["transcript"]} == {"One moment please", "Are you there?", "Hello?"}
    assert [one["message"].message_id for one in seen.of("message_failed")] == ["m2"]
    assert is_active(app, "c2"), "a handoff through another account goes on"
    with app.app_context():
        assert not HubSpotHITL().send("c1", "Hello bot"), "the bot has the conversation"
    hubspot.chaos(faults=[])
    for _ in range(3):
        hint(app, "PURGED", account)
        settle(app, clock, LATE)
    assert changes(seen) == [("removed", account)]
    assert len(seen.of("conversation_completed")) == 1
    assert [one["message"].message_id for one in seen.of("message_failed")] == ["m2", "m1"], "HubSpot may have had it"
    assert hubspot.thread(beside.thread_id)["status"] == "OPEN"


def test_the_account_of_the_settings_ends_its_conversations_too(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s")
    seen = record(app)
    start(app, inbox_id=INBOX)
    hubspot.post(f"channel-accounts/{ACCOUNT}/purge")
    for _ in range(2):
        hint(app, "PURGED", ACCOUNT)
        settle(app, clock)
    assert changes(seen) == [("removed", ACCOUNT)]
    assert [one["reason"] for one in seen.of("conversation_completed")] == ["archived"]


def test_a_handoff_that_is_starting_fails_with_a_reason(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    account = ours(app, hubspot, clock)
    seen = record(app)
    hubspot.chaos(faults=[{"match": "POST .*/messages", "status": 503, "times": 1}])
    assert start(app).state == "starting"
    hubspot.post(f"channel-accounts/{account}/purge")
    hint(app, "PURGED", account)
    settle(app, clock, 10)
    assert [one["handoff"].conversation_id for one in seen.of("handoff_failed")] == ["c1"]
    assert seen.of("handoff_failed")[0]["error"]
    assert not is_active(app)


def test_the_end_waits_for_hubspot_no_longer_than_any_other(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    account = ours(app, hubspot, clock)
    start(app)
    seen = record(app)
    hubspot.post(f"channel-accounts/{account}/purge")
    hubspot.chaos(faults=[{"match": "GET .*/threads/.*", "status": 503}])
    hint(app, "PURGED", account)
    for _ in range(7):
        settle(app, clock, 5)
    assert [one["reason"] for one in seen.of("conversation_completed")] == ["archived"]


def test_hubspot_may_show_a_removed_account_for_a_while(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    account = ours(app, hubspot, clock)
    settle(app, clock, LATE)
    start(app)
    seen = record(app)
    hint(app, "PURGED", account)  # the webhook comes before the account is gone everywhere
    settle(app, clock)
    assert is_active(app)
    hubspot.post(f"channel-accounts/{account}/purge")
    settle(app, clock, LATE)
    assert not is_active(app)
    assert changes(seen) == [("removed", account)]


def test_a_removal_that_no_webhook_told_is_found_within_the_hour(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    account = ours(app, hubspot, clock)
    start(app)
    seen = record(app)
    SweepTask(state_of(app).services).put_start()  # as a dispatcher does when it starts
    settle(app, clock, LATE)
    hubspot.post(f"channel-accounts/{account}/purge")
    settle(app, clock, 3_600)
    settle(app, clock)
    assert not is_active(app)
    assert changes(seen) == [("removed", account)]


# --- what is not to be believed --------------------------------------------------------------------------


def test_a_forged_purge_changes_nothing(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    """HubSpot's workflows sign whatever an admin of any portal types: the signature is right, the news is not."""
    account = ours(app, hubspot, clock)
    start(app)
    before, seen = stored(app), record(app)
    for kind in ("PURGED", "UPDATED", "CREATED"):
        hint(app, kind, account)
        hint(app, kind, "999999")
        hint(app, kind, account, portalId=OTHER)
    settle(app, clock, LATE)
    assert stored(app) == before
    assert stored(app, OTHER) == []
    assert is_active(app)
    assert changes(seen) == []


def test_what_is_not_ours_is_noise(app: Flask, hubspot: HubSpot, clock: ManualClock) -> None:
    counts = state_of(app).intake.counts
    hint(app, "CREATED", "1", portalId=OTHER)
    hint(app, "CREATED", "1", channelId="999")
    hint(app, "CREATED", "1", channelId=None)
    settle(app, clock, LATE)
    assert counts["noise"] == 3
    assert looks(hubspot) == []
    with state_of(app).ledger.read() as tx:
        assert not [one for one in tx.waiting_events() if one["topic"] == "accounts"]


def test_a_portal_without_its_own_token_is_not_looked_at(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock
) -> None:
    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s", refresh_token=None, portal_id=None)
    hint(app, "CREATED", ACCOUNT)
    settle(app, clock, LATE)
    assert hubspot.requests() == []


def test_a_flood_of_hints_is_two_looks(app: Flask, hubspot: HubSpot, clock: ManualClock) -> None:
    client = app.test_client()
    for number in range(300):
        assert signed_post(client, event("CREATED", str(900_000 + number))).status_code == 204
    settle(app, clock, LATE)
    assert len(looks(hubspot)) == 2
    assert all(path.endswith("/channel-accounts") for path in looks(hubspot)), "nobody asks for an id that was typed"
    assert state_of(app).intake.counts["account hints"] == 300


def test_with_another_portals_token_nothing_is_taken_for_gone(
    app: Flask, make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A setting that was mixed up must not end every conversation."""
    ours(app, hubspot, clock)
    start(app)
    env = hubspot.control("POST", "apps", {"appId": APP, "portalId": OTHER})
    wrong = {"refresh_token": env["HUBSPOT_HITL_REFRESH_TOKEN"], "channel_account_id": None, "public_url": None}
    wrong["public_url"] = app.config["HUBSPOT_HITL_PUBLIC_URL"]
    mixed_up = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s", **wrong)
    before = stored(app)
    hint(mixed_up, "PURGED", before[0].account_id)
    settle(mixed_up, clock, LATE)
    assert "belongs to another portal" in caplog.text
    assert stored(app) == before
    assert is_active(app)


# --- durable ---------------------------------------------------------------------------------------------


def test_a_hint_outlives_an_outage_and_the_process(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, database_url: str, record: RecordSignals
) -> None:
    config: Json = {"public_url": "http://127.0.0.1:9", "dispatcher": "inline", "SECRET_KEY": "s"}
    config["channel_account_id"] = None
    app = make_app(clock=clock, **config)
    account = make_account(hubspot, state_of(app).ledger.deployment_id)
    hint(app, "CREATED", account)
    hubspot.chaos(faults=[{"match": "GET .*/channel-accounts", "status": 503}])
    settle(app, clock)
    hint(app, "UPDATED", account)
    assert looks(hubspot)
    assert stored(app) == []
    state_of(app).close(timeout=20)
    hubspot.chaos(faults=[])
    later = make_app(clock=clock, **config)
    seen = record(later)
    settle(later, clock, 300)
    assert [one.account_id for one in stored(later)] == [account]
    assert changes(seen) == [("created", account)]


def test_a_refusal_is_given_up_in_the_end_and_seen(
    app: Flask, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    hubspot.chaos(faults=[{"match": "GET .*/channel-accounts", "status": 403}])
    seen = record(app)
    hint(app, "CREATED", "1")
    for _ in range(15):
        settle(app, clock, 601)
    assert {one["event"]["topic"] for one in seen.of("event_dead")} == {"accounts"}


def test_a_portal_that_comes_back_is_looked_at(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: RecordSignals
) -> None:
    from .test_portals import NO_TOKEN, put_tokens

    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY="s", **NO_TOKEN)
    account = make_account(hubspot, state_of(app).ledger.deployment_id)
    put_tokens(app, PORTAL, access_token=hubspot.control("GET", "access-token")["access_token"])
    settle(app, clock, 3)
    settle(app, clock)
    assert [one.account_id for one in stored(app)] == [account]


def test_of_two_who_look_at_once_nobody_overwrites_the_other(app: Flask, hubspot: HubSpot, clock: ManualClock) -> None:
    account = ours(app, hubspot, clock)
    settle(app, clock, LATE)
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        look_at(tx, PORTAL, now=ledger.now_ms())
    clock.advance(FIRST)
    lease = state_of(app).dispatcher.runner.claim()
    assert lease is not None
    assert lease.head is not None
    outcome = AccountsTask(state_of(app).services).run(lease.head, lease)  # has read that it is authorised
    assert isinstance(outcome, Done)
    hubspot.post(f"channel-accounts/{account}/disable")
    with ledger.write() as tx:
        [record] = tx.channels.accounts(PORTAL)
        tx.channels.save_account(
            AccountRecord(
                portal_id=PORTAL, account_id=account, channel_id=CHANNEL, inbox_id=record.inbox_id, authorized=False
            ),
            now=1,
        )
    state_of(app).dispatcher.runner.settle(lease, outcome, go_on=False)
    assert [one.authorized for one in stored(app)] == [False]
    settle(app, clock)
    assert [(one.name, one.authorized) for one in stored(app)] == [("Acme", False)], "it is looked at once more"
