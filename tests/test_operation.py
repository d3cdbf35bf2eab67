"""What an operator does and sees: ``status``, ``handoffs``, ``dead``, ``adopt``, and how long things are kept."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import Result
from flask import Flask

from flask_hubspot_hitl import DeliveryDelayed, HubSpotHITL, assignment_timed_out, operator_message
from flask_hubspot_hitl._version import __version__
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.housekeeping import EVERY_MS
from flask_hubspot_hitl.errors import CallPostponed
from flask_hubspot_hitl.handoffs.history import privacy_deletion
from flask_hubspot_hitl.ledger import SCHEMA, EventState, NewEvent, lanes

from .conftest import MakeApp
from .databases import slow_on_postgresql
from .helpers import HubSpot, Recorder, state_of, wait_until
from .story import Story

Record = Callable[[Flask], Recorder]
DAY = 86_400
OLD, NEW = "http://127.0.0.1:5000", "http://127.0.0.1:5001"


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def command(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["hubspot-hitl", *arguments])


def told(app: Flask, *arguments: str) -> Any:
    """What a command says to machines."""
    answer = command(app, *arguments, "--json")
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


# --- dead ------------------------------------------------------------------------------------------------


def test_all_that_was_given_up_is_tried_again_while_others_write(make_app: MakeApp, clock: ManualClock) -> None:
    app = make_app(clock=clock, dispatcher="external")
    ledger = state_of(app).ledger
    new = [NewEvent(dedupe_key=f"k{n}", lane=lanes.outbound(str(n % 5)), topic="t", sort_at=n) for n in range(250)]
    with ledger.write() as tx:
        tx.queue.put(new, now=0)
        tx._connection.execute(sa.text(f"UPDATE hitl_event SET state = {EventState.DEAD:d} WHERE topic = 't'"))
        assert tx.count(EventState.DEAD) == 250
        others = tx.count(EventState.PENDING)
    stop, slowest = threading.Event(), []

    def write() -> None:
        while not stop.is_set():
            began = time.monotonic()
            with ledger.write() as tx:
                tx.set_meta("here", str(began))
            slowest.append(time.monotonic() - began)

    other = threading.Thread(target=write)
    other.start()
    answer = command(app, "dead", "retry", "--all")
    stop.set()
    other.join()
    assert answer.stdout == "250 events will be tried again.\n"
    assert len(slowest) > 20, "each event is put back in a transaction of its own"
    with ledger.read() as tx:
        assert (tx.count(EventState.DEAD), tx.count(EventState.PENDING)) == (0, 250 + others)


# --- status ----------------------------------------------------------------------------------------------


def test_status_of_a_quiet_app(story: Story) -> None:
    assert told(story.app, "status") == {
        "pending": 0,
        "oldest_pending_seconds": None,
        "waits": [],
        "budgets": [],
        "leased": 0,
        "parked": 0,
        "done": 0,
        "dead": 0,
        "quarantined": 0,
        "hung_lanes": [],
        "hung_by_process": {},
        "full_processes": [],
        "bridges_refused": [],
        "nothing_is_dispatched": None,
        "not_writable": None,
        "handoffs": {},
        "version": __version__,
        "processes": [],
        "last_webhook_at": None,
        "last_error": None,
    }
    assert command(story.app, "status").stdout.splitlines() == [
        "Dispatching   yes, in the caller",
        "Waiting       nothing",
        "At work       nothing",
        "Stuck         nothing",
        "Given up      nothing",
        "Handoffs      none",
        "Last webhook  none yet",
        "Last error    none",
        f"Version       {__version__}",
    ]


def test_status_tells_what_waits_what_is_stuck_and_what_was_given_up(story: Story, database_url: str) -> None:
    def fail(sender: Flask, **extra: Any) -> None:
        raise RuntimeError

    thread = story.start("c1").thread_id
    event = story.write(thread)
    story.post({**event, "message": {**event["message"], "conversationsThreadId": "999"}})
    with operator_message.connected_to(fail, story.app):
        story.says(thread)
        story.clock.advance(7)
        story.hubspot.chaos(faults=[{"match": ".", "times": None, "status": 503}])
        story.start("c2")
        story.status("888", "CLOSED", at=story.now)
        with story.state.ledger.write() as tx:
            lease = tx.queue.claim_lane(f"in:424242:{thread}", owner="me", now=story.now, ttl_ms=15_000)
            assert lease is not None
            tx.queue.mark_hung(lease, now=story.now)
        facts = told(story.app, "status")
        said = command(story.app, "status").stdout
    assert facts["oldest_pending_seconds"] == 7
    expected = {"leased": 1, "parked": 1, "dead": 1, "quarantined": 0, "hung_lanes": [f"in:424242:{thread}"]}
    assert {name: facts[name] for name in expected} == expected
    assert facts["handoffs"] == {"starting": 1, "waiting": 1}
    assert f"Waiting       {facts['pending']} events, the oldest for 7 s" in said
    assert f"Stuck         a handler hangs in thread {thread} of portal 424242" in said
    assert "Given up      1 event; see 'flask hubspot-hitl dead list'" in said
    assert "Held back     1 event of threads not known yet" in said
    assert re.search(r"Last webhook  20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC, \d+ s ago", said)
    assert "Last error    20" in said
    assert "answered 503" in said.partition("Last error")[2]
    assert not re.search("(?i)lane|leased|parked|\\bfed\\b|quarantined", said)


def test_status_and_the_log_say_when_nobody_listens(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(clock=clock, dispatcher="inline")
    recorder = Recorder(app)
    recorder.close()
    story = Story(app, hubspot, clock, recorder)
    thread = story.start("c1").thread_id
    story.clock.advance(60)
    assert "No receiver is connected to operator_assigned" not in caplog.text
    story.client.get("/")
    assert "No receiver is connected to operator_assigned, operator_message, conversation_completed" in caplog.text
    caplog.clear()
    story.client.get("/")
    assert caplog.text == ""
    story.says(thread)
    assert "No receiver is connected to operator_message" in caplog.text
    assert "no receiver is connected" in told(app, "status")["nothing_is_dispatched"]
    assert "Dispatching   no: no receiver is connected" in command(app, "status").stdout
    with operator_message.connected_to(print, app):
        assert told(app, "status")["nothing_is_dispatched"] is None


def test_status_tells_which_class_waits_for_how_long_and_for_what(make_app: MakeApp, clock: ManualClock) -> None:
    app = make_app(clock=clock, dispatcher="inline", rate_limit=20, attachment_hosts="127.0.0.1")
    state = state_of(app)
    client = state.services.client("424242")
    clock.advance((1000.5 - clock.now_ms() % 1000) / 1000)  # a second begins
    now = clock.now_ms()
    with lane_of_work(lanes.Work.LOOKING_BACK), contextlib.suppress(CallPostponed):
        for _ in range(20):
            client.inboxes()
    events = [
        ("out:h1", "publish", "fetching a file: not asked, files.example.com answers slowly"),
        ("out:h2", "publish", "fetching a file: not asked, files.example.com answers slowly"),
        ("receipt:h1", "receipt", "setting the status of a message: not asked, HubSpot is down"),
        ("reconcile:portal:1", "look-back", "listing threads: not asked, the budget of requests is spent on messages"),
        ("reconcile:hourly", "reconcile-all", "until the next hour"),
        ("in:1:2", "message", None),
    ]
    with state.ledger.write() as tx:
        for lane, topic, error in events:
            new = NewEvent(dedupe_key=f"{lane}:1", lane=lane, topic=topic, sort_at=now, due_at=now, error=error)
            tx.queue.put([new], now=now)
            if error is not None:
                lease = tx.queue.claim_lane(lane, owner="me", now=now, ttl_ms=1)
                assert lease is not None
                tx.queue.release(lease, now=now, due_at=now + 12_000)
    clock.advance(3)
    said = command(app, "status").stdout.splitlines()
    assert "Budget        portal 424242: spent on looking back 5, messages 1, of 20; there is more in 8 s" in said
    assert said[-6:] == [
        "",
        "Class         Events  Oldest for  Tried again in  Why",
        "messages      2       3 s         9 s             files.example.com answers slowly",
        "messages      1       3 s         –               no thread has taken it yet",
        "receipts      1       3 s         9 s             HubSpot is down",
        "looking back  1       3 s         9 s             the budget of requests is spent on messages",
    ]
    facts = told(app, "status")
    assert facts["waits"][0] == {
        "class": "messages",
        "events": 2,
        "seconds": 3,
        "why": "files.example.com answers slowly",
        "next_seconds": 9,
    }


class Busy(DeliveryDelayed):
    """As a bridge raises it."""

    is_failure = False


def test_a_receiver_that_puts_a_message_off_is_asked_again_as_soon_as_it_says(story: Story) -> None:
    asked: list[int] = []

    def put_off(sender: Flask, **extra: Any) -> None:
        asked.append(story.now)
        raise Busy("telling Botpress: not asked, Botpress answers slowly", retry_after=2)

    thread = story.start("c1").thread_id
    with operator_message.connected_to(put_off, story.app):
        story.says(thread)
        for _ in range(8):
            story.run(2)
        assert [later - sooner for sooner, later in itertools.pairwise(asked)] == [2_000] * 8
        (one,) = told(story.app, "status")["waits"]
    assert (one["class"], one["why"]) == ("messages", "Botpress answers slowly")


def test_what_waits_for_a_mended_receiver_is_tried_again_at_once(story: Story) -> None:
    asked: list[int] = []
    is_mended = False

    def show(sender: Flask, **extra: Any) -> None:
        asked.append(story.now)
        if not is_mended:
            raise RuntimeError("what the user says")

    thread = story.start("c1").thread_id
    with operator_message.connected_to(show, story.app):
        assert command(story.app, "retry").stdout == "Nothing waits for its next attempt.\n"
        story.says(thread)
        while len(asked) < 6:
            story.run(60)
        facts = told(story.app, "status")
        where = f"{show.__module__}:{show.__qualname__} raised RuntimeError"
        assert (facts["last_error"]["error"], facts["waits"][0]["why"]) == (where, where)
        is_mended = True
        story.run(1)
        assert len(asked) == 6, "its time has not come"
        assert command(story.app, "retry").stdout == "1 queue will be tried again now.\n"
        story.run(0)
        assert len(asked) == 7
        assert command(story.app, "retry").stdout == "Nothing waits for its next attempt.\n"
    assert told(story.app, "status")["waits"] == []


def test_a_timer_whose_receiver_is_mended_is_tried_again_at_once(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="inline", assignment_timeout=60)
    story = Story(app, hubspot, clock, record(app))
    asked: list[int] = []

    def give_back(sender: Flask, **extra: Any) -> None:
        asked.append(story.now)
        if len(asked) < 8:
            raise RuntimeError

    with assignment_timed_out.connected_to(give_back, app):
        story.start("c1")
        story.run(30)
        assert command(app, "retry").stdout == "Nothing waits for its next attempt.\n", "its time has not come"
        while len(asked) < 7:
            story.run(60)
        (one,) = told(app, "status")["waits"]
        assert one["why"] == f"{give_back.__module__}:{give_back.__qualname__} raised RuntimeError"
        assert command(app, "retry").stdout == "1 queue will be tried again now.\n"
        story.run(0)
        assert len(asked) == 8
    assert told(app, "status")["waits"] == []


def test_a_second_look_a_day_later_is_not_hastened(story: Story) -> None:
    story.start("c1")
    with story.app.app_context():
        handoff = HubSpotHITL().get("c1")
    assert handoff is not None
    later = privacy_deletion(handoff, "4711", now=story.now)
    ledger = story.state.ledger
    with ledger.write() as tx:
        tx.queue.put([later], now=story.now)
    assert command(story.app, "retry").stdout == "Nothing waits for its next attempt.\n"
    with ledger.write() as tx:
        assert tx.queue.hasten(str(later.lane), now=story.now), "however that came about"
    story.run(1)
    with story.app.app_context():
        assert HubSpotHITL().get("c1") is not None, "HubSpot may have archived it a moment ago"
    story.run(86_400)
    with story.app.app_context():
        assert HubSpotHITL().transcript("c1") == []
        assert HubSpotHITL().get("c1") is None


def test_a_receiver_that_fails_is_tried_later_and_later_beside_one_that_is_put_off(story: Story) -> None:
    """Each goes by its own time."""
    asked: dict[str, list[int]] = {"put off": [], "fails": []}

    def put_off(sender: Flask, **extra: Any) -> None:
        asked["put off"].append(story.now)
        raise Busy("telling Botpress: not asked, Botpress answers slowly", retry_after=2)

    def fail(sender: Flask, **extra: Any) -> None:
        asked["fails"].append(story.now)
        raise RuntimeError

    thread = story.start("c1").thread_id
    with operator_message.connected_to(put_off, story.app), operator_message.connected_to(fail, story.app):
        story.says(thread)
        for _ in range(120):
            story.run(1)
    assert 50 < len(asked["put off"]) < 70
    assert 6 < len(asked["fails"]) < 12
    assert asked["fails"][-1] - asked["fails"][-2] > 20_000
    assert told(story.app, "dead", "list") == []


def test_a_receiver_that_is_put_off_is_not_called_one_that_raised(story: Story) -> None:
    calls: list[str] = []

    def put_off(sender: Flask, **extra: Any) -> None:
        raise Busy("telling Botpress: not asked, Botpress answers slowly", retry_after=60)

    def fail_once(sender: Flask, **extra: Any) -> None:
        calls.append("fail_once")
        if len(calls) == 1:
            raise RuntimeError

    thread = story.start("c1").thread_id
    with operator_message.connected_to(put_off, story.app), operator_message.connected_to(fail_once, story.app):
        story.says(thread)
        assert told(story.app, "status")["waits"][0]["why"].endswith("fail_once raised RuntimeError")
        for _ in range(10):
            story.run(1)
        assert len(calls) == 2
        (one,) = told(story.app, "status")["waits"]
    assert one["why"] == "the time of a receiver that was put off has not come"


@contextlib.contextmanager
def lane_of_work(work: lanes.Work) -> Iterator[None]:
    """As in a lane of that class."""
    reset = lanes.doing.set(work)
    yield
    lanes.doing.reset(reset)


def test_handoffs_lists_the_newest_first(story: Story) -> None:
    assert command(story.app, "handoffs").stdout == "No handoffs yet.\n"
    thread = story.start("c1").thread_id
    story.assigned(thread, "A-988", at=story.now)
    story.clock.advance(60)
    story.start("c2")
    story.stop("c2")
    second, first = told(story.app, "handoffs")
    assert (second["conversation_id"], second["state"], second["reason"]) == ("c2", "closed", "user")
    assert (first["thread_id"], first["state"], first["operator"]) == (thread, "assigned", "A-988")
    said = command(story.app, "handoffs").stdout.splitlines()
    assert said[0].split("  ")[0] == "Opened (UTC)"
    assert re.fullmatch(r"20[\d-]{8} [\d:]{8}  closed    c2 +Rosa +– +\d+ +user", said[1])
    assert "Teo Lindqvist" in said[2], "an agent by name"
    assert len(command(story.app, "handoffs", "--limit", "1").stdout.splitlines()) == 2


# --- a copied database -----------------------------------------------------------------------------------


def test_a_copied_database_is_dispatched_only_when_it_is_adopted(
    make_app: MakeApp,
    hubspot: HubSpot,
    clock: ManualClock,
    record: Record,
    caplog: pytest.LogCaptureFixture,
    database_url: str,
) -> None:
    def app_at(url: str, mode: str = "external") -> Flask:
        return make_app(clock=clock, dispatcher=mode, public_url=url)

    production = app_at(OLD)
    assert command(production, "tick").exit_code == 0
    story = Story(production, hubspot, clock, Recorder(Flask("nobody")))
    thread = story.start().thread_id
    assert story.send("not yet published")
    story.says(thread, "not yet told")

    copy = app_at(NEW)
    refused = command(copy, "tick")
    assert refused.exit_code == 1
    assert OLD in refused.output
    assert "flask hubspot-hitl adopt" in refused.output
    running = app_at(NEW, "thread")
    recorder = record(running)
    state_of(running).dispatcher.ensure_started()
    wait_until(lambda: "Nothing is dispatched" in caplog.text)
    assert recorder.names() == []
    assert "not yet published" not in str(hubspot.thread(thread))
    begun = Story(running, hubspot, clock, recorder).start("c2")
    assert (begun.state.value, len(hubspot.threads())) == ("starting", 1), "nothing is opened either"

    adopted = command(copy, "adopt")
    assert adopted.exit_code == 0
    assert f"Adopted for {NEW} (before: {OLD})." in adopted.output
    wait_until(lambda: {"operator_message", "message_delivered"} <= set(recorder.names()))
    assert command(app_at(OLD), "tick").exit_code == 1, "now the other one is the copy"


def test_a_domain_that_moves_need_not_be_adopted(make_app: MakeApp, clock: ManualClock, sqlite_url: str) -> None:
    for urls in (OLD, f"{NEW},{OLD}", NEW):
        assert command(make_app(clock=clock, dispatcher="external", public_url=urls), "tick").exit_code == 0, urls


# --- how long things are kept ----------------------------------------------------------------------------


def kept(database_url: str, condition: str) -> int:
    """How many events are stored."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SET search_path TO {SCHEMA}"))
        return int(connection.scalar(sa.text(f"SELECT count(*) FROM hitl_event WHERE {condition}")) or 0)


