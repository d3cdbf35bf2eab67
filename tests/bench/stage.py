"""What every measurement needs: databases, an app with open handoffs, signed requests, servers and workers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.handoffs import rules
from flask_hubspot_hitl.handoffs.sweeps import START_MS, SweepTask
from flask_hubspot_hitl.hubspot import signature
from flask_hubspot_hitl.hubspot.events import parse_body
from flask_hubspot_hitl.ledger import FAST, EventState, NewEvent, Speed, Topic, lanes
from flask_hubspot_hitl.ledger.schema import event, lane
from flask_hubspot_hitl.testing import HubSpot, running_hubspot

from .. import databases
from ..helpers import Json, assigned_event, begin_handoff, own_port, state_of

ROOT = Path(__file__).parents[2]
DATABASES = ("sqlite", "postgresql")
PUBLIC_URL = "https://bot.example.test"
SECRET = "sim-client-secret-0001"
AGENTS = ("A-987", "A-988")
WEB_PROCESSES, WEB_THREADS = 2, 4
RATE_LIMIT = 1_000_000
"""Requests to the stand-in per ten seconds: HubSpot's own limit is not what is measured."""
PATIENCE = 300.0
"""Seconds after which a measurement is given up."""


class Stage:
    """What one run works with. Servers are started when they are asked for first, and end with ``stack``."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        folder: Path,
        *,
        say: Callable[[str], None],
        chosen: tuple[str, ...] = DATABASES,
        rounds: int = 3,
        quick: bool = False,
        before: Path | None = None,
    ) -> None:
        self.folder = folder
        self.say = say
        self.databases = chosen
        self.rounds = rounds
        self.quick = quick
        self.before = before
        """A folder with the files of an older version, for what is measured beside it."""
        self._stack = stack

    @cached_property
    def hubspot(self) -> HubSpot:
        """The stand-in."""
        return self._stack.enter_context(running_hubspot())

    @cached_property
    def _postgresql(self) -> str:
        return self._stack.enter_context(databases.postgresql_server())

    @contextlib.contextmanager
    def database(self, kind: str) -> Iterator[str]:
        """The URL of a fresh database."""
        if kind == "sqlite":
            yield f"sqlite:///{self.folder / uuid.uuid4().hex}/hitl.sqlite3"
        else:
            with databases.postgresql_database(self._postgresql) as url:
                yield url

    @contextlib.contextmanager
    def host(self, kind: str, *, threads: int) -> Iterator[Host]:
        """A fresh database with ``threads`` open handoffs."""
        with self.database(kind) as url:
            host = Host(self, kind, url)
            try:
                host.open(threads)
                yield host
            finally:
                host.close()

    @contextlib.contextmanager
    def hosts(self, *, threads: int) -> Iterator[dict[str, Host]]:
        """One on each of the databases."""
        with contextlib.ExitStack() as stack:
            yield {kind: stack.enter_context(self.host(kind, threads=threads)) for kind in self.databases}

    @contextlib.contextmanager
    def serve(
        self,
        factory: str,
        settings: dict[str, str],
        *,
        module: str = "tests.bench.host",
        folder: Path = ROOT,
        processes: int = WEB_PROCESSES,
    ) -> Iterator[Server]:
        """gunicorn with gthread workers, in a folder. ``factory`` is a function of the module."""
        port = own_port()
        command = f"-m gunicorn {module}:{factory}() --worker-class gthread --workers {processes}"
        command += f" --threads {WEB_THREADS} --bind 127.0.0.1:{port} --log-level warning --no-control-socket"
        with self.process(command.split(), settings, folder=folder) as process:
            self.wait_until(lambda: _answers(port))
            yield Server(port, process.pid)

    @contextlib.contextmanager
    def process(
        self, arguments: list[str], settings: dict[str, str], *, folder: Path = ROOT
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A Python process with these settings, in a group of its own; it is ended with SIGTERM."""
        with open(self.folder / "processes.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env={**os.environ, **settings},
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Look again and again.

        :raises TimeoutError: after :data:`PATIENCE`.
        """
        ends = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > ends:
                log = (self.folder / "processes.log").read_text(errors="replace")
                raise TimeoutError(f"nothing happened for {PATIENCE:.0f} s; the processes' last words:\n{log[-2000:]}")
            time.sleep(0.02)

    def settled(self, look: Callable[[], int]) -> int:
        """What ``look`` finds when it finds the same for a while."""
        found: list[int] = []

        def is_settled() -> bool:
            found.append(look())
            return len(found) > 10 and len(set(found[-10:])) == 1

        self.wait_until(is_settled)
        return found[-1]


@dataclass(frozen=True, slots=True)
class Server:
    """A gunicorn that listens on ``port``; ``pid`` is its master's."""

    port: int
    pid: int

    def processes(self) -> list[int]:
        """The ids of its processes that serve."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def post(self, request: bytes) -> None:
        """Send a webhook.

        :raises RuntimeError: when the answer is no 204.
        """
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(request)
            answer = connection.recv(65536)
        if not answer.startswith(b"HTTP/1.1 204"):
            raise RuntimeError(f"a webhook was answered with {answer[:80]!r}")

    def cpu(self) -> list[float]:
        """What each of its processes that serve has used so far, in seconds."""
        return [cpu_seconds(pid) for pid in self.processes()]


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, by its own clock, which is finer than ``/proc/PID/stat``.

    Its number is made as in the kernel's ``posix-timers_types.h``.
    """
    return time.clock_gettime((~pid << 3) | 2)


def _answers(port: int) -> bool:
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://127.0.0.1:{port}/hubspot/healthz", timeout=5).status_code == 200
    return False


class Host:
    """One database with open handoffs: the app in this process, which only stores, and others that work on it."""

    def __init__(self, stage: Stage, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        self.threads: list[str] = []
        self.journal = stage.folder / f"{uuid.uuid4().hex}.journal"
        self.settings = {
            **stage.hubspot.env(),
            "HUBSPOT_HITL_PUBLIC_URL": PUBLIC_URL,
            "HUBSPOT_HITL_DATABASE_URL": url,
            "HUBSPOT_HITL_DISPATCHER": "external",
            "HUBSPOT_HITL_RATE_LIMIT": str(RATE_LIMIT),
            "BENCH_JOURNAL": str(self.journal),
        }
        self._stage = stage
        self._told = 0
        self.app = Flask("bench")
        self.app.config.update(self.settings)
        HubSpotHITL(self.app)
        self.runtime = state_of(self.app)
        self._since = self.runtime.ledger.now_ms() - 3_600_000
        self._must_be_durable()
        # A dispatcher that starts has every open handoff compared with HubSpot: that is not measured.
        SweepTask(self.runtime.services).put_start()
        self.runtime.dispatcher.run_due()
        with self.runtime.ledger.write() as tx:
            now = self.runtime.ledger.now_ms()
            spans = range(now // START_MS, now // START_MS + 24)
            sweep = lanes.sweep("start")
            done = [
                NewEvent(dedupe_key=f"{sweep}:{span}", lane=None, topic=Topic.SWEEP, sort_at=now, state=EventState.DONE)
                for span in spans
            ]
            tx.queue.put(done, now=now)

    def _must_be_durable(self) -> None:
        """As in production, or the figures are worth nothing."""
        with self.runtime.ledger.read() as tx:

            def ask(what: str) -> object:
                return tx._connection.scalar(sa.text(what))

            if self.kind == "sqlite":
                found = [ask("PRAGMA journal_mode"), ask("PRAGMA synchronous")]
                wanted: list[object] = ["wal", 2]
            else:
                found = [ask("SHOW fsync"), ask("SHOW synchronous_commit")]
                wanted = ["on", "on"]
        if found != wanted:
            raise RuntimeError(f"the database is not durable: {found}, wanted {wanted}")

    def open(self, count: int) -> None:
        """Open that many handoffs, each with a thread, without any call to HubSpot."""
        ledger = self.runtime.ledger
        names = [str(6_300_000_000 + len(self.threads) + number) for number in range(count)]
        for start in range(0, count, 200):
            with ledger.write() as tx:
                now = ledger.now_ms()
                for thread in names[start : start + 200]:
                    record = begin_handoff(tx, f"c{thread}", now=now)
                    rules.opened(tx, record, thread_id=thread, timeout_ms=0, now=now)
                    tx.delete_lane(lanes.signals(record.handoff))  # the signal that it has started
        self.threads += names

    def close(self) -> None:
        """Give the connections back."""
        self.runtime.close()

    # What HubSpot says -----------------------------------------------------------------------------------

    def bodies(self, count: int, size: int = 1) -> Iterator[bytes]:
        """So many webhooks of ``size`` new events each: a thread after the other is assigned to the other agent."""
        for _ in range(count):
            yield json.dumps([self._event() for _ in range(size)], separators=(",", ":")).encode()

    def _event(self) -> Json:
        turn, thread = divmod(self._told, len(self.threads))
        self._told += 1
        agent = AGENTS[turn % len(AGENTS)]
        return assigned_event(agent, thread=self.threads[thread], at=self._since + self._told)

    def requests(self, count: int, size: int = 1) -> list[bytes]:
        """The same as signed HTTP requests."""
        return [signed_request(body) for body in self.bodies(count, size)]

    def accept(self, count: int, size: int = 100) -> None:
        """Store so many events through the intake, without HTTP."""
        whole, rest = divmod(count, size)
        for body in [*self.bodies(whole, size), *self.bodies(1 if rest else 0, rest)]:
            self.runtime.intake.accept(parse_body(body, now_ms=self.runtime.ledger.now_ms()))
        self.runtime.dispatcher.wake()

    # What becomes of it ----------------------------------------------------------------------------------

    def stored(self) -> int:
        """How many events wait for a dispatcher."""
        with self.runtime.ledger.read() as tx:
            return tx.count(EventState.PENDING)

    def drop_pending(self) -> None:
        """Take back what waits, as if it had been dispatched."""
        with self.runtime.ledger.write() as tx:
            tx._connection.execute(
                sa.update(event).where(event.c.state == 0).values(state=2, done_at=event.c.received_at)
            )
            tx._connection.execute(sa.update(lane).values(due_at=None))

    def signals(self) -> int:
        """How many signals were heard so far."""
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def heard(self) -> list[tuple[float, str]]:
        """When the receivers were called (``time.monotonic``), and of which thread."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [(float(at), thread) for at, _, thread in (line.partition(" ") for line in lines)]

    def wait_for(self, signals: int) -> list[tuple[float, str]]:
        """Wait until so many signals were heard; all of them. Nothing may be heard twice."""
        self._stage.wait_until(lambda: self.signals() >= signals)
        heard = self.heard()
        if len(heard) != signals:
            raise RuntimeError(f"{signals} signals were expected, and {len(heard)} were heard")
        return heard

    # Processes -------------------------------------------------------------------------------------------

    def serve(self, dispatcher: str = "external", *, speed: Speed = FAST) -> contextlib.AbstractContextManager[Server]:
        """Serve it."""
        return self._stage.serve("create_app", {**self.settings, "HUBSPOT_HITL_DISPATCHER": dispatcher, **told(speed)})

    def worker(
        self, threads: int | None = None, *, work: float = 0.0, speed: Speed = FAST
    ) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """``flask hubspot-hitl worker``. ``work`` is how many seconds a receiver takes."""
        command = ["-m", "flask", "--app", "tests.bench.host:create_app", "hubspot-hitl", "worker"]
        command += [] if threads is None else ["--threads", str(threads)]
        return self._stage.process(command, {**self.settings, "BENCH_WORK_SECONDS": str(work), **told(speed)})


def told(speed: Speed) -> dict[str, str]:
    """What tells ``host.py`` which of the ledger's measures to have on."""
    return {"BENCH_SPEED": json.dumps(asdict(speed))}


def some_request(size: int = 1) -> bytes:
    """A signed webhook of ``size`` events, for whom it does not matter which."""
    event = assigned_event(AGENTS[0], at=time.time_ns() // 1_000_000)
    return signed_request(json.dumps([event] * size, separators=(",", ":")).encode())


def signed_request(body: bytes) -> bytes:
    """A webhook as HubSpot sends it, ready for a socket."""
    headers: dict[str, Any] = signature.headers(
        "v3",
        secret=SECRET,
        uri=f"{PUBLIC_URL}/hubspot/webhook",
        body=body,
        timestamp=time.time_ns() // 1_000_000,
    )
    headers |= {"Host": "bench", "Content-Type": "application/json", "Content-Length": len(body)}
    lines = ["POST /hubspot/webhook HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body
