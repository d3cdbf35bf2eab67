"""The agent's side as one story, in an inbox and in a help desk, with each version of HubSpot's API."""

from __future__ import annotations

from typing import Any

import pytest

from flask_hubspot_hitl import AvailabilityReason, Choice, NobodyAvailable
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot.paths import API_VERSIONS

from .conftest import MakeApp, Record
from .helpers import HubSpot, Json
from .story import Story
from .test_accounts import HELP_DESK, INBOX, make_account

NOOR, TEO = "A-987", "A-988"
OFFER = {"value": "yes", "valueType": "TEXT", "label": "Send it again"}
CHOICES = {"type": "QUICK_REPLIES", "quickReplies": [OFFER], "allowMultiSelect": False, "allowUserInput": True}


@pytest.fixture(params=API_VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[INBOX, HELP_DESK], ids=["inbox", "help desk"])
def inbox(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, version: str, inbox: str) -> Story:
    given: dict[str, Any] = {
        "api_version": version,
        "access_token": hubspot.get("access-token?scopes=*")["access_token"],
        "refresh_token": None,
        "availability": "hubspot",
        "inbox_members": f"{NOOR},{TEO}",
        "tickets": True,
        "quick_replies": True,
        "idle_warning": "600",
        "idle_timeout": "900",
    }
    if inbox == HELP_DESK:
        given |= {"inbox_id": HELP_DESK, "channel_account_id": make_account(hubspot, "agents-side")}
    app = make_app(clock=clock, dispatcher="inline", **given)
    hubspot.chaos(hours_set_away=False)
    for agent in (NOOR, TEO):
        hubspot.availability(agent, status="available")
    return Story(app, hubspot, clock, record(app))


def test_a_handoff_from_the_question_to_the_rating(story: Story, inbox: str) -> None:
    hubspot, hitl = story.hubspot, story.hitl
    for agent in (NOOR, TEO):
        hubspot.availability(agent, status="away")
    with story.app.app_context():
        assert hitl.availability().open is False
        with pytest.raises(NobodyAvailable):
            hitl.start("c1", contact="+34911222333", require_available=True)
    hubspot.availability(NOOR, status="available")
    story.clock.advance(15)  # what HubSpot said is known for so long
    with story.app.app_context():
        assert hitl.availability().agents == (NOOR,)
        assert hitl.availability().reason is AvailabilityReason.AVAILABLE
    wanted: dict[str, Any] = {"facts": {"Plan": "Pro"}, "link": "https://example.com/users/7"}
    if inbox == HELP_DESK:
        wanted["ticket"] = {"hs_ticket_priority": "HIGH"}
    thread = story.start(require_available=True, history=[("user", "it is broken")], **wanted).thread_id
    story.run(1)
    found = hubspot.thread(thread)
    assert found["inboxId"] == inbox
    assert "Plan: Pro" in found["messages"][0]["text"]
    assert "https://example.com/users/7" in found["messages"][0]["text"]
    with story.app.app_context():
        assert hitl.note("c1", "an old customer")
        assert hitl.note("c1", "It ships today.", draft=True)
        assert hitl.waiting("c1") == hitl.waiting("c1") is not None
        assert hitl.assign("c1", NOOR)
    story.run(1)
    assert hubspot.thread(thread)["assignedTo"] == NOOR
    story.assigned(thread, NOOR, at=story.now)
    event = story.says(thread, "Shall I?", at=story.now, attachments=[CHOICES])
    message = story.recorder.of("operator_message")[-1]["message"]
    assert message.choices == (Choice("Send it again", "yes"),)
    with story.app.app_context():
        assert hitl.mark_read("c1", message.message_id) == 1
    story.run(1)
    assert story.message_status(thread, event)["statusType"] == "READ"
    assert story.send(message.choices[0].value)
    story.says(thread, "Sent", at=story.now)
    story.run(600)
    assert story.names()[-1] == "idle_warning"
    story.status(thread, "CLOSED", at=story.now)
    with story.app.app_context():
        assert hitl.rate("c1", 5, "quick")
        assert not hitl.rate("c1", 1), "once"
    story.run(1)
    noted(story, thread, inbox)
    ended = story.recorder.of("conversation_completed")[-1]
    assert [one.actor_id for one in ended["operators"]] == [NOOR]
    assert ended["seconds_to_answer"] == pytest.approx(2, abs=1)
    assert [one["message"].text for one in story.recorder.of("operator_message")] == ["Shall I?", "Sent"]


def noted(story: Story, thread: str | None, inbox: str) -> None:
    """Each note is on the thread once, and on the ticket where there is one."""
    found: Json = story.hubspot.thread(thread)
    wanted = ("it is broken", "an old customer", "It ships today.", "rating: 5")
    places = [[one["text"] for one in found["messages"] if one["type"] == "COMMENT"]]
    if inbox == HELP_DESK:
        places.append([one["body"] for one in found["ticket"]["notes"]])
        assert found["ticket"]["properties"]["hs_ticket_priority"] == "HIGH"
    for notes in places:
        assert [sum(words in one for one in notes) for words in wanted] == [1, 1, 1, 1], notes


def test_a_machine_has_the_seat_and_a_transfer_is_told(story: Story, inbox: str) -> None:
    thread = story.start().thread_id
    story.assigned(thread, "L-77", at=story.now)
    assert story.names()[-1] == "automation_assigned"
    assert story.recorder.of("automation_assigned")[-1]["actor"] is not None
    assert story.handoff().operator is None  # type: ignore[union-attr]
    other = INBOX if inbox == HELP_DESK else HELP_DESK
    story.hubspot.act(thread, "move", inboxId=other)
    with story.app.app_context():
        story.app.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile", "--all"])
    story.run(1)
    [moved] = story.recorder.of("inbox_changed")
    assert (moved["inbox_id"], moved["previous"]) == (other, inbox)
