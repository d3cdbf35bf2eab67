"""Servers as they are deployed: who dispatches, from when on, after a ``kill -9``, and with several processes.

The table in ``docs/production.rst`` says what is expected. One cell of each server is in ``make test``, all are in
``make slow``; ``make servers`` runs all with the versions of ``servers.txt``.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
import requests
from flask import Flask
from flask.cli import AppGroup, FlaskGroup, routes_command, run_command

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.dispatch.servers import after_uwsgi_forks, may_serve
from flask_hubspot_hitl.process import Process

from .conftest import MakeApp
from .helpers import HubSpot, assigned_event, signed_post, state_of, wait_until
from .processes import Host, need, uwsgi
from .story import PHONE
from .test_readme import table

FACTORY = "tests.servers_app:create_app"
FLASK = ["-m", "flask", "--app", FACTORY]
WORKER = [*FLASK, "hubspot-hitl", "worker"]
GUNICORN = ["-m", "gunicorn", f"{FACTORY}()", "--log-level", "warning", "--no-control-socket", "--bind", "127.0.0.1:{}"]
UWSGI = [
    str(Path(sys.executable).with_name("uwsgi")), "--http-socket", "127.0.0.1:{}", "--module", f"{FACTORY}()",
    "--pythonpath", str(Path(__file__).parents[1]), "--die-on-term", "--disable-logging",
]  # fmt: skip
UVICORN = ["-m", "uvicorn", "--interface", "wsgi", "--factory", FACTORY, "--port", "{}", "--log-level", "warning"]
GRANIAN = ["-m", "granian", "--interface", "wsgi", "--factory", FACTORY, "--port", "{}", "--log-level", "warning"]
SERVERS = {
    "gunicorn sync": GUNICORN,
    "gunicorn gthread": [*GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "gunicorn gevent": [*GUNICORN, "--worker-class", "gevent"],
    "gunicorn --preload": [*GUNICORN, "--preload", "--workers", "2"],
    "waitress": ["-m", "waitress", "--listen", "127.0.0.1:{}", "--call", FACTORY],
    "uWSGI": [*UWSGI, "--processes", "2", "--threads", "2"],
    "uWSGI master": [*UWSGI, "--master", "--processes", "2", "--enable-threads"],
    "uWSGI lazy-apps": [*UWSGI, "--master", "--enable-threads", "--lazy-apps"],
    "uvicorn": UVICORN,
    "granian": GRANIAN,
    "flask run": [*FLASK, "run", "--port", "{}"],
    "flask run --debug": [*FLASK, "run", "--debug", "--port", "{}"],
    "app.run(debug=True)": ["-m", "tests.servers_app"],
    "flask serve": [*FLASK, "serve", "--port", "{}"],
}
"""As in the page's table."""
PARENTS = {
    *(one for one in SERVERS if one.startswith(("gunicorn", "granian"))),
    "uWSGI master", "uWSGI lazy-apps", "flask run --debug", "app.run(debug=True)",
}  # fmt: skip
"""Where the process we start only looks after others."""
EITHER = {"uWSGI"}
"""Where the process we start is one of those that serve: without a master, uWSGI's first worker forks the others."""
QUICK = {
    ("gunicorn sync", "sqlite"), ("gunicorn gthread", "postgresql"), ("gunicorn gevent", "postgresql"),
    ("gunicorn --preload", "postgresql"), ("waitress", "sqlite"), ("uWSGI master", "postgresql"),
    ("uWSGI lazy-apps", "sqlite"), ("uvicorn", "sqlite"), ("granian", "postgresql"), ("flask run --debug", "sqlite"),
    ("app.run(debug=True)", "sqlite"), ("flask serve", "sqlite"),
}  # fmt: skip
"""In ``make test``."""
EXTERNAL = {("gunicorn gevent", "sqlite"), ("uWSGI without threads", "sqlite"), ("uWSGI without threads", "postgresql")}
"""Where a worker process has to dispatch."""
NEEDS = {"gunicorn": "gunicorn", "waitress": "waitress", "uWSGI": "pyuwsgi", "uvicorn": "uvicorn", "granian": "granian"}
STORES = ("sqlite", "postgresql")


