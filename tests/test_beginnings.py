"""An agent begins a conversation: the host says whose it is, or the agent learns that it failed (docs/rules.rst L4)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import (
    Contact,
    DeliveryFailed,
    Handoff,
    HandoffState,
    HubSpotHITL,
    operator_message,
    operator_started,
)
from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.hubspot.paths import API_VERSIONS
from flask_hubspot_hitl.hubspot.setup import wanted
from flask_hubspot_hitl.portals.setup import wanted_channel
from flask_hubspot_hitl.testing import Agent

from .conftest import MakeApp, Serve
from .helpers import CHANNEL, HubSpot, Json, Recorder, state_of, wait_until
from .people_helpers import stored
from .story import Story
from .test_accounts import HELP_DESK, api, make_account
from .test_reconcile import reconcile

Record = Callable[[Flask], Recorder]
ROSA = "rosa@example.test"
Receiver = Callable[..., Any]


def allow(hubspot: HubSpot) -> None:
    """What ``setup`` does at HubSpot with AGENTS_MAY_START."""
    capabilities = wanted.CAPABILITIES | {"allowConversationStart": True}
    api(hubspot, "PATCH", f"/conversations/v3/custom-channels/{CHANNEL}", {"capabilities": capabilities})


class Started(Story):
    """A story that an agent begins."""

    def begin(self, text: str = "Your parcel is here", *, to: str = ROSA) -> Json:
        """An agent begins, and nothing is delivered; the channel's event for it."""
        at = to_datetime(self.now).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        thread = self.hubspot.begin(to, text, createdAt=at)
        return self.event_of(thread, thread["messages"][-1])

    def accept(self, event: str, conversation_id: str = "c1") -> Handoff | None:
        with self.app.app_context():
            return self.hitl.accept(event, conversation_id)

    def asked(self) -> list[Json]:
        return self.recorder.of("operator_started")

    def status_of(self, event: Json) -> Json:
        return self.message_status(event["message"]["conversationsThreadId"], event)


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> Started:
    app = make_app(clock=clock, dispatcher="inline", agents_may_start=True)
    allow(hubspot)
    return Started(app, hubspot, clock, record(app))


def accepting(story: Started, conversation_id: str = "c1") -> Receiver:
    """A receiver that accepts; keep it, signals hold it weakly."""

    def accept(sender: Flask, event: str, **extra: Any) -> None:
        HubSpotHITL().accept(event, conversation_id)

    operator_started.connect(accept, story.app)
    return accept


def refusing(story: Started) -> Receiver:
    def refuse(sender: Flask, **extra: Any) -> None:
        raise DeliveryFailed("We have no chat with this person.")

    operator_started.connect(refuse, story.app)
    return refuse


def test_l4_an_accepted_conversation_is_a_handoff_like_any_other(story: Started) -> None:
    kept = accepting(story)
    event = story.begin()
    story.post(event)
    (asked,) = story.asked()
    assert (asked["portal_id"], asked["contact"]) == ("424242", Contact(email=ROSA))
    assert (asked["message"].text, asked["message"].operator.name) == ("Your parcel is here", "Noor Haddad")
    handoff = story.handoff()
    assert handoff is not None
    assert (handoff.state, handoff.name, handoff.inbox_id) == (HandoffState.ASSIGNED, "Rosa Vidal", "700200300")
    assert handoff.operator == asked["message"].operator
    assert story.names() == ["operator_started", "handoff_started", "operator_assigned", "operator_message"]
    assert story.status_of(event)["statusType"] == "SENT"
    assert story.transcript() == [("operator", "Your parcel is here", "sent")]
    assert story.send("thank you")
    story.run()
    thread = story.hubspot.thread(handoff.thread_id)
    texts = [one["text"] for one in thread["messages"] if one["type"] == "MESSAGE"]
    assert texts == ["Your parcel is here", "thank you"]
    story.says(handoff.thread_id, "you are welcome", at=story.now + 10)
    assert story.recorder.of("operator_message")[-1]["message"].text == "you are welcome"
    story.status(handoff.thread_id, "CLOSED", at=story.now + 20)
    assert story.names()[-1] == "conversation_completed"
    assert len(story.asked()) == 1
    del kept


