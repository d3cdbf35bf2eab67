"""Name what is measured, and hand it to whom the host chose. Imports nothing of ours.

Labels have few values, which are known beforehand: no id, address or name is one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

logger = logging.getLogger(__name__)


class Kind(StrEnum):
    """What a metric's values are."""

    COUNTER = "counter"
    """Added up."""
    HISTOGRAM = "histogram"
    """Sorted into sizes."""
    GAUGE = "gauge"
    """As it is now; read when somebody looks, out of the database that all processes share, unless it says otherwise.
    """


class Metric(NamedTuple):
    """Something that is measured."""

    name: str
    """In snake_case, without a prefix or a suffix for the kind."""
    kind: Kind
    words: str
    """What it is, in a sentence without full stop."""
    labels: tuple[str, ...] = ()


CALL = Metric(
    "hubspot_call_seconds",
    Kind.HISTOGRAM,
    "Seconds that calls to HubSpot took, by the status of the answer, or none without one",
    ("status",),
)
HANDLER = Metric(
    "handler_seconds",
    Kind.HISTOGRAM,
    "Seconds that receivers took, by signal and result: accepted, refused, tried again or dead",
    ("signal", "result"),
)
TO_ASSIGNMENT = Metric(
    "handoff_assignment_seconds", Kind.HISTOGRAM, "Seconds until a person took a handoff, of each one that has ended"
)
TO_ANSWER = Metric(
    "handoff_answer_seconds", Kind.HISTOGRAM, "Seconds until a person wrote, of each handoff that has ended"
)
OPEN = Metric("handoff_open_seconds", Kind.HISTOGRAM, "Seconds from the beginning of a handoff to its end")
WEBHOOKS = Metric(
    "webhooks",
    Kind.COUNTER,
    "Requests to the webhook, by result: stored, unavailable, too_large, unreadable, or why they were rejected",
    ("result",),
)
RETRIED = Metric("events_retried", Kind.COUNTER, "Attempts that failed and are made again, by topic", ("topic",))
DIED = Metric("events_given_up", Kind.COUNTER, "Events that were given up, by topic", ("topic",))
WAITING = Metric("events_waiting", Kind.GAUGE, "Events that are due and not done, by class of work", ("work",))
OLDEST = Metric("oldest_waiting_seconds", Kind.GAUGE, "Age of the oldest of them, in seconds", ("work",))
DEAD = Metric("events_dead", Kind.GAUGE, "Events that were given up and lie in the dead letters")
HANDOFFS = Metric("handoffs", Kind.GAUGE, "Handoffs, by state", ("state",))
BUDGET = Metric(
    "hubspot_budget_left", Kind.GAUGE, "Calls left in the ten seconds of RATE_LIMIT, of the portal that has fewest"
)
THREADS = Metric(
    "threads", Kind.GAUGE, "Threads of this process that run lanes, by what they do: busy, idle", ("does",)
)
METRICS = (
    *(CALL, HANDLER, TO_ASSIGNMENT, TO_ANSWER, OPEN, WEBHOOKS, RETRIED, DIED),
    *(WAITING, OLDEST, DEAD, HANDOFFS, BUDGET, THREADS),
)


class Reading(NamedTuple):
    """The value of a gauge."""

    metric: Metric
    value: float
    labels: Mapping[str, str]


class Metrics(Protocol):
    """Take what is measured; ``adapters.prometheus`` and ``adapters.opentelemetry`` do so."""

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Take a value. Called in the middle of work, by many threads: it must not wait, and may raise nothing.

        :param metric: a counter or a histogram.
        :param value: what is added, or sorted in.
        :param labels: a value for each of ``metric.labels``.
        """

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Take what reads the gauges of an app; called once for each app.

        :param read: returns every gauge's value; nothing when the app is gone or its database can't be used. Some
            milliseconds long: call it when somebody looks.
        """


class Meter:
    """Hand on what is measured, if anybody wants it; one for each app."""

    def __init__(self) -> None:
        self.metrics: Metrics | None = None
        """Who takes it; None: nobody."""
        self._has_failed = False

    def __call__(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        """Hand a value on; what the host's code raises is logged once, and goes no further."""
        if self.metrics is None:
            return
        try:
            self.metrics.record(metric, value, labels)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                logger.warning("The metrics' record() raised %s; that is not logged again", type(error).__name__)
