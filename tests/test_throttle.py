"""Outbound care: the budget, the pause and the circuit that all processes share, and the look before a late repeat."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from flask_hubspot_hitl import HandoffState, HubSpotUnavailable
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot.client import HubSpotClient
from flask_hubspot_hitl.hubspot.options import ClientOptions, ConnectionOptions, OAuthOptions
from flask_hubspot_hitl.hubspot.tokens import RefreshingToken
from flask_hubspot_hitl.hubspot.transport import Availability
from flask_hubspot_hitl.ledger import Ledger
from flask_hubspot_hitl.portals.throttle import Permit, Throttle

from .conftest import MakeApp
from .databases import slow_on_postgresql
from .forked import Forked
from .helpers import PORTAL, HubSpot, Json, Recorder, seconds_of, state_of, wait_until
from .peers.http_peer import HttpPeer, Reply, Request
from .story import Story

Record = Callable[[Flask], Recorder]
Gate = Callable[..., Throttle]
PUBLISH = "POST .*/custom-channels/.*/messages$"


def fault(match: str = ".*", mode: str = "status", **more: object) -> Json:
    return {"match": match, "times": None, "mode": mode, "status": 503, **more}


@pytest.fixture
def gate(database_url: str, clock: ManualClock) -> Iterator[Gate]:
    """``gate(limit)``: the gate of one more process, as it were: each has a ledger of its own."""
    clock.advance((1000.5 - clock.now_ms() % 1000) / 1000)  # a second begins
    ledgers: list[Ledger] = []

    def make(limit: int = 10) -> Throttle:
        ledgers.append(Ledger(database_url, clock))
        ledgers[-1].create()
        return Throttle(ledgers[-1], PORTAL, limit)

    yield make
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def two(make_app: MakeApp, clock: ManualClock) -> tuple[HubSpotClient, HubSpotClient]:
    """The clients of two processes, as it were."""
    apps = [make_app(name=name, clock=clock, dispatcher="inline") for name in ("one", "two")]
    one, other = (state_of(app).services.client(PORTAL) for app in apps)
    for client in (one, other):
        client.inboxes()
    clock.advance(1)
    return one, other


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def asked(throttle: Throttle, times: int) -> int:
    """How many of so many requests may be sent."""
    count = 0
    for _ in range(times):
        with contextlib.suppress(HubSpotUnavailable):
            throttle.leave(throttle.enter("asking"), Availability.UP, None)
            count += 1
    return count


def answers(client: HubSpotClient) -> float | None:
    """None when HubSpot answered, else how long to wait."""
    try:
        client.inboxes()
    except HubSpotUnavailable as error:
        return error.retry_after if error.retry_after is not None else -1.0
    return None


# The budget


def test_processes_share_one_budget(gate: Gate, clock: ManualClock) -> None:
    one, other = gate(20), gate(20)
    assert asked(one, 8) + asked(other, 30) + asked(one, 30) == 20
    clock.advance(10)
    assert asked(one, 1) == 0
    clock.advance(1)
    assert asked(other, 15) + asked(one, 15) == 20


def test_no_ten_seconds_hold_more_than_the_budget(gate: Gate, clock: ManualClock) -> None:
    gates = [gate(15) for _ in range(3)]
    dice = random.Random(4)
    sent: list[int] = []
    for _ in range(150):
        clock.advance(dice.choice((0.0, 0.05, 0.4, 1.3)))
        sent += [clock.now_ms()] * asked(dice.choice(gates), dice.randrange(6))
    assert max(sum(at <= one < at + 10_000 for one in sent) for at in sent) == 15
    assert len(sent) > 0.8 * 15 * (sent[-1] - sent[0]) / 11_000, "and most of it can be used"


def test_what_a_process_did_not_use_goes_back(gate: Gate, clock: ManualClock) -> None:
    one, other = gate(40), gate(40)
    assert asked(one, 4) == 4  # lots of 1, 2 and 4: three are left
    clock.advance(1)
    assert asked(one, 1) == 1
    assert asked(other, 50) == 40 - 5


def test_those_refused_get_their_turns_one_after_the_other(gate: Gate, clock: ManualClock) -> None:
    throttle = gate(4)
    for _ in range(2):
        asked(throttle, 2)
        clock.advance(1)
    waits = []
    for _ in range(6):
        with pytest.raises(HubSpotUnavailable) as raised:
            throttle.enter("asking")
        assert not raised.value.ambiguous
        waits.append(raised.value.retry_after)
    assert waits == [9, 9, 10, 10, 20, 20]


SPENDER = """
import os, sys, time
from flask import Flask
from flask_hubspot_hitl import HubSpotHITL, HubSpotUnavailable
from flask_hubspot_hitl.runtime import get_runtime
app = Flask("spender")
app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
HubSpotHITL(app)
client = get_runtime(app).services.client("424242")
sent = refused = 0