def test_the_readme_says_where_a_worker_is_needed() -> None:
    rows = {server: dict(zip(STORES, modes, strict=True)) for server, *modes, _ in table("Server")}
    assert rows.keys() == {*SERVERS, "uWSGI without threads"}
    assert {(server, store) for server in rows for store in STORES if rows[server][store] == "external"} == EXTERNAL


def cell(server: str, database: str) -> object:
    """A cell of the matrix."""
    marks = [] if (server, database) in QUICK else [pytest.mark.slow]
    return pytest.param(server, database, id=f"{server}-{database}", marks=marks)


@pytest.fixture
def host(make_app: MakeApp, hubspot: HubSpot, tmp_path: Path) -> Iterator[Host]:
    one = Host(make_app(dispatcher="external", lease_ttl="2"), hubspot, tmp_path)
    yield one
    one.close()


def need_server(server: str) -> None:
    """Skip without it; never in CI."""
    found = NEEDS.get(server.partition(" ")[0])
    if found is not None:
        need(found)
    if server == "gunicorn gevent":
        need("gevent")


def dispatchers(host: Host) -> set[int]:
    """The processes that have shown a sign of life as dispatchers."""
    with state_of(host.app).ledger.read() as tx:
        return {int(owner.split(":")[1]) for owner in tx.signs.all()}


@pytest.mark.parametrize(
    ("server", "database_url"), list(itertools.starmap(cell, itertools.product(SERVERS, STORES))),
    indirect=["database_url"],
)  # fmt: skip
def test_a_webhook_is_heard_and_what_was_stored_before_a_kill_goes_out_unasked(
    host: Host, server: str, database_url: str
) -> None:
    need_server(server)
    external = (server, database_url.partition(":")[0]) in EXTERNAL

    def start() -> int:
        """The process that may dispatch itself or only look after those that do."""
        process = host.run(*SERVERS[server], mode="external" if external else "thread")
        return host.run(*WORKER, mode="external").pid if external else process.pid

    pid = start()
    host.hubspot.act(host.thread, "reply", text="hold")
    first = host.wait_for(begins="hold")
    host.hubspot.act(host.thread, "reply", text="next")
    wait_until(lambda: host.hubspot.pending() == 0, what="both webhooks' being accepted")
    pids = {pid: first["pid"]}
    host.kill()
    asked = len(host.heard(request="/hubspot/webhook"))
    assert host.heard(heard="hold") == []
    host.go()
    pid = start()
    pids[pid] = host.wait_for(heard="next")["pid"]
    assert [one["heard"] for one in host.heard() if "heard" in one] == ["hold", "next"]
    assert len(host.heard(request="/hubspot/webhook")) == asked, "no request came"
    for started, ran_in in pids.items():
        assert server in EITHER or (started != ran_in) == (server in PARENTS and not external)
    if server in PARENTS and not external:
        assert not dispatchers(host) & set(pids), "who looks after others dispatches nothing"


MANY = {
    "gunicorn --preload": [*GUNICORN, "--workers", "3", "--preload"],
    "uWSGI master": [*UWSGI, "--master", "--processes", "3", "--enable-threads"],
    "uvicorn": [*UVICORN, "--workers", "3"],
    "granian": [*GRANIAN, "--workers", "3"],
}
LOAD = 60
"""Requests of each of eight clients."""


