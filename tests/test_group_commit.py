"""SQLite's writers of one process share commits: nobody goes on before it, and nobody pays for another's failure."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from flask_hubspot_hitl import LedgerUnavailable
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger, NewEvent, Speed, Transaction
from flask_hubspot_hitl.ledger.group_commit import Together
from flask_hubspot_hitl.ledger.patience import patience
from flask_hubspot_hitl.ledger.turns import Turns

from .databases import both_paths
from .helpers import wait_until


@pytest.fixture
def ledger(sqlite_url: str, speed: Speed) -> Iterator[Ledger]:
    one = Ledger(sqlite_url, SystemClock(), speed=speed)
    one.create()
    with contextlib.closing(one):
        yield one


def put(tx: Transaction, key: str) -> None:
    tx.queue.put([NewEvent(dedupe_key=key, lane=f"in:1:{key}", topic="work", sort_at=0)], now=0)


def stored(ledger: Ledger) -> list[str]:
    with ledger.read() as tx:
        return _keys(tx)


def _keys(tx: Transaction) -> list[str]:
    return list(tx._connection.scalars(sa.text("SELECT dedupe_key FROM hitl_event ORDER BY id")))


class Line:
    """Threads that write one after the other, each beginning when the one before is about to end."""

    def __init__(self, ledger: Ledger, pool: ThreadPoolExecutor) -> None:
        self._ledger = ledger
        self._pool = pool
        self._go = threading.Event()
        self.blocks: list[Future[None]] = []

    def add(self, key: str, then: Callable[[Transaction], None] | None = None) -> None:
        """A block that stores ``key`` and does ``then``. The first one of all waits for :meth:`go`."""
        is_first = not self.blocks
        began = threading.Event()

        def write() -> None:
            with self._ledger.write() as tx:
                began.set()
                put(tx, key)
                if is_first:
                    assert self._go.wait(60)
                if then is not None:
                    then(tx)

        self.blocks.append(self._pool.submit(write))
        if is_first:
            assert began.wait(60)
        else:
            wait_until(lambda: waiting(self._ledger) == len(self.blocks) - 1)

    def go(self) -> list[BaseException | None]:
        """How each of them ended."""
        self._go.set()
        return [block.exception(10) for block in self.blocks]


def waiting(ledger: Ledger) -> int:
    turns = ledger._database.turns
    assert isinstance(turns, Turns)
    return turns.waiting


@pytest.fixture
def line(ledger: Ledger) -> Iterator[Line]:
    assert isinstance(ledger._database.writers, Together)
    ledger._database.writers.longest_seconds = 60.0  # a busy machine does not end it
    with ThreadPoolExecutor(8) as pool:
        yield Line(ledger, pool)


def test_those_who_wait_write_in_the_same_transaction(ledger: Ledger, line: Line) -> None:
    seen: list[list[str]] = []
    for key in "abc":
        line.add(key, lambda tx: seen.append(_keys(tx)))
    assert line.go() == [None] * 3
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert stored(ledger) == ["a", "b", "c"]


def test_nobody_goes_on_before_the_commit(ledger: Ledger, line: Line) -> None:
    def look(_tx: Transaction) -> None:
        assert stored(ledger) == []  # on another connection
        assert not any(block.done() for block in line.blocks)

    line.add("a")
    line.add("b", look)
    line.add("c", look)
    assert line.go() == [None] * 3
    assert stored(ledger) == ["a", "b", "c"]


def test_everybody_is_told_why_a_commit_counts_for_nothing(ledger: Ledger, line: Line) -> None:
    log = ledger._database.files.path.with_name(ledger._database.files.path.name + "-wal")
    line.add("a")
    line.add("b")
    line.add("c", lambda _tx: log.unlink())
    said = [str(error) for error in line.go() if isinstance(error, LedgerUnavailable)]
    assert len(said) == 3
    assert all("-wal or -shm) was deleted" in one for one in said), said


def test_a_block_that_fails_is_taken_back_alone(ledger: Ledger, line: Line) -> None:
    def fail(_tx: Transaction) -> None:
        raise ValueError("of its own")

    def misspell(tx: Transaction) -> None:
        tx._connection.execute(sa.text("SELEKT"))

    line.add("a")
    line.add("b", fail)
    line.add("c")
    line.add("d", misspell)
    a, b, c, d = line.go()
    assert (a, c) == (None, None)
    assert isinstance(b, ValueError)
    assert isinstance(d, (sa.exc.OperationalError, LedgerUnavailable))
    assert stored(ledger) == ["a", "c"]


def test_the_first_and_the_last_may_fail_as_well(ledger: Ledger, line: Line) -> None:
    def fail(_tx: Transaction) -> None:
        raise ValueError

    line.add("a", fail)
    line.add("b")
    line.add("c", fail)
    a, b, c = line.go()
    assert (type(a), b, type(c)) == (ValueError, None, ValueError)
    assert stored(ledger) == ["b"]


def test_when_the_transaction_is_lost_everybody_in_it_is_told(ledger: Ledger, line: Line) -> None:
    """So it is after an error of the disk: SQLite takes the whole of it back."""
    line.add("a")
    line.add("b", lambda tx: tx._connection.driver.rollback())
    line.add("c")
    a, b, c = line.go()
    assert isinstance(a, LedgerUnavailable)
    assert isinstance(b, LedgerUnavailable)
    assert c is None
    assert stored(ledger) == ["c"]


def test_also_when_the_first_loses_it(ledger: Ledger, line: Line) -> None:
    line.add("a", lambda tx: tx._connection.driver.rollback())
    line.add("b")
    a, b = line.go()
    assert isinstance(a, LedgerUnavailable)
    assert b is None
    assert stored(ledger) == ["b"]


def test_who_runs_out_of_patience_is_not_missed(ledger: Ledger, line: Line) -> None:
    line.add("a")
    with pytest.raises(LedgerUnavailable, match="other threads"), patience(0.05), ledger.write() as tx:
        put(tx, "late")
    line.add("b")
    assert line.go() == [None] * 2
    assert stored(ledger) == ["a", "b"]


@both_paths
def test_what_is_acknowledged_is_stored_and_nothing_else_whatever_the_others_do(ledger: Ledger) -> None:
    def write(number: int) -> tuple[list[str], list[str]]:
        chance, told, untold = random.Random(number), [], []
        for count in range(60):
            key, fate = f"{number}:{count}", chance.random()
            try:
                with patience(chance.choice([0.001, 3.0, 3.0])), ledger.write() as tx:
                    put(tx, key)
                    if fate < 0.1:
                        raise ValueError
                    if fate < 0.15:
                        tx._connection.driver.rollback()  # as SQLite does after an error of the disk
                    elif fate < 0.2:
                        tx._connection.execute(sa.text("SELEKT"))
                told.append(key)
            except (ValueError, LedgerUnavailable):
                untold.append(key)
        return told, untold

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(write, range(16)))
    assert sorted(stored(ledger)) == sorted(key for told, _ in found for key in told)
    assert all(untold for _, untold in found)
    with patience(0.5), ledger.write() as tx:  # nobody holds a turn or a lock any more
        put(tx, "after")


_KILLED = """
import os, signal, sys, threading, time
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger, NewEvent
ledger = Ledger(sys.argv[1], SystemClock())
ledger.create()

