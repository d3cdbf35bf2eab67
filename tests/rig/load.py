"""Load in both directions: users and agents who chat, and a second feed of signed batches.

Every actor draws from a random generator of its own, seeded with the run's seed and the actor's name.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from flask_hubspot_hitl.clock import to_datetime

from ..helpers import HubSpot, Json, assigned_event, channel_event, signature_headers
from ..story import PHONE
from .oracle import Chat, Told, event_key

SENDERS = 6
BATCH = 10
REDELIVERED = 0.1
HELD_SECONDS = (0.5, 3.0)
"""A batch that is held back waits so long at most, the one or the other."""
BACKLOG = 150
"""So many batches may wait for a server that is down; then no new ones are made."""
PATIENCE = 240.0
"""Seconds after which a user who gets no answer breaks the run."""
LAST_WORDS_SECONDS = 60.0
"""Most agents wait so long at most for what the user has said to arrive, before they close."""


class Actors:
    """Threads that play somebody. What breaks one of them is kept, and breaks the run."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.broken: list[str] = []
        self._threads: list[threading.Thread] = []

    def play(self, part: Callable[..., None], *given: Any) -> threading.Thread:
        """Run a function in a thread of its own."""

        def run() -> None:
            try:
                part(*given)
            except Exception as error:
                self.broken.append(f"{part.__qualname__}: {type(error).__name__}: {error}")

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self, seconds: float) -> None:
        """Let them come to their end; begin nothing new."""
        self.stopping.set()
        ends = time.monotonic() + seconds
        for thread in list(self._threads):
            thread.join(max(0.0, ends - time.monotonic()))
            if thread.is_alive():
                self.broken.append(f"an actor did not finish within {seconds:.0f} s")
                return


