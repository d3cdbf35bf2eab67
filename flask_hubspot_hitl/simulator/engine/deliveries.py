"""Signed webhook deliveries with retries: one lane and at most one worker per thread, strictly in order.

What is sent, when it is sent again, and with which headers:
docs/hubspot.rst (Channel deliveries; Batches; Deliveries; Signatures). Every attempt is
signed afresh with the time it is made. What chaos does to the order happens here; see ``signing.py`` for headers.
"""

from __future__ import annotations

import itertools
import json
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests

from ..model.world import JSON, App, World, now_ms
from . import signing
from .chaos import Chaos

logger = logging.getLogger(__name__)

MAX_BATCH = 99
NOT_REPEATED = frozenset({400, 401, 403, 404, 405})


class Stage(Protocol):
    """What deliveries need of the simulation that they belong to."""

    lock: threading.RLock
    world: World
    chaos: Chaos

    def connect_to(self, url: str) -> str:
        """Where a delivery to a registered URL really goes."""

    def log_delivery(self, entry: JSON) -> None:
        """Tell of a delivery that was tried."""


@dataclass
class Job:
    """One event on its way. ``owner`` is the app's id (feed ``app``) or the channel's (feed ``channel``).

    It is not delivered before ``due`` (seconds of the monotonic clock).
    """

    feed: str
    owner: str
    event: JSON
    due: float = field(default_factory=time.monotonic)

    def kind(self) -> str:
        """What chance is thrown for."""
        name = self.event.get("subscriptionType") or self.event.get("eventType") or self.event.get("type")
        return f"{self.feed} {name} {self.event.get('propertyName', '')}"


