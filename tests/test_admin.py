"""The admin's pages: nothing without the host's word, what they show, and what their buttons do."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, abort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_hubspot_hitl import Contact, HubSpotHITL, Message
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.signals import operator_message
from flask_hubspot_hitl.web.admin import METHODS, VIEWS
from flask_hubspot_hitl.web.pages import HEADERS

from .conftest import MakeApp
from .helpers import HubSpot, Recorder, state_of
from .people_helpers import CANARIES, PHONE, command, fill
from .story import Story

MakeStory = Callable[..., Story]
ADDRESSES = [re.sub("<.*>", "1", f"/hubspot{rule}") for rule in VIEWS]


@pytest.fixture
def make_story(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Callable[[Flask], Recorder]
) -> MakeStory:
    def make(may: Any = lambda: "sam@acme.test", **config: Any) -> Story:
        given = {"dispatcher": "inline", "max_attempts": 1, "SECRET_KEY": "s", "contact_policy": "create", **config}
        app = make_app(clock=clock, may_administer=may, **given)
        return Story(app, hubspot, clock, record(app))

    return make


@pytest.fixture
def story(make_story: MakeStory) -> Story:
    return make_story()


def get(story: Story, place: str) -> str:
    """What a page says, without markup."""
    answer = story.client.get(f"/hubspot/admin{place}")
    assert answer.status_code == 200, answer.text
    for name, value in HEADERS.items():
        assert answer.headers[name] == value
    assert "<script" not in answer.text
    assert not re.search(r"\son\w+=|style=", answer.text)
    return words(answer)


def words(answer: TestResponse) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", answer.text)).split())


def links(story: Story, place: str) -> list[str]:
    """Where the tables of a page lead, as places of the admin's."""
    page = story.client.get(f"/hubspot/admin{place}").text.partition("<main>")[2]
    return [f"/{html.unescape(one)}" for one in re.findall(r'href="(?:\.\./)*admin/([^"]*)"', page)]


def press(story: Story, place: str, **more: str) -> TestResponse:
    """Press the button of a page."""
    page = story.client.get(f"/hubspot/admin{place}")
    found = re.search(r'<form method="post" action="([^"]*)">(.*?)</form>', page.text, re.DOTALL)
    assert found, page.text
    fields = {name: html.unescape(one) for name, one in re.findall(r'name="([^"]*)" value="([^"]*)"', found[2])}
    assert re.sub(r"^(\.\./)+", "", found[1]) == "admin/dead"
    return story.client.post("/hubspot/admin/dead", data=fields | more)


class Handler:
    """A handler of the host's, which fails while it is broken."""

    def __init__(self) -> None:
        self.is_broken = True
        self.heard: list[str] = []

    def __call__(self, sender: Flask, message: Message, **extra: Any) -> None:
        if self.is_broken:
            raise RuntimeError("a quokka")
        self.heard.append(message.text)


def die(story: Story, *conversations: str) -> Handler:
    """Have an agent's message given up in each conversation; the handler, which is mended and heard of from now on."""
    handler = Handler()
    operator_message.connect(handler, story.app, weak=False)
    for one in conversations or ("c1",):
        story.says(story.start(one).thread_id, "Zanzibar")
    handler.is_broken = False
    return handler


# Who is let in -------------------------------------------------------------------------------------------------


def test_there_is_nothing_of_it_without_the_hosts_word(make_app: MakeApp) -> None:
    app = make_app(dispatcher="inline", SECRET_KEY="s")
    assert "admin" not in str(app.url_map)
    client = app.test_client()
    nothing = client.get("/hubspot/nothing-of-ours")
    for address in ADDRESSES:
        for method in METHODS:
            answer = client.open(address, method=method)
            assert (answer.status_code, answer.text) == (404, "" if method == "HEAD" else nothing.text)


@pytest.mark.parametrize("answer", [False, None, "", 0])
def test_whoever_is_not_let_in_finds_nothing_whatever_he_asks_with(make_story: MakeStory, answer: Any) -> None:
    story = make_story(lambda: answer)
    nothing = story.client.get("/hubspot/nothing-of-ours")
    for address in ADDRESSES:
        for method in METHODS:
            found = story.client.open(address, method=method)
            assert (found.status_code, found.text) == (404, "" if method == "HEAD" else nothing.text), method
            assert sorted(found.headers.keys()) == sorted(nothing.headers.keys())