class Chats:
    """Users who write through the host, and agents who answer in HubSpot, in ``count`` chats at a time."""

    def __init__(
        self, actors: Actors, hubspot: HubSpot, url: str, *, seed: int, count: int, all_on: bool = False
    ) -> None:
        self.all: list[Chat] = []
        self.failures = 0
        self._actors = actors
        self._hubspot = hubspot
        self._url = url
        self._seed = seed
        self._count = count
        self._all_on = all_on

    def begin(self) -> None:
        for slot in range(self._count):
            self._actors.play(self._user, slot)

    def open(self, conversation_id: str) -> str:
        """A user asks for a human; answers HubSpot's thread."""
        with requests.Session() as http:
            facts = self._call(
                http, "POST", "start", conversation_id=conversation_id, contact=PHONE, title=conversation_id
            )
            while facts["thread"] is None:
                time.sleep(0.1)
                facts = self._call(http, "GET", f"handoffs/{conversation_id}")
            return str(facts["thread"])

    def state(self, conversation_id: str) -> tuple[bool, str | None]:
        """Open, and with whom, as the host sees it."""
        with requests.Session() as http:
            facts = self._call(http, "GET", f"handoffs/{conversation_id}")
            return facts["open"], facts.get("operator")

    def _call(self, http: requests.Session, method: str, path: str, **body: Any) -> Json:
        """Ask the host again and again until it answers."""
        http.trust_env = False
        ends = time.monotonic() + PATIENCE
        while True:
            status: object = None
            try:
                answer = http.request(method, f"{self._url}/{path}", json=body or None, timeout=20)
                if answer.status_code == 200:
                    found: Json = answer.json()
                    return found
                status = answer.status_code
            except (requests.RequestException, ValueError) as error:
                status = type(error).__name__
            self.failures += 1
            if time.monotonic() > ends:
                raise TimeoutError(f"{method} {path}: no answer within {PATIENCE:.0f} s, the last was {status}")
            time.sleep(0.05)

    def _user(self, slot: int) -> None:
        rng = random.Random(f"{self._seed}:user:{slot}")
        number = 0
        while not self._actors.stopping.is_set():
            number += 1
            self._chat(Chat(id=f"chat-{slot}-{number}"), rng)

    def _chat(self, chat: Chat, rng: random.Random) -> None:
        """One conversation from its start to its end."""
        self.all.append(chat)
        chat.thread = self.open(chat.id)
        agent = self._actors.play(self._agent, chat)
        with requests.Session() as http:
            for number in range(rng.randint(8, 30)):
                key = f"{chat.id}.{number}"
                said = self._call(http, "POST", "send", conversation_id=chat.id, text=key, message_id=key)
                (chat.accepted if said["accepted"] else chat.refused).append(key)
                if self._all_on:
                    self._beside(http, chat, number, rng)
                time.sleep(rng.uniform(0, 0.1))
        agent.join()
        waits, closes = rng.random() < 0.85, rng.random() < 0.9
        ends = time.monotonic() + LAST_WORDS_SECONDS
        while waits and time.monotonic() < ends:
            if len(published(self._hubspot.thread(chat.thread))) >= len(chat.accepted):
                break
            time.sleep(0.2)
        if closes:
            self._hubspot.act(chat.thread, "close")

    def read(self, conversation_id: str) -> list[str]:
        """The ids of the agents' messages that the host has shown."""
        with requests.Session() as http:
            found: list[str] = self._call(http, "GET", f"read/{conversation_id}")["read"]
            return found

    def _beside(self, http: requests.Session, chat: Chat, number: int, rng: random.Random) -> None:
        """What else a host does while two people talk: notes, drafts, receipts, and a rating."""
        if rng.random() < 0.3:
            text = f"note {chat.id}.{number}"
            noted = self._call(http, "POST", "note", conversation_id=chat.id, text=text, draft=rng.random() < 0.5)
            if noted["accepted"]:
                chat.notes.append(text)
        if rng.random() < 0.3:
            self._call(http, "POST", "read", conversation_id=chat.id)
        if rng.random() < 0.05:
            self._call(
                http, "POST", "rate", conversation_id=chat.id, score=rng.randint(1, 5), comment=f"note {chat.id}"
            )

    def _agent(self, chat: Chat) -> None:
        rng = random.Random(f"{self._seed}:agent:{chat.id}")
        agents = ["A-987", "A-988"]
        self._hubspot.act(chat.thread, "assign", actorId=agents[0])
        for number in range(rng.randint(4, 16)):
            time.sleep(rng.uniform(0, 0.1))
            if rng.random() < 0.15:
                agents.reverse()
                self._hubspot.act(chat.thread, "assign", actorId=agents[0])
            wrote = self._hubspot.act(chat.thread, "reply", actorId=agents[0], text=f"{chat.id} reply {number}")
            chat.written.append(wrote["id"])


def published(thread: Json) -> list[str]:
    """What the user has said in HubSpot after the opening message."""
    return [one["text"] for one in thread["messages"] if one.get("direction") == "INCOMING"][1:]


@dataclass(slots=True)
class Thread:
    """A thread of the second feed: HubSpot's time of its last event, and how many assignments it had."""

    id: str
    integration_id: str
    time: int = 0
    assignments: int = 0


@dataclass(slots=True)
class Batch:
    """A webhook's body on its way."""

    body: Any
    told: list[tuple[str, str, int, str | None]]
    """Key, thread, HubSpot's time, actor."""
    not_before: float = 0.0
    again: bool = False


