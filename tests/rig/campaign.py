"""One run of the rig: start everything, load and kill, quiet down, gather what is left, judge."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.hubspot.events import Inbound, Kind, parse_body
from flask_hubspot_hitl.ledger import SCHEMA, Ledger
from flask_hubspot_hitl.testing import running_hubspot

from ..helpers import HubSpot, Json
from .load import Actors, Chats, Feed, Thread, published
from .oracle import Chat, Emission, Evidence, Told, Verdict, event_key, judge
from .processes import Processes
from .weather import Weather

DRAIN_SECONDS = 180.0
QUIET_SECONDS = 1.0
WITNESS_SECONDS = 3.0
NOTE = re.compile(r"note chat-[0-9]+-[0-9]+\.[0-9]+")
ALL_ON = {
    "RIG_ALL_ON": "1",
    "HUBSPOT_HITL_AVAILABILITY": "hours",
    "HUBSPOT_HITL_BUSINESS_HOURS": "mon-sun 00:00-24:00",
    "HUBSPOT_HITL_BUSINESS_TIME_ZONE": "UTC",
    "HUBSPOT_HITL_NOTES_IN": "comment",
    "HUBSPOT_HITL_QUICK_REPLIES": "true",
    "HUBSPOT_HITL_INLINE_IMAGES": "true",
    "HUBSPOT_HITL_AUTOMATION_AS_OPERATOR": "false",
    "HUBSPOT_HITL_AGENTS_MAY_START": "true",
    "HUBSPOT_HITL_IDLE_WARNING": "3",
}
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to be. Of the second feed's ``batches_per_second`` one in six carries ten events."""

    database_url: str
    folder: Path
    kills: int
    seed: int = 1
    workers: int = 0
    mutant: str | None = None
    chats: int = 10
    threads: int = 24
    batches_per_second: float = 40.0
    held_back: float = 0.2
    lease_ttl: float = 2.0
    life: tuple[float, float] = (0.1, 1.5)
    """Seconds from the first line of a life's witness to its death; some lives end while they begin."""
    work_seconds: float = 0.004
    """What a receiver has to do at most before it has its effect, and again afterwards."""
    all_on: bool = False
    """What is off by default is on: notes, READ, waiting, availability, idle timers, choices, agents who begin."""
    storm: bool = False
    """HubSpot has all its troubles at once, all the time, instead of one after the other."""


def run(plan: Plan, progress: Progress = lambda what, done, of: None) -> Verdict:
    """Do it.

    :raises TimeoutError: when the server does not start.
    """
    with running_hubspot() as hubspot:
        settings = {
            **hubspot.env(),
            "HUBSPOT_HITL_DATABASE_URL": plan.database_url,
            "HUBSPOT_HITL_LEASE_TTL": str(plan.lease_ttl),
            "HUBSPOT_HITL_RATE_LIMIT": "100000",
        }
        if plan.all_on:
            settings |= ALL_ON
        processes = Processes(
            settings, plan.folder, workers=plan.workers, work_seconds=plan.work_seconds, mutant=plan.mutant
        )
        hubspot.target(f"{processes.url}/hubspot/webhook")
        processes.start()
        try:
            processes.wait()
            return judge(_Campaign(plan, hubspot, processes, settings, progress).run())
        finally:
            processes.kill()