def test_the_host_may_answer_in_its_own_way(make_story: MakeStory) -> None:
    async def later() -> str | None:
        return None

    assert make_story(later, name="one").client.get("/hubspot/admin").status_code == 404
    assert make_story(lambda: abort(401), name="two").client.get("/hubspot/admin").status_code == 401


def test_an_app_without_live_agents_has_none() -> None:
    app = Flask("off")
    app.config["HUBSPOT_HITL_ENABLED"] = "0"
    HubSpotHITL(app, may_administer=lambda: True)
    assert app.test_client().get("/hubspot/admin").status_code == 404


def test_what_is_let_in_may_do_no_more_than_the_pages_are_for(story: Story) -> None:
    assert story.client.open("/hubspot/admin", method="OPTIONS").status_code == 405
    answer = story.client.delete("/hubspot/admin/dead")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


# What they show ------------------------------------------------------------------------------------------------


def test_every_page_is_there_on_both_databases(make_story: MakeStory, database_url: str) -> None:
    story = make_story()
    for place in ("", "/handoffs", "/dead", "/portals", "/audit"):
        get(story, place)
    die(story)
    assert "Dispatching yes, in the caller" in get(story, "")
    assert "Given up 1 event Handoffs" in get(story, "")
    [handoff] = [one for one in links(story, "/handoffs") if one.startswith("/handoffs/")]
    assert "message given up event" in get(story, handoff)
    assert press(story, "/dead/" + links(story, "/dead")[0].rpartition("/")[2]).status_code == 303
    assert "sam@acme.test retry" in get(story, "/audit")
    for query in ("/handoffs?q=c1", f"/handoffs?q={PHONE}&state=open", "/handoffs?q=%00%ff&before=9"):
        get(story, query)


def test_a_timeline_has_every_event_with_hubspots_correlation_id_and_no_word_that_was_said(story: Story) -> None:
    thread = fill(story)
    story.assigned(thread, at=story.now)
    story.hubspot.chaos(faults=[{"match": "/messages", "times": 1, "status": 429}])
    story.send("quokka?", f"wa:{PHONE}", message_id="m-2")
    with story.state.ledger.read() as tx:
        [failed] = [one for one in tx.waiting_events() if one["topic"] == "publish"]
    refused = next(one["response_body"] for one in reversed(story.hubspot.requests()) if one.get("fault") == "status")
    assert failed["correlation_id"] == refused["correlationId"]
    [place] = [one for one in links(story, "/handoffs") if one.startswith("/handoffs/")]
    waiting = get(story, place)
    assert "HubSpot's correlation id " + refused["correlationId"] in waiting
    story.run(700)
    page = get(story, place)
    assert refused["correlationId"] not in page, "the next call has another one"
    for what in ("handoff opened", "handoff assigned agent A-987", "open done", "publish done", "message of operator"):
        assert what in page, what
    assert "by hand retry" in page
    assert len(re.findall("HubSpot's correlation id", page)) >= 3
    assert [one for one in (*CANARIES[1:3], "picture", "Where is") if one in page] == []


def test_an_erasure_and_an_export_have_what_the_pages_are_made_of(story: Story) -> None:
    fill(story)
    document = command(story, "export", "--phone", PHONE)
    assert [one["what"] for one in document["audit"]] == ["retry"]
    named = [one["correlation_id"] for one in document["events"] if one["correlation_id"]]
    assert named
    [handoff] = document["handoffs"]
    command(story, "erase", "--phone", PHONE, "--yes", "--json")
    story.run(700)
    said = [get(story, place) for place in ("", "/handoffs", "/dead", "/portals", "/audit")]
    everything = " ".join(said)
    assert [one for one in (*CANARIES, *named, handoff["id"], handoff["thread_id"]) if one in everything] == []
    assert story.client.get(f"/hubspot/admin/handoffs/{handoff['id']}").status_code == 404


