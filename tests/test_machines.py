"""A machine of HubSpot's that takes a conversation, and a conversation that is moved to another inbox (rules K3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HandoffState, HubSpotHITL, Waiting
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, Serve
from .databases import every_database
from .helpers import HubSpot, Recorder, state_of
from .story import Story
from .test_reconcile import reconcile

Record = Callable[[Flask], Recorder]
TellStory = Callable[..., Story]
HELP_DESK, INBOX = "700200999", "700200300"
BREEZE, CHATFLOW = "L-77", "B-12"


@pytest.fixture
def tell(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str) -> TellStory:
    def tell(**settings: Any) -> Story:
        app = make_app(clock=clock, dispatcher="inline", **settings)
        return Story(app, hubspot, clock, record(app))

    return tell


def of(story: Story, signal: str) -> list[tuple[Any, ...]]:
    """What a signal told: the state, and its own keywords."""
    own = {"automation_assigned": ("actor",), "inbox_changed": ("inbox_id", "previous")}.get(signal, ("operator",))
    return [(one["handoff"].state, *(one[name] for name in own)) for one in story.recorder.of(signal)]


# --- who has it --------------------------------------------------------------------------------------------


@every_database
@pytest.mark.parametrize("machine", [BREEZE, CHATFLOW])
def test_a_machine_is_told_and_counts_as_nobody(tell: TellStory, machine: str) -> None:
    story = tell(assignment_timeout=300)
    thread = story.start().thread_id
    story.assigned(thread, machine, at=story.now)
    story.assigned(thread, machine, at=story.now + 1)
    assert of(story, "automation_assigned") == [(HandoffState.WAITING, machine)]
    assert story.names() == ["handoff_started", "automation_assigned"]
    story.run(301)
    assert story.names()[2:] == ["assignment_timed_out"], "no human came"
    story.assigned(thread, "A-987", at=story.now)
    story.assigned(thread, machine, at=story.now + 1)
    assert story.names()[3:] == ["operator_assigned", "operator_unassigned", "automation_assigned"]
    story.assigned(thread, None, at=story.now + 2)
    story.assigned(thread, machine, at=story.now + 3)
    assert story.names()[6:] == ["automation_assigned"]


@every_database
def test_a_machine_counts_as_an_operator_where_that_is_set(tell: TellStory) -> None:
    story = tell(automation_as_operator=True, assignment_timeout=300)
    thread = story.start().thread_id
    story.assigned(thread, BREEZE, at=story.now)
    assert story.names() == ["handoff_started", "operator_assigned", "automation_assigned"]
    ((state, operator),) = of(story, "operator_assigned")
    assert (state, operator.actor_id, operator.name) == (HandoffState.ASSIGNED, BREEZE, "Customer agent")
    story.run(301)
    story.assigned(thread, "A-987", at=story.now)
    assert story.names()[3:] == ["operator_assigned"]


@pytest.mark.parametrize("counts", [False, True])
def test_a_machine_that_took_it_while_no_webhook_came_is_seen_in_the_thread(tell: TellStory, counts: bool) -> None:
    story = tell(assignment_timeout=300, automation_as_operator=counts)
    thread = story.start().thread_id
    story.hubspot.act(thread, "assign", actorId=BREEZE)
    story.run(301)
    told = ["operator_assigned", "automation_assigned"] if counts else ["assignment_timed_out", "automation_assigned"]
    assert sorted(story.names()[1:]) == sorted(told)
    reconcile(story.app, "--all")
    assert sorted(story.names()[1:]) == sorted(told), "told once"


def test_a_handoff_that_begins_with_a_machine_is_told(
    make_app: MakeApp, hubspot: HubSpot, serve: Serve, record: Record
) -> None:
    app = make_app(dispatcher="thread")
    recorder = record(app)
    serve(app)
    hubspot.chaos(auto_assign=BREEZE)
    with app.app_context():
        HubSpotHITL().start("c1", contact="rosa@example.test")
    (told,) = recorder.wait_for("automation_assigned")
    assert told["actor"] == BREEZE


# --- where it is -------------------------------------------------------------------------------------------


@every_database
def test_a_move_is_seen_by_the_hourly_look_and_counted_in_the_new_inbox(tell: TellStory) -> None:
    story = tell()
    first = story.start().thread_id
    story.start("c2")
    with story.app.app_context():
        assert story.hitl.waiting("c2") == Waiting(1)
    story.hubspot.act(first, "move", inboxId=HELP_DESK)
    assert story.names() == ["handoff_started"] * 2, "no webhook tells of it"
    reconcile(story.app)
    assert of(story, "inbox_changed") == [(HandoffState.WAITING, HELP_DESK, INBOX)]
    handoff = story.handoff("c1")
    assert handoff is not None
    assert handoff.inbox_id == HELP_DESK
    with story.app.app_context():
        assert [story.hitl.waiting(one) for one in ("c1", "c2")] == [Waiting(0), Waiting(0)]
    reconcile(story.app)
    assert len(story.recorder.of("inbox_changed")) == 1, "told once"
    story.says(first)
    assert story.recorder.of("operator_message")[0]["message"].text == "Hi Rosa", "the channel's account stays"


def test_each_move_is_told_as_it_was(tell: TellStory) -> None:
    story = tell()
    thread = story.start().thread_id
    for seconds, inbox in enumerate((HELP_DESK, INBOX, HELP_DESK)):
        story.hubspot.act(thread, "move", inboxId=inbox, occurredAt=story.now + seconds * 1_000)
    reconcile(story.app)
    told = story.recorder.of("inbox_changed")
    assert [one["handoff"].inbox_id for one in told] == [HELP_DESK, INBOX, HELP_DESK]
    assert [one["previous"] for one in told] == [INBOX, HELP_DESK, INBOX]


def test_a_move_that_only_the_threads_own_field_shows(tell: TellStory) -> None:
    story = tell()
    story.start()
    with state_of(story.app).ledger.write() as tx:
        found = tx.records.open_of("c1", lock=True)
        assert found is not None
        found.handoff = replace(found.handoff, inbox_id="7")
        tx.records.update(found)
    reconcile(story.app)
    reconcile(story.app)
    assert of(story, "inbox_changed") == [(HandoffState.WAITING, INBOX, "7")]


def test_a_move_of_what_has_ended_is_not_told(tell: TellStory) -> None:
    story = tell()
    thread = story.start().thread_id
    story.hubspot.act(thread, "move", inboxId=HELP_DESK)
    story.status(thread, "CLOSED", at=story.now)
    assert story.names() in (
        ["handoff_started", "conversation_completed"],
        ["handoff_started", "inbox_changed", "conversation_completed"],
    )
    reconcile(story.app)
    assert story.names()[-1] == "conversation_completed"