def busy(app: Flask) -> bool:
    facts = told(app, "status")
    return bool(facts["pending"] or facts["leased"])


@slow_on_postgresql
def test_payloads_go_after_their_time_and_keys_stay(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str
) -> None:
    app = make_app(clock=clock, dispatcher="thread", payload_ttl=3600, retention=7 * DAY, public_url=OLD)
    recorder = record(app)
    story = Story(app, hubspot, clock, recorder)
    thread = story.start().thread_id
    event = story.says(thread, "my secret")
    recorder.wait_for("operator_message")

    def pass_time(seconds: float) -> None:
        """Once nothing is under way: what is begun before and ended afterwards counts from then."""
        wait_until(lambda: kept(database_url, "topic = 'prune'") == 1 and not busy(app))
        clock.advance(seconds + EVERY_MS / 1000)

    def heard(count: int) -> None:
        """Time goes on meanwhile: what is asked again later is not waited for in vain."""

        def so_many() -> bool:
            clock.advance(1)
            return len(recorder.of("operator_message")) >= count

        wait_until(so_many)

    assert kept(database_url, "payload LIKE '%my secret%'") >= 1

    pass_time(3_601)
    wait_until(lambda: kept(database_url, "payload LIKE '%my secret%'") == 0, what="the payload to go")
    story.post(event)
    story.says(thread, "another", at=story.now)
    heard(2)

    pass_time(7 * DAY)
    wait_until(lambda: kept(database_url, "lane LIKE 'in:%'") == 0, what="the keys to go")
    story.post(event)
    story.says(thread, "and another", at=story.now)
    heard(3)
    texts = [one["message"].text for one in recorder.of("operator_message")]
    assert texts == ["my secret", "another", "and another"], "a known one, and one older than the keys, are ignored"


def test_a_dead_letter_is_taken_off_the_list_and_nothing_is_sent(make_app: MakeApp) -> None:
    app = make_app(dispatcher="inline")
    with state_of(app).ledger.write() as tx:
        new = NewEvent(dedupe_key="k", topic="message", lane=None, sort_at=1, state=EventState.QUARANTINED)
        tx.queue.put([new], now=state_of(app).ledger.now_ms())
    [event] = told(app, "dead", "list")
    assert command(app, "dead", "discard", str(event["id"])).output == "1 event taken off the list.\n"
    assert command(app, "dead", "list").output == "Nothing was given up.\n"
    assert "Not dead" in command(app, "dead", "discard", str(event["id"])).output
    assert command(app, "dead", "discard", "7777").output.startswith("0 events taken off the list.\n")
