"""An app in processes of its own, the app in this one, which only stores, and what a test sees of both."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.ledger import EventState

from .helpers import PATIENCE, HubSpot, Json, signed_post, state_of, wait_until
from .story import PHONE


class Host:
    """Processes of one app, wired to the stand-in, and the app in this process, which only stores."""

    def __init__(self, app: Flask, hubspot: HubSpot, folder: Path) -> None:
        self.app = app
        self.hubspot = hubspot
        self.journal = folder / "journal"
        self.port: int = app.config["TEST_PORT"]
        settings = {key: value for key, value in app.config.items() if key.startswith("HUBSPOT_HITL_")}
        self._env = {**os.environ, **settings, "JOURNAL": str(self.journal), "PORT": str(self.port)}
        self._processes: list[subprocess.Popen[str]] = []
        self._said = folder / "stderr"
        with app.app_context():
            self.thread = HubSpotHITL().start("c1", contact=PHONE).thread_id
        hubspot.chaos(retry_delays=[0.2] * 500)
        hubspot.target(f"http://127.0.0.1:{self.port}/hubspot/webhook")

    def run(self, *arguments: str, mode: str = "thread") -> subprocess.Popen[str]:
        """Start a Python command; ``{}`` is the port. In a group of its own, as under a service manager."""
        with self._said.open("a") as stderr:
            process = subprocess.Popen(
                [sys.executable, *(one.format(self.port) for one in arguments)],
                env={**self._env, "HUBSPOT_HITL_DISPATCHER": mode},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def kill(self) -> None:
        """``kill -9`` for all that was started, and for what that has started; the port is free then."""
        is_any = bool(self._processes)
        while self._processes:
            process = self._processes.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()
        if is_any:
            wait_until(self._is_port_free, what="workers, which nobody here can wait for, to be gone")

    def _is_port_free(self) -> bool:
        try:
            socket.create_server(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.kill()
        sys.stderr.write(self.said())  # pytest shows it of a test that failed

    def said(self) -> str:
        """What all of them wrote on standard error."""
        return self._said.read_text(errors="replace") if self._said.exists() else ""

    def post(self, text: str) -> None:
        """The agent's message comes in here, in this process, and is stored."""
        self.hubspot.chaos(deliver=False)
        message = self.hubspot.act(self.thread, "reply", text=text)
        found = next(one for one in self.hubspot.threads() if one["id"] == self.thread)
        event = {
            "type": "OUTGOING_CHANNEL_MESSAGE_CREATED",
            "portalId": "424242",
            "channelId": message["channelId"],
            "eventTimestamp": message["createdAt"],
            "eventId": f"event-{message['id']}",
            "channelIntegrationThreadIds": [found["integrationThreadId"]],
            "message": message,
        }
        assert signed_post(self.app, event).status_code == 204

    def heard(self, **facts: Any) -> list[Json]:
        """The journal's lines that have these facts."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [one for one in map(json.loads, lines) if facts.items() <= one.items()]

    def wait_for(self, timeout: float = PATIENCE, **facts: Any) -> Json:
        """Wait for such a line; the newest of them."""
        wait_until(lambda: self.heard(**facts), timeout, f"{facts}, have {self.heard()}")
        return self.heard(**facts)[-1]

    def dead(self) -> int:
        with state_of(self.app).ledger.read() as tx:
            return tx.count(EventState.DEAD)

    def leased(self) -> int:
        with state_of(self.app).ledger.read() as tx:
            leased: int = tx.status(now=state_of(self.app).ledger.now_ms())["leased"]
            return leased

    def go(self) -> None:
        """Let the waiting receiver go on."""
        Path(f"{self.journal}.go").touch()


def need(module: str) -> None:
    """Skip without a server; never in CI."""
    if importlib.util.find_spec(module) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{module} is not installed")


@contextlib.contextmanager
def uwsgi(**facts: Any) -> Iterator[ModuleType]:
    """The module that exists only in uWSGI's processes, here too. ``facts`` are its attributes."""
    module = ModuleType("uwsgi")
    vars(module).update({"opt": {}, "has_threads": True, "masterpid": lambda: 0, "worker_id": lambda: 0} | facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "uwsgi", module)
        yield module