class Deliveries:
    """The lanes and the log. Everything is guarded by the simulation's lock; sending happens without it."""

    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._changed = threading.Condition(sim.lock)
        self._lanes: dict[str, deque[Job]] = {}
        self._side_lanes = itertools.count(1)
        self._generation = 0
        self._log: list[JSON] = []

    def add(self, lane: str, feed: str, owner: str, event: JSON) -> None:
        """Queue an event behind the others of its lane, unless chaos has other plans for it."""
        with self._changed:
            chaos, now = self._sim.chaos, time.monotonic()
            job = Job(feed, owner, event, now + chaos.delay)
            if chaos.happens("drop", job.kind()):
                self._log_drop(job)
                return
            if chaos.happens("stale", job.kind()):
                late = job.due + chaos.stale_seconds * chaos.throw("stale_seconds", job.kind())
                self._queue(f"{lane}~{next(self._side_lanes)}", Job(feed, owner, event, late))
            if chaos.happens("reorder", job.kind()):
                lane = f"{lane}~{next(self._side_lanes)}"
                job.due += chaos.reorder_seconds * chaos.throw("reorder_seconds", job.kind())
            elif chaos.mixed_batches and feed == "app":
                lane = f"app:{owner}"
            self._queue(lane, job)

    def _queue(self, lane: str, job: Job) -> None:
        """Put a job into a lane; a lane that was empty gets a worker."""
        queue = self._lanes.get(lane)
        if queue is not None:
            queue.append(job)
            return
        queue = self._lanes[lane] = deque([job])
        arguments = (lane, queue, self._generation)
        threading.Thread(target=self._work, args=arguments, name=f"deliver-{lane}", daemon=True).start()

    def log(self) -> list[JSON]:
        """Every attempt so far, oldest first."""
        with self._changed:
            return list(self._log)

    def pending(self) -> int:
        """How many events are queued or being delivered."""
        with self._changed:
            return sum(len(queue) for queue in self._lanes.values())

    def wake(self) -> None:
        """Tell the workers that a switch was changed."""
        with self._changed:
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget the queue and the log; workers of before end."""
        with self._changed:
            self._generation += 1
            self._lanes = {}
            self._log = []
            self._changed.notify_all()

    def _work(self, lane: str, queue: deque[Job], generation: int) -> None:
        while True:
            with self._changed:
                if not self._may_send(generation):
                    return
                if not queue:
                    del self._lanes[lane]
                    return
                if not self._is_due(queue[0], generation):
                    continue
                batch = self._next_batch(queue)
            self._deliver(batch, generation)
            with self._changed:
                if generation != self._generation:
                    return
                for _ in batch:
                    queue.popleft()
                self._changed.notify_all()

    def _may_send(self, generation: int) -> bool:
        """Wait (with the lock held) until deliveries are on; False when a reset made the worker obsolete."""
        self._changed.wait_for(lambda: generation != self._generation or self._sim.chaos.deliver)
        return generation == self._generation

    def _is_due(self, job: Job, generation: int) -> bool:
        """Whether a job's time has come, after waiting for it; app events wait for more of them, to be one array."""
        wait = job.due - time.monotonic()
        if job.feed == "app":
            wait += self._sim.chaos.batch_seconds
        if wait > 0:
            self._changed.wait_for(lambda: generation != self._generation, timeout=wait)
            return False
        return True

    @staticmethod
    def _next_batch(queue: deque[Job]) -> list[Job]:
        """The head of the lane, with the app-feed events that follow it if it is one (docs/hubspot.rst: Batches)."""
        head = queue[0]
        batch = [head]
        if head.feed == "app":
            for job in itertools.islice(queue, 1, MAX_BATCH):
                if (job.feed, job.owner) != (head.feed, head.owner) or job.due > time.monotonic():
                    break
                batch.append(job)
        return batch

    def _deliver(self, batch: list[Job], generation: int) -> None:
        """Deliver one batch: retried in place until it is answered 2xx or the schedule is exhausted."""
        attempt = copies = 0
        while True:
            with self._changed:
                if not self._may_send(generation) or self._sim.chaos.drop_deliveries:
                    return
                head = batch[0]
                where = self.destination(head.feed, head.owner)
                if where is None:
                    return
                body: Any = head.event
                if head.feed == "app":
                    body = [{**job.event, "attemptNumber": attempt} for job in batch]
            payload = json.dumps(body).encode()
            status = self.send(head.feed, head.owner, *where, payload, attempt=attempt, generation=generation)
            with self._changed:
                chaos = self._sim.chaos
                lost = chaos.happens("lost_answers", head.kind())
                if status is not None and 200 <= status < 300 and not lost:
                    if copies >= chaos.duplicates:
                        return
                    copies += 1
                    continue
                final = not chaos.retry_4xx and status in NOT_REPEATED and not lost
                if final or attempt >= len(chaos.retry_delays):
                    logger.warning("gave up a delivery after %d attempts", attempt + 1)
                    return
                self._changed.wait_for(
                    lambda: generation != self._generation or self._sim.chaos.drop_deliveries,
                    timeout=chaos.retry_delays[attempt],
                )
                attempt += 1

    def destination(self, feed: str, owner: str) -> tuple[str, str] | None:
        """URL and client secret for an app's or a channel's feed; None when no URL is set."""
        world = self._sim.world
        channel = world.channels.get(owner) if feed == "channel" else None
        app: App | None = world.apps.get(channel.app_id if channel else owner)
        url = channel.webhook_url if channel else app.target_url if app else None
        return (url, app.client_secret) if url and app else None

    def send(
        self,
        feed: str,
        owner: str,
        url: str,
        secret: str,
        body: bytes,
        *,
        attempt: int = 0,
        generation: int | None = None,
    ) -> int | None:
        """One attempt, signed and logged; call it without the lock. Returns the status, None for no answer.

        What is signed, and sent as ``Host``, is the registered URL, also when ``--deliver`` connects to another.
        """
        connect_to = self._sim.connect_to(url)
        with self._changed:
            chaos = self._sim.chaos
            headers = signing.headers(chaos, feed, url, secret, body)
            timeout = chaos.delivery_timeout
        status: int | None = None
        began = time.monotonic()
        sent = headers if connect_to == url else {**headers, "Host": urlsplit(url).netloc.rpartition("@")[2]}
        with requests.Session() as session:
            session.trust_env = False
            try:
                answer = session.post(
                    connect_to, data=body, headers=sent, timeout=timeout, allow_redirects=False, stream=True
                )
                status = answer.status_code
                answer.close()
            except (requests.RequestException, OSError, ValueError) as problem:
                logger.info("no answer to a delivery: %s", type(problem).__name__)
        with self._changed:
            if generation is None or generation == self._generation:
                entry = self._entry(feed, owner, url, headers, body.decode("utf-8", "replace"), attempt, status)
                if connect_to != url:
                    entry["connected_to"] = connect_to
                self._log.append(entry | {"milliseconds": round((time.monotonic() - began) * 1000)})
                self._sim.log_delivery(self._log[-1])
        return status

    def _log_drop(self, job: Job) -> None:
        """An event that chaos loses is in the log too, as ``dropped``."""
        where = self.destination(job.feed, job.owner)
        body = json.dumps([job.event] if job.feed == "app" else job.event)
        entry = self._entry(job.feed, job.owner, where[0] if where else "", {}, body, 0, None)
        self._log.append(entry | {"dropped": True})
        self._sim.log_delivery(self._log[-1])

    @staticmethod
    def _entry(
        feed: str, owner: str, url: str, headers: dict[str, str], body: str, attempt: int, status: int | None
    ) -> JSON:
        entry: JSON = {"url": url, "headers": headers, "body": body, "attempt": attempt, "status": status}
        return entry | {"feed": feed, "owner": owner, "at": now_ms()}