@dataclass(slots=True, kw_only=True)
class Feed:
    """A second HubSpot: signed batches for threads of its own, in disorder, repeated until they are acknowledged.

    Some batches (``held_back``, a chance) wait a while before they are sent, what was not acknowledged is put back at
    a random place, and a tenth of what was acknowledged is sent once more.
    """

    actors: Actors
    url: str
    secret: str
    seed: int
    threads: list[Thread]
    batches_per_second: float
    held_back: float
    hot: int = 3
    """So many threads get half of the messages: their lanes are never empty."""
    acked: dict[str, Told] = field(default_factory=dict)
    failures: int = 0
    _waiting: list[Batch] = field(default_factory=list)
    _in_flight: int = 0
    _next_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        self._next_at = time.monotonic()
        for number in range(SENDERS):
            self.actors.play(self._send, number)

    def _send(self, number: int) -> None:
        rng = random.Random(f"{self.seed}:sender:{number}")
        with requests.Session() as http:
            http.trust_env = False
            while True:
                batch = self._take(rng)
                if batch is None:
                    if self._is_over():
                        return
                    time.sleep(0.005)
                    continue
                acked = self._post(http, batch)
                with self._lock:
                    self._in_flight -= 1
                    self._settle(batch, acked, rng)
                if not acked:
                    time.sleep(rng.uniform(0.01, 0.1))

    def _is_over(self) -> bool:
        with self._lock:
            return self.actors.stopping.is_set() and not self._waiting and not self._in_flight

    def _take(self, rng: random.Random) -> Batch | None:
        """The next batch: a new one when its time has come, else any of those that wait."""
        with self._lock:
            now = time.monotonic()
            batch: Batch | None = None
            if not self.actors.stopping.is_set() and now >= self._next_at and len(self._waiting) < BACKLOG:
                self._next_at = max(self._next_at + 1 / self.batches_per_second, now - 1)
                batch = self._make(rng)
                if rng.random() < self.held_back:
                    batch.not_before = now + rng.uniform(0.02, rng.choice(HELD_SECONDS))
                    self._waiting.append(batch)
                    batch = None
            if batch is None:
                ready = [place for place, one in enumerate(self._waiting) if one.not_before <= now]
                batch = self._waiting.pop(rng.choice(ready)) if ready else None
            self._in_flight += batch is not None
            return batch

    def _settle(self, batch: Batch, acked: bool, rng: random.Random) -> None:
        if acked:
            now = time.time()
            for key, thread, at, actor in batch.told:
                if key not in self.acked:
                    self.acked[key] = Told(key=key, thread=thread, time=at, acked_at=now, actor=actor)
            if batch.again or rng.random() >= REDELIVERED:
                return
            batch.again = True
        else:
            self.failures += 1
        self._waiting.insert(rng.randint(0, len(self._waiting)), batch)

    def _post(self, http: requests.Session, batch: Batch) -> bool:
        body = json.dumps(batch.body).encode()
        headers = signature_headers(body, secret=self.secret, uri=self.url, timestamp=int(time.time() * 1000))
        headers["Content-Type"] = "application/json"
        try:
            return http.post(self.url, data=body, headers=headers, timeout=5).status_code == 204
        except requests.RequestException:
            return False

    def _make(self, rng: random.Random) -> Batch:
        """One agent's message, or ten assignments in as many threads."""
        if rng.random() < 5 / 6:
            thread = rng.choice(self.threads[: self.hot] if rng.random() < 0.5 else self.threads)
            at = self._tick(thread)
            message_id = f"{thread.id}-{at}"
            created = to_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            body = channel_event(
                message_id, thread=thread.id, created=created, integration_threads=[thread.integration_id]
            )
            return Batch(body, [(event_key("message", None, None, message_id), thread.id, at, None)])
        events: list[Json] = []
        told: list[tuple[str, str, int, str | None]] = []
        for thread in rng.sample(self.threads, min(BATCH, len(self.threads))):
            at = self._tick(thread)
            thread.assignments += 1
            actor = f"A-{2000 + thread.assignments % 13}"
            events.append(assigned_event(actor, at=at, thread=thread.id))
            told.append((event_key("assigned", thread.id, at), thread.id, at, actor))
        return Batch(events, told)

    @staticmethod
    def _tick(thread: Thread) -> int:
        thread.time = max(thread.time + 1, int(time.time() * 1000))
        return thread.time
