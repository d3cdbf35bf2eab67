"""The ledger's contract, one class for both engines (rules B5, B6, C1, D; D04, D48)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_hubspot_hitl import LedgerUnavailable
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.owners import is_dead, new_owner
from flask_hubspot_hitl.domain import CloseReason
from flask_hubspot_hitl.handoffs import rules
from flask_hubspot_hitl.ledger import Event, EventState, Lease, Ledger, NewEvent, Speed, Transaction

from .conftest import MakeApp
from .databases import both_paths, every_store, slow_on_the_plain_path
from .helpers import begin_handoff, opening, seconds_of, state_of, wait_until

NOW = 1_790_000_000_000
TTL = 15_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def ledger(database_url: str, clock: ManualClock, speed: Speed) -> Iterator[Ledger]:
    ledger = Ledger(database_url, clock, speed=speed)
    ledger.create()
    yield ledger
    ledger.close()


def new(key: str, lane: str | None = "in:1:1", *, at: int = NOW, **fields: Any) -> NewEvent:
    return NewEvent(dedupe_key=key, lane=lane, topic="test", sort_at=at, **fields)


def put(ledger: Ledger, *events: NewEvent, now: int = NOW) -> int:
    """Put events; how many were new."""
    with ledger.write() as tx:
        return tx.queue.put(events, now=now)


def claim(ledger: Ledger, owner: str = "me", *, now: int = NOW) -> Lease | None:
    with ledger.write() as tx:
        lease = tx.queue.claim(owner=owner, now=now, ttl_ms=TTL)
        if lease is not None:
            lease.head = tx.queue.head(lease)
        return lease


def claimed(ledger: Ledger, owner: str = "me", *, now: int = NOW) -> Lease:
    lease = claim(ledger, owner, now=now)
    assert lease is not None
    return lease


def finish(ledger: Ledger, lease: Lease, *, now: int = NOW) -> bool:
    """Settle the head as the dispatcher does; False when the lease was lost. The next head is taken."""
    with ledger.write() as tx:
        assert lease.head is not None
        if not tx.queue.finish_held(lease, lease.head, now=now):
            return False
        lease.head = tx.queue.head(lease)
        if lease.head is None:
            tx.queue.release(lease, now=now, due_at=None)
        return True


def drain(ledger: Ledger, *, now: int = NOW) -> list[str]:
    """Every dedupe key that is due, in the order run."""
    keys = []
    while (lease := claim(ledger, now=now)) is not None:
        while lease.head is not None:
            keys.append(lease.head.dedupe_key)
            finish(ledger, lease, now=now)
        with ledger.write() as tx:
            tx.queue.release(lease, now=now, due_at=None)
    return keys


def count(ledger: Ledger, state: EventState = EventState.PENDING) -> int:
    with ledger.read() as tx:
        return tx.count(state)


def in_threads(number: int, work: Callable[[int], Any]) -> list[Any]:
    """``work(0..number-1)`` at the same moment, each in its thread; the results."""
    barrier = threading.Barrier(number)

    def run(index: int) -> Any:
        barrier.wait(60)
        return work(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


@every_store
class TestContract:
    """What both engines must do, on both paths."""

    # Order and dedupe

    def test_b5_a_known_key_is_passed_over(self, ledger: Ledger) -> None:
        assert put(ledger, new("a"), new("b")) == 2
        assert put(ledger, new("a"), new("c")) == 1
        assert drain(ledger) == ["a", "b", "c"]
        assert put(ledger, new("a")) == 0  # also when it is done
        assert drain(ledger) == []

    def test_b5_a_key_twice_in_one_batch_is_stored_once(self, ledger: Ledger) -> None:
        assert put(ledger, new("a"), new("a")) == 1

    def test_d48_one_of_eight_concurrent_duplicates_wins(self, ledger: Ledger) -> None:
        assert sorted(in_threads(8, lambda _: put(ledger, new("a")))) == [0] * 7 + [1]

    def test_b6_order_is_hubspots_time_then_arrival(self, ledger: Ledger) -> None:
        put(ledger, new("late", at=NOW + 5), new("first-of-two", at=NOW), new("second-of-two", at=NOW))
        put(ledger, new("early", at=NOW - 5))
        assert drain(ledger) == ["early", "first-of-two", "second-of-two", "late"]

    def test_b6_the_head_is_read_anew_so_an_older_event_that_comes_meanwhile_is_next(self, ledger: Ledger) -> None:
        put(ledger, new("1", at=NOW), new("3", at=NOW + 3))
        lease = claimed(ledger)
        assert lease.head is not None
        assert lease.head.dedupe_key == "1"
        put(ledger, new("2", at=NOW + 2), new("0", at=NOW - 10))
        seen: list[str] = []
        while lease.head is not None:
            finish(ledger, lease)
            if (head := lease.head) is not None:
                seen.append(head.dedupe_key)
        assert seen == ["0", "2", "3"]

    def test_lanes_do_not_wait_for_each_other(self, ledger: Ledger) -> None:
        put(ledger, new("a", "in:1:1"), new("b", "in:1:2"))
        lanes = {claimed(ledger, "one").lane, claimed(ledger, "two").lane}
        assert lanes == {"in:1:1", "in:1:2"}
        assert claim(ledger, "three") is None

    def test_one_lane_is_claimed_by_one_of_eight(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        leases = in_threads(8, lambda index: claim(ledger, f"owner-{index}"))
        assert sum(lease is not None for lease in leases) == 1

    def test_eight_claimants_share_the_lanes_without_overlap(self, ledger: Ledger) -> None:
        put(ledger, *(new(f"e{number}", f"in:1:{number:02}") for number in range(40)))

        def work(index: int) -> list[str]:
            mine = []
            while (lease := claim(ledger, f"owner-{index}")) is not None:
                mine.append(lease.lane)
            return mine

        found = [lane for lanes in in_threads(8, work) for lane in lanes]
        # SKIP LOCKED may find nothing while the others hold every due row: then a claimant stops early.
        assert len(found) == len(set(found))
        rest = [lease.lane for lease in iter(lambda: claim(ledger), None)]
        assert len(found) + len(rest) == 40

    # Leases

    def test_a_lease_expires_and_is_taken_over_with_a_higher_fence(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        first = claimed(ledger, "first")
        assert claim(ledger, "second", now=NOW + TTL - 1) is None
        second = claimed(ledger, "second", now=NOW + TTL)
        assert second.fence == first.fence + 1
        assert second.head is not None
        assert second.head.starts == 2

    def test_a_stale_lease_cannot_settle_release_or_prolong(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        stale = claimed(ledger, "first")
        fresh = claimed(ledger, "second", now=NOW + TTL)
        assert not finish(ledger, stale, now=NOW + TTL)
        with ledger.write() as tx:
            tx.queue.release(stale, now=NOW + TTL, due_at=None)
            tx.queue.heartbeat([stale], now=NOW + 10 * TTL, ttl_ms=TTL)
            tx.queue.mark_hung(stale, now=NOW)
            assert not tx.queue.holds(stale)
            assert tx.queue.holds(fresh)
        assert claim(ledger, "third", now=NOW + 2 * TTL - 1) is None
        assert claimed(ledger, "third", now=NOW + 2 * TTL).head is not None

    def test_a_heartbeat_prolongs_a_lease(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        lease = claimed(ledger)
        with ledger.write() as tx:
            tx.queue.heartbeat([lease], now=NOW + TTL - 1, ttl_ms=TTL)
        assert claim(ledger, "other", now=NOW + TTL + 1) is None

    def test_b7_only_a_lease_that_is_held_can_be_shown_as_hung(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        lease = claimed(ledger)

        def hung() -> list[str]:
            with ledger.write() as tx:
                tx.queue.mark_hung(lease, now=NOW)
                found: list[str] = tx.status(now=NOW)["hung_lanes"]
            return found

        assert hung() == ["in:1:1"]
        with ledger.write() as tx:
            tx.queue.release(lease, now=NOW, due_at=NOW)
        assert hung() == [], "it returned just now"

    def test_no_wake_up_is_lost_between_claim_and_release(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        lease = claimed(ledger)
        with ledger.write() as tx:  # the lane is empty after this …
            assert lease.head is not None
            assert tx.queue.finish_held(lease, lease.head, now=NOW)
            assert tx.queue.head(lease) is None
        put(ledger, new("b"))  # … something comes in …
        with ledger.write() as tx:  # … and only then is it given back
            tx.queue.release(lease, now=NOW, due_at=None)
        assert drain(ledger) == ["b"]

    def test_no_wake_up_is_lost_with_eight_writers_and_four_workers(self, ledger: Ledger) -> None:
        total, seen, lock = 8 * 15, [], threading.Lock()
        stop = threading.Event()

        def worker(index: int) -> None:
            while not stop.is_set():
                lease = claim(ledger, f"worker-{index}")
                while lease is not None and lease.head is not None:
                    with lock:
                        seen.append(lease.head.dedupe_key)
                    finish(ledger, lease)

        workers = [threading.Thread(target=worker, args=(index,)) for index in range(4)]
        for one in workers:
            one.start()
        in_threads(8, lambda index: [put(ledger, new(f"{index}-{n}", f"in:1:{n % 3}")) for n in range(15)])
        try:
            wait_until(lambda: len(seen) >= total, what="every event")
        finally:
            stop.set()
            for one in workers:
                one.join(60)
        assert sorted(seen) == sorted({f"{index}-{n}" for index in range(8) for n in range(15)})
        assert count(ledger) == 0

    def test_a_new_event_does_not_shorten_a_lease(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        claimed(ledger)
        put(ledger, new("b"))
        assert claim(ledger, "other") is None

    def test_a_new_event_does_not_shorten_a_back_off(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        lease = claimed(ledger)
        with ledger.write() as tx:
            assert lease.head is not None
            tx.queue.note_failure(lease.head, error="outage")
            tx.queue.release(lease, now=NOW, due_at=NOW + 60_000, failures=1)
        put(ledger, new("older", at=NOW - 1))
        assert claim(ledger, now=NOW + 59_999) is None
        again = claimed(ledger, now=NOW + 60_000)
        assert again.failures == 1
        assert again.head is not None
        assert again.head.dedupe_key == "older"

    def test_a_delayed_event_waits_and_next_due_tells_when(self, ledger: Ledger) -> None:
        put(ledger, new("a", "gap:1:1", due_at=NOW + 30_000))
        assert claim(ledger, now=NOW + 29_999) is None
        with ledger.read() as tx:
            assert tx.queue.next_due() == NOW + 30_000
        assert claim(ledger, now=NOW + 30_000) is not None

    def test_the_lane_due_longest_comes_first(self, ledger: Ledger) -> None:
        put(ledger, new("young", "in:1:1"), now=NOW)
        put(ledger, new("old", "in:1:2"), now=NOW - 10)
        assert claimed(ledger).lane == "in:1:2"

    def test_claiming_one_lane_by_its_key_respects_a_lease(self, ledger: Ledger) -> None:
        put(ledger, new("a", due_at=NOW + 60_000))
        with ledger.write() as tx:
            mine = tx.queue.claim_lane("in:1:1", owner="me", now=NOW, ttl_ms=TTL)
        assert mine is not None
        with ledger.write() as tx:
            assert tx.queue.claim_lane("in:1:1", owner="other", now=NOW, ttl_ms=TTL) is None
            assert tx.queue.claim_lane("in:1:9", owner="other", now=NOW, ttl_ms=TTL) is None

    def test_b7_after_a_dead_event_the_next_one_carries_after_gap(self, ledger: Ledger) -> None:
        put(ledger, new("a"), new("b", at=NOW + 1), new("c", at=NOW + 2))
        lease = claimed(ledger)
        heads: list[Event] = []
        for state in (EventState.DEAD, EventState.DONE, EventState.DONE):
            with ledger.write() as tx:
                assert lease.head is not None
                heads.append(lease.head)
                tx.queue.finish(lease.head, state, now=NOW, error="x")
                lease.head = tx.queue.head(lease)
        assert [(head.dedupe_key, head.after_gap) for head in heads] == [("a", False), ("b", True), ("c", False)]

    def test_b6_a_dead_event_that_is_retried_comes_back_at_its_place(self, ledger: Ledger) -> None:
        put(ledger, new("a"))
        lease = claimed(ledger)
        assert lease.head is not None
        first = lease.head.id
        with ledger.write() as tx:
            tx.queue.finish(lease.head, EventState.DEAD, now=NOW, error="x")
            tx.queue.release(lease, now=NOW, due_at=None)
        put(ledger, new("b", at=NOW + 5))
        with ledger.write() as tx:
            assert tx.retry_dead(first, now=NOW)
        with ledger.write() as tx:
            assert not tx.retry_dead(first, now=NOW)
        assert drain(ledger) == ["a", "b"]

    # Under load

    def test_overlapping_shuffled_batches_from_eight_threads_do_not_deadlock(self, ledger: Ledger) -> None:
        """Lanes are taken sorted: the traps measured were five deadlocks in ten transactions without that."""
        keys = [(f"k{number}", f"in:1:{number % 7}") for number in range(60)]

        def work(index: int) -> int:
            shuffled = random.Random(index)
            stored = 0
            for _ in range(4):
                batch = shuffled.sample(keys, 40)
                stored += put(ledger, *(new(key, lane) for key, lane in batch))
            return stored

        assert sum(in_threads(8, work)) == count(ledger) <= 60

    def test_who_prolongs_leases_and_who_parks_do_not_wait_for_each_other(self, ledger: Ledger) -> None:
        put(ledger, new("a", "gap:1:1"), new("b", "park:1"))
        leases = [claimed(ledger), claimed(ledger)]
        is_parking = threading.Event()

        def park() -> None:
            with ledger.write() as tx:
                tx.queue.touch("park:1", due_at=NOW)
                is_parking.set()
                time.sleep(0.3)
                tx.queue.put([new("c", "gap:1:1")], now=NOW)

        def prolong() -> None:
            assert is_parking.wait(60)
            with ledger.write() as tx:
                tx.queue.heartbeat(leases, now=NOW + 1, ttl_ms=TTL)

        in_threads(2, lambda index: (park, prolong)[index]())
        assert count(ledger) == 3

    @pytest.mark.parametrize("first", ["take_back", "begin"])
    def test_c4_an_event_is_taken_back_or_begun_never_both(self, ledger: Ledger, first: str) -> None:
        put(ledger, new("a", "out:1"), new("b", "out:1", at=NOW + 1))
        first_has_written = threading.Event()

        @contextlib.contextmanager
        def transaction(name: str) -> Iterator[Transaction]:
            """The second begins while the first is not committed yet."""
            if name != first:
                assert first_has_written.wait(60)
            with ledger.write() as tx:
                yield tx
                if name == first:
                    first_has_written.set()
                    time.sleep(0.3)

        def take_back() -> None:
            with transaction("take_back") as tx:
                tx.cancel_unpublished("out:1", now=NOW, topics=["test"])

        def begin() -> None:
            with transaction("begin") as tx:
                lease = tx.queue.claim(owner="me", now=NOW, ttl_ms=TTL)
                assert lease is not None
                lease.head = tx.queue.head(lease)
                begun.append(lease.head.dedupe_key if lease.head else None)

        begun: list[str | None] = []
        in_threads(2, lambda index: (take_back, begin)[index]())
        taken_back = count(ledger, EventState.DONE)
        assert (begun, taken_back) == (([None], 2) if first == "take_back" else (["a"], 1))

    def test_c1_one_open_handoff_per_conversation_with_eight_at_once(self, ledger: Ledger) -> None:
        def start(_: int) -> tuple[str, bool]:
            with ledger.write() as tx:
                record, is_new = rules.begin(tx, opening("c1"), deployment_id="d", now=NOW)
                return record.handoff.id, is_new

        found = in_threads(8, start)
        assert sum(is_new for _, is_new in found) == 1
        assert len({handoff_id for handoff_id, _ in found}) == 1
        with ledger.read() as tx:
            assert tx.records.count_by_state() == {"starting": 1}

    def test_c1_a_closed_handoff_makes_room_for_the_next(self, ledger: Ledger) -> None:
        for _ in range(3):
            with ledger.write() as tx:
                begin_handoff(tx, "c1", now=NOW)
            with ledger.write() as tx:
                rules.stop(tx, "c1", reason=CloseReason.USER, detail=None, now=NOW)
        with ledger.read() as tx:
            assert tx.records.open_of("c1") is None

    def test_an_error_in_the_block_rolls_everything_back(self, ledger: Ledger) -> None:
        def fail() -> None:
            with ledger.write() as tx:
                tx.queue.put([new("a")], now=NOW)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert count(ledger) == 0
        assert put(ledger, new("a")) == 1

    def test_who_overlooks_that_a_statement_failed_is_not_told_that_it_is_stored(self, ledger: Ledger) -> None:
        """PostgreSQL takes such a transaction back, and its COMMIT says nothing of it."""

        def overlook() -> None:
            with ledger.write() as tx:
                tx.queue.put([new("a")], now=NOW)
                with contextlib.suppress(sa.exc.SQLAlchemyError):
                    tx._connection.execute(sa.text("SELEKT"))

        if ledger.is_sqlite:
            overlook()
        else:
            with pytest.raises(LedgerUnavailable, match="the transaction was lost"):
                overlook()
        assert count(ledger) == int(ledger.is_sqlite)

    def test_on_sqlite_one_thread_writes_at_a_time(self, ledger: Ledger) -> None:
        inside, most = 0, 0

        def write(index: int) -> None:
            nonlocal inside, most
            for number in range(5):
                with ledger.write() as tx:
                    inside += 1
                    most = max(most, inside)
                    tx.queue.put([new(f"{index}:{number}")], now=NOW)
                    time.sleep(0.001)
                    inside -= 1

        in_threads(8, write)
        assert count(ledger) == 40
        assert most == 1 or not ledger.is_sqlite

    def test_text_of_any_kind_comes_back_as_it_went_in(self, ledger: Ledger) -> None:
        payload = {"t": "Olá 👋 \u2028 \x01 'quote\" \\ %s ; DROP", "n": 2**63 - 1, "f": 0.1, "deep": [[[{"a": None}]]]}
        put(ledger, new("a", payload=payload))
        head = claimed(ledger).head
        assert head is not None
        assert head.payload == payload

    # Opening

    def test_the_deployment_id_is_made_once(self, database_url: str, clock: ManualClock, ledger: Ledger) -> None:
        again = Ledger(database_url, clock)
        again.create()
        assert len(again.deployment_id) == 16
        assert again.deployment_id == ledger.deployment_id
        again.close()

    def test_d_two_processes_may_create_the_schema_at_once(self, database_url: str, speed: Speed) -> None:
        code = (
            "import sys\n"
            "from flask_hubspot_hitl.clock import SystemClock\n"
            "from flask_hubspot_hitl.ledger import Ledger, Speed\n"
            f"ledger = Ledger(sys.argv[1], SystemClock(), speed={speed!r})\n"
            "sys.stdin.readline()\nledger.create()\nprint(ledger.deployment_id)\nledger.close()\n"
        )
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        time.sleep(0)  # they wait for their line, so that all begin together
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [process.communicate(timeout=60)[0].strip() for process in started]
        assert [process.returncode for process in started] == [0, 0, 0]
        assert len(set(found)) == 1
        assert found[0]

    def test_a_schema_of_a_newer_version_is_refused(
        self, database_url: str, clock: ManualClock, ledger: Ledger
    ) -> None:
        with ledger.write() as tx:
            tx.set_meta("schema_version", "999")
        newer = Ledger(database_url, clock)
        with pytest.raises(LedgerUnavailable, match="upgrade the package"):
            newer.create()
        newer.close()

    def test_a_connection_given_back_while_the_ledger_closes_is_ended(self, ledger: Ledger) -> None:
        pool = ledger._database.engine.pool

        @sa.event.listens_for(pool, "checkin")
        def close(*_: object) -> None:
            ledger.close()  # as by another thread, just before the pool has the connection again

        with ledger.read() as tx:
            tx.get_meta("deployment_id")
        assert pool.status().startswith("Pool size: 20  Connections in pool: 0 "), pool.status()


# --- SQLite only -----------------------------------------------------------------------------------------


@pytest.fixture
def on_sqlite(sqlite_url: str, clock: ManualClock, speed: Speed) -> Iterator[Ledger]:
    ledger = Ledger(sqlite_url, clock, speed=speed)
    ledger.create()
    yield ledger
    ledger.close()


def mode_of(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_d_the_database_folder_is_0700_and_every_file_0600(tmp_path: Path, clock: ManualClock) -> None:
    before = os.umask(0)
    try:
        ledger = Ledger(f"sqlite:///{tmp_path}/instance/hubspot-hitl/bot.sqlite3", clock)
        ledger.create()
        put(ledger, new("a"))
        folder = tmp_path / "instance" / "hubspot-hitl"
        files = {path.name: mode_of(path) for path in folder.iterdir()}
    finally:
        os.umask(before)
    assert mode_of(folder) == "0o700"
    assert files == {f"bot.sqlite3{end}": "0o600" for end in ("", "-wal", "-shm", ".lock")}
    ledger.close()


def test_d_an_existing_folder_keeps_its_mode_and_an_open_file_is_closed_to_others(
    tmp_path: Path, clock: ManualClock
) -> None:
    tmp_path.chmod(0o755)
    file = tmp_path / "bot.sqlite3"
    file.touch(0o644)
    Ledger(f"sqlite:///{file}", clock).close()
    assert (mode_of(tmp_path), mode_of(file)) == ("0o755", "0o600")


def test_a_database_that_cannot_be_made_says_so(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").touch()
    ledger = Ledger(f"sqlite:///{tmp_path}/file/bot.sqlite3", clock)
    with pytest.raises(LedgerUnavailable, match=r"can't be made or opened"):
        ledger.create()


def test_a_damaged_database_is_unavailable_and_not_a_crash(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "bot.sqlite3").write_bytes(b"this is not a database, and long enough to be looked at " * 20)
    ledger = Ledger(f"sqlite:///{tmp_path}/bot.sqlite3", clock)
    with pytest.raises(LedgerUnavailable):
        ledger.create()
    ledger.close()


@both_paths
def test_sqlite_runs_with_wal_and_full_synchronous(on_sqlite: Ledger) -> None:
    with on_sqlite.read() as tx:
        found = [tx._connection.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")]
    assert found == ["wal", 2]


@both_paths
def test_who_has_lost_the_transaction_is_told_so(on_sqlite: Ledger) -> None:
    """SQLite takes it back by itself after an error of the disk."""

    def lose() -> None:
        with on_sqlite.write() as tx:
            tx.queue.put([new("a")], now=NOW)
            tx._connection.driver.rollback()

    with pytest.raises(LedgerUnavailable, match="the transaction was lost"):
        lose()
    assert count(on_sqlite) == 0
    assert put(on_sqlite, new("a")) == 1


@slow_on_the_plain_path
def test_a_locked_database_is_unavailable_within_five_seconds_also_for_those_who_queue(
    on_sqlite: Ledger, sqlite_url: str
) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    def work(index: int) -> None:
        with pytest.raises(LedgerUnavailable):
            put(on_sqlite, new(f"k{index}"))

    assert seconds_of(lambda: in_threads(4, work), less_than=5.0) < 5.0
    other.execute("ROLLBACK")
    other.close()
    assert put(on_sqlite, new("after")) == 1


@slow_on_the_plain_path
def test_a_process_stopped_while_it_writes_does_not_hang_the_others(on_sqlite: Ledger, sqlite_url: str) -> None:
    import fcntl

    path = sqlite_url.removeprefix("sqlite:///") + ".lock"
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def write() -> None:
            with pytest.raises(LedgerUnavailable, match="another process"):
                put(on_sqlite, new("a"))

        assert seconds_of(write, less_than=5.0) < 5.0
        fcntl.flock(file, fcntl.LOCK_UN)
    assert put(on_sqlite, new("a")) == 1


_KILLED = """
import os, signal, sys, time
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger, NewEvent
ledger = Ledger(sys.argv[1], SystemClock())
ledger.create()
child = os.fork()
if child == 0:
    os.close(1)
    os.close(2)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
