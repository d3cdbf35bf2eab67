"""Web processes and workers on several hosts: one is cut off with a lease in hand, and comes back (rules E).

The hosts are network namespaces; the same is shown with processes behind relays, for systems without.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.ledger import SCHEMA

from . import network
from .conftest import MakeApp
from .helpers import PATIENCE, HubSpot, Json, own_port, state_of, wait_until
from .network import Machine, Network, NoNamespaces
from .relay import Relay
from .story import PHONE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("CI") != "true" and not hasattr(os, "fork"), reason="gunicorn needs a system that forks"
    ),
]

FACTORY = "tests.process_app:create_app"
WORKER = ["-m", "flask", "--app", FACTORY, "hubspot-hitl", "worker", "--threads"]
LEASE_TTL = 2
HOLD = """
import sys, time
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import SCHEMA, Ledger
ledger = Ledger(sys.argv[1], SystemClock(), schema=SCHEMA)
ledger.create()
with ledger.write() as tx:
    tx.queue.reserve(sys.argv[2], now=ledger.now_ms())
    print("held", flush=True)
    time.sleep(300)
"""
"""Lock a lane, and never end the transaction."""


class Process(subprocess.Popen[str]):
    """One of ours, and what it said on stderr."""

    said: Path

    def says(self, text: str) -> bool:
        return text in self.said.read_text()


class Deployment:
    """Processes of one app on several machines, and the app in this process, which only stores."""

    def __init__(self, app: Flask, hubspot: HubSpot, folder: Path) -> None:
        self.app = app
        self.hubspot = hubspot
        self.journal = folder / "journal"
        self._folder = folder
        self._settings = {key: value for key, value in app.config.items() if key.startswith("HUBSPOT_HITL_")}
        self._processes: list[Process] = []
        self._hitl = HubSpotHITL()
        hubspot.chaos(retry_delays=[0.2] * 200)
        hubspot.target(state_of(app).settings.webhook_urls()[0])

    def run(self, *arguments: str, on: Machine | None = None, **env: str) -> Process:
        """Start a Python command, on a machine."""
        if on is not None:
            env |= {"HUBSPOT_HITL_DATABASE_URL": on.database, "HUBSPOT_HITL_API_BASE_URL": on.hubspot}
        said = self._folder / f"stderr-{len(self._processes)}"
        with said.open("w") as stderr:
            process = Process(
                [*(on.prefix if on else ()), sys.executable, *arguments],
                env={**os.environ, **self._settings, "JOURNAL": str(self.journal), **env},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        process.said = said
        self._processes.append(process)
        return process

    def serve(self, address: tuple[str, int], **more: Any) -> Process:
        """Start gunicorn."""
        host, port = address
        options = ["--log-level", "error", "--no-control-socket", "--bind", f"{host}:{port}"]
        return self.run("-m", "gunicorn", f"{FACTORY}()", *options, **more)

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()

    def start(self, conversation_id: str) -> str:
        """Hand a conversation over, and have the agent take it; the thread."""
        with self.app.app_context():
            thread = self._hitl.start(conversation_id, contact=PHONE).thread_id
        assert thread is not None
        self.hubspot.act(thread, "assign")
        return thread

    def send(self, conversation_id: str, text: str) -> None:
        """The user writes."""
        with self.app.app_context():
            assert self._hitl.send(conversation_id, text)

    def reply(self, thread: str, text: str) -> None:
        """The agent writes."""
        self.hubspot.act(thread, "reply", text=text)

    def heard(self, **facts: Any) -> list[Json]:
        """The journal's lines that have these facts."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [one for one in map(json.loads, lines) if facts.items() <= one.items()]

    def wait_for(self, count: int = 1, timeout: float = PATIENCE, **facts: Any) -> list[Json]:
        """Wait for so many such lines."""
        wait_until(lambda: len(self.heard(**facts)) >= count, timeout, f"{count} × {facts}, have {self.heard()}")
        return self.heard(**facts)

    def go(self, process: Process) -> None:
        """Let the waiting receiver of a process go on."""
        Path(f"{self.journal}.go.{process.pid}").touch()

    def stay(self, process: Process) -> None:
        """Have its next receiver wait again."""
        Path(f"{self.journal}.go.{process.pid}").unlink()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What the database has."""
        with psycopg.connect(self.app.config["HUBSPOT_HITL_DATABASE_URL"]) as connection:
            connection.execute(f"SET search_path TO {SCHEMA}".encode())
            return connection.execute(query.encode()).fetchall()

    def published(self, thread: str) -> list[str]:
        """The user's messages in HubSpot, without the first, which opened the thread."""
        messages = self.hubspot.thread(thread)["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]

    def receipts(self) -> list[str]:
        """The agent's messages that were acknowledged, each as often as it was."""
        done = [one for one in self.hubspot.requests() if one["method"] == "PATCH" and "/messages/" in one["path"]]
        return sorted(one["path"].rpartition("/")[2] for one in done if one["status"] < 300)


Deploy = Callable[..., Deployment]


@pytest.fixture
def deploy(make_app: MakeApp, hubspot: HubSpot, tmp_path: Path) -> Iterator[Deploy]:
    """Makes a deployment; the settings are those of its app."""
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> Deployment:
            app = make_app(dispatcher="external", lease_ttl=str(LEASE_TTL), **settings)
            one = Deployment(app, hubspot, tmp_path)
            stack.callback(one.close)
            return one

        yield make


@pytest.fixture(params=["namespaces", "relays"])
def net(request: pytest.FixtureRequest, hubspot: HubSpot) -> Iterator[Network]:
    """Two machines."""
    port = int(hubspot.url.rpartition(":")[2])
    with contextlib.ExitStack() as stack:
        try:
            found = stack.enter_context(getattr(network, request.param)(port, ["a", "b"]))
        except NoNamespaces as error:
            pytest.skip(f"no network namespaces here ({error}): processes behind relays show the same")
        yield found


EVENTS = "SELECT id, state, starts, attempts, done_at, error FROM hitl_event WHERE lane LIKE 'in:%' ORDER BY id"
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


def test_a_host_that_is_cut_off_and_comes_back_repeats_nothing(
    net: Network, deploy: Deploy, request: pytest.FixtureRequest
) -> None:
    balancer = Relay(*(machine.web for machine in net.machines))
    request.addfinalizer(balancer.close)
    d = deploy(database_url=net.database, public_url=f"http://127.0.0.1:{balancer.port}")
    workers = {}
    for machine in net.machines:
        d.serve(machine.listens, on=machine, HUBSPOT_HITL_DISPATCHER="external")
        worker = d.run(*WORKER, "2", on=machine)
        workers[worker.pid] = (machine, worker)
    for machine in net.machines:
        wait_until(lambda machine=machine: answers(machine.web), what="the web process")  # type: ignore[misc]
    one, two = d.start("c1"), d.start("c2")
    d.wait_for(2, signal="assigned")
    d.reply(one, "wait")
    [held] = d.wait_for(obeys="wait")
    machine, worker = workers.pop(held["pid"])
    [(_, other)] = workers.values()
    d.reply(one, "m1")
    d.send("c1", "u1")
    wait_until(lambda: d.published(one) == ["u1"])
    # Another process there is in the middle of a transaction, with the lane of the second conversation locked.
    holder = d.run("-c", HOLD, machine.database, f"in:424242:{two}", on=machine)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    machine.cut()
    assert not answers(machine.web)
    d.wait_for(obeys="wait", pid=other.pid)
    d.reply(one, "m2")
    d.reply(two, "hello")
    d.send("c1", "u2")
    d.go(other)
    d.wait_for(obeys="m2", pid=other.pid)
    d.wait_for(obeys="hello", pid=other.pid)  # its lane was given free
    wait_until(lambda: d.published(one) == ["u1", "u2"])
    wait_until(lambda: len(d.receipts()) == 4, what="the receipts")
    d.go(worker)
    d.wait_for(obeyed="wait", pid=worker.pid)
    wait_until(lambda: worker.says("The database can't be used"), what="the cut-off host's finding out")
    before = d.rows(EVENTS)
    assert not worker.says("The lease of lane")

    machine.restore()
    wait_until(lambda: worker.says("The lease of lane"), what="its done mark's refusal")
    wait_until(lambda: answers(machine.web), what="its web process")
    assert [(line["obeys"], line["pid"]) for line in d.heard() if "obeys" in line and line["obeys"] != "hello"] == [
        ("wait", worker.pid),
        ("wait", other.pid),
        ("m1", other.pid),
        ("m2", other.pid),
    ]
    # It takes part again, with all its threads.
    other.terminate()
    assert other.wait(60) == 0
    d.stay(worker)
    d.reply(one, "wait")
    d.reply(two, "wait")
    d.wait_for(3, obeys="wait", pid=worker.pid)
    assert d.rows(EVENTS)[: len(before)] == before
    d.go(worker)
    d.reply(one, "m3")
    d.wait_for(obeys="m3", pid=worker.pid)
    assert [len(d.heard(signal="message", text=text)) for text in ("wait", "m1", "m2", "hello", "m3")] == [
        3,
        1,
        1,
        1,
        1,
    ]
    d.send("c1", "u3")
    wait_until(lambda: d.published(one) == ["u1", "u2", "u3"])
    wait_until(lambda: len(d.receipts()) == 7, what="the receipts")
    assert len(set(d.receipts())) == 7
    wait_until(lambda: d.rows(LISTENERS) == [(1,)], what="one listening connection")


def test_leases_hold_and_run_out_whatever_the_hosts_clocks_say(deploy: Deploy, postgresql_url: str) -> None:
    web = ("127.0.0.1", own_port())
    d = deploy(database_url=postgresql_url, public_url=f"http://127.0.0.1:{web[1]}")
    d.serve(web, CLOCK_AHEAD="3600", HUBSPOT_HITL_DISPATCHER="external")  # what it takes in is due now, not in an hour
    wait_until(lambda: answers(web), what="the web process")
    wrong = [d.run(*WORKER, "1", CLOCK_AHEAD=ahead) for ahead in ("3600", "-3600")]
    one, two, three = d.start("c1"), d.start("c2"), d.start("c3")
    d.wait_for(3, signal="assigned")
    d.reply(one, "wait")
    d.reply(two, "wait")
    assert {line["pid"] for line in d.wait_for(2, obeys="wait")} == {worker.pid for worker in wrong}
    right = d.run(*WORKER, "2")
    d.reply(three, "hello")
    d.wait_for(obeys="hello", pid=right.pid)
    time.sleep(2 * LEASE_TTL)
    assert len(d.heard(obeys="wait")) == 2, "both leases hold"
    for worker in wrong:
        worker.kill()
    d.wait_for(2, obeys="wait", pid=right.pid)
    d.go(right)
    wait_until(lambda: d.rows("SELECT count(*) FROM hitl_event WHERE state = 0 AND lane LIKE 'in:%'") == [(0,)])
    assert len(d.heard(obeys="wait")) == 4


def answers(address: tuple[str, int]) -> bool:
    """Whether a web process can be reached, and reaches the database."""
    host, port = address
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"http://{host}:{port}/hubspot/healthz", timeout=5).status_code == 200
    return False
