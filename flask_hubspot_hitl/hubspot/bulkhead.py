"""Keep a server that hangs from holding every thread: it has a share of them, and less while it does not answer.

Whatever is called, HubSpot for one portal, a host of files, Botpress, has one of these in each process. Of ours it may
import ``errors``, ``process`` and its neighbours here; no Flask, no database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import CallPostponed, HubSpotUnavailable
from ..process import Process, dice
from .transport import Availability

PATIENCE_MS = 1_000
"""Milliseconds that a call may always take before its server counts as slow."""
UNUSUAL = 4
"""How many times as long as usual a call takes from which its server counts as slow."""
OPEN_MS, OPEN_CAP_MS = 2_000, 60_000
"""Milliseconds that a server is left alone that did not answer, at first and at most."""
WAIT_MS, WAIT_CAP_MS = 50, 10_000
"""Milliseconds that a refused caller is told to wait, at least and at most."""
PLACE_SECONDS = 0.25
"""Seconds that a caller waits for a place where the server has its share, and answers as it always does."""


def open_ms(trips: int) -> int:
    """Return how long a server is left alone that did not answer, in milliseconds: longer each time.

    :param trips: how often in a row that has happened before.
    """
    return min(OPEN_MS << min(trips, 10), OPEN_CAP_MS)


@dataclass(frozen=True, slots=True)
class Passage:
    """Let one call through."""

    number: int
    at_ms: int
    holds: bool
    """Whether it counts in the server's share."""


class Bulkhead:
    """Be the gate of one server in this process; see :class:`.transport.Gate`. Thread-safe.

    While a call has been without an answer for much longer than usual, and nothing was answered since it began, only
    one more at a time goes in. So the first hang costs the threads that are caught in its first second, and then one.

    :param name: the server's, for errors.
    :param now_ms: tells the time in epoch ms.
    :param share: tells how many calls may be under way at once; None: any number.
    :param holds: tells whether the caller is of those that share their threads; others only wait for what hangs.
    :param shuts: whether the server is left alone for a while after a call that hung; False: another gate sees to that.
    :param place_seconds: how long a caller waits for a place.
    """

    def __init__(
        self,
        name: str,
        now_ms: Callable[[], int],
        share: Callable[[], int] | None = None,
        *,
        holds: Callable[[], bool] = lambda: True,
        shuts: bool = True,
        place_seconds: float = PLACE_SECONDS,
    ) -> None:
        self._name = name
        self._now_ms = now_ms
        self._share = share
        self._holds = holds
        self._shuts = shuts
        self._place_seconds = place_seconds
        self._process = Process(self._begin_anew)
        self._usual_ms = 0.0
        self._heard_ms = 0
        self._open_until = 0
        self._trips = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._place = threading.Condition(self._lock)
        self._queued = self._held = 0
        self._inside: dict[int, int] = {}
        self._number = 0
        self._probe = 0
        self._behind = self._behind_since = 0

    @property
    def is_idle(self) -> bool:
        """Return True when no call is under way, and nothing bad is known."""
        return not self._inside and not self._open_until

    def enter(self, doing: str) -> Passage:
        """Let a call through.

        :param doing: names the operation in errors.
        :raises CallPostponed: when the server has its share of the threads, or answers slowly.
        :raises HubSpotUnavailable: when it did not answer, and is left alone.
        """
        self._process.check()
        holds = self._holds()
        with self._lock:
            if holds:
                self._wait_for_place()
            now = self._now_ms()
            is_probe = self._open_until > 0 or self._is_slow(now)
            if now < self._open_until:
                why = f"{doing}: not asked, {self._name} does not answer"
                raise HubSpotUnavailable(why, retry_after=(self._open_until - now) / 1000)
            if is_probe and self._probe in self._inside:
                raise self._postponed(doing, "answers slowly", PATIENCE_MS, now)
            if holds and self._is_full():
                raise self._postponed(doing, "has its share of the threads", self._usual_ms, now)
            self._number += 1
            if is_probe:
                self._probe = self._number
            self._inside[self._number] = now
            self._held += holds
            return Passage(self._number, now, holds)

    def _is_full(self) -> bool:
        return self._share is not None and self._held >= self._share()

    def _wait_for_place(self) -> None:
        """Wait a moment where all places are taken, as many as there are places: quick calls need not be put off."""
        if not self._is_full() or self._queued >= self._held or self._is_slow(self._now_ms()):
            return
        self._queued += 1
        try:
            self._place.wait_for(lambda: not self._is_full(), self._place_seconds)
        finally:
            self._queued -= 1

    def hangs(self, passage: Passage) -> bool:
        """Return True when a call has been without an answer for too long, and no other one was answered meanwhile."""
        with self._lock:
            return self._is_late(passage.at_ms, self._now_ms())

    def leave(self, passage: Passage, shown: Availability, retry_after: float | None) -> None:
        """Take note of how a call went; once for each passage."""
        with self._lock:
            now = self._now_ms()
            if self._inside.pop(passage.number, None) is None:
                return  # of another process
            self._held -= passage.holds
            self._place.notify()
            if shown in (Availability.UP, Availability.BUSY):
                took = now - passage.at_ms
                self._usual_ms = took if not self._heard_ms else 0.8 * self._usual_ms + 0.2 * took
                self._heard_ms = now
                self._open_until = self._trips = 0
            elif shown is Availability.DOWN and self._shuts:
                failed_probe = self._open_until > 0 and passage.number == self._probe
                if failed_probe or (not self._open_until and self._is_late(passage.at_ms, now)):
                    self._open_until = now + open_ms(self._trips)
                    self._trips += 1

    def _is_late(self, at_ms: int, now: int) -> bool:
        return now - at_ms >= max(PATIENCE_MS, UNUSUAL * self._usual_ms) and at_ms >= self._heard_ms

    def _is_slow(self, now: int) -> bool:
        return any(self._is_late(at_ms, now) for at_ms in self._inside.values())

    def _postponed(self, doing: str, why: str, base_ms: float, now: int) -> CallPostponed:
        """Make the error of a refused call, with a time to come again that spreads all those who wait."""
        if now - self._behind_since >= PATIENCE_MS:
            self._behind, self._behind_since = 0, now
        self._behind += 1
        rounds = self._behind / (self._share() if self._share else self._behind)
        wait_ms = base_ms * dice.uniform(0.5, 1.5) * (1 + rounds)
        seconds = min(max(wait_ms, WAIT_MS), WAIT_CAP_MS) / 1000
        return CallPostponed(f"{doing}: not asked, {self._name} {why}", retry_after=seconds)
