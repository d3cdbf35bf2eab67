"""Wake-ups across processes: LISTEN and NOTIFY on PostgreSQL, a watched file on SQLite, polling where neither works."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy.engine import make_url

from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.dispatch.dispatcher import Dispatcher
from flask_hubspot_hitl.dispatch.options import EngineOptions
from flask_hubspot_hitl.dispatch.tasks import Done, Outcome, Task
from flask_hubspot_hitl.ledger import Event, Lease, Ledger, NewEvent, Watch
from flask_hubspot_hitl.ledger.notify import Listener

from .conftest import RelayOf
from .helpers import PATIENCE, wait_until

LONG = 3600.0
"""Seconds; a wait of this kind that ends early was ended by something."""

PUT = """
import sys
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger, NewEvent
ledger = Ledger(sys.argv[1], SystemClock())
ledger.create()
for line in sys.stdin:
    now = ledger.now_ms()
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key=line.strip(), lane="in:1:1", topic="work", sort_at=now)], now=now)
    ledger.notify()
    print(flush=True)
ledger.close()
"""


@pytest.fixture
def another_process(database_url: str) -> Iterator[Callable[[str], None]]:
    """Another process that stores an event, as a web process does."""
    command = [sys.executable, "-c", PUT, database_url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def put(key: str) -> None:
        stdin.write(f"{key}\n")
        stdin.flush()
        assert stdout.readline() == "\n"

    with process:
        yield put
        stdin.close()
        assert process.wait(60) == 0


class Said:
    """What was said to the log, sparing or not."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str, what: object) -> None:
        self.lines.append(text % what)


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    with opened(database_url) as one:
        yield one


@contextlib.contextmanager
def opened(url: str) -> Iterator[Ledger]:
    one = Ledger(url, SystemClock())
    one.create()
    with contextlib.closing(one):
        yield one


@contextlib.contextmanager
def watching(watch: Watch) -> Iterator[Callable[[], int]]:
    """Wait again and again in a thread; answers how often a wait has ended, from the first lasting one on."""
    rounds, over = [0], threading.Event()

    def wait() -> None:
        with contextlib.closing(watch):
            while not over.is_set():
                watch.wait(LONG)
                rounds[0] += 1

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        if isinstance(watch, Listener):
            wait_until(lambda: watch.hears, what="its own notification")
        wait_until(lambda: settled(lambda: rounds[0]), what="the first lasting wait")
        before = rounds[0]
        yield lambda: rounds[0] - before
    finally:
        over.set()
        watch.interrupt()
        thread.join(60)
    assert not thread.is_alive()


def settled(count: Callable[[], int]) -> bool:
    before = count()
    time.sleep(0.2)
    return count() == before


def test_a_commit_in_another_process_ends_the_wait(
    ledger: Ledger, said: Said, another_process: Callable[[str], None]
) -> None:
    with watching(ledger.watch(said)) as ended:
        another_process("a")
        wait_until(ended, what="the end of the wait")
    assert said.lines == []


def test_an_interruption_ends_the_wait_that_is_going_on_and_the_next_one(ledger: Ledger, said: Said) -> None:
    watch = ledger.watch(said)
    with watching(watch) as ended:
        watch.interrupt()
        wait_until(ended, what="the end of the wait")
    watch.interrupt()  # closed by now


class Work(Task):
    """A task that remembers when it ran what."""

    def __init__(self) -> None:
        self.ran: dict[str, float] = {}
        self.go = threading.Event()
        self.go.set()

    def run(self, event: Event, lease: Lease) -> Outcome:
        self.ran[event.dedupe_key] = time.monotonic()
        self.go.wait(60)
        return Done()


@contextlib.contextmanager
def dispatching(ledger: Ledger, work: Work, *, threads: int = 2) -> Iterator[Dispatcher]:
    options = EngineOptions(mode="thread", threads=threads, lease_ttl=15, handler_timeout=300, max_attempts=3)
    dispatcher = Dispatcher(ledger, lambda: {"work": work}, options)
    dispatcher.serving = True
    dispatcher.ensure_started()
    try:
        yield dispatcher
    finally:
        work.go.set()
        stopped = dispatcher.stop(60)
    assert stopped


