"""Time: the machine's clock on SQLite, the server's on PostgreSQL, whatever becomes of the machine's."""

from __future__ import annotations

import contextlib
import time

import pytest

from flask_hubspot_hitl.clock import ManualClock, SystemClock
from flask_hubspot_hitl.ledger import Ledger

HOUR_MS = 3_600_000


class MachineClock:
    """A machine's clock that somebody puts forward or back."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS])
def test_a_host_with_a_wrong_clock_goes_by_postgresqls(postgresql_url: str, ahead_ms: int) -> None:
    machine = MachineClock()
    machine.ahead_ms = ahead_ms
    with contextlib.closing(Ledger(postgresql_url, SystemClock(machine))) as ledger:
        ledger.create()
        assert abs(ledger.now_ms() - time.time() * 1000) < HOUR_MS / 2
        machine.ahead_ms = -2 * ahead_ms  # while it runs
        assert abs(ledger.now_ms() - time.time() * 1000) < HOUR_MS / 2


def test_on_sqlite_all_processes_go_by_the_machines_clock(sqlite_url: str) -> None:
    machine = MachineClock()
    with contextlib.closing(Ledger(sqlite_url, SystemClock(machine))) as ledger:
        ledger.create()
        before = ledger.now_ms()
        machine.ahead_ms = HOUR_MS
        assert ledger.now_ms() - before >= HOUR_MS


def test_a_clock_that_was_set_goes_on() -> None:
    clock = SystemClock(lambda: 0)
    assert clock.now_ms() == 0
    clock.set(5_000_000, at=0)
    first = clock.now_ms()
    time.sleep(0.02)
    assert 15 <= clock.now_ms() - first < HOUR_MS


def test_a_manual_clock_sleeps_at_once() -> None:
    clock = ManualClock(5_000)
    clock.sleep(2.5)
    assert clock.now_ms() == 7_500