@pytest.mark.parametrize(
    "server", [one if one == "uWSGI master" else pytest.param(one, marks=pytest.mark.slow) for one in MANY]
)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_no_process_of_three_reads_anothers_rows(host: Host, server: str, database_url: str) -> None:
    need_server(server)
    with host.app.app_context():
        threads = {name: HubSpotHITL().start(name, contact=PHONE).thread_id for name in ("c2", "c3", "c4")}
    threads["c1"] = host.thread
    url = f"http://127.0.0.1:{host.port}"
    host.run(*MANY[server])
    wait_until(lambda: is_up(url), what="the server")
    wrong: list[object] = []
    pids: set[int] = set()

    def ask(number: int) -> None:
        name = f"c{number % 4 + 1}"
        for count in range(LOAD):
            answer = requests.get(f"{url}/handoff/{name}", headers={"Connection": "close"}, timeout=30)
            found = answer.json() if answer.ok else {}
            if (found.get("conversation"), found.get("thread")) != (name, threads[name]):
                wrong.append((name, answer.status_code, found))
            else:
                pids.add(found["pid"])
            if count % 10 == 0 and not requests.post(f"{url}/send/{name}", timeout=30).ok:
                wrong.append((name, "send"))

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(8)))
    assert wrong == []
    assert len(pids) > 1, "several of them were asked"


def is_up(url: str) -> bool:
    """Whether somebody answers there."""
    try:
        return requests.get(f"{url}/hubspot/healthz", timeout=10).ok
    except requests.ConnectionError:
        return False


# --- uWSGI -----------------------------------------------------------------------------------------------

THREADLESS = [*UWSGI, "--master", "--processes", "2"]
ONE_ERROR = "uWSGI runs without threads, so nothing is dispatched here"


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_a_uwsgi_without_threads_says_so_once_and_works_with_external(host: Host, database_url: str) -> None:
    need("pyuwsgi")
    told = subprocess.run([*THREADLESS[:1], "--help"], capture_output=True, text=True, check=True).stdout
    if "stub option" in told:
        pytest.skip("this uWSGI always has threads, since 2.0.27; 'make servers' has an older one")
    url = f"http://127.0.0.1:{host.port}"
    host.run(*THREADLESS)
    host.hubspot.act(host.thread, "reply", text="one")
    host.hubspot.act(host.thread, "reply", text="two")
    wait_until(lambda: host.hubspot.pending() == 0, what="the webhooks' being accepted")
    assert all(requests.post(f"{url}/send/c1", timeout=30).ok for _ in range(20)), "nothing holds the database's lock"
    assert dispatchers(host) == set()
    assert host.said().count(ONE_ERROR) == 1
    host.kill()
    host.run(*THREADLESS, mode="external")
    worker = host.run(*WORKER, mode="external")
    host.hubspot.act(host.thread, "reply", text="three")
    assert host.wait_for(heard="three")["pid"] == worker.pid
    assert [one["heard"] for one in host.heard() if "heard" in one] == ["one", "two", "three"]
    assert host.said().count(ONE_ERROR) == 1


