"""Who writes waits for a turn: first come, first served, and not for longer than there is patience."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from flask_hubspot_hitl import LedgerUnavailable
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger
from flask_hubspot_hitl.ledger.patience import patience
from flask_hubspot_hitl.ledger.turns import OneAtATime, Turns

from .helpers import wait_until


def turns_of(ledger: Ledger) -> Turns:
    turns = ledger._database.turns
    assert isinstance(turns, Turns)
    return turns


def test_first_come_first_served() -> None:
    turns, came = Turns(1), []

    def go(number: int) -> None:
        turns.take()
        came.append(number)
        turns.give_back()

    turns.take()
    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(go, number)
            wait_until(lambda: turns.waiting == number + 1)  # noqa: B023 - it is asked at once
        turns.give_back()
    assert came == list(range(8))
    assert (turns.free, turns.waiting) == (1, 0)


def test_as_many_at_a_time_as_there_are_turns() -> None:
    turns, inside, most, lock = Turns(3), 0, 0, threading.Lock()
    is_full = threading.Event()

    def go(_number: int) -> None:
        nonlocal inside, most
        turns.take()
        with lock:
            inside += 1
            most = max(most, inside)
            if inside == 3:
                is_full.set()
        assert is_full.wait(60)
        with lock:
            inside -= 1
        turns.give_back()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(go, range(12)))
    assert (most, turns.free) == (3, 3)


def test_who_has_waited_in_vain_is_in_nobodys_way() -> None:
    turns = Turns(1)
    turns.take()
    with patience(0.01), pytest.raises(LedgerUnavailable, match="other threads"):
        turns.take()
    assert turns.waiting == 0
    turns.give_back()
    with patience(0.0):
        turns.take()


def test_a_turn_is_handed_over_only_to_somebody() -> None:
    turns = Turns(1)
    turns.take()
    assert not turns.hand_over()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(turns.take)
        wait_until(lambda: turns.waiting)
        assert turns.hand_over()
        other.result(60)
    assert turns.free == 0


def test_no_turn_is_lost_when_many_give_up() -> None:
    turns = Turns(2)

    def go(seed: int) -> int:
        chance, taken = random.Random(seed), 0
        for _ in range(200):
            with contextlib.suppress(LedgerUnavailable), patience(chance.choice([0.0, 0.0001, 0.001, 60.0])):
                turns.take()
                taken += 1
                if chance.random() < 0.5 or not turns.hand_over():
                    turns.give_back()
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert min(pool.map(go, range(8))) > 0
    assert (turns.free, turns.waiting) == (2, 0)


def test_the_plain_way_lets_one_thread_in_and_waits_no_longer_than_there_is_patience() -> None:
    gate = OneAtATime()
    gate.take()
    with patience(0.01), pytest.raises(LedgerUnavailable, match="other threads"):
        gate.take()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(gate.take)
        gate.give_back()
        other.result(60)
    gate.reset()  # as in a forked child: whoever had it is not there
    with patience(0.0):
        gate.take()


_FORK_PLAIN = """
import os, sys
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import PLAIN, Ledger
ledger = Ledger(sys.argv[1], SystemClock(), speed=PLAIN)
ledger.create()
ledger._database.turns.take()
pid = os.fork()
if pid == 0:
    with ledger.write() as tx:
        tx.set_meta("who", "the child")
    os._exit(0)
code = os.waitpid(pid, 0)[1]
with ledger.read() as tx:
    print(code, tx.get_meta("who"))
"""


def test_a_forked_child_writes_on_the_plain_path_although_a_thread_of_its_parent_does(database_url: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", _FORK_PLAIN, database_url], capture_output=True, text=True, check=True, timeout=100
    )
    assert process.stdout == "0 the child\n"


_FORK = """
import os, sys
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger
ledger = Ledger(sys.argv[1], SystemClock())
ledger.create()
turns = ledger._database.turns
while turns.free:
    turns.take()
pid = os.fork()
if pid == 0:
    with ledger.write() as tx:
        tx.set_meta("who", "the child")
    os._exit(0)
code = os.waitpid(pid, 0)[1]
with ledger.read() as tx:
    print(code, tx.get_meta("who"), turns.free)
"""


def test_a_forked_child_has_all_turns(database_url: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", _FORK, database_url], capture_output=True, text=True, check=True, timeout=100
    )
    assert process.stdout == "0 the child 0\n"


def test_64_threads_write_to_postgresql_over_few_connections(postgresql_url: str) -> None:
    with contextlib.closing(Ledger(postgresql_url, SystemClock())) as ledger, ThreadPoolExecutor(64) as pool:
        ledger.create()
        database, turns = ledger._database, turns_of(ledger)
        limit = turns.free
        begun, go = threading.Semaphore(0), threading.Event()

        def write() -> None:
            with database.write(seconds=60.0):
                begun.release()
                assert go.wait(60)

        writing = [pool.submit(write) for _ in range(64)]
        for _ in range(limit):
            assert begun.acquire(timeout=60)
        wait_until(lambda: turns.waiting == 64 - limit)
        assert not begun.acquire(blocking=False)
        go.set()
        for one in writing:
            one.result(60)
        assert turns.free == limit


def test_a_transaction_that_fails_gives_its_turn_back(database_url: str) -> None:
    with contextlib.closing(Ledger(database_url, SystemClock())) as ledger:
        ledger.create()
        turns = turns_of(ledger)
        limit = turns.free
        for _ in range(2 * limit):
            with pytest.raises(ValueError, match="mine"), ledger.write():
                raise ValueError("mine")
        assert turns.free == limit


def test_a_transaction_that_cannot_begin_gives_its_turn_back(postgresql_url: str) -> None:
    url = sa.make_url(postgresql_url).set(database="nowhere").render_as_string(hide_password=False)
    with contextlib.closing(Ledger(url, SystemClock())) as ledger:
        turns = turns_of(ledger)
        limit = turns.free
        for _ in range(2 * limit):
            with pytest.raises(LedgerUnavailable), ledger.write():
                pass
        assert turns.free == limit
