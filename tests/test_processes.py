"""Where the dispatcher runs: real servers, the worker, ``tick``, and how each of them ends (ledger §2.4, §4.5)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask import Flask
from flask.cli import FlaskGroup, routes_command, run_command

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.servers import may_serve
from flask_hubspot_hitl.ledger import EventState

from .conftest import MakeApp, _Ports
from .helpers import PATIENCE, HubSpot, Json, assigned_event, signed_post, state_of, wait_until
from .story import PHONE

FACTORY = "tests.process_app:create_app"
FLASK = ["-m", "flask", "--app", FACTORY]
WORKER = [*FLASK, "hubspot-hitl", "worker"]
GUNICORN = ["-m", "gunicorn", f"{FACTORY}()", "--log-level", "warning", "--no-control-socket", "--bind", "127.0.0.1:{}"]
SERVERS = {
    "sync": GUNICORN,
    "gthread": [*GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "preload": [*GUNICORN, "--preload", "--workers", "2"],
    "gevent": [*GUNICORN, "--worker-class", "gevent"],
    "waitress": ["-m", "waitress", "--listen", "127.0.0.1:{}", "--call", FACTORY],
    "flask-run": [*FLASK, "run", "--port", "{}"],
    "reloader": [*FLASK, "run", "--debug", "--port", "{}"],
    "app-run-reloader": ["-m", "tests.process_app"],
}
PARENTS = {"sync", "gthread", "preload", "gevent", "reloader", "app-run-reloader"}
"""Where the process we start only looks after others."""


class Host:
    """Processes of one app, wired to the stand-in, and the app in this process, which only stores."""

    def __init__(self, app: Flask, hubspot: HubSpot, ports: _Ports, folder: Path) -> None:
        self.app = app
        self.hubspot = hubspot
        self.journal = folder / "journal"
        self.port: int = app.config["TEST_PORT"]
        ports.sockets.pop(self.port).close()
        settings = {key: value for key, value in app.config.items() if key.startswith("HUBSPOT_HITL_")}
        self._env = {**os.environ, **settings, "JOURNAL": str(self.journal), "PORT": str(self.port)}
        self._processes: list[subprocess.Popen[str]] = []
        with app.app_context():
            self.thread = HubSpotHITL().start("c1", contact=PHONE).thread_id
        hubspot.chaos(retry_delays=[0.2] * 500)
        hubspot.target(f"http://127.0.0.1:{self.port}/hubspot/webhook")

    def run(self, *arguments: str, mode: str = "thread") -> subprocess.Popen[str]:
        """Start a Python command; ``{}`` is the port. In a group of its own, as under a service manager."""
        process = subprocess.Popen(
            [sys.executable, *(one.format(self.port) for one in arguments)],
            env={**self._env, "HUBSPOT_HITL_DISPATCHER": mode},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()

    def post(self, text: str) -> None:
        """The agent's message comes in here, in this process, and is stored."""
        self.hubspot.chaos(deliver=False)
        message = self.hubspot.act(self.thread, "reply", text=text)
        found = next(one for one in self.hubspot.threads() if one["id"] == self.thread)
        event = {
            "type": "OUTGOING_CHANNEL_MESSAGE_CREATED",
            "portalId": "424242",
            "channelId": message["channelId"],
            "eventTimestamp": message["createdAt"],
            "eventId": f"event-{message['id']}",
            "channelIntegrationThreadIds": [found["integrationThreadId"]],
            "message": message,
        }
        assert signed_post(self.app, event).status_code == 204

    def heard(self, **facts: str) -> list[Json]:
        """The journal's lines that have these facts."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [one for one in map(json.loads, lines) if facts.items() <= one.items()]

    def wait_for(self, timeout: float = PATIENCE, **facts: str) -> Json:
        """Wait for such a line; the newest of them."""
        wait_until(lambda: self.heard(**facts), timeout, f"{facts}, have {self.heard()}")
        return self.heard(**facts)[-1]

    def dead(self) -> int:
        with state_of(self.app).ledger.read() as tx:
            return tx.count(EventState.DEAD)

    def leased(self) -> int:
        with state_of(self.app).ledger.read() as tx:
            leased: int = tx.status(now=state_of(self.app).ledger.now_ms())["leased"]
            return leased

    def go(self) -> None:
        """Let the waiting receiver go on."""
        Path(f"{self.journal}.go").touch()


@pytest.fixture
def host(make_app: MakeApp, hubspot: HubSpot, _ports: _Ports, tmp_path: Path) -> Iterator[Host]:
    one = Host(make_app(dispatcher="external"), hubspot, _ports, tmp_path)
    yield one
    one.close()


def need(module: str) -> None:
    """Skip without a server; never in CI."""
    if importlib.util.find_spec(module) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{module} is not installed")


def threads_of(pid: int) -> int | None:
    """How many threads a process has; None where the system does not tell."""
    tasks = Path(f"/proc/{pid}/task")
    return len(list(tasks.iterdir())) if tasks.exists() else None


# --- servers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_works_off_its_backlog_unasked_and_dispatches_a_signed_webhook(host: Host, server: str) -> None:
    for module in {"waitress": ["waitress"], "gevent": ["gunicorn", "gevent"]}.get(server, []):
        need(module)
    if "gunicorn" in SERVERS[server]:
        need("gunicorn")
    now = state_of(host.app).ledger.now_ms()
    assert signed_post(host.app, [assigned_event("A-987", at=now, thread=str(host.thread))]).status_code == 204
    process = host.run(*SERVERS[server])
    host.wait_for(signal="assigned")
    host.hubspot.act(host.thread, "reply", text="hello")  # the stand-in signs and delivers it
    host.wait_for(signal="message", text="hello")
    ran_in = host.wait_for(obeys="hello")["pid"]
    assert (ran_in != process.pid) == (server in PARENTS)
    if server in PARENTS:
        wait_until(lambda: threads_of(process.pid) in (1, None), what="its timer's end: no dispatcher in there")


@pytest.mark.parametrize("server", ["sync", "gthread", "gevent"])
def test_sigterm_to_gunicorn_finishes_what_is_held(host: Host, server: str) -> None:
    need("gunicorn")
    if server == "gevent":
        need("gevent")
    host.post("wait")
    process = host.run(*SERVERS[server])
    worker = host.wait_for(obeys="wait")["pid"]
    process.terminate()
    host.go()
    process.wait(60)
    assert [one["pid"] for one in host.heard(obeyed="wait")] == [worker]
    with state_of(host.app).ledger.read() as tx:
        assert tx.queue.owners() == []
    assert host.run(*FLASK, "hubspot-hitl", "tick", mode="external").wait(60) == 0
    assert len(host.heard(obeys="wait")) == 1, "its done mark was written"


# --- commands --------------------------------------------------------------------------------------------


def test_two_web_processes_take_webhooks_and_one_worker_dispatches(host: Host) -> None:
    need("gunicorn")
    host.run(*GUNICORN, "--workers", "2", mode="external")
    worker = host.run(*WORKER, "--threads", "64", mode="external")
    host.hubspot.act(host.thread, "assign")
    for number in range(6):
        host.hubspot.act(host.thread, "reply", text=f"m{number}")
    host.wait_for(obeys="m5")
    assert {one["pid"] for one in host.heard() if "obeys" in one} == {worker.pid}
    assert [one["text"] for one in host.heard(signal="message")] == [f"m{number}" for number in range(6)]
    worker.terminate()
    assert worker.wait(60) == 0


def test_a_run_whose_web_process_and_worker_were_killed_equals_one_that_was_never_down(host: Host) -> None:
    need("gunicorn")
    with host.app.app_context():
        threads = {name: str(HubSpotHITL().start(name, contact=PHONE).thread_id) for name in ("up", "down")}

    def happen(name: str) -> None:
        host.hubspot.act(threads[name], "assign", actorId="A-988")
        for number in range(5):
            host.hubspot.act(threads[name], "reply", actorId="A-988", text=f"m{number}")
        host.hubspot.act(threads[name], "close")

    def told(name: str) -> list[tuple[str, str | None]]:
        return [(one["signal"], one.get("operator") or one.get("text")) for one in host.heard(conversation=name)]

    web = host.run(*GUNICORN, mode="external")
    worker = host.run(*WORKER, mode="external")
    happen("up")
    host.wait_for(conversation="up", signal="completed")
    wait_until(lambda: host.leased() == 0, what="that all is settled: who is killed before that may repeat a signal")
    for process in (web, worker):
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
    host.hubspot.chaos(retry_delays=[0, 0])
    happen("down")
    wait_until(lambda: host.hubspot.pending() == 0, what="that HubSpot gives up")
    host.run(*GUNICORN, mode="external")
    host.run(*WORKER, mode="external")
    assert host.run(*FLASK, "hubspot-hitl", "reconcile", mode="external").wait(60) == 0
    host.wait_for(conversation="down", signal="completed")
    assert told("down") == told("up")
    messages = [("message", f"m{number}") for number in range(5)]
    assert told("up") == [("assigned", "A-988"), *messages, ("completed", None)]


def test_the_first_sigterm_lets_the_worker_finish(host: Host) -> None:
    host.post("wait")
    worker = host.run(*WORKER, "--threads", "2", mode="external")
    host.wait_for(obeys="wait")
    host.post("later")
    worker.terminate()
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("Dispatching with 2 threads")
    assert worker.stdout.readline().startswith("Finishing")
    assert worker.poll() is None, "it waits for the receiver"
    host.go()
    assert worker.wait(60) == 0
    assert host.heard(obeyed="wait")
    assert host.heard(obeys="later") == [], "nothing more is claimed"
    assert host.run(*FLASK, "hubspot-hitl", "tick", mode="external").wait(60) == 0
    assert len(host.heard(obeys="wait")) == len(host.heard(obeys="later")) == 1, "its done mark was written"


def test_the_second_sigterm_ends_the_worker_and_the_next_one_runs_the_event_again(host: Host) -> None:
    host.post("wait")
    worker = host.run(*WORKER, mode="external")
    host.wait_for(obeys="wait")
    worker.terminate()
    assert worker.stdout is not None
    while not worker.stdout.readline().startswith("Finishing"):
        assert worker.poll() is None
    worker.terminate()
    assert worker.wait(60) == 1
    with state_of(host.app).ledger.read() as tx:
        assert tx.queue.owners() == [], "its lease is given back at once"
    host.go()
    again = host.run(*WORKER, mode="external")
    assert host.wait_for(obeyed="wait")["pid"] == again.pid
    assert len(host.heard(obeys="wait")) == 2
    again.send_signal(signal.SIGINT)
    assert again.wait(60) == 0


def test_tick_dispatches_what_is_due_and_ends(host: Host) -> None:
    host.post("hello")
    tick = host.run(*FLASK, "hubspot-hitl", "tick", mode="external")
    out, _ = tick.communicate(timeout=60)
    assert tick.returncode == 0
    assert "lane(s) run" in out
    assert host.heard(obeys="hello")


def test_a_receiver_that_ends_its_process_five_times_is_given_up(host: Host) -> None:
    host.post("kill")
    for _ in range(5):
        assert host.run(*FLASK, "hubspot-hitl", "tick", mode="external").wait(60) == -signal.SIGKILL
    assert host.dead() == 0
    assert host.run(*FLASK, "hubspot-hitl", "tick", mode="external").wait(60) == 0
    assert host.dead() == 1
    assert len(host.heard(obeys="kill")) == 5
    assert len(host.heard(signal="message")) == 1, "the receiver that accepted it was not asked again"


def test_other_commands_start_no_dispatcher(host: Host) -> None:
    host.post("hello")
    command = host.run(*FLASK, "threads")
    out, _ = command.communicate(timeout=60)
    assert out.strip() == "MainThread"
    assert host.heard() == []


@pytest.mark.parametrize(
    ("command", "options", "env", "expected"),
    [
        (None, {}, {}, True),
        (run_command, {"reload": None}, {}, True),
        (run_command, {"reload": None}, {"FLASK_DEBUG": "1"}, False),
        (run_command, {"reload": True}, {}, False),
        (run_command, {"reload": False}, {"FLASK_DEBUG": "1"}, True),
        (run_command, {"reload": None}, {"FLASK_DEBUG": "1", "WERKZEUG_RUN_MAIN": "true"}, True),
        (routes_command, {}, {}, False),
        (click.Command("run"), {}, {}, False),
    ],
)
def test_who_may_start_without_a_request(
    monkeypatch: pytest.MonkeyPatch,
    command: click.Command | None,
    options: dict[str, object],
    env: dict[str, str],
    expected: bool,
) -> None:
    for name in ("FLASK_DEBUG", "WERKZEUG_RUN_MAIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    if command is None:
        assert _may_serve() is expected
        return
    context = click.Context(command, parent=click.Context(FlaskGroup()), info_name="x")
    context.params = options
    with context:
        assert _may_serve() is expected