def call():
    global sent, refused
    try:
        client.get_thread("1")
    except HubSpotUnavailable:
        refused += 1
        time.sleep(0.05)
    except Exception:
        sent, refused = sent + 1, 0


call()  # before the race: each has spent something, however unfair the machine's scheduler is
ready()
ends = time.monotonic() + 30
while refused < 20 and time.monotonic() < ends:
    call()
tell(sent)
"""


def spenders(hubspot: HubSpot, database_url: str, count: int, **settings: str) -> list[int]:
    """So many processes, started together, call HubSpot until they may no more; how often each did."""
    env = {**os.environ, **hubspot.env(), "HUBSPOT_HITL_DATABASE_URL": database_url}
    env |= {"HUBSPOT_HITL_PUBLIC_URL": "http://127.0.0.1:9", **settings}
    with Forked(SPENDER, count=count, env=env) as processes:
        return [int(sent) for sent in processes.go()]


@slow_on_postgresql
def test_four_processes_keep_to_one_budget(hubspot: HubSpot, database_url: str) -> None:
    sent = spenders(hubspot, database_url, 4, HUBSPOT_HITL_RATE_LIMIT="60")
    served = [one for one in hubspot.requests() if "/oauth/" not in one["path"]]
    refreshes = len(hubspot.requests()) - len(served)
    assert sum(sent) == len(served)
    assert all(sent)
    # Each is done when it was refused for a second: on a machine that is not busy long before the ten seconds are over.
    at = [one["at"] for one in hubspot.requests()]
    budgets = 1 + (max(at) - min(at)) // 10_000
    assert 50 <= len(served) + refreshes <= 60 * budgets


# Pauses


def test_retry_after_stops_every_process(
    two: tuple[HubSpotClient, HubSpotClient], hubspot: HubSpot, clock: ManualClock
) -> None:
    one, other = two
    hubspot.chaos(faults=[fault(status=429, retry_after=30, times=1)])
    assert answers(one) == 30
    before = len(hubspot.requests())
    clock.advance(29)
    assert answers(one) == answers(other) == 1
    assert len(hubspot.requests()) == before
    clock.advance(1)
    assert answers(one) is answers(other) is None


def test_pauses_without_retry_after_grow_and_end(gate: Gate, clock: ManualClock) -> None:
    throttle = gate(1_000)
    pauses = []
    for _ in range(8):
        throttle.leave(throttle.enter("asking"), Availability.BUSY, None)
        with pytest.raises(HubSpotUnavailable) as raised:
            throttle.enter("asking")
        pauses.append(raised.value.retry_after)
        clock.advance(raised.value.retry_after or 0)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert asked(throttle, 1) == 1
    clock.advance(1)
    throttle.leave(throttle.enter("asking"), Availability.BUSY, None)
    with pytest.raises(HubSpotUnavailable) as raised:
        throttle.enter("asking")
    assert raised.value.retry_after == 1


def test_many_refusals_at_once_are_one(gate: Gate) -> None:
    throttle = gate(1_000)
    permits = [throttle.enter("asking") for _ in range(20)]
    for permit in permits:
        throttle.leave(permit, Availability.BUSY, None)
    with pytest.raises(HubSpotUnavailable) as raised:
        throttle.enter("asking")
    assert raised.value.retry_after == 1


# The circuit


def test_the_circuit_opens_for_all_and_lets_one_probe_through(
    two: tuple[HubSpotClient, HubSpotClient], hubspot: HubSpot, clock: ManualClock
) -> None:
    one, other = two
    hubspot.chaos(faults=[fault()])
    waits = [answers(one) for _ in range(6)]
    assert waits == [-1, -1, -1, -1, -1, 2]
    before = len(hubspot.requests())
    assert answers(other) == 2
    assert len(hubspot.requests()) == before, "the other process heard of it"
    clock.advance(2)
    answers(other)
    answers(one)
    assert len(hubspot.requests()) == before + 1, "one probe"
    hubspot.chaos(faults=[fault(mode="delay", seconds=2)])
    clock.advance(4)
    probe = threading.Thread(target=answers, args=(one,))
    probe.start()
    wait_until(lambda: len(hubspot.requests()) == before + 2, what="the probe")
    assert answers(other) is not None, "while the probe is under way"
    probe.join()
    hubspot.chaos(faults=[])
    assert len(hubspot.requests()) == before + 2
    assert answers(one) is answers(other) is None


def test_an_open_circuit_stays_open_longer_each_time(gate: Gate, clock: ManualClock) -> None:
    throttle = gate(1_000)
    for _ in range(5):
        throttle.leave(throttle.enter("asking"), Availability.DOWN, None)
    waits = []
    for _ in range(7):
        with pytest.raises(HubSpotUnavailable) as raised:
            throttle.enter("asking")
        waits.append(raised.value.retry_after)
        clock.advance(raised.value.retry_after or 0)
        throttle.leave(throttle.enter("asking"), Availability.DOWN, None)
    assert waits == [2, 4, 8, 16, 32, 60, 60]


def test_a_probe_that_was_killed_is_replaced(gate: Gate, clock: ManualClock) -> None:
    throttle = gate(1_000)
    for _ in range(5):
        throttle.leave(throttle.enter("asking"), Availability.DOWN, None)
    clock.advance(2)
    assert throttle.enter("asking") == Permit(clock.now_ms(), probe=True)
    assert asked(throttle, 1) == 0
    clock.advance(31)
    assert asked(throttle, 2) == 2


def test_answers_in_between_keep_it_closed(gate: Gate) -> None:
    throttle = gate(1_000)
    for number in range(40):
        throttle.leave(throttle.enter("asking"), Availability.UP if number % 5 == 4 else Availability.DOWN, None)
    assert asked(throttle, 1) == 1


class Halves:
    """A peer of which the token endpoint or all the rest may hang, ten seconds by the injected clock."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.tokens_hang = self.calls_hang = False
        self.hung: list[int] = []
        """When the token endpoint was asked in vain, epoch ms."""

    def __call__(self, request: Request) -> Reply:
        is_token = request.path.endswith("/token")
        if is_token and self.tokens_hang:
            self.hung.append(self.clock.now_ms())
        if self.tokens_hang if is_token else self.calls_hang:
            self.clock.advance(10)
            return Reply(503, None, {"Retry-After": "5"} if is_token else {})
        return Reply(200, {"access_token": "a", "expires_in": 1800} if is_token else {"results": []})


