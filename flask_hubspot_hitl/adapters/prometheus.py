"""Hand what is measured to Prometheus: ``HubSpotHITL(app, metrics=Prometheus())``. Needs ``prometheus_client``.

What is counted in one process is told by that process; with several of them use ``prometheus_client``'s multi-process
mode. The gauges come from the database, and are the same whichever process is asked, but for ``threads``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from ..metrics import METRICS, Kind, Metric, Reading

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
"""The upper bounds of the buckets, in seconds: from a handler's milliseconds to a night's wait for an agent."""


class Prometheus:
    """Take what is measured; one for each app, or each registry.

    :param registry: where the metrics are told; by default the process's own.
    :param prefix: what their names begin with.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, prefix: str = "hitl") -> None:
        self._prefix, self._registry = prefix, registry
        recorded = (one for one in METRICS if one.kind is not Kind.GAUGE)
        self._kept: dict[str, MetricWrapperBase] = {one.name: self._made(one) for one in recorded}

    def _made(self, metric: Metric) -> MetricWrapperBase:
        name = f"{self._prefix}_{metric.name}"
        if metric.kind is Kind.COUNTER:
            return Counter(name, metric.words, metric.labels, registry=self._registry)
        return Histogram(name, metric.words, metric.labels, registry=self._registry, buckets=SECONDS)

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        """Count a value; see :class:`.metrics.Metrics`."""
        kept = self._kept[metric.name]
        one = kept.labels(**labels) if labels else kept
        if isinstance(one, Counter):
            one.inc(value)
        elif isinstance(one, Histogram):
            one.observe(value)

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Tell an app's gauges when Prometheus asks; see :class:`.metrics.Metrics`."""
        self._registry.register(_Gauges(self._prefix, read))


class _Gauges:
    """Collect the gauges of an app."""

    def __init__(self, prefix: str, read: Callable[[], Iterable[Reading]]) -> None:
        self._prefix, self._read = prefix, read

    def describe(self) -> list[GaugeMetricFamily]:
        """Name the metrics without reading them."""
        return list(self._families().values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the metrics."""
        families = self._families()
        for one in self._read():
            families[one.metric.name].add_metric([one.labels[name] for name in one.metric.labels], one.value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {
            one.name: GaugeMetricFamily(f"{self._prefix}_{one.name}", one.words, labels=one.labels)
            for one in METRICS
            if one.kind is Kind.GAUGE
        }
