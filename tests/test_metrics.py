"""What is measured, as Prometheus's own parser and an OTLP collector get it, and whether a process is ready."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from flask import Flask
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from flask_hubspot_hitl import DeliveryFailed, HubSpotHITL, operator_assigned, operator_message, signals
from flask_hubspot_hitl.adapters.opentelemetry import OpenTelemetry
from flask_hubspot_hitl.adapters.prometheus import Prometheus
from flask_hubspot_hitl.clock import ManualClock, SystemClock
from flask_hubspot_hitl.metrics import METRICS, Kind, Metric, Metrics, Reading

from .conftest import MakeApp, Record
from .helpers import HubSpot, assigned_event, signed_post, state_of, wait_until
from .story import Story

DOCS = Path(__file__).parents[1] / "docs"
Sample = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


def a_day(story: Story) -> None:
    """A handoff that is taken after 60 seconds, answered after 90, refused once, and closed after 100; one that waits;
    a call that fails, and a webhook that nobody signed."""

    def refuse(app: Flask, message: object, **_extra: object) -> None:
        if "secret" in getattr(message, "text", ""):
            raise DeliveryFailed("no")

    operator_message.connect(refuse, story.app)
    began = story.now
    thread = story.start().thread_id
    story.run(60)
    story.assigned(thread, at=began + 60_000)
    story.run(30)
    story.says(thread, "hello", at=began + 90_000)
    story.says(thread, "secret", at=began + 91_000)
    story.run(10)
    story.hubspot.chaos(faults=[{"match": "POST .*/messages", "mode": "status", "status": 500, "times": 1}])
    story.send("bye")
    story.run()
    story.run(60)
    story.status(thread, "CLOSED", at=began + 100_000)
    story.run()
    assert story.client.post("/hubspot/webhook", data="[]").status_code == 401
    story.start("c2")
    story.run()


def prometheus(registry: CollectorRegistry) -> Sample:
    """What Prometheus reads."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def test_prometheus_reads_what_has_happened(story: Story) -> None:
    registry = CollectorRegistry()
    story.state.measure(Prometheus(registry))
    a_day(story)
    found = prometheus(registry)

    def value(name: str, **labels: str) -> float:
        return found[f"hitl_{name}", frozenset(labels.items())]

    assert value("handoff_assignment_seconds_count") == 1
    assert value("handoff_assignment_seconds_sum") == pytest.approx(60, abs=2)
    assert value("handoff_answer_seconds_sum") == pytest.approx(90, abs=2)
    assert value("handoff_open_seconds_sum") == pytest.approx(100, abs=2)
    assert value("webhooks_total", result="missing") == 1
    assert value("webhooks_total", result="stored") == 4
    assert value("hubspot_call_seconds_count", status="500") == 1
    assert value("hubspot_call_seconds_count", status="201") >= 2
    assert value("handler_seconds_count", signal="operator_message", result="refused") == 1
    assert value("handler_seconds_count", signal="operator_message", result="accepted") == 3
    assert value("events_retried_total", topic="publish") == 1
    assert value("handoffs", state="waiting") == 1
    assert value("events_dead") == 0
    assert 0 < value("hubspot_budget_left") < 100
    assert value("events_waiting", work="live") == 0


def test_prometheus_takes_every_app_that_a_process_makes(make_app: MakeApp) -> None:
    registry = CollectorRegistry()
    for number in (1, 2, 3):
        app = make_app(dispatcher="external")
        state_of(app).measure(Prometheus(registry))
        rejected = app.test_client().post("/hubspot/webhook", data="[]")
        assert rejected.status_code == 401
        found = prometheus(registry)
        assert found["hitl_webhooks_total", frozenset({("result", "missing")})] == number
        assert found["hitl_events_dead", frozenset()] == 0
        if number < 3:
            state_of(app).close(timeout=5)
    assert sum(name == "hitl_events_dead" for name, _ in found) == 1


def test_prometheus_tells_gauges_beside_what_many_processes_count(make_app: MakeApp) -> None:
    counted, served = CollectorRegistry(), CollectorRegistry()
    app = make_app(dispatcher="external")
    state_of(app).measure(Prometheus(counted, gauges=served))
    app.test_client().post("/hubspot/webhook", data="[]")
    assert {name for name, _ in prometheus(served)} >= {"hitl_events_dead", "hitl_handoffs"}
    assert not {name for name, _ in prometheus(served)} & {name for name, _ in prometheus(counted)}


