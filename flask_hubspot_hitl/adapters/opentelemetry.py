"""Hand what is measured to OpenTelemetry: ``HubSpotHITL(app, metrics=OpenTelemetry())``.

Needs ``opentelemetry-api``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation, get_meter

from .._version import __version__
from ..metrics import METRICS, Kind, Metric, Reading

SHARED_SECONDS = 0.5
"""Seconds for which a reading of the gauges counts; exports are seconds apart."""


class OpenTelemetry:
    """Take what is measured.

    :param meter: makes the instruments; by default the global provider's, which the host's SDK sets.
    :param prefix: what the instruments' names begin with.
    """

    def __init__(self, meter: Meter | None = None, *, prefix: str = "hitl.") -> None:
        self._meter = meter or get_meter("flask_hubspot_hitl", __version__)
        self._prefix = prefix
        recorded = (one for one in METRICS if one.kind is not Kind.GAUGE)
        self._kept: dict[str, Counter | Histogram] = {one.name: self._made(one) for one in recorded}

    def _made(self, metric: Metric) -> Counter | Histogram:
        name, unit = f"{self._prefix}{metric.name}", _unit(metric)
        if metric.kind is Kind.COUNTER:
            return self._meter.create_counter(name, unit, metric.words)
        return self._meter.create_histogram(name, unit, metric.words)

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Count a value; see :class:`.metrics.Metrics`."""
        kept = self._kept[metric.name]
        if isinstance(kept, Counter):
            kept.add(value, dict(labels))
        else:
            kept.record(value, dict(labels))

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Tell an app's gauges at each export; see :class:`.metrics.Metrics`."""
        shared = _Shared(read)
        for metric in METRICS:
            if metric.kind is Kind.GAUGE:
                name = f"{self._prefix}{metric.name}"
                callback = partial(_observed, shared, metric)
                self._meter.create_observable_gauge(name, [callback], _unit(metric), metric.words)


class _Shared:
    """Read once for all the gauges of an export, which are asked for one after the other."""

    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read
        self._until = 0.0
        self._found: list[Reading] = []

    def __call__(self) -> list[Reading]:
        now = time.monotonic()
        if now >= self._until:
            self._found, self._until = list(self._read()), now + SHARED_SECONDS
        return self._found


def _observed(
    read: Callable[[], Iterable[Reading]], metric: Metric, _options: CallbackOptions
) -> Iterable[Observation]:
    return [Observation(one.value, dict(one.labels)) for one in read() if one.metric is metric]


def _unit(metric: Metric) -> str:
    return "s" if metric.name.endswith("_seconds") else "1"