@pytest.fixture
def halves(clock: ManualClock) -> Halves:
    return Halves(clock)


@pytest.fixture
def caller(halves: Halves, gate: Gate, clock: ManualClock) -> Iterator[HubSpotClient]:
    """A client of ``halves`` that has just got its token, which lives half an hour."""
    connection, throttle = ConnectionOptions(clock=clock), gate(1_000)
    with HttpPeer(halves) as peer:
        app = OAuthOptions(
            base_url=peer.url, oauth_version="v3", client_id="c", client_secret="s", connection=connection
        )
        client = HubSpotClient(
            ClientOptions(base_url=peer.url, api_version="v3", connection=connection),
            tokens=RefreshingToken(app, refresh_token="r", gate=throttle),
            gate=throttle,
        )
        client.inboxes()
        yield client
        client.close()


def test_a_token_endpoint_that_hangs_stops_no_call_while_the_token_works(
    halves: Halves, caller: HubSpotClient, clock: ManualClock
) -> None:
    clock.advance(1_500)
    halves.tokens_hang = True
    began = clock.now_ms()
    while clock.now_ms() < began + 280_000:
        assert answers(caller) is None
        clock.advance(1)
    assert 10 <= len(halves.hung) <= 12
    assert min(later - one for one, later in itertools.pairwise(halves.hung)) >= 25_000, "ten of them the hang itself"
    halves.tokens_hang = False
    clock.advance(16)
    assert answers(caller) is None
    clock.advance(60)
    assert answers(caller) is None, "it was renewed"


