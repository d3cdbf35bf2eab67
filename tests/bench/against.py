"""``--against REV``: this version and older ones, driven by the same harness through their public doors, in turn.

The rows are those of "How fast it is" in the README. Each round measures a thing in every version before the next
thing, so a busy moment hurts all alike; ratios are of one round's values.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import requests

from . import intake, latency, outbound, yardstick
from .figures import Case, aligned, interleave, number
from .site import Site, resident_mb
from .stage import WEB_PROCESSES, Server, Stage, cpu_seconds, some_request
from .versions import MODULE, Version

LANES = 320
OPEN_HANDOFFS = 10_000
CONVERSATIONS = 20
Found = Mapping[str, Mapping[str, tuple[float, ...]]]
"""Figures of a case by name, one of each round."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A target: at least ``limit``, or at most; of the value, or of its ratio to the first other version's."""

    limit: float
    at_most: bool = False
    of_ratio: bool = False

    def __str__(self) -> str:
        return f"{'× ' if self.of_ratio else ''}{'≤' if self.at_most else '≥'} {number(self.limit)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured on one database, in each version.

    ``values`` has one value of each round by version, this version's first.
    """

    what: str
    database: str
    unit: str
    values: dict[str, tuple[float, ...]] = field(default_factory=dict)
    wanted: Wanted | None = None

    def ratios(self, other: str) -> tuple[float, ...]:
        """This version's values, each divided by another's of the same round."""
        mine, theirs = next(iter(self.values.values())), self.values[other]
        return tuple(a / b if b else math.nan for a, b in zip(mine, theirs, strict=True))

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None without one, or without the other version that it speaks of."""
        now, *others = self.values
        if self.wanted is None or (self.wanted.of_ratio and not others):
            return None
        found = statistics.median(self.ratios(others[0]) if self.wanted.of_ratio else self.values[now])
        return found <= self.wanted.limit if self.wanted.at_most else found >= self.wanted.limit

    def to_json(self) -> dict[str, Any]:
        _, *others = self.values
        return {
            "what": self.what,
            "database": self.database,
            "unit": self.unit,
            "values": self.values,
            "ratios": {name: self.ratios(name) for name in others},
            "wanted": self.wanted and str(self.wanted),
            "met": self.met,
        }


def run(stage: Stage, versions: Sequence[Version], only: Collection[str] = ()) -> list[Row]:
    """Measure all versions.

    :param only: the parts that are measured, by the names of the bench's subjects; by default all.
    """
    parts = {
        "dispatch": _dispatch,
        "intake": _intake,
        "latency": _latency,
        "outbound": _outbound,
        "memory": _memory,
    }
    rows: list[Row] = []
    for kind in stage.databases:
        for name, part in parts.items():
            if not only or name in only:
                rows += part(stage, kind, versions)
    return [*rows, *(_imports(stage, versions) if not only or "imports" in only else ())]


