"""Fixtures: both databases, apps wired to them and to the stand-in, and real servers; HubSpot is the test kit's."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.clock import Clock, ManualClock
from flask_hubspot_hitl.ledger import Speed
from flask_hubspot_hitl.simulator.engine.traffic import FOLDER
from flask_hubspot_hitl.testing import running

from . import browser_helpers, databases, helpers, traffic
from .browser_helpers import Site, Watch
from .helpers import Botpress, HubSpot, Recorder, state_of
from .peers import node
from .relay import Relay
from .simulator_helpers import Host, Stand
from .simulator_helpers import running as running_stand

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest_plugins = ["flask_hubspot_hitl.testing", "tests.slow"]

# A busy machine is slow, and that is no finding.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

TRAFFIC: pytest.StashKey[Path] = pytest.StashKey()
TRAFFIC_SAID: pytest.StashKey[list[str]] = pytest.StashKey()

# --- the whole run's traffic -----------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Every stand-in that a test starts, in whatever process, keeps its calls in one folder."""
    databases.use_memory()
    if not hasattr(config, "workerinput") and FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="hitl-traffic-")
        config.stash[TRAFFIC] = Path(os.environ[FOLDER])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """All calls of the run must be right by HubSpot's own documents (see ``traffic.py``), or the run fails."""
    folder = session.config.stash.get(TRAFFIC, None)
    if folder is None:
        return
    calls = traffic.read_folder(folder)
    shutil.rmtree(folder)
    del os.environ[FOLDER]
    try:
        documents = traffic.Documents()
    except FileNotFoundError as missing:
        session.config.stash[TRAFFIC_SAID] = [f"not held against HubSpot's documents: {missing} is missing"]
        if traffic.must_have_documents():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return
    problems = documents.problems(calls)
    said = [f"{len(calls)} calls of {documents.looked_at} kinds, {len(documents.covered)} operations of HubSpot's"]
    if problems:
        said += [f"{len(problems)} problems", *map(str, problems[:50])]
    session.config.stash[TRAFFIC_SAID] = said
    if problems:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What was found, and which versions of other people's clients were run."""
    for line in config.stash.get(TRAFFIC_SAID, []):
        terminalreporter.write_line(f"traffic: {line}")
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call" and (client := dict(report.user_properties).get("client")):
                terminalreporter.write_line(f"client: {client}: {outcome}")


# --- Botpress --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stand_process() -> Iterator[Stand]:
    """A stand-in of its own for the tests of the stand-in, which look at it from outside."""
    with running_stand() as (child, base):
        stand = Stand(child, base)
        yield stand
        stand.http.close()


@pytest.fixture
def stand(stand_process: Stand) -> Stand:
    """It, as after a reset."""
    stand_process.reset()
    return stand_process


@pytest.fixture
def host(stand: Stand) -> Iterator[Host]:
    """A host that takes the deliveries of both feeds of ``stand``."""
    made = Host()
    stand.sim("PUT", "target", {"url": made.url})
    yield made
    stand.reset()
    made.close()


@pytest.fixture(scope="session")
def botpress_process() -> Iterator[Botpress]:
    """Botpress's stand-in, one process for each test worker."""
    with running(Botpress, "flask_hubspot_hitl.simulator.botpress") as botpress:
        yield botpress


@pytest.fixture
def botpress(botpress_process: Botpress) -> Botpress:
    """Botpress's stand-in, as after a reset."""
    botpress_process.reset()
    return botpress_process


# --- HubSpot's Node libraries ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def node_library(request: pytest.FixtureRequest) -> Path:
    """A folder with HubSpot's Node libraries; installed once and kept in pytest's cache folder."""
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("node-peers") if cache else request.getfixturevalue("tmp_path_factory").mktemp("node")
    return node.install(Path(folder))


# --- a real browser --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def axe(node_library: Path) -> str:
    """The source of axe-core."""
    return (node_library / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium, driven by Playwright."""
    with browser_helpers.browser() as made:
        yield made


@pytest.fixture(scope="module")
def shared_site(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The stand-in and the example app, as processes."""
    made = Site(tmp_path_factory.mktemp("example"))
    yield made
    made.close()


@pytest.fixture
def site(shared_site: Site) -> Site:
    """Both servers, the stand-in as after a reset."""
    shared_site.reset()
    return shared_site


@pytest.fixture
def watch(chromium: Browser, site: Site) -> Iterator[Watch]:
    """Opens pages; at the end none of them may have complained."""
    made = Watch(chromium)
    yield made
    made.close()
    assert made.complaints == []


# --- databases -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A real PostgreSQL server; the URL of its maintenance database."""
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(databases.postgresql_server())
        except Exception as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"no PostgreSQL server: {type(error).__name__}: {error}")
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """A fresh PostgreSQL database."""
    with databases.postgresql_database(postgresql_server) as url:
        yield url


@pytest.fixture(scope="session")
def other_postgresql() -> Iterator[Callable[[int], str]]:
    """Servers of other versions; the URL of one's maintenance database."""
    running: dict[int, str] = {}
    with contextlib.ExitStack() as stack:

        def start(version: int) -> str:
            if version not in running:
                running[version] = stack.enter_context(databases.cluster(version)).url
            return running[version]

        yield start


RelayOf = Callable[..., tuple[Relay, str]]


