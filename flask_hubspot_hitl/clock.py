"""Time, as something that is passed in. Imports nothing of ours."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the extension asks for the time."""

    def now_ms(self) -> int:
        """The time now, in epoch milliseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let so much time go by. For commands; nothing that serves waits like this."""
        ...


class SystemClock:
    """The machine's clock, until it is set by a better one: a database server's, which all hosts share.

    From then on it goes by the time since the machine was started, so that nobody who puts the machine's clock
    right, or wrong, moves ours. ``machine`` gives the machine's time in epoch ms; for tests.
    """

    def __init__(self, machine: Callable[[], int] | None = None) -> None:
        self._machine = machine or _machine_ms
        self._ahead: int | None = None

    def now_ms(self) -> int:
        return self._machine() if self._ahead is None else uptime_ms() + self._ahead

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def set(self, now_ms: int, *, at: int) -> None:
        """It was ``now_ms`` (epoch ms) at the moment ``at`` (:func:`uptime_ms`)."""
        self._ahead = now_ms - at


class ManualClock:
    """A clock that only moves when told to; for tests."""

    def __init__(self, now_ms: int | None = None) -> None:
        self._now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move forward by ``seconds``."""
        self._now_ms += int(seconds * 1000)


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000


def uptime_ms() -> int:
    """Milliseconds since some moment in the past; goes on while the machine sleeps, where the system can tell."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return (time.monotonic_ns() if boot is None else time.clock_gettime_ns(boot)) // 1_000_000


def to_datetime(ms: int) -> datetime:
    """Epoch milliseconds as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(value: datetime) -> int:
    """An aware datetime as epoch milliseconds."""
    return round(value.timestamp() * 1000)
