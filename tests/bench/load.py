"""A closed loop of ready-made requests over kept-alive connections: with ``wrk`` where there is one, else by ourselves.

Each connection sends its next request when the answer to the last is there. Answers must be 204s.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

WRK = shutil.which("wrk")
TIMEOUT = 5
"""Seconds that HubSpot waits for an answer."""
SCRIPT = Path(__file__).with_name("replay.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. Latencies are in ms; ``cpu`` is the generator's own share of one core."""

    requests: int
    seconds: float
    p50: float
    p99: float
    max: float
    errors: int
    cpu: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def send(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float, folder: Path, cycle: bool = False
) -> Load:
    """Send the requests, for ``seconds`` at most; ``cycle`` begins anew when all are sent, else that is the end."""
    if WRK is None:
        return _send(port, requests, connections, seconds, cycle)
    path = folder / "requests"
    with path.open("wb") as file:
        for one in requests:
            file.write(b"%d\n%s" % (len(one), one))
    before = _cpu(resource.RUSAGE_CHILDREN)
    command = [WRK, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT}s"]
    out = subprocess.run(
        [*command, "-s", str(SCRIPT), f"http://127.0.0.1:{port}/"],
        env={**os.environ, "REPLAY_FILE": str(path), "REPLAY_CYCLE": str(int(cycle))},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = json.loads(out[out.index('{"requests"') :])
    return Load(**found, cpu=(_cpu(resource.RUSAGE_CHILDREN) - before) / found["seconds"])


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


@dataclass(slots=True)
class _Connection:
    port: int
    selector: selectors.BaseSelector
    socket: socket.socket = field(init=False)
    sent_at: float = 0.0

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.selector.register(self.socket, selectors.EVENT_READ, self)

    def close(self) -> None:
        self.selector.unregister(self.socket)
        self.socket.close()

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)


def _send(port: int, requests: Sequence[bytes], count: int, seconds: float, cycle: bool) -> Load:
    before = _cpu(resource.RUSAGE_SELF)
    took: list[float] = []
    errors = sent = 0
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        connections = [_Connection(port, selector) for _ in range(count)]
        for one in connections:
            one.open()
            stack.callback(one.close)
        began = time.perf_counter()
        ends = began + seconds
        for one in connections:
            one.send(requests[sent % len(requests)])
            sent += 1
        while (now := time.perf_counter()) < ends and (cycle or sent < len(requests)):
            for key, _ in selector.select(ends - now):
                connection: _Connection = key.data
                try:
                    answer = connection.socket.recv(65536)
                except OSError:
                    answer = b""
                is_right = answer[9:12] == b"204"
                if is_right:
                    took.append(time.perf_counter() - connection.sent_at)
                errors += not is_right
                if not (is_right and answer.startswith(b"HTTP/1.1") and b"\r\nConnection: close" not in answer):
                    connection.close()
                    connection.open()
                connection.send(requests[sent % len(requests)])
                sent += 1
        spent = time.perf_counter() - began
    hundredths = quantiles(took, n=100)
    return Load(
        requests=len(took) + errors,
        seconds=spent,
        p50=hundredths[49] * 1000,
        p99=hundredths[98] * 1000,
        max=max(took) * 1000,
        errors=errors,
        cpu=(_cpu(resource.RUSAGE_SELF) - before) / spent,
    )
