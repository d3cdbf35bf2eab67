"""Looking back by HubSpot's lists: what it costs, and that its result is that of a run that was never down."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, Message, message_delivered, operator_message
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.handoffs import rules
from flask_hubspot_hitl.handoffs.states import ToSweep
from flask_hubspot_hitl.handoffs.sweeps import HOUR_MS, SweepTask
from flask_hubspot_hitl.hubspot.client import HubSpotClient
from flask_hubspot_hitl.ledger import NewEvent, Topic, lanes

from .conftest import MakeApp, Serve
from .helpers import HubSpot, Json, Recorder, begin_handoff, state_of, wait_until
from .test_reconcile import reconcile, told

Record = Callable[[Flask], Recorder]


class Inbox:
    """An inbox with many threads: handoffs of ours, put straight into the ledger, and others."""

    def __init__(self, app: Flask, hubspot: HubSpot, clock: ManualClock) -> None:
        self.app = app
        self.hubspot = hubspot
        self.clock = clock
        self.state = state_of(app)
        hubspot.chaos(deliver=False)

    def strangers(self, count: int) -> None:
        """Threads of another channel."""
        self.hubspot.post("threads", count=count, channelId="1000")

    def ours(self, count: int) -> list[str]:
        """Open handoffs of ours; their threads."""
        threads: list[str] = self.hubspot.post("threads", count=count)["ids"]
        ledger = self.state.ledger
        with ledger.write() as tx:
            now = ledger.now_ms()
            for thread in threads:
                record = begin_handoff(tx, f"c{thread}", now=now)
                rules.opened(tx, record, thread_id=thread, timeout_ms=0, now=now)
                tx.delete_lane(lanes.signals(record.handoff))
        return threads

    def calls(self, look: Callable[[], object]) -> list[str]:
        """What was read from HubSpot during a look, but for agents' names and our channel's accounts."""
        before = len(self.hubspot.requests())
        look()
        found = [one["path"] for one in self.hubspot.requests()[before:] if one["method"] == "GET"]
        return [one for one in found if "/actors/" not in one and "/channel-accounts" not in one]

    def restart(self) -> None:
        """What a dispatcher does when it starts."""
        self.clock.advance(301)
        SweepTask(self.state.services).put_start()
        self.state.dispatcher.run_due()

    def hour(self) -> None:
        """An hour passes."""
        self.clock.advance(HOUR_MS / 1000)
        self.state.dispatcher.run_due()

    def command(self) -> None:
        reconcile(self.app)


@pytest.fixture
def inbox(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> Inbox:
    return Inbox(make_app(clock=clock, dispatcher="inline", rate_limit=100_000), hubspot, clock)


def move(hubspot: HubSpot, threads: list[str]) -> None:
    """Three threads: one with a message, one with another agent, one with a message and the end."""
    first, second, third = threads
    hubspot.act(first, "reply", text="one")
    hubspot.act(first, "reply", text="two")
    hubspot.act(second, "assign", actorId="A-988")
    hubspot.act(third, "reply", text="bye")
    hubspot.act(third, "close")


def heard(recorder: Recorder, threads: list[str]) -> list[list[tuple[str, str | None]]]:
    """The signals of each thread, with the message's text."""
    found: dict[str, list[tuple[str, str | None]]] = {thread: [] for thread in threads}
    for name, facts in recorder.calls:
        message = facts.get("message")
        if facts["handoff"].thread_id in found:
            found[facts["handoff"].thread_id].append((name, message and message.text))
    return list(found.values())


MOVED: list[list[tuple[str, str | None]]] = [
    [("operator_assigned", None), ("operator_message", "one"), ("operator_message", "two")],
    [("operator_assigned", None)],
    [("operator_assigned", None), ("operator_message", "bye"), ("conversation_completed", None)],
]


