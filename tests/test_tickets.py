"""Tickets of a help desk: what ``start`` wants on them, what HubSpot refuses, and the agent's first lines.

Source: docs/rules.rst L1, L2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, NotConfigured
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.handoffs.facts import FACTS_LIMIT, render_facts
from flask_hubspot_hitl.hubspot.paths import API_VERSIONS
from flask_hubspot_hitl.hubspot.scopes import AppKind
from flask_hubspot_hitl.portals import installations

from .conftest import MakeApp
from .helpers import HubSpot, Json, Recorder, state_of
from .story import Story
from .test_accounts import HELP_DESK, make_account

Record = Callable[[Flask], Recorder]
Open = Callable[..., Story]
HIGH = {"hs_ticket_priority": "HIGH"}


@pytest.fixture
def open_desk(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Open:
    """Makes an app whose channel is in a help desk, with a token of some scopes."""

    def make(*, scopes: str = "*", **config: Any) -> Story:
        token = hubspot.get(f"access-token?scopes={scopes}")["access_token"]
        account = make_account(hubspot, "tickets")
        given = {"inbox_id": HELP_DESK, "channel_account_id": account, "access_token": token, "refresh_token": None}
        app = make_app(clock=clock, dispatcher="inline", **(given | {"tickets": True} | config))
        return Story(app, hubspot, clock, record(app))

    return make


def ticket(story: Story, thread: str | None) -> Json:
    found: Json = story.hubspot.thread(thread)["ticket"]
    return found


def comments(story: Story, thread: str | None) -> list[str]:
    return [one["text"] for one in story.hubspot.thread(thread)["messages"] if one["type"] == "COMMENT"]


@pytest.mark.parametrize("version", API_VERSIONS)
def test_l2_a_ticket_gets_its_priority(open_desk: Open, version: str) -> None:
    story = open_desk(api_version=version)
    thread = story.start(ticket={**HIGH, "content": "The invoice is wrong"}).thread_id
    found = ticket(story, thread)["properties"]
    assert (found["hs_ticket_priority"], found["content"]) == ("HIGH", "The invoice is wrong")
    assert "ticket_refused" not in story.names()


def test_l2_a_ticket_that_comes_late_is_waited_for_and_holds_nothing_back(open_desk: Open) -> None:
    story = open_desk()
    story.hubspot.chaos(tickets="late")
    thread = story.start(ticket=HIGH).thread_id
    assert story.send("hello?")
    story.run()
    assert story.recorder_texts("c1") == ["hello?"]
    assert ticket(story, thread)["properties"].get("hs_ticket_priority") is None
    for _ in range(4):
        story.run(40)
    asked = len(looks(story))
    assert 3 <= asked < 20, "the pauses grow"
    story.hubspot.chaos(tickets="ok")
    story.run(61)
    assert ticket(story, thread)["properties"]["hs_ticket_priority"] == "HIGH"
    story.run(600)
    assert len(looks(story)) == asked + 1
    assert "ticket_refused" not in story.names()


def looks(story: Story) -> list[Json]:
    return [one for one in story.hubspot.requests() if "association" in one["query"]]


def test_l2_a_ticket_that_never_comes_is_told(open_desk: Open) -> None:
    story = open_desk()
    story.hubspot.chaos(tickets="late")
    thread = story.start(ticket=HIGH).thread_id
    for _ in range(12):
        story.run(61)
    (told,) = story.recorder.of("ticket_refused")
    assert (told["properties"], told["handoff"].thread_id) == (HIGH, thread)
    assert "no ticket" in told["error"]
    (note,) = comments(story, thread)
    assert "hs_ticket_priority: HIGH" in note


def test_l2_a_rule_of_the_portals_refuses_and_a_note_stands_there_instead(open_desk: Open) -> None:
    story = open_desk()
    story.hubspot.chaos(ticket_rule="hs_ticket_priority")
    thread = story.start(ticket=HIGH | {"content": "x"}).thread_id
    (told,) = story.recorder.of("ticket_refused")
    assert told["properties"] == HIGH | {"content": "x"}
    assert "400" in told["error"]
    (note,) = comments(story, thread)
    assert "hs_ticket_priority: HIGH" in note
    assert ticket(story, thread)["properties"].get("content") is None, "all of them or none"


def test_l2_a_plain_inbox_has_no_tickets(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="inline", tickets=True)
    story = Story(app, hubspot, clock, record(app))
    thread = story.start(ticket=HIGH).thread_id
    (told,) = story.recorder.of("ticket_refused")
    assert "no ticket" in told["error"]
    assert len(comments(story, thread)) == 1


def test_l2_without_the_scope_the_host_is_told(open_desk: Open) -> None:
    scopes = "oauth,conversations.read,conversations.write,crm.objects.contacts.read"
    story = open_desk(scopes=f"{scopes},conversations.custom_channels.read,conversations.custom_channels.write")
    story.start(ticket=HIGH)
    (told,) = story.recorder.of("ticket_refused")
    assert "403" in told["error"]


def test_l2_a_lost_answer_is_asked_for_again(open_desk: Open) -> None:
    story = open_desk()
    story.hubspot.chaos(faults=[{"match": "PATCH .*/tickets/", "times": 1, "mode": "drop_after"}])
    thread = story.start(ticket=HIGH).thread_id
    story.run(5)
    assert ticket(story, thread)["properties"]["hs_ticket_priority"] == "HIGH"
    assert "ticket_refused" not in story.names()


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ([("a", 1)], TypeError),
        ({"a": ["b"]}, TypeError),
        ({"Priority!": "HIGH"}, ValueError),
        ({3: "HIGH"}, ValueError),
        ({"a": "x" * 5_001}, ValueError),
        ({f"p{n}": "x" for n in range(51)}, ValueError),
    ],
)
def test_l2_what_is_no_ticket_is_refused_before_anything_is_stored(
    open_desk: Open, wrong: Any, kind: type[Exception]
) -> None:
    story = open_desk()
    with pytest.raises(kind, match="ticket"):
        story.start(ticket=wrong)
    assert not story.is_active()


def test_l2_switched_off_it_is_said_at_once(open_desk: Open) -> None:
    story = open_desk(tickets=False)
    with pytest.raises(NotConfigured, match="HUBSPOT_HITL_TICKETS"):
        story.start(ticket=HIGH)
    assert not story.is_active()
    assert story.start(ticket={}).thread_id
    settings = state_of(story.app).settings
    assert "tickets" not in installations.wanted_scopes(settings, AppKind.PROJECT)


def test_l2_switched_on_the_scope_is_asked_for(make_app: MakeApp) -> None:
    settings = state_of(make_app(tickets="1")).settings
    wanted = installations.wanted_scopes(settings, AppKind.PROJECT)
    assert ("tickets" in wanted, "crm.objects.contacts.write" in wanted) == (True, False)


def first(story: Story, thread: str | None) -> str:
    return str(story.hubspot.thread(thread)["messages"][0]["text"])


def test_l1_facts_and_a_link_stand_in_the_first_message(open_desk: Open) -> None:
    story = open_desk()
    facts = {"Plan": "Pro", "Seats": 12, "Trial": False, "Churn\nrisk": "low\nlow", "Empty": "", "None": None}
    thread = story.start(title="Invoice", facts=facts, link="https://admin.example.com/users/7").thread_id
    told = first(story, thread).split("\n\n")
    assert told[1] == "Plan: Pro\nSeats: 12\nTrial: no\nChurn risk: low low\nLink: https://admin.example.com/users/7"


def test_l1_redact_sees_facts_and_history(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(
        clock=clock, dispatcher="inline", history="message", redact=lambda text: text.replace("4111", "[card]")
    )
    story = Story(app, hubspot, clock, record(app))
    thread = story.start(facts={"Card": "4111 1111"}, history=[("user", "my card is 4111")]).thread_id
    text = first(story, thread)
    assert "4111" not in text
    assert ("Card: [card] 1111" in text, "my card is [card]" in text) == (True, True)


def test_l1_redact_sees_the_history_before_it_is_cut(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    card = "4111 1111 1111 1234"
    app = make_app(
        clock=clock, dispatcher="inline", history="message", redact=lambda text: text.replace(card, "[card]")
    )
    story = Story(app, hubspot, clock, record(app))
    long = f"{'x' * 9_000} {card} {'y' * 9_975}"  # the cut falls into the number
    text = first(story, story.start(history=[("user", "hi"), ("user", long)]).thread_id)
    assert "1234" not in text
    assert "y" * 9_900 in text


def test_l1_a_redact_that_fails_leaves_nothing_behind(make_app: MakeApp, hubspot: HubSpot) -> None:
    def broken(text: str) -> Any:
        if text == "none":
            return None
        raise LookupError("no rules")

    app = make_app(dispatcher="inline", redact=broken)
    with app.app_context():
        for value, kind in (("x", LookupError), ("none", TypeError)):
            with pytest.raises(kind):
                HubSpotHITL().start("c1", contact="rosa@example.test", facts={"Plan": value})
        assert not HubSpotHITL().is_active("c1")
    assert hubspot.threads() == []


def test_l1_facts_keep_to_their_budget() -> None:
    text = render_facts({f"fact {n}": "é" * 600 for n in range(20)}, "https://example.com")
    *lines, more, link = text.splitlines()
    assert all(len(one) <= 520 and one.endswith("…") for one in lines)
    assert sum(len(one) + 1 for one in lines) <= FACTS_LIMIT
    assert (more, link) == (f"({20 - len(lines)} more facts left out)", "Link: https://example.com")
    assert render_facts({}, None) == render_facts(None, None) == ""


@pytest.mark.parametrize(
    ("facts", "link", "kind"),
    [
        ([("a", "b")], None, TypeError),
        ({"a": ["b"]}, None, TypeError),
        ({1: "b"}, None, TypeError),
        ({" ": "b"}, None, ValueError),
        ({"x" * 101: "b"}, None, ValueError),
        ({}, "http://example.com", ValueError),
        ({}, "javascript:alert(1)", ValueError),
        ({}, "https://example.com/" + "x" * 2_000, ValueError),
        ({}, 7, TypeError),
    ],
)
def test_l1_what_is_no_fact_and_no_link_is_refused(facts: Any, link: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        render_facts(facts, link)