def test_what_another_process_stores_is_dispatched_and_how_soon(
    ledger: Ledger, another_process: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    work = Work()
    delays = []
    with dispatching(ledger, work):
        another_process("first")
        wait_until(lambda: "first" in work.ran)
        for number in range(20):
            another_process(f"e{number}")
            stored = time.monotonic()
            wait_until(lambda number=number: f"e{number}" in work.ran)  # type: ignore[misc]
            delays.append(max(0.0, work.ran[f"e{number}"] - stored) * 1000)
    kind = "SQLite" if ledger.is_sqlite else "PostgreSQL"
    with capsys.disabled():
        print(f"\n{kind}, stored in one process, begun in another: p50 {sorted(delays)[10]:.1f} ms", end=" ")


# --- PostgreSQL ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def ears(url: str) -> Iterator[psycopg.Connection[object]]:
    """A bystander who hears every notification of the database's ledger."""
    with opened(url) as ledger:
        channel = f"hubspot_hitl_{ledger.deployment_id}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'LISTEN "{channel}"'.encode())
        yield connection


def heard(ears: psycopg.Connection[object]) -> int:
    """How many notifications have come, up to a mark of our own."""
    mark = f"mark-{time.monotonic_ns()}"
    ears.execute("SELECT pg_notify(channel, %s) FROM pg_listening_channels() AS channel", [mark])
    count = 0
    for one in ears.notifies():
        if one.payload == mark:
            return count
        count += not one.payload.startswith("mark-")
    raise AssertionError("the connection has ended")


def test_many_commits_are_told_as_few(postgresql_url: str) -> None:
    with ears(postgresql_url) as bystander, opened(postgresql_url) as ledger:
        began = time.monotonic()
        for _ in range(2000):
            ledger.notify()
        ledger.close()
        took = time.monotonic() - began
        assert 1 <= heard(bystander) <= 3 + took / 0.02


def test_a_process_with_an_idle_thread_tells_nobody(postgresql_url: str) -> None:
    work = Work()
    with (
        ears(postgresql_url) as bystander,
        opened(postgresql_url) as ledger,
        dispatching(ledger, work, threads=1) as dispatcher,
    ):
        wait_until(lambda: dispatcher.pool.idle)
        wait_until(lambda: settled(lambda: heard(bystander)), what="its proof of hearing")

        def told(key: str) -> int:
            wait_until(lambda: dispatcher.pool.idle)
            put(ledger, key)
            dispatcher.wake()
            wait_until(lambda: key in work.ran)
            return heard(bystander)

        # The clock may look between the commit and the ring: then the only thread is at work before it is woken.
        assert any(told(key) == 0 for key in ("a1", "a2", "a3"))
        work.go.clear()
        put(ledger, "a")
        dispatcher.wake()
        wait_until(lambda: "a" in work.ran)
        heard(bystander)
        put(ledger, "b", lane="in:1:2")
        dispatcher.wake()  # its only thread is at work
        wait_until(lambda: heard(bystander), what="a call for others")


def put(ledger: Ledger, key: str, lane: str = "in:1:1") -> None:
    now = ledger.now_ms()
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key=key, lane=lane, topic="work", sort_at=now)], now=now)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_tells_too(postgresql_url: str) -> None:
    with ears(postgresql_url) as bystander, opened(postgresql_url) as ledger:
        ledger.notify()
        wait_until(lambda: heard(bystander))
        pid = os.fork()
        if pid == 0:  # pragma: no cover - not measured in there
            ledger.notify()
            ledger.close()
            os._exit(0)
        os.waitpid(pid, 0)
        assert heard(bystander) >= 1


def listeners(url: str) -> int:
    """How many connections listen."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_behind_a_pooler_that_loses_notifications_the_database_is_polled(
    relay_of: RelayOf, postgresql_url: str, said: Said
) -> None:
    work = Work()
    _, url = relay_of(postgresql_url, deaf=True)
    with opened(url) as ledger, opened(postgresql_url) as elsewhere:
        watch = ledger.watch(said)
        assert isinstance(watch, Listener)
        with contextlib.closing(watch):
            ends = time.monotonic() + PATIENCE
            while not said.lines:
                assert time.monotonic() < ends
                watch.wait(LONG)  # it takes no time
                assert not watch.hears
        assert "LISTEN receives no notification" in said.lines[0]
        with dispatching(ledger, work):
            put(elsewhere, "a")
            wait_until(lambda: "a" in work.ran)


def test_a_lost_connection_is_made_again_and_hardly_mentioned(
    relay_of: RelayOf, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    relay, url = relay_of(postgresql_url)
    work = Work()
    with opened(url) as ledger, opened(postgresql_url) as elsewhere:
        with dispatching(ledger, work) as dispatcher:
            watch = dispatcher.pool._watch
            assert isinstance(watch, Listener)
            for turn in range(3):
                wait_until(lambda: watch.hears, what="its own notification")
                wait_until(lambda: listeners(postgresql_url) == 1, what="the end of the connection that was lost")
                relay.reset()
                put(elsewhere, f"e{turn}")
                wait_until(lambda turn=turn: f"e{turn}" in work.ran)  # type: ignore[misc]
            wait_until(lambda: watch.hears, what="its own notification")
        wait_until(lambda: listeners(postgresql_url) == 0, what="the end of the dispatcher's connection")
    lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]
    assert len(lines) == len(set(lines)), "once a minute each"
    assert any("LISTEN connection lost" in line for line in lines)


def test_what_the_url_says_of_the_connection_holds(postgresql_url: str) -> None:
    more = {"options": "-c lock_timeout=1234", "prepare_threshold": "none", "keepalives_idle": "77"}
    url = make_url(postgresql_url).update_query_dict(more)
    with opened(url.render_as_string(hide_password=False)) as ledger, ledger.read() as tx:
        found = [
            tx._connection.core.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        ]
        connection = tx._connection.core.connection.driver_connection
        assert isinstance(connection, psycopg.Connection)
        assert connection.prepare_threshold is None
        assert connection.info.get_parameters()["keepalives_idle"] == "77"
        assert connection.info.get_parameters()["tcp_user_timeout"] == "4000"
    assert found == ["1234ms", "10s"]