def test_l4_a_user_who_never_answers_is_told_and_then_it_ends(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str
) -> None:
    app = make_app(clock=clock, dispatcher="inline", agents_may_start=True, idle_warning=60, idle_timeout=90)
    allow(hubspot)
    story = Started(app, hubspot, clock, record(app))
    kept = accepting(story)
    story.post(story.begin())
    story.run(59)
    assert story.names()[-1] == "operator_message"
    story.run(1)
    assert story.names()[-1] == "idle_warning"
    story.run(30)
    assert story.names()[-1] == "conversation_completed"
    del kept


@pytest.mark.parametrize("ids", ["given", "empty", "missing"])
def test_l4_whatever_hubspot_calls_the_thread_the_answer_reaches_the_agent(story: Started, ids: str) -> None:
    kept = accepting(story)
    event = story.begin()
    if ids == "empty":
        event["channelIntegrationThreadIds"] = []
    elif ids == "missing":
        del event["channelIntegrationThreadIds"]
    story.post(event)
    assert story.send("thank you")
    story.run()
    handoff = story.handoff()
    assert handoff is not None
    assert "thank you" in [one.get("text") for one in story.hubspot.thread(handoff.thread_id)["messages"]]
    assert story.recorder_texts("c1") == ["thank you"]
    del kept


def test_l4_a_refusal_is_failed_with_its_words(story: Started) -> None:
    kept = refusing(story)
    event = story.begin()
    story.post(event)
    story.run()
    told = story.status_of(event)
    assert told["statusType"] == "FAILED"
    assert told["failureDetails"]["errorMessage"] == "We have no chat with this person."
    assert not story.is_active()
    assert story.recorder.of("event_dead") == []
    del kept


def test_l4_nobody_accepting_is_failed_after_five_minutes(story: Started) -> None:
    event = story.begin()
    story.post(event)
    name = story.asked()[0]["event"]
    story.run(290)
    assert story.status_of(event)["statusType"] == "SENT", "HubSpot's own first word"
    for _ in range(3):
        story.run(6)
    assert story.status_of(event)["statusType"] == "FAILED"
    assert len(story.asked()) == 1, "who returned is not asked again"
    assert [one["event"]["topic"] for one in story.recorder.of("event_dead")] == ["message"]
    assert story.accept(name) is None
    assert not story.is_active()


def test_l4_a_late_acceptance_counts_and_a_later_receiver_is_asked(story: Started) -> None:
    event = story.begin()
    story.post(event)
    story.run(60)
    kept = accepting(story, "late")
    story.run(6)
    assert story.is_active("late")
    story.run()
    assert story.status_of(event)["statusType"] == "SENT"
    assert story.recorder.of("operator_message")[0]["handoff"].conversation_id == "late"
    del kept


def test_l4_acceptance_outside_of_a_receiver_counts(story: Started) -> None:
    story.post(story.begin())
    story.run(100)
    accepted = story.accept(story.asked()[0]["event"])
    assert accepted is not None
    story.run(6)
    assert [one["handoff"].id for one in story.recorder.of("operator_message")] == [accepted.id]


def test_l4_the_first_acceptance_counts_and_a_repeat_is_the_same(story: Started) -> None:
    story.post(story.begin())
    name = story.asked()[0]["event"]
    first = story.accept(name)
    assert first is not None
    assert story.accept(name) == first
    assert story.accept(name, "c2") is None
    story.run(6)
    again = story.accept(name)
    assert again is not None
    assert again.id == first.id
    assert len(story.recorder.of("operator_message")) == 1
    assert not story.is_active("c2")


