"""What one server that hangs may hold, in one process."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.errors import CallPostponed, HubSpotUnavailable
from flask_hubspot_hitl.hubspot.bulkhead import Bulkhead, Passage
from flask_hubspot_hitl.hubspot.transport import Availability

Make = Callable[..., Bulkhead]


@pytest.fixture
def make(clock: ManualClock) -> Make:
    return lambda share=4, **options: Bulkhead(
        "files.example.com", clock.now_ms, lambda: share, **{"place_seconds": 0, **options}
    )


def refused(bulkhead: Bulkhead) -> str:
    with pytest.raises(HubSpotUnavailable) as raised:
        bulkhead.enter("fetching")
    assert not raised.value.ambiguous
    assert (raised.value.retry_after or 0) > 0
    return str(raised.value).removeprefix("fetching: not asked, files.example.com ")


def go(bulkhead: Bulkhead, clock: ManualClock, seconds: float = 0.1, shown: Availability = Availability.UP) -> None:
    passage = bulkhead.enter("fetching")
    clock.advance(seconds)
    bulkhead.leave(passage, shown, None)


def test_a_server_has_its_share_and_no_more(make: Make, clock: ManualClock) -> None:
    bulkhead = make(share=3)
    inside = [bulkhead.enter("fetching") for _ in range(3)]
    assert refused(bulkhead) == "has its share of the threads"
    bulkhead.leave(inside.pop(), Availability.UP, None)
    bulkhead.enter("fetching")
    assert refused(bulkhead) == "has its share of the threads"


def test_quick_calls_wait_for_a_place_instead(make: Make, clock: ManualClock) -> None:
    bulkhead = make(share=2, place_seconds=30)
    went: list[int] = []

    def call() -> None:
        passage = bulkhead.enter("fetching")
        time.sleep(0.01)
        bulkhead.leave(passage, Availability.UP, None)
        went.append(passage.number)

    callers = [threading.Thread(target=call) for _ in range(4)]  # as many wait as have a place
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert sorted(went) == [1, 2, 3, 4]


def test_those_with_threads_of_their_own_take_nobodys_place(make: Make, clock: ManualClock) -> None:
    own: list[bool] = [False]
    bulkhead = make(share=1, holds=lambda: own[0])
    inside = [bulkhead.enter("fetching") for _ in range(3)]
    own[0] = True
    inside.append(bulkhead.enter("fetching"))
    assert refused(bulkhead) == "has its share of the threads"
    for one in inside:
        bulkhead.leave(one, Availability.UP, None)
    assert bulkhead.is_idle
    bulkhead.enter("fetching")


def test_while_it_does_not_answer_one_more_goes_in_at_a_time(make: Make, clock: ManualClock) -> None:
    bulkhead = make()
    first = bulkhead.enter("fetching")
    clock.advance(0.9)
    second = bulkhead.enter("fetching")
    clock.advance(0.1)
    probe = bulkhead.enter("fetching")
    assert refused(bulkhead) == "answers slowly"
    bulkhead.leave(probe, Availability.UP, None)
    for _ in range(2):
        bulkhead.enter("fetching")  # it answers again
    for one in (first, second):
        bulkhead.leave(one, Availability.DOWN, None)
    bulkhead.enter("fetching")  # others were answered meanwhile: these two hung, not the server


def test_how_long_is_too_long_goes_by_what_is_usual(make: Make, clock: ManualClock) -> None:
    bulkhead = make()
    go(bulkhead, clock, seconds=3)
    bulkhead.enter("fetching")
    clock.advance(11)
    bulkhead.enter("fetching")
    bulkhead.enter("fetching")
    clock.advance(1)
    bulkhead.enter("fetching")
    assert refused(bulkhead) == "answers slowly"


def test_the_first_hang_shuts_it_longer_each_time(make: Make, clock: ManualClock) -> None:
    bulkhead = make()
    go(bulkhead, clock, seconds=10, shown=Availability.DOWN)
    waits = []
    for _ in range(7):
        assert refused(bulkhead) == "does not answer"
        with pytest.raises(HubSpotUnavailable) as raised:
            bulkhead.enter("fetching")
        assert not isinstance(raised.value, CallPostponed)
        waits.append(raised.value.retry_after)
        clock.advance(raised.value.retry_after or 0)
        probe = bulkhead.enter("fetching")
        assert refused(bulkhead) == "answers slowly", "while somebody tries"
        bulkhead.leave(probe, Availability.DOWN, None)
    assert waits == [2, 4, 8, 16, 32, 60, 60]
    clock.advance(60)
    go(bulkhead, clock)
    inside = [bulkhead.enter("fetching") for _ in range(4)]
    assert len(inside) == 4


def test_what_fails_quickly_shuts_nothing(make: Make, clock: ManualClock) -> None:
    bulkhead = make()
    for _ in range(20):
        go(bulkhead, clock, shown=Availability.DOWN)
    for _ in range(4):
        bulkhead.enter("fetching")


def test_a_caller_in_a_hurry_shuts_nothing(make: Make, clock: ManualClock) -> None:
    bulkhead = make()
    go(bulkhead, clock, seconds=5, shown=Availability.UNKNOWN)
    bulkhead.enter("fetching")


def test_another_gate_may_see_to_the_circuit(make: Make, clock: ManualClock) -> None:
    bulkhead = make(shuts=False)
    passage = bulkhead.enter("asking")
    assert not bulkhead.hangs(passage)
    clock.advance(10)
    assert bulkhead.hangs(passage)
    bulkhead.leave(passage, Availability.DOWN, None)
    bulkhead.enter("asking")


def test_those_refused_come_again_soon_and_not_all_at_once(make: Make, clock: ManualClock) -> None:
    bulkhead = make(share=2)
    go(bulkhead, clock, seconds=0.2)
    for _ in range(2):
        bulkhead.enter("fetching")
    waits = []
    for _ in range(40):
        with pytest.raises(CallPostponed) as raised:
            bulkhead.enter("fetching")
        waits.append(raised.value.retry_after or 0)
    assert 0.05 <= min(waits) < 0.5
    assert 1 < max(waits) <= 10
    assert len(set(waits)) > 35


def test_whatever_happens_it_never_holds_more_than_its_share_and_always_ends(make: Make, clock: ManualClock) -> None:
    dice = random.Random(7)
    for _ in range(200):
        share = dice.randint(1, 5)
        bulkhead, inside = make(share=share), list[Passage]()
        for _ in range(60):
            clock.advance(dice.choice((0, 0.01, 0.5, 2, 30)))
            if inside and dice.random() < 0.5:
                bulkhead.leave(inside.pop(dice.randrange(len(inside))), dice.choice(list(Availability)), None)
            else:
                with contextlib.suppress(HubSpotUnavailable):
                    inside.append(bulkhead.enter("fetching"))
            assert len(inside) <= share
        for one in inside:
            bulkhead.leave(one, Availability.UP, None)
        clock.advance(60)
        go(bulkhead, clock)
        assert bulkhead.is_idle


FORKED = """
import os
from flask_hubspot_hitl.hubspot.bulkhead import Bulkhead
bulkhead = Bulkhead("HubSpot", lambda: 0, lambda: 1)
bulkhead.enter("asking")
if os.fork() == 0:
    bulkhead.enter("asking")
    os._exit(7)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_what_the_parent_does_is_not_the_childs() -> None:
    found = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert found.stdout == "7\n", found.stderr
