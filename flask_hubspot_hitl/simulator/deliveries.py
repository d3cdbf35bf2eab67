"""Signed webhook deliveries with retries: one lane and at most one worker per thread, strictly in order.

What is sent, when it is sent again, and with which headers: facts §4.1, §6.2, §6.4 and §7. Every attempt is
signed afresh with the time it is made.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from flask_hubspot_hitl.hubspot.signature import sign

from .world import JSON, now_ms

if TYPE_CHECKING:
    from .simulation import Simulation

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 5
MAX_BATCH = 99
USER_AGENT = "HubSpot stand-in (Flask-HubSpot-HITL simulator)"


@dataclass
class Job:
    """One event on its way. ``owner`` is the app's id (feed ``app``) or the channel's (feed ``channel``)."""

    feed: str
    owner: str
    event: JSON


class Deliveries:
    """The lanes and the log. Everything is guarded by the simulation's lock; sending happens without it."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._changed = threading.Condition(sim.lock)
        self._lanes: dict[str, deque[Job]] = {}
        self._generation = 0
        self._log: list[JSON] = []

    def add(self, lane: str, feed: str, owner: str, event: JSON) -> None:
        """Queue an event behind the others of its lane."""
        with self._changed:
            queue = self._lanes.get(lane)
            if queue is None:
                queue = self._lanes[lane] = deque()
                worker = threading.Thread(
                    target=self._work, args=(lane, queue, self._generation), name=f"deliver-{lane}", daemon=True
                )
                queue.append(Job(feed, owner, event))
                worker.start()
            else:
                queue.append(Job(feed, owner, event))

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

    @staticmethod
    def _next_batch(queue: deque[Job]) -> list[Job]:
        """The head of the lane, with the app-feed events that follow it if it is one (facts §6.2)."""
        head = queue[0]
        batch = [head]
        if head.feed == "app":
            for job in list(queue)[1:MAX_BATCH]:
                if (job.feed, job.owner) != (head.feed, head.owner):
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
                if status is not None and 200 <= status < 300:
                    if copies >= self._sim.chaos.duplicates:
                        return
                    copies += 1
                    continue
                delays = self._sim.chaos.retry_delays
                if attempt >= len(delays):
                    logger.warning("gave up a delivery after %d attempts", attempt + 1)
                    return
                self._changed.wait_for(
                    lambda: generation != self._generation or self._sim.chaos.drop_deliveries, timeout=delays[attempt]
                )
                attempt += 1

    def destination(self, feed: str, owner: str) -> tuple[str, str] | None:
        """URL and client secret for an app's or a channel's feed; None when no URL is set."""
        world = self._sim.world
        channel = world.channels.get(owner) if feed == "channel" else None
        app = world.apps.get(channel.app_id if channel else owner)
        url = channel.webhook_url if channel else app.target_url if app else None
        return (url, app.client_secret) if url and app else None

    def headers(self, url: str, secret: str, body: bytes) -> dict[str, str]:
        """The headers of one delivery, signed now; which signatures is the switch ``signatures``."""
        stamp = str(now_ms())
        which = self._sim.chaos.signatures
        key = f"{secret}-wrong" if which == "wrong" else secret
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Connection": "close",
            "X-HubSpot-Request-Timestamp": stamp,
        }
        if which != "v3":
            headers["X-HubSpot-Signature"] = sign("v1", secret=key, method="POST", uri=url, body=body)
            headers["X-HubSpot-Signature-Version"] = "v1"
        if which != "v1":
            headers["X-HubSpot-Signature-v3"] = sign(
                "v3", secret=key, method="POST", uri=url, body=body, timestamp=stamp
            )
        return headers

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
        """One attempt, signed and logged; call it without the lock. Returns the status, None for no answer."""
        headers: dict[str, str] = {}
        status: int | None = None
        with requests.Session() as session:
            session.trust_env = False
            try:
                headers = self.headers(url, secret, body)
                answer = session.post(
                    url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True
                )
                status = answer.status_code
                answer.close()
            except (requests.RequestException, OSError, ValueError) as problem:
                logger.info("no answer to a delivery: %s", type(problem).__name__)
        with self._changed:
            if generation is None or generation == self._generation:
                entry = {"url": url, "headers": headers, "body": body.decode("utf-8", "replace"), "attempt": attempt}
                self._log.append({**entry, "status": status, "feed": feed, "owner": owner, "at": now_ms()})
                self._sim.log_delivery(self._log[-1])
        return status
