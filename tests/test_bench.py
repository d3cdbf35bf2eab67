"""The bench measures what it says: its load generators, its yardsticks, and its table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask, request

from flask_hubspot_hitl.ledger import FAST, PLAIN, Speed
from flask_hubspot_hitl.ledger.connection import Connection, PlainConnection
from flask_hubspot_hitl.ledger.group_commit import Together
from flask_hubspot_hitl.testing.serving import Server

from .bench import against, host, load, versions, yardstick
from .bench.against import Row, Wanted
from .bench.figures import Figure, Target, interleave, table
from .bench.site import Site
from .bench.stage import Stage, some_request, told
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


# Versions beside each other -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "met"),
    [
        (Wanted(1.5, of_ratio=True), True),
        (Wanted(2.1, of_ratio=True), False),
        (Wanted(25, at_most=True), True),
        (Wanted(19, at_most=True), False),
        (None, None),
    ],
)
def test_a_row_holds_this_version_against_the_first_other_one(wanted: Wanted | None, met: bool | None) -> None:
    values: dict[str, tuple[float, ...]] = {
        "now": (20.0, 30.0, 10.0),
        "old": (10.0, 20.0, 5.0),
        "older": (20.0, 30.0, 0.0),
    }
    row = Row("events", "sqlite", "events/s", values, wanted)
    assert (row.ratios("old"), row.met) == ((2.0, 1.5, 2.0), met)
    assert Row("events", "sqlite", "events/s", {"now": (1.0,)}, Wanted(1.5, of_ratio=True)).met is None
    line = against.table([row]).splitlines()[-1]
    assert "20 (10–30)" in line
    assert "2 (1.5–2)" in line
    assert ("MISSED" in line) == (met is False)


def test_the_yardstick_settles_every_event(tmp_path: Path, sqlite_url: str) -> None:
    assert yardstick.measure("sqlite", 50, folder=tmp_path, url=sqlite_url)["rate"] > 0


def test_an_unknown_revision_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="git has no revision 'no-such-thing'"):
        versions.of_git("no-such-thing", tmp_path)


def test_what_is_measured_is_the_version_that_is_named(tmp_path: Path) -> None:
    """A package that is found elsewhere is refused: it would be this one's figures under another's name."""
    version = replace(versions.at_hand(tmp_path), folder=tmp_path)
    (tmp_path / "bodies.json").write_text("[[], []]")
    given = {"HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.test", "HUBSPOT_HITL_CLIENT_SECRET": "s"}
    with pytest.raises(RuntimeError, match="is measured, and not"):
        version.run([f"{versions.MODULE}.py", "profiled", str(tmp_path / "bodies.json")], given)


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("revision", ["e16a440", "edcf0ba", None])
def test_a_version_is_driven_by_its_public_doors(revision: str | None, database_url: str, tmp_path: Path) -> None:
    kind = database_url.partition(":")[0]
    with contextlib.ExitStack() as stack:
        stage = Stage(stack, tmp_path, say=lambda text: None, chosen=(kind,), rounds=1, quick=True)
        try:
            version = versions.of_git(revision, tmp_path) if revision else versions.at_hand(tmp_path)
        except SystemExit as error:
            pytest.skip(f"not in this copy of the repository: {error}")
        site = Site(stage, version, kind, database_url)
        site.open(10)
        found = against._drain(200, stage, site)
        assert found["rate"] > 0
        assert found["cpu"] > 0
        assert site.signals() == 200
        with site.serve("thread", processes=1) as server:
            for request in site.requests(10):
                server.post(request)
            site.wait_for(210)