@pytest.mark.parametrize(
    ("facts", "starts"),
    [
        ({"has_threads": False}, False),
        ({"has_threads": None, "opt": {}}, False),
        ({"has_threads": None, "opt": {"enable-threads": True}}, True),
        ({"has_threads": None, "opt": {"threads": b"4"}}, True),
    ],
)
def test_without_threads_in_uwsgi_none_is_started(
    make_app: MakeApp,
    database_url: str,
    facts: dict[str, object],
    starts: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: set[str] = set()
    really_start = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.add(thread.name)
        really_start(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with uwsgi(worker_id=lambda: 1, **facts):
        app = make_app(dispatcher="thread")
        assert app.test_client().get("/hubspot/healthz").status_code == 200
        with app.app_context():
            assert HubSpotHITL().start("c1", contact=PHONE).thread_id, "it calls HubSpot at once"
            assert HubSpotHITL().send("c1", "Hello")
        event = assigned_event("A-987", at=state_of(app).ledger.now_ms())
        assert signed_post(app, [event]).status_code == 204
        state_of(app).close()
    assert ({"hubspot-hitl-clock", "hubspot-call"} <= started) is starts
    assert starts or not started
    errors = [one.message for one in caplog.records if one.levelname == "ERROR"]
    assert [ONE_ERROR in one for one in errors] == ([] if starts else [True])


@pytest.mark.parametrize("master", [0, 4711])
def test_uwsgis_hook_is_added_to_those_of_others(master: int) -> None:
    """The decorators are uWSGI's own, which come with it. They want a master process."""
    need("pyuwsgi")
    called: list[str] = []
    with uwsgi(masterpid=lambda: master, post_fork_hook=lambda: called.append("host's"), spooler="host's") as server:
        sys.modules.pop("uwsgidecorators", None)
        try:
            after_uwsgi_forks(lambda: called.append("ours"))
            if master:
                importlib.import_module("uwsgidecorators").postfork(lambda: called.append("decorated"))
            server.post_fork_hook()
        finally:
            sys.modules.pop("uwsgidecorators", None)
    assert called == ["host's", *(["decorated"] if master else []), "ours"]
    assert server.spooler == "host's"


def test_a_dispatcher_is_started_in_uwsgis_workers_alone(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flask_hubspot_hitl.dispatch.dispatcher.START_SECONDS", 0.0)
    worker = 0
    with uwsgi(worker_id=lambda: worker) as server:
        dispatcher = state_of(make_app(dispatcher="thread")).dispatcher
        server.post_fork_hook()  # as in a mule, or a spooler
        assert not dispatcher._is_eager
        worker = 1
        server.post_fork_hook()
        wait_until(lambda: dispatcher.has_started)


# --- what process this is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "command", "options", "env", "expected"),
    [
        (None, None, {}, {}, True),
        (FlaskGroup(), run_command, {"reload": None}, {}, True),
        (FlaskGroup(), run_command, {"reload": None}, {"FLASK_DEBUG": "1"}, False),
        (FlaskGroup(), run_command, {"reload": True}, {}, False),
        (FlaskGroup(), run_command, {"reload": False}, {"FLASK_DEBUG": "1"}, True),
        (FlaskGroup(), run_command, {"reload": None}, {"FLASK_DEBUG": "1", "WERKZEUG_RUN_MAIN": "true"}, True),
        (FlaskGroup(), routes_command, {}, {}, False),
        (FlaskGroup(), click.Command("run"), {}, {}, False),
        (FlaskGroup(), click.Command("serve"), {}, {}, True),
        (FlaskGroup(create_app=lambda: Flask("bot")), click.Command("serve"), {}, {}, True),
        (FlaskGroup(create_app=lambda: Flask("bot")), routes_command, {}, {}, False),
        (AppGroup("bot"), routes_command, {}, {}, False),
        (click.Command("uvicorn"), None, {}, {}, True),
        (click.Group("manage"), click.Command("routes"), {}, {}, True),
    ],
)
def test_who_may_start_without_a_request(
    monkeypatch: pytest.MonkeyPatch,
    root: click.Command | None,
    command: click.Command | None,
    options: dict[str, object],
    env: dict[str, str],
    expected: bool,
) -> None:
    for name in ("FLASK_DEBUG", "WERKZEUG_RUN_MAIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with contextlib.ExitStack() as stack:
        outer = None if root is None else stack.enter_context(click.Context(root, info_name="x"))
        if command is run_command:  # which loads the app itself
            stack.enter_context(click.Context(command, parent=outer, info_name="x")).params = options
        may_start = may_serve({"serve"})
        if outer is not None and command is not None:
            outer.invoked_subcommand = command.name
        assert bool(may_start is not None and may_start()) is expected


def test_the_first_request_starts_the_dispatcher_whatever_the_process_looked_like(make_app: MakeApp) -> None:
    with click.Context(FlaskGroup()):
        app, tested = make_app(dispatcher="thread"), make_app(dispatcher="thread", TESTING=True)
    for one in (app, tested):
        assert not state_of(one).dispatcher._is_eager
        assert one.test_client().get("/hubspot/healthz").status_code == 200
    assert state_of(app).dispatcher.has_started
    assert not state_of(tested).dispatcher.has_started, "a test has nothing for it to do yet"


def test_serving_commands_are_a_list(sqlite_url: str) -> None:
    with pytest.raises(TypeError, match=r"write \['serve'\]"):
        HubSpotHITL(serving_commands="serve")


# --- forks that Python does not see ------------------------------------------------------------------------

linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells which files are open")
HELD = """
import os, sys
from flask import Flask
def held():
    return {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")}
Flask("warm")
import flask_hubspot_hitl.extension, flask_hubspot_hitl.botpress.chat, flask_hubspot_hitl.botpress.studio
import flask_hubspot_hitl.botpress.hitl_api
if "postgresql" in os.environ["HUBSPOT_HITL_DATABASE_URL"]:
    import psycopg
before = held()
app = Flask("bot")
app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
flask_hubspot_hitl.HubSpotHITL(app)
print(sorted(set(held().values()) - set(before.values())))
"""


@linux
@pytest.mark.parametrize("mode", ["thread", "external"])
def test_nothing_is_open_when_init_app_returns(make_app: MakeApp, database_url: str, mode: str) -> None:
    app = make_app(dispatcher="external")
    env = {key: str(value) for key, value in app.config.items() if key.startswith("HUBSPOT_HITL_")}
    done = subprocess.run(
        [sys.executable, "-c", HELD],
        env={**os.environ, **env, "HUBSPOT_HITL_DISPATCHER": mode},
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    assert done.stdout == "[]\n"


UNSEEN = """
import contextlib, ctypes, os, traceback
from flask import Flask
from flask_hubspot_hitl import Attachment, HubSpotHITL
from flask_hubspot_hitl.portals.remote_files import NotFetched
from flask_hubspot_hitl.runtime import get_runtime
app = Flask("bot")
app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
hitl = HubSpotHITL(app)
runtime = get_runtime(app)
services, dispatcher = runtime.services, runtime.dispatcher
def sockets():
    names = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return {os.readlink(name) for name in names if os.path.exists(name) and "socket:" in os.readlink(name)}
def facts():
    with app.app_context():
        assert hitl.get("c1").conversation_id == "c1"
        services.client("424242").get_thread(os.environ["THREAD"])
    with runtime.ledger.write() as tx:
        tx.set_meta("fork", str(os.getpid()))
        backend = runtime.ledger.is_sqlite or tx._connection.driver.info.backend_pid
    with contextlib.suppress(NotFetched):
        services.remote_files.fetch(Attachment(url="https://files.example.com/a.png"))
    return backend, services.client("424242"), dispatcher.pool.runner.owner, services.remote_files._session
mine = facts()
locks = [services._lock, dispatcher._lock, runtime.ledger._database.turns._mutex, mine[1]._lock]
for lock in locks:
    lock.acquire()  # as when other threads, which no child has, hold them
before = sockets()
pid = ctypes.PyDLL(None).fork()  # as uWSGI does: Python is not told
if pid == 0:
    code = 1
    try:
        theirs = facts()
        same = [one == other for one, other in zip(mine, theirs)]
        assert same == [runtime.ledger.is_sqlite, False, False, False], same
        assert before <= sockets(), "the parent's connections were closed"
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)
status = os.waitpid(pid, 0)[1]
for lock in locks:
    lock.release()
again = facts()
assert again == mine, "the parent's connections work as before"
print(status, flush=True)
os._exit(0)
"""


@linux
def test_a_child_that_python_was_not_told_of_begins_anew(
    make_app: MakeApp, hubspot: HubSpot, database_url: str
) -> None:
    app = make_app(dispatcher="external")
    with app.app_context():
        thread = HubSpotHITL().start("c1", contact=PHONE).thread_id
    env = {key: str(value) for key, value in app.config.items() if key.startswith("HUBSPOT_HITL_")}
    done = subprocess.run(
        [sys.executable, "-c", UNSEEN], env={**os.environ, **env, "THREAD": str(thread)},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_threads_that_come_at_once_begin_anew_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept:
        begun = 0

        def begin_anew(self) -> None:
            self.begun += 1
            time.sleep(0.05)  # the others come meanwhile

    kept = Kept()
    process = Process(kept.begin_anew)
    process.check()
    assert kept.begun == 0
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(process.check) for _ in range(8)]:
            done.result()
    assert kept.begun == 1