@pytest.mark.parametrize(
    "text",
    ["wa:+34911222333", PHONE, "(+34) 911 222 333", "0034911222333", "thread", "handoff", "contact"],
)
def test_a_handoff_is_found_by_every_name_of_it(story: Story, text: str) -> None:
    mine = story.start("wa:+34911222333")
    story.start("c2", contact="Omar@example.test")
    with story.state.ledger.read() as tx:
        record = tx.records.get(mine.id)
    assert record is not None
    assert record.sender is not None
    named = {"thread": mine.thread_id, "handoff": mine.id, "contact": record.sender["contact_id"]}
    found = story.client.get("/hubspot/admin/handoffs", query_string={"q": named.get(text, text)}).text
    assert mine.id in found
    assert found.count("admin/handoffs/") == 1
    assert "omar" not in found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("+5215512345678", ["mexican"]),
        ("5215512345678", ["mexican"]),
        ("whatsapp:+5215512345678", ["mexican"]),
        ("5215512345678@c.us", ["mexican"]),
        ("+52 55 1234 5678", ["mexican"]),
        ("525512345678", ["mexican"]),
        ("+5511987654321", ["brazilian"]),
        ("+551187654321", ["brazilian"]),
        ("34911222333", ["named like a number", "spanish"]),
        ("+34911222333", ["spanish"]),
        ("911222333", []),
    ],
)
def test_a_number_is_found_in_every_form_and_an_id_of_digits_as_an_id(
    story: Story, text: str, wanted: list[str]
) -> None:
    names = {story.start("brazilian", contact="+551187654321").id: "brazilian"}
    names[story.start("mexican", contact=Contact(whatsapp="5215512345678")).id] = "mexican"
    names[story.start("spanish").id] = "spanish"
    names[story.start("34911222333", contact="omar@example.test").id] = "named like a number"
    found = story.client.get("/hubspot/admin/handoffs", query_string={"q": text}).text
    assert sorted(name for one, name in names.items() if one in found) == wanted


def test_a_search_by_address_and_by_state(story: Story) -> None:
    story.start("c2", contact="Omar@example.test")
    assert "c2" in get(story, "/handoffs?q=OMAR@example.test")
    story.stop("c2")
    assert "There is no such handoff" in get(story, "/handoffs?q=omar@example.test&state=open")
    assert "c2" in get(story, "/handoffs?q=omar@example.test&state=closed")
    assert "There is no such handoff" in get(story, "/handoffs?q=omar@example")


def test_long_lists_are_read_page_by_page(story: Story) -> None:
    for number in range(52):
        story.start(f"c{number}")
    first = links(story, "/handoffs?state=open")
    assert len(first) == 51
    second = links(story, first[-1])
    assert len(second) == 2
    assert len({*first[:-1], *second}) == 52


def test_portals_are_shown_without_their_tokens(make_story: MakeStory) -> None:
    story = make_story()
    story.start()
    page = get(story, "/portals")
    assert "424242" in page
    assert "last call to HubSpot 20" in page
    story.hubspot.chaos(faults=[{"match": "/messages", "times": 1, "status": 429}])
    story.send()
    assert "HubSpot answered 429" in get(story, "/portals")
    env = story.hubspot.env()
    assert [name for name, value in env.items() if re.search("TOKEN|SECRET|KEY", name) and value in page] == []


# What the buttons do -------------------------------------------------------------------------------------------


def test_retry_delivers_and_is_in_the_audit(story: Story) -> None:
    handler = die(story)
    [place] = links(story, "/dead")
    answer = press(story, place)
    assert (answer.status_code, answer.headers["Location"]) == (303, "dead?again=1&not_done=0")
    assert "1 event will be tried again." in get(story, "/dead?again=1&not_done=0")
    story.run()
    assert handler.heard == ["Zanzibar"]
    event = place.rpartition("/")[2]
    assert f"sam@acme.test retry {event}" in get(story, "/audit")
    assert "Nothing was given up." in get(story, "/dead")
    assert story.client.get(f"/hubspot/admin{place}").status_code == 404


def test_all_of_a_page_is_tried_again_once(story: Story) -> None:
    handler = die(story, "c1", "c2", "c3")
    page = story.client.get("/hubspot/admin/dead").text
    assert "Try these 3 again" in page
    assert press(story, "/dead").headers["Location"] == "dead?again=3&not_done=0"
    with story.state.ledger.read() as tx:
        assert len(tx.audit.newest(limit=9)) == 3
    story.run()
    assert handler.heard == ["Zanzibar"] * 3


