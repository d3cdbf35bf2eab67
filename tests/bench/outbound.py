"""How fast users' messages get to HubSpot: ``send``, then a worker that publishes, against ``requests`` on its own.

HubSpot is the stand-in, with its rate limit out of the way. The yardstick is one kept-alive session that posts the
same bodies to the same address, one after the other.
"""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import requests

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.simulator.model.preset import ACCESS_TOKEN

from ..helpers import Json
from ..story import PHONE
from .figures import Case, Figure, Target, interleave
from .stage import Host, Stage

CONVERSATIONS = 20
SESSION = "requests alone"


def run(stage: Stage) -> Iterator[Figure]:
    """Publishes a second, and how long ``send`` keeps its caller."""
    count = 200 if stage.quick else 500
    with stage.hosts(threads=0) as hosts:
        cases: dict[str, Case] = {}
        for kind, host in hosts.items():
            conversations = _start(host)
            cases[kind] = partial(_publish, stage, host, conversations, count)
        example = publishes(stage)[-1]
        cases[SESSION] = partial(post, stage, example, count)
        found = interleave(cases, stage.rounds, stage.say)
    line = partial(Figure, subject="outbound")
    for kind in stage.databases:
        yield line(
            what="messages to HubSpot", database=kind, unit="publishes/s", values=found[kind]["rate"],
            against=SESSION, yardstick=found[SESSION]["rate"],
        )  # fmt: skip
        yield line(
            what="send, the median call", database=kind, unit="ms", values=found[kind]["send"],
            target=Target(20, at_most=True),
        )  # fmt: skip


def _start(host: Host) -> list[str]:
    """Open conversations at the stand-in."""
    found = [uuid.uuid4().hex for _ in range(CONVERSATIONS)]
    with host.app.app_context():
        for conversation_id in found:
            HubSpotHITL().start(conversation_id, contact=PHONE)
    host.runtime.dispatcher.run_due()
    return found


def _publish(stage: Stage, host: Host, conversations: list[str], count: int) -> dict[str, float]:
    took = []
    with host.app.app_context():
        for number in range(count):
            began = time.perf_counter()
            HubSpotHITL().send(conversations[number % len(conversations)], f"message {number}")
            took.append(time.perf_counter() - began)
    before = host.signals()
    with host.worker():
        host.wait_for(before + count)  # each is signalled as delivered
    at = [one["at"] for one in publishes(stage)[-count:]]
    return {"rate": (count - 1) * 1000 / (max(at) - min(at)), "send": statistics.median(took) * 1000}


def publishes(stage: Stage) -> list[Json]:
    """The messages published at the stand-in, oldest first."""
    return [one for one in stage.hubspot.requests() if one["method"] == "POST" and one["path"].endswith("/messages")]


def post(stage: Stage, example: Json, count: int) -> dict[str, float]:
    """Publish as often as that, in the words of an earlier publish."""
    url = f"{stage.hubspot.url}{example['path']}"
    body: dict[str, Any] = dict(example["request_body"])
    with requests.Session() as http:
        http.trust_env = False
        http.headers["Authorization"] = f"Bearer {ACCESS_TOKEN}"
        began = time.perf_counter()
        for _ in range(count):
            body["integrationIdempotencyId"] = uuid.uuid4().hex
            http.post(url, json=body, timeout=10).raise_for_status()
        return {"rate": count / (time.perf_counter() - began)}