with ledger.write() as tx:
    tx.queue.put([NewEvent(dedupe_key="half", lane="in:1:1", topic="test", sort_at=0)], now=0)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_frees_its_lock_also_when_a_child_of_its_lives_on(on_sqlite: Ledger, sqlite_url: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", _KILLED, sqlite_url], capture_output=True, text=True, check=False, timeout=100
    )
    child = int(process.stdout)
    try:
        assert process.returncode == -signal.SIGKILL
        assert put(on_sqlite, new("a")) == 1
        assert drain(on_sqlite) == ["a"]  # nothing of the half-done transaction
    finally:
        os.kill(child, signal.SIGKILL)


_CLAIMS = """
import os, signal, sys
from flask_hubspot_hitl.dispatch.owners import new_owner
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger
ledger = Ledger(sys.argv[1], SystemClock())
owner = new_owner()
with ledger.write() as tx:
    assert tx.queue.claim(owner=owner, now=ledger.now_ms(), ttl_ms=3_600_000)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("noticed", [True, False])
def test_the_lanes_of_a_killed_owner_are_freed_at_once_on_sqlite(
    make_app: MakeApp, sqlite_url: str, noticed: bool
) -> None:
    app = make_app(dispatcher="external", lease_ttl=3600)  # it must not start by itself meanwhile
    state = state_of(app)
    state.dispatcher.blocked()  # as when it has served before
    with state.ledger.write() as tx:
        tx.queue.put([new("a"), new("b", "in:1:2")], now=0)
    process = subprocess.Popen([sys.executable, "-c", _CLAIMS, sqlite_url])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    if noticed:  # else it stays in the table of processes until its parent asks for it
        process.wait()
    with state.ledger.write() as tx:  # another machine's lease, and our own, are left alone
        assert tx.queue.claim(owner="elsewhere:1:1:x", now=state.ledger.now_ms(), ttl_ms=3_600_000)
        assert len(tx.queue.owners()) == 2
    state.dispatcher.ensure_started()

    def owners() -> list[str]:
        with state.ledger.read() as tx:
            return tx.queue.owners()

    wait_until(lambda: owners() == ["elsewhere:1:1:x"], what="the dead owner's lane")
    process.wait()
    assert socket.gethostname() != "elsewhere"


def test_a_container_of_the_same_host_name_is_alive_though_its_process_ids_say_nothing_here() -> None:
    name, number, started, _ = new_owner().split(":")
    host = name.partition("/")[0]
    assert host == socket.gethostname()
    assert is_dead(f"{name}:{os.getpid()}:0:x"), "of this container, and another process has the number since"
    for other in (f"{host}/1", host):
        assert not is_dead(f"{other}:{number}:0:x")
        assert not is_dead(f"{other}:4194304:{started}:x")


# --- PostgreSQL only -------------------------------------------------------------------------------------

_STOPPED = """
import os, signal, sys
from flask_hubspot_hitl import LedgerUnavailable
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger, NewEvent
ledger = Ledger(sys.argv[1], SystemClock())
try:
    with ledger.write() as tx:
        tx.queue.put([NewEvent(dedupe_key="half", lane="in:1:1", topic="test", sort_at=0)], now=0)
        os.kill(os.getpid(), signal.SIGSTOP)
