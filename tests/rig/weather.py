"""HubSpot's bad days: one trouble after the other, or all of them at once."""

from __future__ import annotations

import contextlib
import random
import time

import requests

from ..browser import Browser, said
from ..helpers import PORTAL, HubSpot, Json
from .load import PATIENCE, Actors

MESSAGES = "POST .*/messages$"
MOODS: list[Json] = [
    {},
    {"duplicates": 2},
    {"drop_deliveries": True},
    {"latency": 0.05},
    {"channel_thread_ids": "empty"},
    {"faults": [{"match": ".", "times": 4, "status": 429, "retry_after": 0.3}]},
    {"faults": [{"match": MESSAGES, "times": 2, "status": 429}]},
    {"faults": [{"match": ".", "times": 4, "status": 503}]},
    {"faults": [{"match": MESSAGES, "times": 4, "status": 502, "mode": "status_after"}]},
    {"faults": [{"match": MESSAGES, "times": 4, "mode": "drop_after"}]},
    {"faults": [{"match": ".", "times": 4, "mode": "drop"}]},
    {"faults": [{"match": ".", "times": 8, "mode": "delay", "seconds": 0.4}]},
    {"reorder": 0.3},
    {"stale": 0.2},
    {"lost_answers": 0.2},
    {"batch_seconds": 0.1, "mixed_batches": True},
]
STORM: Json = {
    "duplicates": 1,
    "reorder": 0.3,
    "delay": 0.05,
    "drop": 0.05,
    "stale": 0.2,
    "lost_answers": 0.1,
    "bad_signature": 0.05,
    "old_timestamp": 0.05,
    "batch_seconds": 0.05,
    "mixed_batches": True,
    "api_429": 0.02,
    "retry_after": "either",
    "retry_after_seconds": 0.2,
    "api_423": 0.01,
    "api_5xx": 0.03,
    "api_5xx_after": 0.03,
    "api_drop": 0.02,
    "api_drop_after": 0.02,
    "api_slow": 0.05,
    "api_slow_seconds": 0.3,
    "latency": 0.005,
    "expire_tokens": 0.02,
    "token_seconds": 20,
    "rate_limit": 400,
    "page_size": 25,
}
ANSWERS: dict[str, list[object]] = {
    "channel_thread_ids": ["given", "empty", "missing"],
    "own_publish_events": [True, False],
    "repeated_publish": ["created", "ok", "conflict"],
    "refresh_kills_access": [False, True],
    "unassign_value": ["empty", "null", "missing"],
    "assignee_form": ["actor", "bare"],
    "status_form": ["object", "string"],
    "identifier_form": ["object", "string"],
    "sparse_messages": [False, True],
    "event_prefix": ["conversation", "conversations"],
    "event_type_key": ["subscriptionType", "eventType"],
}
"""What HubSpot's documents leave open: in a storm the seed draws one of each."""
REVOKED = 0.2
"""How often a storm takes the portal's tokens away, a second or so."""
REVOKED_SECONDS = 0.3


class Weather:
    """HubSpot's moods: another one every second or so. In a ``storm`` everything goes wrong at once, all the time."""

    def __init__(self, actors: Actors, hubspot: HubSpot, url: str, *, seed: int, storm: bool) -> None:
        self._actors = actors
        self._hubspot = hubspot
        self._url = url
        self._rng = random.Random(f"{seed}:weather")
        self._storm: Json = {}
        if storm:
            self._storm = {**STORM, **{name: self._rng.choice(several) for name, several in ANSWERS.items()}}
        good = hubspot.control("GET", "chaos")
        self._calm = {name: good[name] for name in {*self._storm, *(name for mood in MOODS for name in mood)}}
        hubspot.chaos(seed=seed, retry_delays=[0.1, 0.2] + [0.4] * 1000)

    def begin(self) -> None:
        """Turn it bad."""
        self._hubspot.chaos(**self._storm)
        self._actors.play(self._revoke if self._storm else self._change)

    def calm(self) -> None:
        """A good day."""
        self._hubspot.chaos(**self._calm)

    def _goes_on(self) -> bool:
        """False when the run ends, else true after a second or so."""
        return not self._actors.stopping.wait(self._rng.uniform(0.4, 1.5))

    def _change(self) -> None:
        while self._goes_on():
            self._hubspot.chaos(**{**self._calm, **self._rng.choice(MOODS)})
        self.calm()

    def _revoke(self) -> None:
        """Somebody takes the portal's tokens away, and an admin connects it again."""
        while self._goes_on():
            if self._rng.random() < REVOKED:
                self._hubspot.chaos(revoked=True)
                time.sleep(REVOKED_SECONDS)
                self._hubspot.chaos(revoked=False)
                self._connect()

    def _connect(self) -> None:
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            with contextlib.closing(Browser()) as admin, contextlib.suppress(requests.RequestException, AssertionError):
                if said(admin.connect(f"{self._url}/hubspot/oauth/install", PORTAL)) == "HubSpot is connected":
                    return
        raise TimeoutError(f"the portal could not be connected again within {PATIENCE:.0f} s")