def test_the_probe_is_not_spent_on_the_token_endpoint(
    halves: Halves, caller: HubSpotClient, clock: ManualClock
) -> None:
    clock.advance(1_490)
    halves.calls_hang = halves.tokens_hang = True
    assert answers(caller) == -1
    halves.calls_hang = False
    clock.advance(2)
    assert answers(caller) is None, "the token's early renewal went in as the probe, and the call after it"
    assert len(halves.hung) == 1
    assert answers(caller) is None


def test_without_a_token_that_works_a_token_endpoint_that_hangs_is_an_outage(
    halves: Halves, caller: HubSpotClient, clock: ManualClock
) -> None:
    clock.advance(1_800)
    halves.tokens_hang = True
    began = clock.now_ms()
    while clock.now_ms() < began + 300_000:
        assert answers(caller) is not None
        clock.advance(0.5)
    assert 5 <= len(halves.hung) <= 9
    gaps = [later - one - 10_000 for one, later in itertools.pairwise(halves.hung)]
    assert gaps[0] >= 2_000
    assert gaps == sorted(gaps)
    halves.tokens_hang = False
    clock.advance(61)
    assert answers(caller) is answers(caller) is None


def test_start_with_an_open_circuit_is_starting_at_once_and_costs_no_attempt(story: Story, clock: ManualClock) -> None:
    story.hubspot.chaos(faults=[fault()])
    for number in range(5):
        story.start(f"before-{number}")
    before, names = len(story.hubspot.requests()), (f"c{number}" for number in itertools.count(1))
    assert seconds_of(lambda: story.start(next(names)), less_than=0.5) < 0.5
    handoff = story.handoff()
    assert handoff is not None
    assert handoff.state is HandoffState.STARTING
    assert len(story.hubspot.requests()) == before
    assert story.send("hello?")
    for _ in range(30):
        story.run(100)
    with story.state.ledger.read() as tx:
        assert tx.dead_events() == []
    story.hubspot.chaos(faults=[])
    story.run(61)
    story.run(400)
    found = story.handoff()
    assert found is not None
    assert found.state is HandoffState.WAITING
    assert story.transcript()[-1] == ("user", "hello?", "delivered")


def test_a_caller_in_a_hurry_does_not_open_the_circuit(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> None:
    client = state_of(make_app(clock=clock, dispatcher="inline")).services.client(PORTAL)
    client.inboxes()
    hubspot.chaos(latency=0.4)
    for _ in range(6):
        with client.deadline(0.1), pytest.raises(HubSpotUnavailable):
            client.inboxes()
    hubspot.chaos(latency=0)
    time.sleep(0.5)
    assert answers(client) is None


# A repeat after more than an hour looks first


def published(hubspot: HubSpot) -> int:
    return sum(
        one["method"] == "POST" and one["path"].endswith("/messages") and one.get("fault") != "status"
        for one in hubspot.requests()
    )


def texts(story: Story, thread: str | None) -> list[str]:
    messages = story.hubspot.thread(thread)["messages"]
    return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]


def test_after_an_hour_the_thread_is_read_before_a_message_is_repeated(story: Story) -> None:
    thread = story.start().thread_id
    story.send("ok")
    story.hubspot.chaos(faults=[fault(PUBLISH, "drop_after", times=1), fault()])
    story.send("ok")
    assert texts(story, thread) == ["ok", "ok"], "HubSpot has it, and we don't know"
    before = published(story.hubspot)
    for _ in range(40):
        story.run(120)
    story.hubspot.chaos(faults=[])
    story.run(400)
    assert published(story.hubspot) == before
    assert texts(story, thread) == ["ok", "ok"]
    ids = [one["message"].message_id for one in story.recorder.of("message_delivered")]
    assert len(set(ids)) == 2


def test_an_equal_message_of_before_is_not_taken_for_it(story: Story) -> None:
    thread = story.start().thread_id
    story.send("ok")
    story.hubspot.chaos(faults=[fault(PUBLISH, "drop", times=1), fault()])
    story.send("ok")
    for _ in range(40):
        story.run(120)
    story.hubspot.chaos(faults=[])
    story.run(400)
    assert texts(story, thread) == ["ok", "ok"]
    assert story.transcript()[-1] == ("user", "ok", "delivered")


def test_the_row_is_small(gate: Gate, clock: ManualClock) -> None:
    throttle = gate(50)
    for _ in range(60):
        asked(throttle, 2)
        clock.advance(1)
    with throttle._ledger.write() as tx:
        slots = tx.buckets.lock(PORTAL).slots
    assert len(json.dumps(slots)) < 400
