"""``kill -9`` at the worst moments: what was accepted is delivered after a restart, and nothing is doubled."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from .databases import slow_on_postgresql
from .helpers import HubSpot, Json, own_port, wait_until
from .story import PHONE


class Server:
    """The host app, which can be killed and started again on the same port and database."""

    def __init__(self, hubspot: HubSpot, database_url: str, folder: Path) -> None:
        self.port = own_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.journal = folder / "journal"
        self._settings = {
            **hubspot.env(),
            "HUBSPOT_HITL_PUBLIC_URL": self.url,
            "HUBSPOT_HITL_DATABASE_URL": database_url,
            "HUBSPOT_HITL_LEASE_TTL": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        hubspot.target(f"{self.url}/hubspot/webhook")

    def start(self, **settings: str) -> None:
        """Start it, and wait until it answers."""
        more = {f"HUBSPOT_HITL_{key.upper()}": value for key, value in settings.items()}
        command = [sys.executable, "-m", "tests.crash_app", str(self.port), str(self.journal)]
        self._process = subprocess.Popen(command, env={**os.environ, **self._settings, **more})
        wait_until(self.answers, what="the server")

    def answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/hubspot/healthz", timeout=10).status_code == 200
        return False

    def kill(self) -> None:
        """``kill -9``."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(60)
            self._process = None

    def call(self, path: str, **body: Any) -> Any:
        answer = requests.post(f"{self.url}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def heard(self) -> list[Json]:
        """Every signal of every life, in order."""
        if not self.journal.exists():
            return []
        return [json.loads(line) for line in self.journal.read_text().splitlines()]


@pytest.fixture
def server(hubspot: HubSpot, database_url: str, tmp_path: Path) -> Iterator[Server]:
    one = Server(hubspot, database_url, tmp_path)
    yield one
    one.kill()


def test_killed_between_the_204_and_the_dispatch_the_signal_fires_after_restart(
    server: Server, hubspot: HubSpot
) -> None:
    server.start(dispatcher="external")  # nobody dispatches: the kill falls between the two for certain
    thread = server.call("start", conversation_id="c1", contact=PHONE)["thread_id"]
    hubspot.act(thread, "assign")
    hubspot.act(thread, "reply", text="hello")
    wait_until(lambda: sum(one["status"] == 204 for one in hubspot.deliveries()) >= 3, what="the 204s")
    server.kill()
    assert server.heard() == []
    server.start()
    wait_until(lambda: len(server.heard()) >= 2, what="the signals")
    assert [one["signal"] for one in server.heard()] == ["assigned", "message"]


@slow_on_postgresql
@pytest.mark.parametrize("moment", [0.0, 0.05, 0.25])
def test_d26_killed_during_send_no_message_is_lost_or_doubled(server: Server, hubspot: HubSpot, moment: float) -> None:
    server.start()
    thread = server.call("start", conversation_id="c1", contact=PHONE)["thread_id"]
    # HubSpot takes the message and is slow to say so; the kill falls before, in, or after its work.
    hubspot.chaos(faults=[{"match": "POST .*/messages$", "times": 1, "mode": "delay", "seconds": 0.4}])
    accepted = [f"m{number}" for number in range(3) if server.call("send", conversation_id="c1", text=f"m{number}")]
    time.sleep(moment)
    server.kill()
    server.start()

    def texts() -> list[str]:
        messages = hubspot.thread(thread)["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]

    wait_until(lambda: len(texts()) >= 3, what="the messages")
    time.sleep(0.5)  # would a double come?
    assert texts() == accepted


@slow_on_postgresql
def test_killed_again_and_again_under_load_nothing_is_lost_or_out_of_order(server: Server, hubspot: HubSpot) -> None:
    server.start()
    threads = [server.call("start", conversation_id=f"c{n}", contact=PHONE)["thread_id"] for n in range(4)]
    hubspot.chaos(retry_delays=[0.1] * 100)
    said: dict[str, list[str]] = {thread: [] for thread in threads}
    sent: dict[str, list[str]] = {thread: [] for thread in threads}
    kills = 2  # the rig in tests/rig kills a hundred times
    for turn in range(kills):
        for number in range(5):
            for index, thread in enumerate(threads):
                text = f"{turn}.{number}"
                said[thread].append(text)
                hubspot.act(thread, "reply", text=text)
                with contextlib.suppress(requests.RequestException):
                    if server.call("send", conversation_id=f"c{index}", text=text, message_id=text)["accepted"]:
                        sent[thread].append(text)
        server.kill()
        server.start()

    def heard(index: int) -> list[str]:
        return [
            one["text"] for one in server.heard() if one["signal"] == "message" and one["conversation"] == f"c{index}"
        ]

    def published(thread: str) -> list[str]:
        messages = hubspot.thread(thread)["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]

    def everything() -> bool:
        return all(
            set(said[thread]) <= set(heard(index)) and set(sent[thread]) <= set(published(thread))
            for index, thread in enumerate(threads)
        )

    wait_until(everything, what="everything accepted to arrive")
    repeats = 0
    for index, thread in enumerate(threads):
        once = list(dict.fromkeys(heard(index)))
        assert once == said[thread], "in HubSpot's order"
        repeats += len(heard(index)) - len(once)
        assert max(Counter(published(thread)).values()) == 1, "a user's message is never doubled"
        assert published(thread) == sorted(published(thread)), "in order"
    assert repeats <= kills * 4, "twice only where the process died between the receiver's return and our commit"