@contextlib.contextmanager
def _sites(stage: Stage, kind: str, versions: Sequence[Version], count: int) -> Iterator[dict[str, Site]]:
    """Each version on a database of its own, with open handoffs."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Site] = {}
        for version in versions:
            stage.say(f"{version.name}: {count:,} handoffs on {kind}")
            site = Site(stage, version, kind, stack.enter_context(stage.database(kind)))
            site.open(count)
            made[version.name] = site
        yield made


def _rows(what: str, kind: str, unit: str, found: Found, figure: str, wanted: Wanted | None, names: Any) -> Row:
    return Row(what, kind, unit, {name: found[f"{kind}, {name}"][figure] for name in names}, wanted)


def _share(row: Row, what: str, other: tuple[float, ...], wanted: Wanted | None) -> Row:
    """The same as a share of what a yardstick did in the same round."""
    values = {name: tuple(a / b for a, b in zip(one, other, strict=True)) for name, one in row.values.items()}
    return Row(what, row.database, "×", values, wanted)


def _cases(stage: Stage, kind: str, sites: Mapping[str, Site], measure: Callable[..., Any], **more: Case) -> Found:
    """Measure each site in each round, and what more there is."""
    cases: dict[str, Case] = {f"{kind}, {name}": partial(measure, stage, site) for name, site in sites.items()}
    return interleave({**more, **cases}, stage.rounds, stage.say)


# Dispatched events --------------------------------------------------------------------------------------------------


def _dispatch(stage: Stage, kind: str, versions: Sequence[Version]) -> Iterator[Row]:
    events = LANES * (2 if stage.quick else 10)
    with _sites(stage, kind, versions, LANES) as sites, stage.database("postgresql") as url:
        script = partial(yardstick.measure, kind, events, folder=stage.folder, url=url)
        found = _cases(stage, kind, sites, partial(_drain, events), yardstick=script)
        names = list(sites)
    least = {"sqlite": 1.5, "postgresql": 2.5}[kind]
    rate = _rows("dispatched events", kind, "events/s", found, "rate", Wanted(least, of_ratio=True), names)
    yield rate
    yield _share(rate, "… of the fixed script of SQL", found["yardstick"]["rate"], None)
    most = {"sqlite": 0.26, "postgresql": 0.37}[kind]
    yield _rows("a worker's CPU for an event", kind, "ms", found, "cpu", Wanted(most, at_most=True), names)


def _drain(events: int, stage: Stage, site: Site) -> dict[str, float]:
    """A worker with a backlog: events a second from the first receiver's call to the last one's."""
    waiting = site.stored()
    site.accept(events)
    before = site.signals()
    with site.worker() as process:
        stage.wait_until(lambda: site.signals() > before)
        seen, cpu = site.signals() - before, cpu_seconds(process.pid)
        called = sorted(site.wait_for(before + events)[before:])
        cpu = cpu_seconds(process.pid) - cpu
        stage.wait_until(lambda: site.stored() <= waiting)
    return {"rate": (events - 1) / (called[-1] - called[0]), "cpu": cpu * 1000 / (events - seen)}


# Webhooks -----------------------------------------------------------------------------------------------------------


def _intake(stage: Stage, kind: str, versions: Sequence[Version]) -> Iterator[Row]:
    bare = {f"bare {size}": partial(_bare, stage, versions[0], size) for size in (1, 100)}
    with _sites(stage, kind, versions, 500) as sites:
        found = _cases(stage, kind, sites, _take, **bare)
        names = list(sites)
    one = _rows("webhooks of one event", kind, "requests/s", found, "one", None, names)
    yield one
    least = {"sqlite": 0.40, "postgresql": 0.32}[kind]
    yield _share(one, "… of a bare Flask view's", found["bare 1"]["rate"], Wanted(least))
    yield _rows("… the server's CPU", kind, "ms", found, "one cpu", None, names)
    yield _rows("events in webhooks of 100", kind, "events/s", found, "hundred", Wanted(1.5, of_ratio=True), names)


SERVERS = 10
"""Servers that are started anew, at most, until one gives both of its processes a share of the connections."""
T = TypeVar("T")


def _fairly(serve: Callable[[], contextlib.AbstractContextManager[Server]], work: Callable[[Server], T]) -> T:
    for _ in range(SERVERS):
        with contextlib.suppress(intake.Unfair), serve() as server:
            return work(server)
    raise intake.Unfair(f"of {SERVERS} servers none gave both of its processes a share of the connections")


def _bare(stage: Stage, version: Version, size: int) -> dict[str, float]:
    environment, place = version.environment(), version.place
    return _fairly(
        lambda: stage.serve("create_bare", environment, module=MODULE, folder=place),
        lambda server: intake.bare_view(
            stage, server, size=size, connections=intake.CONNECTIONS, seconds=_seconds(stage)
        ),
    )


def _take(stage: Stage, site: Site) -> dict[str, float]:
    return _fairly(lambda: site.serve(processes=WEB_PROCESSES), partial(_take_from, stage, site))


def _take_from(stage: Stage, site: Site, server: Server) -> dict[str, float]:
    seconds = _seconds(stage)
    take = partial(intake.measure, stage, server, site, connections=intake.CONNECTIONS)
    take(int(intake.FASTEST / 2), size=1, seconds=0.5)  # every process has its connections and its statements
    one = take(int(intake.FASTEST * seconds), size=1, seconds=seconds)
    hundred = take(int(intake.FASTEST_BATCHES * seconds), size=100, seconds=seconds)
    return {"one": one["rate"], "one cpu": one["server"], "hundred": hundred["rate"] * 100}


def _seconds(stage: Stage) -> float:
    return 1.0 if stage.quick else 4.0


# From a webhook to a signal, and to HubSpot -------------------------------------------------------------------------


def _latency(stage: Stage, kind: str, versions: Sequence[Version]) -> Iterator[Row]:
    count = 60 if stage.quick else 400
    with _sites(stage, kind, versions, count) as sites:
        found = _cases(stage, kind, sites, partial(_hear, count))
        names = list(sites)
    yield _rows("webhook to signal, same process, p50", kind, "ms", found, "p50", None, names)
    most = {"sqlite": 4, "postgresql": 6}[kind]
    yield _rows("webhook to signal, same process, p99", kind, "ms", found, "p99", Wanted(most, at_most=True), names)


def _hear(count: int, stage: Stage, site: Site) -> dict[str, float]:
    with site.serve("thread", processes=1) as server:
        latency.measure(site, server.port, 20)  # warm up
        return latency.measure(site, server.port, count)


def _outbound(stage: Stage, kind: str, versions: Sequence[Version]) -> Iterator[Row]:
    count = 200 if stage.quick else 500
    with _sites(stage, kind, versions, 1) as sites:
        for site in sites.values():
            with site.serve("thread", processes=1) as server:
                site.start(server, [f"o{number}" for number in range(CONVERSATIONS)])
                stage.settled(site.stored)
        example = outbound.publishes(stage)[-1]
        alone = partial(outbound.post, stage, example, count)
        found = _cases(stage, kind, sites, partial(_publish, count), alone=alone)
        names = list(sites)
    row = _rows("messages to HubSpot", kind, "publishes/s", found, "rate", None, names)
    yield row
    least = {"sqlite": 0.92, "postgresql": 0.85}[kind]
    yield _share(row, "… of requests alone", found["alone"]["rate"], Wanted(least))


def _publish(count: int, stage: Stage, site: Site) -> dict[str, float]:
    asked = {"to": [f"o{number}" for number in range(CONVERSATIONS)], "count": count}
    with site.serve(processes=1) as server:
        requests.post(f"http://127.0.0.1:{server.port}/bench/send", json=asked, timeout=120).raise_for_status()
    before = site.signals()
    with site.worker():
        site.wait_for(before + count)  # each is signalled as delivered
    at = [one["at"] for one in outbound.publishes(stage)[-count:]]
    return {"rate": (count - 1) * 1000 / (max(at) - min(at))}


# Memory, and what is loaded -----------------------------------------------------------------------------------------

WEBHOOKS = 300
"""Requests after which a process's memory is looked at."""


