"""Where the dispatcher runs: the worker, ``tick``, and how each of them and a server ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_hubspot_hitl import HubSpotHITL

from .conftest import MakeApp
from .helpers import HubSpot, Json, state_of, wait_until
from .processes import Host, need
from .story import PHONE

FACTORY = "tests.process_app:create_app"
FLASK = ["-m", "flask", "--app", FACTORY]
WORKER = [*FLASK, "hubspot-hitl", "worker"]
GUNICORN = ["-m", "gunicorn", f"{FACTORY}()", "--log-level", "warning", "--no-control-socket", "--bind", "127.0.0.1:{}"]
SERVERS = {
    "sync": GUNICORN,
    "gthread": [*GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "gevent": [*GUNICORN, "--worker-class", "gevent"],
}


@pytest.fixture
def host(make_app: MakeApp, hubspot: HubSpot, tmp_path: Path) -> Iterator[Host]:
    one = Host(make_app(dispatcher="external"), hubspot, tmp_path)
    yield one
    one.close()


# --- servers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "server", [one if one == "gthread" else pytest.param(one, marks=pytest.mark.slow) for one in SERVERS]
)
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


def test_a_server_that_hangs_never_holds_all_threads_of_a_worker_with_few(host: Host) -> None:
    """Fewer than a quarter of those that it might have: the share follows what it was given."""
    need("gunicorn")
    hangs = {"match": "POST .*/custom-channels/.*/messages", "times": None, "mode": "delay", "seconds": 60}
    names = [f"waits{number}" for number in range(6)]

    def posts() -> list[Json]:
        return [one for one in host.hubspot.requests() if one["method"] == "POST"]

    with host.app.app_context():
        for name in names:
            assert HubSpotHITL().start(name, contact=PHONE).thread_id is not None
        before = len(posts())
        host.hubspot.chaos(faults=[hangs])
        for name in names:
            assert HubSpotHITL().send(name, "hello?")
    host.run(*GUNICORN, mode="external")
    host.run(*WORKER, "--threads", "3", mode="external")
    wait_until(lambda: len(posts()) > before, what="a call that hangs")
    host.hubspot.act(host.thread, "reply", text="here I am")
    began = time.monotonic()
    host.wait_for(obeys="here I am")
    assert time.monotonic() - began < 8, "less than one call takes to be given up"


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
    assert "Dispatched what was due in " in out
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
