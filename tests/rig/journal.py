"""``python -m tests.rig --journal``: kill whoever reads HubSpot's journal, and see that each portal is told of once.

A worker is killed again and again while admins remove the app and install it again. This process plays the server that
stores what an installation brings. Time in the apps runs twenty times as fast, so that there is a look every second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, installation_added, installation_revoked
from flask_hubspot_hitl.handoffs import topics
from flask_hubspot_hitl.handoffs.journal import JournalTask
from flask_hubspot_hitl.hubspot.journal import EVENT_TYPES, INSTALLED, Page
from flask_hubspot_hitl.hubspot.oauth import Tokens
from flask_hubspot_hitl.ledger import InstallationState
from flask_hubspot_hitl.portals import installations
from flask_hubspot_hitl.portals import journal as portal_journal
from flask_hubspot_hitl.portals.journal import Place
from flask_hubspot_hitl.portals.tokens import encrypted
from flask_hubspot_hitl.runtime import Runtime, get_runtime
from flask_hubspot_hitl.testing import running_hubspot

from ..helpers import APP, HubSpot, own_port
from .mutants import put

ROOT = Path(__file__).parents[2]
SPEED = 20
"""How many times as fast the apps' time is."""
LIFE_SECONDS = 1.2
"""Seconds that a worker lives at most, once it has begun."""
LATENCY = 0.02
"""Seconds that each call to HubSpot takes longer, so that kills fall into them."""
START_SECONDS, END_SECONDS, LOST_SECONDS = 60.0, 120.0, 20.0
CLOSE_SECONDS = 1.0
"""Seconds before a kill in which a receiver may have returned without our commit: then it is called again."""


class FastClock:
    """Runs as fast in all processes, and is never set."""

    def __init__(self, epoch_ms: int) -> None:
        self._epoch_ms = epoch_ms

    def now_ms(self) -> int:
        return self._epoch_ms + (time.time_ns() // 1_000_000 - self._epoch_ms) * SPEED

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / SPEED)


class PlaceFirstTask(JournalTask):
    """The product broken on purpose: the place is stored first, and what was read a moment later."""

    def _storing(self, place: Place, page: Page | None, now: int, *, ask_all: bool) -> Any:
        with self._ledger.write() as tx:
            portal_journal.save(tx, place)
        time.sleep(1.0)
        return super()._storing(place, page, now, ask_all=False)