def _memory(stage: Stage, kind: str, versions: Sequence[Version]) -> Iterator[Row]:
    with _sites(stage, kind, versions, OPEN_HANDOFFS) as sites, stage.database(kind) as url:
        bare = partial(_bare_memory, stage, versions[0], url)
        found = _cases(stage, kind, sites, _resident, bare=bare)
        names = list(sites)
    other = found["bare"]["memory"]
    values = {
        name: tuple(a - b for a, b in zip(found[f"{kind}, {name}"]["memory"], other, strict=True)) for name in names
    }
    what = f"memory with {OPEN_HANDOFFS:,} open handoffs, above Flask + SQLAlchemy"
    yield Row(what, kind, "MB", values, Wanted(20, at_most=True))


def _resident(stage: Stage, site: Site) -> dict[str, float]:
    with site.serve("thread", processes=1) as server:
        before = site.signals()
        for request in site.requests(WEBHOOKS):
            server.post(request)
        site.wait_for(before + WEBHOOKS)
        return {"memory": resident_mb(server.processes()[0])}


def _bare_memory(stage: Stage, version: Version, url: str) -> dict[str, float]:
    settings = {**version.environment(), "BENCH_DATABASE_URL": url}
    if url.startswith("sqlite:///"):
        (stage.folder / url.removeprefix("sqlite:///")).parent.mkdir(exist_ok=True)
    app = stage.serve("create_with_database", settings, module=MODULE, folder=version.place, processes=1)
    with app as server:
        for _ in range(WEBHOOKS):
            server.post(some_request())
        return {"memory": resident_mb(server.processes()[0])}


