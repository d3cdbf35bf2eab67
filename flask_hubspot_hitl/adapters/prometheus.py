"""Hand what is measured to Prometheus: ``HubSpotHITL(app, metrics=Prometheus())``. Needs ``prometheus_client``.

What is counted in one process is told by that process; with several of them use ``prometheus_client``'s multi-process
mode (docs/metrics.rst). The gauges come from the database, and are the same whichever process is asked, but for
``threads``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from ..metrics import METRICS, Kind, Metric, Reading

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
"""The upper bounds of the buckets, in seconds: from a handler's milliseconds to a night's wait for an agent."""


_recorders: WeakKeyDictionary[CollectorRegistry, dict[str, dict[str, MetricWrapperBase]]] = WeakKeyDictionary()
_gauges: WeakKeyDictionary[CollectorRegistry, dict[str, _Gauges]] = WeakKeyDictionary()
"""What is in each registry already, by prefix: a registry takes each name once, however many apps a process makes."""


class Prometheus:
    """Take what is measured. Made again for the same registry and prefix, as by an app factory, it is the same metrics.

    :param registry: where the metrics are told; by default the process's own.
    :param gauges: where the gauges are told; by default with the others. In ``prometheus_client``'s multi-process mode
        the others are told by its own collector, and this is the registry that has it.
    :param prefix: what their names begin with.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, gauges: CollectorRegistry | None = None, prefix: str = "hitl"
    ) -> None:
        self._prefix, self._gauges = prefix, registry if gauges is None else gauges
        kept = _recorders.setdefault(registry, {})
        if prefix not in kept:
            recorded = (one for one in METRICS if one.kind is not Kind.GAUGE)
            kept[prefix] = {one.name: _made(one, f"{prefix}_{one.name}", registry) for one in recorded}
        self._kept = kept[prefix]

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
        found = _gauges.setdefault(self._gauges, {})
        if self._prefix not in found:
            found[self._prefix] = _Gauges(self._prefix)
            self._gauges.register(found[self._prefix])
        found[self._prefix].reads.append(read)


def _made(metric: Metric, name: str, registry: CollectorRegistry) -> MetricWrapperBase:
    if metric.kind is Kind.COUNTER:
        return Counter(name, metric.words, metric.labels, registry=registry)
    return Histogram(name, metric.words, metric.labels, registry=registry, buckets=SECONDS)


class _Gauges:
    """Collect the gauges of the apps; of several that tell the same, the one that was made last is heard."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.reads: list[Callable[[], Iterable[Reading]]] = []

    def describe(self) -> list[GaugeMetricFamily]:
        """Name the metrics without reading them."""
        return list(self._families().values())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the metrics."""
        families = self._families()
        told: set[tuple[str, ...]] = set()
        for read in reversed(self.reads):
            for one in read():
                labels = [one.labels[name] for name in one.metric.labels]
                if (one.metric.name, *labels) not in told:
                    told.add((one.metric.name, *labels))
                    families[one.metric.name].add_metric(labels, one.value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {
            one.name: GaugeMetricFamily(f"{self._prefix}_{one.name}", one.words, labels=one.labels)
            for one in METRICS
            if one.kind is Kind.GAUGE
        }
