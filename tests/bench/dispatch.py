"""How fast a backlog is dispatched: ``flask hubspot-hitl worker`` with receivers that do next to nothing, or wait.

The backlog comes in through the intake: assignments, each of which is a signal. Beside it, on the same database: the
ledger's own transactions without handoffs, signals and receivers, and what the disk allows anybody.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from flask_hubspot_hitl.ledger import FAST, NewEvent, Speed

from .figures import Case, Figure, Target, interleave
from .stage import Host, Stage, cpu_seconds

SLOW_SECONDS = 0.1
SLOW_THREADS = 64
LANES = 5 * SLOW_THREADS
"""So all threads have something to do until the end."""
PER_LANE = 10
ROWS = 1000
CLAIMERS = {"sqlite": 1, "postgresql": 4}
"""Threads that do the ledger's bare transactions. SQLite has one writer at a time: more are no faster."""


def run(stage: Stage) -> Iterator[Figure]:
    """Events a second; with receivers that do nothing, and with some that take 100 ms."""
    events = LANES * (3 if stage.quick else PER_LANE)
    with stage.hosts(threads=LANES) as hosts:
        cases: dict[str, Case] = {}
        for kind, host in hosts.items():
            cases[f"disk, {kind}"] = partial(disk, host, stage.folder)
            cases[f"ledger, {kind}"] = partial(bare_ledger, host, events)
            cases[f"no-op, {kind}"] = partial(drain, stage, host, events)
        found = interleave(cases, stage.rounds, stage.say)
        waiting: dict[str, Case] = {
            kind: partial(drain, stage, host, events, threads=SLOW_THREADS, work=SLOW_SECONDS)
            for kind, host in hosts.items()
        }
        slowly = interleave(waiting, 1 if stage.quick else 2, stage.say)
    line = partial(Figure, subject="dispatch")
    for kind in stage.databases:
        speed, ledger, commits = found[f"no-op, {kind}"], found[f"ledger, {kind}"], found[f"disk, {kind}"]
        yield line(
            what="no-op receiver", database=kind, unit="events/s", values=speed["rate"],
            against="ledger alone", yardstick=ledger["rate"], target=Target(2_000),
        )  # fmt: skip
        yield line(what="no-op receiver, the worker's CPU", database=kind, unit="ms/event", values=speed["cpu"])
        yield line(
            what="ledger alone", database=kind, unit="events/s", values=ledger["rate"],
            against="UPDATE + COMMIT", yardstick=commits["update"],
        )  # fmt: skip
        yield line(what="INSERT + COMMIT", database=kind, unit="commits/s", values=commits["insert"])
        yield line(
            what="receivers of 100 ms, 64 threads", database=kind, unit="events/s", values=slowly[kind]["rate"],
            against="ideal", yardstick=(SLOW_THREADS / SLOW_SECONDS,) * len(slowly[kind]["rate"]), target=Target(500),
        )  # fmt: skip


def drain(
    stage: Stage, host: Host, events: int, *, threads: int | None = None, work: float = 0.0, speed: Speed = FAST
) -> dict[str, float]:
    """A worker with a backlog: events per second from the first receiver's call to the last one's."""
    host.accept(events)
    before = host.signals()
    with host.worker(threads, work=work, speed=speed) as process:
        stage.wait_until(lambda: host.signals() > before)
        seen, cpu = host.signals() - before, cpu_seconds(process.pid)
        called = sorted(at for at, _ in host.wait_for(before + events)[before:])
        cpu = cpu_seconds(process.pid) - cpu
        stage.wait_until(lambda: host.stored() <= TIMERS)
    return {"rate": (events - 1) / (called[-1] - called[0] + work), "cpu": cpu * 1000 / (events - seen)}


TIMERS = 2
"""Events that always wait: the hourly comparison with HubSpot, and the housekeeping."""


def bare_ledger(host: Host, events: int) -> dict[str, float]:
    """Claim, take, settle, one commit for each event: the dispatcher's statements and nothing else."""
    ledger = host.runtime.ledger
    run = uuid.uuid4().hex
    lanes = max(1, events // PER_LANE)
    for start in range(0, events, 100):
        with ledger.write() as tx:
            now = ledger.now_ms()
            numbers = range(start, min(start + 100, events))
            fresh = [
                NewEvent(dedupe_key=f"{run}:{n}", lane=f"in:{run}:{n % lanes}", topic="bench", sort_at=n, payload={})
                for n in numbers
            ]
            tx.queue.put(fresh, now=now)

    def work() -> int:
        done = 0
        while True:
            now = ledger.now_ms()
            with ledger.write() as tx:
                lease = tx.queue.claim(owner="bench", now=now, ttl_ms=15_000)
                event = tx.queue.head(lease) if lease else None
            if lease is None:
                return done
            while event is not None:
                with ledger.write() as tx:
                    if not tx.queue.finish_held(lease, event, now=now):
                        raise RuntimeError("a lease was lost")
                    done += 1
                    event = tx.queue.head(lease)
                    if event is None:
                        tx.queue.release(lease, now=now, due_at=None)

    count = CLAIMERS[host.kind]
    with ThreadPoolExecutor(count) as pool:
        began = time.perf_counter()
        done = sum(future.result() for future in [pool.submit(work) for _ in range(count)])
        took = time.perf_counter() - began
    if done != events:
        raise RuntimeError(f"{events} events were put into the ledger, and {done} came out")
    return {"rate": events / took}


def disk(host: Host, folder: Path) -> dict[str, float]:
    """Rows a second, one commit for each, with nothing but the driver: an INSERT, and an UPDATE."""
    return _sqlite(folder / f"{uuid.uuid4().hex}.sqlite3") if host.kind == "sqlite" else _postgresql(host.url)


def _sqlite(path: Path) -> dict[str, float]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value TEXT)")
        return {
            "insert": _rate(lambda n: connection.execute("INSERT INTO t VALUES (?, ?)", (n, "x" * 200))),
            "update": _rate(lambda n: connection.execute("UPDATE t SET value = ? WHERE id = ?", ("y" * 200, n))),
        }


def _postgresql(url: str) -> dict[str, float]:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS t")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value TEXT)")
        return {
            "insert": _rate(lambda n: connection.execute("INSERT INTO t VALUES (%s, %s)", (n, "x" * 200))),
            "update": _rate(lambda n: connection.execute("UPDATE t SET value = %s WHERE id = %s", ("y" * 200, n))),
        }


def _rate(say: Callable[[int], object]) -> float:
    began = time.perf_counter()
    for number in range(ROWS):
        say(number)
    return ROWS / (time.perf_counter() - began)
