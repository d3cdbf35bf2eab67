"""How fast webhooks are verified, parsed and put on disk: real HTTP, against a bare Flask view on the same server.

gunicorn with two gthread workers of four threads, ten connections (as many as HubSpot opens) kept alive; the
dispatcher is elsewhere, and off. Events are of known threads, and none comes twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from .figures import Case, Figure, Target, interleave
from .load import Load, send
from .stage import Server, Stage, some_request

CONNECTIONS = 10
MANY = 500
BATCH = 100
THREADS = 500
BARE = "bare view"
TRIES = 10
FAIR_SHARE = 0.5
"""Of what the busiest process used, the idlest one's CPU at the least."""
FASTEST = 2_500
"""Requests per second that are made ready for one event, and for a batch."""
FASTEST_BATCHES = 250


class Unfair(RuntimeError):
    """Is raised when one process of a server had nearly all connections, load after load."""


class Taking(Protocol):
    """What is asked to store webhooks, and was told so."""

    def requests(self, count: int, size: int = 1) -> list[bytes]:
        """So many webhooks of ``size`` new events each."""

    def stored(self) -> int:
        """How many events wait."""

    def drop_pending(self) -> None:
        """Take back what waits."""


def run(stage: Stage) -> Iterator[Figure]:
    """Requests of one event, of a hundred, and from many connections."""
    seconds = 2.0 if stage.quick else 4.0
    with stage.hosts(threads=THREADS) as hosts, contextlib.ExitStack() as stack:
        servers = {kind: stack.enter_context(host.serve()) for kind, host in hosts.items()}
        servers[BARE] = stack.enter_context(stage.serve("create_bare", {}))

        def cases(size: int, connections: int, seconds: float = seconds) -> dict[str, Case]:
            """The bare view, and each database."""
            fastest = FASTEST if size == 1 else FASTEST_BATCHES
            made: dict[str, Case] = {
                f"{BARE}, {size} × {connections}": partial(
                    bare_view, stage, servers[BARE], size=size, connections=connections, seconds=seconds
                )
            }
            for kind, host in hosts.items():
                made[f"{kind}, {size} × {connections}"] = partial(
                    measure, stage, servers[kind], host, int(fastest * seconds),
                    size=size, connections=connections, seconds=seconds,
                )  # fmt: skip
            return made

        for each in cases(1, CONNECTIONS).values():
            each()  # warm up: every process has its connections and its statements
        found = interleave({**cases(1, CONNECTIONS), **cases(BATCH, CONNECTIONS)}, stage.rounds, stage.say)
        many = interleave(cases(1, MANY, 3 * seconds), 1 if stage.quick else 2, stage.say)
    line = partial(Figure, subject="intake")
    one, batch, crowd = f"1 × {CONNECTIONS}", f"{BATCH} × {CONNECTIONS}", f"1 × {MANY}"
    for kind in stage.databases:
        single, hundred, crowded = found[f"{kind}, {one}"], found[f"{kind}, {batch}"], many[f"{kind}, {crowd}"]
        bare, bare_hundred = found[f"{BARE}, {one}"], found[f"{BARE}, {batch}"]
        yield line(
            what="one event a request", database=kind, unit="requests/s", values=single["rate"],
            against=BARE, yardstick=bare["rate"], target=Target(0.30, of_ratio=True),
        )  # fmt: skip
        yield line(
            what="one event a request, p99", database=kind, unit="ms", values=single["p99"],
            against=BARE, yardstick=bare["p99"], target=Target(100, at_most=True),
        )  # fmt: skip
        yield line(
            what=f"{BATCH} events a request", database=kind, unit="events/s",
            values=tuple(rate * BATCH for rate in hundred["rate"]), against=BARE,
            yardstick=tuple(rate * BATCH for rate in bare_hundred["rate"]), target=Target(10_000),
        )  # fmt: skip
        yield line(
            what=f"{BATCH} events a request, p99", database=kind, unit="ms", values=hundred["p99"],
            against=BARE, yardstick=bare_hundred["p99"], target=Target(300, at_most=True),
        )  # fmt: skip
        yield line(
            what=f"{MANY} connections, p99", database=kind, unit="ms", values=crowded["p99"],
            against=BARE, yardstick=many[f"{BARE}, {crowd}"]["p99"],
        )  # fmt: skip
        yield line(
            what=f"{MANY} connections, errors", database=kind, unit="", values=crowded["errors"],
            target=Target(0, at_most=True),
        )  # fmt: skip
        errors = tuple(a + b for a, b in zip(single["errors"], hundred["errors"], strict=True))
        yield line(
            what=f"{CONNECTIONS} connections, errors", database=kind, unit="", values=errors,
            target=Target(0, at_most=True),
        )  # fmt: skip
    yield line(
        what="the load generator's own share of a core", unit="%",
        values=tuple(cpu * 100 for cpu in found[f"{BARE}, {one}"]["cpu"]),
    )  # fmt: skip


def bare_view(stage: Stage, server: Server, *, size: int, connections: int, seconds: float) -> dict[str, float]:
    def once() -> Load:
        request = some_request(size)
        return send(server.port, [request], connections=connections, seconds=seconds, folder=stage.folder, cycle=True)

    return _by_all(server, once, stage.say)


def measure(
    stage: Stage, server: Server, host: Taking, count: int, *, size: int, connections: int, seconds: float
) -> dict[str, float]:
    def once() -> Load:
        before = host.stored()
        fresh = host.requests(count, size)
        load = send(server.port, fresh, connections=connections, seconds=seconds, folder=stage.folder)
        stored = stage.settled(host.stored) - before  # wrk leaves when its time is over, the server goes on
        if stored < (load.requests - load.errors) * size:
            raise RuntimeError(f"{load.requests} webhooks of {size} were acknowledged, only {stored} events stored")
        host.drop_pending()
        return load

    return _by_all(server, once, stage.say)


def _by_all(server: Server, once: Callable[[], Load], say: Callable[[str], None]) -> dict[str, float]:
    """The figures of a load that all of the server's processes had a fair share of.

    A connection stays with the process that was the quickest to accept it: now and then one process has them all, and
    the other has nothing to do. That halves the rate of whatever is served, and it is not what is measured here.
    """
    used: list[float] = []
    for _ in range(TRIES):
        before = server.cpu()
        load = once()
        now = server.cpu()
        if len(now) != len(before):
            say("once more: not all processes were there yet")
            continue
        used = [one - then for one, then in zip(now, before, strict=True)]
        if min(used) >= max(used) * FAIR_SHARE:
            return _facts(load, sum(used))
        say("once more: one process had nearly all connections")
    raise Unfair(f"one process had nearly all connections in {TRIES} loads: {used}")


def _facts(load: Load, used: float) -> dict[str, float]:
    """The figures; ``used`` are the seconds of CPU that the server took for it."""
    facts = {"rate": load.rate, "p99": load.p99, "errors": load.errors, "cpu": load.cpu}
    return {**facts, "server": used * 1000 / load.requests}