def test_what_waits_is_told_with_its_age(story: Story) -> None:
    registry = CollectorRegistry()
    story.state.measure(Prometheus(registry))
    thread = story.start().thread_id
    story.state.dispatcher.mode = "external"  # nobody runs what comes now
    story.says(thread, "is anybody there?")
    story.clock.advance(120)
    found = prometheus(registry)
    assert found["hitl_events_waiting", frozenset({("work", "live")})] == 1
    assert found["hitl_oldest_waiting_seconds", frozenset({("work", "live")})] >= 120


def test_every_label_has_few_values(story: Story) -> None:
    registry = CollectorRegistry()
    story.state.measure(Prometheus(registry))
    a_day(story)
    for number in range(30):
        story.run(10)  # another budget
        story.says(story.start(f"c{number + 10}").thread_id, f"number {number}")
    names: dict[str, set[str]] = {}
    for _, labels in prometheus(registry):
        for name, value in labels:
            names.setdefault(name, set()).add(value)
    del names["le"]
    assert names.keys() == {label for one in METRICS for label in one.labels}
    known = set(vars(signals))
    assert names["signal"] <= known
    assert {*names["topic"]} <= {*map(str, story.state.dispatcher.tasks), "other"}
    assert max(map(len, names.values())) < 30


class Collector(BaseHTTPRequestHandler):
    """Takes exports as an OTLP collector does."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/metrics"
        self.server.exports.append(ExportMetricsServiceRequest.FromString(body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        server.exports = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_an_otlp_collector_gets_what_has_happened(
    story: Story, collector: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    exporter = OTLPMetricExporter(endpoint=f"http://127.0.0.1:{collector.server_port}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider(metric_readers=[reader])
    story.state.measure(OpenTelemetry(provider.get_meter("test")))
    a_day(story)
    provider.force_flush()
    [export] = collector.exports  # type: ignore[attr-defined]
    provider.shutdown()
    metrics = {
        one.name: one
        for resource in export.resource_metrics
        for scope in resource.scope_metrics
        for one in scope.metrics
    }
    assert metrics.keys() == {f"hitl.{one.name}" for one in METRICS} - {"hitl.events_given_up"}
    [assigned] = metrics["hitl.handoff_assignment_seconds"].histogram.data_points
    assert assigned.count == 1
    assert assigned.sum == pytest.approx(60, abs=2)
    results = {one.attributes[0].value.string_value: one.as_double for one in metrics["hitl.webhooks"].sum.data_points}
    assert results == {"stored": 4, "missing": 1}
    assert {one.as_double for one in metrics["hitl.events_dead"].gauge.data_points} == {0.0}


class Broken:
    """Raises whatever it is given."""

    def record(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        raise RuntimeError(f"no room for {metric.name}")

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        pass


def test_metrics_that_raise_stop_nothing(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    story.state.measure(Broken())
    a_day(story)
    assert caplog.text.count("record() raised RuntimeError") == 1
    assert "no room" not in caplog.text


def test_the_extension_takes_them(make_app: MakeApp, sqlite_url: str) -> None:
    seen: list[Callable[[], Iterable[Reading]]] = []

    class Kept(Broken):
        def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
            seen.append(read)

    metrics: Metrics = Kept()
    given = {key: value for key, value in make_app().config.items() if key.startswith("HUBSPOT_HITL_")}
    app = Flask("other")
    app.config.from_mapping(given)
    hitl = HubSpotHITL(app, metrics=metrics)
    [read] = seen
    assert {one.metric for one in read()} >= {one for one in METRICS if one.kind is Kind.GAUGE}
    hitl.close(app)
    assert list(read()) == [], "closed"


def test_the_page_has_every_metric() -> None:
    tree = publish_doctree((DOCS / "metrics.rst").read_text(encoding="utf-8"))
    [table] = tree.findall(nodes.table)
    rows = [[cell.astext() for cell in row.children] for row in table.findall(nodes.row)][1:]
    assert rows == [[one.name, one.kind.value, ", ".join(one.labels) or "–", f"{one.words}."] for one in METRICS]


def test_the_dashboard_shows_what_prometheus_is_told(story: Story) -> None:
    registry = CollectorRegistry()
    story.state.measure(Prometheus(registry))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}
    told = {one.name + end: one.name for one in families for end in ends.get(one.type, [])}
    panels = json.loads((DOCS / "grafana.json").read_text(encoding="utf-8"))["panels"]
    shown = {name for panel in panels for one in panel["targets"] for name in re.findall(r"hitl_\w+", one["expr"])}
    assert shown <= told.keys()
    assert {told[name] for name in shown} == {f"hitl_{one.name}" for one in METRICS}, "everything that is measured"


def test_the_app_of_the_page_tells_its_metrics(
    hubspot: HubSpot, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = hubspot.env() | {
        "HUBSPOT_HITL_PUBLIC_URL": "http://127.0.0.1:9",
        "HUBSPOT_HITL_DATABASE_URL": sqlite_url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"FLASK_{name}", value)
    block, _ = snippets()
    module: dict[str, Any] = {"__name__": "app"}
    exec(compile(block, "metrics.rst", "exec"), module)
    assert module["app"].test_client().post("/hubspot/webhook", data="[]").status_code == 401
    told = module["app"].test_client().get("/metrics/")
    assert 'hitl_webhooks_total{result="missing"} 1.0' in told.text
    module["hitl"].close(module["app"])


COUNTING = """
assert app.test_client().post("/hubspot/webhook", data="[]").status_code == 401
print(app.test_client().get("/metrics/").text)
hitl.close(app)
"""


def test_the_pages_lines_for_many_processes_add_them_up(hubspot: HubSpot, sqlite_url: str, tmp_path: Path) -> None:
    alone, many = snippets()
    code = alone.partition("hitl = ")[0] + many + COUNTING
    settings = hubspot.env() | {
        "HUBSPOT_HITL_PUBLIC_URL": "http://127.0.0.1:9",
        "HUBSPOT_HITL_DATABASE_URL": sqlite_url,
    }
    env = {**os.environ, **{f"FLASK_{name}": value for name, value in settings.items()}}
    env["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    for number in (1, 2):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stderr
        assert f'hitl_webhooks_total{{result="missing"}} {number}.0' in done.stdout
        assert done.stdout.count("hitl_webhooks_total{") == 1
        assert "hitl_events_dead 0.0" in done.stdout


def snippets() -> list[str]:
    """The code of the page."""
    tree = publish_doctree((DOCS / "metrics.rst").read_text(encoding="utf-8"))
    return [one.astext() for one in tree.findall(nodes.literal_block)]


# readyz ------------------------------------------------------------------------------------------------------


def test_a_process_is_ready_until_it_is_closed(make_app: MakeApp) -> None:
    app = make_app()
    assert app.test_client().get("/hubspot/readyz").json == {"status": "ok"}
    with app.app_context():
        HubSpotHITL().close()
    answer = app.test_client().get("/hubspot/readyz")
    assert (answer.status_code, answer.json) == (503, {"status": "unavailable", "reason": "closing"})


def test_a_process_whose_handlers_hang_is_not_ready(make_app: MakeApp) -> None:
    app = make_app(dispatcher="thread", dispatcher_threads=1, dispatcher_max_threads=1, handler_timeout=0.2)
    client, dispatcher = app.test_client(), state_of(app).dispatcher
    released = threading.Event()

    def hang(app: Flask, **_extra: object) -> None:
        released.wait(60)

    operator_assigned.connect(hang, app)
    with app.app_context():
        handoff = HubSpotHITL().start("c1", contact="+34911222333")
    dispatcher.ensure_started()
    try:
        assert client.get("/hubspot/readyz").status_code == 200
        taken = assigned_event("A-987", at=SystemClock().now_ms(), thread=str(handoff.thread_id))
        assert signed_post(client, [taken]).status_code == 204
        wait_until(lambda: client.get("/hubspot/readyz").status_code == 503, what="the handler to hang")
        assert client.get("/hubspot/readyz").json["reason"] == "handlers"  # type: ignore[index]
    finally:
        released.set()
    wait_until(lambda: client.get("/hubspot/readyz").status_code == 200, what="the handler to return")
