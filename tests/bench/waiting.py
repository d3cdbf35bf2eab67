"""How long somebody waits for what concerns others: receivers that wait, and another portal's backlog.

Each measurement is a process of its own, in this copy of the project or in an older one: ``--before PATH`` names a
folder of its files. Both are measured in turn, with what this file says.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from flask_hubspot_hitl.ledger import Step, lanes
from flask_hubspot_hitl.ledger.plans import signal_event

from ..helpers import own_port
from .figures import Case, Figure, Target, interleave
from .stage import ROOT, Host, Stage

EVENTS, WORK_SECONDS, WARM = 100, 0.25, 4
THREADS = 4
BACKLOG = 10_000
OTHER_PORTAL = "515151"
IDLE_SECONDS = 60.0
"""Seconds after which there are as few threads as at first."""
ALONE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tests.bench.waiting", sys.argv[1])
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.alone(sys.argv[2], sys.argv[3], sys.argv[4] == "quick")
"""


def run(stage: Stage) -> Iterator[Figure]:
    """A burst of events whose receivers wait, and another portal's event in the middle of a backlog."""
    versions = {"now": ROOT, **({"before": stage.before} if stage.before else {})}
    cases: dict[str, Case] = {
        f"{what}, {kind}, {version}": partial(measure, folder, what, kind, stage.quick)
        for what in MEASURED
        for kind in stage.databases
        for version, folder in versions.items()
    }
    found = interleave(cases, stage.rounds, stage.say)
    for what, figures in FIGURES.items():
        for name, (unit, target) in figures.items():
            for kind in stage.databases:
                before = found.get(f"{what}, {kind}, before", {}).get(name, ())
                yield Figure(
                    subject="waiting", what=name, database=kind, unit=unit, target=target,
                    values=found[f"{what}, {kind}, now"][name], against="before" if before else "", yardstick=before,
                )  # fmt: skip


def measure(folder: Path, what: str, kind: str, quick: bool) -> dict[str, float]:
    """Measure one thing once, with the files in a folder."""
    command = [sys.executable, "-c", ALONE, __file__, what, kind, "quick" if quick else ""]
    told = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True, text=True).stdout
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def alone(what: str, kind: str, quick: bool) -> None:
    """Measure one thing, and print its figures: the body of a process of its own."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hitl-bench-")))
        stage = Stage(stack, folder, say=lambda text: None, chosen=(kind,), quick=quick)
        print(json.dumps(MEASURED[what](stage, kind)))


def burst(stage: Stage, kind: str) -> dict[str, float]:
    """One webhook of a hundred events of a hundred conversations, to one gunicorn worker with default settings."""
    with stage.host(kind, threads=WARM + EVENTS) as host, _served(stage, host, work=WORK_SECONDS) as (port, pid):
        _post(port, host.requests(1, WARM)[0])
        host.wait_for(WARM)
        time.sleep(2 * WORK_SECONDS)
        few, resident = _status(pid, "Threads"), _status(pid, "VmRSS")
        request = host.requests(1, EVENTS)[0]
        sent = time.monotonic()
        _post(port, request)
        last = max(at for at, _ in host.wait_for(WARM + EVENTS)) - sent
        time.sleep(2 * WORK_SECONDS)
        threads, peak = _status(pid, "Threads"), _status(pid, "VmHWM")
        ended = time.monotonic()
        while _status(pid, "Threads") > few and time.monotonic() < ended + 2 * IDLE_SECONDS:
            time.sleep(0.2)
        return {
            "the last of 100 events, receivers of 250 ms": last * 1000,
            "threads more meanwhile": threads - few,
            "memory more meanwhile": (peak - resident) / 1024,
            "seconds until there are as few threads as before": time.monotonic() - ended,
        }


def backlog(stage: Stage, kind: str) -> dict[str, float]:
    """Ten thousand lanes of one portal are due; another portal's agent takes a conversation."""
    count = BACKLOG // (10 if stage.quick else 1)
    with stage.host(kind, threads=1) as host:
        _fill(host, count)
        with _served(stage, host) as (port, _):
            stage.wait_until(lambda: host.stored() < 0.95 * count)
            sent = time.monotonic()
            _post(port, host.requests(1)[0])
            [(at, _)] = host.wait_for(1)
            left = host.stored()
    return {"another portal's event in a backlog": (at - sent) * 1000, "what is left of 10,000 lanes then": left}


def _fill(host: Host, count: int) -> None:
    """Put a signal of another portal into each of so many lanes."""
    ledger = host.runtime.ledger
    told = [Step(signal="installation_added", facts={"portal_id": OTHER_PORTAL})]
    for start in range(0, count, 200):
        with ledger.write() as tx:
            now = ledger.now_ms()
            keys = [f"99{number}" for number in range(start, min(start + 200, count))]
            events = [
                signal_event(told, key=key, lane=lanes.thread(OTHER_PORTAL, key), sort_at=now, portal_id=OTHER_PORTAL)
                for key in keys
            ]
            tx.queue.put(events, now=now)


@contextlib.contextmanager
def _served(stage: Stage, host: Host, *, work: float = 0.0) -> Iterator[tuple[int, int]]:
    """One gunicorn worker with default settings: its port, and the worker's process id."""
    port = own_port()
    command = f"-m gunicorn tests.bench.host:create_app() --worker-class gthread --workers 1 --threads {THREADS}"
    command += f" --bind 127.0.0.1:{port} --log-level warning --no-control-socket"
    settings = {**host.settings, "HUBSPOT_HITL_DISPATCHER": "thread", "BENCH_WORK_SECONDS": str(work)}
    with stage.process(command.split(), settings) as master:
        stage.wait_until(lambda: _answers(port))
        [pid] = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
        yield port, int(pid)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET /hubspot/healthz HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return connection.recv(65536).startswith(b"HTTP/1.1 200")
    return False


def _post(port: int, request: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request)
        answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 204"):
        raise RuntimeError(f"a webhook was answered with {answer[:80]!r}")


def _status(pid: int, name: str) -> int:
    """Return a figure of ``/proc/<pid>/status``; memory in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise KeyError(name)


MEASURED: dict[str, Callable[[Stage, str], dict[str, float]]] = {"burst": burst, "backlog": backlog}
FIGURES: dict[str, dict[str, tuple[str, Target]]] = {
    "burst": {
        "the last of 100 events, receivers of 250 ms": ("ms", Target(800, at_most=True)),
        "threads more meanwhile": ("threads", Target(60, at_most=True)),
        "memory more meanwhile": ("MB", Target(20, at_most=True)),
        "seconds until there are as few threads as before": ("s", Target(IDLE_SECONDS, at_most=True)),
    },
    "backlog": {
        "another portal's event in a backlog": ("ms", Target(500, at_most=True)),
        "what is left of 10,000 lanes then": ("lanes", Target(1_000)),
    },
}
"""What comes of each measurement: its unit, and what is wanted."""