HOST = "import flask, requests, sqlalchemy"
LOADS = f"""
import os, sys
{HOST}
before = set(sys.modules)
import flask_hubspot_hitl
app = flask.Flask("bench")
app.config.update({{name: value for name, value in os.environ.items() if name.startswith("HUBSPOT_HITL_")}})
flask_hubspot_hitl.HubSpotHITL(app)
print(*(name for name in sys.modules if name not in before))
"""
"""Prints which modules an app's beginning loads beside what its host has anyway."""
PROBE = """
import importlib, sys, time
began = time.perf_counter()
{host}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
took = time.perf_counter() - began
with open("/proc/self/status") as status:  # ru_maxrss may be that of whoever started us
    [peak] = [line.split()[1] for line in status if line.startswith("VmHWM")]
print(took * 1000, int(peak) / 1024)
"""


def _imports(stage: Stage, versions: Sequence[Version]) -> Iterator[Row]:
    """What ``init_app`` loads, beside flask + requests + sqlalchemy, with SQLite."""
    cases: dict[str, Case] = {"host": partial(_load, versions[0], [])}
    for version in versions:
        with stage.database("sqlite") as url:
            given = Site(stage, version, "sqlite", url).settings
            cases[version.name] = partial(_load, version, version.run(["-c", LOADS], given).split())
    for case in cases.values():
        case()  # once for the page cache and the compiled files
    found = interleave(cases, stage.rounds, stage.say)
    for figure, limit in (("time", 1.15), ("memory", 1.08)):
        host = found["host"][figure]
        values = {
            one.name: tuple(a / b for a, b in zip(found[one.name][figure], host, strict=True)) for one in versions
        }
        what = f"{figure} of loading what init_app does, of flask + requests + sqlalchemy's"
        yield Row(what, "", "×", values, Wanted(limit, at_most=True))


def _load(version: Version, names: list[str]) -> dict[str, float]:
    out = version.run(["-c", PROBE.format(host=HOST), *names], {}).split()
    return dict(zip(("time", "memory"), map(float, out), strict=True))


# For people ---------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """The rows for people: medians, and the lowest and highest of the rounds. Ratios are of this version to another."""
    if not rows:
        return ""
    now, *others = rows[0].values
    head = ["", "", now, *(cell for name in others for cell in (name, f"× {name}")), "unit", "wanted", ""]
    lines: list[Sequence[str]] = [head]
    for row in rows:
        cells = [row.what, row.database, _spread(row.values[now])]
        for name in others:
            cells += [_spread(row.values[name]), _spread(row.ratios(name))]
        cells += [row.unit, str(row.wanted or ""), {None: "", True: "met", False: "MISSED"}[row.met]]
        lines.append(cells)
    return aligned(lines, right=range(2, 3 + 2 * len(others)))


def _spread(values: Sequence[float]) -> str:
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}–{number(max(values))})"
