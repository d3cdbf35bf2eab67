"""Who gets the requests that HubSpot allows: the division into classes, held against a plain model of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.errors import CallPostponed
from flask_hubspot_hitl.hubspot.transport import Availability
from flask_hubspot_hitl.ledger import Ledger, lanes
from flask_hubspot_hitl.ledger.buckets import Bucket
from flask_hubspot_hitl.ledger.lanes import Work
from flask_hubspot_hitl.portals import budget
from flask_hubspot_hitl.portals.throttle import Refusal, Throttle, admit

from .helpers import PORTAL

Gate = Callable[..., Throttle]
LEASTS = {Work.RECEIPT: 10, Work.TIMER: 20, Work.LOOKING_BACK: 20}
START = 1_700_000_000


class Model:
    """The rules of docs/rules.rst H3, one request at a time, from a list of all that were ever sent."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sent: list[tuple[int, Work]] = []
        self.waits_until: dict[Work, int] = {}

    def least(self, work: Work) -> int:
        part = LEASTS.get(work)
        return 0 if part is None or self.limit < 4 else max(1, self.limit // part)

    def allows(self, work: Work, now: int) -> bool:
        had = Counter(one for second, one in self.sent if now // 1000 - 11 < second)
        if had.total() >= self.limit:
            return False
        if had[work] < self.least(work):
            return True
        waiting = {one for one, until in self.waits_until.items() if until > now}
        kept = sum(max(0, self.least(one) - had[one]) for one in waiting - {work})
        if had.total() + kept >= self.limit:
            return False
        beside_live = had[Work.LIVE] or Work.LIVE in waiting
        quarters = {Work.LIVE: 4, Work.RECEIPT: 3, Work.TIMER: 2, Work.LOOKING_BACK: 1 if beside_live else 2}[work]
        return sum(had[one] for one in Work if one >= work) < max(1, self.limit * quarters // 4)


steps = some.lists(
    some.tuples(
        some.sampled_from(list(Work)), some.integers(1, 12), some.sampled_from([0, 0, 0, 1, 400, 1_000, 4_000])
    ),
    min_size=10,
    max_size=60,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(steps, some.one_of(some.integers(1, 12), some.integers(20, 130)))
def test_the_budget_is_divided_as_the_rules_say(steps: list[tuple[Work, int, int]], limit: int) -> None:
    bucket, model, now = Bucket(portal_id="1"), Model(limit), START * 1000
    for work, wanted, later in steps:
        now += later
        got = admit(bucket, work, now, wanted, limit, 0)
        if isinstance(got, Refusal):
            assert not model.allows(work, now), "who has room is not refused"
            assert got.is_ours
            model.waits_until[work] = max(model.waits_until.get(work, 0), got.until + 2_000)
            early = range(now // 1000 + 1, got.until // 1000)
            assert not any(model.allows(work, second * 1000) for second in early), "its turn comes before"
            assert model.allows(work, got.until), "its turn comes later"
            continue
        for _ in range(got[0]):
            assert model.allows(work, now)
            model.sent.append((now // 1000, work))
        assert got[0] == wanted or not model.allows(work, now), "as much as there is room for"
    for second, _ in model.sent:
        assert sum(second <= one < second + 11 for one, _ in model.sent) <= limit


@given(some.sampled_from([1, 2, 3, 4, 5, 20, 100]), some.sets(some.sampled_from(list(Work))))
def test_an_empty_window_has_room_for_everybody(limit: int, waiting: set[Work]) -> None:
    bucket = Bucket(portal_id="1", waiting=dict.fromkeys(waiting, 2_000))
    assert [budget.room(bucket, work, limit, 1_000) > 0 for work in Work] == [True] * 4


@pytest.mark.parametrize("limit", [4, 20, 100])
def test_nobody_starves(limit: int) -> None:
    """Everybody asks all the time: each class gets its least in every eleven seconds, and live the rest."""
    bucket, sent = Bucket(portal_id="1"), Counter[Work]()
    seconds = 110
    for second in range(START, START + seconds):
        for work in list(Work) * 2:  # live first
            for _ in range(limit):
                got = admit(bucket, work, second * 1000, 1, limit, 0)
                sent[work] += not isinstance(got, Refusal)
    for work, part in LEASTS.items():
        assert sent[work] >= (seconds // 11 - 1) * max(1, limit // part)
    assert sent[Work.LIVE] >= (seconds // 11 - 1) * (limit - sum(max(1, limit // part) for part in LEASTS.values()))


# Between processes


@pytest.fixture
def gate(database_url: str, clock: ManualClock) -> Iterator[Gate]:
    """``gate(limit)``: the gate of one more process, as it were."""
    clock.advance((1000.5 - clock.now_ms() % 1000) / 1000)  # a second begins
    ledgers: list[Ledger] = []

    def make(limit: int) -> Throttle:
        ledgers.append(Ledger(database_url, clock))
        ledgers[-1].create()
        return Throttle(ledgers[-1], PORTAL, limit)

    yield make
    for ledger in ledgers:
        ledger.close()


def ask(throttle: Throttle, work: Work, times: int) -> tuple[int, float | None]:
    """How many of so many requests of a class may be sent, and how long the last one that may not is to wait."""
    count, wait = 0, None
    reset = lanes.doing.set(work)
    for _ in range(times):
        try:
            throttle.leave(throttle.enter("asking"), Availability.UP, None)
            count += 1
        except CallPostponed as error:
            wait = error.retry_after
    lanes.doing.reset(reset)
    return count, wait


def test_looking_back_leaves_room_for_what_comes_suddenly(gate: Gate, clock: ManualClock) -> None:
    one, other = gate(100), gate(100)
    assert ask(one, Work.LOOKING_BACK, 200)[0] + ask(other, Work.LOOKING_BACK, 200)[0] == 50
    assert ask(other, Work.LIVE, 50)[0] == 50


def test_looking_back_gets_a_quarter_beside_live(gate: Gate, clock: ManualClock) -> None:
    one, other = gate(100), gate(100)
    assert ask(one, Work.LIVE, 1)[0] == 1
    assert ask(other, Work.LOOKING_BACK, 26) == (25, 11)
    clock.advance(5)
    assert ask(one, Work.LIVE, 100)[0] == 74
    clock.advance(6)
    assert ask(other, Work.LOOKING_BACK, 200)[0] == 25, "what was sent eleven seconds ago is over"


def test_the_turn_of_a_class_comes_when_that_class_has_room(gate: Gate, clock: ManualClock) -> None:
    throttle = gate(100)
    ask(throttle, Work.LIVE, 40)
    clock.advance(3)
    ask(throttle, Work.LOOKING_BACK, 25)
    assert ask(throttle, Work.LOOKING_BACK, 1)[1] == 8, "when live is forgotten, it may have half"
    assert ask(throttle, Work.LIVE, 35)[0] == 35
    assert ask(throttle, Work.LIVE, 1)[1] == 8, "its own oldest are forgotten then"


def test_what_a_class_did_not_use_goes_back(gate: Gate, clock: ManualClock) -> None:
    one, other = gate(40), gate(40)
    assert ask(one, Work.LIVE, 4)[0] == 4  # lots of 1, 2 and 4: three are left
    assert ask(one, Work.RECEIPT, 2)[0] == 2  # and one here
    clock.advance(1)
    assert ask(one, Work.TIMER, 1)[0] == 1
    assert ask(other, Work.LIVE, 60)[0] == 40 - 7


def test_processes_that_ask_at_random_keep_to_the_budget(gate: Gate, clock: ManualClock) -> None:
    gates = [gate(30) for _ in range(3)]
    dice = random.Random(4)
    sent: list[tuple[int, Work]] = []
    for _ in range(200):
        clock.advance(dice.choice((0.0, 0.05, 0.4, 1.3)))
        for work in (Work.LIVE, dice.choice(list(Work)), Work.LOOKING_BACK):
            count, _ = ask(dice.choice(gates), work, dice.randrange(5))
            sent += [(clock.now_ms(), work)] * count
    for at, _ in sent:
        had = Counter(work for when, work in sent if at <= when < at + 10_000)
        assert had.total() <= 30
        assert had[Work.LOOKING_BACK] <= 30 // 4
    seconds = (sent[-1][0] - sent[0][0]) / 1000
    assert len(sent) > 0.7 * 30 * seconds / 11, "and most of it can be used"


def test_a_row_from_before_there_were_classes_counts(gate: Gate, clock: ManualClock) -> None:
    throttle = gate(20)
    ask(throttle, Work.LIVE, 1)
    with throttle._ledger.write() as tx:
        bucket = tx.buckets.lock(PORTAL)
        bucket.slots = {clock.now_ms() // 1000: 19}  # type: ignore[dict-item]
        tx.buckets.save(bucket)
    clock.advance(1)
    assert ask(throttle, Work.LIVE, 5)[0] == 1