def test_l4_two_at_once_have_one_handoff(story: Started) -> None:
    story.post(story.begin())
    name = story.asked()[0]["event"]
    found: dict[str, Handoff | None] = {}

    def take(conversation_id: str) -> None:
        found[conversation_id] = story.accept(name, conversation_id)

    threads = [threading.Thread(target=take, args=(f"c{number}",)) for number in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len([one for one in found.values() if one is not None]) == 1
    story.run(6)
    assert len(story.recorder.of("operator_message")) == 1


def test_l4_a_refusal_after_an_acceptance_changes_nothing(story: Started) -> None:
    kept = accepting(story), refusing(story)
    event = story.begin()
    story.post(event)
    story.run()
    assert story.is_active()
    assert story.status_of(event)["statusType"] == "SENT"
    del kept


def test_l4_a_conversation_that_has_a_handoff_refuses(story: Started) -> None:
    kept = accepting(story)
    story.start()
    event = story.begin()
    story.post(event)
    story.run()
    told = story.status_of(event)
    assert told["statusType"] == "FAILED"
    assert "another conversation" in told["failureDetails"]["errorMessage"]
    del kept


def test_l4_what_the_agent_writes_meanwhile_comes_in_order(story: Started) -> None:
    event = story.begin("one")
    thread = event["message"]["conversationsThreadId"]
    story.post(event)
    for text in ("two", "three"):
        story.run(1)
        story.says(thread, text, at=story.now)
    assert story.recorder.of("operator_message") == []
    assert story.accept(story.asked()[0]["event"]) is not None
    story.run(6)
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["one", "two", "three"]
    assert len(story.asked()) == 1


def test_l4_the_same_event_twice_asks_once(story: Started) -> None:
    kept = accepting(story)
    event = story.begin()
    story.post(event)
    story.post(event)
    story.run()
    reconcile(story.app, "--all")
    assert len(story.asked()) == len(story.recorder.of("operator_message")) == 1
    del kept


def test_l4_a_receiver_that_raises_is_tried_again(story: Started) -> None:
    tried = []

    def stumble(sender: Flask, event: str, **extra: Any) -> None:
        tried.append(event)
        if len(tried) < 3:
            raise LookupError("the host's database is away")
        HubSpotHITL().accept(event, "c1")

    operator_started.connect(stumble, story.app)
    story.post(story.begin())
    for _ in range(4):
        story.run(10)
    assert len(tried) == 3
    assert story.is_active()
    assert len(story.asked()) == 1, "the recorder accepted the first time"


def test_l4_a_thread_of_another_deployment_is_no_start(story: Started) -> None:
    kept = accepting(story)
    event = story.begin()
    event["channelIntegrationThreadIds"] = ["staging.5f0c9a3e-8f1b-4e55-9d7a-1f0d4a1b2c3d"]
    story.post(event)
    story.run()
    assert story.asked() == []
    assert story.status_of(event)["statusType"] == "FAILED"
    del kept


def test_l4_a_thread_in_which_the_user_wrote_is_no_start(
    story: Started, make_app: MakeApp, clock: ManualClock, record: Record, tmp_path: Path
) -> None:
    """As that of a handoff that was deleted for its age: here another deployment has opened it."""
    kept = accepting(story)
    other = make_app(clock=clock, dispatcher="inline", database_url=f"sqlite:///{tmp_path}/other.sqlite3")
    theirs = Started(other, story.hubspot, clock, record(other))
    event = theirs.write(theirs.start().thread_id, "still there?", at=theirs.now)
    event["channelIntegrationThreadIds"] = []
    story.post(event)
    story.run()
    assert story.asked() == []
    assert story.status_of(event)["statusType"] == "FAILED"
    del kept


def test_l4_switched_off_the_agent_sees_failed(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    allow(hubspot)
    story = Started(app, hubspot, clock, record(app))
    kept = accepting(story)
    event = story.begin()
    story.post(event)
    story.run()
    assert story.asked() == []
    assert story.status_of(event)["statusType"] == "FAILED"
    del kept


@pytest.mark.parametrize("wrong", ["", "1", "1-2-x", None, 7])
def test_l4_what_is_no_event_is_refused(story: Started, wrong: Any) -> None:
    with pytest.raises(ValueError, match="operator_started"):
        story.accept(wrong)


def test_l4_the_setting_is_what_setup_registers(make_app: MakeApp, hubspot: HubSpot) -> None:
    on, off = (wanted_channel(state_of(make_app(agents_may_start=one)).settings, "d") for one in ("1", "0"))
    assert on.body()["capabilities"]["allowConversationStart"] is True
    assert off.body()["capabilities"]["allowConversationStart"] is False
    assert wanted.capability_drift(wanted.CAPABILITIES, on.capabilities) == {"allowConversationStart": (False, True)}
    with pytest.raises(AssertionError, match="allowConversationStart"):
        hubspot.begin(ROSA, "hello")


def test_l4_over_real_webhooks(make_app: MakeApp, hubspot: HubSpot, serve: Serve, record: Record) -> None:
    app = make_app(dispatcher="thread", agents_may_start=True)
    recorder = record(app)
    heard: list[str] = []

    @operator_started.connect_via(app)
    def accept(sender: Flask, event: str, contact: Contact, **extra: Any) -> None:
        HubSpotHITL().accept(event, f"mail:{contact.email}")

    @operator_message.connect_via(app)
    def hear(sender: Flask, message: Any, **extra: Any) -> None:
        heard.append(message.text)

    serve(app)
    allow(hubspot)
    thread = hubspot.begin(ROSA, "over the wire")
    wait_until(lambda: heard == ["over the wire"], what="the message to arrive")
    message = thread["messages"][-1]["id"]

    def receipts() -> list[Json]:
        return [one for one in hubspot.requests() if one["method"] == "PATCH" and message in one["path"]]

    wait_until(receipts, what="the receipt")
    assert receipts()[0]["request_body"]["statusType"] == "SENT"
    assert recorder.of("operator_assigned")[0]["handoff"].conversation_id == f"mail:{ROSA}"
    with app.app_context():
        assert HubSpotHITL().send(f"mail:{ROSA}", "thanks")
    wait_until(lambda: "thanks" in [one.get("text") for one in hubspot.thread(thread["id"])["messages"]])


def test_l4_an_agent_of_the_kit_begins(make_app: MakeApp, hubspot: HubSpot, hitl_agent: Agent) -> None:
    make_app()
    allow(hubspot)
    begun = hitl_agent.begin("+34911222333", "hello Rosa")
    assert begun.has_seen("hello Rosa")
    assert begun.thread["assignedTo"] == hitl_agent.actor_id


def test_l4_what_nobody_has_accepted_is_erased_with_its_person(story: Started, database_url: str) -> None:
    event = story.begin("a quokka for you")
    story.post(event)
    name = story.asked()[0]["event"]
    done = story.app.test_cli_runner().invoke(args=["hubspot-hitl", "erase", "--email", ROSA, "--yes"])
    assert done.exit_code == 0, done.output
    assert story.accept(name) is None
    story.run(6)
    assert not story.is_active()
    with state_of(story.app).ledger.read() as tx:
        assert tx.queue.pending_event(int(name.rpartition("-")[2])) is None
    assert "quokka" not in stored(database_url)


@pytest.mark.parametrize("version", API_VERSIONS)
def test_l4_in_a_help_desk_and_with_every_version(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, version: str
) -> None:
    token = hubspot.get("access-token?scopes=*")["access_token"]
    desk = make_account(hubspot, "beginnings")
    given = {"inbox_id": HELP_DESK, "channel_account_id": desk, "access_token": token, "refresh_token": None}
    app = make_app(clock=clock, dispatcher="inline", agents_may_start=True, api_version=version, **given)
    allow(hubspot)
    story = Started(app, hubspot, clock, record(app))
    kept = accepting(story)
    thread = hubspot.begin("+34911222333", "hello", channelAccountId=desk)
    event = story.event_of(thread, thread["messages"][-1])
    story.post(event)
    assert story.asked()[0]["contact"] == Contact(phone="+34911222333")
    with app.app_context():
        assert HubSpotHITL().note("c1", "a regular")
    assert story.send("thanks")
    story.run()
    found = hubspot.thread(thread["id"])
    assert [one["body"] for one in found["ticket"]["notes"]] == ["<p>a regular</p>"]
    assert [one["text"] for one in found["messages"] if one["type"] == "MESSAGE"] == ["hello", "thanks"]
    handoff = story.handoff()
    assert handoff is not None
    assert handoff.inbox_id == HELP_DESK
    del kept