def test_two_who_press_at_once_have_it_tried_once(story: Story) -> None:
    die(story, "c1", "c2")
    other, place = links(story, "/dead")
    assert press(story, place).status_code == 303
    answer = press(story, other, events=place.rpartition("/")[2])
    assert answer.headers["Location"] == "dead?again=0&not_done=1"
    assert "0 events will be tried again; 1 can't be" in get(story, "/dead?again=0&not_done=1")


def test_one_that_came_too_late_is_taken_off_the_list(story: Story) -> None:
    handler = die(story)
    [place] = links(story, "/dead")
    assert "Take it off the list" in get(story, place)
    assert press(story, place, do="discard").headers["Location"] == "dead?gone=1&not_done=0"
    assert "1 event taken off the list." in get(story, "/dead?gone=1&not_done=0")
    story.run()
    assert handler.heard == []
    assert f"sam@acme.test discard {place.rpartition('/')[2]}" in get(story, "/audit")
    assert "Nothing was given up." in get(story, "/dead")


def test_a_form_that_was_not_shown_to_this_browser_does_nothing(story: Story) -> None:
    die(story)
    [place] = links(story, "/dead")
    event = place.rpartition("/")[2]
    for form in ({}, {"form": ""}, {"form": "x.y"}):
        answer = story.client.post("/hubspot/admin/dead", data={"events": event, **form})
        assert answer.status_code == 400
        assert "This page is out of date" in words(answer)
    page = story.client.get(f"/hubspot/admin{place}").text
    token = re.findall(r'name="form" value="([^"]*)"', page)[0]
    other = story.app.test_client()
    other.get(f"/hubspot/admin{place}")
    assert other.post("/hubspot/admin/dead", data={"events": event, "form": token}).status_code == 400
    with story.state.ledger.read() as tx:
        assert tx.audit.newest(limit=9) == []
        assert len(tx.dead_events()) == 1


def test_flask_wtf_stays_out_of_the_way(story: Story) -> None:
    from flask_wtf.csrf import CSRFProtect

    CSRFProtect(story.app)
    die(story)
    [place] = links(story, "/dead")
    assert press(story, place).status_code == 303


def test_the_command_line_writes_the_same_audit(story: Story) -> None:
    die(story)
    assert story.app.test_cli_runner().invoke(args=["hubspot-hitl", "dead", "retry", "--all"]).exit_code == 0
    assert "command line retry" in get(story, "/audit")


@pytest.mark.parametrize(
    ("name", "shown"), [(True, "not said"), ("a\x00b\u202ec" + "d" * 300, "a\ufffdbc" + "d" * 196)]
)
def test_the_name_that_the_host_gives_is_kept_in_a_harmless_form(make_story: MakeStory, name: Any, shown: str) -> None:
    story = make_story(lambda: name)
    die(story)
    press(story, links(story, "/dead")[0])
    assert f" {shown} retry" in get(story, "/audit")


def test_it_says_so_while_the_database_is_away(story: Story) -> None:
    state_of(story.app).ledger.close()
    for address in ADDRESSES:
        answer = story.client.get(address)
        assert answer.status_code == 503, address
        assert "Please try again later" in words(answer)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from(["", "/handoffs", "/dead", "/portals", "/audit", "/dead/", "/handoffs/"]),
    tail=st.text(max_size=20) | st.integers().map(str),
    query=st.dictionaries(
        st.sampled_from(["q", "state", "before", "again", "gone", "not_done", "x"]),
        st.text(max_size=250) | st.integers().map(str) | st.just("9" * 30),
    ),
    form=st.dictionaries(st.sampled_from(["form", "events"]), st.text(max_size=60) | st.integers().map(str)),
)
def test_no_request_makes_it_fail(story: Story, place: str, tail: str, query: Any, form: Any) -> None:
    address = f"/hubspot/admin{place}{tail.replace('?', '') if place.endswith('/') else ''}"
    assert story.client.get(address, query_string=query).status_code in (200, 308, 404)
    assert story.client.post("/hubspot/admin/dead", query_string=query, data=form).status_code in (303, 400)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.text(max_size=80) | st.lists(st.integers(-1, 2**70), max_size=99).map(lambda one: str(one)[1:-1]))
def test_no_form_makes_it_fail(story: Story, events: str) -> None:
    with story.state.ledger.read() as tx:
        is_there = bool(tx.dead_events())
    if not is_there:
        die(story, f"c{story.now}")
    assert press(story, links(story, "/dead")[0], events=events.replace("\r", "")).status_code == 303
