"""docs/rules.rst B, case by case: from HubSpot to a receiver. Each test is named after its rule or defect."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import CloseReason, DeliveryFailed, HandoffState, operator_message
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.runner import MAX_UNFINISHED_CALLS
from flask_hubspot_hitl.handoffs import parking
from flask_hubspot_hitl.hubspot.events import Kind
from flask_hubspot_hitl.ledger import EventState, NewEvent, Transaction, lanes

from .conftest import MakeApp
from .databases import slow_on_postgresql, waiting_for_locks
from .helpers import (
    PORTAL,
    HubSpot,
    Recorder,
    assigned_event,
    begin_handoff,
    signed_post,
    state_of,
    status_event,
    wait_until,
)
from .story import Story

Record = Callable[[Flask], Recorder]


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Story:
    app = make_app(clock=clock, dispatcher="inline", assignment_timeout=300)
    return Story(app, hubspot, clock, record(app))


# B2: who may act


def test_b2_another_portals_thread_and_account_ids_act_on_nothing(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    event = story.write(thread)
    story.assigned(thread, at=at, portalId=999)
    story.status(thread, "CLOSED", at=at, portalId=999)
    story.status(thread, "CLOSED", at=at, appId=999)
    story.post({**event, "portalId": "999"})
    story.post({**event, "channelId": "77"})
    story.post({**event, "message": {**event["message"], "channelAccountId": "77"}})
    story.post({**event, "channelIntegrationThreadIds": ["somebody-elses"]})
    assert story.names() == ["handoff_started"]
    story.post(event)
    assert story.names() == ["handoff_started", "operator_message"]


@pytest.mark.parametrize("threads", [[], None])
def test_b2_without_integration_threads_the_message_is_read_from_hubspot(story: Story, threads: Any) -> None:
    thread = story.start().thread_id
    event = story.write(thread, "the truth")
    story.post({**event, "channelIntegrationThreadIds": threads, "message": {**event["message"], "text": "believe me"}})
    invented = {**event["message"], "id": "invented"}
    story.post({**event, "channelIntegrationThreadIds": threads, "message": invented})
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["the truth"]


def test_b2_without_a_channel_account_the_message_is_read_from_hubspot(story: Story) -> None:
    thread = story.start().thread_id
    event = story.write(thread, "the truth")
    bare = {key: value for key, value in event["message"].items() if key != "channelAccountId"}
    story.post({**event, "message": {**bare, "text": "believe me"}})
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["the truth"]


def test_b1_v1_events_are_hints_only(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> None:
    app = make_app(clock=clock, dispatcher="inline", signature_versions="v3,v1")
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    story.post([status_event("CLOSED", at=story.now, thread=str(thread))], version="v1")
    assert story.is_active(), "the thread is open, whatever the event says"
    hubspot.act(thread, "assign", actorId="A-988")
    story.post([assigned_event("A-987", at=story.now, thread=str(thread))], version="v1")
    assert [one["operator"].actor_id for one in story.recorder.of("operator_assigned")] == ["A-988"]
    hubspot.act(thread, "close")
    story.post([status_event("CLOSED", at=story.now + 1, thread=str(thread))], version="v1")
    assert not story.is_active()


# B4: unknown threads


@slow_on_postgresql
def test_b4_noise_of_ten_thousand_events_stores_no_row(story: Story) -> None:
    story.start()
    with story.state.ledger.read() as tx:
        before = tx.status(now=story.now)
    for page in range(100):
        story.post([status_event("CLOSED", at=story.now, thread=str(9_000_000 + page * 100 + n)) for n in range(100)])
    with story.state.ledger.read() as tx:
        assert tx.status(now=story.now) == before
    assert story.state.intake.counts["noise"] == 10_000


def test_b4_a_message_to_our_account_in_an_unknown_thread_fails_and_is_dead(story: Story) -> None:
    thread = story.start().thread_id
    event = story.write(thread)
    lost = {**event, "message": {**event["message"], "conversationsThreadId": "77777777"}}
    story.post(lost)
    story.run()
    assert story.message_status(thread, event)["statusType"] == "FAILED"
    assert "not delivered" in story.message_status(thread, event)["failureDetails"]["errorMessage"]
    assert len(story.recorder.of("event_dead")) == 1
    assert story.recorder.of("operator_message") == []


def test_d03_an_assignment_before_start_commits_fires_exactly_once(story: Story) -> None:
    """An auto-assign rule fires while our publish is still under way."""
    seen: list[str] = []
    done = threading.Event()

    def early() -> None:
        # The publish is held by the stand-in; its thread exists already.
        while not (threads := story.hubspot.threads()):
            done.wait(0.01)
        seen.append(threads[-1]["id"])
        for _ in range(3):
            story.assigned(seen[0], at=story.now)
        done.set()

    story.hubspot.chaos(faults=[{"match": "POST .*/messages", "times": 1, "mode": "delay", "seconds": 0.6}])
    thread = threading.Thread(target=early)
    thread.start()
    handoff = story.start()
    thread.join(60)
    story.run(2)
    assert handoff.thread_id == seen[0]
    assert story.names() == ["handoff_started", "operator_assigned"]
    assert story.recorder.of("operator_assigned")[0]["operator"].name == "Noor Haddad"


def test_b4_parked_noise_is_gone_after_two_minutes(story: Story) -> None:
    story.hubspot.chaos(faults=[{"match": "POST .*/messages", "times": None, "mode": "status", "status": 503}])
    assert story.start().state is HandoffState.STARTING
    story.status("5551234", "CLOSED", at=story.now)
    with story.state.ledger.read() as tx:
        assert len(tx.parked("424242")) == 1
    for _ in range(13):
        story.run(10)
    with story.state.ledger.read() as tx:
        assert tx.parked("424242") == []


def test_b4_what_is_parked_while_the_last_ones_go_is_looked_after_as_well(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, database_url: str
) -> None:
    app = make_app(clock=clock, dispatcher="external", start_timeout=0.1)
    story = Story(app, hubspot, clock, Recorder(Flask("nobody")))
    hubspot.chaos(faults=[{"match": ".", "times": None, "mode": "status", "status": 503}])
    story.start()
    runner = story.state.dispatcher.runner
    story.status("1", "CLOSED", at=story.now)
    story.clock.advance(121)
    while (lease := runner.claim()) is not None and not lease.lane.startswith("park:"):
        runner.settle(lease, runner.perform(lease), go_on=False)
    assert lease is not None, "it has looked, and seen that all may go"
    story.status("2", "CLOSED", at=story.now)
    runner.settle(lease, runner.perform(lease), go_on=False)
    story.run(121)
    story.run(121)
    with story.state.ledger.read() as tx:
        assert tx.parked("424242") == []


def test_b4_what_is_moved_to_its_threads_and_a_webhook_do_not_wait_for_each_other(
    make_app: MakeApp, clock: ManualClock, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(make_app(clock=clock, dispatcher="external", database_url=postgresql_url))
    ledger, has_moved, now = state.ledger, threading.Event(), clock.now_ms()
    topics = {"1": Kind.MESSAGE, "2": Kind.NEW_MESSAGE}

    def new(key: str, thread: str, **fields: Any) -> NewEvent:
        return NewEvent(
            dedupe_key=key, topic=topics[thread], sort_at=now, portal_id=PORTAL, thread_id=thread, payload={}, **fields
        )

    with ledger.write() as tx:
        for thread in topics:
            handoff_id = begin_handoff(tx, f"c{thread}", now=now).handoff.id
            tx.records.bind_thread(portal_id=PORTAL, thread_id=thread, handoff_id=handoff_id)
        tx.queue.put([new(f"parked {one}", one, lane=None, state=EventState.PARKED) for one in topics], now=now)
        parking.watch_parked(tx, PORTAL, now=now)

    def move(tx: Transaction, *given: Any, original: Any = Transaction.unpark, **named: Any) -> None:
        original(tx, *given, **named)
        if not has_moved.is_set():
            has_moved.set()
            wait_until(lambda: waiting_for_locks(postgresql_url), what="the webhook to wait")

    def post() -> None:
        assert has_moved.wait(60)
        with ledger.write() as tx:
            come = [new("1", "1", lane=lanes.thread(PORTAL, "1")), new("2", "2", lane=lanes.new_messages(PORTAL, "2"))]
            assert tx.queue.put(come, now=now) == 2

    monkeypatch.setattr(Transaction, "unpark", move)
    clock.advance(2)
    with ThreadPoolExecutor(1) as pool:
        posting = pool.submit(post)
        lease = state.dispatcher.runner.claim()
        posting.result(60)
    assert lease is not None
    assert lease.lane == lanes.parked(PORTAL)
    with ledger.read() as tx:
        assert tx.parked(PORTAL) == []
        assert tx.count(EventState.PENDING) >= 4


def test_b2_another_deployments_message_is_noise_also_when_it_was_parked(story: Story) -> None:
    thread = story.start("known").thread_id
    event = story.write(thread)
    story.hubspot.chaos(faults=[{"match": "POST .*/messages", "times": None, "mode": "status", "status": 503}])
    assert story.start("starting").state is HandoffState.STARTING
    theirs = {**event["message"], "channelAccountId": "999", "conversationsThreadId": "77777777"}
    story.post({**event, "message": theirs})
    ours = {**event["message"], "conversationsThreadId": "88888888"}
    story.post({**event, "message": ours})
    story.new_message("88888888", "m1", at=story.now)
    with story.state.ledger.read() as tx:
        assert len(tx.parked("424242")) == 3
    for _ in range(13):
        story.run(10)
    assert [one["event"]["thread_id"] for one in story.recorder.of("event_dead")] == ["88888888"]
    with story.state.ledger.read() as tx:
        assert tx.parked("424242") == []


# B5: dedupe


def test_d04_one_agent_message_by_channel_event_new_message_and_a_re_read_is_one_signal(story: Story) -> None:
    thread = story.start().thread_id
    event = story.write(thread, "once")
    for _ in range(3):
        story.post(event)
    story.post({**event, "eventId": "another", "eventTimestamp": "2026-10-01T09:20:11.402Z"})
    story.new_message(thread, event["message"]["id"], at=story.now)
    story.run(31)
    story.status(thread, "CLOSED", at=story.now)
    assert len(story.recorder.of("operator_message")) == 1


def test_b5_a_new_message_without_its_channel_event_makes_us_read_the_thread(story: Story) -> None:
    thread = story.start().thread_id
    event = story.write(thread, "lost by the webhook")
    story.hubspot.act(thread, "comment", text="secret")
    story.new_message(thread, event["message"]["id"], at=story.now)
    story.run(20)
    assert story.recorder.of("operator_message") == []
    story.run(11)
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["lost by the webhook"]
    story.post(event)
    assert len(story.recorder.of("operator_message")) == 1


def test_b5_both_spellings_and_old_and_future_times(story: Story) -> None:
    thread = story.start().thread_id
    plural = assigned_event("A-987", at=story.now, thread=str(thread))
    plural["subscriptionType"] = "conversations.propertyChange"
    story.post([plural])
    assert story.names()[-1] == "operator_assigned"
    story.status(thread, "CLOSED", at=story.now - 8 * 86_400_000)
    assert story.is_active(), "older than the dedupe keys: acknowledged and ignored"
    story.assigned(thread, "A-988", at=story.now + 3_600_000)
    assert story.handoff() is not None
    story.clock.advance(1)
    story.assigned(thread, "A-987", at=story.now)
    handoff = story.handoff()
    assert handoff is not None
    assert handoff.operator is not None
    assert handoff.operator.actor_id == "A-987", "a time in the future counted as the time received"


# B6: order and watermarks


def test_b6_events_of_one_batch_are_handled_in_hubspots_order(story: Story) -> None:
    thread = str(story.start().thread_id)
    at = story.now
    story.post(
        [
            status_event("CLOSED", at=at + 30, thread=thread),
            assigned_event("A-988", at=at + 20, thread=thread),
            assigned_event("A-987", at=at + 10, thread=thread),
        ]
    )
    assert story.names() == ["handoff_started", "operator_assigned", "operator_assigned", "conversation_completed"]
    assigned = story.recorder.of("operator_assigned")
    assert [one["operator"].actor_id for one in assigned] == ["A-987", "A-988"]
    assert assigned[0]["previous"] is None
    assert assigned[1]["previous"].actor_id == "A-987"


def test_d10_a_late_closed_does_not_end_a_session_that_was_reopened(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    story.status(thread, "CLOSED", at=at + 10)
    story.status(thread, "OPEN", at=at + 30)
    assert story.is_active()
    story.status(thread, "CLOSED", at=at + 20)
    assert story.is_active()
    assert story.names() == ["handoff_started", "conversation_completed", "conversation_reopened"]


def test_d09_equal_values_emit_nothing_and_reassignment_emits_once(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    story.assigned(thread, "A-987", at=at)
    story.assigned(thread, "A-987", at=at + 5)
    story.assigned(thread, "987", at=at + 6)
    assert len(story.recorder.of("operator_assigned")) == 1
    story.assigned(thread, "A-988", at=at + 5)
    assert len(story.recorder.of("operator_assigned")) == 1, "older than the equal value that moved the mark"
    story.assigned(thread, "A-988", at=at + 6)
    assert len(story.recorder.of("operator_assigned")) == 2, "equal time, another value: in order of arrival"


@pytest.mark.parametrize("nobody", ["", None, "null"])
def test_d10_unassign_in_every_form(story: Story, nobody: str | None) -> None:
    thread = story.start().thread_id
    story.assigned(thread, at=story.now)
    story.assigned(thread, nobody, at=story.now + 1)
    handoff = story.handoff()
    assert handoff is not None
    assert (handoff.state, handoff.operator) == (HandoffState.WAITING, None)
    assert story.names()[-1] == "operator_unassigned"


def test_b6_an_unassign_whose_value_is_missing(story: Story) -> None:
    thread = story.start().thread_id
    story.assigned(thread, at=story.now)
    event = assigned_event(None, at=story.now + 1, thread=str(thread))
    del event["propertyValue"]
    story.post([event])
    assert story.names()[-1] == "operator_unassigned"


def test_b6_an_assignment_after_the_end_is_silent_and_told_when_reopened(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    story.status(thread, "CLOSED", at=at + 10)
    story.assigned(thread, "A-988", at=at + 20)
    assert story.names() == ["handoff_started", "conversation_completed"]
    story.status(thread, "OPEN", at=at + 30)
    handoff = story.recorder.of("conversation_reopened")[0]["handoff"]
    assert (handoff.state, handoff.operator.actor_id) == (HandoffState.ASSIGNED, "A-988")


# B8: look-ups never block


def test_d23_an_operator_that_cannot_be_looked_up_is_signalled_without_a_name(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[{"match": "GET .*/actors/", "times": None, "mode": "status", "status": 500}])
    story.assigned(thread, "A-988", at=story.now)
    operator = story.recorder.of("operator_assigned")[0]["operator"]
    assert (operator.actor_id, operator.name) == ("A-988", None)
    calls = sum("/actors/" in one["path"] for one in story.hubspot.requests())
    story.hubspot.chaos(faults=[])
    story.says(thread, actorId="A-988")
    assert story.recorder.of("operator_message")[-1]["message"].operator.name is None
    assert sum("/actors/" in one["path"] for one in story.hubspot.requests()) == calls, "not asked for five minutes"
    story.clock.advance(301)
    story.says(thread, "again", actorId="A-988")
    assert story.recorder.of("operator_message")[-1]["message"].operator.name == "Teo Lindqvist"


def test_b8_a_refused_receipt_is_counted_and_dropped(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[{"match": "PATCH .*/messages/", "times": None, "mode": "status", "status": 400}])
    story.says(thread)
    assert len(story.recorder.of("operator_message")) == 1
    assert story.state.services.receipts_refused == 1
    with story.state.ledger.read() as tx:
        assert tx.status(now=story.now)["pending"] == 0


# B9: closing


def test_b9_what_was_missed_is_emitted_before_the_end(story: Story) -> None:
    thread = story.start().thread_id
    story.write(thread, "never delivered 1")
    story.write(thread, "never delivered 2")
    story.hubspot.act(thread, "comment", text="secret")
    story.status(thread, "CLOSED", at=story.now + 60_000)  # the stand-in's own clock goes on
    assert story.names() == [
        "handoff_started", "operator_assigned", "operator_message", "operator_message", "conversation_completed",
    ]  # fmt: skip
    ended = story.recorder.of("conversation_completed")[0]
    assert ended["reason"] is CloseReason.AGENT
    assert [one.text for one in ended["transcript"]] == ["never delivered 1", "never delivered 2"]


def test_b9_a_missed_assignment_is_told_before_the_end(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    story.hubspot.act(thread, "assign", actorId="A-988", occurredAt=at + 1_000)
    story.write(thread, "bye", at=at + 2_000, actorId="A-988")
    story.hubspot.act(thread, "unassign", occurredAt=at + 4_000)
    story.hubspot.act(thread, "close", occurredAt=at + 5_000)
    story.hubspot.act(thread, "assign", actorId="A-987", occurredAt=at + 6_000)
    story.status(thread, "CLOSED", at=at + 5_000)
    assert story.names() == [
        "handoff_started", "operator_assigned", "operator_message", "operator_unassigned", "conversation_completed",
    ]  # fmt: skip
    assert story.recorder.of("operator_assigned")[0]["operator"].actor_id == "A-988"
    story.run()
    assert len(story.names()) == 5, "who came after the end is nobody's to signal"


def test_b9_a_close_waits_thirty_seconds_for_hubspot_to_be_readable(story: Story) -> None:
    thread = story.start().thread_id
    story.hubspot.chaos(faults=[{"match": "GET .*/threads/", "times": None, "mode": "status", "status": 503}])
    story.status(thread, "CLOSED", at=story.now)
    for _ in range(5):
        story.run(5)
        assert story.is_active()
    story.run(5)
    assert not story.is_active()


def test_b9_the_last_reply_arriving_after_closed_is_delivered_and_does_not_reopen(story: Story) -> None:
    thread = story.start().thread_id
    at = story.now
    event = story.write(thread, "bye", at=at)
    story.hubspot.chaos(
        faults=[{"match": "GET .*/threads/.*/messages", "times": None, "mode": "status", "status": 403}]
    )
    story.status(thread, "CLOSED", at=at + 1_000)
    story.post(event)
    assert story.names() == ["handoff_started", "conversation_completed", "operator_message"]
    assert not story.is_active()
    assert story.message_status(thread, event)["statusType"] == "SENT"


def test_d01_an_agent_writing_after_close_reopens(story: Story) -> None:
    thread = story.start().thread_id
    story.status(thread, "CLOSED", at=story.now - 1_000)
    assert not story.is_active()
    event = story.says(thread, "one more thing", at=story.now)
    assert story.names()[-2:] == ["conversation_reopened", "operator_message"]
    assert story.is_active()
    assert story.message_status(thread, event)["statusType"] == "SENT"


def test_b9_with_a_newer_handoff_the_message_fails_with_a_reason(story: Story) -> None:
    thread = story.start().thread_id
    story.status(thread, "CLOSED", at=story.now - 1_000)
    second = story.start()
    assert second.thread_id != thread
    event = story.says(thread, "one more thing", at=story.now)
    assert story.recorder.of("operator_message") == []
    status = story.message_status(thread, event)
    assert (status["statusType"], status["failureDetails"]["errorMessage"]) == (
        "FAILED",
        "This chat continued elsewhere.",
    )
    story.status(thread, "OPEN", at=story.now)
    found = story.handoff()
    assert found is not None
    assert found.id == second.id


def test_b9_after_the_reopen_window_the_message_fails(story: Story) -> None:
    thread = story.start().thread_id
    story.status(thread, "CLOSED", at=story.now)
    story.clock.advance(86_401)
    event = story.says(thread, "too late", at=story.now)
    assert not story.is_active()
    assert story.message_status(thread, event)["statusType"] == "FAILED"


def test_b9_archived_deleted_and_privacy_deleted_threads_complete(story: Story) -> None:
    thread = story.start().thread_id
    story.send("my secret")
    story.event("deletion", thread, at=story.now)
    assert story.recorder.of("conversation_completed")[0]["reason"] is CloseReason.ARCHIVED
    story.clock.advance(1)
    story.post([status_event("false", at=story.now, thread=str(thread)) | {"propertyName": "isArchived"}])
    assert story.names()[-1] == "conversation_reopened"
    story.clock.advance(1)
    story.event("privacyDeletion", thread, at=story.now)
    ended = story.recorder.of("conversation_completed")[1]
    assert ended["reason"] is CloseReason.DELETED
    assert ended["transcript"] == []
    assert ended["handoff"].contact is None
    assert story.transcript() == []


def test_b9_a_deletion_whose_privacy_deletion_is_lost_erases_the_text_a_day_later(story: Story) -> None:
    thread = story.start().thread_id
    story.send("my secret")
    story.hubspot.act(thread, "purge")
    story.event("deletion", thread, at=story.now)
    assert story.recorder.of("conversation_completed")[0]["reason"] is CloseReason.ARCHIVED
    story.run(86_000)
    assert [text for _, text, _ in story.transcript()] == ["my secret"]
    story.run(400)
    assert story.transcript() == []
    story.event("privacyDeletion", thread, at=story.now)
    assert story.names() == ["handoff_started", "conversation_completed", "person_erased"]


def test_b9_a_deletion_whose_thread_hubspot_finds_a_day_later_erases_nothing(story: Story) -> None:
    """What was archived a moment ago may not be found yet, neither here nor there."""
    thread = story.start().thread_id
    story.send("my secret")
    story.hubspot.act(thread, "archive")
    story.hubspot.chaos(faults=[{"match": f"GET .*/threads/{thread}$", "mode": "status", "status": 404}])
    story.event("deletion", thread, at=story.now)
    assert story.recorder.of("conversation_completed")[0]["reason"] is CloseReason.ARCHIVED
    story.hubspot.chaos(faults=[])
    story.run(90_000)
    assert [text for _, text, _ in story.transcript()] == ["my secret"]


def test_d08_the_assignment_timer_fires_once_in_both_sessions(story: Story) -> None:
    for count in (1, 2):
        thread = story.start().thread_id
        story.run(299)
        assert len(story.recorder.of("assignment_timed_out")) == count - 1
        story.run(2)
        story.run(600)
        assert len(story.recorder.of("assignment_timed_out")) == count
        story.assigned(thread, at=story.now)
        story.status(thread, "CLOSED", at=story.now)
    thread = story.start().thread_id
    story.assigned(thread, at=story.now)
    story.run(400)
    assert len(story.recorder.of("assignment_timed_out")) == 2, "an agent was there"


# B7: receivers


def test_d46_a_receiver_that_raises_neither_stops_nor_repeats_its_neighbours(story: Story) -> None:
    heard: list[tuple[str, str]] = []
    broken = True

    def first(sender: Flask, message: Any, **extra: Any) -> None:
        if broken:
            raise RuntimeError(message.text)
        heard.append(("first", message.text))

    def second(sender: Flask, message: Any, **extra: Any) -> None:
        heard.append(("second", message.text))

    with operator_message.connected_to(first, story.app), operator_message.connected_to(second, story.app):
        thread = story.start().thread_id
        one, two = story.says(thread, "one"), story.says(thread, "two")
        assert heard == [("second", "one")], "the thread's lane waits"
        assert story.message_status(thread, one)["statusType"] == "SENT"  # as HubSpot has it; no receipt of ours yet
        broken = False
        story.run(60)
        assert heard == [("second", "one"), ("first", "one"), ("first", "two"), ("second", "two")]
        del two


def test_b7_a_refusal_is_shown_to_the_agent_word_for_word(story: Story) -> None:
    def refuse(sender: Flask, **extra: Any) -> None:
        raise DeliveryFailed("The user has blocked us")

    with operator_message.connected_to(refuse, story.app):
        thread = story.start().thread_id
        event = story.says(thread)
        status = story.message_status(thread, event)
    assert (status["statusType"], status["failureDetails"]["errorMessage"]) == ("FAILED", "The user has blocked us")
    assert story.transcript()[-1][2] == "failed"


def test_d02_a_receiver_that_never_heals_is_dead_and_the_lane_goes_on(story: Story) -> None:
    gaps: list[bool] = []

    def broken(sender: Flask, message: Any, **extra: Any) -> None:
        if message.text == "poison":
            raise ValueError("secret text")
        gaps.append(extra.get("after_gap", False))

    with operator_message.connected_to(broken, story.app):
        thread = story.start().thread_id
        story.hubspot.act(thread, "assign")
        story.assigned(thread, at=story.now)  # or the assignment timer would read the thread meanwhile
        poison = story.says(thread, "poison")
        story.says(thread, "next")
        for _ in range(12):
            story.run(601)
        status = story.message_status(thread, poison)
        assert status["statusType"] == "FAILED"
        assert "secret" not in status["failureDetails"]["errorMessage"], "never str(exc)"
        told = [one["path"] for one in story.hubspot.requests() if one["path"].endswith(str(poison["message"]["id"]))]
        assert len(told) == 1, "FAILED is told once"
        assert ("operator", "poison", "failed") in story.transcript()
        assert gaps == [True], "the next event carries after_gap"
        assert len(story.recorder.of("event_dead")) == 1
        with story.state.ledger.read() as tx:
            dead = tx.dead_events()[0]
        assert dead["error"].endswith("ValueError")
        # healed, and replayed from the command line: only the receiver that failed is asked again
        story.says(thread, "third")
        assert gaps == [True, False]


@pytest.mark.parametrize(("kills", "arrives"), [(20, True), (MAX_UNFINISHED_CALLS + 1, False)])
def test_b7_who_waits_for_hubspot_when_the_process_is_killed_is_not_soon_blamed(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, kills: int, arrives: bool
) -> None:
    app = make_app(clock=clock, dispatcher="external")
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    story.run()
    event = story.says(thread)
    story.send("hello")
    for _ in range(kills):
        begun = {lease.lane.partition(":")[0] for lease in iter(story.state.dispatcher.runner.claim, None)}
        assert begun >= {"in", "out"}
        clock.advance(story.state.settings.lease_ttl + 1)  # killed meanwhile, and its leases run out
    story.run()
    assert ("operator_message" in story.names(), "message_failed" in story.names()) == (arrives, not arrives)
    assert story.message_status(thread, event)["statusType"] == ("SENT" if arrives else "FAILED")


def test_b7_a_dead_event_is_listed_shown_and_retried_from_the_command_line(story: Story) -> None:
    broken = True
    heard: list[str] = []

    def sometimes(sender: Flask, message: Any, **extra: Any) -> None:
        if broken:
            raise ValueError
        heard.append(message.text)

    with operator_message.connected_to(sometimes, story.app):
        thread = story.start().thread_id
        event = story.says(thread, "hello")
        for _ in range(12):
            story.run(601)
        runner = story.app.test_cli_runner()
        listed = runner.invoke(args=["hubspot-hitl", "dead", "list", "--json"])
        assert '"state": "dead"' in listed.output
        with story.state.ledger.read() as tx:
            event_id = tx.dead_events()[0]["id"]
        assert "ValueError" in runner.invoke(args=["hubspot-hitl", "dead", "show", str(event_id)]).output
        assert runner.invoke(args=["hubspot-hitl", "dead", "show", "999999"]).exit_code == 1
        broken = False
        assert runner.invoke(args=["hubspot-hitl", "dead", "retry", str(event_id)]).exit_code == 0
        assert heard == ["hello"]
        assert len(story.recorder.of("operator_message")) == 1, "who accepted is not asked again"
        assert story.message_status(thread, event)["statusType"] == "SENT"


def test_b7_without_a_receiver_a_message_waits_five_minutes_and_fails(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock
) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    story = Story(app, hubspot, clock, Recorder(app))
    story.recorder.close()
    thread = story.start().thread_id
    event = story.says(thread)
    story.run(10)
    for _ in range(4):
        story.run(70)
    assert "failureDetails" not in story.message_status(thread, event)
    story.run(70)
    assert story.message_status(thread, event)["statusType"] == "FAILED"


def test_b7_two_receivers_of_one_name_are_told_apart(story: Story) -> None:
    heard: list[int] = []

    def make(number: int) -> Callable[..., None]:
        def receiver(sender: Flask, **extra: Any) -> None:
            heard.append(number)
            if heard.count(number) == 1 and number == 1:
                raise RuntimeError

        return receiver

    receivers = [make(1), make(2)]
    for receiver in receivers:
        operator_message.connect(receiver, story.app)
    story.says(story.start().thread_id)
    story.run(60)
    assert heard == [1, 2, 1]


def test_b7_an_async_receiver_works(story: Story) -> None:
    heard: list[str] = []

    async def receiver(sender: Flask, message: Any, **extra: Any) -> None:
        heard.append(message.text)

    with operator_message.connected_to(receiver, story.app):
        story.says(story.start().thread_id, "async")
    assert heard == ["async"]


class HostsTimeout(BaseException):
    """As gevent's: not an Exception, and it leaks out of a receiver all the same."""


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, HostsTimeout])
def test_b7_whatever_a_receiver_raises_is_a_failure_of_its_own(story: Story, error: type[BaseException]) -> None:
    heard: list[str] = []

    async def receiver(sender: Flask, message: Any, **extra: Any) -> None:
        heard.append(message.text)
        if len(heard) == 1:
            raise error

    with operator_message.connected_to(receiver, story.app):
        story.says(story.start().thread_id)
        assert heard == ["Hi Rosa"]
        story.run(60)
    assert heard == ["Hi Rosa", "Hi Rosa"]
    assert len(story.recorder.of("operator_message")) == 1, "the other receiver is not asked again"


def hung_lanes(app: Flask) -> list[Any]:
    with state_of(app).ledger.read() as tx:
        found: list[Any] = tx.status(now=state_of(app).ledger.now_ms())["hung_lanes"]
    return found


def test_b7_a_hung_receiver_is_shown_and_its_thread_replaced(
    make_app: MakeApp, hubspot: HubSpot, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(dispatcher="thread", dispatcher_threads=1, handler_timeout="1")
    recorder = record(app)
    release = threading.Event()

    def hang(sender: Flask, message: Any, **extra: Any) -> None:
        if message.text == "hang":
            release.wait(100)

    clock = ManualClock()
    story = Story(app, hubspot, clock, recorder)
    with operator_message.connected_to(hang, app):
        first, second = story.start("c1").thread_id, story.start("c2").thread_id
        event = story.write(first, "hang")
        assert signed_post(app, event).status_code == 204
        assert signed_post(app, story.write(second, "fine")).status_code == 204
        try:
            recorder.wait_for("operator_message", count=2)
            wait_until(lambda: len(hung_lanes(app)) == 1, what="the lane to be shown as hung")
        finally:
            release.set()
    assert "in hang" in caplog.text, "the stack is in the log"
