"""A stand-in as a process, and everything a test may ask of it (``/_sim/*``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests

from ..simulator.engine.replay import title

Json = dict[str, Any]
Kind = TypeVar("Kind", bound="StandIn")

START_SECONDS = 60.0
ANSWER_SECONDS = 30.0
WIRE_LINES = 40
WIRE_HEAD = "The wire, newest last"
LONGEST_TEXT = 60


class StandIn:
    """A running stand-in and its control routes."""

    def __init__(self, url: str, process: subprocess.Popen[str] | None = None) -> None:
        self.url = url
        self._process = process
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Connection"] = "close"

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """A call of ``/_sim/<path>``; its JSON.

        :raises AssertionError: when it is refused, or the stand-in has ended.
        """
        try:
            answer = self._http.request(method, f"{self.url}/_sim/{path}", json=body, timeout=ANSWER_SECONDS)
        except requests.RequestException as error:
            ended = self._process.poll() if self._process is not None else None
            why = type(error).__name__ if ended is None else f"its process ended with status {ended}"
            raise AssertionError(f"the stand-in did not answer {method} /_sim/{path}: {why}") from None
        if answer.status_code >= 300:
            raise AssertionError(f"the stand-in answered {method} /_sim/{path} with {answer.status_code} {answer.text}")
        return answer.json()

    def get(self, path: str) -> Any:
        """A control route's JSON."""
        return self.control("GET", path)

    def post(self, path: str, **fields: Any) -> Any:
        """Have a control route do something."""
        return self.control("POST", path, fields)

    def close(self) -> None:
        """Close the connections to it."""
        self._http.close()

    def env(self) -> dict[str, str]:
        """The settings with which an app talks to it."""
        found: dict[str, str] = self.get("env")
        return found

    def reset(self) -> None:
        """Back to how it was when it started."""
        self.post("reset")

    def target(self, url: str) -> None:
        """Have everything delivered to a host's URL."""
        self.control("PUT", "target", {"url": url})

    def chaos(self, **switches: Any) -> Json:
        """Change what goes wrong, see its ``chaos.py``; all switches as they are now.

        ``hubspot.chaos(faults=[{"match": "POST .*/messages", "status": 503, "times": 2}])``
        """
        found: Json = self.post("chaos", **switches)
        return found

    def requests(self) -> list[Json]:
        """Every API call served, oldest first."""
        found: list[Json] = self.get("requests")
        return found

    def deliveries(self) -> list[Json]:
        """Every delivery attempt, oldest first."""
        found: list[Json] = self.get("deliveries")
        return found


class HubSpot(StandIn):
    """HubSpot: what exists in it, what agents do, and what went over the wire."""

    def agents(self) -> list[Json]:
        """The agents of every portal: ``id`` (``A-987``), ``name``, ``email``, ``portalId``."""
        found: list[Json] = self.get("agents")
        return found

    def contact(self, **fields: Any) -> Json:
        """Make a contact: ``phone``, ``email``, ``firstname``, …"""
        found: Json = self.post("contacts", **fields)
        return found

    def threads(self) -> list[Json]:
        """Every thread with its messages, oldest first."""
        found: list[Json] = self.get("threads")
        return found

    def thread(self, thread_id: str | None) -> Json:
        """One thread with its messages."""
        found: Json = self.get(f"threads/{thread_id}")
        return found

    def act(self, thread_id: str | None, action: str, **fields: Any) -> Json:
        """What an agent does: reply, comment, assign, unassign, close, reopen, archive, restore, purge."""
        found: Json = self.post(f"threads/{thread_id}/{action}", **fields)
        return found

    def pending(self) -> int:
        """How many events wait for delivery or are on their way."""
        found: int = self.get("pending")["deliveries"]
        return found

    def deliver(self, body: Any, feed: str = "app", times: int = 1) -> list[int | None]:
        """Sign any body now and deliver it; the statuses answered."""
        found: list[int | None] = self.post("deliver", body=body, feed=feed, times=times)
        return found

    def wire(self, lines: int = WIRE_LINES) -> str:
        """The newest API calls and deliveries, one a line, oldest first."""
        told = [(one["at"], f"app → HubSpot  {describe_call(one)}") for one in self.requests()]
        told += [(one["at"], f"HubSpot → app  {describe_delivery(one)}") for one in self.deliveries()]
        told.sort(key=lambda one: one[0])
        shown = [f"{_clock(at)}  {line}" for at, line in told[-lines:]]
        left = len(told) - len(shown)
        head = f"{WIRE_HEAD} ({left} earlier left out):" if left else f"{WIRE_HEAD}:"
        return "\n".join([head, *shown]) if shown else "Nothing went over the wire."


def running_hubspot(*options: str) -> AbstractContextManager[HubSpot]:
    """Start HubSpot's stand-in, with options of ``flask hubspot-hitl simulate``; it ends with the block."""
    return running(HubSpot, "flask_hubspot_hitl.simulator", *options)


@contextmanager
def running(kind: type[Kind], module: str, *options: str) -> Iterator[Kind]:
    """Start ``python -m module`` on a free port; it ends with the block.

    It ends as well when this process is killed, because its standard input does.

    :raises AssertionError: when it does not start.
    """
    command = [sys.executable, "-m", module, "--port", "0", "--stop-with-stdin", *options]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own)
    assert process.stdout is not None
    assert process.stdin is not None
    too_late = threading.Timer(START_SECONDS, process.kill)
    too_late.start()
    try:
        line = process.stdout.readline()
        too_late.cancel()
        address = next((word.rstrip("/") for word in line.split() if word.startswith("http://")), None)
        if address is None:
            raise AssertionError(f"{module} did not start; its own words are on standard error")
        stand_in = kind(address, process)
        try:
            yield stand_in
        finally:
            stand_in.close()
    finally:
        too_late.cancel()
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        process.stdin.close()


def _clock(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]


def describe_call(entry: Json) -> str:
    """An API call in one line: what was said, the status, and why it was refused."""
    body = entry.get("response_body")
    told = f"  {body.get('message')}" if entry["status"] >= 400 and isinstance(body, dict) else ""
    fault = f"  (chaos: {entry['fault']})" if entry.get("fault") else ""
    return f"{entry['method']} {entry['path']}{_said(entry.get('request_body'))}  {entry['status']}{told}{fault}"


def describe_delivery(entry: Json) -> str:
    """A delivery attempt in one line: what it tells, and the app's answer."""
    try:
        said = _said(json.loads(entry["body"]).get("message"))
    except (ValueError, AttributeError):
        said = ""
    status = "dropped" if entry.get("dropped") else entry["status"] or "no answer"
    attempt = f"  (attempt {entry['attempt'] + 1})" if entry["attempt"] else ""
    return f"{entry['feed']}: {title(entry['body'])}{said}  {status}{attempt}"


def _said(body: Any) -> str:
    text = body.get("text") if isinstance(body, dict) else None
    if not isinstance(text, str) or not text:
        return ""
    return f" {text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + '…'!r}"