def write(key, then):
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key=key, lane="in:1:1", topic="test", sort_at=0)], now=0)
        then()
    print("stored", key, flush=True)

def second_waits():
    threading.Thread(target=write, args=("b", lambda: os.kill(os.getpid(), signal.SIGKILL))).start()
    while not ledger._database.turns.waiting:
        time.sleep(0.01)

write("a", second_waits)
"""


def test_a_process_that_is_killed_before_the_commit_has_told_nobody_that_it_stored(
    ledger: Ledger, sqlite_url: str
) -> None:
    process = subprocess.run(
        [sys.executable, "-c", _KILLED, sqlite_url], capture_output=True, text=True, check=False, timeout=100
    )
    assert (process.returncode, process.stdout) == (-9, "")
    assert stored(ledger) == []


_TORN = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger
ledger = Ledger(sys.argv[1], SystemClock())
ledger.create()

def write(name, then):
    with ledger.write() as tx:
        tx.set_meta(name, "stored")
        then()

def tear():
    second.start()
    while not ledger._database.turns.waiting:
        gevent.sleep(0.001)
    second.kill(block=False)  # it comes before the turn that it is given now

second = gevent.Greenlet(write, "second", lambda: None)
first = gevent.spawn(write, "first", tear)
first.get(timeout=30)
second.join(30)
with ledger.read() as tx:
    print(tx.get_meta("first"), tx.get_meta("second"), ledger._database.turns.free)
"""


def test_who_is_torn_out_of_waiting_leaves_no_transaction_open(ledger: Ledger, sqlite_url: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", _TORN, sqlite_url], capture_output=True, text=True, check=False, timeout=100
    )
    assert process.stdout == "stored None 1\n", process.stderr


_FLOOD = """
import sys, threading
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger, NewEvent
ledger = Ledger(sys.argv[1], SystemClock())

def write_on(number):
    for count in range(10**9):
        with ledger.write() as tx:
            key = f"{number}:{count}"
            tx.queue.put([NewEvent(dedupe_key=key, lane="in:1:1", topic="test", sort_at=0)], now=0)

for number in range(16):
    threading.Thread(target=write_on, args=(number,), daemon=True).start()
print("floods", flush=True)
sys.stdin.read()
"""


@both_paths
def test_a_process_that_writes_all_the_time_leaves_others_their_turn(ledger: Ledger, sqlite_url: str) -> None:
    command = [sys.executable, "-c", _FLOOD, sqlite_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "floods\n"
            for number in range(50):
                with ledger.write() as tx:
                    put(tx, f"ours:{number}")
        finally:
            process.kill()
    assert sum(key.startswith("ours:") for key in stored(ledger)) == 50
