"""HubSpot is down for half an hour while users go on writing: everything arrives afterwards, once and in order."""

from __future__ import annotations

import contextlib
import select
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.ledger.schema import event

from .conftest import MakeApp
from .helpers import HubSpot, Recorder, state_of, wait_until
from .story import Story

CONVERSATIONS = 10
MINUTES = 30
SEND_MS = 20.0


class Road:
    """The way to HubSpot. ``open``, ``closed`` (connections are refused) or ``endless`` (nothing ever arrives)."""

    def __init__(self, url: str) -> None:
        self._there = (str(urlsplit(url).hostname), int(urlsplit(url).port or 80))
        self._reserved = _socket(("127.0.0.1", 0))  # keeps the port ours while nobody listens
        self._here: tuple[str, int] = self._reserved.getsockname()
        self.url = f"http://{self._here[0]}:{self._here[1]}"
        self._state = "closed"
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self.given_up = 0
        """How many clients have stopped waiting on the endless road."""
        self.become("open")

    def become(self, state: str) -> None:
        """Change the state; connections of before break."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._state = state
        if state != "closed":
            self._listener = _socket(self._here)
            self._listener.listen(128)
            threading.Thread(target=self._accept, args=[self._listener, state], daemon=True).start()

    def _accept(self, listener: socket.socket, state: str) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._serve, args=[near, state], daemon=True).start()

    def _serve(self, near: socket.socket, state: str) -> None:
        self._connections.add(near)
        with near, contextlib.suppress(OSError):
            if state == "open":
                with socket.create_connection(self._there) as far:
                    _join(near, far)
            else:
                while near.recv(65536):
                    pass
                self.given_up += self._state == state
        self._connections.discard(near)

    def close(self) -> None:
        self.become("closed")
        self._reserved.close()


def _socket(address: tuple[str, int]) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(address)
    return one


def _join(near: socket.socket, far: socket.socket) -> None:
    while True:
        for ready in select.select([near, far], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (far if ready is near else near).sendall(data)


@pytest.fixture
def road(hubspot: HubSpot) -> Iterator[Road]:
    one = Road(hubspot.url)
    yield one
    one.close()


class Users:
    """Write in turn to the conversations, and keep the time that each ``send`` took."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self.written: dict[str, list[str]] = {f"c{number}": [] for number in range(CONVERSATIONS)}
        self.took: list[float] = []

    def write(self, count: int) -> None:
        names = list(self.written)
        for _ in range(count):
            number = len(self.took)
            name, text = names[number % len(names)], f"message {number}"
            began = time.perf_counter()
            assert self._story.send(text, name, message_id=str(number))
            self.took.append((time.perf_counter() - began) * 1000)
            self.written[name].append(text)


@pytest.mark.slow
@pytest.mark.timeout(480)
@pytest.mark.parametrize(("database", "count"), [("sqlite_url", 1_000), ("postgresql_url", 200)])
def test_half_an_hour_without_hubspot_and_a_thousand_messages(
    make_app: MakeApp,
    hubspot: HubSpot,
    clock: ManualClock,
    road: Road,
    request: pytest.FixtureRequest,
    database: str,
    count: int,
) -> None:
    url = request.getfixturevalue(database)
    app = make_app(clock=clock, dispatcher="thread", database_url=url, api_base_url=road.url, lease_ttl=86_400)
    recorder = Recorder(app)
    story = Story(app, hubspot, clock, recorder)
    users = Users(story)
    threads = {name: str(story.start(name).thread_id) for name in users.written}
    state_of(app).dispatcher.ensure_started()
    users.write(50)
    wait_until(lambda: len(recorder.of("message_delivered")) == 50, 60, "the messages while HubSpot is up")
    up = statistics.median(users.took)

    def pass_the_time(minutes: int) -> None:
        for _ in range(2 * minutes):
            clock.advance(30)
            users.write(count // (2 * MINUTES))

    # It goes down in the middle of its work: what it has done, it could not say.
    hubspot.chaos(faults=[{"match": "POST .*/messages$", "times": 3, "mode": "drop_after"}])
    users.write(3)
    wait_until(lambda: not hubspot.control("GET", "chaos")["faults"][0]["times"], 30)
    road.become("closed")
    pass_the_time(10)
    road.become("open")
    hubspot.chaos(faults=[{"match": ".*", "times": None, "mode": "status", "status": 503}])
    pass_the_time(10)
    road.become("endless")
    pass_the_time(10)
    wait_until(lambda: road.given_up, 40, "a time-out")
    road.become("closed")
    users.write(50 + count - len(users.took))
    before = {name: incoming(hubspot, thread) for name, thread in threads.items()}
    assert sum(map(len, before.values())) <= 50 + 3, "it was down"
    assert {one["status"] for one in hubspot.requests()} >= {503}
    down = statistics.median(users.took[50:])
    print(f"send: median {down:.1f} ms while HubSpot is down, {up:.1f} ms while it was up")
    assert down < max(SEND_MS, 2 * up), "on a machine that is too busy for 20 ms it is no slower than before"

    hubspot.chaos(faults=[])
    road.become("open")

    def arrived() -> bool:
        clock.advance(1)
        return len(recorder.of("message_delivered")) == 50 + count

    wait_until(arrived, 240, "everything to arrive")
    assert {name: incoming(hubspot, thread) for name, thread in threads.items()} == users.written
    print(f"{count} messages arrived once and in order")
    with state_of(app).ledger.read() as tx:
        assert tx._connection.scalar(sa.select(sa.func.max(event.c.attempts))) == 0, "no attempt is used up"
        assert tx.dead_events() == []
    assert "message_failed" not in recorder.names()
    assert all(story.is_active(name) for name in threads)


def incoming(hubspot: HubSpot, thread: str) -> list[str]:
    """The user's messages in HubSpot, without the first, which opens the thread."""
    messages = hubspot.thread(thread)["messages"]
    return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]
