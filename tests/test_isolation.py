"""One conversation's receiver always fails and another's hangs: the others do not notice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from statistics import median

import pytest
from flask import Flask

from flask_hubspot_hitl import Handoff, Message, operator_message
from flask_hubspot_hitl.clock import to_datetime

from .conftest import MakeApp
from .databases import slow_on_postgresql
from .helpers import HubSpot, channel_event, open_handoff, signed_post, state_of, wait_until

CONVERSATIONS, ROUNDS, TRIES = 50, 3, 3
FAILS, HANGS = "c0", "c1"
GOOD = [f"c{number}" for number in range(2, CONVERSATIONS)]


class Host:
    """A host with one receiver, which is good or bad to each conversation."""

    def __init__(self, app: Flask, hubspot: HubSpot) -> None:
        self.app = app
        names = [f"c{number}" for number in range(CONVERSATIONS)]
        threads = hubspot.post("threads", count=CONVERSATIONS)["ids"]
        self._threads: dict[str, str] = dict(zip(names, threads, strict=True))
        self._integration_threads = {
            name: open_handoff(app, name, thread).integration_thread_id for name, thread in self._threads.items()
        }
        self.is_bad = False
        self.released = threading.Event()
        self.hanging = 0
        self.failed = 0
        self.posted: dict[str, float] = {}
        self.heard: dict[str, list[str]] = {name: [] for name in self._integration_threads}
        self.heard_at: dict[str, float] = {}

    def receive(self, sender: Flask, handoff: Handoff, message: Message, **extra: object) -> None:
        name = handoff.conversation_id
        if self.is_bad and name == FAILS:
            self.failed += 1
            raise RuntimeError
        if self.is_bad and name == HANGS:
            self.hanging += 1
            self.released.wait(100)
            self.hanging -= 1
        self.heard[name].append(message.message_id)
        self.heard_at[message.message_id] = time.perf_counter()

    def post(self, name: str) -> str:
        """An agent's message comes in; its id."""
        message_id = f"m{len(self.posted):04}"
        event = channel_event(
            message_id,
            thread=self._threads[name],
            integration_threads=[self._integration_threads[name]],
            created=to_datetime(time.time_ns() // 1_000_000).isoformat(timespec="milliseconds"),
        )
        self.posted[message_id] = time.perf_counter()
        assert signed_post(self.app, event).status_code == 204
        return message_id

    def round(self) -> list[float]:
        """A message for every good conversation; how long each took from its webhook to the receiver, in s."""
        ids = []
        for name in GOOD:
            ids.append(self.post(name))
            time.sleep(0.01)  # no queue builds up that would hide what somebody else delays
        wait_until(lambda: all(one in self.heard_at for one in ids), what="every good conversation's messages")
        return [self.heard_at[one] - self.posted[one] for one in ids]


@pytest.fixture
def host(make_app: MakeApp, hubspot: HubSpot, database_url: str) -> Iterator[Host]:
    one = Host(make_app(dispatcher="thread", rate_limit=100_000), hubspot)
    with operator_message.connected_to(one.receive, one.app):
        state_of(one.app).dispatcher.ensure_started()
        yield one
        one.released.set()


def p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


def measured(host: Host, bad: dict[str, list[str]]) -> tuple[list[float], list[float]]:
    """How long the good conversations' messages took, in s: alone, and beside the bad ones, which get more to do."""
    without: list[float] = []
    beside: list[float] = []
    for _ in range(ROUNDS):
        without += host.round()
        host.is_bad = True
        host.failed = 0
        host.released.clear()
        for name in bad:  # chatty as well
            bad[name] += [host.post(name) for _ in range(5)]
        wait_until(lambda: host.hanging == 1 and host.failed, what="the bad ones to be bad")
        beside += host.round()
        assert host.hanging == 1, "every good event was delivered while this one still hung"
        host.is_bad = False
        host.released.set()
        wait_until(lambda: all(host.heard[name] == bad[name] for name in bad), what="the bad ones, in order, once good")
    return without, beside


@slow_on_postgresql
@pytest.mark.timeout(300)
def test_a_receiver_that_fails_and_one_that_hangs_delay_only_their_own_conversations(host: Host) -> None:
    warm = host.post(GOOD[0])
    wait_until(lambda: warm in host.heard_at, what="everything to be loaded")
    bad: dict[str, list[str]] = {FAILS: [], HANGS: []}
    for _ in range(TRIES):  # what the bad ones delay they delay in each of them; other work on this machine does not
        without, beside = measured(host, bad)
        figures = [f"p50 {median(took) * 1000:.0f} p99 {p99(took) * 1000:.0f} ms" for took in (without, beside)]
        print("webhook to receiver, 48 good conversations: {} alone, {} beside two bad ones".format(*figures))
        is_close = median(beside) < 3 * median(without) + 0.25 and p99(beside) < 4 * p99(without) + 2
        if is_close:
            break
    assert is_close
    for name in GOOD:
        assert host.heard[name] == sorted(host.heard[name]), "in order"
