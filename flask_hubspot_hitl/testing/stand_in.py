"""Run a stand-in as a process, and ask of it whatever a test may ask (``/_sim/*``)."""

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
"""A JSON object."""
_Kind = TypeVar("_Kind", bound="StandIn")

START_SECONDS = 60.0
"""Seconds that a stand-in may take to start."""
ANSWER_SECONDS = 30.0
"""Seconds that an answer may take."""
WIRE_LINES = 40
"""Lines of :meth:`HubSpot.wire`."""
WIRE_HEAD = "The wire, newest last"
"""The first words of :meth:`HubSpot.wire`, by which they are recognised in a failure."""
LONGEST_TEXT = 60
"""Characters that are shown of a message."""


class StandIn:
    """Talk to a running stand-in."""

    def __init__(self, url: str, process: subprocess.Popen[str] | None = None) -> None:
        """Talk to a stand-in at a URL.

        :param url: its base URL, without a slash at the end.
        :param process: its process, by which a failure can tell that it has ended.
        """
        self.url = url
        self._process = process
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Connection"] = "close"

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Call a control route.

        :param method: the HTTP method.
        :param path: what follows ``/_sim/``.
        :param body: what JSON can hold.
        :returns: the answer's JSON.
        :raises AssertionError: the call was refused, or the stand-in has ended.
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
        """Read from a control route.

        :param path: what follows ``/_sim/``.
        :returns: the answer's JSON.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        return self.control("GET", path)

    def post(self, path: str, **fields: Any) -> Any:
        """Have a control route do something.

        :param path: what follows ``/_sim/``.
        :param fields: the fields of the JSON object that is sent.
        :returns: the answer's JSON.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        return self.control("POST", path, fields)

    def close(self) -> None:
        """Close the connections to the stand-in."""
        self._http.close()

    def env(self) -> dict[str, str]:
        """Return the settings with which an app talks to the stand-in, by name.

        :raises AssertionError: the stand-in has ended.
        """
        found: dict[str, str] = self.get("env")
        return found

    def reset(self) -> None:
        """Bring the stand-in back to how it was when it started.

        :raises AssertionError: the stand-in has ended.
        """
        self.post("reset")

    def target(self, url: str) -> None:
        """Have everything delivered to a host's URL.

        :param url: the full URL of the host's webhook.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        self.control("PUT", "target", {"url": url})

    def chaos(self, **switches: Any) -> Json:
        """Change what goes wrong: ``hubspot.chaos(faults=[{"match": "POST .*/messages", "status": 503, "times": 2}])``.

        :param switches: switches and their values; ``simulator/engine/chaos.py`` has them all.
        :returns: all switches as they are now.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        found: Json = self.post("chaos", **switches)
        return found

    def requests(self) -> list[Json]:
        """Return every API call served, oldest first.

        :raises AssertionError: the stand-in has ended.
        """
        found: list[Json] = self.get("requests")
        return found

    def deliveries(self) -> list[Json]:
        """Return every attempt to deliver, oldest first.

        :raises AssertionError: the stand-in has ended.
        """
        found: list[Json] = self.get("deliveries")
        return found


