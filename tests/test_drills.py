"""Three nights on call: from the symptom to the cure with ``status``, ``doctor`` and ``docs/oncall.rst`` alone.

A real server with its dispatcher, the stand-in over HTTP, and the commands as processes of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet

from . import databases
from .browser import Browser, said
from .helpers import PORTAL, HubSpot, Json, own_port, wait_until
from .story import PHONE

SERVER = ["gunicorn", "tests.process_app:create_app()", "--no-control-socket", "--threads", "4", "--bind"]


class Night:
    """One installation: its server, what it logs and hears, its users and agents, and who is on call."""

    def __init__(self, hubspot: HubSpot, folder: Path, store: Path, **settings: str) -> None:
        self.hubspot = hubspot
        self.journal, self._log = folder / "journal", folder / "log"
        port = own_port()
        self._where = f"127.0.0.1:{port}"
        self.url = f"http://{self._where}"
        own = {
            "PUBLIC_URL": self.url,
            "DATABASE_URL": f"sqlite:///{store}/hitl.sqlite3",
            "ENCRYPTION_KEY": Fernet.generate_key().decode(),
            **settings,
        }
        self._env = {**os.environ, **hubspot.env(), "JOURNAL": str(self.journal)}
        self._env |= {f"HUBSPOT_HITL_{name}": value for name, value in own.items()}
        self._server: subprocess.Popen[bytes] | None = None
        hubspot.chaos(retry_delays=[0.2] * 500)
        hubspot.target(f"{self.url}/hubspot/webhook")
        self.start_server()

    # The server

    def start_server(self) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", *SERVER, self._where]
            self._server = subprocess.Popen(command, env=self._env, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: self.get("healthz")[0] == 200, what="the server")

    def stop_server(self) -> None:
        """As a service manager does: first politely."""
        if self._server is not None:
            self._server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(60)
            self._server = None

    def get(self, path: str) -> tuple[int, str]:
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(f"{self.url}/hubspot/{path}", timeout=30)
            return answer.status_code, answer.text
        return 0, ""

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    # Its users and agents

    def post(self, path: str, **fields: Any) -> requests.Response:
        return requests.post(f"{self.url}/{path}", json=fields, timeout=60)

    def start(self, conversation_id: str) -> str:
        thread: str = self.post("start", conversation_id=conversation_id, contact=PHONE).json()["thread_id"]
        return thread

    def heard(self, conversation_id: str) -> list[str]:
        """What the user reads, in order."""
        lines: list[Json] = [json.loads(one) for one in self.journal.read_text().splitlines()]
        texts = [one for one in lines if one.get("signal") == "message" and one["conversation"] == conversation_id]
        return [one["text"] for one in texts]

    def published(self, thread: str) -> list[str]:
        """What the agent reads of the user, after the opening."""
        messages = self.hubspot.thread(thread)["messages"]
        return [one["text"] for one in messages if one.get("direction") == "INCOMING"][1:]

    # Who is on call

    def command(self, *arguments: str) -> str:
        """What a command of ours prints, on an app of its own."""
        command = [sys.executable, "-m", "flask", "--app", "tests.process_app:create_app", "hubspot-hitl", *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=100, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def status(self) -> dict[str, str]:
        """The first screen: its lines by name."""
        found = [one.partition("  ") for one in self.command("status").partition("\n\n")[0].splitlines()]
        return {name: words.strip() for name, _, words in found}

    def fix(self, code: str) -> str:
        """How doctor would mend it."""
        findings = json.loads(self.command("doctor", "--json"))["findings"]
        found = [one for one in findings if one["code"] == code]
        assert found, findings
        return str(found[0]["fix"])


@pytest.fixture
def night(hubspot: HubSpot, tmp_path: Path) -> Iterator[Callable[..., Night]]:
    """Makes an installation."""
    made: list[Night] = []

    def make(store: Path = tmp_path, **settings: str) -> Night:
        made.append(Night(hubspot, tmp_path, store, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop_server()
        sys.stderr.write(one.log())  # pytest shows it of a test that failed


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 8 MB, where one can be mounted."""
    folder = databases.short_folder("hitl-night-")
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.rmdir()