@pytest.mark.parametrize("page_size", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_a_look_at_a_thousand_handoffs_takes_thirty_calls(inbox: Inbox, record: Record, page_size: int) -> None:
    recorder = record(inbox.app)
    inbox.hubspot.chaos(page_size=page_size)
    threads = inbox.ours(1_000)
    for turn, look in enumerate((inbox.restart, inbox.hour, inbox.command)):
        moved = threads[turn * 300 : turn * 300 + 3]
        move(inbox.hubspot, moved)
        calls = inbox.calls(look)
        assert len(calls) <= 30, calls
        assert heard(recorder, moved) == MOVED
    assert len(recorder.calls) == 3 * sum(map(len, MOVED)), "nothing is told of the others"


def cost_of_a_look(inbox: Inbox, ours: int, strangers: int, page_size: int) -> int:
    """How many calls a restart takes with three moved threads, less what the reading of these needs."""
    inbox.hubspot.chaos(page_size=page_size)
    inbox.strangers(strangers)
    move(inbox.hubspot, inbox.ours(ours)[:3])
    calls = inbox.calls(inbox.restart)
    assert sum(one.endswith("/messages") for one in calls) == 3
    # The histories, the threads after them; and a glance at the one that is not on the list any more.
    return len(calls) - 7


@pytest.mark.parametrize(
    ("ours", "strangers", "page_size"),
    [
        (200, 4_300, 500),
        pytest.param(1_000, 20_000, 100, marks=pytest.mark.slow),
        pytest.param(1_000, 20_000, 500, marks=pytest.mark.slow),
    ],
)
def test_strangers_in_the_inbox_cost_no_more_than_their_pages(
    inbox: Inbox, ours: int, strangers: int, page_size: int
) -> None:
    assert cost_of_a_look(inbox, ours, strangers, page_size) <= (ours + strangers) // page_size


def test_where_the_list_is_dearer_our_threads_are_read_one_by_one(inbox: Inbox, record: Record) -> None:
    record(inbox.app)
    assert cost_of_a_look(inbox, 10, 4_000, 100) <= 2 * 10, "how long the list is, is not known yet"
    calls = inbox.calls(inbox.restart)
    assert len(calls) <= 10
    assert not any(one.endswith("/threads") for one in calls)


@pytest.mark.slow
def test_a_look_at_ten_thousand_handoffs_takes_three_hundred_calls(inbox: Inbox, record: Record) -> None:
    recorder = record(inbox.app)
    inbox.hubspot.chaos(page_size=100)
    moved = inbox.ours(10_000)[4_000:4_003]
    move(inbox.hubspot, moved)
    assert len(inbox.calls(inbox.restart)) <= 300
    assert heard(recorder, moved) == MOVED


def test_a_smaller_page_is_asked_for_where_hubspot_refuses_and_remembered(inbox: Inbox) -> None:
    inbox.ours(5)
    inbox.hubspot.chaos(faults=[{"match": "GET .*/threads$", "times": 1, "mode": "status", "status": 400}])
    assert len(inbox.calls(inbox.restart)) == 2
    assert len(inbox.calls(inbox.restart)) == 1
    asked = [one for one in inbox.hubspot.requests() if one["path"].endswith("/threads")]
    assert [one["query"]["limit"] for one in asked] == ["500", "100", "100"]


def test_without_the_list_every_thread_is_looked_at(inbox: Inbox, record: Record) -> None:
    recorder = record(inbox.app)
    threads = inbox.ours(5)
    inbox.hubspot.chaos(faults=[{"match": "GET .*/threads$", "times": None, "mode": "status", "status": 403}])
    move(inbox.hubspot, threads[:3])
    inbox.restart()
    assert heard(recorder, threads) == [*MOVED, [], []]


def test_a_difference_that_was_read_and_is_no_news_is_not_read_again(inbox: Inbox) -> None:
    """Another bridge wrote into the thread: its message is not ours to tell, and stays the newest."""
    threads = inbox.ours(3)
    client: HubSpotClient = inbox.state.services.client("424242")
    text = "from elsewhere"
    place = {"channelId": "100458", "channelAccountId": "880011", "senderActorId": "A-987"}
    body = {"type": "MESSAGE", "text": text, "richText": text, "attachments": [], **place, "recipients": []}
    client.call("POST", client.paths.thread_messages(threads[0]), doing="writing", body=body)
    inbox.restart()
    inbox.restart()  # who has the thread was news
    assert [one.rpartition("/")[2] for one in inbox.calls(inbox.restart)] == ["threads"]


# Where the budget of requests is short


@pytest.fixture
def poor(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> Inbox:
    """An inbox of an app with the default RATE_LIMIT."""
    return Inbox(make_app(clock=clock, dispatcher="inline"), hubspot, clock)


def test_a_look_that_has_to_wait_for_the_budget_goes_on_where_it_was(poor: Inbox, record: Record) -> None:
    recorder = record(poor.app)
    poor.hubspot.chaos(page_size=5)
    threads = poor.ours(550)
    moved = [threads[50], threads[250], threads[450]]
    move(poor.hubspot, moved)

    def look() -> None:
        poor.restart()
        for _ in range(4):
            poor.clock.advance(11)
            poor.state.dispatcher.run_due()

    calls = poor.calls(look)
    assert len([one for one in calls if one.endswith("/threads")]) == 110
    asked = [one["query"].get("after") for one in poor.hubspot.requests() if one["path"].endswith("/threads")]
    assert len(set(asked)) == 110, "no page is read twice"
    assert heard(recorder, moved) == MOVED


def test_a_thread_with_more_pages_than_the_budget_has_requests_is_read_to_its_end(poor: Inbox, record: Record) -> None:
    recorder = record(poor.app)
    threads = poor.ours(1)
    texts = [f"message {number}" for number in range(120)]
    for text in texts:
        poor.hubspot.act(threads[0], "reply", text=text)
    poor.hubspot.chaos(page_size=1)

    def look() -> None:
        poor.restart()
        for _ in range(6):
            poor.clock.advance(11)
            poor.state.dispatcher.run_due()

    calls = poor.calls(look)
    assert sum(one.endswith("/messages") for one in calls) < 130, "no page is read twice"
    assert [text for _, text in heard(recorder, threads)[0] if text is not None] == texts


def test_the_command_waits_for_the_budget(poor: Inbox, record: Record) -> None:
    recorder = record(poor.app)
    threads = poor.ours(80)
    move(poor.hubspot, threads[70:73])
    before = poor.clock.now_ms()
    assert reconcile(poor.app, "--all")["threads"] == 80
    assert poor.clock.now_ms() - before > 22_000, "160 calls, of which half a hundred go in eleven seconds"
    poor.state.dispatcher.run_due()
    assert heard(recorder, threads[70:73]) == MOVED
    assert lanes.doing.get() is lanes.Work.LIVE


def test_users_and_agents_are_not_kept_waiting_by_a_look(poor: Inbox, record: Record) -> None:
    record(poor.app)
    poor.hubspot.chaos(page_size=10)
    poor.ours(700)
    poor.restart()
    handoff = HubSpotHITL()
    with poor.app.app_context():
        for number in range(12):  # three calls each, in the very same seconds
            assert handoff.start(f"new-{number}", name="Rosa", contact="+34911222333").thread_id is not None


@pytest.mark.slow
@pytest.mark.parametrize("how", ["start", "hour", "command"])
def test_messages_are_as_quick_during_a_look_at_a_thousand_handoffs(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, record: Record, clock: ManualClock, how: str
) -> None:
    """Three threads have moved while nobody listened; RATE_LIMIT and threads are the default ones."""
    app = make_app(contact_policy="anonymous")
    inbox, recorder = Inbox(app, hubspot, clock), record(app)
    threads = inbox.ours(1_000)
    move(hubspot, threads[400:403])
    hubspot.chaos(deliver=True, drop_deliveries=True)
    hubspot.chaos(drop_deliveries=False)
    serve(app)
    talk = Talk(app, hubspot)
    quiet = talk.pairs(15)

    def look() -> None:
        if how == "command":
            inbox.command()
            return
        ledger = inbox.state.ledger
        told = ToSweep(at_start=how == "start").to_json()
        new = NewEvent(dedupe_key=how, lane=lanes.sweep(how), topic=Topic.SWEEP, sort_at=0, payload=told)
        with ledger.write() as tx:
            tx.queue.put([new], now=ledger.now_ms())
        inbox.state.dispatcher.wake()

    looking = threading.Thread(target=look)
    looking.start()
    during = talk.pairs(25)
    looking.join()
    wait_until(lambda: heard(recorder, threads[400:403]) == MOVED)
    medians = [statistics.median(took) for took in (quiet, during)]
    slowest = f"slowest {max(quiet):.3f} s, with a look {max(during):.3f} s"
    print(f"{how}: median {medians[0]:.3f} s, with a look {medians[1]:.3f} s; {slowest}")
    assert max(during) < 10, "which took half a minute when it waited for the budget"
    assert medians[1] <= 4 * medians[0]


class Talk:
    """A conversation, and how long its messages take."""

    def __init__(self, app: Flask, hubspot: HubSpot) -> None:
        self.app = app
        self.hubspot = hubspot
        self.hitl = HubSpotHITL()
        self.heard: dict[str, float] = {}
        operator_message.connect(self._heard, app)
        message_delivered.connect(self._heard, app)
        with app.app_context():
            self.thread = self.hitl.start("talk", name="Rosa").thread_id

    def _heard(self, app: Flask, *, message: Message, **extra: object) -> None:
        self.heard[message.text] = time.monotonic()

    def pairs(self, count: int) -> list[float]:
        """Pairs of a user's and an agent's message; the seconds that each took."""
        took = []
        for _ in range(count):
            user, agent = (f"{who} {len(self.heard)}" for who in ("user", "agent"))
            began = time.monotonic()
            with self.app.app_context():
                self.hitl.send("talk", user)
            wait_until(partial(self.heard.__contains__, user))
            took.append(self.heard[user] - began)
            began = time.monotonic()
            self.hubspot.act(self.thread, "reply", text=agent)
            wait_until(partial(self.heard.__contains__, agent))
            took.append(self.heard[agent] - began)
            time.sleep(0.4)
        return took


# Random histories

VERBS = ["reply", "assign", "unassign", "close", "reopen"]
SPACE_MS = 10_000


def history_of(rng: random.Random) -> tuple[list[Json], list[Json]]:
    """What happens while we hear of it, and then while we don't."""
    before: list[Json] = rng.choice([[], [{"verb": "assign", "actorId": "A-987"}], [{"verb": "reply", "text": "hi"}]])
    acts: list[Json] = []
    for number in range(rng.randint(0, 5)):
        verb = rng.choice(VERBS)
        who = {"actorId": rng.choice(["A-987", "A-988"])} if verb in ("assign", "reply") else {}
        acts.append({"verb": verb, **who, **({"text": f"message {number}"} if verb == "reply" else {})})
    if rng.random() < 0.15:
        acts.append({"verb": "archive"})
    return before, acts


def do(hubspot: HubSpot, thread: str, act: Json, *, at: int) -> None:
    hubspot.act(thread, act["verb"], **{name: one for name, one in act.items() if name != "verb"}, occurredAt=at)


def facts_of(thread: Json) -> tuple[Any, ...]:
    """All that a list tells of a thread."""
    names = ("status", "assignedTo", "archived", "latestMessageSentTimestamp")
    return tuple(thread.get(name) for name in names)


def compare(
    hubspot: HubSpot, clock: ManualClock, app: Flask, recorder: Recorder, seeds: range, *, exceptions: bool
) -> None:
    """Each history twice: once we hear of it, once we look back. By list all but what a list can't tell is told."""
    state = state_of(app)
    hitl = HubSpotHITL()
    histories = {seed: history_of(random.Random(seed)) for seed in seeds}
    hubspot.chaos(drop_deliveries=False)
    started: dict[str, str] = {}
    with app.app_context():
        for seed in seeds:
            for side in ("up", "down"):
                started[f"{side}{seed}"] = str(hitl.start(f"{side}{seed}", name="Rosa").thread_id)

    def is_quiet() -> bool:
        with state.ledger.read() as tx:
            return hubspot.pending() == 0 and tx.status(now=state.ledger.now_ms())["pending"] == 0

    at = state.ledger.now_ms() + 1_000
    for number in range(8):  # each act is heard of before the next one
        for seed, (before, acts) in histories.items():
            for side, heard_of in (("up", [*before, *acts]), ("down", before)):
                if number < len(heard_of):
                    do(hubspot, started[f"{side}{seed}"], heard_of[number], at=at + number * SPACE_MS)
        wait_until(is_quiet)
    known = {name: facts_of(hubspot.thread(thread)) for name, thread in started.items()}
    hubspot.chaos(drop_deliveries=True)
    for seed, (before, acts) in histories.items():
        for number, act in enumerate(acts, start=len(before)):
            do(hubspot, started[f"down{seed}"], act, at=at + number * SPACE_MS)
    clock.advance(120)  # all that is past now
    reconcile(app)
    hidden = {seed for seed in seeds if facts_of(hubspot.thread(started[f"down{seed}"])) == known[f"down{seed}"]}
    differ = [seed for seed in seeds if told(recorder, f"down{seed}") != told(recorder, f"up{seed}")]
    assert not {seed: histories[seed] for seed in differ if seed not in hidden}
    reconcile(app, "--all")
    wrong = {seed: histories[seed] for seed in seeds if told(recorder, f"down{seed}") != told(recorder, f"up{seed}")}
    assert not wrong
    assert reconcile(app, "--all")["events"] == 0
    clock.advance(-120)
    assert hidden or not exceptions, "no history was of those that a list can't tell"


@pytest.fixture
def served(make_app: MakeApp, serve: Serve, clock: ManualClock, record: Record) -> tuple[Flask, Recorder]:
    app = make_app(clock=clock, dispatcher="inline", rate_limit=100_000, contact_policy="anonymous")
    recorder = record(app)
    serve(app)
    return app, recorder


def test_looking_back_equals_a_run_that_was_never_down(
    served: tuple[Flask, Recorder], hubspot: HubSpot, clock: ManualClock
) -> None:
    compare(hubspot, clock, *served, range(20), exceptions=True)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(20, 520, 50))
def test_looking_back_equals_a_run_that_was_never_down_in_many_histories(
    first: int, served: tuple[Flask, Recorder], hubspot: HubSpot, clock: ManualClock
) -> None:
    """Few at a time: the clock stands still here, and HubSpot's does not; a webhook of five minutes is refused."""
    compare(hubspot, clock, *served, range(first, first + 50), exceptions=False)


# The slow proof


def test_what_no_list_tells_is_told_within_a_day(inbox: Inbox, record: Record) -> None:
    recorder = record(inbox.app)
    threads = inbox.ours(12)
    inbox.restart()
    for thread in threads[:2]:
        inbox.hubspot.act(thread, "close", occurredAt=inbox.clock.now_ms() + 10_000)
        inbox.hubspot.act(thread, "reopen", occurredAt=inbox.clock.now_ms() + 20_000)
    inbox.clock.advance(60)
    inbox.restart()
    inbox.command()
    assert recorder.calls == [], "a list can't tell"
    bites = []
    for _ in range(25):
        before = len(inbox.hubspot.requests())
        inbox.hour()
        inbox.clock.advance(3_590)  # the rest of the hour's readings
        inbox.state.dispatcher.run_due()
        inbox.clock.advance(-3_590)
        bites.append(sum(one["path"].endswith("/messages") for one in inbox.hubspot.requests()[before:]))
    ended_and_back: list[tuple[str, str | None]] = [("conversation_completed", None), ("conversation_reopened", None)]
    assert heard(recorder, threads) == [*[ended_and_back] * 2, *[[]] * 10]
    assert max(bites) < 8, "in small bites"