class HubSpot(StandIn):
    """Talk to HubSpot's stand-in: what exists in it, what agents do, and what went over the wire."""

    def agents(self) -> list[Json]:
        """Return the agents of every portal: ``id`` (``A-987``), ``name``, ``email``, ``portalId``.

        :raises AssertionError: the stand-in has ended.
        """
        found: list[Json] = self.get("agents")
        return found

    def availability(self, actor_id: str, **fields: Any) -> Json:
        """Say whether an agent is there, and when the agent works.

        :param actor_id: ``A-<user id>``.
        :param fields: ``status`` (``available`` or ``away``), ``timeZone`` (``Europe/Madrid``), ``workingHours`` and
            ``outOfOffice`` (lists as in HubSpot's properties, or any text), ``portalId``; None takes one away.
        :returns: the user object as HubSpot's API shows it.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        found: Json = self.control("PUT", f"agents/{actor_id}/availability", fields)
        return found

    def team(self, name: str, *actor_ids: str) -> str:
        """Make a team of agents.

        :param name: the team's name.
        :param actor_ids: its members.
        :returns: the team's id.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        return str(self.post("teams", name=name, members=list(actor_ids))["id"])

    def contact(self, **fields: Any) -> Json:
        """Make a contact.

        :param fields: its properties: ``phone``, ``email``, ``firstname``, …
        :returns: the contact as HubSpot's API shows it.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        found: Json = self.post("contacts", **fields)
        return found

    def threads(self) -> list[Json]:
        """Return every thread with its messages, oldest first.

        :raises AssertionError: the stand-in has ended.
        """
        found: list[Json] = self.get("threads")
        return found

    def thread(self, thread_id: str | None) -> Json:
        """Return one thread with its messages.

        :param thread_id: HubSpot's id of the thread, as ``handoff.thread_id`` has it.
        :raises AssertionError: there is no such thread, or the stand-in has ended.
        """
        found: Json = self.get(f"threads/{thread_id}")
        return found

    def begin(self, to: str, text: str, **fields: Any) -> Json:
        """Begin a conversation with a contact, as an agent does where the channel allows it.

        :param to: the contact's phone number or e-mail address.
        :param text: the first message.
        :param fields: ``actorId`` (by default the first agent), ``channelAccountId``, ``createdAt`` (ISO 8601).
        :returns: the thread with its message.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        found: Json = self.post("threads/begin", to=to, text=text, **fields)
        return found

    def act(self, thread_id: str | None, action: str, **fields: Any) -> Json:
        """Do with a thread what an agent does.

        :param thread_id: HubSpot's id of the thread, as ``handoff.thread_id`` has it.
        :param action: ``reply``, ``comment``, ``assign``, ``unassign``, ``close``, ``reopen``, ``archive``, ``restore``
            or ``purge``.
        :param fields: what the action takes: ``actorId``, ``text``, ``richText``, ``attachments``, …
        :returns: what came of it; for a message the message.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        found: Json = self.post(f"threads/{thread_id}/{action}", **fields)
        return found

    def pending(self) -> int:
        """Return how many events wait for delivery or are on their way.

        :raises AssertionError: the stand-in has ended.
        """
        found: int = self.get("pending")["deliveries"]
        return found

    def deliver(self, body: Any, feed: str = "app", times: int = 1) -> list[int | None]:
        """Sign any body now and deliver it.

        :param body: what JSON can hold.
        :param feed: ``app`` or ``channel``: whose signature it bears.
        :param times: how often it is delivered.
        :returns: the HTTP status of each delivery; None where there was no answer.
        :raises AssertionError: the call was refused, or the stand-in has ended.
        """
        found: list[int | None] = self.post("deliver", body=body, feed=feed, times=times)
        return found

    def wire(self, lines: int = WIRE_LINES) -> str:
        """Return the newest API calls and deliveries, one a line, oldest first.

        :param lines: how many at most.
        :raises AssertionError: the stand-in has ended.
        """
        told = [(one["at"], f"app → HubSpot  {describe_call(one)}") for one in self.requests()]
        told += [(one["at"], f"HubSpot → app  {describe_delivery(one)}") for one in self.deliveries()]
        told.sort(key=lambda one: one[0])
        shown = [f"{_clock(at)}  {line}" for at, line in told[-lines:]]
        left = len(told) - len(shown)
        head = f"{WIRE_HEAD} ({left} earlier left out):" if left else f"{WIRE_HEAD}:"
        return "\n".join([head, *shown]) if shown else "Nothing went over the wire."


def running_hubspot(*options: str) -> AbstractContextManager[HubSpot]:
    """Start HubSpot's stand-in, which ends with the ``with`` block.

    :param options: options of ``flask hubspot-hitl simulate``.
    :returns: a context manager for the running stand-in.
    :raises AssertionError: the stand-in does not start.
    """
    return running(HubSpot, "flask_hubspot_hitl.simulator", *options)


@contextmanager
def running(kind: type[_Kind], module: str, *options: str) -> Iterator[_Kind]:
    """Start ``python -m module`` on a free port, which ends with the ``with`` block.

    It ends as well when this process is killed, because its standard input does.

    :param kind: the class that talks to it.
    :param module: the stand-in's module.
    :param options: further options of its command line.
    :returns: a context manager for the running stand-in.
    :raises AssertionError: the stand-in does not start.
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
    """Describe an API call in one line: what was said, the status, and why it was refused.

    :param entry: one of :meth:`StandIn.requests`.
    :returns: the line.
    """
    body = entry.get("response_body")
    told = f"  {body.get('message')}" if entry["status"] >= 400 and isinstance(body, dict) else ""
    fault = f"  (chaos: {entry['fault']})" if entry.get("fault") else ""
    return f"{entry['method']} {entry['path']}{_said(entry.get('request_body'))}  {entry['status']}{told}{fault}"


def describe_delivery(entry: Json) -> str:
    """Describe an attempt to deliver in one line: what it tells, and the app's answer.

    :param entry: one of :meth:`StandIn.deliveries`.
    :returns: the line.
    """
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