class _Campaign:
    """A run whose processes have been started."""

    def __init__(
        self, plan: Plan, hubspot: HubSpot, processes: Processes, settings: dict[str, str], progress: Progress
    ) -> None:
        self._plan = plan
        self._hubspot = hubspot
        self._processes = processes
        self._progress = progress
        self._ledger = Ledger(plan.database_url, SystemClock(), schema=SCHEMA)
        self._ledger.create()  # the processes have made it: this finds where
        self._actors = Actors()
        self._chats = Chats(self._actors, hubspot, processes.url, seed=plan.seed, count=plan.chats, all_on=plan.all_on)
        self._feed = Feed(
            actors=self._actors,
            url=f"{processes.url}/hubspot/webhook",
            secret=settings["HUBSPOT_HITL_CLIENT_SECRET"],
            seed=plan.seed,
            threads=[],
            batches_per_second=plan.batches_per_second,
            held_back=plan.held_back,
        )
        self._weather = Weather(self._actors, hubspot, processes.url, seed=plan.seed, storm=plan.storm)

    def run(self) -> Evidence:
        """Load and kill, then quiet down; what is left."""
        try:
            self._open_threads()
            for part in (self._feed, self._chats, self._weather):
                part.begin()
            kills = self._kill()
            self._progress("drain", 0, 1)
            self._actors.join(DRAIN_SECONDS)
            self._weather.calm()
            self._drain()
            self._processes.command("reconcile", "--all")
            pending, dead = self._drain()
            self._progress("drain", 1, 1)
            return self._evidence(kills, pending, dead)
        finally:
            self._actors.stopping.set()
            self._ledger.close()

    def _open_threads(self) -> None:
        """The second feed's threads: of handoffs in which nobody says anything through the stand-in."""
        for number in range(self._plan.threads):
            thread_id = self._chats.open(f"feed-{number}")
            found = self._hubspot.thread(thread_id)
            self._feed.threads.append(Thread(thread_id, found["integrationThreadId"]))
            self._progress("threads", number + 1, self._plan.threads)

    def _kill(self) -> list[tuple[float, float]]:
        """Kill everything at random moments, some of them while it is still starting, and start it at once.

        Where there are workers, half of the kills are for the server or for one worker alone.
        """
        rng = random.Random(f"{self._plan.seed}:killer")
        kills = []
        for number in range(self._plan.kills):
            if rng.random() < 0.8:
                self._processes.wait()
                self._wait_for_witness(WITNESS_SECONDS)
            time.sleep(rng.uniform(*self._plan.life))
            alone = self._plan.workers and rng.random() < 0.5
            kills.append(self._processes.kill([rng.randint(0, self._plan.workers)] if alone else None))
            self._processes.start()
            self._progress("kills", number + 1, self._plan.kills)
        self._processes.wait()
        return kills

    def _wait_for_witness(self, seconds: float) -> None:
        """Wait until something is heard: a kill is of most use while receivers run."""
        witness, ends = self._processes.witness, time.monotonic() + seconds
        size = witness.stat().st_size if witness.exists() else 0
        while time.monotonic() < ends and (not witness.exists() or witness.stat().st_size == size):
            time.sleep(0.01)

    def _drain(self) -> tuple[int, int]:
        """Wait until nothing waits and nothing comes in any more; what waits all the same, and what is dead."""
        ends = time.monotonic() + DRAIN_SECONDS
        quiet_since, done_then = time.monotonic(), -1
        while True:
            with self._ledger.read() as tx:
                status = tx.status(now=self._ledger.now_ms())
            now = time.monotonic()
            pending = status["pending"] + status["parked"] + status["leased"]
            if pending or status["done"] != done_then:
                quiet_since, done_then = now, status["done"]
            if now - quiet_since >= QUIET_SECONDS or now > ends:
                return pending, status["dead"] + status["quarantined"]
            time.sleep(0.1)

    # What is left ----------------------------------------------------------------------------------------

    def _evidence(self, kills: list[tuple[float, float]], pending: int, dead: int) -> Evidence:
        there: dict[str, list[Json]] = {}
        for thread in self._hubspot.threads():
            there.setdefault(_title(thread), []).append(thread)
        for chat in self._chats.all:
            self._compare(chat, there.get(chat.id, []))
        return Evidence(
            told=[*self._feed.acked.values(), *_told(self._hubspot.deliveries())],
            emissions=_emissions(self._processes.witness),
            chats=self._chats.all,
            kills=kills,
            at_once=self._processes.at_once,
            pending=pending,
            dead=dead,
            broken=self._actors.broken,
        )

    def _compare(self, chat: Chat, threads: list[Json]) -> None:
        chat.threads = len(threads)
        for thread in threads:
            chat.published += published(thread)
            chat.noted += [found[0] for one in thread["messages"] if (found := NOTE.findall(one.get("text") or ""))]
            chat.seen += [one["id"] for one in thread["messages"] if _is_read(one)]
            chat.there = (thread["status"] == "OPEN", thread.get("assignedTo"))
        chat.here = self._chats.state(chat.id)
        if self._plan.all_on:
            chat.read = self._chats.read(chat.id)


def _is_read(message: Json) -> bool:
    return (message.get("status") or {}).get("statusType") == "READ"


def _title(thread: Json) -> str:
    """The conversation that a thread was opened for: its title is in the first message, on a line of its own."""
    first = next((one["text"] for one in thread["messages"] if one.get("direction") == "INCOMING"), "")
    lines = [line for line in first.splitlines() if line.startswith(("chat-", "feed-"))]
    return str(lines[0]) if lines else ""


def _emissions(witness: Path) -> list[Emission]:
    if not witness.exists():
        return []
    return [Emission(**json.loads(line)) for line in witness.read_text().splitlines()]


def _told(deliveries: list[Json]) -> Iterator[Told]:
    """What the stand-in told and was thanked for, each at the first time."""
    seen = set()
    for entry in deliveries:
        if entry["status"] != 204:
            continue
        for event in parse_body(entry["body"].encode(), now_ms=entry["at"]):
            key = _key(event) if isinstance(event, Inbound) else None
            if key is not None and isinstance(event, Inbound) and key not in seen:
                seen.add(key)
                yield Told(key=key, thread=event.thread_id, time=event.occurred_ms, acked_at=entry["at"] / 1000)


def _key(event: Inbound) -> str | None:
    """The name under which a receiver would bear witness of an event."""
    if event.kind is Kind.MESSAGE:
        return event_key("message", None, None, str(event.value))
    if event.kind is Kind.ASSIGNED and event.value:
        return event_key("assigned", event.thread_id, event.occurred_ms)
    if event.kind is Kind.STATUS and event.value == "CLOSED":
        return event_key("completed", event.thread_id, event.occurred_ms)
    return None