@pytest.fixture
def relay_of() -> Iterator[RelayOf]:
    """Puts a relay before a PostgreSQL server; answers it, and the URL through it."""
    from sqlalchemy.engine import make_url

    relays: list[Relay] = []

    def put(url: str, **options: Any) -> tuple[Relay, str]:
        parsed = make_url(url)
        relays.append(Relay(f"{parsed.query['host']}/.s.PGSQL.5432", **options))
        through = parsed.set(host="127.0.0.1", port=relays[-1].port, query={})
        return relays[-1], through.render_as_string(hide_password=False)

    yield put
    for one in relays:
        one.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'hitl.sqlite3'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each engine in turn; ``postgresql-15`` is PostgreSQL of that version."""
    engine, _, version = request.param.partition("-")
    if not version:
        yield request.getfixturevalue(f"{engine}_url")
        return
    with databases.postgresql_database(request.getfixturevalue("other_postgresql")(int(version))) as url:
        yield url


@pytest.fixture
def speed(request: pytest.FixtureRequest) -> Speed:
    """The ledger's measures, by a name of ``databases.SPEEDS``; all of them where a test does not say."""
    return databases.SPEEDS[getattr(request, "param", "fast")]


# --- apps ------------------------------------------------------------------------------------------------


class MakeApp(Protocol):
    """See :func:`make_app`."""

    def __call__(
        self,
        *,
        name: str = "bot",
        clock: Clock | None = None,
        may_install: Callable[[str | None], bool | Awaitable[bool]] | None = None,
        may_administer: Callable[[], Any] | None = None,
        redact: Callable[[str], str] | None = None,
        **config: Any,
    ) -> Flask: ...


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves when told to; pass it on: ``make_app(clock=clock)``."""
    return ManualClock()


class _Ports:
    """Keeps a port bound for each app until it is served, so that nobody else takes it."""

    def __init__(self) -> None:
        self.sockets: dict[int, socket.socket] = {}

    def take(self) -> int:
        held = helpers.held_port()
        port: int = held.getsockname()[1]
        self.sockets[port] = held
        return port


@pytest.fixture
def _ports() -> Iterator[_Ports]:
    ports = _Ports()
    yield ports
    for held in ports.sockets.values():
        held.close()


@pytest.fixture
def make_app(request: pytest.FixtureRequest, hubspot: HubSpot, tmp_path: Path, _ports: _Ports) -> Iterator[MakeApp]:
    """Makes apps that are wired to the stand-in.

    ``dispatcher="inline"`` sets ``HUBSPOT_HITL_DISPATCHER``, ``TESTING=True`` the app's own setting, None takes a
    setting away. The database is ``database_url``'s when the test uses that fixture, else a SQLite file; apps of
    one test share it. ``PUBLIC_URL`` is an address on this machine that is reserved until :func:`serve`.
    """
    apps: list[Flask] = []

    def make(
        *,
        name: str = "bot",
        clock: Clock | None = None,
        may_install: Callable[[str | None], bool | Awaitable[bool]] | None = None,
        may_administer: Callable[[], Any] | None = None,
        redact: Callable[[str], str] | None = None,
        **config: Any,
    ) -> Flask:
        app = Flask(name, instance_path=str(tmp_path / "instance"))
        both = "database_url" in request.fixturenames
        url = request.getfixturevalue("database_url" if both else "sqlite_url")
        port = _ports.take()
        settings: dict[str, Any] = {
            **hubspot.env(),
            "HUBSPOT_HITL_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "HUBSPOT_HITL_START_TIMEOUT": "30",  # a busy machine may need more than the five seconds
            "HUBSPOT_HITL_DATABASE_URL": url,
        }
        settings |= {key if key.isupper() else f"HUBSPOT_HITL_{key.upper()}": value for key, value in config.items()}
        app.config.from_mapping({key: value for key, value in settings.items() if value is not None})
        app.config["TEST_PORT"] = port
        HubSpotHITL(app, clock=clock, may_install=may_install, may_administer=may_administer, redact=redact)
        apps.append(app)
        return app

    yield make
    for app in apps:
        close_app(app)


def close_app(app: Flask) -> None:
    """Stop an app's dispatcher and give back what it holds."""
    state_of(app).close(timeout=20)


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        if type != "info":
            super().log(type, message, *args)


Serve = Callable[..., str]


@pytest.fixture
def serve(_ports: _Ports, hubspot: HubSpot) -> Iterator[Serve]:
    """Serves an app of :func:`make_app` for real, in threads; answers its base URL.

    The stand-in delivers to it from now on, unless ``target=False``.
    """
    running: list[tuple[BaseWSGIServer, threading.Thread]] = []

    def start(app: Flask, *, target: bool = True) -> str:
        port = app.config["TEST_PORT"]
        held = _ports.sockets[port]
        held.listen(128)
        server = make_server("127.0.0.1", port, app, threaded=True, fd=held.fileno(), request_handler=_QuietHandler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        running.append((server, thread))
        if target:
            hubspot.target(state_of(app).settings.webhook_urls()[0])
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


Record = Callable[[Flask], Recorder]


@pytest.fixture
def record() -> Iterator[Record]:
    """``record(app)`` keeps every signal of an app from now on."""
    recorders: list[Recorder] = []

    def start(app: Flask) -> Recorder:
        recorders.append(Recorder(app))
        return recorders[-1]

    yield start
    for one in recorders:
        with contextlib.suppress(KeyError):
            one.close()


@pytest.fixture
def signed_post() -> Callable[..., Any]:
    """See :func:`tests.helpers.signed_post`."""
    return helpers.signed_post
