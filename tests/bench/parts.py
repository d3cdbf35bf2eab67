"""What a webhook and the dispatching of its event cost by themselves, in one thread of one process, in any version.

Each version runs the same webhooks twice: once they are only stored, once they are dispatched in the request's own
thread (``HUBSPOT_HITL_DISPATCHER=inline``). The difference is the dispatching.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .against import Row, table
from .figures import aligned, bar
from .site import Site
from .stage import Stage
from .versions import MODULE, Version

LANES = 100
"""Handoffs, all of which the warm-up brings an event for: a process has heard of them before."""
SINGLES, BATCH = 20, 100
MODES = ("external", "inline")
T = TypeVar("T")


def _each(
    stage: Stage, versions: Sequence[Version], look: Callable[[Site, str], T]
) -> Iterator[tuple[str, dict[str, dict[str, T]]]]:
    """For each database, what was found: by version, and by mode."""
    for kind in stage.databases:
        found: dict[str, dict[str, T]] = {}
        for number, version in enumerate(versions):
            with stage.database(kind) as url:
                site = Site(stage, version, kind, url)
                site.open(LANES)
                for mode in MODES:
                    stage.say(f"{bar(number, len(versions))} {version.name} on {kind}, {mode}")
                    found.setdefault(version.name, {})[mode] = look(site, mode)
                    site.drop_pending()
        yield kind, found


def _run(site: Site, mode: str, what: str, parts: Sequence[Sequence[str]], *, before: tuple[str, ...] = ()) -> str:
    """Have a version run webhooks in a process of its own; what it printed last."""
    path = site.version.place / f"{uuid.uuid4().hex}.json"
    path.write_text(json.dumps(parts), encoding="utf-8")
    settings = {**site.settings, "HUBSPOT_HITL_DISPATCHER": mode, "PYTHONHASHSEED": "0"}
    return site.version.run([f"{MODULE}.py", what, str(path)], settings, before=before).splitlines()[-1]


# Instructions -------------------------------------------------------------------------------------------------------


def instructions(stage: Stage, versions: Sequence[Version]) -> list[Row]:
    """Thousands of instructions for each, as callgrind counts them: the same on a busy machine as on an idle one.

    Only of our process: what PostgreSQL's server does is not in it.

    :raises SystemExit: without valgrind.
    """
    if shutil.which("valgrind") is None or shutil.which("callgrind_control") is None:
        raise SystemExit(
            "skipped: there is no valgrind here to count instructions with; on Debian: apt install valgrind"
        )
    rows: list[Row] = []
    for kind, found in _each(stage, versions, _counted):
        stored = {name: one["external"] for name, one in found.items()}
        both = {name: one["inline"] for name, one in found.items()}
        dispatched = {name: tuple(a - b for a, b in zip(both[name], stored[name], strict=True)) for name in found}
        for part, (webhook, event) in enumerate(
            (("a webhook of one event", 1), (f"… of {BATCH}, for an event", BATCH))
        ):
            rows.append(_thousands(f"{webhook}, stored", kind, stored, part, SINGLES if event == 1 else BATCH))
            rows.append(_thousands(f"{webhook}, dispatched", kind, dispatched, part, SINGLES if event == 1 else BATCH))
    return rows


def _thousands(what: str, kind: str, counts: Mapping[str, Sequence[int]], part: int, events: int) -> Row:
    values: dict[str, tuple[float, ...]] = {name: (one[part] / events / 1000,) for name, one in counts.items()}
    return Row(what, kind, "k instructions", values)


def _counted(site: Site, mode: str) -> tuple[int, ...]:
    """Instructions of ``SINGLES`` webhooks of one event, and of one of ``BATCH``."""
    out = site.version.place / f"{uuid.uuid4().hex}.callgrind"
    valgrind = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}", "-q")
    warm = [*site.bodies(8), *site.bodies(1, LANES)]
    parts = [warm, [*site.bodies(2), *site.bodies(1, 2)], site.bodies(SINGLES), site.bodies(1, BATCH)]
    _run(site, mode, "counted", parts, before=valgrind)
    return tuple(_sum(Path(f"{out}.{number}")) for number in (1, 2))


def _sum(dump: Path) -> int:
    """The instructions of one of callgrind's dumps."""
    found = re.search(r"^summary: (\d+)$", dump.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{dump} has no summary")
    return int(found[1])


# A profile ----------------------------------------------------------------------------------------------------------

EVENTS = 400
TOP = 25


@dataclass(frozen=True, slots=True)
class Profile:
    """What a number of events cost: seconds of CPU, and for each function its calls and its own seconds."""

    seconds: float
    calls: Mapping[tuple[str, str], float]
    own: Mapping[tuple[str, str], float]

    def without(self, other: Profile) -> Profile:
        """What this one has more than another."""
        return Profile(self.seconds - other.seconds, _less(self.calls, other.calls), _less(self.own, other.own))


def _less(mine: Mapping[tuple[str, str], float], theirs: Mapping[tuple[str, str], float]) -> dict[Any, float]:
    return {name: value - theirs.get(name, 0.0) for name, value in mine.items()}


def profile(stage: Stage, versions: Sequence[Version], subject: str) -> None:
    """Print where the time goes of storing a webhook of one event, or of dispatching an event, in each version."""
    size = 1 if subject == "intake" else BATCH
    for kind, found in _each(stage, versions, lambda site, mode: _profiled(site, mode, size)):
        profiles = {
            name: one["external"] if subject == "intake" else one["inline"].without(one["external"])
            for name, one in found.items()
        }
        print(f"\n{subject} on {kind}, for an event\n")
        print(table(list(_by_part(kind, profiles))))
        now, one = next(iter(profiles.items()))
        print(f"\nThe functions that took most themselves in {now}:\n")
        most = sorted(one.own, key=lambda name: -one.own[name])[:TOP]
        lines = [["µs", "calls", "function"]]
        for name in most:
            lines.append([f"{one.own[name] * 1e6 / EVENTS:.1f}", f"{one.calls[name] / EVENTS:.1f}", " ".join(name)])
        print(aligned(lines, right=range(2)))


def _by_part(kind: str, profiles: Mapping[str, Profile]) -> Iterator[Row]:
    def row(what: str, unit: str, value: Callable[[Profile], float]) -> Row:
        return Row(what, kind, unit, {name: (value(one) / EVENTS,) for name, one in profiles.items()})

    yield row("CPU without the profiler", "µs", lambda one: one.seconds * 1e6)
    if kind == "postgresql":
        yield row("round trips", "", lambda one: _calls(one, "psycopg/connection.py", "wait"))
    else:
        yield row("statements", "", lambda one: _calls(one, "~", "'execute"))
    yield row("calls of functions", "", lambda one: sum(one.calls.values()))
    shares: dict[str, dict[str, float]] = defaultdict(dict)
    for name, one in profiles.items():
        for (file, _), own in one.own.items():
            part = _part(file)
            shares[part][name] = shares[part].get(name, 0.0) + own
    for part in sorted(shares, key=lambda one: -max(shares[one].values())):
        values: dict[str, tuple[float, ...]] = {
            name: (shares[part].get(name, 0.0) * 1e6 / EVENTS,) for name in profiles
        }
        yield Row(f"  {part}", kind, "µs, profiled", values)


def _calls(one: Profile, file: str, name: str) -> float:
    return sum(calls for (where, what), calls in one.calls.items() if where.endswith(file) and name in what)


def _part(file: str) -> str:
    """Which part of the program a file belongs to; what is built in belongs to its caller, but for SQLite's."""
    ours = re.search(r"/flask_hubspot_hitl/(?:(\w+)/)?", file)
    if ours:
        return f"ours: {ours[1] or 'the root'}"
    if file == "~":
        return "sqlite"
    for name in ("psycopg", "sqlalchemy", "json", "werkzeug", "flask", "blinker"):
        if f"/{name}/" in file:
            return name
    return "the rest"


def _profiled(site: Site, mode: str, size: int) -> Profile:
    warm = [*site.bodies(8), *site.bodies(1, LANES)]
    parts = [warm, site.bodies(EVENTS // size, size), site.bodies(EVENTS // size, size)]
    [found] = json.loads(_run(site, mode, "profiled", parts))
    calls: dict[tuple[str, str], float] = defaultdict(float)
    own: dict[tuple[str, str], float] = defaultdict(float)
    for file, _, name, count, seconds, callers in found["functions"]:
        calls[file, name] += count
        if file != "~" or "sqlite3" in name:
            own[file, name] += seconds
            continue
        for caller, _, by, part in callers:
            own[caller, by if caller != "~" else name] += part
    return Profile(found["seconds"], calls, own)