except LedgerUnavailable:
    print("lost it")
"""


@slow_on_the_plain_path
def test_a_process_stopped_in_a_transaction_frees_its_rows(
    postgresql_url: str, clock: ManualClock, speed: Speed
) -> None:
    """So does a host that is cut off: PostgreSQL would hear of that much later."""
    ledger = Ledger(postgresql_url, clock, speed=speed)
    ledger.create()
    command = [sys.executable, "-c", _STOPPED, postgresql_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)

            def stored() -> bool:
                with contextlib.suppress(LedgerUnavailable):
                    return put(ledger, new("a")) == 1
                return False

            wait_until(stored)
        finally:
            process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == "lost it\n"
    assert drain(ledger) == ["a"]
    ledger.close()


def test_no_statement_of_an_event_reads_a_whole_table(sqlite_url: str) -> None:
    ledger = Ledger(sqlite_url, ManualClock())
    ledger.create()
    made = [*vars(ledger._statements.queue).items(), *vars(ledger._statements.records).items()]
    plans = {}
    with ledger.write() as tx:
        for name, statement in made:
            if isinstance(statement, sa.Select | sa.Insert | sa.Update):
                prepared = tx._connection._prepare(statement)
                empty = prepared.bind({})
                plan = tx._connection.driver.execute(f"EXPLAIN QUERY PLAN {prepared.text}", empty)
                plans[name] = [row[3] for row in plan]
    ledger.close()
    assert {"claim", "head", "holds", "rest", "get"} <= set(plans)
    assert not [(name, line) for name, plan in plans.items() for line in plan if line.startswith("SCAN hitl_")]
