"""How long it takes from sending a webhook to the receiver's call, with nothing else to do.

In the same process: gunicorn's workers dispatch what they take in. Across processes: gunicorn only stores, and
``flask hubspot-hitl worker`` is told. One event after the other, at odd moments, each after the last was heard.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from .figures import Case, Figure, Target, interleave
from .stage import Stage, some_request

PAUSE_SECONDS = (0.005, 0.03)
PATIENCE_SECONDS = 10
BARE = "bare view's answer"
MODES = {"the same process": 15, "across processes": 60}
"""What is wanted of the median, in ms."""


class Heard(Protocol):
    """Whose webhooks are signals in the end."""

    journal: Path

    def requests(self, count: int, size: int = 1) -> list[bytes]:
        """So many webhooks of ``size`` new events each."""


def run(stage: Stage) -> Iterator[Figure]:
    """The median and the 99th percentile, beside the time that a bare view takes to answer."""
    count = 60 if stage.quick else 200
    with contextlib.ExitStack() as stack:
        cases: dict[str, Case] = {}
        for kind in stage.databases:
            here, there = (stack.enter_context(stage.host(kind, threads=count)) for _ in MODES)
            stack.enter_context(there.worker())
            served = {"the same process": (here, here.serve("thread")), "across processes": (there, there.serve())}
            for mode, (host, serving) in served.items():
                cases[f"{mode}, {kind}"] = partial(measure, host, stack.enter_context(serving).port, count)
        bare = stack.enter_context(stage.serve("create_bare", {}))
        cases[BARE] = partial(_bare, bare.port, count)
        for case in cases.values():
            case()  # warm up
        found = interleave(cases, stage.rounds, stage.say)
    line = partial(Figure, subject="latency", unit="ms", against=BARE)
    for mode, wanted in MODES.items():
        for kind in stage.databases:
            took = found[f"{mode}, {kind}"]
            yield line(
                what=f"webhook to signal, {mode}", database=kind, values=took["p50"],
                yardstick=found[BARE]["p50"], target=Target(wanted, at_most=True),
            )  # fmt: skip
            yield line(
                what=f"webhook to signal, {mode}, p99", database=kind, values=took["p99"],
                yardstick=found[BARE]["p99"],
            )  # fmt: skip


def measure(host: Heard, port: int, count: int) -> dict[str, float]:
    """The median and the 99th percentile of so many webhooks, each after the last was heard, in ms."""
    host.journal.touch()
    took = []
    with socket.create_connection(("127.0.0.1", port)) as connection, host.journal.open("rb") as journal:
        for request in host.requests(count):
            journal.seek(0, os.SEEK_END)
            time.sleep(random.uniform(*PAUSE_SECONDS))
            sent = time.monotonic()
            _exchange(connection, request)
            line = b""
            while not line:
                if time.monotonic() - sent > PATIENCE_SECONDS:
                    raise TimeoutError(f"no signal within {PATIENCE_SECONDS} s of a webhook")
                time.sleep(0.0005)
                line = journal.readline()
            took.append(float(line.split()[0]) - sent)
    return _percentiles(took)


def _bare(port: int, count: int) -> dict[str, float]:
    took = []
    request = some_request()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(count):
            time.sleep(random.uniform(*PAUSE_SECONDS))
            sent = time.monotonic()
            _exchange(connection, request)
            took.append(time.monotonic() - sent)
    return _percentiles(took)


def _exchange(connection: socket.socket, request: bytes) -> None:
    connection.sendall(request)
    answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 204"):
        raise RuntimeError(f"a webhook was answered with {answer[:80]!r}")


def _percentiles(took: list[float]) -> dict[str, float]:
    hundredths = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50": hundredths[49] * 1000, "p99": hundredths[98] * 1000}