@pytest.mark.slow
def test_hubspot_refuses_the_token(night: Callable[..., Night]) -> None:
    """docs/oncall.rst: users write and agents see nothing."""
    here = night(LOG_JSON="1")
    thread = here.start("c1")
    here.hubspot.post("uninstall")
    for text in ("one", "two", "three"):
        assert here.post("send", conversation_id="c1", text=text).json() == {"accepted": True}, "the user sees nothing"
    wait_until(lambda: "TokenRevoked" in here.log(), what="the refusal")
    told = [json.loads(one) for one in here.log().splitlines() if "TokenRevoked" in one]
    assert (told[0]["level"], told[0]["topic"], told[0]["portal_id"]) == ("WARNING", "publish", PORTAL)
    first_screen = here.status()
    assert first_screen["Waiting"].startswith("3 events")
    assert first_screen["Last error"].endswith("the portal must be connected again")
    assert here.get("healthz")[0] == here.get("readyz")[0] == 200, "they are about this process and its database"
    assert "install-url" in here.fix("HH503")

    link = here.command("install-url").strip()
    with contextlib.closing(Browser()) as browser:
        assert said(browser.connect(link, PORTAL)) == "HubSpot is connected"
    wait_until(lambda: here.published(thread) == ["one", "two", "three"], what="all, once and in order")
    assert here.status()["Waiting"] == "nothing"
    here.hubspot.act(thread, "reply", text="hello")
    wait_until(lambda: here.heard("c1") == ["hello"], what="the agent's answer")


def test_a_handler_hangs(night: Callable[..., Night]) -> None:
    """docs/oncall.rst: agents write and users see nothing."""
    here = night(HANDLER_TIMEOUT="1", LEASE_TTL="5")
    thread, other = here.start("c1"), here.start("c2")
    for text in ("wait", "after", "last"):
        here.hubspot.act(thread, "reply", text=text)
    here.hubspot.act(other, "reply", text="hello")
    wait_until(lambda: here.heard("c2") == ["hello"], what="another conversation, which goes on")
    wait_until(lambda: "Its stack, to find out what it waits for:" in here.log(), what="the watch")
    assert "process_app.py" in here.log().partition("Its stack, to find out what it waits for:")[2]
    wait_until(lambda: here.status()["Stuck"] == f"a handler hangs in thread {thread} of portal {PORTAL}")
    assert here.heard("c1") == ["wait"], "what comes after it waits"
    assert here.get("readyz")[0] == 200, "other threads go on"
    assert "Its stack is in the log" in here.fix("HH603")

    here.stop_server()
    Path(f"{here.journal}.go").touch()  # the handler is mended
    here.start_server()
    wait_until(lambda: here.heard("c1")[-1:] == ["last"], what="what had waited")
    assert here.heard("c1") == ["wait", "after", "last"], (
        "in order; the handlers that had accepted it were not asked again"
    )
    wait_until(lambda: here.status()["Stuck"] == "nothing", what="the end")


def test_the_disk_is_full(night: Callable[..., Night], small_disk: Path) -> None:
    """docs/oncall.rst: 503."""
    here = night(store=small_disk)
    thread = here.start("c1")
    assert here.post("send", conversation_id="c1", text="one").json() == {"accepted": True}
    wait_until(lambda: here.published(thread) == ["one"], what="the way to HubSpot")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    two = {"conversation_id": "c1", "text": "two" + "!" * 9000, "message_id": "m2"}
    assert here.post("send", **two).status_code == 503, "the app's own answer to LedgerUnavailable"
    here.hubspot.act(thread, "reply", text="hello")
    wait_until(lambda: here.get("healthz")[0] == 503, what="the watch")
    assert here.get("readyz") == (503, '{"reason":"database","status":"unavailable"}\n')
    assert "the disk is full; make room" in here.status()["Database"]
    assert "Make room on the disk" in here.fix("HH202")
    assert "Nothing can be accepted, healthz answers 503: the database can't be used: the disk is full" in here.log()

    filler.unlink()
    wait_until(lambda: here.get("healthz")[0] == 200, what="the room to be noticed")
    assert here.post("send", **two).json() == {"accepted": True}, "the user presses again"
    wait_until(lambda: here.heard("c1") == ["hello"], what="HubSpot's next try")
    wait_until(lambda: here.published(thread) == ["one", two["text"]], what="nothing lost, doubled or out of order")
    assert "Database" not in here.status()