def create_app(settings: Mapping[str, str] = os.environ) -> Flask:
    """The app of every process; its receivers write each signal with a single ``write(O_APPEND)``."""
    app = Flask("rig")
    app.secret_key = "rig"
    app.config.update({key: value for key, value in settings.items() if key.startswith("HUBSPOT_HITL_")})
    if settings.get("RIG_MUTANT"):
        put(topics, PlaceFirstTask)
    HubSpotHITL(app, clock=FastClock(int(settings["RIG_EPOCH"])))
    life = uuid.uuid4().hex
    file = os.open(settings["RIG_WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(kind: str, portal_id: str = "") -> None:
        line = {"at": time.time(), "life": life, "kind": kind, "portal": portal_id}
        os.write(file, json.dumps(line).encode() + b"\n")

    @installation_added.connect_via(app, weak=False)
    def on_added(sender: Flask, portal_id: str, **extra: Any) -> None:
        note("+", portal_id)

    @installation_revoked.connect_via(app, weak=False)
    def on_revoked(sender: Flask, portal_id: str, **extra: Any) -> None:
        note("-", portal_id)

    note("begun")
    return app


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What a run has shown."""

    kills: int
    told: int = 0
    close_calls: int = 0
    """Told twice, because a kill fell between a receiver's return and our commit: that is no fault."""
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.faults

    def text(self, facts: Mapping[str, Any]) -> str:
        """For a person."""
        lines = [f"{name:12} {value}" for name, value in facts.items()]
        lines += [f"{'kills':12} {self.kills}", f"{'told':12} {self.told}", f"{'close calls':12} {self.close_calls}"]
        return "\n".join([*lines, *(f"FAULT: {one}" for one in self.faults), "passed" if self.passed else "failed"])


def run(
    database_url: str,
    folder: Path,
    *,
    kills: int,
    seed: int = 1,
    portals: int = 8,
    mutant: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Verdict:
    """Do it."""
    with running_hubspot() as hubspot:
        rig = _Rig(hubspot, database_url, folder, seed=seed, mutant=mutant)
        try:
            rig.begin(portals)
            for number in range(kills):
                rig.live_and_die()
                progress("kills", number + 1, kills)
            rig.end()
            return rig.verdict()
        finally:
            rig.close()


class _Rig:
    def __init__(self, hubspot: HubSpot, database_url: str, folder: Path, *, seed: int, mutant: bool) -> None:
        self._hubspot, self._random = hubspot, random.Random(seed)
        self._witness, self._log = folder / "witness", folder / "worker.log"
        none: dict[str, str | None] = dict.fromkeys(("REFRESH_TOKEN", "PORTAL_ID", "CHANNEL_ACCOUNT_ID", "INBOX_ID"))
        given = {key: value for key, value in hubspot.env().items() if key.removeprefix("HUBSPOT_HITL_") not in none}
        self._is_mutant = mutant
        self._env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("HUBSPOT_HITL_")},
            **given,
            "HUBSPOT_HITL_DATABASE_URL": database_url,
            "HUBSPOT_HITL_PUBLIC_URL": f"http://127.0.0.1:{own_port()}",
            "HUBSPOT_HITL_DISPATCHER": "external",
            "HUBSPOT_HITL_JOURNAL": "on",
            "HUBSPOT_HITL_LEASE_TTL": str(3 * SPEED),
            "HUBSPOT_HITL_RATE_LIMIT": "100000",
            "RIG_EPOCH": str(time.time_ns() // 1_000_000),
            "RIG_WITNESS": str(self._witness),
            "RIG_MUTANT": "place-first" if mutant else "",
        }
        self._app = create_app(self._env)
        self._wanted: dict[str, str] = {}
        self._kills: list[float] = []
        self._worker: subprocess.Popen[bytes] | None = None

    @property
    def _runtime(self) -> Runtime:
        return get_runtime(self._app)

    def begin(self, portals: int) -> None:
        """Some portals have the app."""
        for action in EVENT_TYPES:
            self._runtime.services.journal().subscribe(action)
        for number in range(portals):
            self._install(str(610_000 + number), is_told=False)
        # no rotation of refresh tokens: with it a kill between the answer and our commit loses one for good
        self._hubspot.chaos(latency=LATENCY, journal_repeats=0 if self._is_mutant else 1)

    def live_and_die(self) -> None:
        """Start a worker, do something to a portal before or while it lives, and kill it."""
        does_something, is_early = self._random.random() < 0.9, self._random.random() < 0.5
        if does_something and is_early:
            self._do()
        self._start()
        time.sleep(self._random.uniform(0, 0.3))
        if does_something and not is_early:
            self._do()
        time.sleep(self._random.uniform(0, LIFE_SECONDS))
        self._kill()

    def end(self) -> None:
        """Let a worker finish what is left."""
        self._start()
        ends = time.monotonic() + (LOST_SECONDS if self._is_mutant else END_SECONDS)
        while time.monotonic() < ends and any(self._heard(one) != self._wanted[one] for one in self._wanted):
            time.sleep(0.2)
        time.sleep(3.0)  # would anything be told once more?

    def close(self) -> None:
        """Leave nothing behind."""
        if self._worker is not None:
            self._kill()
        self._runtime.close(timeout=5)

    # What people do --------------------------------------------------------------------------------------

    def _do(self) -> None:
        """Remove the app from a portal, or install it in one of which the removal was told."""
        portal_id = self._random.choice(sorted(self._wanted))
        if self._wanted[portal_id].endswith("+"):
            self._hubspot.post("uninstall", portalId=portal_id)
            self._wanted[portal_id] += "-"
        elif self._heard(portal_id) == self._wanted[portal_id]:
            self._install(portal_id)

    def _install(self, portal_id: str, *, is_told: bool = True) -> None:
        """Install the app: what HubSpot does, and what our callback page stores."""
        env = self._hubspot.control("POST", "apps", {"appId": APP, "portalId": portal_id})
        event = {"type": "app_lifecycle_event", "action": INSTALLED, "portalId": int(portal_id)}
        if is_told:
            self._hubspot.post("journal/events", events=[{**event, "occurredAt": time.time_ns() // 1_000_000}])
        runtime = self._runtime
        cipher, now = runtime.services.cipher(), runtime.ledger.now_ms()
        assert cipher is not None
        tokens = Tokens(
            access_token="expired", refresh_token=env["HUBSPOT_HITL_REFRESH_TOKEN"], expires_at_ms=0, renew_at_ms=0
        )
        with runtime.ledger.write() as tx:
            installations.installed(tx, portal_id, encrypted(cipher, portal_id, tokens), scopes=None, now=now)
        self._wanted[portal_id] = self._wanted.get(portal_id, "") + "+"

    # The worker ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        before = self._count("begun")
        command = [sys.executable, "-m", "flask", "--app", "tests.rig.journal:create_app", "hubspot-hitl", "worker"]
        with self._log.open("ab") as log:
            self._worker = subprocess.Popen(
                command, env=self._env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
        ends = time.monotonic() + START_SECONDS
        while self._count("begun") == before:
            if time.monotonic() > ends or self._worker.poll() is not None:
                raise TimeoutError(f"the worker did not start; see {self._log}")
            time.sleep(0.01)

    def _kill(self) -> None:
        assert self._worker is not None
        with suppress(ProcessLookupError):
            os.killpg(self._worker.pid, signal.SIGKILL)
        self._worker.wait(60)
        self._kills.append(time.time())
        self._worker = None

    # What was told ---------------------------------------------------------------------------------------

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._witness.read_text().splitlines()]

    def _count(self, kind: str) -> int:
        return sum(one["kind"] == kind for one in self._lines())

    def _heard(self, portal_id: str) -> str:
        """What was told of a portal in order, without what was told twice around a kill."""
        return self._told(portal_id)[0]

    def _told(self, portal_id: str) -> tuple[str, int]:
        kept: list[dict[str, Any]] = []
        close_calls = 0
        for one in (line for line in self._lines() if line["portal"] == portal_id):
            last = kept[-1] if kept else None
            if last is not None and self._is_close_call(last, one):
                close_calls += 1
            else:
                kept.append(one)
        return "".join(one["kind"] for one in kept), close_calls

    def _is_close_call(self, last: dict[str, Any], one: dict[str, Any]) -> bool:
        is_same = last["kind"] == one["kind"] and last["life"] != one["life"]
        return is_same and any(last["at"] <= kill <= last["at"] + CLOSE_SECONDS for kill in self._kills)

    def verdict(self) -> Verdict:
        """Compare what was told with what was done, and what is stored with what is so."""
        found = Verdict(kills=len(self._kills))
        for portal_id, wanted in self._wanted.items():
            heard, close_calls = self._told(portal_id)
            found.told += len(heard)
            found.close_calls += close_calls
            if heard != wanted:
                found.faults.append(f"portal {portal_id}: done {wanted}, told {heard}")
            with self._runtime.ledger.read() as tx:
                stored = tx.installations.get(portal_id)
            is_active = stored is not None and stored.state is InstallationState.ACTIVE
            if is_active != wanted.endswith("+"):
                found.faults.append(f"portal {portal_id} is stored as {stored and stored.state}, after {wanted}")
        with self._runtime.ledger.read() as tx:
            dead = tx.status(now=self._runtime.ledger.now_ms())["dead"]
        if dead:
            found.faults.append(f"{dead} events were given up")
        return found
