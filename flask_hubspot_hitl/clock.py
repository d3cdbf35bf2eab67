"""Pass time in as an object, and bound how long a block may take. Imports nothing of ours."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tell the extension the time."""

    def now_ms(self) -> int:
        """Return the time now, in epoch milliseconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let this many seconds go by. For commands; nothing that serves waits like this.

        :param seconds: seconds.
        """
        ...


class SystemClock:
    """Follow the machine's clock until the ledger sets this one; then count the time since the machine was started.

    A later correction of the machine's clock, right or wrong, does not move this one; see :mod:`.ledger.timekeeping`.

    :param machine: returns the machine's time in epoch ms; for tests.
    """

    def __init__(self, machine: Callable[[], int] | None = None) -> None:
        self._machine = machine or _machine_ms
        self._ahead: int | None = None
        self._is_true = False

    def now_ms(self) -> int:
        return self._machine() if self._ahead is None else uptime_ms() + self._ahead

    def machine_ms(self) -> int:
        """Return what the machine's clock says, in epoch ms."""
        return self._machine()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def set(self, now_ms: int, *, at: int, is_true: bool = True) -> None:
        """Set the clock by a time that was right at a moment.

        :param now_ms: the time then, in epoch ms.
        :param at: the moment, in milliseconds of :func:`uptime_ms`.
        :param is_true: True when this is better than what the machine's clock says: others' times are compared with it,
            too.
        """
        self._ahead = now_ms - at
        self._is_true = is_true

    def wall_ms(self) -> int:
        """Return the time that others go by, in epoch ms; it may be set forward and back."""
        return self.now_ms() if self._is_true else self._machine()


class ManualClock:
    """Stand still until told to move; for tests.

    :param now_ms: the time to begin with, in epoch ms; by default the machine's.
    """

    def __init__(self, now_ms: int | None = None) -> None:
        self._now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move forward.

        :param seconds: seconds.
        """
        self._now_ms += int(seconds * 1000)


class Deadline:
    """Bound what one kind of work waits for, in seconds: ``with deadline(5.0): …``.

    Blocks nest, and the earlier end wins. A block holds in its thread or task, and in what runs in a copy of its
    context. Time is the monotonic clock's.

    :param name: the name of the context variable that holds the end.
    """

    def __init__(self, name: str) -> None:
        self._ends_at: ContextVar[float] = ContextVar(name, default=math.inf)

    def __call__(self, seconds: float) -> _Block:
        """Make the block whose work ends within ``seconds``, counted from its beginning; at once when negative."""
        return _Block(self._ends_at, seconds)

    def left(self) -> float:
        """Return the seconds until the end of the block: 0 when it has passed, infinity outside of a block."""
        return max(self._ends_at.get() - time.monotonic(), 0.0)


class _Block:
    """Be a deadline's context manager; a class, because a generator costs each transaction more time."""

    __slots__ = ("_ends_at", "_reset", "_seconds")
    _reset: Token[float]

    def __init__(self, ends_at: ContextVar[float], seconds: float) -> None:
        self._ends_at = ends_at
        self._seconds = seconds

    def __enter__(self) -> None:
        self._reset = self._ends_at.set(min(self._ends_at.get(), time.monotonic() + self._seconds))

    def __exit__(self, *_: object) -> None:
        self._ends_at.reset(self._reset)


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000


_BOOT: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def uptime_ms() -> int:
    """Return milliseconds since some past moment; they go on while the machine sleeps, where the system can tell."""
    return (time.monotonic_ns() if _BOOT is None else time.clock_gettime_ns(_BOOT)) // 1_000_000


def wall_ms(clock: Clock) -> int:
    """Return the time that others go by, in epoch ms: what a signature's time, or HubSpot's, is compared with."""
    return clock.wall_ms() if isinstance(clock, SystemClock) else clock.now_ms()


def machine_since() -> str | None:
    """Return since when :func:`uptime_ms` counts: the same for all processes of this machine until it is started again.

    :returns: an opaque text; None where the system does not tell.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/time')}"  # containers may count otherwise
    except OSError:
        return None


def to_datetime(ms: int) -> datetime:
    """Turn epoch milliseconds into an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(value: datetime) -> int:
    """Turn an aware datetime into epoch milliseconds."""
    return round(value.timestamp() * 1000)
