"""The bench measures what it says: its load generators, its yardsticks, and its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask, request

from flask_hubspot_hitl.ledger import FAST, PLAIN, Speed
from flask_hubspot_hitl.ledger.connection import Connection, PlainConnection
from flask_hubspot_hitl.ledger.group_commit import Together
from flask_hubspot_hitl.testing.serving import Server

from .bench import host, load
from .bench.figures import Figure, Target, interleave, table
from .bench.stage import some_request, told
from .helpers import HubSpot, state_of


@pytest.fixture
def server() -> Iterator[Server]:
    """A server to put an app on."""
    one = Server()
    yield one
    one.stop()


@pytest.fixture(params=["wrk", "our own"])
def send(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., load.Load]:
    """Both generators."""
    if request.param != "wrk":
        monkeypatch.setattr(load, "WRK", None)
    elif load.WRK is None:
        pytest.skip("there is no wrk")
    return load.send


@pytest.mark.slow
def test_the_load_generators_send_every_request_once(
    send: Callable[..., load.Load], server: Server, tmp_path: Path
) -> None:
    app, bodies = Flask("bare"), list[bytes]()

    @app.post("/hubspot/webhook")
    def webhook() -> tuple[str, int]:
        bodies.append(request.get_data())
        return "", 204

    server.start(app)
    made = [some_request().replace(b"propertyChange", b"%014d" % number) for number in range(300)]
    found = send(server.port, made, connections=5, seconds=10, folder=tmp_path)
    assert found.errors == 0
    assert 290 <= found.requests <= 300  # it stops where the last is sent; some answers are on their way
    assert len(set(bodies)) >= 295
    assert len(bodies) - len(set(bodies)) <= 5  # while wrk stops, each connection may begin anew; that is not counted
    assert 0 < found.p50 <= found.p99 <= found.max
    assert found.rate == found.requests / found.seconds


@pytest.mark.slow
def test_the_load_generators_count_errors(send: Callable[..., load.Load], server: Server, tmp_path: Path) -> None:
    app, seen = Flask("faulty"), list[int]()

    @app.post("/hubspot/webhook")
    def webhook() -> tuple[str, int]:
        request.get_data()
        seen.append(1)
        return ("", 503) if len(seen) % 10 == 0 else ("", 204)

    server.start(app)
    found = send(server.port, [some_request()] * 200, connections=2, seconds=10, folder=tmp_path)
    assert 15 <= found.errors <= 25


@pytest.mark.parametrize(("speed", "kind"), [(FAST, Connection), (PLAIN, PlainConnection)])
def test_the_measured_app_has_the_measures_that_it_is_told(
    speed: Speed, kind: type, tmp_path: Path, hubspot: HubSpot, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        **hubspot.env(),
        "HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.test",
        "HUBSPOT_HITL_DATABASE_URL": f"sqlite:///{tmp_path}/bench.sqlite3",
        "HUBSPOT_HITL_DISPATCHER": "external",
        **told(speed),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    state = state_of(host.create_app())
    with state.ledger.write() as tx:
        assert type(tx._connection) is kind
    assert isinstance(state.ledger._database.writers, Together) == speed.group_commit
    state.close()


def test_rounds_are_interleaved() -> None:
    order: list[str] = []

    def case(name: str) -> Callable[[], dict[str, float]]:
        def measure() -> dict[str, float]:
            order.append(name)
            return {"rate": len(order)}

        return measure

    found = interleave({"a": case("a"), "b": case("b")}, 2, lambda text: None)
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": {"rate": (1, 3)}, "b": {"rate": (2, 4)}}


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target(20), True),
        (Target(21), False),
        (Target(20, at_most=True), True),
        (Target(19, at_most=True), False),
        (Target(0.5, of_ratio=True), True),
        (Target(0.6, of_ratio=True), False),
        (None, None),
    ],
)
def test_a_figure_is_held_against_its_target(target: Target | None, met: bool | None) -> None:
    figure = Figure(
        subject="s",
        what="w",
        unit="u",
        values=(10.0, 20.0, 90.0),
        against="y",
        yardstick=(20.0, 40.0, 100.0),
        target=target,
    )
    assert (figure.median, figure.ratio, figure.met) == (20.0, 0.5, met)
    line = table([figure]).splitlines()[-1]
    assert line.split()[:5] == ["w", "20", "10", "…", "90"]
    assert ("MISSED" in line) == (met is False)
