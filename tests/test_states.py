"""What is remembered of an event between runs: read as the version before stored it, and stored so again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_hubspot_hitl import CloseReason, DeliveryFailed, HandoffState, Operator, operator_message
from flask_hubspot_hitl.botpress.relay import BridgeState, Relay
from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.dispatch.housekeeping import PruneState, PruneTask
from flask_hubspot_hitl.dispatch.tasks import CallingTask, Dead, Done, Outcome, Retry
from flask_hubspot_hitl.domain import Attachment, Author, Message
from flask_hubspot_hitl.errors import HubSpotRejected, HubSpotUnavailable, NotConfigured, WrongPortal
from flask_hubspot_hitl.handoffs import states
from flask_hubspot_hitl.handoffs.emission import SignalTask
from flask_hubspot_hitl.handoffs.journal import JournalTask, LifecycleTask
from flask_hubspot_hitl.handoffs.outbound import OpenTask, OutboundTask
from flask_hubspot_hitl.handoffs.queue import QueueTask
from flask_hubspot_hitl.handoffs.states import (
    Account,
    InboundState,
    OutboundState,
    Receipt,
    Seen,
    SignalState,
    TimeoutState,
    Told,
    kind_of,
)
from flask_hubspot_hitl.ledger import Event, Lease, Ledger, NewEvent, Snapshot, State, Step, Topic
from flask_hubspot_hitl.ledger.schema import event as event_table

from .conftest import MakeApp
from .helpers import HubSpot, Recorder, state_of
from .story import Story
from .test_rules_outbound import PUBLISH, fault

Record = Callable[[Flask], Recorder]
Json = dict[str, Any]

NOOR = {"actor_id": "A-987", "name": "Noor Haddad", "email": "noor@acme.test", "avatar": None}
SNAPSHOT = {
    "state": "assigned",
    "operator": NOOR,
    "assigned_at": 1795909999000,
    "closed_at": None,
    "reason": None,
    "detail": None,
}
STEP = {"signal": "operator_message", "handoff": "h1", "snapshot": SNAPSHOT, "message_row": 7}
MESSAGE = {
    "message_id": "m1",
    "text": "Hi Rosa",
    "html": "<div>Hi Rosa</div>",
    "attachments": [{"name": "a.pdf", "content_type": None, "size": 3, "url": "https://x.test/a", "file_id": "9"}],
    "operator": NOOR,
    "created_at": 1795909999000,
}
RECEIPTS = {
    "0:operator_message:bot:first": {"verdict": "accepted", "starts": 0, "attempts": 0, "error": None},
    "0:operator_message:bot:second": {"verdict": "dead", "starts": 1, "attempts": 12, "error": "OSError"},
}
EVERYTHING: list[tuple[type[State], Json]] = [
    (
        InboundState,
        {
            "value": None,
            "operator": NOOR,
            "message": MESSAGE,
            "history": True,
            "inbox": "700200300",
            "erased": True,
            "waiting_since": 5,
            "plan": [STEP],
            "step": 1,
            "receipts": RECEIPTS,
            "unheard": True,
            "unheard_since": 6,
            "delays": 3,
            "delayed_since": 7,
        },
    ),
    (
        SignalState,
        {
            "plan": [
                {
                    "signal": "operator_assigned",
                    "handoff": "h1",
                    "snapshot": SNAPSHOT,
                    "operator": NOOR,
                    "previous": None,
                },
                {
                    "signal": "conversation_completed",
                    "handoff": "h1",
                    "snapshot": {**SNAPSHOT, "state": "closed", "reason": "agent", "closed_at": 8},
                    "reason": "agent",
                    "detail": None,
                },
                {"signal": "event_dead", "event": {"id": 5}, "error": "given up"},
                {"signal": "channel_account_changed", "portal_id": "1", "change": "removed", "account": {"name": None}},
            ],
            "step": 2,
            "receipts": RECEIPTS,
            "unheard": True,
            "unheard_since": 6,
            "delays": 3,
            "delayed_since": 7,
        },
    ),
    (
        TimeoutState,
        {
            "taken": False,
            "waiting_since": 5,
            "plan": [],
            "step": 1,
            "receipts": RECEIPTS,
            "unheard": True,
            "unheard_since": 6,
            "delays": 3,
            "delayed_since": 7,
        },
    ),
    (
        OutboundState,
        {
            "maybe": True,
            "first_at": 5,
            "account": {"id": "880011", "identifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "acme"}},
            "sender": {"contact_id": "55512001", "type": "HS_PHONE_NUMBER", "value": "+34911222333"},
            "refused": True,
            "left_out": {"0": "", "2": "HubSpot refuses it"},
            "unanswered": [2, 5],
        },
    ),
    (PruneState, {"next": 5}),
    (BridgeState, {"renewed": True}),
]
"""Each kind of state with every key it has, as the version before the types wrote it."""
by_kind = pytest.mark.parametrize(("kind", "stored"), EVERYTHING, ids=lambda one: getattr(one, "__name__", ""))


def event_of(stored: Json | None, *, topic: str = "t", received_at: int = 0, **more: Any) -> Event:
    given: Json = {"portal_id": "1", "thread_id": "2", "handoff_id": "h1", "payload": None, "starts": 1, "attempts": 0}
    return Event(
        id=1, dedupe_key="k", lane="in:1:2", topic=topic, sort_at=0, received_at=received_at,
        progress=None if stored is None else json.dumps(stored), **{**given, **more},
    )  # fmt: skip


# --- JSON ------------------------------------------------------------------------------------------------


@by_kind
def test_what_the_version_before_stored_is_read_and_stored_again_as_it_was(kind: type[State], stored: Json) -> None:
    event = event_of(stored)
    assert event.state(kind) is event.state(State), "it is read once"
    assert json.loads(event.stored_state() or "") == stored


@by_kind
def test_every_stored_field_is_among_these_keys(kind: type[State], stored: Json) -> None:
    state, fresh = kind.from_json(stored), kind()
    kept = [one.name for one in fields(kind) if one.metadata]
    assert len(kept) == len(stored)
    assert [name for name in kept if getattr(state, name) == getattr(fresh, name)] == []


@by_kind
def test_what_another_version_has_put_there_is_kept(kind: type[State], stored: Json) -> None:
    newer = {**stored, "newer": {"a": [1, None]}}
    assert kind.from_json(newer).to_json() == newer
    assert kind.from_json({"newer": 1}).to_json() == {"newer": 1}


@by_kind
def test_a_fresh_state_stores_nothing(kind: type[State], stored: Json) -> None:
    assert kind.from_json(None).to_json() == kind().to_json() == {}


def test_the_values_are_typed() -> None:
    state = InboundState.from_json(EVERYTHING[0][1])
    noor = Operator("A-987", "Noor Haddad", "noor@acme.test")
    file = Attachment(name="a.pdf", size=3, url="https://x.test/a", file_id="9")
    created_at = to_datetime(1795909999000)
    said = Message("m1", Author.OPERATOR, "Hi Rosa", "<div>Hi Rosa</div>", (file,), noor, created_at)
    assert (state.seen, state.operator, state.message) == (Seen(None), noor, said)
    assert state.receipts["0:operator_message:bot:second"] == Receipt(
        verdict="dead", starts=1, attempts=12, error="OSError"
    )
    snapshot = Snapshot(
        state=HandoffState.ASSIGNED, operator=noor, assigned_at=1795909999000, closed_at=None, reason=None, detail=None
    )
    assert state.plan == [Step(signal="operator_message", handoff_id="h1", snapshot=snapshot, message_row=7)]
    completed = (SignalState.from_json(EVERYTHING[1][1]).plan or [])[1]
    assert (completed.reason, completed.facts) == (CloseReason.AGENT, {"detail": None})
    assert OutboundState.from_json(EVERYTHING[3][1]).account == Account(
        "880011", {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "acme"}
    )


def test_facts_of_another_version_stay_in_the_step() -> None:
    newer = {**STEP, "mood": "good", "snapshot": {**SNAPSHOT, "state": "snoozed", "operator": {**NOOR, "team": "x"}}}
    plan = SignalState.from_json({"plan": [newer]}).plan
    assert plan is not None
    (step,) = plan
    assert step.facts == {"mood": "good"}
    assert step.snapshot is not None
    assert step.snapshot.state == "snoozed", "the event can be read, and buried, though this version can't send it"


def test_an_event_that_nobody_read_is_stored_as_it_was() -> None:
    assert event_of({"b": 1, "a": 2}).stored_state() == '{"b": 1, "a": 2}'
    assert event_of(None).stored_state() is None


def test_a_state_read_as_another_kind_is_a_bug() -> None:
    event = event_of({"maybe": True})
    event.state(OutboundState)
    with pytest.raises(TypeError, match="is a OutboundState, not a SignalState"):
        event.state(SignalState)


@pytest.mark.parametrize(
    ("told", "stored"),
    [
        (states.ToOpen(), {}),
        (states.ToOpen("user: hi"), {"transcript": "user: hi"}),
        (states.ToOpen(facts="Plan: Pro", ticket={"p": "1"}), {"facts": "Plan: Pro", "ticket": {"p": "1"}}),
        (states.ToChangeTicket({"p": "1"}), {"properties": {"p": "1"}}),
        (states.ToNote("user: hi"), {"text": "user: hi"}),
        (states.ToNote("user: hi", instead=True), {"text": "user: hi", "instead": True}),
        (states.ToAssign("A-987"), {"actor_id": "A-987"}),
        (states.ToPublish(7), {"row": 7}),
        (states.ToClose(), {}),
        (states.ToClose(7), {"row": 7}),
        (states.ToReceipt("1", "m1", None), {"channel_id": "1", "message_id": "m1", "error": None}),
        (states.ToSweep(at_start=True), {"at_start": True}),
        (Told(value="CLOSED", hint=True), {"value": "CLOSED", "hint": True}),
        (Told(value=None, is_read=True, entry="e1"), {"value": None, "source": "reconcile", "entry": "e1"}),
        (Told(message={"id": "m1"}, is_read=True), {"message": {"id": "m1"}, "source": "reconcile", "entry": None}),
    ],
    ids=repr,
)  # fmt: skip
def test_a_payload_is_stored_as_the_version_before_stored_it(told: Any, stored: Json) -> None:
    assert told.to_json() == stored
    assert type(told).from_json({**stored, "newer": 1}) == told


# --- what the ledger asks --------------------------------------------------------------------------------


def test_what_is_forgotten_when_a_dead_event_is_tried_again() -> None:
    state = InboundState.from_json(EVERYTHING[0][1])
    state.forget_verdicts()
    first = "0:operator_message:bot:first"
    gone = {"step", "unheard", "unheard_since", "delays", "delayed_since"}
    left = {name: value for name, value in EVERYTHING[0][1].items() if name not in gone}
    assert state.to_json() == {**left, "receipts": {first: RECEIPTS[first]}}
    outbound = OutboundState.from_json(EVERYTHING[3][1])
    outbound.forget_verdicts()
    assert outbound.to_json() == EVERYTHING[3][1]


def test_only_a_call_to_hubspot_may_have_happened() -> None:
    assert {kind for kind, stored in EVERYTHING if kind.from_json(stored).may_have_happened} == {OutboundState}
    assert not OutboundState().may_have_happened


def test_the_ledger_knows_the_state_of_every_topic(make_app: MakeApp) -> None:
    for topic, task in state_of(make_app()).dispatcher.tasks.items():
        base = (
            SignalState if isinstance(task, SignalTask) else OutboundState if isinstance(task, OutboundTask) else State
        )
        assert issubclass(kind_of(topic), base), topic
        assert (kind_of(topic) is State) == (base is State), topic


def test_the_ledger_keeps_states_that_it_was_told_nothing_of(sqlite_url: str, clock: ManualClock) -> None:
    ledger = Ledger(sqlite_url, clock)
    ledger.create()
    state = State(unknown={"receipts": 1, "maybe": True})
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key="a", lane="out:1", topic="t", sort_at=0, state_at_first=state)], now=0)
        assert [topic for topic, _ in tx.cancel_unpublished("out:1", now=0, topics=["t"])] == ["t"]
        assert tx._connection.scalar(sa.select(event_table.c.progress)) == '{"receipts":1,"maybe":true}'
    ledger.close()


# --- a store of the version before -----------------------------------------------------------------------


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def progress_of(story: Story, topic: str) -> Json:
    with story.state.ledger.read() as tx:
        found: Json = json.loads(
            str(tx._connection.scalar(sa.select(event_table.c.progress).where(event_table.c.topic == topic)))
        )
        return found


def put_progress(story: Story, topic: str, stored: Json) -> None:
    with story.state.ledger.write() as tx:
        statement = sa.update(event_table).where(event_table.c.topic == topic).values(progress=json.dumps(stored))
        tx._connection.execute(statement)


def test_a_message_of_the_version_before_goes_to_who_has_not_had_it(story: Story) -> None:
    thread = story.start().thread_id
    called: list[str] = []

    def first(sender: Flask, **values: Any) -> None:
        called.append("first")
        raise RuntimeError

    def second(sender: Flask, **values: Any) -> None:
        called.append(f"second: {values['message'].text}, {values['handoff'].state}, {sorted(values)}")
        raise DeliveryFailed("no such chat")

    operator_message.connect(first, story.app)
    said = story.says(thread)
    operator_message.connect(second, story.app)
    called.clear()
    handoff = story.handoff()
    assert handoff is not None
    names = [f"0:operator_message:{first.__module__}:{one.__qualname__}" for one in (first, second)]
    stored = {
        "message": {**MESSAGE, "message_id": said["message"]["id"], "attachments": []},
        "plan": [
            {
                "signal": "operator_message",
                "handoff": handoff.id,
                "snapshot": {**SNAPSHOT, "operator": None},
                "message_row": 1,
                "mood": "of a newer version",
            }
        ],
        "receipts": {
            names[0]: {"verdict": "accepted", "starts": 0, "attempts": 1, "error": None},
            names[1]: {"verdict": None, "starts": 0, "attempts": 1, "error": "OSError"},
        },
        "delays": 1,
        "newer": True,
    }
    put_progress(story, "message", stored)
    story.run(60)
    assert called == ["second: Hi Rosa, assigned, ['handoff', 'message']"]
    assert story.message_status(thread, said)["failureDetails"]["errorMessage"] == "no such chat"


def test_a_publish_of_the_version_before_that_may_have_happened_is_not_cancelled(story: Story) -> None:
    story.start()
    story.hubspot.chaos(faults=[fault(PUBLISH)])
    story.send("one")
    story.run()
    put_progress(story, "publish", {"maybe": True, "first_at": story.now, "newer": 1})
    with story.state.ledger.write() as tx:
        lane = f"out:{story.handoff().id}"  # type: ignore[union-attr]  # it is open
        assert tx.cancel_unpublished(lane, now=story.now, topics=[Topic.PUBLISH]) == []
    put_progress(story, "publish", {"first_at": story.now, "newer": 1})
    with story.state.ledger.write() as tx:
        assert tx.cancel_unpublished(lane, now=story.now, topics=[Topic.PUBLISH]) == [("publish", {"row": 1})]


def test_an_opening_of_the_version_before_goes_on_with_what_was_found(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(PUBLISH)])
    handoff = story.start()
    stored = progress_of(story, "open")
    assert stored == {
        "maybe": True,
        "account": {"id": "880011", "identifier": stored["account"]["identifier"]},
        "sender": {"contact_id": "55512001", "type": "HS_PHONE_NUMBER", "value": "+34911222333"},
    }
    sender = {"type": "HS_EMAIL_ADDRESS", "value": "rosa@example.com"}
    put_progress(story, "open", {**stored, "sender": sender, "newer": 1})
    story.hubspot.chaos(faults=[])
    story.run(600)
    found = story.handoff()
    assert found is not None
    assert (found.id, found.state) == (handoff.id, HandoffState.WAITING)
    (thread,) = story.hubspot.threads()
    assert thread["messages"][0]["senders"][0]["deliveryIdentifier"] == sender


# --- one frame for HubSpot's errors ----------------------------------------------------------------------


class Failing(CallingTask):
    """A task whose call ends in an error."""

    def __init__(self, ledger: Ledger, error: Exception) -> None:
        super().__init__(ledger)
        self.error = error

    def call(self, event: Event, lease: Lease, now: int) -> Outcome:
        raise self.error


LEASE = Lease(lane="in:1:2", owner="me", fence=1, wake=1, failures=0)


def test_hubspots_errors_become_outcomes(sqlite_url: str, clock: ManualClock) -> None:
    ledger = Ledger(sqlite_url, clock)
    now, event = clock.now_ms(), event_of(None)
    away, busy = HubSpotUnavailable("away"), HubSpotUnavailable("busy", retry_after=3.0)
    missing, refused = NotConfigured("no token"), HubSpotRejected("no")
    assert Failing(ledger, away).run(event, LEASE) == Retry("away", cause=away)
    outcome = Failing(ledger, busy).run(event, LEASE)
    assert isinstance(outcome, Retry)
    assert now + 3_000 <= (outcome.at_ms or 0) <= now + 3_500
    assert Failing(ledger, missing).run(event, LEASE) == Retry("no token", cause=missing)
    assert Failing(ledger, refused).run(event, LEASE) == Retry("no", counts=True, cause=refused)
    with pytest.raises(KeyError):
        Failing(ledger, KeyError("a bug")).run(event, LEASE)
    ledger.close()


def test_another_portals_token_ends_an_opening_only(make_app: MakeApp) -> None:
    services = state_of(make_app()).services
    wrong = WrongPortal("it is another portal's", "424243")
    assert OpenTask(services).not_configured(event_of(None), wrong) == Dead(str(wrong), cause=wrong)
    fresh = event_of(None, received_at=services.ledger.now_ms())
    assert OutboundTask(services).not_configured(fresh, wrong) == Retry(str(wrong), cause=wrong)
    assert OutboundTask(services).refused(event_of(None), ValueError("x")) == Dead("x")


@pytest.mark.parametrize("error", [NotConfigured("no token"), WrongPortal("it is another portal's", "424243")])
def test_c3_what_has_no_token_for_24_hours_is_given_up(
    make_app: MakeApp, clock: ManualClock, error: NotConfigured
) -> None:
    task = OutboundTask(state_of(make_app(clock=clock)).services)
    event = event_of(None, received_at=clock.now_ms())
    clock.advance(86_400)
    assert task.not_configured(event, error) == Retry(str(error), cause=error)
    clock.advance(1)
    assert task.not_configured(event, error) == Dead(str(error), cause=error)


def test_a_task_has_defaults_for_all_it_leaves_out(make_app: MakeApp) -> None:
    for task in state_of(make_app()).dispatcher.tasks.values():
        goes_on = isinstance(task, JournalTask | LifecycleTask | QueueTask)  # however often the process is killed
        assert task.limits_starts(event_of(None)) is goes_on
    assert "prepare" not in vars(PruneTask)
    assert "prepare" not in vars(Relay)
    assert Done() == Done()
