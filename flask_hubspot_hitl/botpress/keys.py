"""Tell a wrong key from the refusal of one message: Botpress's 401 is confirmed by a call that needs the key alone.

While the key is wrong that is known in the database, too: ``status`` and ``doctor`` tell it, and ``bridge_refused`` is
sent once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from ..errors import LedgerUnavailable
from ..ledger import Step, lanes
from ..ledger.bridges import REFUSED
from ..ledger.plans import signal_event
from ..runtime import Runtime

logger = logging.getLogger(__name__)

FIRST_MS = 5_000
"""Milliseconds from a probe that was refused to the next one; twice as many each time, up to :data:`LONGEST_MS`."""
LONGEST_MS = 300_000
SOON_MS = 1_000
"""Milliseconds after a probe that was not refused, or had no answer."""
LOOK_MS = 60_000
"""Milliseconds after which a process looks again whether another one has noted that the key is refused."""


class Verdict(Enum):
    """What a refusal means."""

    WRONG = auto()
    """The key is refused, whatever the message."""
    RIGHT = auto()
    """The key is taken: only this message, conversation or user is refused."""
    UNKNOWN = auto()
    """It can't be told just now: another thread asks, or has just asked, or Botpress does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Describe a call that changes nothing and needs the key alone: ``GET <path>``.

    :param path: what follows the base URL.
    :param headers: further headers.
    :param refusals: HTTP statuses by which Botpress refuses the key, there and elsewhere.
    :param settings: names of the settings that hold the key, without their prefix.
    """

    path: str
    settings: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    refusals: frozenset[int] = frozenset({401})


class Key:
    """Know of one bridge's key whether Botpress takes it. Thread-safe; asks once at a time, and seldom.

    :param name: the bridge's.
    """

    def __init__(self, runtime: Runtime, name: str, probe: Probe) -> None:
        self.probe = probe
        self._runtime, self._ledger, self._name = runtime, runtime.ledger, name
        self._clock = runtime.services.clock
        self._lock = threading.Lock()
        self._is_asking = self._is_wrong = False
        self._next_at = self._look_at = self._refused = 0

    def judge(self, text: str, ask: Callable[[], int | None]) -> Verdict:
        """Say what a refusal means, by asking now if it is time.

        :param text: which call was refused, for the log and the host.
        :param ask: makes the probe; returns its HTTP status, or None when there was no answer.
        """
        now = self._clock.now_ms()
        with self._lock:
            if self._is_asking or now < self._next_at:
                return Verdict.WRONG if self._is_wrong else Verdict.UNKNOWN
            self._is_asking = True
        status = None
        try:
            status = ask()
        finally:
            with self._lock:
                self._is_asking = False
                if status is not None:
                    self._is_wrong = status in self.probe.refusals
                    self._refused = self._refused + 1 if self._is_wrong else 0
                is_wrong = status is not None and self._is_wrong
                pause = min(LONGEST_MS, FIRST_MS * 2 ** min(self._refused - 1, 10)) if is_wrong else SOON_MS
                self._next_at = self._clock.now_ms() + pause
        if is_wrong:
            self._note(text)
            return Verdict.WRONG
        return Verdict.UNKNOWN if status is None else Verdict.RIGHT

    def works(self) -> None:
        """Note that a call was not refused."""
        now = self._clock.now_ms()
        with self._lock:
            if not self._is_wrong and now < self._look_at:
                return
            self._is_wrong, self._refused, self._next_at = False, 0, 0
            self._look_at = now + LOOK_MS
        with contextlib.suppress(LedgerUnavailable):
            with self._ledger.read() as tx:
                is_noted = tx.bridges.get(self._name, REFUSED) is not None
            if is_noted:
                with self._ledger.write() as tx:
                    tx.bridges.delete(self._name, REFUSED)
                logger.warning("Botpress takes the key of the bridge %s again; what waited goes on", self._name)

    def _note(self, text: str) -> None:
        self._runtime.seldom(
            logger,
            logging.WARNING,
            "Botpress refuses the key of the bridge %s (%s); what waits for it is kept for 24 hours. Check %s",
            self._name,
            text,
            self.probe.settings,
            key=self._name,
        )
        with contextlib.suppress(LedgerUnavailable):
            with self._ledger.write() as tx:
                now = self._ledger.now_ms()
                noted = {"since": now, "error": text, "settings": self.probe.settings}
                if not tx.bridges.add(self._name, REFUSED, noted, now=now):
                    return
                told = Step(signal="bridge_refused", facts={"bridge": self._name, "error": text})
                key, lane = f"bridge-refused:{self._name}:{now}", lanes.bridge_news(self._name)
                tx.queue.put([signal_event([told], key=key, lane=lane, sort_at=now)], now=now)
            self._runtime.dispatcher.wake()
